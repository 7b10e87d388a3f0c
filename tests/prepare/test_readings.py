from __future__ import annotations

import random
import statistics

from tidepool_ingest.model import glucose_levels as readings
from tidepool_ingest.model.glucose_levels import GlucoseHistogram

MG_DL = ("mg/dL", "mg/dl")


def test_the_median_is_of_one_unit_in_all_its_spellings() -> None:
    seen = GlucoseHistogram()
    assert seen.median(MG_DL) == (None, 0)
    seen.add([("mg/dL", 100), ("mg/dl", 300.5), ("mmol/L", 5), ("mg/dL", 200)])
    assert seen.median(MG_DL) == (200, 3)
    seen.add([("mg/dL", 50)])
    assert seen.median(MG_DL) == (100, 4)
    assert seen.median(("mmol/L",)) == (5, 1)


def test_so_many_different_values_are_counted_by_tenths() -> None:
    chance = random.Random(1)
    values = [chance.uniform(2, 20) for _ in range(readings.MAX_DIFFERENT + 1)]
    seen = GlucoseHistogram()
    seen.add([("mmol/L", value) for value in values])
    middle, count = seen.median(("mmol/L",))
    assert count == len(values)
    assert middle is not None
    assert abs(middle - statistics.median_low(values)) <= 0.05
    assert len(seen._counts) <= 181
