"""Boluses: normal, square, dual, automated (P: data/types/bolus/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval

from tidepool_ingest.model.base import DAY_MS, Datum
from tidepool_ingest.model.conditions import From, RequiredAt, UpTo, When
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.insulin import Formulation

AMOUNT_MAX: Final = 100.0
"""Units of insulin in each part of a bolus."""
EXTENDED_DURATION_MAX: Final = DAY_MS
"""Milliseconds."""

Amount: TypeAlias = Annotated[float, Interval(ge=0.0, le=AMOUNT_MAX)]
Duration: TypeAlias = Annotated[int, Interval(ge=0, le=EXTENDED_DURATION_MAX)]


class Bolus(Datum):
    """Insulin for a meal or a correction."""

    kind_field = "subType"
    identity = ("subType",)

    type: Literal["bolus"]
    delivery_context: (
        Literal["algorithm", "device", "oneButton", "remote", "undetermined", "watch"] | None
    ) = None
    insulin_formulation: Formulation | None = None


class NormalPart(Record):
    """Insulin given at once; ``expected``: what was asked for, if less was given."""

    normal: Annotated[float, UpTo("expectedNormal", 0.0, AMOUNT_MAX)]
    expected_normal: Amount | None = None


class ExtendedPart(Record):
    """Insulin given over some time; ``expected``: what was asked for, if less was given."""

    duration: Annotated[int, UpTo("expectedDuration", 0, EXTENDED_DURATION_MAX)]
    expected_duration: Annotated[
        Duration | None, When("expectedExtended", required=True, checked_anyway=True)
    ] = None
    extended: Annotated[float, UpTo("expectedExtended", 0.0, AMOUNT_MAX)]
    expected_extended: Amount | None = None


class NormalBolus(NormalPart, Bolus):
    """A bolus given at once."""

    sub_type: Literal["normal"]


class SquareBolus(ExtendedPart, Bolus):
    """A bolus given over some time."""

    sub_type: Literal["square"]


class DualBolus(NormalPart, ExtendedPart, Bolus):
    """A bolus given in part at once, in part over some time."""

    sub_type: Literal["dual/square"]


class AutomatedBolus(Bolus):
    """A bolus that an algorithm gave."""

    sub_type: Literal["automated"]
    normal: Amount
    expected_normal: Annotated[float | None, RequiredAt("normal", 0.0), From("normal", 0.0, AMOUNT_MAX)] = (
        None
    )


AnyBolus: TypeAlias = DualBolus | SquareBolus | NormalBolus | AutomatedBolus
