"""The states of batches, data sets and chunks in the ledger, and the allowed transitions.

The tables are checked in the transaction that writes a state. docs/architecture.md draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from tidepool_ingest.errors import IngestError


class BatchState(StrEnum):
    """The state of one staged batch, for one API host."""

    PLANNED = "planned"
    """A run has found it ready."""
    PREPARED = "prepared"
    """Its work area holds the accepted records, the quarantine and the chunk plan."""
    UPLOADING = "uploading"
    """A data set of it exists at Tidepool that is not verified yet."""
    VERIFIED = "verified"
    """What is visible in Tidepool is exactly its accepted records, each once."""
    NOTHING_ACCEPTED = "nothing-accepted"
    """Every record went to quarantine, within the share that the run allowed: nothing was opened."""
    HELD = "held"
    """A guard stopped it before anything remote; it waits for a correction of the batch."""
    FAILED = "failed"
    """The last attempt ended with an error, which ``reason`` names."""
    REPLACED = "replaced"
    """Another batch that names it has taken its place; its own data sets are deleted, or about to be."""
    WITHDRAWN = "withdrawn"
    """A person withdrew it: its data sets are deleted, or about to be; of a feed, its records, which another
    batch retracts. Only ``force`` uploads it again."""
    OVERWRITTEN = "overwritten"
    """Its folder once held this content and holds other content now; no data set was opened for it."""
    GONE = "gone"
    """Its folder is not in staging any more, and Tidepool holds nothing of it."""

    @property
    def is_done(self) -> bool:
        """Whether nothing remains to be done for it by a later run."""
        return self in (
            BatchState.VERIFIED,
            BatchState.NOTHING_ACCEPTED,
            BatchState.REPLACED,
            BatchState.WITHDRAWN,
        )


class Purged(StrEnum):
    """What was purged of a batch's work area because it is no longer needed."""

    ACCEPTED = "accepted"
    """The accepted records and their plan; rejected records wait for a person."""
    ALL = "all"


SUPERSEDED_STATES = (BatchState.REPLACED, BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch whose place another one has taken, or nothing: it is not uploaded again."""

TERMINAL_STATES = (BatchState.VERIFIED, BatchState.NOTHING_ACCEPTED)
"""States of a part of which nothing remains to be uploaded."""

WAITING_STATES = (
    BatchState.PLANNED,
    BatchState.PREPARED,
    BatchState.UPLOADING,
    BatchState.HELD,
    BatchState.FAILED,
)
"""States of a batch of which something may remain to be uploaded."""

DECLINED = "declined"
"""The reason of a held batch that a person has declined."""


class Dismissal(StrEnum):
    """Why a person has dismissed a batch that needs attention: nothing more is to be done about it."""

    NOT_WANTED = "not-wanted"
    """Its records are not to be in Tidepool."""
    NOT_CORRECTED = "not-corrected"
    """It cannot or will not be corrected."""
    STAGED_BY_MISTAKE = "by-mistake"
    """It should not have been staged."""
    BROUGHT_ANOTHER_WAY = "brought-another-way"
    """Its records have reached Tidepool another way."""
    TEST = "test"
    """It is of a test."""


class Decidable:
    """What the ledger knows of a batch that a person may have declined or dismissed."""

    reason: str | None
    dismissed: Dismissal | None

    @property
    def is_decided(self) -> bool:
        """Whether a person has declined or dismissed it: only a run that names it takes it."""
        return self.dismissed is not None or self.reason == DECLINED


class DataSetState(StrEnum):
    """The state of one data set. Each *…ing* is an intent, written before the request is sent."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    VERIFIED = "verified"
    DELETING = "deleting"
    DELETED = "deleted"
    NOT_CREATED = "not-created"
    """Tidepool did not create it, or does not know the id that we chose: there is none."""
    UNREACHABLE = "unreachable"
    """The response to its creation was lost. It holds no data, and no Tidepool endpoint can find it."""
    ABANDONED = "abandoned"
    """In a feed, whose data set stays: the batch was cut into other chunks and continues in another row, or
    another one has retracted it."""

    @classmethod
    def unfinished(cls) -> tuple[DataSetState, ...]:
        """Return the states of a data set that still has to be finished."""
        return cls.OPEN, cls.CLOSING, cls.CLOSED, cls.DELETING

    @property
    def may_hold_data(self) -> bool:
        """Whether Tidepool may hold records in it."""
        return self not in (DataSetState.OPENING, *DEAD_STATES)


DEAD_STATES = (DataSetState.DELETED, DataSetState.NOT_CREATED, DataSetState.UNREACHABLE)
"""States of a data set that can never hold data again: the batch needs another one."""


class ChunkState(StrEnum):
    """The state of one chunk of a data set."""

    SENDING = "sending"
    """It is about to be sent, or the response was lost: in doubt until reconciled."""
    STORED = "stored"
    """Tidepool confirmed that it holds the chunk."""


class IllegalTransitionError(IngestError):
    """A state was about to be written that cannot follow the present one: a bug, or a concurrent change.

    :param kind: what has the state, for example ``batch``.
    :param before: the present state.
    :param after: the one that was about to be written.
    """

    code = "state-not-allowed"
    sentence = "it would have gone to a state that cannot follow the present one"
    remedy = (
        "Run the day again: it starts from what the ledger holds now. If it stops here once more, report it "
        "as a bug."
    )

    def __init__(self, kind: str, before: str, after: str) -> None:
        self.particulars = f"a {kind} that is {before} cannot become {after}"
        super().__init__(f"A{self.particulars[1:]}. Nothing was written.")
        self.before = before
        self.after = after


_PREPARE_OUTCOMES = {
    BatchState.PREPARED,
    BatchState.NOTHING_ACCEPTED,
    BatchState.HELD,
    BatchState.FAILED,
}
"""The outcomes of ``prepare`` for a batch of which Tidepool holds nothing, whatever its state before."""

_ANY_TIME = _PREPARE_OUTCOMES | {BatchState.UPLOADING, BatchState.REPLACED}
"""What can follow every state in which no other batch has taken its place."""

_ONCE_STARTED = _ANY_TIME | {BatchState.VERIFIED, BatchState.WITHDRAWN}
"""What can follow where Tidepool may hold something of a batch or its parts, or may be about to."""

_NOT_IN_STAGING = {BatchState.OVERWRITTEN, BatchState.GONE}
"""What can follow where Tidepool holds nothing, once the staged folder holds something else or is removed."""

_AFTER: Final = {
    BatchState.PLANNED: _ANY_TIME | _NOT_IN_STAGING,
    BatchState.PREPARED: _ONCE_STARTED | _NOT_IN_STAGING,
    BatchState.UPLOADING: _ONCE_STARTED,
    BatchState.VERIFIED: _ONCE_STARTED,
    BatchState.NOTHING_ACCEPTED: _ANY_TIME,
    BatchState.HELD: _ONCE_STARTED | _NOT_IN_STAGING,
    BatchState.FAILED: _ONCE_STARTED | _NOT_IN_STAGING,
    BatchState.REPLACED: set(),
    BatchState.WITHDRAWN: _ANY_TIME | {BatchState.VERIFIED},
    BatchState.OVERWRITTEN: {BatchState.PLANNED},
    BatchState.GONE: {BatchState.PLANNED},
}

ALLOWED_OF_BATCHES: Final[Mapping[BatchState, frozenset[BatchState]]] = {
    before: frozenset(following - {before}) for before, following in _AFTER.items()
}
"""Which states may follow each state of a batch. The same one may be written again, for another reason.

Most steps can be repeated, so that many states can follow: a run with ``force`` prepares and uploads what was
finished, and ``prepare``, which holds no lease, may coincide with a run that is further on. A batch whose
place another one has taken, or whose folder was removed, does not come back: never if another one replaces
it, otherwise not until its content is in staging once more.
"""

ALLOWED_OF_PARTS: Final[Mapping[BatchState, frozenset[BatchState]]] = {
    **{before: following - {BatchState.GONE} for before, following in ALLOWED_OF_BATCHES.items()},
    BatchState.UPLOADING: ALLOWED_OF_BATCHES[BatchState.UPLOADING] | {BatchState.OVERWRITTEN},
    BatchState.NOTHING_ACCEPTED: ALLOWED_OF_BATCHES[BatchState.NOTHING_ACCEPTED]
    | {BatchState.WITHDRAWN, BatchState.OVERWRITTEN},
    BatchState.WITHDRAWN: ALLOWED_OF_BATCHES[BatchState.WITHDRAWN] | {BatchState.OVERWRITTEN},
    BatchState.OVERWRITTEN: frozenset({BatchState.PREPARED}),
    BatchState.GONE: frozenset(),
}
"""The same for a part, which begins as prepared. It follows its whole batch, or gives way to a new split.

Those of a batch that is gone are overwritten.
"""

ALLOWED_OF_DATA_SETS: Final[Mapping[DataSetState, frozenset[DataSetState]]] = {
    DataSetState.OPENING: frozenset(
        {DataSetState.OPEN, DataSetState.NOT_CREATED, DataSetState.UNREACHABLE, DataSetState.DELETING}
    ),
    DataSetState.OPEN: frozenset({DataSetState.CLOSING, DataSetState.DELETING}),
    # The intents may be written again: the request is then sent again.
    DataSetState.CLOSING: frozenset({DataSetState.CLOSING, DataSetState.CLOSED, DataSetState.DELETING}),
    DataSetState.CLOSED: frozenset({DataSetState.VERIFIED, DataSetState.DELETING}),
    DataSetState.VERIFIED: frozenset({DataSetState.DELETING}),
    DataSetState.DELETING: frozenset({DataSetState.DELETING, DataSetState.DELETED}),
    DataSetState.DELETED: frozenset(),
    DataSetState.NOT_CREATED: frozenset(),
    DataSetState.UNREACHABLE: frozenset(),
    DataSetState.ABANDONED: frozenset(),
}
"""Which states may follow each state of a normal data set."""

ALLOWED_OF_FEEDS: Final[Mapping[DataSetState, frozenset[DataSetState]]] = {
    **dict.fromkeys(DataSetState, frozenset()),
    DataSetState.OPEN: frozenset({DataSetState.VERIFIED, DataSetState.ABANDONED}),
    DataSetState.VERIFIED: frozenset({DataSetState.ABANDONED}),
}
"""The same for a batch's share in a continuous data set, which is never closed and never deleted."""


def check_batch_state(before: BatchState, after: BatchState, *, is_part: bool) -> None:
    """Make sure that a batch may go from one state to another.

    :param before: the present state, locked against other writers.
    :param after: the state that is about to be written.
    :param is_part: whether it is a part of a batch.
    :raises IllegalTransitionError: it may not.
    """
    allowed = ALLOWED_OF_PARTS if is_part else ALLOWED_OF_BATCHES
    if after is not before and after not in allowed[before]:
        raise IllegalTransitionError("part of a batch" if is_part else "batch", before, after)


def check_data_set_state(before: DataSetState, after: DataSetState, data_set_type: str) -> None:
    """Make sure that a data set may go from one state to another.

    :param before: the present state, locked against other writers.
    :param after: the state that is about to be written.
    :param data_set_type: ``normal`` or ``continuous``.
    :raises IllegalTransitionError: it may not.
    """
    allowed = ALLOWED_OF_DATA_SETS if data_set_type == "normal" else ALLOWED_OF_FEEDS
    if after not in allowed[before]:
        raise IllegalTransitionError(f"{data_set_type} data set", before, after)
