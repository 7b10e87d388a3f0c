"""One pass over a batch's files: each record is validated and written, accepted ones in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from operator import attrgetter
from typing import Any, Final

from tidepool_ingest.formats import converters_of
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import Block
from tidepool_ingest.guards.glucose import GlucoseGuard
from tidepool_ingest.model import Problem, readings_of, type_of
from tidepool_ingest.model.deduplicators import CONTINUOUS
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.prepare.chunking import Chunking
from tidepool_ingest.prepare.classify import JudgedBlock, RecordClassifier
from tidepool_ingest.prepare.days import RecordDays, in_utc
from tidepool_ingest.prepare.feeds.classify import FeedClassifier
from tidepool_ingest.prepare.parts import Spread, split_into_parts
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staged_batch import StagedBatch, named
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter
from tidepool_ingest.staging.work_area import AcceptedWriter, PreparedBatch, SourceRange, WorkArea

_TIME: Final = attrgetter("time")
_TYPE: Final = attrgetter("type")


def write_batch(
    batch: StagedBatch,
    work: WorkArea,
    *,
    chunk_records: int,
    part_records: int | None = None,
    retracts: int | None = None,
) -> PreparedBatch:
    """Read, validate and write every record of a batch to its work area; cut a giant batch into parts.

    :param batch: the batch.
    :param work: its work area, which is complete only once this has returned.
    :param chunk_records: most records in a chunk.
    :param part_records: most rows in a part; ``None`` if it has to stay whole.
    :param retracts: how many records the batch has that it retracts, if it retracts one.
    :raises BatchError: if a file cannot be read, or is not the one that the manifest names.
    :raises FileHeldError: if a file is not what the manifest says, or a person has to say what it means.
    :raises GlucoseUnitsError: if the glucose values cannot be in their stated unit.
    """
    work.begin()
    try:
        spread = None if part_records is None else Spread()
        prepared = _written(batch, work, chunk_records, spread).model_copy(update={"retracts": retracts})
        if part_records is not None and spread is not None:
            prepared = split_into_parts(work, prepared, spread, part_records)
    except (BatchError, FileHeldError) as error:
        raise error.for_batch(named(batch.folder)) from None
    work.finish(prepared)
    return prepared


def _written(batch: StagedBatch, work: WorkArea, chunk_records: int, spread: Spread | None) -> PreparedBatch:
    manifest, folder = batch.manifest, batch.folder.path
    with ExitStack() as stack:
        reader = stack.enter_context(RecordReader.of(manifest, folder))
        classifier = _classifier(batch, reader.embedded)
        stack.enter_context(classifier)
        accepted = stack.enter_context(work.accepted_writer())
        quarantine = stack.enter_context(work.quarantine_writer())
        writer = RecordWriter(accepted, quarantine, chunk_records, spread)
        with collector_paused():
            for block in reader:
                writer.add(block, classifier.classify(block.lines))
        writer.finish()
        if not (manifest.edits and manifest.edits.glucose_units):
            writer.guard.check(named(batch.folder))
    return PreparedBatch(
        content_key=batch.content_key,
        data_set=manifest.data_set,
        chunk_records=chunk_records,
        changes=dict(reader.changes),
        converters=converters_of(manifest),
        deletes=manifest.deletes,
        meant_as=manifest.meant_as,
        chunks=tuple(accepted.chunks),
        **writer.counts(),
    )


def _classifier(batch: StagedBatch, embedded: AbstractSet[int]) -> RecordClassifier | FeedClassifier:
    if batch.manifest.data_set_type == CONTINUOUS:
        return FeedClassifier(batch, embedded)
    return RecordClassifier(RecordChecker.of(batch.manifest), embedded)


class RecordWriter:
    """Where the records of a batch go, and how many went where.

    :param accepted: takes the accepted records.
    :param quarantine: takes the rejected ones.
    :param chunk_records: most records in a chunk.
    :param spread: learns how the rows lie in time, if the batch may be cut.
    """

    def __init__(
        self,
        accepted: AcceptedWriter,
        quarantine: QuarantineWriter,
        chunk_records: int,
        spread: Spread | None,
    ) -> None:
        self.guard = GlucoseGuard()
        self._chunking = Chunking(accepted, chunk_records)
        self._quarantine_writer = quarantine
        self._spread = spread
        self._days = spread.records if spread else RecordDays()
        self._days_inside = RecordDays()
        self._replaced: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._warnings: dict[str, Counter[str]] = {}
        self._staged = self._quarantined = self._identical = self._inside = self._split_off = 0

    def add(self, block: Block, found: JudgedBlock) -> None:
        """Write the records of one block.

        :param block: the records as they were read.
        :param found: what becomes of them.
        """
        number = block.file_number
        self._staged += len(block)
        self._skipped.update(block.skipped)
        for index, record in sorted(found.exceptions.items()):
            if record.problems:
                # Whoever corrects it gets the row as it was staged, not the record as it was edited.
                row = block.row(index)
                place = Place(number, row.position, row.record)
                self._quarantine(place, record.datum, record.problems, row.text, row.where)
                for position, text in block.more_rows.get(index, ()):
                    self._quarantine_writer.add(Place(number, position), record.problems, text)
            self._identical += record.identical
            if record.replaced:
                self._replaced[type_of(record.datum)] += 1
        self._add_places(block, found.left_out())
        self._accept(found, block.warning)
        for rejected in block.rejected:
            place = Place(number, rejected.position)
            self._quarantine(place, None, (Problem(rejected.code, ""),), rejected.text, rejected.where)

    def _add_places(self, block: Block, left_out: list[int]) -> None:
        places, number = self._chunking.places, block.file_number
        if block.positions is None:
            places.add(SourceRange(number, block.first_position, len(block.lines)), left_out)
            return
        skipped = set(left_out)
        for index, (position, record) in enumerate(block.places()):
            if index not in skipped:
                places.add(SourceRange(number, position, 1, record))

    def _accept(self, found: JudgedBlock, warning: str) -> None:
        """Count what is accepted of a block, and put it into chunks."""
        exceptions = [record for record in found.exceptions.values() if record.accepted]
        for record in exceptions:
            self._split_off += len(record.embedded)
            if record.is_embedded and record.datum is not None:
                self._inside += 1
                self._days_inside.see((record.datum,))
            elif self._spread and record.embedded and record.datum is not None:
                self._spread.embed(record.datum, record.embedded)
            if record.warnings:
                _count(self._warnings, record.datum, record.warnings)
        if warning:
            for record in found:
                if record.accepted:
                    _count(self._warnings, record.datum, (Problem(warning, ""),))
        lines, records = found.to_upload()
        times = in_utc(list(map(_TIME, records)))
        self._days.add(times, map(_TYPE, records))
        self.guard.add(readings_of(records))
        is_plain = not any(record.embedded or record.has_own_id for record in exceptions)
        self._chunking.add(lines, plain=is_plain, times=times if self._spread else ())

    def finish(self) -> None:
        """Write what is left."""
        self._chunking.finish()
        if self._spread:
            self._spread.spans += self._chunking.spans

    def _quarantine(
        self, place: Place, datum: Any, problems: tuple[Problem, ...], staged: bytes | None, where: str
    ) -> None:
        self._quarantined += 1
        _count(self._reasons, datum, problems)
        self._quarantine_writer.add(place, problems, staged, where=where)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of the chunk plan."""
        days = self._days.with_those_of(self._days_inside) if self._inside else self._days
        accepted = days.by_type()
        return {
            "records": self._staged,
            "skipped": dict(self._skipped),
            "accepted": accepted,
            "days": days.by_day(),
            "hours": days.by_hour(),
            "inside": self._inside,
            "quarantined": self._quarantined,
            "identical": self._identical,
            "replaced": dict(self._replaced),
            "expected_rows": sum(accepted.values()) - self._inside + self._split_off,
            "reasons": {kind: dict(codes) for kind, codes in self._reasons.items()},
            "warnings": {kind: dict(codes) for kind, codes in self._warnings.items()},
        }


def _count(counts: dict[str, Counter[str]], datum: Any, problems: tuple[Problem, ...]) -> None:
    """Count a record once for each code, under its type."""
    counts.setdefault(type_of(datum), Counter()).update({code for code, _pointer in problems})
