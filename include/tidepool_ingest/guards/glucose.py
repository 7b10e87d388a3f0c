"""The guard against glucose values under the wrong unit.

An old export labels mmol/L values "mg/dL". Tidepool believes the label: 6.38 mmol/L would be stored as
0.354 and show a patient near death. Nothing in a single record is invalid; only many together give it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tidepool_ingest.errors import HeldError, Mend, MendPlace
from tidepool_ingest.model import glucose_readings
from tidepool_ingest.model.glucose_levels import GlucoseHistogram


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
    mends = tuple(
        mend
        for units in ("mmol/L", "mg/dL")
        for mend in (
            Mend(MendPlace.MANIFEST, f'"edits": {{"glucoseUnits": "{units}"}}', is_example=True),
            Mend(MendPlace.STAGE, f"--glucose-units {units}", is_example=True),
        )
    )

    def __init__(self, batch: str, claimed: str, readings: int) -> None:
        other = "mmol/L" if claimed.lower().startswith("mg") else "mg/dL"
        super().__init__(
            f"Batch {batch} is held: the median of its {readings} glucose readings labelled {claimed} is one "
            f"that no person has, so they are probably in {other}. Nothing was opened.",
            remedy=f'Look at the device\'s own display, then let the manifest say which unit it is: "edits": '
            f'{{"glucoseUnits": "{other}"}} relabels them, "{claimed}" confirms the label.',
        )
        self.particulars = f"{readings} glucose readings"
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
        self.add(glucose_readings(data))

    def add(self, readings: Iterable[tuple[str, float]]) -> None:
        """Add readings of accepted records, each with its units."""
        self._readings.add(readings)

    def check(self, batch: str) -> None:
        """Hold the batch if its readings cannot be in the unit they claim.

        :param batch: how the batch is named in messages.
        :raises GlucoseUnitsError: naming unit and number, no value.
        """
        if found := self._readings.implausible():
            raise GlucoseUnitsError(batch, *found)
