"""Many glucose values, in bounded memory, for the sake of their median."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MAX_DIFFERENT = 30_000
"""Different values that are told apart; beyond them they are counted by tenths of their unit."""


class Readings:
    """Counts values by the units that they claim; memory is bounded by the number of different values."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, float]] = Counter()

    def add(self, readings: Iterable[tuple[str, float]]) -> None:
        """Take in some values.

        :param readings: units as given, and value.
        """
        self._counts.update(readings)
        if len(self._counts) > MAX_DIFFERENT:
            rounded: Counter[tuple[str, float]] = Counter()
            for (unit, value), count in self._counts.items():
                rounded[unit, round(value, 1)] += count
            self._counts = rounded

    def median(self, units: tuple[str, ...]) -> tuple[float | None, int]:
        """Return the lower median of the values that claim a unit, and how many there are.

        :param units: all spellings of the unit.
        :return: ``None`` and 0 when there are none.
        """
        chosen: Counter[float] = Counter()
        for (unit, value), count in self._counts.items():
            if unit in units:
                chosen[value] += count
        total = chosen.total()
        half = (total + 1) // 2
        for value in sorted(chosen):
            half -= chosen[value]
            if half <= 0:
                return value, total
        return None, 0
