"""What a person does about a batch that stopped, by the code that the ledger keeps of the cause.

The message of the error itself stands in the log of the task and says more: which file, which record. What
fits every batch that stopped for a cause is declared on the class of the error; see
:mod:`tidepool_ingest.errors`.
"""

from __future__ import annotations

# Imported for the errors that they declare: a code of any of them may stand in the ledger.
import tidepool_ingest.client.errors
import tidepool_ingest.formats.tidepool_export.telling
import tidepool_ingest.maintenance.erasure
import tidepool_ingest.maintenance.reconcile
import tidepool_ingest.options
import tidepool_ingest.packs
import tidepool_ingest.prepare.step
import tidepool_ingest.staging.errors
import tidepool_ingest.upload  # noqa: F401
from tidepool_ingest.errors import FAULTS_BY_CODE, Fault
from tidepool_ingest.guards.approval import REJECTED_BY_PERSON
from tidepool_ingest.ledger import DECLINED, SUPERSEDED_STATES, ActionKind, BatchState, Upload
from tidepool_ingest.upload.discovery import UNKNOWN_DATA

UNKNOWN = Fault(
    "it stopped", "Look into the log of the task: its last lines say what happened and what to do."
)
"""The cause shown for a code that nothing here declares, for example one of a newer version."""


def remedy_of(code: str | None) -> Fault:
    """Return what happened and what to do about it.

    :param code: the reason that the ledger keeps, ``None`` if it has none.
    """
    return REJECTED_BY_PERSON if code == DECLINED else FAULTS_BY_CODE.get(code or "", UNKNOWN)


RETRYABLE = (
    BatchState.PLANNED,
    BatchState.PREPARED,
    BatchState.UPLOADING,
    BatchState.HELD,
    BatchState.FAILED,
)
"""States from which a run of the batch goes on."""

WITHDRAWABLE = (BatchState.UPLOADING, BatchState.VERIFIED)

STOPPED = (BatchState.HELD, BatchState.FAILED)
"""States in which some parts of a split batch may nevertheless be visible."""


def available_actions(upload: Upload) -> tuple[ActionKind, ...]:
    """Return the actions that a person can request.

    A continuous data set is shared by all batches of its feed: one of them cannot be distinguished from what
    later ones have replaced, and is withdrawn by another batch that retracts it, if it has brought in any
    record. A part is resumed, withdrawn and dismissed with the whole batch.

    :param upload: the batch and its newest data set.
    """
    is_part = upload.part_of is not None
    shows = upload.data_set is not None or upload.started
    is_normal = upload.data_set_type == "normal"
    withdrawable = (
        (shows and upload.state in WITHDRAWABLE and not is_part)
        or (upload.started and upload.state in STOPPED)
        or (upload.reason in UNKNOWN_DATA and upload.state in STOPPED and not is_part)
    )
    of_feed = upload.data_set is not None and upload.state in WITHDRAWABLE and bool(upload.accepted)
    offered = {
        ActionKind.RETRY: upload.state in RETRYABLE and not is_part,
        ActionKind.CHECK: is_normal and shows and upload.state is BatchState.VERIFIED,
        ActionKind.DISMISS: upload.needs_attention and not is_part,
        ActionKind.REOPEN: upload.is_decided and upload.state not in SUPERSEDED_STATES and not is_part,
        ActionKind.WITHDRAW: withdrawable if is_normal else of_feed,
    }
    return tuple(what for what, possible in offered.items() if possible)
