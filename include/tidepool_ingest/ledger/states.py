"""The states that a batch, a data set and a chunk pass through in the ledger."""

from __future__ import annotations

from enum import StrEnum


class BatchState(StrEnum):
    """Where one staged batch stands, for one API host."""

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
    CORRECTED = "corrected"
    """Another batch that names it shows in its place; its own data sets are deleted, or about to be."""
    WITHDRAWN = "withdrawn"
    """A person took it back: its data sets are deleted, or about to be. Only ``force`` uploads it again."""
    REPLACED = "replaced"
    """Its folder held this content once, and holds another now; nothing of it was opened."""

    @property
    def is_done(self) -> bool:
        """Tell whether a later run has nothing left to do for it."""
        return self in (
            BatchState.VERIFIED,
            BatchState.NOTHING_ACCEPTED,
            BatchState.CORRECTED,
            BatchState.WITHDRAWN,
        )


class Tidied(StrEnum):
    """What was taken out of a batch's work area because nobody needs it any more."""

    ACCEPTED = "accepted"
    """The accepted records and their plan; refused records wait for a person."""
    ALL = "all"


IN_ITS_PLACE = (BatchState.CORRECTED, BatchState.REPLACED)
"""States of a batch in whose place another one shows, or is about to: it is not uploaded again."""

ENDED = (BatchState.VERIFIED, BatchState.NOTHING_ACCEPTED)
"""States of a part of which nothing is left to upload."""

REJECTED = "rejected"
"""Why a batch is held that a person does not want to be uploaded as it is."""


class DataSetState(StrEnum):
    """Where one data set stands. Each *…ing* is an intent, written before the request is sent."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    VERIFIED = "verified"
    DELETING = "deleting"
    DELETED = "deleted"
    REFUSED = "refused"
    """Tidepool said no to its creation, or does not know the id that we chose: there is none."""
    UNREACHABLE = "unreachable"
    """The answer to its creation was lost. It holds no data, and no route of Tidepool can find it."""
    LEFT = "left"
    """In a feed, whose data set stands: the batch was cut into other chunks and has begun another row."""

    @classmethod
    def unfinished(cls) -> tuple[DataSetState, ...]:
        """Return the states of a data set that somebody still has to bring to an end."""
        return cls.OPEN, cls.CLOSING, cls.CLOSED, cls.DELETING

    @property
    def may_hold_data(self) -> bool:
        """Tell whether Tidepool may hold records in it."""
        return self not in (DataSetState.OPENING, *GIVEN_UP)


GIVEN_UP = (DataSetState.DELETED, DataSetState.REFUSED, DataSetState.UNREACHABLE)
"""States of a data set that can never hold data again: the batch needs another one."""


class ChunkState(StrEnum):
    """Where one chunk of a data set stands."""

    SENDING = "sending"
    """It is about to be sent, or its answer was lost: in doubt until reconciled."""
    STORED = "stored"
    """Tidepool answered that it holds the chunk."""
