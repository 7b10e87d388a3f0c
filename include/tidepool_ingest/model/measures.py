"""Physical measures that several types have: their units and the ranges in each."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from tidepool_ingest.model.fields import Range

EnergyUnits: TypeAlias = Literal["calories", "joules", "kilocalories", "kilojoules"]
KILOCALORIES_MAX: Final = 10000.0
KILOJOULES_PER_KILOCALORIE: Final = 4.1858
ENERGY_RANGES: Final[dict[str, Range]] = {
    "calories": (0.0, KILOCALORIES_MAX * 1000.0),
    "joules": (0.0, KILOCALORIES_MAX * KILOJOULES_PER_KILOCALORIE * 1000.0),
    "kilocalories": (0.0, KILOCALORIES_MAX),
    "kilojoules": (0.0, KILOCALORIES_MAX * KILOJOULES_PER_KILOCALORIE),
}
"""P: data/types/food/energy.go and data/types/activity/physical/energy.go, which agree."""

DurationUnits: TypeAlias = Literal["hours", "minutes", "seconds"]


def duration_ranges(hours: float) -> dict[str, Range]:
    """Lay out the range from 0 to some hours by units.

    :param hours: the longest duration.
    """
    return {"hours": (0.0, hours), "minutes": (0.0, hours * 60.0), "seconds": (0.0, hours * 60.0 * 60.0)}
