"""``tidepool-ingest validate``: what Tidepool would say about staged data, without sending any."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from upath import UPath

from tidepool_ingest.cli.arguments import CommandError, data_file, given_folder, reading_data_file, table
from tidepool_ingest.cli.reading import add_reading, check_taken, format_of, reading_options
from tidepool_ingest.codes import in_words
from tidepool_ingest.formats import guess_format, read_manifest, recognized_format
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import EMPTY_ELEMENT, Block, ReadingContext
from tidepool_ingest.formats.row_counts import rows_are
from tidepool_ingest.guards.glucose import GlucoseGuard, GlucoseUnitsError
from tidepool_ingest.model import (
    JSON_MALFORMED,
    STAGED_NOT_JSON,
    STAGED_NOT_UTF8,
    STAGED_NUL_IN_NAME,
    STAGED_TIME_NOT_SHOWN,
    Problem,
    Validated,
    masked_pointer,
    type_of,
    validate_lines,
)
from tidepool_ingest.options import RejectionLimit
from tidepool_ingest.prepare.classify import Judgement, RecordClassifier
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.step import checked_data_set
from tidepool_ingest.staged_batch import named
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import MANIFEST_NAME
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN, filesystem, local_path, reading

_MALFORMED = (Problem(JSON_MALFORMED, ""),)

MAX_REASONS = 50
"""Most rows of reasons shown; a record with a long array can have one for each element."""

Reason = tuple[str, str, str]
"""Type of a record, code, and the field it is about."""

SOME_REJECTED = 1
"""Exit code if at least one record is rejected."""


def print_verdicts(blocks: Iterable[Block]) -> int:
    """Print one line per record: ``{"index","accepted","errors":[{"code","pointer"}]}``.

    Pointers are printed in full. A record too large to be held (``staged-too-large``) is the only one that
    gets one of our own codes: the Platform's verdict on it is not known.

    :param blocks: the records in order.
    :return: how many are rejected.
    """
    index = rejected = 0
    for block in blocks:
        lines = []
        for problems in _verdicts(block):
            if problems:
                rejected += 1
                errors = json.dumps([problem._asdict() for problem in problems], separators=(",", ":"))
                lines.append(f'{{"index":{index},"accepted":false,"errors":{errors}}}\n')
            else:
                lines.append(f'{{"index":{index},"accepted":true,"errors":[]}}\n')
            index += 1
        sys.stdout.write("".join(lines))
    return rejected


def _verdicts(block: Block) -> Iterator[tuple[Problem, ...]]:
    for line, validated in zip(block.lines, validate_lines(block.lines), strict=True):
        yield _as_platform(line, validated) if validated.problems else validated.problems
    for row in block.rejected:
        yield _MALFORMED if row.code == EMPTY_ELEMENT else (Problem(row.code, ""),)


def _as_platform(line: bytes, validated: Validated) -> tuple[Problem, ...]:
    """Return the Platform's verdict on a line that may have one of our own codes."""
    codes = {code for code, _pointer in validated.problems}
    if STAGED_NOT_UTF8 in codes:
        # The Platform reads U+FFFD in place of each bad byte.
        replaced = line.decode(errors="replace").encode()
        return _as_platform(replaced, validate_lines([replaced])[0])
    if codes & {STAGED_NUL_IN_NAME, STAGED_TIME_NOT_SHOWN}:
        return ()  # its validators have nothing against it, only its storage
    return _MALFORMED if STAGED_NOT_JSON in codes else validated.problems


class Tally:
    """Counts what becomes of records; none of their values is kept."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.reasons: Counter[Reason] = Counter()
        self.warnings: Counter[Reason] = Counter()
        self.skipped: Counter[str] = Counter()
        self.identical = 0
        self.guard = GlucoseGuard()

    def take(self, blocks: Iterable[Block], checker: RecordChecker) -> None:
        """Validate and count records.

        :param blocks: the records in order, as they would be uploaded.
        :param checker: what is checked beyond the Platform's own verdict.
        """
        with RecordClassifier(checker) as classifier:
            for block in blocks:
                for record in classifier.classify(block.lines):
                    self._count(record, block.warning)
                for row in block.rejected:
                    self._count(Judgement(b"", None, (Problem(row.code, ""),)))
                self.skipped.update(block.skipped)

    def _count(self, record: Judgement, warning: str = "") -> None:
        kind = type_of(record.datum)
        if record.problems or record.datum is None:
            self.rejected[kind] += 1
            self.reasons.update(_reasons(kind, record.problems))
        elif record.identical:
            self.identical += 1
        else:
            self.accepted[kind] += 1
            self.guard.see([record.datum])
            warnings = (*record.warnings, Problem(warning, "")) if warning else record.warnings
            self.warnings.update(_reasons(kind, warnings))

    def show(self, edits: Mapping[str, int] | None = None) -> None:
        """Print the tables and the sum.

        :param edits: records changed as the manifest asks, by field.
        """
        kinds = sorted({*self.accepted, *self.rejected})
        rows = [(kind, self.accepted[kind], self.rejected[kind]) for kind in kinds]
        print(table(("type", "accepted", "rejected"), rows), end="\n\n")
        _show_reasons("rejected for", self.reasons)
        _show_reasons("accepted, but", self.warnings)
        codes = {code for _kind, code, _field in (*self.reasons, *self.warnings)}
        if said := list(in_words({*codes, *self.skipped})):
            print(*said, sep="\n", end="\n\n")
        if edits:
            print(table(("edited field", "records"), sorted(edits.items())), end="\n\n")
        accepted, rejected = self.accepted.total(), self.rejected.total()
        identical = f", {self.identical} identical to another one" if self.identical else ""
        total = accepted + rejected + self.identical
        print(f"{total} records: {accepted} accepted, {rejected} rejected{identical}")
        limit = RejectionLimit()
        if limit.is_exceeded(rejected, staged=total, accepted=accepted):
            print(
                f"More than {limit.percent:g} % are rejected: a run holds such a batch, unless its "
                "max_quarantined_percent allows more."
            )
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
            print(f"{rows_are(self.skipped)} no reading: {reasons}")


def _reasons(kind: str, problems: Iterable[Problem]) -> set[Reason]:
    return {(kind, code, masked_pointer(pointer)) for code, pointer in problems}


def _show_reasons(heading: str, reasons: Counter[Reason]) -> None:
    if not reasons:
        return
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rows = [(*reason, records) for reason, records in ordered[:MAX_REASONS]]
    print(table(("type", heading, "field", "records"), rows))
    if hidden := len(ordered) - len(rows):
        print(f"... and {hidden} more such rows; --verdicts shows all of each record")
    print()


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Validate a data file, or a batch folder as its manifest says: edits are applied, and data set body, "
        "digests and counts are checked, as `prepare` does. Nothing is sent or written, and no value shown. "
        "Exit code 1 if a record is rejected, 2 if the file or the batch itself cannot be used."
    )
    command.add_argument(
        "path",
        help="a data file (.gz and .zst too; - for the standard input) or a batch folder with manifest.json",
    )
    add_reading(command)
    command.add_argument(
        "--verdicts",
        action="store_true",
        help="print the Platform's verdict on each record, in order, one JSON object a line: "
        '{"index","accepted","errors":[{"code","pointer"}]}; pointers hold the names of schedules',
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Validate the path."""
    with data_file(options.path) as path:
        return _validate(path, options)


def _validate(path: UPath, options: argparse.Namespace) -> int:
    if path.name == MANIFEST_NAME:
        path = path.parent
    with reading():
        is_folder = filesystem(path).isdir(path.path)
    if not is_folder:
        with reading_data_file():
            return _validate_file(path, options, verdicts=options.verdicts)
    if options.format:
        raise CommandError("--format is for a data file.", "Leave it out: manifest.json names the formats.")
    if reading_options(options).given or options.meant_as:
        raise CommandError(
            "How a file is to be read can be said of a data file.", "Leave it out: manifest.json says it."
        )
    return _validate_batch(path, verdicts=options.verdicts)


def _validate_file(path: UPath, options: argparse.Namespace, *, verdicts: bool) -> int:
    tally, given = Tally(), reading_options(options)
    # What the Platform says of records is asked of them as they are, even if it looks as if it had made them.
    name = format_of(path, options, guess_format if verdicts else recognized_format)
    check_taken(name, given)
    file = SourceFile(path, name, below_root=GIVEN, options=given)
    with RecordReader([file], context=ReadingContext(meant_as=tuple(options.meant_as))) as reader:
        if verdicts:
            return _exit_code(print_verdicts(reader))
        # What the deduplicator needs, the manifest says; here each record is checked on its own.
        tally.take(reader, RecordChecker())
    tally.show(reader.changes)
    try:
        tally.guard.check("")
    except GlucoseUnitsError as error:
        print(
            f"The glucose values labelled {error.claimed} can hardly be in that unit: a batch of them is "
            "held until --glucose-units of `tidepool-ingest stage` says which unit they are in."
        )
    return _exit_code(tally.rejected.total())


def _validate_batch(path: UPath, *, verdicts: bool) -> int:
    local = local_path(path)
    folder = path if local is None else UPath(local.absolute())
    staged = _staged_at(folder)
    if staged is None:
        folder = given_folder(folder)
    name = named(staged) if staged else "of this folder"
    tally = Tally()
    try:
        manifest = read_manifest(folder, staged.user_id if staged else None)
        checked_data_set(manifest)
        with RecordReader.of(manifest, folder) as reader:
            if verdicts:
                return _exit_code(print_verdicts(reader))
            tally.take(reader, RecordChecker.of(manifest))
    except (BatchError, FileHeldError) as error:
        raise (error.for_batch(name) if staged else error) from None
    tally.show(reader.changes)
    if not (manifest.edits and manifest.edits.glucose_units):
        tally.guard.check(name)
    return _exit_code(tally.rejected.total())


def _staged_at(folder: UPath) -> BatchFolder | None:
    """Return the batch folder if it is where staging has them, else ``None``."""
    day, user = folder.parent.parent, folder.parent
    try:
        return BatchFolder.at(day.parent, f"{day.name}/{user.name}/{folder.name}")
    except BatchError:
        return None


def _exit_code(rejected: int) -> int:
    return SOME_REJECTED if rejected else 0
