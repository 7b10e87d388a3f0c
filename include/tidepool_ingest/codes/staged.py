"""Our own codes of records and rows, in plain words: what Tidepool would not say, or not in time."""

from __future__ import annotations

from typing import Final

from tidepool_ingest.codes.explanation import Example, Explanation, Outcome, reading_with

_CORRECT_THE_ROW: Final = "Correct the row in the export, and stage that again whole."
_EXPORT_AGAIN: Final = "Export it again, or get the data from Tidepool's data API (`tidepool-export`)."
_FEED: Final = (
    '"dataSet":{"dataSetType":"continuous","client":{"name":"org.example.cloud"},'
    '"deduplicator":{"name":"org.tidepool.deduplicator.dataset.'
)
_BY_ORIGIN: Final = _FEED + 'delete.origin"}}'
_BY_NEWER_ORIGIN: Final = _FEED + 'delete.origin.older"}}'
_DROPPING_EQUAL: Final = _FEED + 'drop.hash"}}'

_READING: Final = reading_with('"deviceId":"M-17"')
_WARNED: Final = Outcome.WARNED


def _food(more: str, time: str = "07:05:00Z") -> str:
    return f'{{"type":"food","time":"2026-03-05T{time}",{more}}}'


def _clarity(cells: str) -> str:
    return f"14,2026-03-05T07:05:00,{cells}"


def _finger(more: str) -> str:
    return (
        '{"eventType":"BG Check","glucoseType":"Finger","glucose":32,'
        f'"created_at":"2026-03-05T12:00:00Z"{more}}}'
    )


def _temporary(rate: str) -> str:
    return f'{{"eventType":"Temp Basal","created_at":"2026-03-05T12:00:00Z","duration":30,{rate}}}'


def _profile(units: str) -> str:
    schedules = '"basal":[{"time":"00:00","value":0.8}],"sens":[{"time":"00:00","value":90}]'
    store = f'{{"Default":{{"units":"{units}","timezone":"Europe/Berlin",{schedules}}}}}'
    return f'{{"defaultProfile":"Default","startDate":"2026-03-01T00:00:00Z","store":{store}}}'


def _extended(minutes: str) -> str:
    return (
        '{"type":"bolus","subType":"square","time":"2026-03-05T07:05:00Z","extended":2.5,'
        f'"duration":{minutes},"deviceId":"M-17"}}'
    )


_MEAL: Final = _food('"deviceId":"M-17"')
_SAME: Final = '"deviceId":"M-17","id":"0123456789abcdef0123456789abcdef"'

STAGED: Final[dict[str, Explanation]] = {
    "staged-clock-not-in-zone": Explanation(
        "the device's clock was not that of the time zone, as on a journey; the transmitter's clock says "
        "which instant it was",
        "Nothing to do, if it was a journey. If most rows have it, correct the time zone.",
        _WARNED,
        example=Example(
            "14,2026-03-05T07:00:00,EGV,,,,android G6,112,,,,,3600,8TEST1\n"
            "15,2026-03-05T07:05:00,EGV,,,,android G6,115,,,,,3900,8TEST1\n"
            "16,2026-03-05T08:10:00,EGV,,,,android G6,117,,,,,4200,8TEST1",
            "14,2026-03-05T07:00:00,EGV,,,,android G6,112,,,,,3600,8TEST1\n"
            "15,2026-03-05T07:05:00,EGV,,,,android G6,115,,,,,3900,8TEST1\n"
            "16,2026-03-05T07:10:00,EGV,,,,android G6,117,,,,,4200,8TEST1",
            "clarity",
        ),
    ),
    "staged-device-id-differs": Explanation(
        "the record is of another device than its data set, so that no later upload of either device finds "
        "it to be the same",
        "Stage each device as a batch of its own, or give all records the data set's `deviceId`.",
        _WARNED,
        "/deviceId",
        Example(reading_with('"deviceId":"M-18"'), _READING),
    ),
    "staged-device-id-missing": Explanation(
        "the deduplicator tells data apart by their device, and the record or row names none",
        "Add the `deviceId`: `--set 'deviceId=\"…\"'` of `stage` gives all records one.",
        field="/deviceId",
        example=Example('{"type":"food","time":"2026-03-05T07:05:00Z"}', _MEAL),
    ),
    "staged-device-time-differs": Explanation(
        "`deviceTime` is more than a day from what the device's clock can have shown at `time`",
        "Find out which of the two is right, and correct the other one or its offset.",
        _WARNED,
        "/deviceTime",
        Example(
            _food('"deviceId":"M-17","deviceTime":"2025-03-05T08:05:00"'),
            _food('"deviceId":"M-17","deviceTime":"2026-03-05T08:05:00"'),
        ),
    ),
    "staged-empty-element": Explanation(
        "there is nothing between two commas of a list",
        "Leave one of the commas out.",
        example=Example(
            f"[{_READING},,\n{_MEAL}]",
            f"[{_READING},\n{_MEAL}]",
            "json",
        ),
    ),
    "staged-event-unknown": Explanation(
        "the row is of a kind that its format does not know",
        "Check whether it holds something that is needed. If it does, its format has to learn it.",
        example=Example(
            _clarity("Steps,,,,android G6,,,,,,,"), _clarity("Carbs,,,,android G6,,,45,,,,"), "clarity"
        ),
    ),
    "staged-export-duration": Explanation(
        "a duration in an export of Tidepool's web page is no whole number of milliseconds",
        "Somebody must have changed it after the export. " + _EXPORT_AGAIN,
        field="",
        example=Example(_extended("30.12345678"), _extended("30"), "tidepool-web-export"),
    ),
    "staged-export-incomplete": Explanation(
        "Tidepool's web page leaves out of its exports what it has no column for",
        "Get the data from Tidepool's data API instead, if you can (`tidepool-export`).",
        _WARNED,
        example=Example(_extended("30"), kind="tidepool-web-export"),
    ),
    "staged-export-lost": Explanation(
        "an export of Tidepool's web page has left out what Tidepool requires of such a record",
        "Get the data from Tidepool's data API instead (`tidepool-export`).",
        example=Example(
            '{"type":"insulin","time":"2026-03-05T07:05:00Z","deviceId":"M-17"}', kind="tidepool-web-export"
        ),
    ),
    "staged-export-unclear": Explanation(
        "it is not certain what a row of an export of Tidepool's web page stands for: no JSON in its texts, "
        "a name twice, rows of pump settings that contradict each other",
        "Somebody must have changed it after the export. " + _EXPORT_AGAIN,
        example=Example(
            reading_with('"deviceId":"M-17","payload":"raw"'),
            reading_with('"deviceId":"M-17","payload":"{\\"raw\\":1}"'),
            "tidepool-web-export",
        ),
    ),
    "staged-hash-repeated": Explanation(
        "another record of the feed is of the same kind and moment, and the deduplicator `…drop.hash` would "
        "keep that and drop this one silently",
        "Leave one out, correct its time, or name another deduplicator.",
        field="/time",
        example=Example(
            _food('"origin":{"id":"1"}') + "\n" + _food('"origin":{"id":"2"}'),
            _food('"origin":{"id":"1"}') + "\n" + _food('"origin":{"id":"2"}', "07:06:00Z"),
            manifest=_DROPPING_EQUAL,
        ),
    ),
    "staged-id-repeated": Explanation(
        "another record of the batch has the same `id`",
        "Leave the `id` out: each record is given one.",
        field="/id",
        example=Example(
            f"{reading_with(_SAME)}\n{_food(_SAME)}",
            f"{_READING}\n{_MEAL}",
        ),
    ),
    "staged-no-amount": Explanation(
        "the row has no value, though its kind is known",
        "Look into the export: somebody may have written the amount as a text. " + _CORRECT_THE_ROW,
        example=Example(
            _clarity("Carbs,,,,android G6,,,,,,,"), _clarity("Carbs,,,,android G6,,,45,,,,"), "clarity"
        ),
    ),
    "staged-not-a-duration": Explanation(
        "the cell that holds a length of time is not written as the mapping says",
        "Correct the cell, or `as` of the mapping.",
        example=Example(
            "14,M-17,2026-03-05T07:05:00,Sport,hard,45 min",
            "14,M-17,2026-03-05T07:05:00,Sport,hard,00:45:00",
            "table",
        ),
    ),
    "staged-not-a-number": Explanation(
        "the cell that should hold a number or a duration holds neither, nor a word that stands for one",
        "Correct the cell; of a table, the mapping may name such words under `missing`, `low` and `high`.",
        example=Example(
            "14,M-17,2026-03-05T07:05:00,Sensor,5.4 mmol,",
            "14,M-17,2026-03-05T07:05:00,Sensor,5.4,",
            "table",
        ),
    ),
    "staged-not-json": Explanation(
        "the line is not valid JSON: broken, `NaN`, a number beyond a double, or more than 9,999 lists and "
        "objects nested in each other (Tidepool reads 10,000, and the list of the request is one of them)",
        "Correct the line: one JSON object.",
        example=Example(
            reading_with('"trendRate":NaN,"deviceId":"M-17"'),
            reading_with('"trendRate":0.4,"deviceId":"M-17"'),
        ),
    ),
    "staged-not-mapped": Explanation(
        "the cell holds a word that the mapping of its table does not have",
        "Add the word to `map`, or correct the cell.",
        example=Example(
            "14,M-17,2026-03-05T07:05:00,Sport,gentle,00:45:00",
            "14,M-17,2026-03-05T07:05:00,Sport,easy,00:45:00",
            "table",
        ),
    ),
    "staged-not-utf8": Explanation(
        "the line is not UTF-8, or not in the encoding that the mapping of its table states",
        "Write the file as UTF-8. Of a table, say which encoding it has: `csv.encoding` of the mapping.",
        example=Example(
            reading_with('"deviceId":"M-17","notes":["Caf<byte E9>"]'),
            reading_with('"deviceId":"M-17","notes":["Café"]'),
        ),
    ),
    "staged-nul": Explanation(
        "the row of a table holds the character U+0000",
        "Get the file again from its source; such characters come from a damaged disk or copy.",
        example=Example(
            "14,M-17,2026-03-05T07:05:00,Sensor,5.4<byte 00>,",
            "14,M-17,2026-03-05T07:05:00,Sensor,5.4,",
            "table",
        ),
    ),
    "staged-nul-in-name": Explanation(
        "the name of a field in a payload, an annotation or a schedule holds the character U+0000, which "
        "Tidepool's storage cannot take: it would answer 500 to the whole request",
        "Take the character out of the name.",
        field="/payload/raw\0",
        example=Example(
            reading_with('"deviceId":"M-17","payload":{"raw\\u0000":1}'),
            reading_with('"deviceId":"M-17","payload":{"raw":1}'),
        ),
    ),
    "staged-null": Explanation(
        "the record is `null`, which Tidepool skips silently",
        "Leave the line out.",
        example=Example("null", _READING),
    ),
    "staged-origin-clash": Explanation(
        "another datum of the batch has the same `origin.id` and is of another type, or embedded in another "
        "record: one would take the other's place",
        "Give each an `origin.id` of its own, for example with its type in front.",
        field="/origin/id",
        example=Example(
            _food('"origin":{"id":"17"}') + "\n" + reading_with('"origin":{"id":"17"}'),
            _food('"origin":{"id":"food:17"}') + "\n" + reading_with('"origin":{"id":"cbg:17"}'),
            manifest=_BY_ORIGIN,
        ),
    ),
    "staged-origin-deleted": Explanation(
        "the batch brings a record, and deletes its `origin.id` as well",
        "Leave one of the two out.",
        field="/origin/id",
        example=Example(
            _food('"origin":{"id":"meal-2"}'),
            _food('"origin":{"id":"meal-3"}'),
            manifest=f'{_BY_ORIGIN},"deletes":[{{"id":"meal-2"}}]',
        ),
    ),
    "staged-origin-key-missing": Explanation(
        "the record has no `origin.id`, and lacks a field or cell that it is to be made of",
        "Add the field, or take it out of `origin.key` of the manifest (`id` of a mapping).",
        field="/origin/id",
        example=Example(
            _food('"payload":{"meal":2}'),
            _food('"payload":{"meal":2,"recordId":"17"}'),
            manifest=f'{_BY_ORIGIN},"origin":{{"key":["payload.recordId"]}}',
        ),
    ),
    "staged-origin-not-newer": Explanation(
        "a version of the record has as new an `origin.time` or a newer one, and the deduplicator "
        "`…origin.older` would keep that and drop this one silently",
        "Give the version that is to stay the newest `origin.time`.",
        field="/origin/time",
        example=Example(
            _food('"name":"Rice","origin":{"id":"17","time":"2026-03-05T09:00:00Z"}')
            + "\n"
            + _food('"name":"Soup","origin":{"id":"17","time":"2026-03-05T08:00:00Z"}'),
            _food('"name":"Rice","origin":{"id":"17","time":"2026-03-05T09:00:00Z"}')
            + "\n"
            + _food('"name":"Soup","origin":{"id":"17","time":"2026-03-05T10:00:00Z"}'),
            manifest=_BY_NEWER_ORIGIN,
        ),
    ),
    "staged-origin-time-missing": Explanation(
        "the deduplicator `…origin.older` takes an edit of such a record only if its `origin.time` is newer, "
        "and it has none",
        "Add it, if the record may be edited later.",
        _WARNED,
        "/origin/time",
        Example(
            _food('"origin":{"id":"17"}'),
            _food('"origin":{"id":"17","time":"2026-03-05T09:00:00Z"}'),
            manifest=_BY_NEWER_ORIGIN,
        ),
    ),
    "staged-out-of-order": Explanation(
        "the record lasts until the next one, and the rows are not in the order that the mapping states",
        "Correct `time.order` of the mapping, or sort the table.",
        example=Example(
            "14,M-17,2026-03-05T07:00:00,Basal,0.8,\n"
            "15,M-17,2026-03-05T06:30:00,Basal,0.7,\n"
            "16,M-17,2026-03-05T09:00:00,Sensor,5.4,",
            "15,M-17,2026-03-05T06:30:00,Basal,0.7,\n"
            "14,M-17,2026-03-05T07:00:00,Basal,0.8,\n"
            "16,M-17,2026-03-05T09:00:00,Sensor,5.4,",
            "table",
        ),
    ),
    "staged-percent-as-rate": Explanation(
        "a temporary basal has a rate above 35 U/h, which is a percentage that does not say so",
        "Correct it at its source: nobody can tell of what it is a percentage.",
        example=Example(_temporary('"absolute":150'), _temporary('"absolute":1.5'), "nightscout"),
    ),
    "staged-profile-missing": Explanation(
        "a temporary basal is in percent of the profile's rate, and no profile is known for that time",
        "Export the collection `profile` too, and stage both as files of one batch.",
        example=Example(_temporary('"percent":50'), _temporary('"absolute":0.4'), "nightscout"),
    ),
    "staged-row-broken": Explanation(
        "the cells of the row cannot be told apart: a quotation mark that is never closed, a cell of more "
        "than 131,072 characters, a carriage return inside",
        _CORRECT_THE_ROW,
        example=Example(
            _clarity('Carbs,,,,android G6,,,"45,,,,'), _clarity('Carbs,,,,android G6,,,"45",,,,'), "clarity"
        ),
    ),
    "staged-row-ragged": Explanation(
        "the row has more cells than its format or header has columns, or lacks one that is needed: a "
        "decimal comma may have cut a cell in two",
        "Put cells with a comma into quotation marks, or write a point.",
        example=Example(
            "14,M-17,2026-03-05T07:05:00,Sensor,5,4,", "14,M-17,2026-03-05T07:05:00,Sensor,5.4,", "table"
        ),
    ),
    "staged-sensor-error": Explanation(
        "a value below 13 mg/dL is not glucose but an error code of the sensor",
        "Nothing to do: no glucose was measured.",
        example=Example(
            '{"type":"sgv","sgv":9,"date":1772712000000}',
            '{"type":"sgv","sgv":92,"date":1772712000000}',
            "nightscout",
        ),
    ),
    "staged-split-decimal": Explanation(
        "there is another number to the right of the row's value: a decimal comma has cut it in two, and "
        "half of it would be wrong",
        "Get the export again, and do not save it in a spreadsheet. Or put the value into quotation marks.",
        example=Example(
            _clarity("Insulin,Fast-Acting,,,android G6,,2,5,,,,"),
            _clarity('Insulin,Fast-Acting,,,android G6,,"2,5",,,,,'),
            "clarity",
        ),
    ),
    "staged-time-not-shown": Explanation(
        "in UTC, `time` is after the year 9999 or before the year 0: Tidepool would store the record, and "
        "never show it",
        "Correct the time.",
        field="/time",
        example=Example('{"type":"food","time":"9999-12-31T23:30:00-05:00","deviceId":"M-17"}', _MEAL),
    ),
    "staged-time-not-utc": Explanation(
        "`time` has an offset: deduplicators compare its text, so that the same instant in UTC is another "
        "record to them",
        "Write it in UTC, with `Z`, and the offset as `timezoneOffset`.",
        _WARNED,
        "/time",
        Example(
            _food('"deviceId":"M-17"', "08:05:00+01:00"),
            _food('"timezoneOffset":60,"deviceId":"M-17"'),
        ),
    ),
    "staged-time-unreadable": Explanation(
        "the row has no time, or one that is not written as its file's format, or mapping, says",
        "Correct the time in the export. Of a table, look at `time.format` of the mapping, too.",
        example=Example(
            "14,05.03. 07:05,Carbs,,,,android G6,,,45,,,,",
            "14,2026-03-05T07:05:00,Carbs,,,,android G6,,,45,,,,",
            "clarity",
        ),
    ),
    "staged-too-large": Explanation(
        "the record or cell is longer than can be sent: 16 MiB",
        "Leave out what no device has measured, such as pictures.",
        example=Example(
            reading_with('"deviceId":"M-17","payload":{"raw":"<16,777,216 letters>"}'),
            reading_with('"deviceId":"M-17","payload":{"raw":"1a2b"}'),
        ),
    ),
    "staged-too-many-values": Explanation(
        "the record holds more than 100,000 values, or has errors in so many deeply nested places that "
        "naming them would fill the memory",
        "Leave out what no device has measured.",
        example=Example(
            reading_with('"deviceId":"M-17","payload":{"raw":[<100,001 numbers>]}'),
            reading_with('"deviceId":"M-17","payload":{"raw":[1]}'),
        ),
    ),
    "staged-units-implausible": Explanation(
        "a profile has no unit or default, or values under mmol/L that only mg/dL can be",
        "Correct the profile in Nightscout, and export it again.",
        example=Example(_profile("mmol"), _profile("mg/dl"), "nightscout"),
    ),
    "staged-units-mixed": Explanation(
        "the device's readings are in more than one unit: the same reading in both would be there twice",
        "Stage all of a device's readings in one unit.",
        _WARNED,
        "/units",
        Example(
            f'{_READING}\n{{"type":"smbg","time":"2026-03-05T07:10:00Z","units":"mmol/L","value":6.2,"deviceId":"M-17"}}',
            f'{_READING}\n{{"type":"smbg","time":"2026-03-05T07:10:00Z","units":"mg/dL","value":112,"deviceId":"M-17"}}',
        ),
    ),
    "staged-units-unknown": Explanation(
        "a value between 20 and 40 has no unit, and could be meant in either",
        "Stage the profile with it, which has the unit, or add `units` to the document.",
        example=Example(_finger(""), _finger(',"units":"mmol"'), "nightscout"),
    ),
    "tidepool-500": Explanation(
        "our validation and Tidepool's accept the record, but Tidepool fails at storing it, alone too",
        "Compare it with records of its type that were stored, change what is unusual, and stage it again.",
    ),
}
"""By their names."""
