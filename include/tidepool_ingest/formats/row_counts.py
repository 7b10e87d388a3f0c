"""What became of the rows of a file, in numbers: nothing that they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tidepool_ingest.formats.reader import Block, RejectedRow, Row

OTHER_DEVICE: Final = "other-device"
"""Reason why a row is no reading: it is of another device than the one that is meant."""

UNDER_OTHER_SERIAL: Final = "under-other-serial"
"""Reason why a row is left out that another device of the file has, too."""

NAMED_MAX: Final = 5
"""Rows of each code that are named by their place; the others are only counted."""


class RowCounts:
    """Counts the rows of some files by what became of them: each gave records, is rejected, or is no reading.

    :param several: whether there are several files, so that a place names its file.
    :param names: what these are called by whoever asked, in their order; by number if left out.
    """

    def __init__(self, *, several: bool = False, names: Sequence[str] = ()) -> None:
        self._several = several
        self._names = names
        self.rows = 0
        """All rows."""
        self.records = 0
        """Records that were read from them."""
        self.skipped: Counter[str] = Counter()
        """Rows that are no reading, by reason."""
        self.rejected: Counter[str] = Counter()
        """Rows that nobody can read a record from, by code."""
        self._places: dict[str, list[str]] = {}

    def add(self, block: Block) -> None:
        """Count the rows of a block."""
        self.rows += block.rows
        self.records += len(block.lines)
        self.skipped.update(block.skipped)
        for row in block.rejected:
            self.rejected[row.code] += 1
            places = self._places.setdefault(row.code, [])
            if len(places) < NAMED_MAX:
                places.append(place_of(block, row, several=self._several, names=self._names))

    @property
    def readings(self) -> int:
        """Rows that gave records."""
        return self.rows - self.rejected.total() - self.skipped.total()

    def places_of(self, code: str) -> list[str]:
        """Return where the first few rows are that are rejected for a code."""
        return self._places.get(code, [])

    def described(self) -> Iterator[str]:
        """Yield a line about each kind of row that gave no record, if there are any."""
        if self.rejected:
            codes = (f"{count} {code} ({self._named(code)})" for code, count in _ordered(self.rejected))
            yield f"{rows_are(self.rejected)} rejected: {', '.join(codes)}"
        if self.skipped:
            reasons = (f"{count} {reason}" for reason, count in _ordered(self.skipped))
            yield f"{rows_are(self.skipped)} no reading: {', '.join(reasons)}"

    def _named(self, code: str) -> str:
        places = self._places[code]
        return ", ".join([*places, *(["..."] if self.rejected[code] > len(places) else [])])


def place_of(block: Block, row: Row | RejectedRow, *, several: bool, names: Sequence[str] = ()) -> str:
    """Return where a row is, as a person looks for it.

    :param block: the block that it is in.
    :param row: the row.
    :param several: whether there are several files, so that the place names its own.
    :param names: what these are called by whoever asked, in their order; by number if left out.
    """
    number = None if row.where else block.number_of(row.position)
    place = row.where or (f"row {row.position + 1}" if number is None else f"line {number}")
    if not several:
        return place
    return f"{names[block.file_number - 1] if names else f'file {block.file_number}'}, {place}"


def rows_are(counts: Counter[str]) -> str:
    """Return how many rows there are, as the beginning of a sentence about them."""
    number = counts.total()
    return "1 row is" if number == 1 else f"{number} rows are"


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
