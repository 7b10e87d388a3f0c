"""What holds a batch until a person has looked at it, or confirmed that it is intended."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tidepool_ingest.errors import HeldError

if TYPE_CHECKING:
    from tidepool_ingest.guards.approval import (
        TOO_MANY_REJECTED,
        AskingError,
        Decision,
        QuarantineLimitError,
        answer_of,
        apply_decision,
        decision_of,
        is_declined,
        is_left_alone,
        limit_as_decided,
        record_decision,
        reopen,
        waits_for_person,
    )
    from tidepool_ingest.guards.before import DeviceChangedError, check_before, may_differ_from_before
    from tidepool_ingest.guards.checks import (
        DoublingError,
        OlderThanUploadedError,
        PreparedOtherwiseError,
        ReplacesLosesDaysError,
        RetractedFirstError,
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
        is_in_order,
        matches_sent_plan,
        replaced_by,
        retracted_by,
    )
    from tidepool_ingest.guards.marks import Mark, check_room_for_mark, with_mark
    from tidepool_ingest.guards.versions import Versions, is_prepared, overwritten_as_prepared, stored_rows

__all__ = [
    "TOO_MANY_REJECTED",
    "AskingError",
    "Decision",
    "DeviceChangedError",
    "DoublingError",
    "HeldError",
    "Mark",
    "OlderThanUploadedError",
    "PreparedOtherwiseError",
    "QuarantineLimitError",
    "ReplacesLosesDaysError",
    "RetractedFirstError",
    "SupersededBatchError",
    "TruncateError",
    "Versions",
    "WithdrawnError",
    "answer_of",
    "apply_decision",
    "check_before",
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
    "is_in_order",
    "is_left_alone",
    "is_prepared",
    "limit_as_decided",
    "matches_sent_plan",
    "may_differ_from_before",
    "overwritten_as_prepared",
    "record_decision",
    "reopen",
    "replaced_by",
    "retracted_by",
    "stored_rows",
    "waits_for_person",
    "with_mark",
]


def __getattr__(name: str) -> object:
    """Import what is asked for: most guards ask ledger and Tidepool, and looking at glucose takes neither."""
    if name in __all__:
        for module in ("approval", "before", "checks", "marks", "versions"):
            found: object = getattr(import_module(f"{__name__}.{module}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
