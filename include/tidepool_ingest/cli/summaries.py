"""What ``--json`` of the commands writes: the models behind ``docs/<command>.schema.json``.

They hold no values, but names of files and folders as they were typed: they go to whoever asked.
"""

from __future__ import annotations

import json
import sys
from datetime import date
from typing import IO, Any, Final

import msgspec

from tidepool_ingest.errors import IngestError
from tidepool_ingest.inspection.findings import (
    SCHEMA_VERSION,
    DescribedModel,
    Hold,
    Inspections,
    ReasonFound,
)

Counted = dict[str, int]


class TypeCount(DescribedModel, frozen=True, kw_only=True):
    """Records of one type.

    :param type: Tidepool's type, or `unreadable` and the like of what has none.
    :param accepted: how many would be taken.
    :param rejected: how many would not.
    """

    type: str
    accepted: int
    rejected: int


class Validated(DescribedModel, frozen=True, kw_only=True):
    """A file or a batch that was validated.

    :param name: as it was typed; of what is in a folder that was typed, with its path in it.
    :param is_batch: whether it is the folder of a batch.
    :param error: why it cannot be taken at all; then nothing is counted.
    :param records: how many records there are, rows that cannot be read among them.
    :param accepted: how many would be taken.
    :param rejected: how many would not.
    :param identical: how many are equal to another one.
    :param types: records by type.
    :param rejections: why records are not taken, and where the first few are.
    :param warnings: what is reported about records that are taken.
    :param left_out: rows that are no reading, by reason.
    :param edits: records that were changed as was asked for, by field.
    :param holds: for what a run would hold it, though it can be read.
    """

    name: str
    is_batch: bool
    error: Hold | None = None
    records: int = 0
    accepted: int = 0
    rejected: int = 0
    identical: int = 0
    types: tuple[TypeCount, ...] = ()
    rejections: tuple[ReasonFound, ...] = ()
    warnings: tuple[ReasonFound, ...] = ()
    left_out: Counted = msgspec.field(default_factory=dict)
    edits: Counted = msgspec.field(default_factory=dict)
    holds: tuple[Hold, ...] = ()


class Validations(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest validate --json`` writes.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param validated: one for each file or batch.
    """

    version: int = SCHEMA_VERSION
    validated: tuple[Validated, ...]


class Conversion(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest convert --json`` writes to standard error, beside the records.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param files: the files and batches, as they were typed.
    :param records: how many records were written.
    :param rows: how many rows were read.
    :param rejections: why no record can be read from some rows, and where the first few are.
    :param left_out: rows that are no reading, by reason.
    :param error: why nothing was written.
    """

    version: int = SCHEMA_VERSION
    files: tuple[str, ...]
    records: int = 0
    rows: int = 0
    rejections: tuple[ReasonFound, ...] = ()
    left_out: Counted = msgspec.field(default_factory=dict)
    error: Hold | None = None


class StagedSummary(DescribedModel, frozen=True, kw_only=True):
    """A batch with what was given of one device.

    :param folder: the batch.
    :param is_new: whether it was made now; otherwise, the same content was staged already.
    :param names: the files that it was made of, as they were typed.
    :param format: the format of the files in it.
    :param rows: how many rows or records it has.
    :param feed: client name of the feed that it is for; `null` for a normal data set.
    :param serial: what distinguishes the device's rows in the files; empty where they know of one.
    :param rejections: why no record can be read from some rows, and where the first few are.
    :param left_out: rows that are no reading, by reason.
    """

    folder: str
    is_new: bool
    names: tuple[str, ...]
    format: str
    rows: int
    feed: str | None = None
    serial: str = ""
    rejections: tuple[ReasonFound, ...] = ()
    left_out: Counted = msgspec.field(default_factory=dict)


class NotStaged(DescribedModel, frozen=True, kw_only=True):
    """What was not staged.

    :param names: the files, as they were typed.
    :param error: why not.
    """

    names: tuple[str, ...]
    error: Hold


class Stagings(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest stage --json`` writes.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param root: the staging root, as it was typed.
    :param is_new_root: whether the staging root was made now.
    :param batches: the batches.
    :param not_staged: what was refused.
    """

    version: int = SCHEMA_VERSION
    root: str
    is_new_root: bool = False
    batches: tuple[StagedSummary, ...]
    not_staged: tuple[NotStaged, ...] = ()


class BatchOutcome(DescribedModel, frozen=True, kw_only=True):
    """One batch of a run. It names no person and no folder, but the batch's label holds a short hash of both.

    :param label: day, device model and short hash, as logs and the uploads page name it.
    :param day: the day folder it lies in.
    :param data_set_type: ``normal`` or ``continuous``.
    :param state: as the ledger has it, such as ``verified``, ``held`` or ``failed``.
    :param reason: the code of what it waits for or stopped of; docs/errors.md explains each.
    :param staged: records found in its files.
    :param accepted: records that Tidepool stores.
    :param quarantined: rejected records.
    :param identical: duplicates of accepted records.
    :param data_set_ids: Tidepool's ids of its data sets: several if it was split into parts.
    :param visible_rows: rows that Tidepool shows.
    """

    label: str
    day: date
    data_set_type: str
    state: str
    reason: str | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    data_set_ids: tuple[str, ...]
    visible_rows: int


class RunOutcome(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest upload --json`` writes: what a run came to.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param window: the days that it looked into.
    :param done: ready batches in them that were done before.
    :param declined: those that somebody has declined.
    :param left: those that it left to another run: too many for one, or with the content of another one.
    :param days_outside: days outside the window in which ready batches wait.
    :param batches: the batches that it took, oldest first.
    :param not_done: how many of them are not where they should be.
    :param causes: what these stopped of, how many they are and what to do, in words.
    :param dry_run: of a dry run, what would be sent and rejected, and how that compares with Tidepool.
    :param stopped_by: the code of an error that ended the run early; ``interrupted`` for a signal.
    """

    version: int = SCHEMA_VERSION
    window: str
    done: int
    declined: int
    left: int
    days_outside: tuple[date, ...]
    batches: tuple[BatchOutcome, ...]
    not_done: int
    causes: tuple[str, ...]
    dry_run: dict[str, Any] | None = None
    stopped_by: str | None = None


class PeopleFound(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest people --json`` writes: user ids, and nothing else of a person.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param api_host: the Tidepool that was asked.
    :param account: the account's own user id, for which it may always upload.
    :param granted: ids of the users who have granted the account uploading.
    :param staged: ids of the users with ready batches in the staging root; ``null`` if none was named.
    :param missing: those of them who are neither the account itself nor have granted it uploading.
    """

    version: int = SCHEMA_VERSION
    api_host: str
    account: str
    granted: tuple[str, ...]
    staged: tuple[str, ...] | None = None
    missing: tuple[str, ...] = ()


SUMMARIES: Final[dict[str, type[DescribedModel]]] = {
    "inspect": Inspections,
    "validate": Validations,
    "convert": Conversion,
    "stage": Stagings,
    "upload": RunOutcome,
    "people": PeopleFound,
}
"""What each command writes with ``--json``."""


def write_json(summary: DescribedModel, stream: IO[str] | None = None) -> None:
    """Write a summary, in ASCII: for any encoding, and for names that are no text.

    :param summary: what is written.
    :param stream: where to; standard output if left out.
    """
    # There and back, so that each number is of the kind that the schema says.
    exact = msgspec.convert(msgspec.to_builtins(summary), type(summary))
    print(json.dumps(msgspec.to_builtins(exact), indent=2), file=stream or sys.stdout)


def refusal(error: IngestError) -> Hold:
    """Return why something was refused.

    :param error: what it was refused with.
    """
    return Hold(code=error.code, what=error.what, remedy=error.remedy, detail=error.particulars)
