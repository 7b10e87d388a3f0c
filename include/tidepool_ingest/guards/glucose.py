"""The guard against glucose values under the wrong unit.

An old export labels mmol/L values "mg/dL". Tidepool believes the label: 6.38 mmol/L would be stored as
0.354 and show a patient near death. Nothing in a single record is invalid; only many together give it away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tidepool_ingest.guards.checks import HeldError
from tidepool_ingest.model import MG_PER_DL_UNITS, MMOL_PER_L_UNITS, glucose_readings

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


class GlucoseUnitsError(HeldError):
    """A batch's glucose values cannot be in the unit they claim.

    :param batch: how the batch is named in messages.
    :param claimed: the unit they claim.
    :param readings: how many do.
    """

    code = "glucose-units-implausible"
    sentence = "its glucose values cannot be in the unit they claim"
    remedy = (
        "Look at the device's own display, then let the manifest say which unit it is (`glucoseUnits` among "
        "its `edits`)."
    )

    def __init__(self, batch: str, claimed: str, readings: int) -> None:
        other = "mmol/L" if claimed.lower().startswith("mg") else "mg/dL"
        super().__init__(
            f"Batch {batch} is held: the median of its {readings} glucose readings labelled {claimed} is one "
            f"that no person has, so they are probably in {other}. Nothing was opened.",
            remedy=f'Look at the device\'s own display, then let the manifest say which unit it is: "edits": '
            f'{{"glucoseUnits": "{other}"}} relabels them, "{claimed}" confirms the label.',
        )
        self.batch = batch
        self.claimed = claimed


class GlucoseGuard:
    """Collects a batch's glucose readings, in bounded memory."""

    def __init__(self) -> None:
        self._readings = GlucoseHistogram()

    def see(self, data: Iterable[Mapping[str, Any]]) -> None:
        """Add the readings of accepted records.

        :param data: the records, decoded.
        """
        self._readings.add(glucose_readings(data))

    def check(self, batch: str) -> None:
        """Hold the batch if its readings cannot be in the unit they claim.

        :param batch: how the batch is named in messages.
        :raises GlucoseUnitsError: naming unit and number, no value.
        """
        middle, count = self._readings.median(MG_PER_DL_UNITS)
        if middle is not None and middle < LOWEST_MEDIAN_MG_DL:
            raise GlucoseUnitsError(batch, "mg/dL", count)
        middle, count = self._readings.median(MMOL_PER_L_UNITS)
        if middle is not None and middle > HIGHEST_MEDIAN_MMOL_L:
            raise GlucoseUnitsError(batch, "mmol/L", count)
