"""Physical activity (P: data/types/activity/physical/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval

from tidepool_ingest.model.base import METERS_PER_FOOT, Datum, Name
from tidepool_ingest.model.conditions import ByUnits, When
from tidepool_ingest.model.fields import Range, Record
from tidepool_ingest.model.measures import (
    ENERGY_RANGES,
    DurationUnits,
    EnergyUnits,
    duration_ranges,
)

MILES_MAX: Final = 100.0
DISTANCE_RANGES: Final[dict[str, Range]] = {
    "feet": (0.0, MILES_MAX * 5280.0),
    "kilometers": (0.0, MILES_MAX * 1.609344),
    "meters": (0.0, MILES_MAX * 1609.344),
    "miles": (0.0, MILES_MAX),
    "yards": (0.0, MILES_MAX * 1760.0),
}
CLIMB_FEET_MAX: Final = 52800.0
CLIMB_RANGES: Final[dict[str, Range]] = {
    "feet": (0.0, CLIMB_FEET_MAX),
    "meters": (0.0, CLIMB_FEET_MAX * METERS_PER_FOOT),
}
DURATION_RANGES: Final = duration_ranges(hours=168.0)
FLIGHTS_MAX: Final = 10000
LAPS_MAX: Final = 10000
STEPS_MAX: Final = 100000

ActivityType: TypeAlias = Literal[
    "americanFootball",
    "archery",
    "australianFootball",
    "badminton",
    "barre",
    "baseball",
    "basketball",
    "bowling",
    "boxing",
    "climbing",
    "coreTraining",
    "cricket",
    "crossCountrySkiing",
    "crossTraining",
    "curling",
    "cycling",
    "dance",
    "danceInspiredTraining",
    "downhillSkiing",
    "elliptical",
    "equestrianSports",
    "fencing",
    "fishing",
    "flexibility",
    "functionalStrengthTraining",
    "golf",
    "gymnastics",
    "handball",
    "handCycling",
    "highIntensityIntervalTraining",
    "hiking",
    "hockey",
    "hunting",
    "jumpRope",
    "kickboxing",
    "lacrosse",
    "martialArts",
    "mindAndBody",
    "mixedCardio",
    "mixedMetabolicCardioTraining",
    "other",
    "paddleSports",
    "pilates",
    "play",
    "preparationAndRecovery",
    "racquetball",
    "rowing",
    "rugby",
    "running",
    "sailing",
    "skatingSports",
    "snowboarding",
    "snowSports",
    "soccer",
    "softball",
    "squash",
    "stairClimbing",
    "stairs",
    "stepTraining",
    "surfingSports",
    "swimming",
    "tableTennis",
    "taiChi",
    "tennis",
    "trackAndField",
    "traditionalStrengthTraining",
    "volleyball",
    "walking",
    "waterFitness",
    "waterPolo",
    "waterSports",
    "wheelchairRunPace",
    "wheelchairWalkPace",
    "wrestling",
    "yoga",
]


class Distance(Record):
    """How far."""

    units: Literal["feet", "kilometers", "meters", "miles", "yards"]
    value: Annotated[float, ByUnits("units", DISTANCE_RANGES)]


class Duration(Record):
    """How long."""

    units: DurationUnits
    value: Annotated[float, ByUnits("units", DURATION_RANGES)]


class ElevationChange(Record):
    """How high up."""

    units: Literal["feet", "meters"]
    value: Annotated[float, ByUnits("units", CLIMB_RANGES)]


class Energy(Record):
    """Energy used."""

    units: EnergyUnits
    value: Annotated[float, ByUnits("units", ENERGY_RANGES)]


class Flight(Record):
    """Flights of stairs."""

    count: Annotated[int, Interval(ge=0, le=FLIGHTS_MAX)]


class Lap(Record):
    """Laps, and how long each was."""

    count: Annotated[int, Interval(ge=0, le=LAPS_MAX)]
    distance: Distance


class Step(Record):
    """Steps."""

    count: Annotated[int, Interval(ge=0, le=STEPS_MAX)]


class PhysicalActivity(Datum):
    """Exercise, or any other activity."""

    type: Literal["physicalActivity"]
    activity_type: ActivityType | None = None
    activity_type_other: Annotated[Name | None, When("activityType", ("other",))] = None
    aggregate: bool | None = None
    distance: Distance | None = None
    duration: Duration | None = None
    elevation_change: ElevationChange | None = None
    energy: Energy | None = None
    flight: Flight | None = None
    lap: Lap | None = None
    name: Name | None = None
    reported_intensity: Literal["high", "low", "medium"] | None = None
    step: Step | None = None
