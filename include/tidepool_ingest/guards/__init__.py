"""What holds a batch until a person has looked at it, or confirmed that it is intended."""

from __future__ import annotations

from tidepool_ingest.errors import HeldError
from tidepool_ingest.guards.approval import (
    TOO_MANY_REJECTED,
    AskingError,
    Decision,
    QuarantineLimitError,
    apply_decision,
    decision_of,
    is_declined,
    limit_as_decided,
    record_decision,
    waits_for_person,
)
from tidepool_ingest.guards.checks import (
    DoublingError,
    OlderThanUploadedError,
    PreparedOtherwiseError,
    ReplacesLosesDaysError,
    SupersededBatchError,
    TruncateError,
    WithdrawnError,
    check_days_kept,
    check_doubling,
    check_not_superseded,
    check_not_withdrawn,
    check_order,
    check_truncate,
    compares_days,
    matches_sent_plan,
    replaced_by,
)
from tidepool_ingest.guards.marks import Mark, check_room_for_mark, with_mark
from tidepool_ingest.guards.versions import Versions, is_prepared, overwritten_as_prepared, stored_rows

__all__ = [
    "TOO_MANY_REJECTED",
    "AskingError",
    "Decision",
    "DoublingError",
    "HeldError",
    "Mark",
    "OlderThanUploadedError",
    "PreparedOtherwiseError",
    "QuarantineLimitError",
    "ReplacesLosesDaysError",
    "SupersededBatchError",
    "TruncateError",
    "Versions",
    "WithdrawnError",
    "apply_decision",
    "check_days_kept",
    "check_doubling",
    "check_not_superseded",
    "check_not_withdrawn",
    "check_order",
    "check_room_for_mark",
    "check_truncate",
    "compares_days",
    "decision_of",
    "is_declined",
    "is_prepared",
    "limit_as_decided",
    "matches_sent_plan",
    "overwritten_as_prepared",
    "record_decision",
    "replaced_by",
    "stored_rows",
    "waits_for_person",
    "with_mark",
]
