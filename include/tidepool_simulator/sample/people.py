"""Who the sample data are about: three invented people, their bodies and their devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

FIRST_USER = "5a3c0d0001"
SECOND_USER = "5a3c0d0002"
THIRD_USER = "5a3c0d0003"

SAMPLE_USERS = (FIRST_USER, SECOND_USER, THIRD_USER)
"""User ids of the sample's people: practice patients that the simulator knows, real nowhere."""


GlucoseUnits = Literal["mg/dL", "mmol/L"]

DISPLAY_MG_DL_PER_MMOL_L = 18.0
"""mg/dL of glucose in 1 mmol/L as meters convert for display (the Platform calculates more precisely)."""


def practice_accounts() -> dict[str, Any]:
    """Return an accounts file for the simulator: both of its uploaders may upload for these people."""
    return {
        "users": [{"name": user_id, "id": user_id} for user_id in SAMPLE_USERS],
        "grants": [
            {"to": uploader, "of": user_id, "permissions": ["view", "upload"]}
            for uploader in ("service", "uploader")
            for user_id in SAMPLE_USERS
        ],
    }


@dataclass(frozen=True)
class Person:
    """A simulated person with type 1 diabetes.

    :param user_id: Tidepool user id, ten hex digits.
    :param timezone: IANA name of where the person lives.
    :param days: days of data before the day of staging.
    :param basal_rates: insulin need without food, units an hour, for each hour of the local day.
    :param sensitivity: fall of glucose by one unit of insulin, mg/dL.
    :param carb_ratio: carbohydrate covered by one unit of insulin, grams.
    :param meal_size: this person's meals as a share of an average adult's.
    :param care: how well carbohydrate is guessed, 0 (badly) to 1 (exactly).
    """

    user_id: str
    timezone: str
    days: int
    basal_rates: tuple[float, ...]
    sensitivity: float
    carb_ratio: float
    meal_size: float
    care: float

    def basal_rate(self, hour: int) -> float:
        """Return the basal need in a local hour, units an hour."""
        return self.basal_rates[hour]


@dataclass(frozen=True)
class Device:
    """A device and how its records look.

    :param device_id: Tidepool's ``deviceId``.
    :param tags: Tidepool's ``deviceTags``; empty for kinds of device that Tidepool has no tag for.
    :param units: unit of its glucose values.
    :param milliseconds: whether its times are written with ``.000``.
    :param with_ids: whether its records carry an ``id`` of their own.
    :param clock_drift: milliseconds by which the device's clock is off, as recorded at upload.
    """

    device_id: str
    manufacturer: str
    model: str
    serial_number: str
    tags: tuple[str, ...]
    timezone: str
    units: GlucoseUnits = "mg/dL"
    milliseconds: bool = True
    with_ids: bool = False
    clock_drift: int = 0
    further_fields: dict[str, Any] = field(default_factory=dict)

    def data_set(self) -> dict[str, Any]:
        """Return the body that creates a data set for this device."""
        body: dict[str, Any] = {
            "dataSetType": "normal",
            "deviceId": self.device_id,
            "deviceManufacturers": [self.manufacturer],
            "deviceModel": self.model,
            "deviceSerialNumber": self.serial_number,
            "timeProcessing": "across-the-board-timezone",
            "timezone": self.timezone,
        }
        if self.tags:
            body["deviceTags"] = list(self.tags)
        return body | self.further_fields


def _by_hour(night: float, dawn: float, day: float, evening: float) -> tuple[float, ...]:
    """Return 24 hourly basal rates with the usual rise before waking (dawn phenomenon)."""
    return (night,) * 3 + (dawn,) * 5 + (day,) * 10 + (evening,) * 6


CLOSED_LOOP_USER = Person(
    FIRST_USER,
    "America/Los_Angeles",
    30,
    _by_hour(0.80, 1.05, 0.85, 0.95),
    42.0,
    9.0,
    meal_size=1.0,
    care=0.85,
)
PEN_USER = Person(
    SECOND_USER,
    "Europe/Stockholm",
    45,
    _by_hour(0.75, 0.90, 0.80, 0.80),
    48.0,
    11.0,
    meal_size=0.9,
    care=0.75,
)
CHILD = Person(
    THIRD_USER, "America/New_York", 28, _by_hour(0.35, 0.50, 0.40, 0.45), 95.0, 19.0, meal_size=0.6, care=0.7
)

SENSOR_G6 = Device(
    "DexG6Rec_SM81203557", "Dexcom", "G6", "SM81203557", ("cgm",), CLOSED_LOOP_USER.timezone, with_ids=True
)
CLOSED_LOOP_PUMP = Device(
    "tandemCIQ1002717903114",
    "Tandem",
    "1002717",
    "903114",
    ("bgm", "insulin-pump"),
    CLOSED_LOOP_USER.timezone,
    further_fields={"timeProcessing": "utc-bootstrapping"},
)
SENSOR_LIBRE = Device(
    "AbbottFreeStyleLibre2-MH00017F6X2",
    "Abbott",
    "FreeStyle Libre 2",
    "MH00017F6X2",
    ("bgm", "cgm"),
    PEN_USER.timezone,
    units="mmol/L",
    milliseconds=False,
)
METER_OF_PEN_USER = Device(
    "ContourNextOne-7801H5040125",
    "Ascensia",
    "Contour Next One",
    "7801H5040125",
    ("bgm",),
    PEN_USER.timezone,
    units="mmol/L",
    clock_drift=-41000,
)
PEN = Device(
    "NovoPen6-ALRS0M21",
    "Novo Nordisk",
    "NovoPen 6",
    "ALRS0M21",
    (),
    PEN_USER.timezone,
    "mmol/L",
    milliseconds=False,
)
SENSOR_G5 = Device("DexG5MobRec_SM64305834", "Dexcom", "G5 Mobile", "SM64305834", ("cgm",), CHILD.timezone)
SCHEDULED_PUMP = Device(
    "MMT-723:561724",
    "Medtronic",
    "723",
    "561724",
    ("insulin-pump",),
    CHILD.timezone,
    clock_drift=-3000,
    further_fields={
        "timeProcessing": "utc-bootstrapping",
        "deduplicator": {"name": "org.tidepool.deduplicator.device.deactivate.hash"},
    },
)
METER_OF_CHILD = Device(
    "ContourNextLink-6213-1073385",
    "Bayer",
    "Contour Next Link",
    "6213-1073385",
    ("bgm",),
    CHILD.timezone,
    with_ids=True,
)
