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
from tidepool_ingest.guards.as_sent import PreparedOtherwiseError, is_as_sent
from tidepool_ingest.guards.held import HeldError
from tidepool_ingest.guards.in_its_place import InItsPlaceError, check_not_in_its_place
from tidepool_ingest.guards.opt_ins import DoublingError, TruncateError, check_doubling, check_truncate
from tidepool_ingest.guards.order import OlderThanUploadedError, check_order, compares_days
from tidepool_ingest.guards.replacing import replaced_by
from tidepool_ingest.guards.withdrawn import WithdrawnError, check_not_withdrawn

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
