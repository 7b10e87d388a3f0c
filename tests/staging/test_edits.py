from __future__ import annotations

import gzip
import json
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import SHARED
from tidepool_ingest.staging.edits import Edits
from tidepool_ingest.staging.manifest import RecordEdits


def edits(**wanted: Any) -> Edits:
    return Edits(RecordEdits.model_validate_json(json.dumps(wanted)))


def test_fields_are_dropped_and_the_rest_keeps_its_spelling() -> None:
    made = edits(drop=["id", "source"])
    assert made.apply(b'{"id":"x","v":6.10, "w" : 1e3,"source":"demo","in":{"id":1}}') == (
        b'{"v":6.10, "w" : 1e3,"in":{"id":1}}'
    )
    assert made.apply(b'{"v":1}') == b'{"v":1}'
    assert made.apply(b'{"id":1,"id":2}') == b"{}"
    assert made.apply(rb'{"\u0069d":1,"v":"id"}') == b'{"v":"id"}'
    assert made.changes == {"id": 3, "source": 1}


def test_fields_are_set_where_they_differ() -> None:
    made = edits(set={"deviceId": "D-1", "n": {"a": 1.0}})
    assert made.apply(b'{"v":6.10}') == b'{"v":6.10,"deviceId":"D-1","n":{"a":1.0}}'
    assert (
        made.apply(b'{"deviceId":"D-2","v":1e3,"n":{"a":1.0}}') == b'{"deviceId":"D-1","v":1e3,"n":{"a":1.0}}'
    )
    same = b'{"deviceId": "D\\u002d1", "n" : { "a":1.00 } }'
    assert made.apply(same) == same
    assert made.apply(b'{"deviceId":1,"deviceId":null,"n":{"a":1.0}}') == (
        b'{"deviceId":1,"deviceId":"D-1","n":{"a":1.0}}'
    )
    assert made.changes == {"deviceId": 3, "n": 1}


def test_truth_is_not_one_and_a_whole_number_may_be_spelled_so() -> None:
    made = edits(set={"a": True})
    assert made.apply(b'{"a":1}') == b'{"a":true}'
    assert made.changes == {"a": 1}


def test_dropping_setting_and_relabelling_together() -> None:
    made = edits(drop=["id"], set={"deviceId": "D"}, glucoseUnits="mmol/L")
    assert made.apply(b'{"id":1,"type":"cbg","units":"mg/dL","value":6.10,"deviceId":"x"}') == (
        b'{"type":"cbg","units":"mmol/L","value":6.10,"deviceId":"D"}'
    )
    assert made.changes == {"id": 1, "deviceId": 1, "units": 1}


RELABELLED = [
    ("units", {"type": "cbg", "units": "mg/dL", "value": 5}),
    ("units", {"type": "smbg", "units": "mg/dl", "value": 5}),
    ("units", {"type": "wizard", "units": "mg/dL", "bgInput": 5}),
    ("units", {"type": "deviceEvent", "subType": "calibration", "units": "mg/dL", "value": 5}),
    ("units.bg", {"type": "deviceEvent", "subType": "pumpSettingsOverride", "units": {"bg": "mg/dL"}}),
    ("units.bg", {"type": "pumpSettings", "units": {"carb": "grams", "bg": "mg/dL"}}),
    ("units.bg", {"type": "dosingDecision", "units": {"bg": "mg/dL", "carb": "grams", "insulin": "Units"}}),
    ("units", {"type": "cgmSettings", "units": "mg/dL", "lowAlerts": {"level": 4}}),
    (
        "defaultAlerts.low.units",
        {"type": "cgmSettings", "defaultAlerts": {"low": {"level": 4, "units": "mg/dL"}}},
    ),
    (
        "scheduledAlerts.*.alerts.high.units",
        {
            "type": "cgmSettings",
            "scheduledAlerts": [{"alerts": {}}, {"alerts": {"high": {"units": "mg/dL"}}}],
        },
    ),
]


@pytest.mark.parametrize(("field", "record"), RELABELLED)
def test_every_label_of_a_glucose_value_is_corrected(field: str, record: dict[str, Any]) -> None:
    made = edits(glucoseUnits="mmol/L")
    line = json.dumps(record).encode()
    label = b"mg/dl" if b"mg/dl" in line else b"mg/dL"
    assert made.apply(line) == line.replace(label, b"mmol/L")
    assert made.changes == {field: 1}
    right = edits(glucoseUnits="mg/dL")
    assert right.apply(line) == line
    assert not right.changes


@pytest.mark.parametrize(
    "record",
    [
        {"type": "bloodKetone", "units": "mmol/L", "value": 1},
        {
            "type": "pumpSettings",
            "display": {"bloodGlucose": {"units": "mmol/L"}},
            "units": {"carb": "grams"},
        },
        {"type": "cgmSettings", "defaultAlerts": {"noData": {"units": "minutes"}, "enabled": True}},
        {"type": "deviceEvent", "subType": "alarm", "units": "mmol/L"},
        {"type": "deviceEvent", "units": "mmol/L"},
        {"type": "food", "nutrition": {"carbohydrate": {"units": "grams", "net": 5}}},
        {"type": ["cbg"], "units": "mmol/L"},
        {"units": "mmol/L"},
        {"type": "cbg", "units": ["mmol/L"]},
    ],
)
def test_other_labels_stay(record: dict[str, Any]) -> None:
    made = edits(glucoseUnits="mg/dL")
    line = json.dumps(record).encode()
    assert made.apply(line) == line
    assert not made.changes


@pytest.mark.parametrize("kind", ['"cbg"', '"smbg"', '"wizard"', '"deviceEvent","subType":"calibration"'])
def test_a_required_label_that_is_missing_is_added(kind: str) -> None:
    made = edits(glucoseUnits="mg/dL")
    assert (
        made.apply(f'{{"type":{kind},"value":5}}'.encode())
        == f'{{"type":{kind},"value":5,"units":"mg/dL"}}'.encode()
    )
    assert (
        made.apply(f'{{"units":null,"type":{kind}}}'.encode())
        == f'{{"units":"mg/dL","type":{kind}}}'.encode()
    )
    assert made.changes == {"units": 2}


def test_a_label_of_no_sense_is_corrected_and_a_right_spelling_is_kept() -> None:
    made = edits(glucoseUnits="mmol/L")
    assert made.apply(b'{"type":"cbg","units":"mg"}') == b'{"type":"cbg","units":"mmol/L"}'
    assert made.apply(b'{"type":"cbg","units":"mmol/l"}') == b'{"type":"cbg","units":"mmol/l"}'


def test_a_rate_is_corrected_only_with_the_value_that_shares_its_unit() -> None:
    made = edits(glucoseUnits="mmol/L")
    wrong = b'{"type":"cbg","units":"mg/dl","trendRate":0.1,"trendRateUnits":"mg/dL/minute"}'
    assert (
        made.apply(wrong)
        == b'{"type":"cbg","units":"mmol/L","trendRate":0.1,"trendRateUnits":"mmol/L/minute"}'
    )
    assert made.changes == {"units": 1, "trendRateUnits": 1}
    apart = b'{"type":"cbg","units":"mmol/L","trendRate":1,"trendRateUnits":"mg/dL/minute"}'
    assert made.apply(apart) == apart
    low, rise = '{"units":"mg/dL"}', '{"rate":1,"units":"mg/dL/minute"}'
    alerts = f'{{"type":"cgmSettings","defaultAlerts":{{"low":{low},"rise":{rise}}}}}'.encode()
    assert made.apply(alerts) == alerts.replace(b"mg/dL", b"mmol/L")


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"[]", b'{"type":"cbg","units":"mg/dL"', b"\xff", b'"type"', b'{"id":NaN'),
        *(b'{"type":"cbg","units":"mg/dL"}x', b'{"type":"cbg"},', b'{"type":"cbg"}{"type":"cbg"}'),
        *(b"{}]", b'{"id":1}\x0b', b'{"id":1}\x00'),
    ],
)
def test_what_is_no_object_stays_to_be_judged(line: bytes) -> None:
    made = edits(drop=["id"], set={"a": 1}, glucoseUnits="mmol/L")
    assert made.apply(line) == line
    assert not made.changes


@settings(deadline=None)
@given(
    record=st.dictionaries(
        st.sampled_from(["a", "b", "c", "é", '"']), st.integers() | st.text(max_size=3), max_size=5
    ),
    drop=st.sets(st.sampled_from(["a", "c", '"', "x"])),
    put=st.dictionaries(
        st.sampled_from(["b", "é", "y"]),
        # No manifest may hold U+0000.
        st.integers(0, 2)
        | st.none()
        | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=2),
    ),
)
def test_edits_mean_what_they_say(record: dict[str, Any], drop: set[str], put: dict[str, Any]) -> None:
    made = edits(drop=sorted(drop), set=put)
    line = json.dumps(record, ensure_ascii=False).encode()
    edited = made.apply(line)
    expected = {key: value for key, value in record.items() if key not in drop}
    assert json.loads(edited) == {**expected, **put}
    missing = object()
    changed = {key for key in drop if key in record} | {
        k for k, v in put.items() if record.get(k, missing) != v
    }
    assert set(made.changes) == changed
    assert bool(changed) or edited == line


EXPORT = SHARED / "real" / "export-2014.ndjson.gz"


@pytest.mark.skipif(not EXPORT.exists(), reason="the shared folder is not there")
def test_an_export_with_wrong_labels() -> None:
    made = edits(drop=["id", "source"], glucoseUnits="mmol/L")
    lines = gzip.decompress(EXPORT.read_bytes()).splitlines()
    edited = [json.loads(made.apply(line)) for line in lines]
    for before, after in zip(map(json.loads, lines), edited, strict=True):
        before.pop("id", None)
        before.pop("source", None)
        if before.get("type") in ("cbg", "smbg", "wizard"):
            before["units"] = "mmol/L"
        assert after == before
    assert made.changes["id"] == sum(b'"id":' in line for line in lines)
    assert {record["units"] for record in edited if record.get("type") == "cbg"} == {"mmol/L"}
    assert (
        round(statistics.median(record["value"] for record in edited if record.get("type") == "cbg"), 2)
        == 6.38
    )
