"""What pumps and controllers report about themselves (P: data/types/status/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Interval

from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.conditions import After, ByUnits, When
from tidepool_ingest.model.fields import AnyInstant, Record, any_of

BATTERY_RANGES: Final = {"percent": (0.0, 1.0)}
"""A fraction in spite of its name."""
RESERVOIR_MAX: Final = 10000.0
"""Units of insulin."""
BASAL_RATE_MAX: Final = 100.0
"""Units of insulin an hour."""
DELIVERED_MAX: Final = 1000.0
"""Units of insulin."""


class Battery(Record):
    """State of a battery, of pump or controller."""

    time: AnyInstant | None = None
    state: Literal["charging", "full", "unplugged"] | None = None
    remaining: Annotated[float | None, ByUnits("units", BATTERY_RANGES)] = None
    units: Annotated[Literal["percent"] | None, When("remaining", required=True)] = None

    rules = (any_of("state", "remaining"),)


class ControllerStatus(Datum):
    """State of a controller, such as a phone."""

    type: Literal["controllerStatus"]
    battery: Battery


class BasalDose(Record):
    """A temporary basal that is running."""

    start_time: AnyInstant | None = None
    end_time: Annotated[AnyInstant | None, When("startTime"), After("startTime")] = None
    rate: Annotated[float, Interval(ge=0.0, le=BASAL_RATE_MAX)]
    amount_delivered: Annotated[float, Interval(ge=0.0, le=DELIVERED_MAX)] | None = None


class BasalDelivery(Record):
    """What the pump does about basal insulin."""

    state: Literal[
        "cancelingTemporary",
        "initiatingTemporary",
        "resuming",
        "scheduled",
        "suspended",
        "suspending",
        "temporary",
    ]
    time: Annotated[AnyInstant | None, When("state", ("scheduled", "suspended"), required=True)] = None
    dose: Annotated[BasalDose | None, When("state", ("temporary",), required=True)] = None


class BolusDose(Record):
    """A bolus that is running."""

    start_time: AnyInstant | None = None
    amount: Annotated[float, Interval(ge=0.0, le=DELIVERED_MAX)]
    amount_delivered: Annotated[float, Interval(ge=0.0, le=DELIVERED_MAX)] | None = None


class BolusDelivery(Record):
    """What the pump does about boluses."""

    state: Literal["canceling", "delivering", "initiating", "none"]
    dose: Annotated[BolusDose | None, When("state", ("delivering",), required=True)] = None


class Reservoir(Record):
    """Insulin remaining."""

    time: AnyInstant | None = None
    remaining: Annotated[float, Interval(ge=0.0, le=RESERVOIR_MAX)]
    units: Literal["Units"]


class PumpStatus(Datum):
    """State of a pump."""

    type: Literal["pumpStatus"]
    basal_delivery: BasalDelivery | None = None
    battery: Battery | None = None
    bolus_delivery: BolusDelivery | None = None
    delivery_indeterminant: bool | None = None
    reservoir: Reservoir | None = None

    rules = (any_of("basalDelivery", "battery", "bolusDelivery", "deliveryIndeterminant", "reservoir"),)
