"""Pointers that may be shown."""

from __future__ import annotations

import pytest

from tests.model.examples import example
from tidepool_ingest.model import masked_pointer, validate_datum


@pytest.mark.parametrize(
    ("pointer", "shown"),
    [
        ("", ""),
        ("/value", "/value"),
        ("/bolus/normal", "/bolus/normal"),
        ("/annotations/12", "/annotations/12"),
        ("/basalSchedules/Anna's weekend/0/rate", "/basalSchedules/*/0/rate"),
        ("/basalSchedules/value/0/rate", "/basalSchedules/*/0/rate"),
        ("/bgTargets/7/0/low", "/bgTargets/*/0/low"),
        ("/carbRatios/~1x~0/0/amount", "/carbRatios/*/0/amount"),
        ("/insulinSensitivities/a", "/insulinSensitivities/*"),
        ("/overridePresets/Run/bgTarget/target", "/overridePresets/*/bgTarget/target"),
        ("/Anna", "/*"),
        ("/payload/Anna/value", "/payload/*/value"),
        ("/client/private", "/client/private"),
        ("/deviceManufacturers/0", "/deviceManufacturers/0"),
        ("/notes/\u0661", "/notes/*"),
        ("/notes/3", "/notes/3"),
        ("/4711", "/*"),
        ("/client/4711", "/client/*"),
        ("/payload/4711", "/payload/*"),
        ("/annotations/0/4711", "/annotations/0/*"),
        ("/basalSchedules/4711/12/rate", "/basalSchedules/*/12/rate"),
        ("/basalSchedules/4711/12/4711", "/basalSchedules/*/12/*"),
        ("/overridePresets/4711/4711", "/overridePresets/*/*"),
    ],
)
def test_masked_pointers(pointer: str, shown: str) -> None:
    assert masked_pointer(pointer) == shown


def test_no_schedule_name_is_shown() -> None:
    record = example(
        "pumpSettings", {"basalSchedules": {"Anna's": [{"rate": -1, "start": 5}], "Bob/s": None}}
    )
    shown = [masked_pointer(problem.pointer) for problem in validate_datum(record)]
    assert shown == ["/basalSchedules/*/0/rate", "/basalSchedules/*/0/start", "/basalSchedules/*"]
