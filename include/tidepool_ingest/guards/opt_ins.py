"""What a run has to confirm, because the deduplicator would double data or delete them."""

from __future__ import annotations

from tidepool_ingest.guards.held import HeldError
from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model.deduplicators import AtClose, Deduplicator


class TruncateError(HeldError):
    """The batch's deduplicator deletes all else of the device, and the run does not allow that.

    :param batch: the batch's label.
    """

    def __init__(self, batch: str) -> None:
        super().__init__(
            f"Batch {batch} is held: its deduplicator deletes for good whatever else Tidepool has of this "
            "device, also what other programs have uploaded. Nothing was opened.",
            remedy="If that is meant, run it with the parameter `allow_truncate`; if not, name another "
            "deduplicator in its manifest, or none for the usual one.",
            code="truncate-not-allowed",
        )
        self.batch = batch


class DoublingError(HeldError):
    """Uploading the batch again would show its records twice, and the run does not allow that.

    :param batch: the batch's label.
    :param records: how many of its records would be there twice; ``None`` for all of them.
    """

    def __init__(self, batch: str, records: int | None = None) -> None:
        what = (
            "its deduplicator hides nothing of an older upload, so that every record"
            if records is None
            else f"{records} of its records are of another device than the data set, so that each of them"
        )
        super().__init__(
            f"Batch {batch} is held: it is verified already, and {what} would be there twice if it were "
            "uploaded again. Nothing was opened.",
            remedy="Run without `force`. To correct it, stage a batch that names it in `replaces`; if twice "
            "is meant, add the parameter `allow_doubling`.",
            code="would-double",
        )
        self.batch = batch
        self.records = records


def check_truncate(batch: BatchRow, deduplicator: Deduplicator) -> None:
    """Hold a batch whose data set would delete all else of its device.

    :raises TruncateError: always, under such a deduplicator.
    """
    if deduplicator.at_close is AtClose.DELETES_ALL:
        raise TruncateError(batch.label)


def check_doubling(batch: BatchRow, deduplicator: Deduplicator, *, of_other_devices: int) -> None:
    """Hold a verified batch that is to be uploaded again and would then show twice.

    :param batch: the batch; it is verified in a data set that stays.
    :param deduplicator: its data set's.
    :param of_other_devices: accepted records with another device id than the data set's, which a
        deduplicator that goes by the device does not hide.
    :raises DoublingError: if records would be there twice.
    """
    if deduplicator.at_close is AtClose.NOTHING:
        raise DoublingError(batch.label)
    if deduplicator.at_close is AtClose.ARCHIVES_EQUAL and of_other_devices:
        raise DoublingError(batch.label, of_other_devices)
