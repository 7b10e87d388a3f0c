"""Why a row is no reading and gives no record, in plain words. Nothing is lost: such rows are counted."""

from __future__ import annotations

from typing import Final

from tidepool_ingest.codes.explanation import Example, Explanation, Outcome

NOTHING_TO_DO: Final = "Nothing to do."

_NOON: Final = '"created_at":"2026-03-05T12:00:00Z"'
_LATER: Final = '"created_at":"2026-03-05T12:10:00Z"'


def _reason(
    sentence: str, found: str, kind: str, remedy: str = NOTHING_TO_DO, manifest: str = ""
) -> Explanation:
    return Explanation(sentence, remedy, Outcome.LEFT_OUT, "", Example(found, "", kind, manifest))


def _nightscout(sentence: str, *documents: str, remedy: str = NOTHING_TO_DO) -> Explanation:
    return _reason(sentence, "\n".join(f"{{{document}}}" for document in documents), "nightscout", remedy)


def _event(sentence: str, event_type: str, remedy: str = NOTHING_TO_DO, more: str = "") -> Explanation:
    return _nightscout(sentence, f'"eventType":"{event_type}",{_NOON}{more}', remedy=remedy)


def _temporary(at: str, more: str) -> str:
    return f'"eventType":"Temp Basal",{at},{more}'


def _target(at: str, more: str) -> str:
    return f'"eventType":"Temporary Target",{at},{more}'


def _profile(start: str) -> str:
    store = '{"Default":{"units":"mg/dl","timezone":"Europe/Berlin","basal":[{"time":"00:00","value":0.8}]}}'
    return f'"defaultProfile":"Default"{start},"store":{store}'


LEFT_OUT: Final[dict[str, Explanation]] = {
    "basal-end": _nightscout(
        "a temporary basal ended here: its own record says until when it lasted",
        _temporary(_NOON, '"absolute":1.5,"duration":30'),
        _temporary(_LATER, '"duration":0'),
    ),
    "battery-change": _event(
        "a pump's battery was changed, for which Tidepool has no type", "Pump Battery Change"
    ),
    "calibration": _nightscout(
        "slope and intercept of a sensor are no reading",
        '"type":"cal","slope":800,"intercept":30000,"date":1772712000000',
    ),
    "data-set": _reason(
        "the row describes a data set, which an export of Tidepool holds beside its records",
        '{"type":"upload","time":"2026-03-05T07:05:00Z","uploadId":"upid_17","deviceId":"M-17"}\n'
        '{"type":"food","time":"2026-03-05T07:05:00Z","uploadId":"upid_17","deviceId":"M-17"}',
        "tidepool-export",
    ),
    "deleted": _nightscout(
        "somebody has deleted it at its source (`isValid` is false)",
        '"type":"sgv","sgv":112,"date":1772712000000,"isValid":false',
    ),
    "device-status": _nightscout(
        "the state of a phone or loop is no reading",
        f'"device":"loop://phone",{_NOON},"loop":{{"iob":{{"iob":1.2}}}}',
        '"type":"sgv","sgv":112,"date":1772712000000',
    ),
    "duplicate-row": _reason(
        "the file has the same row already, and it is taken once",
        "14,2026-03-05T07:05:00,Carbs,,,,android G6,,,45,,,,\n"
        "15,2026-03-05T07:05:00,Carbs,,,,android G6,,,45,,,,",
        "clarity",
    ),
    "empty-event": _reason(
        "nothing stands in the row but when it was",
        "14,2026-03-05T07:05:00,Notes,,,,android G6,,,,,,,",
        "clarity",
    ),
    "filtered": _reason(
        "the mapping's `where` leaves such rows out",
        "14,M-17,2026-03-05T07:05:00,Interpolated,5.4,",
        "table",
        "Nothing to do, if that is meant; otherwise correct `where`.",
    ),
    "food-catalogue": _nightscout(
        "a kind of food that can be eaten is no meal",
        f'"type":"food","name":"Bread","carbs":25,{_NOON}',
        '"type":"sgv","sgv":112,"date":1772712000000',
    ),
    "joined-settings": _reason(
        "the row is one of several that make one record of pump settings",
        '{"type":"pumpSettings.basalSchedules","time":"2026-03-05T07:05:00Z","deviceId":"M-17",'
        '"activeSchedule":"Standard","scheduleName":"Standard",'
        '"basalSchedule.start":"1970-01-01T00:00:00.000Z","basalSchedule.rate":0.8}\n'
        '{"type":"pumpSettings.basalSchedules","time":"2026-03-05T07:05:00Z","deviceId":"M-17",'
        '"activeSchedule":"Standard","scheduleName":"Standard",'
        '"basalSchedule.start":"1970-01-01T06:00:00.000Z","basalSchedule.rate":1.1}',
        "tidepool-web-export",
    ),
    "loop-state": _event("a loop was switched off or on, for which Tidepool has no type", "OpenAPS Offline"),
    "metadata": _reason(
        "the row is about the person, the device or its settings, and no event",
        "14,,Device,,,Dexcom G6 Mobile App,android G6,,,,,,,",
        "clarity",
    ),
    "no-value": _reason(
        "none of the mapping's records has a value in this row",
        "14,M-17,2026-03-05T07:05:00,Sensor,,",
        "table",
    ),
    "note": _reason(
        "the row holds free text, which may name anybody",
        "14,2026-03-05T07:05:00,Notes,,Pizza,,android G6,,,,,,,",
        "clarity",
        "To upload notes, stage the file with `--keep-notes` (`keepNotes` in the manifest).",
    ),
    "other-device": _reason(
        "the row is of another device than the one that `serial` of the file names",
        "14,M-18,2026-03-05T07:05:00,Sensor,5.4,",
        "table",
        "Nothing to do: `stage` makes a batch for each device.",
        '"file":{"serial":"M-17"}',
    ),
    "other-entry": _nightscout(
        "an entry of a type that is not glucose",
        '"type":"sgv","sgv":112,"date":1772712000000',
        '"type":"rawbg","date":1772712000000',
    ),
    "override-end": _nightscout(
        "a temporary target or override ended here: its own record says until when it lasted",
        _target(_NOON, '"targetTop":140,"targetBottom":140,"units":"mg/dl","duration":60'),
        _target(_LATER, '"duration":0'),
    ),
    "profile-switch": _nightscout(
        "another profile was chosen: basal insulin is filled in by it from here on",
        _profile(',"startDate":"2026-03-01T00:00:00Z"'),
        f'"eventType":"Profile Switch","profile":"Default",{_NOON}',
    ),
    "sensor-event": _event(
        "a sensor was started, changed or stopped, for which Tidepool has no type", "Sensor Change"
    ),
    "superseded": _nightscout(
        "a basal that another event at the same instant overrules",
        _temporary(_NOON, '"_id":"a","absolute":1.5,"duration":30'),
        _temporary(_NOON, '"_id":"b","absolute":0.5,"duration":30'),
    ),
    "unchanged-profile": _nightscout(
        "the profile says the same as the one before",
        _profile(',"startDate":"2026-03-01T00:00:00Z"'),
        _profile(',"startDate":"2026-03-03T00:00:00Z"'),
    ),
    "under-other-serial": _reason(
        "the same reading stands under an earlier serial number of the file, from which a new phone or "
        "reader has copied it",
        "FreeStyle Libre 2,S-17,05-03-2026 07:05,0,6.2,,,,,,,,,,,,,,\n"
        "FreeStyle Libre 2,S-18,05-03-2026 07:05,0,6.2,,,,,,,,,,,,,,",
        "libreview",
        manifest='"file":{"serial":"S-18"}',
    ),
    "undated-profile": _nightscout("nothing says since when the profile has been in force", _profile("")),
    "unknown-event": _event(
        "a treatment of a kind that nobody knows, without insulin, carbohydrates or a finger value", "Walk"
    ),
    "view": _reason(
        "somebody looked at the app of a sensor that sends by itself: no measurement",
        "FreeStyle Libre 3,S-17,05-03-2026 07:00,0,6.2,,,,,,,,,,,,,,\n"
        "FreeStyle Libre 3,S-17,05-03-2026 07:05,0,6.3,,,,,,,,,,,,,,\n"
        "FreeStyle Libre 3,S-17,05-03-2026 07:06,1,,6.3,,,,,,,,,,,,,",
        "libreview",
    ),
}
"""By their reasons."""
