"""Whether many glucose values can be in the unit that their labels claim.

Nothing in a single record shows it: only their median does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tidepool_ingest.model.decode import FAST_ERRORS
from tidepool_ingest.model.glucose import MG_PER_DL_UNITS, MMOL_PER_L_UNITS

MAX_DIFFERENT = 30_000
"""Different values that are counted exactly; beyond them, values are rounded to tenths of their unit."""

LOWEST_MEDIAN_MG_DL = 25.0
"""Nobody survives a median glucose below 25 mg/dL (1.4 mmol/L)."""

HIGHEST_MEDIAN_MMOL_L = 40.0
"""Above 40 mmol/L (720 mg/dL) no meter even shows a number, let alone as a median."""


class GlucoseHistogram:
    """Counts values by the unit on their label; memory is bounded by the number of different values."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, float]] = Counter()

    def add(self, readings: Iterable[tuple[str, float]]) -> None:
        """Add values.

        :param readings: the unit as given, and the value, of each.
        """
        self._counts.update(readings)
        if len(self._counts) > MAX_DIFFERENT:
            rounded: Counter[tuple[str, float]] = Counter()
            for (unit, value), count in self._counts.items():
                rounded[unit, round(value, 1)] += count
            self._counts = rounded

    def median(self, units: tuple[str, ...]) -> tuple[float | None, int]:
        """Return the lower median of the values labelled with a unit, and how many there are.

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

    def implausible(self) -> tuple[str, int] | None:
        """Return a unit that the values labelled with it cannot be in, and how many they are."""
        middle, count = self.median(MG_PER_DL_UNITS)
        if middle is not None and middle < LOWEST_MEDIAN_MG_DL:
            return "mg/dL", count
        middle, count = self.median(MMOL_PER_L_UNITS)
        if middle is not None and middle > HIGHEST_MEDIAN_MMOL_L:
            return "mmol/L", count
        return None


class _Reading(msgspec.Struct, gc=False):
    type: Any = None
    subType: Any = None  # noqa: N815 - as the Platform calls it
    units: Any = None
    value: Any = None


_decoder: Final = msgspec.json.Decoder(_Reading)
_lines_decoder: Final = msgspec.json.Decoder(list[_Reading])


def readings_of(lines: Sequence[bytes]) -> Iterator[tuple[str, float]]:
    """Yield the values that :func:`~tidepool_ingest.model.glucose_reading` finds, without decoding the rest.

    :param lines: records as JSON; what is none is left out.
    """
    for reading in _decoded(lines):
        kind, units, value = reading.type, reading.units, reading.value
        is_level = kind == "cbg" or kind == "smbg"
        if not is_level and not (kind == "deviceEvent" and reading.subType == "calibration"):
            continue
        if type(units) is str and (type(value) is float or type(value) is int):
            yield units, value


def _decoded(lines: Sequence[bytes]) -> list[_Reading]:
    try:
        found = _lines_decoder.decode(b"[%b]" % b",".join(lines))
    except FAST_ERRORS:
        found = []
    if len(found) == len(lines):
        return found
    each = []
    for line in lines:
        try:
            each.append(_decoder.decode(line))
        except FAST_ERRORS:
            continue
    return each
