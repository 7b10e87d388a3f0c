"""Which records of an export have mmol/L values labelled mg/dL.

Tidepool stores glucose in mmol/L, and once kept the label that the device had given. One record does not show
it; the median of many does, by the reasoning of the guard that holds such batches
(:mod:`tidepool_ingest.guards.glucose`). Each kind of record is assessed by its own values; one that has
none follows the readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tidepool_ingest.model import MG_PER_DL_UNITS
from tidepool_ingest.model.glucose_levels import LOWEST_MEDIAN_MG_DL, GlucoseHistogram
from tidepool_ingest.staging.edits import VALUE_LABELS
from tidepool_ingest.staging.splice import EACH

READINGS: Final = ("cbg", "smbg", "deviceEvent/calibration")

_TARGET: Final = ("target", "low", "high")

LEVELS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    **dict.fromkeys(READINGS, (("value",),)),
    "wizard": (("bgInput",), *(("bgTarget", name) for name in _TARGET)),
    "pumpSettings": (
        *(("bgTarget", EACH, name) for name in _TARGET),
        *(("bgTargets", EACH, EACH, name) for name in _TARGET),
    ),
    "cgmSettings": (("lowAlerts", "level"), ("highAlerts", "level")),
}
"""Where records have glucose levels. Not sensitivities: a fall by 25 mg/dL is as common as one by 2."""


def kind_of(datum: Mapping[str, Any]) -> str:
    """Return type, and sub-type for device events, as the keys of ``LEVELS`` name them; empty if no text."""
    kind, sub_type = datum.get("type"), datum.get("subType")
    if not isinstance(kind, str):
        return ""
    return f"{kind}/{sub_type if isinstance(sub_type, str) else ''}" if kind == "deviceEvent" else kind


class ClaimedUnits:
    """Collects the values that an export labels mg/dL."""

    def __init__(self) -> None:
        self._readings = {kind: GlucoseHistogram() for kind in LEVELS}
        self._all = GlucoseHistogram()

    def see(self, datum: Mapping[str, Any]) -> None:
        """Add the glucose levels of one record.

        :param datum: the record, decoded; it may be invalid in any way.
        """
        kind = kind_of(datum)
        if kind not in LEVELS:
            return
        labels = list(_values((datum,), VALUE_LABELS[kind][0]))
        if not labels or labels[0] not in MG_PER_DL_UNITS:
            return
        levels = [
            (labels[0], float(value))
            for path in LEVELS[kind]
            for value in _values((datum,), path)
            if type(value) is float or type(value) is int
        ]
        self._readings[kind].add(levels)
        if kind in READINGS:
            self._all.add(levels)

    def mislabelled(self) -> frozenset[str]:
        """Return the kinds of records whose mg/dL values are really mmol/L."""
        return frozenset(kind for kind, readings in self._readings.items() if self._is_mislabelled(readings))

    def _is_mislabelled(self, readings: GlucoseHistogram) -> bool:
        median, count = readings.median(MG_PER_DL_UNITS)
        if not count:
            median, _ = self._all.median(MG_PER_DL_UNITS)
        return median is not None and median < LOWEST_MEDIAN_MG_DL


def _values(holders: Iterable[Any], path: tuple[str, ...]) -> Iterator[Any]:
    """Yield what is at the end of a path; ``EACH`` stands for every element of an array or object."""
    if not path:
        yield from holders
        return
    for holder in holders:
        if path[0] != EACH:
            inner = [holder[path[0]]] if isinstance(holder, Mapping) and path[0] in holder else []
        elif isinstance(holder, Mapping):
            inner = list(holder.values())
        else:
            inner = holder if isinstance(holder, list) else []
        yield from _values(inner, path[1:])
