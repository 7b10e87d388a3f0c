"""What can go wrong with the ledger itself."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, IngestError


class LedgerConfigurationError(IngestError):
    """The ledger's address, or what it needs to keep a secret, is not usable."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy=remedy, code="ledger-configuration")


class LedgerUnavailableError(IngestError):
    """The ledger's database does not answer, or stays locked by somebody else.

    :param cause: the class name of the driver's error; its text may quote what was written.
    """

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"The ledger's database does not answer ({cause}).",
            remedy="Nothing is lost: the attempt goes on from the ledger once the database is back. "
            "Check the connection `tidepool_ledger`.",
            code="ledger-unavailable",
        )


class UnknownBatchError(IngestError):
    """The ledger has no batch of that number: it was made with another ledger, or was erased."""

    def __init__(self, batch: int) -> None:
        super().__init__(
            f"The ledger has no batch {batch}.",
            remedy="Check that all tasks use the same ledger connection, and clear the task `plan` of this "
            "run as well, so that the batch is found and noted again.",
            code="batch-unknown",
        )
        self.batch = batch


class UnknownActionError(IngestError):
    """The ledger has no note of that number of what somebody asked for."""

    def __init__(self, action: int) -> None:
        super().__init__(
            f"The ledger knows nothing of an action {action}.",
            remedy="Ask for it on the page of uploads, which notes it first.",
            code="action-unknown",
        )


class LeaseHeldError(IngestError):
    """Somebody else is at work on the same batch or device.

    :param name: the lease's name: a kind and a short hash.
    :param seconds: how long until it can be taken over at the latest, unless its holder renews it.
    """

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(
            f"Another task is at work on {name}.",
            remedy="Nothing to do: this task tries again. If the other one has died, its claim ends within "
            f"{seconds:.0f} s.",
            code="lease-held",
        )
        self.name = name
        self.retry_after = seconds


class LeaseLostError(IngestError):
    """The task was silent for too long, and another one has taken its work over."""

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, name: str) -> None:
        super().__init__(
            f"This task's claim on {name} has ended, and another task may have taken it over.",
            remedy="Nothing to do: the other task goes on from the ledger, or this one when it tries again.",
            code="lease-lost",
        )
        self.name = name
