"""What a person does about a batch that stopped, by the code that the ledger keeps of the cause.

The message of the error itself stands in the log of the task and says more: which file, which record. Here is
what fits every batch that stopped for this cause.
"""

from __future__ import annotations

from tidepool_ingest.client import errors as tidepool_errors
from tidepool_ingest.ledger import BatchState, Upload, What
from tidepool_ingest.staging.errors import FAULTS

LOOK_INTO_THE_LOG = "Look into the log of the task: its last lines say what happened and what to do."

OWN = {
    "action-unknown": ("this was not asked for on the page of uploads", "Ask for it there."),
    "batch-unknown": (
        "the ledger does not know the batch",
        "Check that all tasks use the same ledger connection.",
    ),
    "changed-since-verified": (
        "what Tidepool shows is not what was verified",
        "Find out who changed it. To upload it again, run its day with `force`.",
    ),
    "glucose-units-implausible": (
        "the glucose values cannot be in the unit they claim",
        "Look at the device's own display, then let the manifest say which unit it is (`glucoseUnits`).",
    ),
    "lease-held": ("another task is at work on it", "Try again when that one has ended."),
    "lease-lost": ("another task has taken its work over", "Nothing to do: the other task goes on."),
    "in-its-place": ("another batch has been staged in its place", "Nothing to do."),
    "ledger-configuration": ("the ledger cannot be used", "Correct the connection `tidepool_ledger`."),
    "ledger-unavailable": ("the ledger did not answer", "Try again once its database is back."),
    "newer-at-close": (
        "a newer batch of its device is being closed",
        "Nothing to do: the newer one's retry, or the maintenance, brings it to its end.",
    ),
    "not-withdrawable": ("nothing of it could be taken back", "Look where the batch stands now."),
    "older-than-uploaded": (
        "newer batches of its device are verified, and its older values would take their place",
        "If its values are to win, run its day with `allow_older`; if not, take it out of staging.",
    ),
    "params": ("a parameter of the run could not be used", "Correct it and trigger again."),
    "prepared-otherwise": (
        "its work area had been tidied away, and was made anew by other rules than it was uploaded by",
        "Nothing to do. To upload it anew, run its day with `force`.",
    ),
    "rejected": (
        "somebody decided that it is not uploaded",
        "Correct the batch and stage it again, or take it out of staging.",
    ),
    "state-not-allowed": (
        "it would have gone to a state that cannot follow the present one",
        "Run the day again. If it stops here once more, report it as a bug.",
    ),
    "too-many-refused": (
        "more of its records were refused than a run allows",
        "Look at the quarantine; correct the batch and stage it again, or allow a larger share.",
    ),
    "truncate-not-allowed": (
        "its deduplicator deletes whatever else Tidepool has of the device",
        "If that is meant, run its day with `allow_truncate`; if not, name another deduplicator.",
    ),
    "unverifiable": (
        "it shows as many rows as it should, and nothing is left to compare them with",
        "Stage the batch again where it lay and run its day; or undo the upload.",
    ),
    "upload-at-work": ("a task is at work on the person's data", "Try again when it has ended."),
    "pack-stopped": (
        "its task was told to stop",
        "Nothing is lost: run it again; it goes on from the ledger.",
    ),
    "upload-stopped": ("the upload was told to stop", "Try again: it goes on from where it was."),
    "verification": (
        "what Tidepool shows is not what was sent",
        "Try again: this data set is deleted, and the batch goes into a new one.",
    ),
    "withdrawn": (
        "somebody has undone its upload",
        "Nothing to do, unless it is to be uploaded again after all: then run its day with `force`.",
    ),
    "would-double": (
        "uploading it again would show records twice",
        "Run without `force`; to correct it, stage a batch that names it in `replaces`.",
    ),
}
"""What happened and what to do, by the codes of this library's own errors."""


def _of_tidepool() -> dict[str, tuple[str, str]]:
    kinds = [kind for kind in vars(tidepool_errors).values() if isinstance(kind, type)]
    return {
        kind.name: (kind.usual_reason, kind.usual_remedy)
        for kind in kinds
        if issubclass(kind, tidepool_errors.TidepoolError) and kind is not tidepool_errors.TidepoolError
    }


def _of_staging() -> dict[str, tuple[str, str]]:
    return {
        code: (fault.what, f"{fault.remedy[:1].upper()}{fault.remedy[1:]}.") for code, fault in FAULTS.items()
    }


REMEDIES = {**_of_tidepool(), **_of_staging(), **OWN}
"""Every code that can stand in the ledger as the reason of a batch."""


def remedy_of(code: str | None) -> tuple[str, str]:
    """Return what happened and what to do about it, each a sentence's worth.

    :param code: the reason that the ledger keeps, ``None`` if it has none.
    """
    return REMEDIES.get(code or "", ("it stopped", LOOK_INTO_THE_LOG))


TRIED_AGAIN = (
    BatchState.PLANNED,
    BatchState.PREPARED,
    BatchState.UPLOADING,
    BatchState.HELD,
    BatchState.FAILED,
)
"""States from which a run of the batch's day goes on."""

TAKEN_BACK = (BatchState.UPLOADING, BatchState.VERIFIED)

STOPPED = (BatchState.HELD, BatchState.FAILED)
"""States in which a batch that is cut into parts may show some of them all the same."""


def offers(upload: Upload) -> tuple[What, ...]:
    """Return what can be asked for.

    A continuous data set is shared by all batches of its feed: none of them can be taken back, nor told apart
    from what later ones have replaced. A part goes on, and is taken back, with the whole batch.

    :param upload: the batch and its newest data set.
    """
    if upload.data_set_type != "normal":
        return (What.RETRY,) if upload.state in TRIED_AGAIN else ()
    is_part = upload.part_of is not None
    shows = upload.data_set is not None or upload.begun
    offered = {
        What.RETRY: upload.state in TRIED_AGAIN and not is_part,
        What.CHECK: shows and upload.state is BatchState.VERIFIED,
        What.WITHDRAW: (shows and upload.state in TAKEN_BACK and not is_part)
        or (upload.begun and upload.state in STOPPED),
    }
    return tuple(what for what, possible in offered.items() if possible)
