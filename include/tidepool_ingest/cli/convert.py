"""``tidepool-ingest convert``: the records that a file's rows stand for, as NDJSON."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING

from upath import UPath

from tidepool_ingest.cli.arguments import check_standard_input, data_file, reading_data_file
from tidepool_ingest.cli.reading import WRONG_USE, add_reading, check_taken, format_of, reading_options
from tidepool_ingest.codes import PAGE
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import FORMATS, PlainFiles, SourceReader, recognized_format
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.formats.row_counts import RowCounts
from tidepool_ingest.model.glucose_levels import GlucoseHistogram, readings_of
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile, given_files

if TYPE_CHECKING:
    from tidepool_ingest.prepare.reading import RecordReader

HELD = 1
"""Exit code if a run would hold such a batch or cannot read a file; nothing is on standard output then."""

COPY_BYTES = 1024 * 1024
"""Bytes of records copied to standard output at a time."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Write the records that the rows of data files stand for to standard output, one JSON object a line, "
        "as a run would read them. Rows that are rejected, and rows that are no reading, are counted on "
        "standard error. Exit code 1, and nothing on standard output, if a run would hold the batch or "
        "could not read a file; 2 if the command cannot be carried out."
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="a data file (.gz and .zst too; - for the standard input)"
    )
    add_reading(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert the files."""
    given = reading_options(options)
    check_standard_input(options.files)
    with ExitStack() as stack:
        paths = [stack.enter_context(data_file(text)) for text in options.files]
        # Only the last row may show that nothing is to be written.
        spool = stack.enter_context(tempfile.TemporaryFile(prefix="tidepool-convert-"))
        try:
            with reading_data_file():
                files = _files(paths, options, given)
                counts = _convert(files, ReadingContext(meant_as=tuple(options.meant_as)), spool)
        except IngestError as error:
            if error.code in WRONG_USE:
                raise
            print(f"tidepool-ingest: {error}", file=sys.stderr)
            return HELD
        for line in counts.described():
            print(line, file=sys.stderr)
        if counts.rejected or counts.skipped:
            print(f"{PAGE} explains each code and reason.", file=sys.stderr)
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout.buffer, COPY_BYTES)
    return 0


def _files(paths: Sequence[UPath], options: argparse.Namespace, given: FileOptions) -> list[SourceFile]:
    found = []
    for path in paths:
        name = format_of(path, options, recognized_format)
        check_taken(name, given)
        found.append((path, name))
    return given_files(found, given)


def _convert(files: Sequence[SourceFile], context: ReadingContext, spool: IO[bytes]) -> RowCounts:
    """Write the records of some files, and return what became of their rows."""
    counts, levels, plain = RowCounts(several=len(files) > 1), GlucoseHistogram(), PlainFiles(files)
    with _reader(files, context) as reader:
        for block in reader:
            counts.add(block)
            plain.see(block)
            levels.add(readings_of(block.lines))
            if block.lines:
                spool.write(b"\n".join(block.lines) + b"\n")
    plain.check()
    if found := levels.implausible():
        # Loaded only here, for it comes with all that guards ask the ledger.
        from tidepool_ingest.guards.glucose import GlucoseUnitsError

        raise GlucoseUnitsError("of this file", *found)
    return counts


def _reader(files: Sequence[SourceFile], context: ReadingContext) -> SourceReader | RecordReader:
    """Return what reads the files as a run does."""
    if all(FORMATS[file.format].has_own_rows for file in files):
        return SourceReader(files, context)
    # Other formats ask what Tidepool accepts; what answers them takes longer to load than many a file.
    from tidepool_ingest.prepare.reading import RecordReader

    return RecordReader(files, context=context)
