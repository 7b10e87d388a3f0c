"""The fast path accepts nothing that the exact validation rejects, and accepts what is common."""

from __future__ import annotations

import copy
import gzip
import json
import threading
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import SHARED
from tests.model.examples import BOLUS, EXAMPLES, SCHEDULED, TIME, example, passes
from tidepool_ingest.model import fast_path, validate_datum, validate_lines
from tidepool_ingest.model.fast_path import SHORT_LINE_BYTES, outline_of
from tidepool_ingest.model.fields import JSON_SIZE_MAX
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.model.verdict import object_in, validate_block, validate_line
from tidepool_ingest.prepare.digests import content_digest

FAST_EXAMPLES = [
    ("cbg", {}),
    ("cbg", {"trend": "slowRise", "trendRate": 1.5, "trendRateUnits": "mg/dL/minute", "backfilled": False}),
    ("cbg", {"trendRate": 1.5}),
    ("cbg", {"units": "mmol/l", "value": 5, "sampleInterval": 300000}),
    (
        "smbg",
        {
            "payload": {"logIndices": [0]},
            "timezoneOffset": -480,
            "conversionOffset": 0,
            "clockDriftOffset": 0,
        },
    ),
    ("smbg", {"deviceTime": "2024-03-03T21:06:07", "annotations": [{"code": "x"}], "timezone": "US/Pacific"}),
    (
        "smbg",
        {
            "origin": {"id": "a", "name": "n", "type": "service"},
            "id": "0" * 32,
            "guid": "dropped",
            "notes": [],
        },
    ),
    ("bloodKetone", {}),
    ("basal scheduled", {}),
    ("basal automated", {}),
    ("basal temp", {"suppressed": SCHEDULED}),
    ("basal temp", {"suppressed": {**SCHEDULED, "deliveryType": "automated", "suppressed": SCHEDULED}}),
    ("basal suspend", {"suppressed": SCHEDULED}),
    ("bolus normal", {}),
    ("bolus square", {}),
    ("bolus dual/square", {}),
    ("bolus automated", {}),
    ("bolus normal", {"insulinFormulation": None, "deliveryContext": "device"}),
    ("wizard", {}),
    ("wizard", {"bolus": {**BOLUS, "subType": "square", "duration": 1, "extended": 1}}),
    ("deviceEvent alarm", {}),
    ("deviceEvent calibration", {}),
    ("deviceEvent prime", {}),
    ("deviceEvent reservoirChange", {}),
    ("deviceEvent status", {}),
    ("insulin", {"formulation": None}),
    ("physicalActivity", {}),
    ("reportedState", {}),
    ("water", {}),
    ("controllerStatus", {}),
]
"""What sources send all day, which must not take the slow way."""

NASTY: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    0.5,
    1e9,
    60.0,
    10**20,
    -(10**20),
    56,
    1001,
    "",
    "x",
    " ",
    "mg/dL",
    "mmol/L",
    "Mg/dL",
    "\n",
    "x" * 101,
    TIME,
    TIME + "\n",
    "2024-02-30T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "2024-03-04T05:06:07",
    "0" * 32,
    "0" * 32 + "\n",
    "US/Pacific",
    "PST",
    [],
    {},
    [None],
    [{}],
    [""],
    ["a", "a"],
    {"a": None},
    {"a": 1},
    {"type": "basal"},
    BOLUS,
    SCHEDULED,
    {"target": 100, "high": 50},
    {"low": 1, "high": 0},
    "other",
    "preset",
]
NAMES = sorted(
    {name for record in EXAMPLES.values() for name in record}
    | {
        "expectedDuration",
        "expectedNormal",
        "expectedExtended",
        "trendRate",
        "trendRateUnits",
        "suppressed",
        "subType",
        "mealOther",
        "soundName",
        "triggerDelay",
        "activityTypeOther",
        "origin",
        "location",
        "associations",
        "tags",
        "notes",
        "payload",
        "annotations",
        "source",
        "id",
        "timezone",
        "insulinFormulation",
        "deliveryContext",
        "change",
        "compounds",
        "sampleInterval",
        "stateOther",
        "endTime",
    }
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the paths to all values inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, item in inside for found in [(*path, key), *places(item, (*path, key))]]


def change(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> None:
    """Put a value into a place, if the place is still there."""
    inside: Any = record
    for key in path[:-1]:
        inside = inside[key] if isinstance(inside, dict) and key in inside else None
        if inside is None:
            return
    if isinstance(inside, dict):
        inside[path[-1]] = value


@st.composite
def changed_records(draw: st.DrawFn) -> dict[str, Any]:
    record = copy.deepcopy(EXAMPLES[draw(st.sampled_from(sorted(EXAMPLES)))])
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(record)))
        where = draw(st.sampled_from(["value", "field", "base"]))
        if where == "field":
            path = (*path[:-1], draw(st.sampled_from(NAMES)))
        elif where == "base":
            path = (draw(st.sampled_from(NAMES)),)
        change(record, path, copy.deepcopy(draw(st.sampled_from(NASTY))))
    return record


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(changed_records())
def test_it_passes_only_what_is_accepted(record: dict[str, Any]) -> None:
    if passes(record):
        assert validate_datum(record) == ()


def check_as_exact(lines: list[bytes]) -> int:
    """Hold what the fast path makes of lines against the exact validation; return how many are accepted."""
    found = validate_block(lines)
    for index, line in enumerate(lines):
        record, exact = found.records[index], validate_line(line)
        assert found.problems.get(index, ()) == exact.problems
        datum = object_in(line)
        assert (record is None) is (datum is None or bool(exact.problems))
        if index in found.decoded:
            assert found.decoded[index] == datum
        if record is None or datum is None:
            continue
        outline = outline_of(datum)
        for name in outline.__struct_fields__:
            of_record, of_datum = getattr(record, name), getattr(outline, name)
            if name not in record.__struct_fields__ and name != "type" and of_record is None:
                continue  # a field that its type does not have
            if not isinstance(of_record, msgspec.Struct):
                assert (of_record, type(of_record)) == (of_datum, type(of_datum))
        if index not in found.decoded:
            assert content_digest(line, record) == content_digest(line, datum)
    return sum(record is not None for record in found.records)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(changed_records(), max_size=8))
def test_a_block_is_told_as_by_the_exact_validation(records: list[dict[str, Any]]) -> None:
    check_as_exact([json.dumps(record).encode() for record in records])


@pytest.mark.parametrize("name", sorted(EXAMPLES))
@pytest.mark.parametrize(
    "member",
    [
        b'"guid":"dropped"',
        b'"guid":null',
        b'"guid":1e400',
        b'"guid":"\xff"',
        b'"\xff":1',
        b'"guid":"\\ud800"',
        b'"guid":{"a":1e999}',
        b'"guid":NaN',
        b'"type":"unknown"',
        b'"subType":"unknown"',
        b'"payload":{"a":1e400}',
        b'"payload":{"\\u0000":1}',
        b'"payload":{"a":-0,"b":-0.0,"c":123456789012345678901234567890,"d":1E2,"e":[null]}',
        b'"payload":{"a":null}',
        b'"payload":null',
        b'"payload":{"b":1,"a":{"d":1,"c":2},"B":{}}',
        b'"timezoneOffset":-480.0',
        b'"timezoneOffset":1e2',
        b'"timezoneOffset":true',
        b'"clockDriftOffset":9007199254740993',
        b'"conversionOffset":9223372036854775808',
        b'"time":"2024-03-04T05:06:07Z\\n2024-03-04T05:06:07Z"',
        b'"time":"2024-03-04T05:06:07Z\\n"',
        b'"deviceTime":"2024-03-04T05:06:07\\n"',
        b'"deviceId":"a\\u00e9\\ud83d\\ude00"',
        b'"deviceId":""',
        b'"DeviceId":"other"',
        b'"id":"' + b"0" * 32 + b'\\n"',
        b'"notes":[null]',
        b'"tags":["b","a"]',
        b'"annotations":[{"a":1},null]',
    ],
)
def test_one_more_member_is_told_as_by_the_exact_validation(name: str, member: bytes) -> None:
    line = json.dumps(EXAMPLES[name]).encode()
    cut = line[: len(line) * 2 // 3]
    check_as_exact(
        [line, line[:-1] + b"," + member + b"}", b"{" + member + b"," + line[1:], cut, line + b" ", line]
    )


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_example_passes_while_it_is_parsed(name: str) -> None:
    assert passes(EXAMPLES[name], whole=True)
    assert passes({**EXAMPLES[name], "guid": "dropped", "payload": None})


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_each_single_change_of_each_field(name: str) -> None:
    for path in places(EXAMPLES[name]):
        for value in NASTY:
            record = copy.deepcopy(EXAMPLES[name])
            change(record, path, value)
            if passes(record) or passes(record, whole=True):
                assert validate_datum(record) == (), (path, value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the folder `shared` beside the checkout")
def test_it_passes_no_recorded_case_that_was_refused() -> None:
    passed = 0
    with gzip.open(SHARED / "conformance" / "datum-verdicts.ndjson.gz") as cases:
        for case in map(json.loads, cases):
            if passes(case["datum"]):
                passed += 1
                assert case["accepted"], case["id"]
    assert passed > 400


@pytest.mark.parametrize(("name", "changes"), FAST_EXAMPLES)
def test_what_is_common_passes(name: str, changes: dict[str, Any]) -> None:
    record = example(name, changes)
    assert passes(record)
    assert validate_datum(record) == ()


@pytest.mark.parametrize(
    "line",
    [
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":' + b"1" * 400 + b"}",
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":NaN}',
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119,"x":1e400}',
        b'{"type":"cbg","time":"2024-03-04T05:06:07Z","units":"mg/dL","value":119},{"type":"cbg"}',
    ],
)
def test_no_line_that_is_not_json_passes(line: bytes) -> None:
    assert [judged.problems for judged in validate_lines([line])] == [(("staged-not-json", ""),)]


@pytest.mark.parametrize("place", ["payload", "annotations.0", "origin.payload"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    "free",
    [
        {"a": "x"},
        {"a": "<" * 600},
        {"a": "\u2028" * 600},
        {"<" * 600: 1},
        {"a": [1e20] * 150},
        {"a": [10**20] * 150},
        {"a": {"b": {"c": [{}, [], True]}}},
        {"a": [[]] * 1_000},
    ],
)
def test_a_free_object_in_a_long_line_passes_if_go_would_write_it_small(
    free: dict[str, Any], whole: bool, place: str
) -> None:
    room = JSON_SIZE_MAX - go_json_size({**free, "rest": ""})
    for more, is_small in ((0, True), (1, False)):
        value = {**free, "rest": "x" * (room + more)}
        record = example("smbg", {"annotations": [{"a": 1}], "origin": {"name": "x"}, place: value})
        assert len(json.dumps(record)) > SHORT_LINE_BYTES
        assert passes(record, whole=whole) is is_small
        assert (validate_datum(record) == ()) is is_small


ORDERED: list[tuple[str, str, str]] = [
    ("alert", "issuedTime", "acknowledgedTime"),
    ("alert", "issuedTime", "retractedTime"),
    ("pumpStatus", "basalDelivery.dose.startTime", "basalDelivery.dose.endTime"),
]


@pytest.mark.parametrize(("name", "before", "after"), ORDERED)
def test_times_that_must_not_be_before_others_are_compared_as_moments(
    name: str, before: str, after: str
) -> None:
    fractions = ("", ".0", ".1", ".10", ".12345678901", ".12345678902")
    times = [f"2024-03-04T05:06:0{second}{fraction}Z" for second in "78" for fraction in fractions]
    for first in times:
        for second in times:
            record = example(name, {before: first, after: second})
            assert passes(record, whole=True) is (validate_datum(record) == ()), (first, second)


RANGES: list[tuple[str, str, list[tuple[str, Any]]]] = [
    ("bolus normal", "normal", [("expectedNormal", value) for value in (None, 0, 0.5, 100, 101)]),
    ("bolus square", "duration", [("expectedExtended", value) for value in (None, 1)]),
    ("bolus automated", "expectedNormal", [("normal", value) for value in (0, 0.5, 100)]),
    ("basal suspend", "expectedDuration", [("duration", value) for value in (0, 1, 604800000)]),
    ("deviceEvent status", "expectedDuration", [("duration", value) for value in (None, 0, 5)]),
    ("bloodKetone", "value", [("units", value) for value in ("mmol/L", "mmol/l", "mg/dL", None)]),
    ("deviceEvent prime", "volume", [("primeTarget", value) for value in ("cannula", "tubing", "x")]),
    ("controllerStatus", "battery.remaining", [("battery.units", value) for value in ("percent", None)]),
    ("water", "amount.value", [("amount.units", value) for value in ("gallons", "ounces")]),
    (
        "pumpSettings",
        "insulinModel.actionPeakOffset",
        [("insulinModel.actionDuration", value) for value in (None, 0, 5, 86400, 86401)],
    ),
    ("pumpSettings", "basal.rateMaximum.value", [("basal.rateMaximum.units", "Units/hour")]),
]


@pytest.mark.parametrize(("name", "field", "siblings"), RANGES)
def test_numbers_pass_as_far_as_their_siblings_allow(
    name: str, field: str, siblings: list[tuple[str, Any]]
) -> None:
    values = (-1, -0.001, 0, 0.4, 0.5, 1, 4, 5, 6, 10, 10.5, 99.9, 100, 101, 1280, 86400, 604800000, 10**9)
    for sibling, other in siblings:
        for value in (None, *values):
            record = example(name, {sibling: other, field: value})
            assert passes(record) is (validate_datum(record) == ()), (value, other)


def test_one_thread_alone_makes_the_structs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two that do crash in msgspec: the process ends without a word.
    others = threading.Barrier(4)
    making: list[str] = []
    made: list[str] = []
    make = fast_path._Decoders._struct_of

    def struct_of(decoders: fast_path._Decoders, name: str) -> Any:
        making.append(name)
        for _ in range(1_000):
            time.sleep(0)  # the others go on, as far as they may
        found = make(decoders, name)
        made.append(name)
        assert making == made
        return found

    def ask() -> None:
        others.wait()
        passed.extend(fast_path.surely_valid(lines, whole=True))

    monkeypatch.setattr(fast_path._Decoders, "_struct_of", struct_of)
    monkeypatch.setitem(fast_path._DECODERS, True, fast_path._Decoders(whole=True))
    lines = [json.dumps(example(name)).encode() for name in ("smbg", "bolus normal", "cbg")]
    passed: list[Any] = []
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["bolus", "cbg", "smbg"]
    assert len(passed) == 12
    assert None not in passed


def test_structs_of_a_type_are_made_when_its_first_record_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of them take longer than a small batch.
    decoders = fast_path._Decoders(whole=True)
    monkeypatch.setitem(fast_path._DECODERS, True, decoders)
    smbg, wrong, unknown, food = (
        json.dumps(record).encode()
        for record in (example("smbg"), example("smbg", {"value": "x"}), {"type": "none"}, example("food"))
    )
    assert [record is not None for record in fast_path.surely_valid([smbg, wrong, unknown], whole=True)] == [
        True, False, False,
    ]  # fmt: skip
    assert set(decoders._structs) == {"smbg"}
    assert [record is not None for record in fast_path.surely_valid([wrong, food, smbg], whole=True)] == [
        False, True, True,
    ]  # fmt: skip
    assert set(decoders._structs) == {"smbg", "food"}


def test_what_another_thread_makes_meanwhile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    decoders = fast_path._Decoders(whole=True)
    type_of = fast_path._type_of

    def type_of_a_slow_thread(line: bytes) -> Any:
        decoders._with(["smbg"])
        return type_of(line)

    monkeypatch.setitem(fast_path._DECODERS, True, decoders)
    monkeypatch.setattr(fast_path, "_type_of", type_of_a_slow_thread)
    assert None not in fast_path.surely_valid([json.dumps(example("smbg")).encode()], whole=True)


@pytest.mark.parametrize("changed", [{"type": ""}, {"type": None}, {}])
def test_of_one_type_alone_a_record_without_it_does_not_pass(
    changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fast_path._DECODERS, True, fast_path._Decoders(whole=True))
    with_type = example("smbg")
    without = {name: value for name, value in with_type.items() if name != "type"} | changed
    lines = [json.dumps(record).encode() for record in (with_type, without)]
    assert [record is not None for record in fast_path.surely_valid(lines, whole=True)] == [True, False]
