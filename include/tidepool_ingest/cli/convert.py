"""``tidepool-ingest convert``: the records that a file's rows stand for, as NDJSON."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

from tidepool_ingest.cli import FAILED, USAGE_ERROR, code_of, print_error
from tidepool_ingest.cli.arguments import CommandError, given_folder, reading_data_file
from tidepool_ingest.cli.given import WHAT_A_FOLDER_IS, Given, about, files_only, given
from tidepool_ingest.cli.progress import Progress
from tidepool_ingest.cli.reading import add_reading, check_files, check_taken, format_of, reading_options
from tidepool_ingest.cli.terminal import printable
from tidepool_ingest.codes import PAGE
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import FORMATS, PlainFiles, SourceReader, read_manifest, recognized_format
from tidepool_ingest.formats.reader import Block, ReadingContext
from tidepool_ingest.formats.row_counts import RowCounts
from tidepool_ingest.model.glucose_levels import GlucoseHistogram, readings_of
from tidepool_ingest.staging.source_file import SourceFile, given_files

if TYPE_CHECKING:
    from tidepool_ingest.prepare.reading import RecordReader

COPY_BYTES = 1024 * 1024
"""Bytes of records copied to standard output at a time."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Write the records that the rows of data files stand for to standard output, one JSON object a line, "
        "as a run would read them, edits of a batch included. Rows that are rejected, and rows that are no "
        "reading, are counted on standard error. If a run would hold the batch or could not read a file, "
        f"nothing is on standard output. {WHAT_A_FOLDER_IS} Batches have to be of one person."
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="PATH",
        help="a data file (.gz and .zst too; - for the standard input), a pipe or a folder; their records "
        "come one after the other",
    )
    command.add_argument(
        "--json",
        action="store_true",
        help="write the numbers as JSON, to standard error (docs/convert.schema.json)",
    )
    add_reading(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert the files."""
    things = given(options.files)
    check_files(things, options)
    if any(one.is_batch for one in things) and not all(one.is_batch for one in things):
        files_only(things, "Batches and data files are given together.", "Convert them by two commands.")
    done: list[tuple[str, RowCounts]] = []
    # Only the last row may show that nothing is to be written.
    with tempfile.TemporaryFile(prefix="tidepool-convert-") as spool:
        try:
            with Progress(things) as progress:
                if things[0].is_batch:
                    done += _convert_batches(things, spool, progress)
                else:
                    done.append(("", _convert_files(things, options, spool, progress)))
        except IngestError as error:
            if not options.json or code_of(error) == USAGE_ERROR:
                raise
            print_error(error)
            _write_json(things, [], error)
            return FAILED
        if options.json:
            _write_json(things, done)
        else:
            _tell(done)
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout.buffer, COPY_BYTES)
    return 0


def _tell(done: Sequence[tuple[str, RowCounts]]) -> None:
    """Say on standard error which rows gave no record."""
    for typed, counts in done:
        for line in counts.described():
            print(f"{printable(typed)}: {line}" if len(done) > 1 else line, file=sys.stderr)
    if any(counts.rejected or counts.skipped for _, counts in done):
        print(f"{PAGE} explains each code and reason.", file=sys.stderr)


def _convert_files(
    things: Sequence[Given], options: argparse.Namespace, spool: IO[bytes], progress: Progress
) -> RowCounts:
    """Write the records of some files, read together as those of a batch are."""
    said, found = reading_options(options), []
    with ExitStack() as stack:
        for at, one in enumerate(things):
            progress.at(at)
            with about(one.typed), reading_data_file():
                path = stack.enter_context(one.file())
                name = format_of(path, options, recognized_format)
                check_taken(name, said)
                found.append((path, name))
        files = given_files(found, said)
        names = [printable(one.typed) for one in things]
        try:
            with (
                reading_data_file(),
                _reader(files, ReadingContext(meant_as=tuple(options.meant_as))) as reader,
            ):
                counts = RowCounts(several=len(files) > 1, names=names)
                _write(_watched(reader, progress), counts, spool, PlainFiles(files))
                return counts
        except IngestError as error:
            number: int | None = getattr(error, "file_number", None)
            error.typed = things[number - 1].typed if number else ", ".join(one.typed for one in things)
            raise


def _watched(blocks: Iterable[Block], progress: Progress) -> Iterator[Block]:
    for block in blocks:
        progress.at((block.file_number or 1) - 1)
        yield block


def _convert_batches(
    things: Sequence[Given], spool: IO[bytes], progress: Progress
) -> Iterator[tuple[str, RowCounts]]:
    """Write the records of batches one after the other, as their manifests say."""
    # A batch may edit its records; what does that takes longer to load than many a file.
    from tidepool_ingest.prepare.reading import RecordReader

    manifests = []
    for one in things:
        with about(one.typed, one.path):
            manifests.append(read_manifest(given_folder(one.path), None))
    if len({manifest.user_id for manifest in manifests}) > 1:
        raise CommandError(
            "These are batches of several people, whose records would be mixed.",
            "Convert those of one person at a time.",
        )
    for number, (one, manifest) in enumerate(zip(things, manifests, strict=True)):
        progress.at(number)
        names = [file.name for file in manifest.files]
        counts = RowCounts(several=len(names) > 1, names=names)
        with about(one.typed, one.path), RecordReader.of(manifest, given_folder(one.path)) as reader:
            is_checked = not (manifest.edits and manifest.edits.glucose_units)
            _write(reader, counts, spool, PlainFiles(()), is_checked=is_checked)
        yield one.typed, counts


def _write(
    blocks: Iterable[Block],
    counts: RowCounts,
    spool: IO[bytes],
    plain: PlainFiles,
    *,
    is_checked: bool = True,
) -> None:
    """Write records, and count what became of their rows.

    :param is_checked: whether the unit of glucose values is looked at.
    """
    levels = GlucoseHistogram()
    for block in blocks:
        counts.add(block)
        plain.see(block)
        levels.add(readings_of(block.lines))
        if block.lines:
            spool.write(b"\n".join(block.lines) + b"\n")
    plain.check()
    if is_checked and (found := levels.implausible()):
        # Loaded only here, for it comes with all that guards ask the ledger.
        from tidepool_ingest.guards.glucose import GlucoseUnitsError

        raise GlucoseUnitsError("of this file", *found)


def _reader(files: Sequence[SourceFile], context: ReadingContext) -> SourceReader | RecordReader:
    """Return what reads the files as a run does."""
    if all(FORMATS[file.format].has_own_rows for file in files):
        return SourceReader(files, context)
    # Other formats ask what Tidepool accepts; what answers them takes longer to load than many a file.
    from tidepool_ingest.prepare.reading import RecordReader

    return RecordReader(files, context=context)


def _write_json(
    things: Sequence[Given], done: Sequence[tuple[str, RowCounts]], error: IngestError | None = None
) -> None:
    # Loaded only here: nothing else needs a schema.
    from tidepool_ingest.cli.summaries import Conversion, refusal, write_json
    from tidepool_ingest.inspection.findings import ReasonFound

    left_out: Counter[str] = Counter()
    rejections = []
    for typed, counts in done:
        left_out.update(counts.skipped)
        before = f"{typed}, " if len(done) > 1 else ""
        rejections += [
            ReasonFound(code=code, count=count, places=tuple(before + at for at in counts.places_of(code)))
            for code, count in sorted(counts.rejected.items())
        ]
    conversion = Conversion(
        files=tuple(one.typed for one in things),
        records=sum(counts.records for _, counts in done),
        rows=sum(counts.rows for _, counts in done),
        rejections=tuple(rejections),
        left_out=dict(sorted(left_out.items())),
        error=refusal(error) if error else None,
    )
    write_json(conversion, sys.stderr)
