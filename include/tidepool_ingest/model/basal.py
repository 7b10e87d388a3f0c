"""Basal insulin: scheduled, temporary, automated, suspended (P: data/types/basal/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from annotated_types import Interval, Len

from tidepool_ingest.model.base import WEEK_MS, Datum, NotEmptyText
from tidepool_ingest.model.conditions import From
from tidepool_ingest.model.fields import FreeObjects, Record
from tidepool_ingest.model.insulin import Formulation

DURATION_MAX: Final = WEEK_MS
"""Milliseconds."""
RATE_MAX: Final = 100.0
"""Units of insulin an hour."""
PERCENT_MAX: Final = 10.0
"""A fraction in spite of its name: 10 is 1,000 %."""
SCHEDULE_NAME_LENGTH_MAX: Final = 1000
"""Characters; the Platform limits it for automated basals only."""

Rate: TypeAlias = Annotated[float, Interval(ge=0.0, le=RATE_MAX)]
Percent: TypeAlias = Annotated[float, Interval(ge=0.0, le=PERCENT_MAX)]
ScheduleName: TypeAlias = Annotated[str, Len(1, SCHEDULE_NAME_LENGTH_MAX)]


class Suppressed(Record):
    """A basal that another one takes the place of."""

    kind_field = "deliveryType"

    type: Literal["basal"]
    annotations: FreeObjects | None = None
    insulin_formulation: Formulation | None = None
    rate: Rate


class SuppressedScheduled(Suppressed):
    """The scheduled basal that would have been given."""

    delivery_type: Literal["scheduled"]
    schedule_name: NotEmptyText | None = None


class SuppressedAutomated(Suppressed):
    """The automated basal that would have been given."""

    delivery_type: Literal["automated"]
    schedule_name: ScheduleName | None = None
    suppressed: SuppressedScheduled | None = None


class SuppressedTemporary(Suppressed):
    """The temporary basal that would have been given."""

    delivery_type: Literal["temp"]
    percent: Percent | None = None
    suppressed: SuppressedAutomated | SuppressedScheduled | None = None


class Basal(Datum):
    """Basal insulin over some time."""

    kind_field = "deliveryType"
    identity = ("deliveryType",)

    type: Literal["basal"]
    duration: Annotated[int, Interval(ge=0, le=DURATION_MAX)]
    expected_duration: Annotated[int | None, From("duration", 0, DURATION_MAX)] = None


class FlowingBasal(Basal):
    """Basal insulin that is given at a rate."""

    insulin_formulation: Formulation | None = None
    rate: Rate


class ScheduledBasal(FlowingBasal):
    """Basal insulin as in the pump's schedule."""

    delivery_type: Literal["scheduled"]
    schedule_name: NotEmptyText | None = None


class AutomatedBasal(FlowingBasal):
    """Basal insulin that an algorithm chose."""

    delivery_type: Literal["automated"]
    schedule_name: ScheduleName | None = None
    suppressed: SuppressedScheduled | None = None


class TemporaryBasal(FlowingBasal):
    """Basal insulin at a rate that somebody set for a while."""

    delivery_type: Literal["temp"]
    percent: Percent | None = None
    suppressed: SuppressedAutomated | SuppressedScheduled | None = None


class SuspendedBasal(Basal):
    """A while without basal insulin."""

    delivery_type: Literal["suspend"]
    suppressed: SuppressedAutomated | SuppressedScheduled | SuppressedTemporary | None = None
