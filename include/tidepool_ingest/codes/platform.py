"""The codes of the Platform's validators, in plain words."""

from __future__ import annotations

from typing import Final

from tidepool_ingest.codes.explanation import DATA_SET, VERDICT, Example, Explanation, reading_with

_WRITE_AS_DOCUMENTED: Final = (
    "Write it as Tidepool documents the field, without quotation marks where it has none."
)

PLATFORM: Final[dict[str, Explanation]] = {
    "json-malformed": Explanation(
        "the text is not JSON at all",
        "Write one JSON object. In staged files this is told more exactly: `staged-not-json`.",
        example=Example(
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
            VERDICT,
        ),
    ),
    "length-out-of-range": Explanation(
        "the text or list is longer, or shorter, than allowed",
        "Shorten it. Names have at most 100 characters, notes 1,000.",
        field="/name",
        example=Example(
            '{"type":"food","time":"2026-03-05T07:05:00Z","name":"<101 letters>"}',
            '{"type":"food","time":"2026-03-05T07:05:00Z","name":"Porridge"}',
        ),
    ),
    "not-parsed": Explanation(
        "the data set has no field of this name",
        "Correct the name, or leave the field out.",
        field="/deviceSerial",
        example=Example(
            '{"dataSetType":"normal","deviceId":"M-17","deviceSerial":"17"}',
            '{"dataSetType":"normal","deviceId":"M-17","deviceSerialNumber":"17"}',
            DATA_SET,
        ),
    ),
    "size-out-of-range": Explanation(
        "the object is larger than 4,096 bytes",
        "Keep what is needed of it.",
        field="/payload",
        example=Example(
            reading_with('"payload":{"raw":"<4,096 letters>"}'),
            reading_with('"payload":{"raw":"1a2b"}'),
        ),
    ),
    "type-not-array": Explanation(
        "the field must be a list",
        "Put the value into brackets.",
        field="/tags",
        example=Example(
            reading_with('"tags":"study"'),
            reading_with('"tags":["study"]'),
        ),
    ),
    "type-not-bool": Explanation(
        "the field must be `true` or `false`",
        _WRITE_AS_DOCUMENTED,
        field="/backfilled",
        example=Example(
            reading_with('"backfilled":"yes"'),
            reading_with('"backfilled":true'),
        ),
    ),
    "type-not-float64": Explanation(
        "the field must be a number",
        _WRITE_AS_DOCUMENTED,
        field="/value",
        example=Example(
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":"112"}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "type-not-int": Explanation(
        "the field must be a whole number",
        "Write it without a fraction or quotation marks. Durations and intervals are in milliseconds.",
        field="/sampleInterval",
        example=Example(
            reading_with('"sampleInterval":"5 min"'),
            reading_with('"sampleInterval":300000'),
        ),
    ),
    "type-not-object": Explanation(
        "the field must be an object",
        "Write a JSON object, as Tidepool documents the field.",
        field="/payload",
        example=Example(
            reading_with('"payload":"G6"'),
            reading_with('"payload":{"model":"G6"}'),
        ),
    ),
    "type-not-string": Explanation(
        "the field must be a text",
        "Put it into quotation marks.",
        field="/deviceId",
        example=Example(
            reading_with('"deviceId":17'),
            reading_with('"deviceId":"17"'),
        ),
    ),
    "type-not-time": Explanation(
        "the field must be a time, written as a text",
        "Write it as `2026-03-05T07:05:00Z`, not as a count of seconds or milliseconds.",
        field="/time",
        example=Example(
            '{"type":"cbg","time":1772694300000,"units":"mg/dL","value":112}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "value-duplicate": Explanation(
        "the same value stands in a list twice",
        "Leave one of them out.",
        field="/tags/1",
        example=Example(
            reading_with('"tags":["study","study"]'),
            reading_with('"tags":["study"]'),
        ),
    ),
    "value-empty": Explanation(
        "the field is there and has nothing in it",
        "Fill it in, or leave the field out.",
        field="/deviceId",
        example=Example(
            reading_with('"deviceId":""'),
            reading_with('"deviceId":"M-17"'),
        ),
    ),
    "value-exists": Explanation(
        "this field must not be there, because of what the others say",
        "Leave it out, or correct the field that it goes with.",
        field="/mealOther",
        example=Example(
            '{"type":"food","time":"2026-03-05T07:05:00Z","meal":"lunch","mealOther":"brunch"}',
            '{"type":"food","time":"2026-03-05T07:05:00Z","meal":"other","mealOther":"brunch"}',
        ),
    ),
    "value-not-after": Explanation(
        "the time is before the one that it has to follow",
        "Correct one of the two times.",
        field="/acknowledgedTime",
        example=Example(
            '{"type":"alert","time":"2026-03-05T07:05:00Z","name":"low","issuedTime":"2026-03-05T07:05:00Z",'
            '"acknowledgedTime":"2026-03-05T07:01:00Z"}',
            '{"type":"alert","time":"2026-03-05T07:05:00Z","name":"low","issuedTime":"2026-03-05T07:05:00Z",'
            '"acknowledgedTime":"2026-03-05T07:11:00Z"}',
        ),
    ),
    "value-not-allowed": Explanation(
        "Tidepool does not know this word here",
        "Take one of the words that Tidepool documents for the field; capital letters count.",
        field="/units",
        example=Example(
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg per dl","value":112}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "value-not-exists": Explanation(
        "a required field is missing",
        "Add it.",
        field="/units",
        example=Example(
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","value":112}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "value-not-parsable": Explanation(
        "the text cannot be read as a time",
        "Write it as `2026-03-05T07:05:00Z`: with a `T`, with seconds, and with `Z` or an offset.",
        field="/time",
        example=Example(
            '{"type":"cbg","time":"2026-03-05 07:05","units":"mg/dL","value":112}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "value-not-valid": Explanation(
        "the text is not in the form that the field requires, or names nothing that exists",
        "Write it as Tidepool documents the field. Time zones have IANA names.",
        field="/timezone",
        example=Example(
            reading_with('"timezone":"Berlin"'),
            reading_with('"timezone":"Europe/Berlin"'),
        ),
    ),
    "value-out-of-range": Explanation(
        "the number is smaller or larger than Tidepool takes",
        "Check whether the unit is right: mmol/L and mg/dL, minutes and milliseconds. Otherwise correct it.",
        field="/value",
        example=Example(
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mmol/L","value":112}',
            '{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112}',
        ),
    ),
    "values-not-exist-for-any": Explanation(
        "the object needs at least one of several fields, and has none",
        "Add one of them, or leave the object out.",
        field="/location",
        example=Example(
            '{"type":"food","time":"2026-03-05T07:05:00Z","location":{}}',
            '{"type":"food","time":"2026-03-05T07:05:00Z","location":{"name":"Canteen"}}',
        ),
    ),
    "values-not-exist-for-one": Explanation(
        "the record needs one of two sets of fields, and has none or both",
        "Of a change of the clock, give `from` and `to` (or `change`), one way and not the other.",
        example=Example(
            '{"type":"deviceEvent","subType":"timeChange","time":"2026-03-29T01:00:00Z"}',
            '{"type":"deviceEvent","subType":"timeChange","time":"2026-03-29T01:00:00Z",'
            '"from":{"timeZoneName":"Europe/London"},"to":{"timeZoneName":"Europe/Berlin"}}',
        ),
    ),
}
"""By their names. The record or data set is rejected."""
