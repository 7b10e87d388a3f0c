"""How somebody said to feel (P: data/types/state/reported/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Interval

from tidepool_ingest.model.base import Datum, Name
from tidepool_ingest.model.conditions import When
from tidepool_ingest.model.fields import Record

SEVERITY_MAX: Final = 10


class State(Record):
    """One thing felt."""

    severity: Annotated[int, Interval(ge=0, le=SEVERITY_MAX)] | None = None
    state: Literal[
        "alcohol", "cycle", "hyperglycemiaSymptoms", "hypoglycemiaSymptoms", "illness", "other", "stress"
    ]
    state_other: Annotated[Name | None, When("state", ("other",), required=True)] = None


class ReportedState(Datum):
    """All things felt at one time."""

    type: Literal["reportedState"]
    states: list[State] | None = None
