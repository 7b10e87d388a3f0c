"""A giant batch is cut into parts: data sets small enough to be closed and read back in time.

Each part gets a complete work area of its own, so that all later steps treat parts like batches. The
batch's own plan is written once all of them exist: until then none counts.

A batch is cut between UTC days, and within a day only when that day alone is too large. A close archives the
rows of the device that have the same identity hash, and every identity holds the time. So records of one
moment must go into one part, and so must a record and the data embedded in it: else the close of a later part
would hide rows of an earlier one. Parts are consecutive time windows.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from tidepool_ingest.deep_json import loads
from tidepool_ingest.ledger import BatchRow, ChunkRow, DataSetRow, DataSetState, FoundPart, Ledger, Rejection
from tidepool_ingest.model import EMBEDDING_TYPES, embedded_data
from tidepool_ingest.model.deduplicators import NORMAL, deduplicator_named
from tidepool_ingest.model.verdict import object_in
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.chunking import Chunking
from tidepool_ingest.prepare.days import DAY, MOMENT, RecordDays, in_utc, moment_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.work_area import Chunk, Part, PreparedBatch, SourceRange, Whole, WorkArea

_DAY: Final = itemgetter(slice(DAY))

log = logging.getLogger(__name__)


class Spread:
    """How a batch's rows lie in time, gathered while its records are written.

    :ivar records: the records that are sent as such.
    :ivar spans: the first and the last moment of each chunk.
    :ivar links: the first and the last moment of each record in which data of another day are embedded.
    """

    def __init__(self) -> None:
        self.records = RecordDays()
        self.spans: list[tuple[str, str]] = []
        self.links: list[tuple[str, str]] = []
        self._embedded: Counter[str] = Counter()

    def embed(self, datum: Mapping[str, Any], names: Sequence[str]) -> None:
        """Count the data embedded in a record that is sent.

        :param datum: the record.
        :param names: the fields that hold them.
        """
        moment = moment_of(datum["time"])
        self._embedded[_DAY(moment)] += len(names)
        moments = (moment, *(moment_of(datum[name]["time"]) for name in names))
        if _DAY(min(moments)) != _DAY(max(moments)):
            self.links.append((min(moments), max(moments)))

    def rows(self) -> Counter[str]:
        """Return the number of rows by day; what is embedded in a record is in the part of the record."""
        return Counter(self.records.by_text()) + self._embedded

    def rows_within(self, begin: str, end: str | None) -> int:
        """Return the number of rows of some days; see :meth:`RecordDays.within`."""
        return sum(count for day, count in self.rows().items() if day >= begin and (end is None or day < end))


class _Timed(msgspec.Struct):
    """The fields that are read from every record."""

    type: str
    time: str


_timed = msgspec.json.Decoder(list[_Timed])


class TimedRecords(NamedTuple):
    """The records of a chunk with what cutting needs to know, in order.

    :param lines: the records.
    :param kinds: their types.
    :param moments: their times in UTC, to the second.
    :param embedded: the moments of the data embedded in a record, by its index.
    """

    lines: list[bytes]
    kinds: list[str]
    moments: list[str]
    embedded: dict[int, tuple[str, ...]]

    def __repr__(self) -> str:
        """Leave the records out."""
        return f"TimedRecords(records={len(self.lines)})"

    def row_moments(self) -> Iterator[str]:
        """Return for each row that Tidepool makes the moment of its record, in which part it goes."""
        inner = (repeat(self.moments[index], len(found)) for index, found in self.embedded.items())
        return chain(self.moments, chain.from_iterable(inner))

    def linked_spans(self) -> Iterator[tuple[str, str]]:
        """Yield the first and the last moment of each record in which data of another moment are embedded."""
        for index, embedded in self.embedded.items():
            moments = (self.moments[index], *embedded)
            if min(moments) != max(moments):
                yield min(moments), max(moments)


def timed_records(work: WorkArea, chunk: Chunk) -> TimedRecords:
    """Read a chunk's records with their times."""
    lines = work.read_chunk(chunk)
    try:
        timed = _timed.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, RecursionError):  # what only the slower decoder takes
        timed = [_Timed(datum["type"], datum["time"]) for datum in map(loads, lines)]
    kinds, times = [record.type for record in timed], [record.time for record in timed]
    embedded = {}
    if not chunk.plain:
        for index in (index for index, kind in enumerate(kinds) if kind in EMBEDDING_TYPES):
            datum = object_in(lines[index])
            if datum is None:
                raise ValueError("an accepted record is no object")
            embedded[index] = tuple(moment_of(datum[name]["time"]) for name in embedded_data(datum))
    return TimedRecords(lines, kinds, [time[:MOMENT] for time in in_utc(times)], embedded)


@dataclass(frozen=True)
class SplitPlan:
    """Where a batch is cut.

    :param content: sha256 of all accepted records, in hex.
    :param begins: where each part begins, from the first; a day or a moment.
    :param spans: the first and the last moment of each chunk of the batch.
    """

    content: str
    begins: tuple[str, ...]
    spans: tuple[tuple[str, str], ...]

    def window(self, part: int) -> tuple[str, str | None]:
        """Return where a part begins, and where the next one does, if there is one; from 0."""
        begin = self.begins[part] if part else ""
        return begin, self.begins[part + 1] if part + 1 < len(self.begins) else None

    def is_of_days(self, part: int) -> bool:
        """Return whether a part has whole days only."""
        return all(len(moment) == DAY for moment in self.window(part) if moment)

    def chunks_of(self, part: int, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, bool]]:
        """Yield those chunks of the batch in which records of a part can be, and whether all in it are."""
        begin, end = self.window(part)
        for chunk, (first, last) in zip(chunks, self.spans, strict=True):
            if last >= begin and (end is None or first < end):
                yield chunk, first >= begin and (end is None or last < end)


def find_splits(work: WorkArea, chunks: Sequence[Chunk], spread: Spread, limit: int) -> SplitPlan:
    """Find where to cut a batch; only the records of very full days are decoded once more.

    :param work: the batch's work area.
    :param chunks: its chunks.
    :param spread: how its rows lie in time.
    :param limit: most rows in a part, embedded data included. More only where they cannot be separated: those
        of one second, or linked by what is embedded in them.
    """
    content = hashlib.sha256()
    for chunk in chunks:
        content.update(work.read_content(chunk))
    days, links, spans = spread.rows(), list(spread.links), tuple(spread.spans)
    full = {day for day, number in days.items() if number > limit}
    counts = Counter({day: number for day, number in days.items() if day not in full})
    if full:
        for chunk, (first, last) in zip(chunks, spans, strict=True):
            if any(first[:DAY] <= day <= last[:DAY] for day in full):
                found = timed_records(work, chunk)
                counts.update(moment for moment in found.row_moments() if moment[:DAY] in full)
                links += (
                    link for link in found.linked_spans() if link[0][:DAY] in full or link[1][:DAY] in full
                )
    return SplitPlan(content.hexdigest(), tuple(_evenly(list(_joined(counts, links)), limit)), spans)


def _joined(counts: Mapping[str, int], links: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """Yield where each group that must stay together begins, and its number of rows, in order of time."""
    pending = sorted(set(links), reverse=True)
    begin, number, until = "", 0, ""
    for moment, count in sorted(counts.items()):
        while pending and pending[-1][0] < moment:
            until = max(until, pending.pop()[1])
        if number and until < moment:
            yield begin, number
            number = 0
        begin = begin if number else moment
        number += count
    if number:
        yield begin, number


def _evenly(groups: Sequence[tuple[str, int]], limit: int) -> list[str]:
    """Return where the parts begin: as few as possible, and of about equal size."""
    begins = list(_begins(groups, limit))
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        tried = list(_begins(groups, middle))
        if len(tried) > len(begins):
            low = middle + 1
        else:
            begins, high = tried, middle
    return begins


def _begins(groups: Iterable[tuple[str, int]], limit: int) -> Iterator[str]:
    """Yield where the parts begin, each as large as it may be."""
    size = 0
    for begin, number in groups:
        if not size or size + number > limit:
            yield begin
            size = 0
        size += number


def is_splittable(manifest: Manifest) -> bool:
    """Return whether the records of a batch may go into several data sets."""
    deduplicator = deduplicator_named(manifest.deduplicator_name)
    return manifest.data_set_type == NORMAL and deduplicator is not None and deduplicator.may_be_split


def split_into_parts(work: WorkArea, prepared: PreparedBatch, spread: Spread, limit: int) -> PreparedBatch:
    """Cut a batch into parts if it has more rows than a part may hold, and return the plan with them.

    Parts that an interrupted attempt has written are not written again: the same records are cut
    in the same places.

    :param work: the batch's work area with its accepted records; the plan is not written yet.
    :param prepared: the batch's plan, not cut.
    :param spread: how its rows lie in time.
    :param limit: most rows in a part, embedded data included.
    """
    prepared = prepared.model_copy(update={"part_records": limit})
    if prepared.expected_rows <= limit:
        return prepared
    cut = find_splits(work, prepared.chunks, spread, limit)
    if len(cut.begins) == 1:
        log.info("A batch of %d records stays whole: they cannot be separated.", prepared.travelling)
        return prepared
    keys = [_key_of(prepared, cut, number) for number in range(len(cut.begins))]
    work.record_part_areas(keys)
    parts = tuple(_part(work, prepared, spread, cut, number, key) for number, key in enumerate(keys))
    totals = sum(part.records for part in parts), sum(part.expected_rows for part in parts)
    if totals != (prepared.travelling, prepared.expected_rows):
        raise AssertionError("the parts do not contain what the batch does")
    log.info("%d records are cut into %d parts.", prepared.travelling, len(parts))
    return prepared.model_copy(update={"parts": parts, "chunks": ()})


def _part(
    work: WorkArea, prepared: PreparedBatch, spread: Spread, cut: SplitPlan, number: int, key: str
) -> Part:
    area = work.beside(key)
    plan = area.load()
    if plan is None or plan.chunk_records != prepared.chunk_records or not area.holds(plan):
        plan = _write_part(work, area, prepared, spread, cut, number)
    return Part(
        content_key=key,
        records=plan.records,
        expected_rows=plan.expected_rows,
        chunks=plan.requests,
        size=plan.size,
    )


def _key_of(prepared: PreparedBatch, cut: SplitPlan, number: int) -> str:
    """Return the content key of a part: it differs for every other cut, and for other accepted records."""
    text = "\n".join(("part", prepared.content_key, cut.content, str(number), *cut.begins))
    return hashlib.sha256(text.encode()).hexdigest()


def _write_part(
    work: WorkArea, area: WorkArea, prepared: PreparedBatch, spread: Spread, cut: SplitPlan, number: int
) -> PreparedBatch:
    """Write the work area of one part."""
    begin, end = cut.window(number)
    # Of whole days everything is counted already: then only the chunks at the ends have to be decoded.
    is_of_days = cut.is_of_days(number)
    days = spread.records.within(begin, end) if is_of_days else RecordDays()
    rows = spread.rows_within(begin, end) if is_of_days else 0
    records = 0
    area.begin()
    with area.accepted_writer() as accepted:
        chunking = Chunking(accepted, prepared.chunk_records)
        for chunk, is_inside in cut.chunks_of(number, prepared.chunks):
            if is_of_days and is_inside:
                for source in chunk.places:
                    chunking.places.add(source)
                chunking.add(work.read_chunk(chunk), plain=chunk.plain)
                records += chunk.records
                continue
            found = timed_records(work, chunk)
            inside = [moment >= begin and (end is None or moment < end) for moment in found.moments]
            for source, left_out in _left_out(chunk.places, inside):
                chunking.places.add(source, left_out)
            kept = list(compress(found.lines, inside))
            chunking.add(kept, plain=chunk.plain)
            records += len(kept)
            if not is_of_days:
                days.add(compress(found.moments, inside), compress(found.kinds, inside))
                rows += len(kept) + sum(len(data) for index, data in found.embedded.items() if inside[index])
        chunking.finish()
    if sum(days.by_type().values()) != records:
        raise AssertionError("a part does not contain what was counted for it")
    plan = PreparedBatch(
        content_key=area.content_key,
        chunk_records=prepared.chunk_records,
        data_set=prepared.data_set,
        converters=prepared.converters,
        records=records,
        accepted=days.by_type(),
        days=days.by_day(),
        hours=days.by_hour(),
        expected_rows=rows,
        chunks=tuple(accepted.chunks),
        whole=Whole(
            content_key=prepared.content_key,
            records=prepared.records,
            accepted=sum(prepared.accepted.values()),
            quarantined=prepared.quarantined,
            expected_rows=prepared.expected_rows,
        ),
    )
    area.finish(plan)
    return plan


def _left_out(
    places: Iterable[SourceRange], inside: Sequence[bool]
) -> Iterator[tuple[SourceRange, list[int]]]:
    """Yield each source range with the indexes in it of records that go to other parts."""
    first = 0
    for source in places:
        yield source, [index for index in range(source.records) if not inside[first + index]]
        first += source.records


@dataclass(frozen=True)
class UploadHistory:
    """What was started for a batch.

    :param whole: the batch.
    :param parts: what it is cut into; empty if it is not.
    :param data_sets_by_part: the data sets of each part, oldest first; for one that is not cut, its own.
    """

    whole: BatchRow
    parts: tuple[BatchRow, ...]
    data_sets_by_part: tuple[tuple[DataSetRow, ...], ...]

    @classmethod
    def load(cls, ledger: Ledger, batch: int) -> UploadHistory:
        """Return what the ledger knows of a batch."""
        with ledger.database.together(only_reads=True):
            parts = tuple(ledger.parts.of_batch(batch))
            numbers = [part.id for part in parts] or [batch]
            found: dict[int, list[DataSetRow]] = {number: [] for number in numbers}
            for data_set in ledger.data_sets.of_batches(numbers):
                found[data_set.batch].append(data_set)
            units = tuple(tuple(data_sets) for data_sets in found.values())
            return cls(ledger.batches.get(batch), parts, units)

    @property
    def was_started(self) -> bool:
        """Whether the ledger has anything of it but the batch: parts, or a data set in whatever state."""
        return bool(self.parts) or any(self.data_sets_by_part)

    @property
    def may_hold_data(self) -> bool:
        """Whether Tidepool may hold data of it."""
        return any(data_set.state.may_hold_data for unit in self.data_sets_by_part for data_set in unit)

    @property
    def is_verified(self) -> bool:
        """Whether the newest data set of each of its parts is verified."""
        return all(unit and unit[-1].state is DataSetState.VERIFIED for unit in self.data_sets_by_part)

    def rejections(self, ledger: Ledger) -> list[list[Rejection]]:
        """Return the records that Tidepool itself has rejected, of each part, or of the whole."""
        return [list(ledger.rejections.of_batch(row.id).values()) for row in self.parts or (self.whole,)]

    def forget_rejections(self, prepared: PreparedBatch, ledger: Ledger) -> bool:
        """Forget which records Tidepool itself has rejected if their ordinals may have changed.

        Rebuilt, perhaps by other rules, a plan may differ from the one that was sent. A part that is cut
        again in the same place has the same records in the same order.

        :param prepared: the new plan.
        :param ledger: has the rejections.
        :return: false if another run has gone on with the batch since: a task may be held up for long. Then
            nothing is forgotten, and the new work area lacks what Tidepool has rejected meanwhile.
        """
        if UploadHistory.load(ledger, self.whole.id).data_sets_by_part != self.data_sets_by_part:
            return False
        if self.parts:
            return True
        (own,) = self.data_sets_by_part
        sent = _sent_chunks(own, ledger)
        if not (sent and _continues(prepared, sent)):
            ledger.rejections.forget(self.whole.id)
        return True

    def chunk_records(self, ledger: Ledger) -> int | None:
        """Return how many records the largest chunk had that was sent; ``None`` if none was."""
        sent = [_sent_chunks(unit, ledger) for unit in self.data_sets_by_part]
        return max((chunk.records for chunks in sent for chunk in chunks.values()), default=None)

    def is_continued_by(self, work: WorkArea, prepared: PreparedBatch, ledger: Ledger) -> bool:
        """Return whether a plan has every chunk that was sent, as it was sent.

        :param work: the batch's work area, with its parts' beside it.
        :param prepared: its new plan.
        :param ledger: has the digest of each chunk that was sent.
        """
        for row, unit in zip(self.parts or (self.whole,), self.data_sets_by_part, strict=True):
            plan = work.beside(row.content_key).load() if self.parts else prepared
            if plan is None or not _continues(plan, _sent_chunks(unit, ledger)):
                return False
        return True

    def refill_quarantine(self, work: WorkArea, rejections: Sequence[Sequence[Rejection]]) -> None:
        """Add the records that Tidepool itself has rejected to a new quarantine file.

        :param rejections: see :meth:`rejections`.
        """
        for row, of_it in zip(self.parts or (self.whole,), rejections, strict=True):
            rejected = {rejection.ordinal: rejection.problems for rejection in of_it}
            area = work.beside(row.content_key)
            plan = area.load() if rejected else None
            if plan is not None:
                area.add_to_quarantine(plan, rejected)


def _sent_chunks(data_sets: Sequence[DataSetRow], ledger: Ledger) -> dict[int, ChunkRow]:
    """Return the chunks of the newest data set to which any was sent, by index."""
    found = (ledger.data_sets.chunks_of(data_set.id) for data_set in reversed(data_sets))
    return next(filter(None, found), {})


def _continues(plan: PreparedBatch, sent: Mapping[int, ChunkRow]) -> bool:
    planned = {chunk.index: chunk.digest for chunk in plan.chunks}
    return all(planned.get(index) == chunk.digest for index, chunk in sent.items())


UNFINISHED = (DataSetState.OPEN, DataSetState.CLOSING, DataSetState.CLOSED)
"""States of a data set that the next upload continues."""


def opens_another(
    data_sets: Sequence[DataSetRow],
    options: RunOptions,
    *,
    run_id: str | None,
    asked_at: datetime | None,
) -> bool:
    """Return whether an upload would open a data set, rather than continue one or have nothing to do.

    :param data_sets: those that were started for the batch, oldest first.
    :param options: the run's parameters.
    :param run_id: the run; what it has verified itself, it does not upload again.
    :param asked_at: when the run was started or cleared.
    """
    if not data_sets:
        return True
    latest = data_sets[-1]
    if latest.state is DataSetState.VERIFIED:
        return options.force and not latest.was_verified_by(run_id, asked_at)
    return latest.state not in UNFINISHED


def part_limit(manifest: Manifest, history: UploadHistory, options: RunOptions) -> int | None:
    """Return how many rows a part of a batch may hold; ``None`` if the batch has to stay whole.

    What was started continues the way it was started.

    :param manifest: the batch's.
    :param history: what was started for it.
    :param options: the run's parameters.
    """
    if history.may_hold_data:
        return history.whole.part_records if history.parts else None
    return options.part_records if is_splittable(manifest) else None


def register_parts(
    row: BatchRow, work: WorkArea, prepared: PreparedBatch, history: UploadHistory, ledger: Ledger
) -> UploadHistory:
    """Record in the ledger into which parts a batch is cut, and return what was started for it and for them.

    :param row: the batch.
    :param work: its work area.
    :param prepared: its plan.
    :param history: what was started before.
    :param ledger: takes the parts.
    :raises BatchError: ``parts-differ``: Tidepool holds data of parts that it is no longer cut into.
    """
    keys = [part.content_key for part in prepared.parts]
    if history.may_hold_data and [part.content_key for part in history.parts] != keys:
        raise BatchError("parts-differ", batch=row.label)
    if not (keys or history.parts):
        return history
    work.drop_parts(keep=keys)
    found = [
        FoundPart(
            content_key=part.content_key,
            records=part.records,
            expected_rows=part.expected_rows,
            chunks=part.chunks,
        )
        for part in prepared.parts
    ]
    ledger.batches.set_split(row.id, prepared.part_records if keys else None)
    for part in ledger.parts.register(row, found):
        plan = work.beside(part.content_key).load()
        if plan is not None:
            ledger.batch_days.replace_for_batch(part.id, plan.days, plan.hours)
    return UploadHistory.load(ledger, row.id)
