"""``tidepool-ingest validate``: what Tidepool would say of staged data, without sending any."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from upath import UPath

from tidepool_ingest.cli.arguments import place
from tidepool_ingest.cli.data_file import reading_data_file
from tidepool_ingest.cli.errors import CommandError
from tidepool_ingest.cli.tally import Tally
from tidepool_ingest.cli.verdicts import print_verdicts
from tidepool_ingest.prepare.checks import checked_data_set
from tidepool_ingest.prepare.editing import Editing
from tidepool_ingest.prepare.glucose_guard import GlucoseUnitsError
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staged_batch import named
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.block import Block
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import (
    MANIFEST_NAME,
    TIDEPOOL_EXPORT,
    DataFormat,
    Manifest,
    read_manifest,
)
from tidepool_ingest.staging.records import FileReader, open_file
from tidepool_ingest.staging.stage import guess_format
from tidepool_ingest.staging.storage import filesystem, local_path, reading

REFUSED = 1
"""Exit code when at least one record is refused."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Validate a data file, or a batch folder as its manifest asks for: edits are applied, data set body, "
        "digests and counts are checked, as `prepare` does. Nothing is sent or written, and no value shown. "
        "Exit code 1 when a record is refused, 2 when the file or the batch itself cannot be taken."
    )
    command.add_argument("path", help="a data file (.gz and .zst too) or a batch folder with manifest.json")
    command.add_argument(
        "--format", choices=get_args(DataFormat), help="how the records lie in the data file (default: seen)"
    )
    command.add_argument(
        "--verdicts",
        action="store_true",
        help="print the Platform's verdict on each record, in order, one JSON object a line: "
        '{"index","accepted","errors":[{"code","pointer"}]}; pointers hold the names of schedules',
    )
    command.set_defaults(run=run)


@dataclass(frozen=True)
class _Batch:
    """A batch folder whose manifest has been read.

    :param folder: where it lies.
    :param manifest: its manifest.
    :param editing: makes the changes that it asks for.
    """

    folder: UPath
    manifest: Manifest
    editing: Editing

    def blocks(self) -> Iterator[Block]:
        """Yield the records of all files, edited, and check each file against the manifest."""
        for number, file in enumerate(self.manifest.files, 1):
            reader = open_file(self.folder, file, number)
            for block in reader:
                yield replace(block, lines=self.editing.lines(block, file.format))
            reader.check(file)


def run(options: argparse.Namespace) -> int:
    """Validate the path."""
    path = place(options.path)
    if path.name == MANIFEST_NAME:
        path = path.parent
    with reading():
        is_folder = filesystem(path).isdir(path.path)
    if not is_folder:
        with reading_data_file():
            return _validate_file(path, options.format, verdicts=options.verdicts)
    if options.format:
        raise CommandError("--format is for a data file.", "Leave it out: manifest.json names the formats.")
    return _validate_batch(path, verdicts=options.verdicts)


def _validate_file(path: UPath, file_format: DataFormat | None, *, verdicts: bool) -> int:
    seen_format = file_format or guess_format(path)
    opened = partial(FileReader, path, seen_format)
    tally = Tally()
    with Editing(exported=[opened] if seen_format == TIDEPOOL_EXPORT else ()) as editing:
        blocks = (replace(block, lines=editing.lines(block, seen_format)) for block in opened())
        if verdicts:
            return _exit_code(print_verdicts(blocks))
        # What the deduplicator needs is the manifest's matter; here each record is looked at by itself.
        tally.take(blocks, RecordChecker())
    tally.show(editing.changes)
    try:
        tally.guard.check("")
    except GlucoseUnitsError as error:
        print(
            f"The glucose values labelled {error.claimed} can hardly be in that unit: a batch of them is "
            "held until --glucose-units of `tidepool-ingest stage` says which unit they are in."
        )
    return _exit_code(tally.refused.total())


def _validate_batch(path: UPath, *, verdicts: bool) -> int:
    local = local_path(path)
    folder = path if local is None else UPath(local.absolute())
    staged = _staged_at(folder)
    name = named(staged) if staged else "of this folder"
    tally = Tally()
    try:
        manifest = read_manifest(folder, staged.user_id if staged else None)
        checked_data_set(manifest)
        with Editing.of(manifest, folder) as editing:
            batch = _Batch(folder, manifest, editing)
            if verdicts:
                return _exit_code(print_verdicts(batch.blocks()))
            tally.take(batch.blocks(), RecordChecker.of(manifest))
    except BatchError as error:
        raise (error.for_batch(name) if staged else error) from None
    tally.show(editing.changes)
    if not (manifest.edits and manifest.edits.glucose_units):
        tally.guard.check(name)
    return _exit_code(tally.refused.total())


def _staged_at(folder: UPath) -> BatchFolder | None:
    """Return the batch folder if it lies where staging has them, ``None`` for one that lies elsewhere."""
    day, user = folder.parent.parent, folder.parent
    try:
        return BatchFolder.at(day.parent, f"{day.name}/{user.name}/{folder.name}")
    except BatchError:
        return None


def _exit_code(refused: int) -> int:
    return REFUSED if refused else 0
