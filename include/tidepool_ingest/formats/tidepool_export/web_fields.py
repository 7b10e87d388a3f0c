"""What the Export button of Tidepool's web page keeps of a record, and in which form.

From ``config.json`` of the npm package @tidepool/data-tools, version 2.5.0 (BSD-2-Clause), through which the
page's JSON goes. The package picks from each record, whatever its type, every field that it has a column for
in any sheet, and writes an object's fields beside each other under names with a dot. Some objects and arrays
it writes as JSON in a string, and pump settings as one row for each entry of a schedule.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MINUTES: Final = frozenset({"duration", "expectedDuration"})
"""Fields in which the export has minutes, where the Platform has milliseconds …"""

TYPES_IN_MINUTES: Final = frozenset({"basal", "bolus", "deviceEvent"})
"""… in records of these types."""

_STRINGS: Final = frozenset({"annotations", "payload"})
_SETTINGS_STRINGS: Final = _STRINGS | {"basal", "bolus", "display", "manufacturers"}


class Piece(NamedTuple):
    """One of the rows that pump settings are written as: an entry of a schedule.

    :param schedules: the settings' field that it belongs to.
    :param entry: what the names of its fields begin with.
    :param is_named: whether there are several schedules by name, which ``scheduleName`` says.
    """

    schedules: str
    entry: str
    is_named: bool


PIECES: Final = {
    f"pumpSettings.{schedules}": Piece(schedules, entry, schedules not in ("bgTarget", "carbRatio", entry))
    for schedules, entry in (
        ("basalSchedules", "basalSchedule"),
        ("bgTarget", "bgTarget"),
        ("bgTargets", "bgTarget"),
        ("carbRatio", "carbRatio"),
        ("carbRatios", "carbRatio"),
        ("insulinSensitivity", "insulinSensitivity"),
        ("insulinSensitivities", "insulinSensitivity"),
    )
}
"""The pieces of pump settings, by the type of their rows."""

IN_STRINGS: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(("basal", "bloodKetone", "bolus", "cbg", "smbg", "wizard"), _STRINGS),
    **dict.fromkeys(PIECES, _SETTINGS_STRINGS),
    "deviceEvent": _STRINGS | {"from", "to"},
    "food": _STRINGS | {"nutrition"},
    "physicalActivity": _STRINGS | {"distance", "energy"},
    "upload": _STRINGS | {"deviceManufacturers", "deviceTags"},
}
"""Fields written as JSON in a string, by the type of a row; what is not here has no sheet of its own."""

KEPT_TYPES: Final = frozenset(kind for kind in IN_STRINGS if kind not in PIECES) | {"pumpSettings"}
"""Types of records that the export has a sheet for. Of others no more is left than fields that happen to have
the names of theirs."""

_NAMES: Final = """
activeSchedule alarmType annotations basal basalSchedule.rate basalSchedule.start basalSchedules bgInput
bgTarget bgTarget.high bgTarget.low bgTarget.range bgTarget.start bgTarget.target bolus byUser carbInput
carbRatio carbRatio.amount carbRatio.start change.agent change.from change.to clockDriftOffset
computerTime conversionOffset deliveryType deviceId deviceManufacturers deviceModel deviceSerialNumber
deviceTags deviceTime display distance duration energy expectedDuration expectedExtended expectedNormal
extended from id insulinCarbRatio insulinOnBoard insulinSensitivity insulinSensitivity.amount
insulinSensitivity.start localTime manufacturers model name normal nutrition payload percent primeTarget
rate reason.resumed reason.suspended recommended.carb recommended.correction recommended.net
reportedIntensity scheduleName serialNumber status subType suppressed.deliveryType suppressed.rate
suppressed.scheduleName suppressed.type time timeProcessing timezone timezoneOffset to type units
units.bg units.carb uploadId value version volume
"""
KEPT: Final = frozenset(_NAMES.split())
"""Every name that a row can have. ``localTime`` is in exports of before version 2.5."""


def is_piece(kind: object) -> bool:
    """Return whether a row of this type is a piece of pump settings."""
    return isinstance(kind, str) and kind in PIECES
