"""The guard against older content over newer.

A deduplicator that compares a device's data sets lets the one win that is closed last, whatever is older. So
what was staged on an earlier day than something that is verified already is not closed after it: its values
would hide the newer ones. Batches of one staged day have no order.
"""

from __future__ import annotations

from datetime import date
from functools import partial

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards.held import HeldError
from tidepool_ingest.ledger import BatchRow, DataSetState, Ledger
from tidepool_ingest.model.deduplicators import DEDUPLICATORS, AtClose, Deduplicator

REASON = "older-than-uploaded"

RETRY_SECONDS = 60.0
"""How long a batch waits before it looks again whether a newer one has come to its end."""

HIDEABLE = tuple(one.name for one in DEDUPLICATORS if one.at_close is AtClose.ARCHIVES_EQUAL)
"""Deduplicators whose rows carry the hash by which a later close of the device hides them."""


class OlderThanUploadedError(HeldError):
    """Closing the batch would let older values win over newer ones.

    :param batch: the batch's label.
    :param newer: how many verified batches are newer.
    :param newest: staged day of the newest of them.
    """

    def __init__(self, batch: str, newer: int, newest: date) -> None:
        super().__init__(
            f"Batch {batch} is held: newer batches of its device are verified ({newer}, the newest staged on "
            f"{newest}), and its older values would take the place of theirs.",
            remedy="If its values are to win, run it alone with the parameter `allow_older`; if not, take "
            "it out of staging. Nothing of it is left open.",
            code=REASON,
        )
        self.batch = batch
        self.newer = newer
        self.newest = newest


class NewerAtCloseError(IngestError):
    """A newer batch of the device was left at its close: whether it shows already has to be found out first.

    :param batch: the batch's label.
    """

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} waits: a newer batch of its device was left at its close, and may show already.",
            remedy="Nothing to do: the newer one's own retry, or the maintenance DAG, brings it to its end.",
            code="newer-at-close",
        )
        self.retry_after = RETRY_SECONDS


def compares_days(deduplicator: Deduplicator) -> bool:
    """Tell whether only batches that have records on one day can touch each other.

    Equal rows lie on one day; what deletes everything of the device does not ask for days.
    """
    return deduplicator.at_close is not AtClose.DELETES_ALL


def check_order(ledger: Ledger, batch: BatchRow, deduplicator: Deduplicator) -> None:
    """Hold a batch that is older than what is verified of its device.

    :param ledger: knows the batches of the device and the days of their records.
    :param batch: the batch, prepared.
    :param deduplicator: its data set's.
    :raises OlderThanUploadedError: naming numbers and days only.
    :raises NewerAtCloseError: whether a newer one shows already is not known yet.
    """
    if deduplicator.at_close is AtClose.NOTHING:
        return
    days = compares_days(deduplicator)
    newer = partial(ledger.devices.newer, batch, sharing_days=days, deduplicators=HIDEABLE if days else None)
    if verified := newer([DataSetState.VERIFIED]):
        raise OlderThanUploadedError(batch.label, len(verified), max(verified.values()))
    if newer([DataSetState.CLOSING, DataSetState.CLOSED]):
        raise NewerAtCloseError(batch.label)
