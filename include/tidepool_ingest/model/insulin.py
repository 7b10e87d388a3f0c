"""Insulin: what it is made of, and doses given by pen or syringe (P: data/types/insulin/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Ge, Interval, Len

from tidepool_ingest.model.base import Datum, Name
from tidepool_ingest.model.conditions import ByUnits, NotWith
from tidepool_ingest.model.fields import Record, any_of
from tidepool_ingest.model.problems import NOT_EXISTS

COMPOUNDS_MAX: Final = 100
CONCENTRATION_RANGES: Final = {"Units/mL": (0.0, 10000.0)}
DOSE_MAX: Final = 250.0
"""Units of insulin."""


class Concentration(Record):
    """How much insulin is in a millilitre."""

    units: Literal["Units/mL"]
    value: Annotated[float, ByUnits("units", CONCENTRATION_RANGES)]


class SimpleInsulin(Record):
    """An insulin of one kind."""

    acting_type: Literal["intermediate", "long", "rapid", "short"]
    brand: Name | None = None
    concentration: Concentration | None = None


class Compound(Record):
    """A part of a mixed insulin."""

    amount: Annotated[float, Ge(0.0)]
    formulation: Formulation


class Formulation(Record):
    """What an insulin is made of: compounds, or one simple insulin; or just its name."""

    compounds: Annotated[list[Compound] | None, Len(1, COMPOUNDS_MAX), NotWith("simple")] = None
    name: Name | None = None
    simple: SimpleInsulin | None = None

    rules = (any_of("compounds", "name", "simple", at="simple", code=NOT_EXISTS),)


class Dose(Record):
    """How much insulin, and what for."""

    active: Annotated[float, Interval(ge=0.0, le=DOSE_MAX)] | None = None
    correction: Annotated[float, Interval(ge=-DOSE_MAX, le=DOSE_MAX)] | None = None
    food: Annotated[float, Interval(ge=0.0, le=DOSE_MAX)] | None = None
    total: Annotated[float, Interval(ge=0.0, le=DOSE_MAX)]
    units: Literal["Units"]


class Insulin(Datum):
    """A dose that no pump gave."""

    type: Literal["insulin"]
    dose: Dose | None = None
    formulation: Formulation | None = None
    site: Name | None = None
