"""Where the records of each chunk were staged."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tidepool_ingest.staging.chunk_plan import Run


class Places:
    """The staged places of accepted records, in the order in which they go into chunks."""

    def __init__(self) -> None:
        self._runs: deque[Run] = deque()

    def add(self, file_number: int, first_position: int, count: int, left_out: Sequence[int]) -> None:
        """Append the places of some records that follow each other in a file.

        :param file_number: number of the file in the manifest.
        :param first_position: where the first of them was staged.
        :param count: how many they are.
        :param left_out: indexes among them of those that go into no chunk, rising.
        """
        begin = 0
        for end in (*left_out, count):
            if end > begin:
                self._append(Run(file_number, first_position + begin, end - begin))
            begin = end + 1

    def _append(self, run: Run) -> None:
        if self._runs:
            last = self._runs[-1]
            if (last.file, last.position + last.records) == (run.file, run.position):
                self._runs[-1] = last._replace(records=last.records + run.records)
                return
        self._runs.append(run)

    def take(self, count: int) -> tuple[Run, ...]:
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
