"""What can be wrong with a whole batch: one code, one sentence and one remedy each."""

from __future__ import annotations

from tidepool_ingest.errors import Disposition, Fault, IngestError, of_file, run_with

_RESTAGE_FILE = "Stage the file again, complete, and write the manifest last."

FAULTS: dict[str, Fault] = {
    # the batch folder
    "batch-folder": Fault(
        "the folder is not <root>/<YYYY-MM-DD>/<user id>/<batch id>",
        "Move the batch into such a folder; the user id is 10 hex digits or a UUID, as Tidepool gave it.",
    ),
    "batch-changed": Fault(
        "the batch is not the one that was planned: its manifest or a file has changed since",
        "Run again, so that it is planned as it is now.",
    ),
    "connection-not-allowed": Fault(
        "the manifest, or the DAG that planned it, names a connection that this DAG is not allowed",
        "Correct `connection`, or add it to TIDEPOOL_ALLOWED_CONNECTIONS or to the DAG's `allowed_conn_ids`.",
    ),
    "data-set-body": Fault(
        "Tidepool would reject the dataSet of manifest.json",
        "Correct these fields in manifest.json and run again.",
    ),
    "mark-too-large": Fault(
        "the client.private of manifest.json leaves no room for the mark by which a later run recognizes the "
        "data set",
        "Shorten it: Tidepool takes 4,096 bytes, of which the mark needs about 150, and 40 more where the "
        "files of the batch are converted.",
    ),
    "deduplicator": Fault(
        "the manifest names a deduplicator that Tidepool does not know or that cannot work for this set",
        "Name one of docs/staging.md, or leave it out for the usual one of this type of data set.",
    ),
    "feed-replaces": Fault(
        "the manifest names a batch to replace, and is for a continuous data set",
        "Remove `replaces`: records replace those of the same origin, `deletes` deletes some, and `retracts` "
        "all of a batch.",
    ),
    "retracts-unknown": Fault(
        "the manifest names a batch to retract that is not known as another one of a feed of this user at "
        "this Tidepool",
        "Correct `retracts`. If the ledger is new, run the day of that batch first. One of a normal data set "
        "is withdrawn on the uploads page.",
    ),
    "retracts-not-uploaded": Fault(
        "the manifest names a batch to retract of which nothing was uploaded",
        "Remove both from staging, so that no run uploads it.",
    ),
    "retracts-ambiguous": Fault(
        "the manifest names a batch to retract, and its folder has held several contents that were uploaded",
        "Name the records under `deletes` instead.",
    ),
    "retracts-other-feed": Fault(
        "the manifest names a batch to retract that is in the continuous data set of another feed",
        "Give its dataSet the client name of that batch, and stage it as a batch of that feed.",
    ),
    "retracts-later": Fault(
        "the manifest names a batch to retract that comes after this one in the order of its feed, so that "
        "this one's records would give way to those that are deleted",
        "Stage it in a later day folder, or with a later `stagedAt`.",
    ),
    "retracts-not-in-staging": Fault(
        "the batch to retract cannot be read from staging as it was uploaded, and its work area is gone, so "
        "that its records are not known",
        "Put its folder back as it was and run again, or name the records under `deletes` instead.",
    ),
    "deletion-time": Fault(
        "a time under deletes in manifest.json is not a time",
        "Write it as in records, for example 2026-03-05T07:30:00Z, or leave it out.",
    ),
    "device-id-required": Fault(
        "the deduplicator needs a deviceId in the dataSet of manifest.json, which has none",
        "Add the device's id, the same in every upload of that device.",
    ),
    "batch-id-repeated": Fault(
        "two batches of this user have the same batch id",
        "Give one of the two folders another name.",
    ),
    "replaces-itself": Fault(
        "the manifest names its own batch as the one it replaces",
        "Stage the corrected data as a batch with another id.",
    ),
    "replaces-unknown": Fault(
        "the manifest names a batch to replace that is not known for this user at this Tidepool",
        "Correct `replaces`, or leave it out if that batch was never uploaded.",
    ),
    "replaces-other-device": Fault(
        "the manifest names a batch to replace that is of another device",
        "Correct `replaces`, or the deviceId of the dataSet.",
    ),
    "replaces-continuous": Fault(
        "the manifest names a batch to replace that is in a continuous data set, where nothing is deleted",
        "Stage the corrected records as a batch of the feed: a record with the same origin id takes the "
        "place of the older one.",
    ),
    "replaces-ambiguous": Fault(
        "the manifest names a batch to replace, and its folder has held several that are verified",
        "Delete the wrong data set by hand, and leave `replaces` out.",
    ),
    "replaces-not-verified": Fault(
        "the manifest names a batch to replace that is not verified in Tidepool",
        "Let that batch be verified first; if it is not to be uploaded at all, remove it from staging and "
        "leave `replaces` out.",
    ),
    # the manifest
    "manifest-missing": Fault(
        "the batch has no manifest.json", "Write manifest.json last, when all files are in place."
    ),
    "manifest-malformed": Fault(
        "the manifest cannot be read", "Correct it (README, staging format) and run again."
    ),
    "manifest-user": Fault(
        "the manifest names another user than the folder",
        "Find out whose data these are, then correct userId or move the batch to that user's folder.",
    ),
    "file-name": Fault(
        "a file name in manifest.json is not a plain name inside the batch folder",
        "Name each file once, without '/', '\\', '..' or control characters, and not manifest.json.",
    ),
    # a file of the batch
    "file-not-regular": Fault(
        "a link, named pipe, socket or device is where a file or folder of a batch or its work area belongs, "
        "and was not opened",
        "Find out who put it there. Put a file or folder in its place, or remove it if it is in `_work`, and "
        "run again. Only the staging root itself may be reached through links; a hard link is a file.",
    ),
    "file-not-permitted": Fault(
        "the account of this process may not read a file or folder of a batch or its work area",
        "Let the account that the workers run as read it, and run again.",
    ),
    "file-missing": Fault(
        "a file named in manifest.json is missing", "Add the file, or remove it from manifest.json."
    ),
    "file-empty": Fault(
        "a file contains no records", "Stage the file again, or remove it from manifest.json."
    ),
    "file-sha256": Fault("a file differs from the sha256 in manifest.json", _RESTAGE_FILE),
    "file-records": Fault("a file does not contain as many records as manifest.json says", _RESTAGE_FILE),
    "export-cut-off": Fault(
        "Tidepool has cut an export off: it says in it that not all data could be retrieved",
        "Export fewer days at a time, and stage those files. To upload what is there nevertheless, take the "
        "row with `exportError` out.",
    ),
    "file-truncated": Fault("a file ends in the middle", _RESTAGE_FILE),
    "file-damaged": Fault("a compressed file is damaged", _RESTAGE_FILE),
    "file-compression": Fault(
        "a file's name does not show its compression",
        "End the name in .gz or .zst if, and only if, the file is compressed that way.",
    ),
    "file-bomb": Fault(
        "a compressed file expands beyond what device data can",
        "Inspect the file; if it is genuine, split it or stage it uncompressed.",
    ),
    "file-encoding": Fault(
        "a file is not UTF-8 text",
        "Write it as UTF-8 and stage it again. Of a table, its mapping can say what it is written in: "
        "`csv.encoding`.",
    ),
    "file-not-records": Fault(
        "a file holds no records",
        "Stage its records instead: one JSON object a line, or one array of them. Of a table, say what its "
        "columns mean: `--format table --mapping FILE`, or `table` of the file in manifest.json.",
    ),
    "file-other-format": Fault(
        "a file is not of the format that it is said to be",
        "Name its own format; `tidepool-ingest stage` finds it out if none is named.",
    ),
    "file-several-devices": Fault(
        "a file holds the data of several devices, and a batch is one device's",
        "Let `tidepool-ingest stage` make a batch for each, without `--device-id`, or name one of them as "
        "`serial` of the file (`--serial`).",
        mends=of_file("serial", "--serial", "NUMBER", is_example=True),
    ),
    "file-too-many-events": Fault(
        "a batch has more treatments and profiles than can be read together",
        "Take fewer days out of the site at a time, and stage a batch for each. Let them overlap by a day, "
        "and let each have all profiles.",
    ),
    "timezone-missing": Fault(
        "the times in a file are local, and nothing says of which time zone",
        "Give the IANA name of the zone that the device's clock was set to, as `timezone` of the file or of "
        "the dataSet (`--timezone`).",
        mends=of_file("timezone", "--timezone", "Europe/London", is_example=True),
    ),
    "table-mapping": Fault(
        "the mapping of a table cannot be used",
        "Correct it at this place; docs/formats.md (Tables) has every key. It is `table` of the file in the "
        "manifest, or the JSON file that this names (`--mapping`).",
    ),
    "table-header": Fault(
        "the row with the names of a table's columns cannot be read",
        "Correct the file, or say as `csv.headerRow` of the mapping which line has the names.",
    ),
    "table-column": Fault(
        "a column that the mapping of a table names is not to be found by the names in its header",
        "Write the name as the header has it. If the header is not the first line, or cells are told apart "
        "by another sign, say so in the mapping: `csv.headerRow`, `csv.delimiter`.",
    ),
    "table-library": Fault(
        "what reads such a file is not installed",
        "Install this extra where the command or the task runs; the image has it. Or save the table as CSV.",
    ),
    "table-sheet": Fault(
        "it is not certain which sheet of a workbook is the table",
        "Name it as `sheet` of the mapping. A hidden sheet is not read: show it, and save the workbook.",
    ),
    "table-times": Fault(
        "no time in a table is written as its mapping says",
        "Correct `time` of the mapping: its column, and its format. Times of day without a date cannot be "
        "uploaded.",
    ),
    "file-not-array": Fault(
        "a file of format json does not hold one JSON array",
        "Put the records into one array, or name the format ndjson if there is one record a line.",
    ),
    "file-not-quarantine": Fault(
        "a line of a quarantine file contains no record",
        "Let each line keep its `record`, corrected; remove the lines that are not to be staged again.",
    ),
    "file-broken": Fault(
        "the JSON array of a file is broken, so that it is not certain where its records begin",
        "Correct the array at this position and stage the file again.",
    ),
    # turning a data file into batches
    "stage-no-device": Fault(
        "a record has no deviceId and no deviceId was given for such records",
        "Give the deviceId that these records belong to (`--device-id`).",
    ),
    "stage-device-id": Fault(
        "a deviceId in the file cannot be that of a data set",
        "Correct it in the file, or give all records of the file the same one with `--set 'deviceId=\"…\"'`.",
    ),
    "stage-too-many-devices": Fault(
        "the file contains more deviceIds than one file may",
        "Inspect the file: its deviceId seems to differ from record to record.",
    ),
    "stage-record-too-large": Fault(
        "a record is larger than can be sent to Tidepool", "Remove the record from the file."
    ),
    "stage-exists": Fault("a batch with this id already exists", "Give another batch id, or leave it out."),
    "stage-like-export": Fault(
        "the other batch holds an export as its vendor wrote it, and not records that could be staged alone",
        "Correct the rows in the export itself, and stage it again whole, without `--like`: its quarantine "
        "file names their lines.",
    ),
    "stage-people-held": Fault(
        "what the table has of some people cannot be staged as it is, so that nothing of it was",
        "The command has listed them, each with its reason. Do what that says for all of them, or leave "
        "those out of `--users` and stage them by themselves.",
    ),
    "stage-users": Fault(
        "the file that says who is who at Tidepool cannot be used",
        "Write it as CSV: the names of two columns, and below them the id in the table and the Tidepool user "
        "of each person, once.",
    ),
    "stage-arguments": Fault("the batch cannot be described", "Correct the argument and run again."),
    # storage and the work area
    "staging-root-address": Fault(
        "the staging root is neither a path nor the address of a storage",
        "Correct TIDEPOOL_STAGING_ROOT, or the run parameter `staging_root`: a path, or an address such as "
        "s3://connection@bucket/folder, whose storage has its Airflow provider installed.",
    ),
    "staging-root-missing": Fault(
        "the staging root is not there, or is no folder",
        "Mount or create the folder, or the bucket, that TIDEPOOL_STAGING_ROOT, the run parameter "
        "`staging_root` or `--root` names, or correct its name. An empty one is fine.",
    ),
    "staging-unreachable": Fault(
        "the storage of this path cannot be accessed",
        "Check the path's URL and connection, and that the storage's fsspec package is installed.",
    ),
    "staging-unreadable": Fault(
        "staging storage cannot be read", "Try again; if this persists, check the storage.", True
    ),
    "staging-unwritable": Fault(
        "staging storage cannot be written", "Try again; if this persists, check the storage.", True
    ),
    "work-area-sealed": Fault(
        "the work area of this batch, or a file of one, is encrypted and cannot be decrypted",
        "Add the key that it was written with to TIDEPOOL_WORK_KEYS, after newer ones; if that key is lost, "
        "remove the work area, so that the batch is prepared again from staging.",
    ),
    "work-keys": Fault(
        "TIDEPOOL_WORK_KEYS holds something that is not a Fernet key",
        "Give keys of 32 bytes in URL-safe base64, the newest first, separated by commas.",
    ),
    "parts-differ": Fault(
        "its work area, or the ledger that knew of it, is gone, and it would now be cut into other parts "
        "than Tidepool holds",
        "Undo its upload on the uploads page, then run its day with `force`.",
        mends=run_with("force"),
    ),
    "work-area-damaged": Fault(
        "the work area of this batch is missing or damaged",
        "Nothing to do: the next try rebuilds it from staging. If this persists, check the storage.",
        True,
    ),
}
"""Every code of :class:`BatchError`."""


class BatchError(IngestError):
    """A batch cannot be accepted; other batches are not affected.

    The message is built from these parts and contains no name, id or value from the batch.

    :param code: a key of ``faults``.
    :param file_number: which file, counting from 1 in the manifest's order.
    :param position: which record of the file, counting from 0.
    :param detail: what exactly, in words of this project only.
    :param batch: what stands for the batch: its day and short hash.
    """

    faults = FAULTS

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
        places = [
            f"file {file_number}" if file_number is not None else "",
            f"record {position} (counting from 0)" if position is not None else "",
        ]
        place = ", ".join(part for part in places if part)
        self.particulars = ": ".join(part for part in (place, detail) if part)
        what = f"{fault.sentence}: {detail}" if detail else fault.sentence
        where = ", ".join(part for part in (f"batch {batch}" if batch else "", place) if part)
        super().__init__(f"{f'{where}: ' if where else ''}{what} [{code}].", remedy=fault.remedy, code=code)

    def for_batch(self, batch: str) -> BatchError:
        """Return the same error naming its batch.

        :param batch: what stands for the batch.
        """
        return BatchError(
            self.code, file_number=self.file_number, position=self.position, detail=self.detail, batch=batch
        )
