"""The result of one measurement, and how it is printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tidepool_ingest.cli.arguments import table


@dataclass(frozen=True)
class Result:
    """One measurement.

    :param what: what was done with which records.
    :param records: how many records.
    :param rejected: how many of them are rejected.
    :param json_microseconds: CPU time of ``json.loads`` for the same records, a record.
    :param microseconds: CPU time of the work, a record.
    :param peak_mb: most memory that its process held at once, where it had one of its own.
    """

    what: str
    records: int
    rejected: int
    json_microseconds: float
    microseconds: float
    peak_mb: float | None = None

    @property
    def ratio(self) -> float:
        """How fast the work is beside parsing alone."""
        return self.json_microseconds / self.microseconds


def print_results(results: Iterable[Result]) -> None:
    """Print a table, then the same as JSON lines."""
    headings = ("measured", "records", "refused", "json µs", "work µs", "ratio", "peak MB")
    print_rows(headings, [_row(result) for result in results])


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table, then each row as a JSON object."""
    print(table(headings, rows), end="\n\n")
    for row in rows:
        print(json.dumps(dict(zip(headings, row, strict=True)), ensure_ascii=False))


def _row(result: Result) -> tuple[object, ...]:
    peak = None if result.peak_mb is None else round(result.peak_mb, 1)
    times = (round(result.json_microseconds, 2), round(result.microseconds, 2), round(result.ratio, 2))
    return result.what, result.records, result.rejected, *times, peak
