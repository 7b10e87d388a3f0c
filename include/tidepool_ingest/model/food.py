"""Food (P: data/types/food/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Ge, Interval, Len

from tidepool_ingest.model.base import Datum, Name
from tidepool_ingest.model.conditions import ByUnits, When
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.measures import ENERGY_RANGES, EnergyUnits

NUTRIENT_MAX: Final = 1000.0
"""Grams of carbohydrate, fat or protein."""
ABSORPTION_DURATION_MAX: Final = 24 * 60 * 60
"""Seconds."""
INGREDIENTS_MAX: Final = 100


class Amount(Record):
    """How much of something, in units of whatever name."""

    units: Name
    value: Annotated[float, Ge(0.0)]


class Carbohydrate(Record):
    """Carbohydrates of a meal."""

    dietary_fiber: Annotated[float, Interval(ge=0.0, le=NUTRIENT_MAX)] | None = None
    net: Annotated[float, Interval(ge=0.0, le=NUTRIENT_MAX)]
    sugars: Annotated[float, Interval(ge=0.0, le=NUTRIENT_MAX)] | None = None
    total: Annotated[float, Interval(ge=0.0, le=NUTRIENT_MAX)] | None = None
    units: Literal["grams"]


class Energy(Record):
    """Energy of a meal."""

    units: EnergyUnits
    value: Annotated[float, ByUnits("units", ENERGY_RANGES)]


class Nutrient(Record):
    """Fat or protein of a meal."""

    total: Annotated[float, Interval(ge=0.0, le=NUTRIENT_MAX)]
    units: Literal["grams"]


class Nutrition(Record):
    """What a meal consists of."""

    estimated_absorption_duration: Annotated[int, Interval(ge=0, le=ABSORPTION_DURATION_MAX)] | None = None
    carbohydrate: Carbohydrate | None = None
    energy: Energy | None = None
    fat: Nutrient | None = None
    protein: Nutrient | None = None


class Ingredient(Record):
    """A part of a meal, which may have parts itself."""

    amount: Amount | None = None
    brand: Name | None = None
    code: Name | None = None
    ingredients: Annotated[list[Ingredient], Len(1, INGREDIENTS_MAX)] | None = None
    name: Name | None = None
    nutrition: Nutrition | None = None


class Food(Datum):
    """Something eaten."""

    type: Literal["food"]
    amount: Amount | None = None
    brand: Name | None = None
    code: Name | None = None
    ingredients: Annotated[list[Ingredient], Len(1, INGREDIENTS_MAX)] | None = None
    meal: Literal["breakfast", "dinner", "lunch", "other", "snack"] | None = None
    meal_other: Annotated[Name | None, When("meal", ("other",), required=True)] = None
    name: Name | None = None
    nutrition: Nutrition | None = None
