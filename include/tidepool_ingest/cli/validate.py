"""``tidepool-ingest validate``: what Tidepool would say about staged data, without sending any."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from tidepool_ingest.cli import FAILED, USAGE_ERROR, code_of, print_error
from tidepool_ingest.cli.arguments import CommandError, reading_data_file, table
from tidepool_ingest.cli.device import add_device, add_edits, says_device, says_edits
from tidepool_ingest.cli.given import WHAT_A_FOLDER_IS, Given, about, files_only, given
from tidepool_ingest.cli.progress import Progress
from tidepool_ingest.cli.reading import add_reading, check_files, check_taken, format_of, said_of_reading
from tidepool_ingest.cli.terminal import printable
from tidepool_ingest.codes import in_words
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import guess_format, recognized_format
from tidepool_ingest.formats.reader import EMPTY_ELEMENT, Block, ReadingContext, RejectedRow, Row
from tidepool_ingest.formats.row_counts import place_of, rows_are
from tidepool_ingest.guards.glucose import GlucoseGuard, GlucoseUnitsError
from tidepool_ingest.model import (
    JSON_MALFORMED,
    STAGED_NOT_JSON,
    STAGED_NOT_UTF8,
    STAGED_NUL_IN_NAME,
    STAGED_TIME_NOT_SHOWN,
    Problem,
    Validated,
    readings_of,
    type_of,
    validate_lines,
)
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.prepare.classify import JudgedBlock, Judgement, RecordClassifier
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.reasons import Reason, Reasons
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

if TYPE_CHECKING:
    from tidepool_ingest.cli.summaries import Validations
    from tidepool_ingest.staging.manifest import Manifest

_TYPE: Final = attrgetter("type")
_MALFORMED = (Problem(JSON_MALFORMED, ""),)

MAX_REASONS = 50
"""Most rows of reasons shown; a record with a long array can have one for each element."""


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
    """Counts what becomes of records; none of their values is kept.

    :param several: whether there are several files, so that a place names its own.
    """

    def __init__(self, *, several: bool = False) -> None:
        self.accepted: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.reasons, self.warnings = Reasons(), Reasons()
        self.skipped: Counter[str] = Counter()
        self.edits: dict[str, int] = {}
        self.identical = 0
        self.guard = GlucoseGuard()
        self.hold: GlucoseUnitsError | None = None
        """For what a run would hold it, though its records can be read."""
        self.is_batch = False
        """Whether it is a batch, or described as one: then what holds it refuses it."""
        self._several = several

    @property
    def records(self) -> int:
        """How many records there are."""
        return self.accepted.total() + self.rejected.total() + self.identical

    @property
    def kinds(self) -> list[str]:
        """The types of the records."""
        return sorted({*self.accepted, *self.rejected})

    @property
    def exceeds(self) -> bool:
        """Whether so many are rejected that a run holds the batch."""
        limit = RejectionLimit()
        return limit.is_exceeded(self.rejected.total(), staged=self.records, accepted=self.accepted.total())

    def take(self, blocks: Iterable[Block], checker: RecordChecker) -> None:
        """Validate and count records.

        :param blocks: the records in order, as they would be uploaded.
        :param checker: what is checked beyond the Platform's own verdict.
        """
        with RecordClassifier(checker) as classifier:
            for block in blocks:
                with collector_paused():
                    judged = classifier.classify(block.lines)
                if block.warning:
                    for index, record in enumerate(judged):
                        self._count(record, block, index)
                else:
                    self._count_usual(judged)
                    for index in sorted(judged.exceptions):
                        self._count(judged.exceptions[index], block, index)
                for row in block.rejected:
                    kind = type_of(None)
                    self.rejected[kind] += 1
                    self.reasons.add(kind, (Problem(row.code, ""),), self._place(block, row))
                self.skipped.update(block.skipped)

    def _count_usual(self, judged: JudgedBlock) -> None:
        """Count the records about which there is no more to say, all at once."""
        records = judged.usual()
        self.accepted.update(map(_TYPE, records))
        self.guard.add(readings_of(records))

    def _count(self, record: Judgement, block: Block, index: int) -> None:
        kind = type_of(record.datum)
        if record.problems or record.datum is None:
            self.rejected[kind] += 1
            self.reasons.add(kind, record.problems, self._place(block, block.row(index)))
        elif record.identical:
            self.identical += 1
        else:
            self.accepted[kind] += 1
            self.guard.see([record.datum])
            if block.warning or record.warnings:
                own = (Problem(block.warning, ""),) if block.warning else ()
                warnings = (*record.warnings, *own)
                self.warnings.add(kind, warnings, self._place(block, block.row(index)))

    def _place(self, block: Block, row: Row | RejectedRow) -> str:
        return place_of(block, row, several=self._several)

    def show(self) -> None:
        """Print the tables and the sum."""
        rows = [(kind, self.accepted[kind], self.rejected[kind]) for kind in self.kinds]
        print(table(("type", "accepted", "rejected"), rows), end="\n\n")
        _show_reasons("rejected for", self.reasons)
        _show_reasons("accepted, but", self.warnings)
        codes = {reason.code for reason in (*self.reasons.found(), *self.warnings.found())}
        if said := list(in_words({*codes, *self.skipped})):
            print(*said, sep="\n", end="\n\n")
        if self.edits:
            print(table(("edited field", "records"), sorted(self.edits.items())), end="\n\n")
        identical = f", {self.identical} identical to another one" if self.identical else ""
        accepted, rejected = self.accepted.total(), self.rejected.total()
        print(f"{self.records} records: {accepted} accepted, {rejected} rejected{identical}")
        if self.exceeds:
            print(
                f"More than {RejectionLimit().percent:g} % are rejected: a run holds such a batch, unless "
                "its max_quarantined_percent allows more."
            )
        if self.skipped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
            print(f"{rows_are(self.skipped)} no reading: {reasons}")


def _show_reasons(heading: str, reasons: Reasons) -> None:
    if not reasons:
        return
    found = reasons.found()
    rows = [
        (one.type, one.code, one.field, one.count, _places_of(one))
        for one in sorted(found, key=lambda one: (-one.count, one.type, one.code, one.field))[:MAX_REASONS]
    ]
    print(table(("type", heading, "field", "records", "where"), rows))
    if hidden := len(found) - len(rows):
        print(f"... and {hidden} more such rows; --verdicts shows all of each record")
    print()


def _places_of(reason: Reason) -> str:
    more = [", ..."] if reason.count > len(reason.places) else []
    return "".join([", ".join(reason.places), *more])


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Validate data files, and batches as their manifests say: edits are applied, and data set body, "
        "digests and counts are checked, as `prepare` does. Nothing is sent or written, and no value shown. "
        "A file alone is no batch; with options of a device, edits or --like, it is validated as the data of "
        "a batch with such a manifest: what `prepare` would reject then, such as a record without deviceId, "
        "is rejected. "
        f"{WHAT_A_FOLDER_IS} Each is validated by itself."
    )
    command.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a data file (.gz and .zst too; - for the standard input), a pipe or a folder",
    )
    add_reading(command)
    command.add_argument(
        "--like",
        metavar="BATCH",
        help="batch folder whose manifest describes the files too, as in `stage --like`",
    )
    add_device(command, device_id="that of the data set, which records have to name")
    add_edits(command)
    shown = command.add_mutually_exclusive_group()
    shown.add_argument(
        "--verdicts",
        action="store_true",
        help="print the Platform's verdict on each record, in order, one JSON object a line: "
        '{"index","accepted","errors":[{"code","pointer"}]}; pointers hold the names of schedules',
    )
    shown.add_argument(
        "--json", action="store_true", help="write the numbers as JSON (docs/validate.schema.json)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Validate what was given."""
    things = given(options.paths)
    described = _described(options)
    check_files(things, options)
    if described is not None:
        files_only(things, "A batch is described by its own manifest.", "Leave these options out.")
    if options.verdicts:
        if len(things) > 1:
            raise CommandError("--verdicts is of one file or batch.", "Name one at a time.")
        with Progress(things), about(_error_name(things[0], things), things[0].batch):
            return _exit_code(print_verdicts(_read(things[0], options, described)))
    outcomes: list[tuple[Given, Tally, IngestError | None]] = []
    with Progress(things) as progress:
        for number, one in enumerate(things):
            progress.at(number)
            tally, error = Tally(), None
            try:
                with about(_error_name(one, things), one.batch, one.path):
                    tally = _tallied(one, options, described)
            except IngestError as caught:
                if code_of(caught) == USAGE_ERROR or not (options.json or len(things) > 1):
                    raise
                error = caught
            outcomes.append((one, tally, error))
            with progress.paused():
                _tell(*outcomes[-1], several=len(things) > 1, is_json=options.json)
    if options.json:
        # Loaded only here: nothing else needs a schema.
        from tidepool_ingest.cli.summaries import write_json

        write_json(_summary(outcomes))
    elif len(things) > 1:
        _show_sum(outcomes)
    refused = any(error or tally.rejected or (tally.hold and tally.is_batch) for _, tally, error in outcomes)
    return FAILED if refused else 0


def _error_name(one: Given, things: Sequence[Given]) -> str:
    """Return what an error calls a file or batch: a batch that was typed alone has a shorter name in it."""
    return "" if one.is_batch and len(things) == 1 else one.typed


def _tell(one: Given, tally: Tally, error: IngestError | None, *, several: bool, is_json: bool) -> None:
    """Say what became of a file or batch."""
    if several and not is_json:
        print(f"{printable(one.typed)}:")
    if error is not None:
        sys.stdout.flush()
        print_error(error)
    if error is None and not is_json:
        tally.show()
    if error is None and tally.hold is not None and tally.is_batch:
        sys.stdout.flush()
        print_error(tally.hold)
    elif error is None and tally.hold is not None and not is_json:
        print(_UNIT.format(unit=tally.hold.claimed))
    if several and not is_json:
        print()


_UNIT = (
    "The glucose values labelled {unit} can hardly be in that unit: a batch of them is held until "
    "--glucose-units of `tidepool-ingest stage` says which unit they are in."
)


def _show_sum(outcomes: Sequence[tuple[Given, Tally, IngestError | None]]) -> None:
    """Print what became of all files and batches."""
    rows = [
        (
            printable(one.typed),
            *(
                (None, None, None)
                if error
                else (tally.records, tally.accepted.total(), tally.rejected.total())
            ),
            f"refused: {error.code}" if error else f"held: {tally.hold.code}" if tally.hold else "",
        )
        for one, tally, error in outcomes
    ]
    print(table(("file or batch", "records", "accepted", "rejected", "remark"), rows))


def _summary(outcomes: Sequence[tuple[Given, Tally, IngestError | None]]) -> Validations:
    from tidepool_ingest.cli.summaries import TypeCount, Validated, Validations, refusal
    from tidepool_ingest.guards import TOO_MANY_REJECTED
    from tidepool_ingest.inspection.findings import ReasonFound

    def reasons(found: Reasons) -> tuple[ReasonFound, ...]:
        return tuple(ReasonFound(**vars(one)) for one in found.found())

    made = []
    for one, tally, error in outcomes:
        held: list[IngestError] = [tally.hold] if tally.hold else []
        if tally.exceeds:
            limit = RejectionLimit().percent
            held.append(
                CommandError(
                    f"More than {limit:g} % of the records are rejected.",
                    "Correct them, or let the run's max_quarantined_percent allow more.",
                    TOO_MANY_REJECTED,
                )
            )
        made.append(
            Validated(
                name=one.typed,
                is_batch=one.is_batch,
                error=refusal(error) if error else None,
                records=tally.records,
                accepted=tally.accepted.total(),
                rejected=tally.rejected.total(),
                identical=tally.identical,
                types=tuple(
                    TypeCount(type=kind, accepted=tally.accepted[kind], rejected=tally.rejected[kind])
                    for kind in tally.kinds
                ),
                rejections=reasons(tally.reasons),
                warnings=reasons(tally.warnings),
                left_out=dict(sorted(tally.skipped.items())),
                edits=dict(sorted(tally.edits.items())),
                holds=tuple(map(refusal, held)),
            )
        )
    return Validations(validated=tuple(made))


# ---------------------------------------------------------------- reading as `prepare` does


def _described(options: argparse.Namespace) -> Manifest | None:
    """Return the manifest that the command line describes files with, if it does.

    :raises IngestError: there is none like it, or `prepare` would take none like it.
    """
    if options.like is None and not (says_device(options) or says_edits(options)):
        return None
    # Loaded only here and for batches: it takes longer than many a file.
    from tidepool_ingest.cli.as_batch import described

    return described(options)


@contextmanager
def _reading(
    one: Given, options: argparse.Namespace, described: Manifest | None
) -> Iterator[tuple[RecordReader, RecordChecker]]:
    """Provide what reads the records of a file or batch, and what checks them, as `prepare` would."""
    if one.is_batch:
        from tidepool_ingest.cli.as_batch import reading_batch

        with reading_batch(one.path) as (reader, manifest):
            yield reader, RecordChecker.of(manifest)
        return
    with one.file() as path, reading_data_file():
        said = said_of_reading(options)
        # The Platform's verdict is asked of records as they are, even if it looks as if it had made them.
        name = format_of(path, options, guess_format if options.verdicts else recognized_format)
        check_taken(name, said)
        file = SourceFile(path, name, below_root=GIVEN, options=said)
        # What the deduplicator needs, a manifest says; without one each record is checked on its own.
        edits, checker = None, RecordChecker()
        context = ReadingContext(meant_as=tuple(options.meant_as))
        if described is not None:
            from tidepool_ingest.cli.as_batch import checker_of_any

            edits, checker, device = described.edits, RecordChecker.of(described), described.device_id
            if options.like is None and options.device_id is None:
                checker, device = checker_of_any(described), None
            meant = tuple(dict.fromkeys((*described.meant_as, *options.meant_as)))
            context = ReadingContext(timezone=described.timezone, device_id=device, meant_as=meant)
        with RecordReader([file], edits, checker, context=context) as reader:
            yield reader, checker


def _read(one: Given, options: argparse.Namespace, described: Manifest | None) -> Iterator[Block]:
    with _reading(one, options, described) as (reader, _checker):
        yield from reader


def _tallied(one: Given, options: argparse.Namespace, described: Manifest | None) -> Tally:
    """Count what becomes of the records of a file or batch."""
    if one.is_batch:
        from tidepool_ingest.cli.as_batch import name_of, reading_batch

        with reading_batch(one.path) as (reader, manifest):
            tally = Tally(several=len(manifest.files) > 1)
            tally.take(reader, RecordChecker.of(manifest))
            tally.edits = dict(reader.changes)
        is_given, name = bool(manifest.edits and manifest.edits.glucose_units), name_of(one.path)
    else:
        with _reading(one, options, described) as (reader, checker):
            tally = Tally()
            tally.take(reader, checker)
            tally.edits = dict(reader.changes)
        is_given = bool(described and described.edits and described.edits.glucose_units)
        name = "of this file"
    tally.is_batch = one.is_batch or described is not None
    if not is_given:
        try:
            tally.guard.check(name)
        except GlucoseUnitsError as error:
            tally.hold = error
    return tally


def _exit_code(rejected: int) -> int:
    return FAILED if rejected else 0
