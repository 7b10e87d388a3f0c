"""Accepted records gather into chunks of bounded numbers and bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import accumulate, takewhile

from tidepool_ingest.options import CHUNK_BYTES
from tidepool_ingest.staging.work_area import AcceptedWriter, SourceRange


class SourceMap:
    """The staged places of accepted records, in the order in which they go into chunks."""

    def __init__(self) -> None:
        self._runs: deque[SourceRange] = deque()

    def add(self, run: SourceRange, left_out: Sequence[int] = ()) -> None:
        """Append the places of some records that follow each other in a file.

        :param run: their places.
        :param left_out: indexes among them of those that go into no chunk, rising.
        """
        begin = 0
        for end in (*left_out, run.records):
            if end > begin:
                self._append(run._replace(position=run.position + begin, records=end - begin))
            begin = end + 1

    def _append(self, run: SourceRange) -> None:
        if self._runs:
            last = self._runs[-1]
            follows = (last.file, last.position + last.records) == (run.file, run.position)
            if follows and last.record == run.record == 0:
                self._runs[-1] = last._replace(records=last.records + run.records)
                return
        self._runs.append(run)

    def take(self, count: int) -> tuple[SourceRange, ...]:
        """Remove and return the places of the first so many records."""
        taken = []
        while count:
            run = self._runs.popleft()
            taken.append(run._replace(records=min(run.records, count)))
            if run.records > count:
                rest = run._replace(position=run.position + count, records=run.records - count)
                self._runs.appendleft(rest)
            count -= taken[-1].records
        return tuple(taken)


class Chunking:
    """Puts accepted records into chunks, in the order in which they come.

    :param writer: takes the chunks.
    :param chunk_records: records a chunk, at most.
    """

    def __init__(self, writer: AcceptedWriter, chunk_records: int) -> None:
        self.places = SourceMap()
        self._writer = writer
        self._chunk_records = chunk_records
        self._lines: list[bytes] = []
        self._bytes = 0
        self._plain = True

    def add(self, lines: Sequence[bytes], *, plain: bool) -> None:
        """Put records into chunks; their places have been added to :attr:`places` before.

        :param lines: the records.
        :param plain: whether none of them has an identifier or an embedded datum.
        """
        while lines:
            fitting, size = self._fitting(lines)
            self._lines += fitting
            self._bytes += size
            self._plain = self._plain and plain
            lines = lines[len(fitting) :]
            if lines or len(self._lines) >= self._chunk_records:
                self.finish()

    def _fitting(self, lines: Sequence[bytes]) -> tuple[Sequence[bytes], int]:
        """Return those lines that still fit into the chunk, or one if it is empty, and their size."""
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
        """Write what has gathered as one chunk."""
        if self._lines:
            places = self.places.take(len(self._lines))
            self._writer.write(self._lines, plain=self._plain, places=places)
        self._lines, self._bytes, self._plain = [], 0, True


def _size(lines: Sequence[bytes]) -> int:
    """Return the bytes of some lines with their line ends."""
    return sum(map(len, lines)) + len(lines)
