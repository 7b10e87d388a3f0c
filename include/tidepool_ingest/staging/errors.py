"""What can be wrong with a whole batch: one code, one sentence and one remedy each."""

from __future__ import annotations

from typing import NamedTuple

from tidepool_ingest.errors import Disposition, IngestError


class Fault(NamedTuple):
    """One way in which a batch cannot be taken.

    :param what: what happened, as the first half of a sentence.
    :param remedy: what a person does about it.
    :param retriable: whether trying again unchanged can help.
    """

    what: str
    remedy: str
    retriable: bool = False


_RESTAGE_FILE = "stage the file again, complete, and write the manifest last"

FAULTS: dict[str, Fault] = {
    # the batch folder
    "batch-folder": Fault(
        "the folder is not <root>/<YYYY-MM-DD>/<user id>/<batch id>",
        "move the batch into such a folder; the user id is 10 hex digits or a UUID, as Tidepool gave it",
    ),
    "batch-changed": Fault(
        "the batch is not the one that was planned: its manifest or a file has changed since",
        "run again, so that it is planned as it lies there now",
    ),
    "connection-not-allowed": Fault(
        "manifest.json names a connection that this deployment does not allow",
        "correct `connection`, or add it to TIDEPOOL_ALLOWED_CONNECTIONS",
    ),
    "data-set-body": Fault(
        "Tidepool would refuse the dataSet of manifest.json",
        "correct these fields in manifest.json and run again",
    ),
    "deduplicator": Fault(
        "manifest.json names a deduplicator that Tidepool does not know or that cannot work for this set",
        "name one of docs/staging.md, or leave it out for the usual one of this type of data set",
    ),
    "feed-replaces": Fault(
        "manifest.json names a batch to replace, and is for a continuous data set",
        "take out `replaces`: records replace those of the same origin, and `deletes` deletes",
    ),
    "deletion-time": Fault(
        "a time under deletes in manifest.json is not a time",
        "write it as in records, for example 2026-03-05T07:30:00Z, or leave it out",
    ),
    "device-id-required": Fault(
        "the deduplicator needs a deviceId in the dataSet of manifest.json, which has none",
        "add the device's id, the same in every upload of that device",
    ),
    "batch-id-repeated": Fault(
        "two batches of this user carry one batch id",
        "give one of the two folders another name",
    ),
    "replaces-itself": Fault(
        "manifest.json names its own batch as the one it replaces",
        "stage the corrected data as a batch of another id",
    ),
    "replaces-unknown": Fault(
        "manifest.json names a batch to replace of which nothing is known for this user at this Tidepool",
        "correct `replaces`, or leave it out if that batch was never uploaded",
    ),
    "replaces-other-device": Fault(
        "manifest.json names a batch to replace that is of another device",
        "correct `replaces`, or the deviceId of the dataSet",
    ),
    "replaces-ambiguous": Fault(
        "manifest.json names a batch to replace, and its folder has held several that are verified",
        "delete the wrong data set by hand, and leave `replaces` out",
    ),
    "replaces-not-verified": Fault(
        "manifest.json names a batch to replace that is not verified in Tidepool",
        "let that batch be verified first; if it is not to be uploaded at all, take it out of staging and "
        "leave `replaces` out",
    ),
    # the manifest
    "manifest-missing": Fault(
        "the batch has no manifest.json", "write manifest.json last, when all files are in place"
    ),
    "manifest-malformed": Fault(
        "manifest.json cannot be read", "correct it (README, staging format) and run again"
    ),
    "manifest-user": Fault(
        "manifest.json names another user than the folder",
        "find out whose data these are, then correct userId or move the batch to that user's folder",
    ),
    "file-name": Fault(
        "a file name in manifest.json is not a plain name inside the batch folder",
        "name each file once, without '/', '\\', '..' or control characters, and not manifest.json",
    ),
    # a file of the batch
    "file-missing": Fault(
        "a file named in manifest.json is not there", "add the file, or take it out of manifest.json"
    ),
    "file-empty": Fault("a file holds no record", "stage the file again, or take it out of manifest.json"),
    "file-sha256": Fault("a file differs from the sha256 in manifest.json", _RESTAGE_FILE),
    "file-records": Fault("a file holds another number of records than manifest.json says", _RESTAGE_FILE),
    "file-truncated": Fault("a file ends in the middle", _RESTAGE_FILE),
    "file-damaged": Fault("a compressed file is damaged", _RESTAGE_FILE),
    "file-compression": Fault(
        "a file's name does not show its compression",
        "let the name end in .gz or .zst exactly when the file is compressed so",
    ),
    "file-bomb": Fault(
        "a compressed file expands beyond what device data can",
        "look into the file; if it is genuine, split it or stage it uncompressed",
    ),
    "file-encoding": Fault("a file is not UTF-8 text", "write it as UTF-8 and stage it again"),
    "file-not-array": Fault(
        "a file of format json does not hold one JSON array",
        "put the records into one array, or name the format ndjson if there is one record a line",
    ),
    "file-not-quarantine": Fault(
        "a line of a quarantine file holds no record",
        "let each line keep its `record`, corrected; take out the lines that are not to be staged again",
    ),
    "file-broken": Fault(
        "the JSON array of a file is broken, so that the borders of its records are not certain",
        "correct the array at this position and stage the file again",
    ),
    # turning a data file into batches
    "stage-no-device": Fault(
        "a record has no deviceId and no deviceId was given for such records",
        "give the deviceId that these records belong to",
    ),
    "stage-too-many-devices": Fault(
        "the file holds more deviceIds than one file can",
        "look into the file: its deviceId seems to differ from record to record",
    ),
    "stage-record-too-large": Fault(
        "a record is larger than can be sent to Tidepool", "take the record out of the file"
    ),
    "stage-exists": Fault("a batch of this id lies there already", "give another batch id, or leave it out"),
    "stage-arguments": Fault("the batch cannot be described", "correct the argument and run again"),
    # storage and the work area
    "staging-unreachable": Fault(
        "the storage of this path cannot be accessed",
        "check the path's URL and connection, and that the storage's fsspec package is installed",
    ),
    "staging-unreadable": Fault(
        "staging storage cannot be read", "try again; if it stays, check the storage", True
    ),
    "staging-unwritable": Fault(
        "staging storage cannot be written", "try again; if it stays, check the storage", True
    ),
    "work-area-sealed": Fault(
        "the work area of this batch, or a file of one, is sealed and cannot be opened",
        "set TIDEPOOL_WORK_KEYS to the key that it was written with, beside newer ones; if that key is lost, "
        "remove the work area, so that the batch is prepared again from staging",
    ),
    "work-keys": Fault(
        "TIDEPOOL_WORK_KEYS holds something that is not a Fernet key",
        "give keys of 32 bytes in URL-safe base64, the newest first, with commas between",
    ),
    "parts-differ": Fault(
        "its work area is gone, and what it would be cut into now is not what Tidepool holds parts of",
        "undo its upload on the uploads page, then run its day with `force`",
    ),
    "work-area-damaged": Fault(
        "the work area of this batch is missing or damaged", "prepare the batch again"
    ),
}
"""Every code of :class:`BatchError`."""


class BatchError(IngestError):
    """A batch cannot be taken; other batches are not touched by it.

    The message is built from these parts and holds no name, id or value from the batch.

    :param code: a key of ``FAULTS``.
    :param file_number: which file, counting from 1 in the manifest's order.
    :param position: which record of the file, counting from 0.
    :param detail: what exactly, in words of this project only.
    :param batch: what stands for the batch: its day and short hash.
    """

    def __init__(
        self,
        code: str,
        *,
        file_number: int | None = None,
        position: int | None = None,
        detail: str | None = None,
        batch: str | None = None,
    ) -> None:
        fault = FAULTS[code]
        self.file_number = file_number
        self.position = position
        self.detail = detail
        self.batch = batch
        self.disposition = Disposition.RETRIABLE if fault.retriable else Disposition.DATA
        what = f"{fault.what}: {detail}" if detail else fault.what
        remedy = f"{fault.remedy[:1].upper()}{fault.remedy[1:]}."
        super().__init__(f"{self._place()}{what} [{code}].", remedy=remedy, code=code)

    def for_batch(self, batch: str) -> BatchError:
        """Return the same error naming its batch.

        :param batch: what stands for the batch.
        """
        return BatchError(
            self.code, file_number=self.file_number, position=self.position, detail=self.detail, batch=batch
        )

    def _place(self) -> str:
        where = [
            f"batch {self.batch}" if self.batch else "",
            f"file {self.file_number}" if self.file_number is not None else "",
            f"record {self.position} (counting from 0)" if self.position is not None else "",
        ]
        place = ", ".join(part for part in where if part)
        return f"{place}: " if place else ""
