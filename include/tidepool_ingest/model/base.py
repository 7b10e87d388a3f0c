"""What every datum may carry: identity, times, origin, notes, tags, location, associations, payload.

P: data/types/base.go, association/association.go, location/, origin/origin.go, metadata/metadata.go.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval, Len

from tidepool_ingest.local_times import timezone_names
from tidepool_ingest.model.conditions import ByCase, ByUnits
from tidepool_ingest.model.fields import (
    BytesMax,
    EmptyIsMissing,
    Equals,
    FreeObject,
    FreeObjects,
    InstantText,
    Known,
    LocalTimeText,
    Pattern,
    PresentInstant,
    Record,
    Sorted,
    Text,
    Unique,
    any_of,
)
from tidepool_ingest.model.urls import is_web_address

DAY_MS: Final = 24 * 60 * 60 * 1000
"""Milliseconds in a day."""
WEEK_MS: Final = 7 * DAY_MS
"""Milliseconds in a week."""

NAME_LENGTH_MAX: Final = 100
"""Characters of names, versions, brands, models, serial numbers and most other short texts."""
Name: TypeAlias = Annotated[str, Len(1, NAME_LENGTH_MAX)]
NotEmptyText: TypeAlias = Annotated[str, Len(1)]

DATUM_ID: Final = "^[0-9a-z]{32}$"
"""P: data/data.go. Not only hexadecimal digits, because older data sets have ids of all letters."""
DatumId: TypeAlias = Annotated[str, Len(1), Pattern(DATUM_ID)]

CLOCK_DRIFT_OFFSET_MAX: Final = DAY_MS
"""Milliseconds, either way (P: data/data_set.go)."""
TIMEZONE_OFFSET_MAX: Final = 7 * 24 * 60
"""Minutes, either way (P: data/data_set.go)."""
TimezoneOffset: TypeAlias = Annotated[int, Interval(ge=-TIMEZONE_OFFSET_MAX, le=TIMEZONE_OFFSET_MAX)]
TimezoneName: TypeAlias = Annotated[str, Len(1), Known(timezone_names)]

NOTES_MAX: Final = 100
NOTE_LENGTH_MAX: Final = 1000
"""Characters."""
Note: TypeAlias = Annotated[str, Len(1, NOTE_LENGTH_MAX)]
TAGS_MAX: Final = 100
ASSOCIATIONS_MAX: Final = 100
REASON_LENGTH_MAX: Final = 1000
"""Characters."""
URL_LENGTH_MAX: Final = 2047
"""Bytes (P: net/net.go)."""
FLOOR_MAX: Final = 1000
"""Storeys, either way."""

METERS_PER_FOOT: Final = 0.3048
ACCURACY_RANGES: Final = {"feet": (0.0, 1000.0 / METERS_PER_FOOT), "meters": (0.0, 1000.0)}
ELEVATION_RANGES: Final = {
    "feet": (-20000.0 / METERS_PER_FOOT, 1000000.0 / METERS_PER_FOOT),
    "meters": (-20000.0, 1000000.0),
}
LATITUDE_RANGES: Final = {"degrees": (-90.0, 90.0)}
LONGITUDE_RANGES: Final = {"degrees": (-180.0, 180.0)}


class Association(Record):
    """A link to something else: a blob, another datum, an image or a web page."""

    id: Annotated[DatumId | None, ByCase("type", required=("blob", "datum", "image"), forbidden=("url",))] = (
        None
    )
    reason: Annotated[str, Len(1, REASON_LENGTH_MAX)] | None = None
    type: Literal["blob", "datum", "image", "url"]
    url: Annotated[
        Annotated[str, Len(1), Text(is_web_address), BytesMax(URL_LENGTH_MAX)] | None,
        ByCase("type", required=("url",), forbidden=("blob", "datum", "image")),
    ] = None


class Origin(Record):
    """Where a datum was made."""

    id: Name | None = None
    name: Name | None = None
    payload: FreeObject | None = None
    time: InstantText | None = None
    type: Literal["application", "device", "manual", "service"] | None = None
    version: Name | None = None


class Accuracy(Record):
    """How exact a position is."""

    units: Literal["feet", "meters"]
    value: Annotated[float, ByUnits("units", ACCURACY_RANGES)]


class Elevation(Record):
    """How high a place is."""

    units: Literal["feet", "meters"]
    value: Annotated[float, ByUnits("units", ELEVATION_RANGES)]


class Latitude(Record):
    """How far north a place is."""

    units: Literal["degrees"]
    value: Annotated[float, ByUnits("units", LATITUDE_RANGES)]


class Longitude(Record):
    """How far east a place is."""

    units: Literal["degrees"]
    value: Annotated[float, ByUnits("units", LONGITUDE_RANGES)]


class Gps(Record):
    """A position."""

    elevation: Elevation | None = None
    floor: Annotated[int, Interval(ge=-FLOOR_MAX, le=FLOOR_MAX)] | None = None
    horizontal_accuracy: Accuracy | None = None
    latitude: Latitude
    longitude: Longitude
    origin: Origin | None = None
    vertical_accuracy: Accuracy | None = None


class Location(Record):
    """A place: a position, a name, or both."""

    gps: Gps | None = None
    name: Name | None = None

    rules = (any_of("gps", "name"),)


class Datum(Record):
    """What every datum may carry.

    The Platform requires no more than ``type`` and ``time``; its hash deduplicators also need ``deviceId``.
    """

    type: str
    annotations: FreeObjects | None = None
    associations: Annotated[list[Association], Len(1, ASSOCIATIONS_MAX)] | None = None
    clock_drift_offset: (
        Annotated[int, Interval(ge=-CLOCK_DRIFT_OFFSET_MAX, le=CLOCK_DRIFT_OFFSET_MAX)] | None
    ) = None
    conversion_offset: int | None = None
    device_id: NotEmptyText | None = None
    device_time: LocalTimeText | None = None
    id: DatumId | None = None
    location: Location | None = None
    notes: Annotated[list[Note], Len(0, NOTES_MAX), EmptyIsMissing()] | None = None
    origin: Origin | None = None
    payload: FreeObject | None = None
    source: Annotated[str, Equals("carelink")] | None = None
    tags: Annotated[list[Name], Len(1, TAGS_MAX), Unique(), Sorted()] | None = None
    time: PresentInstant
    timezone: TimezoneName | None = None
    timezone_offset: TimezoneOffset | None = None
