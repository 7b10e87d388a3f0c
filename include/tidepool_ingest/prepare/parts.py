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
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain, compress, repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec

from tidepool_ingest.coverage import HOURS, text_of_hours
from tidepool_ingest.deep_json import loads
from tidepool_ingest.ledger import BatchRow, ChunkRow, DataSetRow, DataSetState, FoundPart, Ledger, Rejection
from tidepool_ingest.model import EMBEDDING_TYPES, embedded_data
from tidepool_ingest.model.deduplicators import NORMAL, deduplicator_named
from tidepool_ingest.model.gotime import Instant, parse_instant
from tidepool_ingest.model.verdict import object_in
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.chunking import Chunking
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.work_area import Chunk, Part, PreparedBatch, SourceRange, Whole, WorkArea

_TIME: Final = itemgetter("time")
_TYPE: Final = itemgetter("type")
_LAST_CHARACTER: Final = itemgetter(-1)
_HOUR: Final = itemgetter(slice(13))
"""``YYYY-MM-DDTHH``, with which every accepted time begins; an hour before ten may have a single digit."""

_MOST_HOURS: Final = 4_096
"""Hours that are counted by their texts; more are put together, day by day, in less memory."""

_NO_HOURS: Final = bytes(HOURS * 8)
DAY: Final = 10
"""Characters of a moment that name its day: ``YYYY-MM-DD``."""

_DAY: Final = itemgetter(slice(DAY))

MOMENT: Final = 19
"""Characters of a moment: ``YYYY-MM-DDTHH:MM:SS``, in UTC. Moments are in order as their texts are."""

log = logging.getLogger(__name__)


class RecordDays:
    """Counts records by UTC day, hour and type, in memory that grows with the days only."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._days: dict[tuple[str, str], array[int]] = {}

    def see(self, data: Sequence[Mapping[str, Any]]) -> None:
        """Count accepted records.

        :param data: the records, decoded.
        """
        self.add(map(_TIME, data), map(_TYPE, data))

    def add(self, times: Iterable[str], kinds: Iterable[str]) -> None:
        """Count accepted records of which the times and, in the same order, the types are known."""
        times = list(times)
        if set(map(_LAST_CHARACTER, times)) <= {"Z"}:
            hours = list(map(_HOUR, times))
        else:
            hours = [_HOUR(time) if time[-1] == "Z" else _utc_hour(time) for time in times]
        self._counts.update(zip(hours, kinds, strict=True))
        if len(self._counts) > _MOST_HOURS:
            self._put_together()

    def by_type(self) -> dict[str, int]:
        """Return the number of records by type."""
        found: Counter[str] = Counter()
        for (_, kind), hours in self._put_together().items():
            found[kind] += sum(hours)
        return dict(found)

    def by_day(self) -> dict[date, dict[str, int]]:
        """Return the number of records by day and type, oldest day first."""
        return {
            day: {kind: sum(hours) for kind, hours in kinds.items()} for day, kinds in self._sorted().items()
        }

    def by_hour(self) -> dict[date, dict[str, str]]:
        """Return the same by hour, as :func:`~tidepool_ingest.coverage.text_of_hours` writes them."""
        return {
            day: {kind: text_of_hours(hours) for kind, hours in kinds.items()}
            for day, kinds in self._sorted().items()
        }

    def _sorted(self) -> dict[date, dict[str, array[int]]]:
        found: dict[date, dict[str, array[int]]] = {}
        for (text, kind), hours in sorted(self._put_together().items(), key=itemgetter(0)):
            kinds = found.setdefault(utc_day(f"{text}T00:00:00Z"), {})
            # Two texts are one day only where no date has their year.
            kinds[kind] = (
                array("Q", map(sum, zip(kinds[kind], hours, strict=True))) if kind in kinds else hours
            )
        return dict(sorted(found.items()))

    def _put_together(self) -> dict[tuple[str, str], array[int]]:
        """Return what was counted by day and type, 24 numbers each."""
        for (text, kind), count in self._counts.items():
            hours = self._days.setdefault((text[:DAY], kind), array("Q", _NO_HOURS))
            hours[int(text[DAY + 1 :].rstrip(":"))] += count
        self._counts.clear()
        return self._days


def utc_day(time: str) -> date:
    """Return the day of an accepted time in UTC.

    The Platform accepts the year 0000, which no ``date`` has, and an offset can lead past the year 9999: such
    a time counts as the first or the last possible day.

    :param time: the time as the Platform accepts it.
    """
    return _instant_of(time).utc_date


def _utc_hour(time: str) -> str:
    """Return the day and hour of an accepted time in UTC, as :data:`_HOUR` does of one that is in UTC."""
    instant = _instant_of(time)
    return f"{instant.utc_date}T{instant.moment[0] % (24 * 60 * 60) // (60 * 60):02}"


def _instant_of(time: str) -> Instant:
    instant = parse_instant(time)
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    return instant


class _Timed(msgspec.Struct):
    """The fields that are read from every record."""

    type: str
    time: str


_timed = msgspec.json.Decoder(list[_Timed])


class TimedRecords(NamedTuple):
    """The records of a chunk with what cutting needs to know, in order.

    :param lines: the records.
    :param kinds: their types.
    :param times: their times as accepted.
    :param moments: their times in UTC, to the second.
    :param embedded: the moments of the data embedded in a record, by its index.
    """

    lines: list[bytes]
    kinds: list[str]
    times: list[str]
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
    # As moment_of has it, which would cost a call for each record.
    moments = [time[:MOMENT] if time[-1] == "Z" else moment_of(time) for time in times]
    return TimedRecords(lines, kinds, times, moments, embedded)


def moment_of(time: str) -> str:
    """Return when an accepted time is, to the second; the same for every spelling of one identity."""
    if time[-1] == "Z":
        return time[:MOMENT]
    instant = _instant_of(time)
    minutes, second = divmod(instant.moment[0] % (24 * 60 * 60), 60)
    return f"{instant.utc_date}T{minutes // 60:02}:{minutes % 60:02}:{second:02}"


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

    def chunks_of(self, part: int, chunks: Sequence[Chunk]) -> Iterator[Chunk]:
        """Yield those chunks of the batch in which records of a part can be."""
        begin, end = self.window(part)
        for chunk, (first, last) in zip(chunks, self.spans, strict=True):
            if last >= begin and (end is None or first < end):
                yield chunk


def find_splits(work: WorkArea, chunks: Sequence[Chunk], limit: int) -> SplitPlan:
    """Find where to cut a batch, reading its accepted records once, and those of very full days once more.

    :param work: the batch's work area.
    :param chunks: its chunks.
    :param limit: most rows in a part, embedded data included. More only where they cannot be separated: those
        of one second, or linked by what is embedded in them.
    """
    days: Counter[str] = Counter()
    links: list[tuple[str, str]] = []
    spans: list[tuple[str, str]] = []
    content = hashlib.sha256()
    for chunk in chunks:
        found = timed_records(work, chunk)
        content.update(b"\n".join((*found.lines, b"")))
        days.update(map(_DAY, found.row_moments()))
        links += (link for link in found.linked_spans() if link[0][:DAY] != link[1][:DAY])
        spans.append((min(found.moments), max(found.moments)))
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
    return SplitPlan(content.hexdigest(), tuple(_evenly(list(_joined(counts, links)), limit)), tuple(spans))


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


def split_into_parts(work: WorkArea, prepared: PreparedBatch, limit: int) -> PreparedBatch:
    """Cut a batch into parts if it has more rows than a part may hold, and return the plan with them.

    Parts that an interrupted attempt has written are not written again: the same records are cut
    in the same places.

    :param work: the batch's work area with its accepted records; the plan is not written yet.
    :param prepared: the batch's plan, not cut.
    :param limit: most rows in a part, embedded data included.
    """
    prepared = prepared.model_copy(update={"part_records": limit})
    if prepared.expected_rows <= limit:
        return prepared
    cut = find_splits(work, prepared.chunks, limit)
    if len(cut.begins) == 1:
        log.info("A batch of %d records stays whole: they cannot be separated.", prepared.travelling)
        return prepared
    keys = [_key_of(prepared, cut, number) for number in range(len(cut.begins))]
    work.record_part_areas(keys)
    parts = tuple(_part(work, prepared, cut, number, key) for number, key in enumerate(keys))
    totals = sum(part.records for part in parts), sum(part.expected_rows for part in parts)
    if totals != (prepared.travelling, prepared.expected_rows):
        raise AssertionError("the parts do not contain what the batch does")
    log.info("%d records are cut into %d parts.", prepared.travelling, len(parts))
    return prepared.model_copy(update={"parts": parts, "chunks": ()})


def _part(work: WorkArea, prepared: PreparedBatch, cut: SplitPlan, number: int, key: str) -> Part:
    area = work.beside(key)
    plan = area.load()
    if plan is None or plan.chunk_records != prepared.chunk_records or not area.holds(plan):
        plan = _write_part(work, area, prepared, cut, number)
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
    work: WorkArea, area: WorkArea, prepared: PreparedBatch, cut: SplitPlan, number: int
) -> PreparedBatch:
    """Write the work area of one part."""
    begin, end = cut.window(number)
    days = RecordDays()
    records = rows = 0
    area.begin()
    with area.accepted_writer() as accepted:
        chunking = Chunking(accepted, prepared.chunk_records)
        for chunk in cut.chunks_of(number, prepared.chunks):
            found = timed_records(work, chunk)
            inside = [moment >= begin and (end is None or moment < end) for moment in found.moments]
            for source, left_out in _left_out(chunk.places, inside):
                chunking.places.add(source, left_out)
            kept = list(compress(found.lines, inside))
            chunking.add(kept, plain=chunk.plain)
            days.add(compress(found.times, inside), compress(found.kinds, inside))
            records += len(kept)
            rows += len(kept) + sum(len(data) for index, data in found.embedded.items() if inside[index])
        chunking.finish()
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

    def rejections(self, ledger: Ledger) -> Iterator[Rejection]:
        """Yield the records that Tidepool itself has rejected."""
        for row in self.parts or (self.whole,):
            yield from ledger.rejections.of_batch(row.id).values()

    def forget_rejections(self, prepared: PreparedBatch, ledger: Ledger) -> None:
        """Forget which records Tidepool itself has rejected if their ordinals may have changed.

        Rebuilt, perhaps by other rules, a plan may differ from the one that was sent. A part that is cut
        again in the same place has the same records in the same order.

        :param prepared: the new plan.
        :param ledger: has the rejections.
        """
        if self.parts:
            return
        (own,) = self.data_sets_by_part
        sent = _sent_chunks(own, ledger)
        if not (sent and _continues(prepared, sent)):
            ledger.rejections.forget(self.whole.id)

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

    def refill_quarantine(self, work: WorkArea, ledger: Ledger) -> None:
        """Add the records that Tidepool itself has rejected to a new quarantine file."""
        for row in self.parts or (self.whole,):
            rejected = {
                rejection.ordinal: rejection.problems
                for rejection in ledger.rejections.of_batch(row.id).values()
            }
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
