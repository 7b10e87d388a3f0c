"""Water drunk (P: data/types/water/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.conditions import ByUnits
from tidepool_ingest.model.fields import Range, Record

GALLONS_MAX: Final = 10.0
LITERS_PER_GALLON: Final = 3.7854118
"""As the Platform has it; a gallon is 3.785411784 litres."""
WATER_RANGES: Final[dict[str, Range]] = {
    "gallons": (0.0, GALLONS_MAX),
    "liters": (0.0, GALLONS_MAX * LITERS_PER_GALLON),
    "milliliters": (0.0, GALLONS_MAX * LITERS_PER_GALLON * 1000.0),
    "ounces": (0.0, GALLONS_MAX * 128.0),
}


class WaterAmount(Record):
    """How much water."""

    units: Literal["gallons", "liters", "milliliters", "ounces"]
    value: Annotated[float, ByUnits("units", WATER_RANGES)]


class Water(Datum):
    """Water drunk."""

    type: Literal["water"]
    amount: WaterAmount
