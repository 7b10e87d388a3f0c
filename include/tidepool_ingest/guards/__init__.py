"""What holds a batch until a person has looked at it or said that it is meant so."""

from __future__ import annotations

from tidepool_ingest.guards.approval import (
    TOO_MANY_REFUSED,
    AskingError,
    Decision,
    decision_of,
    follow,
    is_rejected,
    note_decision,
    percent_allowed,
    waits_for_person,
)
from tidepool_ingest.guards.checks import (
    DoublingError,
    HeldError,
    InItsPlaceError,
    OlderThanUploadedError,
    PreparedOtherwiseError,
    TruncateError,
    WithdrawnError,
    check_doubling,
    check_not_in_its_place,
    check_not_withdrawn,
    check_order,
    check_truncate,
    compares_days,
    is_as_sent,
    replaced_by,
)

__all__ = [
    "TOO_MANY_REFUSED",
    "AskingError",
    "Decision",
    "DoublingError",
    "HeldError",
    "InItsPlaceError",
    "OlderThanUploadedError",
    "PreparedOtherwiseError",
    "TruncateError",
    "WithdrawnError",
    "check_doubling",
    "check_not_in_its_place",
    "check_not_withdrawn",
    "check_order",
    "check_truncate",
    "compares_days",
    "decision_of",
    "follow",
    "is_as_sent",
    "is_rejected",
    "note_decision",
    "percent_allowed",
    "replaced_by",
    "waits_for_person",
]
