"""Alerts of a controller (P: data/types/alert/)."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from annotated_types import Interval

from tidepool_ingest.model.base import Datum, Name
from tidepool_ingest.model.conditions import After, When
from tidepool_ingest.model.fields import AnyInstant, PresentInstant

TRIGGER_DELAY_MAX: Final = 24 * 60 * 60
"""Seconds."""


class Alert(Datum):
    """An alert, and when it was issued, acknowledged and retracted."""

    type: Literal["alert"]
    name: Name
    priority: Literal["critical", "normal", "timeSensitive"] | None = None
    trigger: Literal["delayed", "immediate", "repeating"] | None = None
    trigger_delay: Annotated[
        Annotated[int, Interval(ge=0, le=TRIGGER_DELAY_MAX)] | None,
        When("trigger", ("delayed", "repeating"), required=True),
    ] = None
    sound: Literal["name", "silence", "vibrate"] | None = None
    sound_name: Annotated[Name | None, When("sound", ("name",), required=True)] = None
    issued_time: PresentInstant
    acknowledged_time: Annotated[AnyInstant | None, After("issuedTime")] = None
    retracted_time: Annotated[AnyInstant | None, After("issuedTime")] = None
