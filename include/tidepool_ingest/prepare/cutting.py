"""Where a giant batch is cut: between UTC days, and within a day only when it alone is too large.

A close archives the rows of the device that have the same identity hash, and every identity holds the time.
So records of one moment must go into one part, and so must a record and the data embedded in it: else the
close of a later part would hide rows of an earlier one. Parts are windows of time without a gap.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from tidepool_ingest.model import EMBEDDING_TYPES, embedded_data
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.prepare.record_days import utc_day
from tidepool_ingest.staging.chunk_plan import Chunk
from tidepool_ingest.staging.work_area import WorkArea

DAY: Final = 10
"""Characters of a moment that name its day: ``YYYY-MM-DD``."""

MOMENT: Final = 19
"""Characters of a moment: ``YYYY-MM-DDTHH:MM:SS``, in UTC. Moments are in order as their texts are."""


class _Timed(msgspec.Struct):
    """What is read of every record."""

    type: str
    time: str


_timed = msgspec.json.Decoder(list[_Timed])


class Placed(NamedTuple):
    """The records of a chunk as far as cutting has to know them, in their order.

    :param lines: the records.
    :param kinds: their types.
    :param times: their times as accepted.
    :param moments: when they are.
    :param others: when the data are that are embedded in some, by the index of the record.
    """

    lines: list[bytes]
    kinds: list[str]
    times: list[str]
    moments: list[str]
    others: dict[int, tuple[str, ...]]

    def __repr__(self) -> str:
        """Leave the records out."""
        return f"Placed(records={len(self.lines)})"

    def ties(self) -> Iterator[tuple[str, str]]:
        """Yield the first and the last moment of each record in which data of another moment are embedded."""
        for index, others in self.others.items():
            moments = (self.moments[index], *others)
            if min(moments) != max(moments):
                yield min(moments), max(moments)


def placed(work: WorkArea, chunk: Chunk) -> Placed:
    """Read a chunk's records with their moments."""
    lines = work.read_chunk(chunk)
    try:
        timed = _timed.decode(b"[" + b",".join(lines) + b"]")
    except msgspec.MsgspecError:  # a spelling that only the slower reader takes
        timed = [_Timed(datum["type"], datum["time"]) for datum in map(json.loads, lines)]
    kinds, times = [one.type for one in timed], [one.time for one in timed]
    others = {}
    if not chunk.plain:
        for index in (index for index, kind in enumerate(kinds) if kind in EMBEDDING_TYPES):
            datum: Mapping[str, Any] = json.loads(lines[index])
            others[index] = tuple(moment_of(datum[name]["time"]) for name in embedded_data(datum))
    return Placed(lines, kinds, times, [moment_of(time) for time in times], others)


def moment_of(time: str) -> str:
    """Return when an accepted time is, to the second; the same for every spelling of one identity."""
    if time[-1] == "Z":
        return time[:MOMENT]
    instant = parse_instant(time)
    if instant is None:
        raise ValueError("an accepted record has a time that cannot be read")
    minutes, second = divmod(instant.moment[0] % (24 * 60 * 60), 60)
    return f"{utc_day(time)}T{minutes // 60:02}:{minutes % 60:02}:{second:02}"


@dataclass(frozen=True)
class Cut:
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


def where_to_cut(work: WorkArea, chunks: Sequence[Chunk], limit: int) -> Cut:
    """Find where to cut a batch, reading its accepted records once, and those of very full days once more.

    :param work: the batch's work area.
    :param chunks: its chunks.
    :param limit: records a part, at most. More only where they cannot be told apart: those of one second, or
        tied together by what is embedded in them.
    """
    days: Counter[str] = Counter()
    ties: list[tuple[str, str]] = []
    spans: list[tuple[str, str]] = []
    content = hashlib.sha256()
    for chunk in chunks:
        found = placed(work, chunk)
        content.update(b"\n".join((*found.lines, b"")))
        days.update([moment[:DAY] for moment in found.moments])
        ties += (tie for tie in found.ties() if tie[0][:DAY] != tie[1][:DAY])
        spans.append((min(found.moments), max(found.moments)))
    full = {day for day, number in days.items() if number > limit}
    counts = Counter({day: number for day, number in days.items() if day not in full})
    if full:
        for chunk, (first, last) in zip(chunks, spans, strict=True):
            if any(first[:DAY] <= day <= last[:DAY] for day in full):
                found = placed(work, chunk)
                counts.update(moment for moment in found.moments if moment[:DAY] in full)
                ties += (tie for tie in found.ties() if tie[0][:DAY] in full or tie[1][:DAY] in full)
    return Cut(content.hexdigest(), tuple(_evenly(list(_tied(counts, ties)), limit)), tuple(spans))


def _tied(counts: Mapping[str, int], ties: Iterable[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    """Yield where what must stay together begins, and how many records it has, in order of time."""
    waiting = sorted(set(ties), reverse=True)
    begin, number, until = "", 0, ""
    for place, count in sorted(counts.items()):
        while waiting and waiting[-1][0] < place:
            until = max(until, waiting.pop()[1])
        if number and until < place:
            yield begin, number
            number = 0
        begin = begin if number else place
        number += count
    if number:
        yield begin, number


def _evenly(together: Sequence[tuple[str, int]], limit: int) -> list[str]:
    """Return where the parts begin: as few as can be, and about as large as each other."""
    begins = list(_begins(together, limit))
    smallest, enough = 1, limit
    while smallest < enough:
        middle = (smallest + enough) // 2
        tried = list(_begins(together, middle))
        if len(tried) > len(begins):
            smallest = middle + 1
        else:
            begins, enough = tried, middle
    return begins


def _begins(together: Iterable[tuple[str, int]], limit: int) -> Iterator[str]:
    """Yield where the parts begin, each as large as it may be."""
    size = 0
    for place, number in together:
        if not size or size + number > limit:
            yield place
            size = 0
        size += number
