"""Accepted records are grouped into chunks, bounded in records and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, takewhile

from tidepool_ingest.options import CHUNK_BYTES
from tidepool_ingest.prepare.days import MOMENT
from tidepool_ingest.staging.work_area import AcceptedWriter, SourceRange


class SourceMap:
    """The source positions of accepted records, in the order in which they go into chunks."""

    def __init__(self) -> None:
        self._ranges: deque[SourceRange] = deque()

    def add(self, source: SourceRange, left_out: Sequence[int] = ()) -> None:
        """Append the source positions of consecutive records of a file.

        :param source: their positions.
        :param left_out: indexes of those that go into no chunk, ascending.
        """
        begin = 0
        for end in (*left_out, source.records):
            if end > begin:
                self._append(source._replace(position=source.position + begin, records=end - begin))
            begin = end + 1

    def _append(self, source: SourceRange) -> None:
        if self._ranges:
            last = self._ranges[-1]
            follows = (last.file, last.position + last.records) == (source.file, source.position)
            if follows and last.record == source.record == 0:
                self._ranges[-1] = last._replace(records=last.records + source.records)
                return
        self._ranges.append(source)

    def take(self, count: int) -> tuple[SourceRange, ...]:
        """Remove and return the source positions of the first ``count`` records."""
        taken = []
        while count:
            source = self._ranges.popleft()
            taken.append(source._replace(records=min(source.records, count)))
            if source.records > count:
                rest = source._replace(position=source.position + count, records=source.records - count)
                self._ranges.appendleft(rest)
            count -= taken[-1].records
        return tuple(taken)


class Chunking:
    """Puts accepted records into chunks, in the order in which they arrive.

    :param writer: takes the chunks.
    :param chunk_records: most records in a chunk.
    """

    def __init__(self, writer: AcceptedWriter, chunk_records: int) -> None:
        self.places = SourceMap()
        self._writer = writer
        self._chunk_records = chunk_records
        self._lines: list[bytes] = []
        self._bytes = 0
        self._plain = True
        self._times: list[str] = []
        self.spans: list[tuple[str, str]] = []
        """The first and the last moment of each chunk of whose records the moments are known."""

    def add(self, lines: Sequence[bytes], *, plain: bool, times: Sequence[str] = ()) -> None:
        """Put records into chunks; their source positions must already be in :attr:`places`.

        :param lines: the records.
        :param plain: whether none of them has an identifier or an embedded datum.
        :param times: when they are, as :func:`~tidepool_ingest.prepare.days.in_utc` has it, if that is to be
            known of all chunks.
        """
        while lines:
            fitting, size = self._fitting(lines)
            self._lines += fitting
            self._bytes += size
            self._plain = self._plain and plain
            self._times += times[: len(fitting)]
            lines, times = lines[len(fitting) :], times[len(fitting) :]
            if lines or len(self._lines) >= self._chunk_records:
                self.finish()

    def _fitting(self, lines: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
        """Return the lines that still fit into the chunk (at least one if it is empty) and their size."""
        fitting = lines[: self._chunk_records - len(self._lines)]
        room = CHUNK_BYTES - self._bytes
        size = _size(fitting)
        if size > room:
            sizes = accumulate(len(line) + 1 for line in fitting)
            fits = sum(1 for _ in takewhile(lambda size: size <= room, sizes))
            fitting = fitting[: max(fits, 0 if self._lines else 1)]
            size = _size(fitting)
        return fitting, size

    def finish(self) -> None:
        """Write the gathered records as one chunk."""
        if self._lines:
            places = self.places.take(len(self._lines))
            self._writer.write(self._lines, plain=self._plain, places=places)
            if self._times:
                self.spans.append((min(self._times)[:MOMENT], max(self._times)[:MOMENT]))
        self._lines, self._bytes, self._plain, self._times = [], 0, True, []


def _size(lines: Sequence[bytes]) -> int:
    """Return the bytes of lines, line ends included."""
    return sum(map(len, lines)) + len(lines)
