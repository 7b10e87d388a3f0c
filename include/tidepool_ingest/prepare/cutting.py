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

from tidepool_ingest.model import embedded_data
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.prepare.record_days import utc_day
from tidepool_ingest.staging.chunk_plan import Chunk
from tidepool_ingest.staging.work_area import WorkArea

DAY: Final = 10
"""Characters of a moment that name its day: ``YYYY-MM-DD``."""

MOMENT: Final = 19
"""Characters of a moment: ``YYYY-MM-DDTHH:MM:SS``, in UTC. Moments are in order as their texts are."""


class _Timed(msgspec.Struct):
    """What is read of a record without embedded data."""

    type: str
    time: str


_timed = msgspec.json.Decoder(list[_Timed])


class Placed(NamedTuple):
    """A record as far as cutting has to know it.

    :param line: the record.
    :param kind: its type.
    :param time: its time as accepted.
    :param moment: when it is.
    :param others: when the data embedded in it are.
    """

    line: bytes
    kind: str
    time: str
    moment: str
    others: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"Placed(kind={self.kind!r})"


def placed(work: WorkArea, chunk: Chunk) -> list[Placed]:
    """Read a chunk's records with their moments, in their order."""
    lines = work.read_chunk(chunk)
    if chunk.plain:
        try:
            timed = _timed.decode(b"[" + b",".join(lines) + b"]")
        except msgspec.MsgspecError:
            pass  # spellings that only the slower reader takes
        else:
            return [
                Placed(line, one.type, one.time, moment_of(one.time))
                for line, one in zip(lines, timed, strict=True)
            ]
    return [_looked_into(line) for line in lines]


def _looked_into(line: bytes) -> Placed:
    datum: Mapping[str, Any] = json.loads(line)
    others = tuple(moment_of(datum[name]["time"]) for name in embedded_data(datum))
    return Placed(line, datum["type"], datum["time"], moment_of(datum["time"]), others)


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
        content.update(b"\n".join((*(one.line for one in found), b"")))
        days.update(one.moment[:DAY] for one in found)
        ties += (tie for tie in _ties(found) if tie[0][:DAY] != tie[1][:DAY])
        moments = [one.moment for one in found]
        spans.append((min(moments), max(moments)))
    full = {day for day, number in days.items() if number > limit}
    counts = Counter({day: number for day, number in days.items() if day not in full})
    if full:
        for chunk, (first, last) in zip(chunks, spans, strict=True):
            if any(first[:DAY] <= day <= last[:DAY] for day in full):
                within = [one for one in placed(work, chunk) if one.moment[:DAY] in full]
                counts.update(one.moment for one in within)
                ties += (tie for tie in _ties(within) if tie[0] != tie[1])
    return Cut(content.hexdigest(), tuple(_begins(_tied(counts, ties), limit)), tuple(spans))


def _ties(found: Iterable[Placed]) -> Iterator[tuple[str, str]]:
    """Yield the first and the last moment of what records hold that have data embedded in them."""
    for one in found:
        if one.others:
            yield min(one.moment, *one.others), max(one.moment, *one.others)


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


def _begins(together: Iterable[tuple[str, int]], limit: int) -> Iterator[str]:
    """Yield where the parts begin, each as large as it may be."""
    size = 0
    for place, number in together:
        if not size or size + number > limit:
            yield place
            size = 0
        size += number
