"""The format ``tidepool-web-export``: what Tidepool's web page exports becomes records again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from upath import UPath

from tests import PROJECT
from tests.factories import DAY, DEVICE, bolus, cbg, minute_of, wizard
from tests.formats.web_page import (
    FORMAT,
    Record,
    comparable,
    exported,
    kept,
    read,
    stored,
)
from tests.model.examples import EXAMPLES
from tests.world import World
from tidepool_ingest.cli import main
from tidepool_ingest.deep_json import dumps, loads
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.tidepool_export import telling
from tidepool_ingest.formats.tidepool_export.telling import ExportKind, ExportKindError, ExportSigns
from tidepool_ingest.formats.tidepool_export.web_fields import IN_STRINGS, KEPT, KEPT_TYPES, PIECES
from tidepool_ingest.formats.tidepool_web_export import pump_settings
from tidepool_ingest.formats.tidepool_web_export.pump_settings import SettingsJoiner
from tidepool_ingest.formats.tidepool_web_export.restoring import (
    DURATION,
    LOST,
    NEEDED,
    UNCLEAR,
    NotRestorableError,
    Restorer,
)
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.specification import FieldSpec, Kind, fields_of, literal_fields
from tidepool_ingest.stage import stage
from tidepool_ingest.staging.manifest import read_manifest
from tidepool_ingest.staging.source_file import SourceFile

API = {"format": "tidepool-export"}
HALF_HOUR = 30 * 60 * 1000


def basal(number: int, duration: float = HALF_HOUR, **more: Any) -> Record:
    """Return a basal as the data API shows it, with the link to its data set."""
    return {
        "type": "basal",
        "deliveryType": "automated",
        "time": minute_of(number),
        "deviceId": DEVICE,
        "duration": duration,
        "rate": 0.85,
        "id": f"{number:032x}",
        "uploadId": "upid_0123456789ab",
    } | more


def day_of_basals() -> list[Record]:
    return [basal(30 * number) for number in range(24)]


def settings(number: int = 0, **more: Any) -> Record:
    return {
        "type": "pumpSettings",
        "time": minute_of(number),
        "deviceId": DEVICE,
        "id": f"{number:032x}",
        "activeSchedule": "Weekday",
        "units": {"bg": "mmol/L", "carb": "grams"},
        "basalSchedules": {
            "Weekday": [{"start": 0, "rate": 0.5}, {"start": 21_600_000, "rate": 0.75}],
            "Sick day": [{"start": 0, "rate": 1.5}],
        },
        "bgTarget": [{"start": 0, "low": 5, "high": 6.5}],
        "carbRatios": {"Weekday": [{"start": 0, "amount": 10}]},
        "insulinSensitivity": [{"start": 0, "amount": 2.5}, {"start": 43_200_000, "amount": 3}],
        "manufacturers": ["Maker"],
    } | more


# ---------------------------------------------------------------- minutes are minutes


def test_half_an_hour_of_insulin_is_half_an_hour_at_tidepool(world: World) -> None:
    number = world.ready(exported(day_of_basals()), name="export.json", file=FORMAT)

    world.upload(number)

    assert [row["duration"] for row in world.visible()] == [1_800_000] * 24
    assert world.prepared(number).changes == {"duration": 24, "id": 24, "uploadId": 24}
    assert world.prepared(number).warnings == {"basal": {"staged-export-incomplete": 24}}


@pytest.mark.parametrize(
    ("minutes", "ms"),
    [
        (b"30", 1_800_000),
        (b"30.0", 1_800_000),
        (b"3e1", 1_800_000),
        (b"0", 0),
        (b"0.016666666666666666", 1_000),
        (b"0.016666666666666667", 1_000),
        (b"0.000016666666666666667", 1),
        (b"10079.999983333333", 604_799_999),
        (b"4.166216666666667", 249_973),
    ],
)
def test_minutes_are_the_milliseconds_that_they_were_made_of(tmp_path: Path, minutes: bytes, ms: int) -> None:
    row = json.dumps(exported([basal(1, suppressed={"type": "basal"})])[0] | {"duration": "?"})
    (tmp_path / "a").write_bytes(row.encode().replace(b'"?"', minutes))

    (record,) = [json.loads(line) for line in _lines(tmp_path / "a")]

    assert record["duration"] == ms
    assert type(record["duration"]) is int


@pytest.mark.parametrize("minutes", [0.00011, 5.00000001, 1e-20, 0.01666])
def test_minutes_that_are_no_whole_milliseconds_are_rejected(tmp_path: Path, minutes: float) -> None:
    rows = [*exported([basal(1)]), exported([basal(2)])[0] | {"duration": minutes}]

    records, rejected = read(tmp_path, rows)

    assert len(records) == 1
    assert [(row.position, row.code, json.loads(row.text or b"")) for row in rejected] == [
        (1, DURATION, rows[1])
    ]


@pytest.mark.parametrize("minutes", [b"1e-99999999999999999999", b"0e99999999999999999999"])
def test_no_exponent_of_minutes_is_too_long(tmp_path: Path, minutes: bytes) -> None:
    row = json.dumps(exported([basal(1)])[0] | {"duration": "?"}).encode().replace(b'"?"', minutes)
    (tmp_path / "a").write_bytes(row)

    assert _lines(tmp_path / "a") == []


@pytest.mark.parametrize("name", ["deviceId", "type", "subType"])
@pytest.mark.parametrize("kind", ["basal", "deviceEvent", "pumpSettings.bgTarget"])
def test_rows_may_nest_as_deeply_as_the_platform_reads(tmp_path: Path, kind: str, name: str) -> None:
    deep = loads("[" * 9_000 + "]" * 9_000)
    row = dumps(basal(1) | {"type": kind, name: deep}).encode()

    signs, joiner = ExportSigns(), SettingsJoiner(1)
    signs.see(loads(row), 0)
    joiner.count(loads(row))
    with suppress(NotRestorableError):
        Restorer().restore(row, loads(row))

    assert signs.kind() in (ExportKind.DATA_API, ExportKind.MIXED)


@given(st.integers(0, 604_800_000), st.integers(0, 86_400_000))
@settings_of_hypothesis(max_examples=25)
def test_every_duration_survives(tmp_path_factory: pytest.TempPathFactory, one: int, other: int) -> None:
    records = [
        basal(1, one, expectedDuration=other),
        {**bolus(2), "duration": other, "suppressed": {"rate": 1}},
    ]

    found, rejected = read(tmp_path_factory.mktemp("a"), exported(records))

    assert not rejected
    assert [row.get(name) for row in found for name in ("duration", "expectedDuration")] == [
        one,
        other,
        other,
        None,
    ]


def _lines(path: Path) -> list[bytes]:
    with SourceReader([SourceFile(UPath(path), FORMAT["format"])]) as reader:
        return [line for block in reader for line in block.lines]


# ---------------------------------------------------------------- keys and strings are objects


@pytest.mark.parametrize("units", ["mmol/L", "mg/dL"])
@pytest.mark.parametrize("name", list(EXAMPLES))
def test_what_the_export_keeps_of_a_record_comes_back(tmp_path: Path, name: str, units: str) -> None:
    record = stored(name) | {"payload": {"a": [1, {"b.c": 'é"\n'}]}, "annotations": [{"code": "x"}]}
    record |= {
        "id": "0" * 32,
        "uploadId": "x",
        "tags": ["a"],
        "origin": {"id": "1"},
        "timezone": "Europe/Paris",
    }
    is_lost = record["type"] not in KEPT_TYPES or name == "deviceEvent pumpSettingsOverride"

    records, rejected = read(tmp_path, exported([record, cbg(1, payload={"a": 1})], units))

    assert [row.code for row in rejected] == [LOST] * is_lost
    *found, reading = records
    assert reading["payload"] == {"a": 1}
    assert [comparable(one) for one in found] == ([] if is_lost else [comparable(kept(record))])


_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(sorted({name for name in EXAMPLES if stored(name)["type"] in KEPT_TYPES})),
    st.dictionaries(st.sampled_from(["payload", "annotations"]), _VALUES.filter(lambda one: one is not None)),
    st.randoms(use_true_random=False),
)
@settings_of_hypothesis(max_examples=50)
def test_any_record_survives_an_export(
    tmp_path_factory: pytest.TempPathFactory, name: str, free: Record, chance: random.Random
) -> None:
    record = {
        field: value for field, value in stored(name).items() if field in _TELLING or chance.random() < 0.7
    }
    record |= free | {"id": "1" * 32}
    if record["type"] == "pumpSettings" and "bgTargets" not in record:
        record["bgTargets"] = {"": [{"start": 0, "target": 5}]}

    rows = [*exported([record]), exported([basal(1, suppressed={"rate": 1})])[0]]
    records, rejected = read(tmp_path_factory.mktemp("a"), rows)

    lost = NEEDED.get(telling_kind(record), frozenset()) - kept(record).keys()
    assert [row.code for row in rejected] == [LOST] * bool(lost)
    assert [comparable(one) for one in records[:-1]] == ([] if lost else [comparable(kept(record))])


_TELLING = {"type", "subType", "deliveryType", "time", "deviceId", "units"}


def telling_kind(record: Record) -> str:
    return f"{record['type']}/{record.get('subType')}" if record["type"] == "deviceEvent" else record["type"]


@pytest.mark.parametrize(
    "change",
    [
        {"payload": '{"a":'},
        {"payload": "{} {}"},
        {"annotations": "[NaN]"},
        {"units": "mmol/L", "units.bg": "mmol/L"},
        {"units.bg": "mmol/L", "units": None},
    ],
)
def test_a_row_that_no_export_writes_is_rejected(tmp_path: Path, change: Record) -> None:
    (row,) = exported([basal(1)])
    records, rejected = read(tmp_path, [row | {"payload": "{}"}, row | change])

    assert len(records) == 1
    assert [(one.position, one.code) for one in rejected] == [(1, UNCLEAR)]


def test_values_keep_their_spelling(tmp_path: Path) -> None:
    inside = rb'"{\"a\": 1.50,\n\"b\":\"\\u00e9\"}"'
    (tmp_path / "a").write_bytes(
        b'{"type":"cbg","value":6.10,"payload":%s,"id":"x","suppressed.rate":1e0}' % inside
    )

    assert _lines(tmp_path / "a") == [
        rb'{"type":"cbg","value":6.10,"payload":{"a": 1.50, "b":"\u00e9"},"suppressed":{"rate":1e0}}'
    ]


def test_a_link_is_followed_in_a_web_export_too(world: World) -> None:
    whole = wizard(1, recommended={"net": 2.5})
    inner = whole["bolus"] | {"id": "a" * 32}
    number = world.ready(exported([whole | {"bolus": "a" * 32}, inner]), name="a.json", file=FORMAT)

    assert (world.prepared(number).inside, world.prepared(number).accepted) == (1, {"wizard": 1, "bolus": 1})
    assert json.loads(world.accepted(number)[0])["recommended"] == {"net": 2.5}


def test_labels_are_the_pages_own(world: World) -> None:
    """A unit that the page has written is right, however low the values; only the guard asks a person."""
    rows = exported([cbg(one, 1.2, payload={"a": 1}) for one in range(5)], "mg/dL")
    world.stage(rows, name="a.json", file=FORMAT)

    assert world.run().codes == ["glucose-units-implausible"]


# ---------------------------------------------------------------- pump settings are one record


def test_pump_settings_are_put_together_again(world: World) -> None:
    rows = exported([basal(0), settings(1), basal(2), settings(3, activeSchedule="Sick day")])
    assert [row["type"] for row in rows].count("pumpSettings.basalSchedules") == 6

    number = world.ready(rows, name="export.json", file=FORMAT)

    prepared = world.prepared(number)
    assert (prepared.records, prepared.accepted) == (4, {"basal": 2, "pumpSettings": 2})
    assert prepared.skipped == {"joined-settings": 12}
    found = [json.loads(line) for line in world.accepted(number) if b"pumpSettings" in line]
    assert found == [kept(settings(1)), kept(settings(3, activeSchedule="Sick day"))]
    world.upload(number)
    shown = [row for row in world.visible() if row["type"] == "pumpSettings"]
    assert [row["basalSchedules"] for row in shown] == [settings()["basalSchedules"]] * 2


@pytest.mark.parametrize("order", ["by type", "shuffled", "twice"])
def test_the_rows_of_pump_settings_may_lie_anywhere(tmp_path: Path, order: str) -> None:
    rows = exported([settings(1), settings(2, bgTarget=[{"start": 0, "target": 7}])])
    arrange: dict[str, Callable[[], list[Record]]] = {
        "by type": lambda: sorted(rows, key=lambda row: str(row["type"])),
        "shuffled": lambda: random.Random(1).sample(rows, len(rows)),
        "twice": lambda: rows + rows,
    }

    records, rejected = read(tmp_path, arrange[order]())

    assert not rejected
    assert len(records) == 2
    for record in records:
        for schedule in (record["insulinSensitivity"], record["basalSchedules"]["Weekday"]):
            schedule.sort(key=lambda entry: entry["start"])
    assert sorted(records, key=lambda one: str(one["time"])) == [
        kept(settings(1)),
        kept(settings(2, bgTarget=[{"start": 0, "target": 7}])),
    ]


def test_all_rows_of_refused_pump_settings_are_in_quarantine(world: World) -> None:
    rows = exported([basal(0), settings(1, activeSchedule=""), basal(2)])

    number = world.ready(rows, name="export.json", file=FORMAT, max_quarantined_percent=100)

    quarantine = world.quarantine(number)
    assert [one["position"] for one in quarantine] == list(range(1, 8))
    assert [one["record"] for one in quarantine] == rows[1:-1]
    assert {problem["pointer"] for one in quarantine for problem in one["problems"]} == {"/activeSchedule"}
    assert (world.prepared(number).quarantined, world.prepared(number).skipped) == (1, {"joined-settings": 6})


def test_refused_rows_can_be_corrected_and_staged_again(world: World, tmp_path: Path) -> None:
    rows = exported([basal(0), settings(1, activeSchedule=""), basal(2, rate=1e6)])
    number = world.ready(rows, name="export.json", file=FORMAT, max_quarantined_percent=100)
    entries = world.quarantine(number)
    for entry in entries:
        entry["record"] |= {"activeSchedule": "a"} if "activeSchedule" in entry["record"] else {"rate": 1}
    (tmp_path / "corrected.ndjson").write_text("\n".join(map(json.dumps, entries)))
    like = read_manifest(world.root / str(DAY) / world.user / "one", world.user)

    (folder,) = stage(UPath(tmp_path / "corrected.ndjson"), world.root, world.user, like=like, day=DAY)

    assert read_manifest(folder.path, world.user).files[0].format == FORMAT["format"]
    outcome = world.run()
    assert {"pumpSettings": 1, "basal": 1} in [one.accepted_by_type for one in outcome.prepared.values()]


@pytest.mark.parametrize(
    "change",
    [
        {"basalSchedule.start": "midnight"},
        {"basalSchedule.start": 0},
        {"basalSchedule.rate": 7},
        {"scheduleName": None},
        {"units.bg": "mg/dL"},
        {"payload": "{"},
    ],
)
def test_rows_that_contradict_each_other_are_rejected(tmp_path: Path, change: Record) -> None:
    rows = exported([basal(0), settings(1)])
    at = 1 if "units.bg" not in change else 4

    _records, rejected = read(tmp_path, [*rows, rows[at] | change])

    assert {one.code for one in rejected} == {UNCLEAR}
    assert [one.position for one in rejected] == [*range(1, 9)] or "payload" in change


@pytest.mark.parametrize(
    ("readings", "units", "known"),
    [
        ([cbg(1)], "mmol/L", True),
        ([cbg(1)], "mg/dL", False),
        ([{"type": "bloodKetone", "units": "mmol/L"}], "mg/dL", False),
        ([], "mmol/L", False),
    ],
)
def test_glucose_of_settings_without_a_unit_is_taken_only_where_none_was_converted(
    tmp_path: Path, readings: list[Record], units: str, *, known: bool
) -> None:
    record = {name: value for name, value in settings(1).items() if name != "units"}

    records, rejected = read(tmp_path, exported([*readings, record], units))

    assert records[len(readings) :] == ([kept(record)] if known else [])
    assert {one.code for one in rejected} == (set() if known else {UNCLEAR})


def test_rows_that_lie_too_far_apart_hold_the_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump_settings, "MAX_OPEN_BYTES", 1_000)
    world.stage(exported([settings(1)]), name="export.json", file=FORMAT)

    assert world.run().codes == ["export-scattered"]


# ---------------------------------------------------------------- what is lost


def test_what_lost_a_required_field_is_refused_with_its_row(world: World) -> None:
    records = [
        *day_of_basals(),
        {
            "type": "water",
            "time": minute_of(1),
            "deviceId": DEVICE,
            "amount": {"units": "ounces", "value": 8},
        },
        {"type": "insulin", "time": minute_of(2), "deviceId": DEVICE, "dose": {"total": 1, "units": "Units"}},
        stored("deviceEvent pumpSettingsOverride"),
        stored("deviceEvent status") | {"reason": {"other": 1}},
    ]
    rows = exported(records)
    number = world.ready(rows, name="export.json", file=FORMAT, max_quarantined_percent=100)

    assert world.refused(number) == [(at, [LOST]) for at in range(24, 28)]
    assert [one["record"] for one in world.quarantine(number)] == rows[24:]


def test_every_required_field_comes_back_or_is_known_to_be_lost() -> None:
    for model in DATUM_MODELS:
        for spec in fields_of(model):
            if spec.required and spec.name not in KEPT:
                assert spec.name in NEEDED[telling_kind(literal_fields(model))]


def table_rows() -> list[str]:
    """Return what docs/formats.md says comes back of each type, and what cannot."""
    refused = {"deviceEvent/pumpSettingsOverride"}
    rows = []
    for kind in sorted(KEPT_TYPES - {"upload"}):
        back, lost = dict[str, None](), dict[str, None]()
        for model in DATUM_MODELS:
            if literal_fields(model)["type"] == kind and telling_kind(literal_fields(model)) not in refused:
                for spec in fields_of(model):
                    if spec.name not in _COMMON:
                        (back if (shown := shown_of(kind, spec)) else lost)[shown or f"`{spec.name}`"] = None
        rows.append(f"| `{kind}` | {', '.join(back)} | {', '.join(lost) or 'none'} |")
    return rows


def shown_of(kind: str, spec: FieldSpec) -> str:
    """Return how the table names a field that comes back; empty if it does not."""
    strings = IN_STRINGS.get("pumpSettings.bgTarget" if kind == "pumpSettings" else kind, frozenset())
    schedules = {piece.schedules for piece in PIECES.values()} if kind == "pumpSettings" else set()
    if spec.name in strings | schedules:
        return f"`{spec.name}`"
    if (kind, spec.name) in (
        ("wizard", "bolus"),
        ("deviceEvent", "status"),
        ("physicalActivity", "duration"),
    ):
        return f"`{spec.name}`"
    if spec.kind in (Kind.OBJECT, Kind.FREE_OBJECT, Kind.VARIANT):
        parts = sorted(one.partition(".")[2] for one in KEPT if one.startswith(f"{spec.name}."))
        if spec.name == "bgTarget" or spec.name == "units":
            parts = [part for part in parts if part != "start"]
        return f"`{spec.name}` ({', '.join(f'`{part}`' for part in parts)})" if parts else ""
    is_scalar = spec.kind in (Kind.TEXT, Kind.NUMBER, Kind.INTEGER, Kind.FLAG, Kind.INSTANT)
    return f"`{spec.name}`" if is_scalar and spec.name in KEPT else ""


_COMMON = {spec.name for spec in fields_of(Datum)}


def test_the_documentation_says_what_comes_back() -> None:
    text = (PROJECT / "docs" / "formats.md").read_text()
    expected = table_rows()
    assert [row for row in expected if row not in text] == [], "\n".join(expected)
    for kind in sorted({literal_fields(model)["type"] for model in DATUM_MODELS} - KEPT_TYPES):
        assert f"`{kind}`" in text


# ---------------------------------------------------------------- which export it is


def told(rows: list[Record], *, is_export: bool = True) -> ExportKind:
    signs = ExportSigns()
    for position, row in enumerate(rows):
        signs.see(row, position)
    return signs.kind(is_export=is_export)


API_BASALS = [basal(30 * number) for number in range(3)]
MS_BASALS = [basal(0, 5), basal(5, 5), basal(10, 5)]
"""Their durations are minutes: each lasts until the next one."""


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (exported(API_BASALS), ExportKind.WEB_PAGE),
        (random.Random(1).sample(exported(day_of_basals()), 24), ExportKind.WEB_PAGE),
        (API_BASALS, ExportKind.DATA_API),
        ([basal(0, 10_080)], ExportKind.UNCLEAR),
        ([basal(0, 10_081)], ExportKind.DATA_API),
        ([basal(0, 0.5)], ExportKind.WEB_PAGE),
        ([basal(0, 1_800_000.5)], ExportKind.DATA_API),
        ([basal(0, -5)], ExportKind.EITHER),
        ([stored("deviceEvent status") | {"duration": 60_000}], ExportKind.DATA_API),
        (exported([stored("deviceEvent status") | {"duration": 1e15}]), ExportKind.WEB_PAGE),
        ([bolus(0, duration=90, extended=1)], ExportKind.UNCLEAR),
        ([bolus(0, duration=90), cbg(1, payload='{"a":1}')], ExportKind.WEB_PAGE),
        ([bolus(0, duration=90), cbg(1, payload={"a": 1})], ExportKind.DATA_API),
        ([bolus(0, duration=90), cbg(1, createdTime="x")], ExportKind.DATA_API),
        ([bolus(0, duration=90), cbg(1, _active=True)], ExportKind.DATA_API),
        ([bolus(0, duration=90), cbg(1, trend="constant")], ExportKind.DATA_API),
        ([bolus(0, duration=0), cbg(1)], ExportKind.EITHER),
        ([basal(0, **{"suppressed.rate": 1})], ExportKind.MIXED),
        ([*exported(API_BASALS), basal(90, suppressed={"rate": 1})], ExportKind.MIXED),
        ([*MS_BASALS, cbg(1, payload={"a": 1})], ExportKind.MIXED),
        ([basal(60 * at, 10, time=f"2026-03-05T00:00:{10 * at:02}Z") for at in range(3)], ExportKind.UNCLEAR),
        (
            [basal(0, 5_000 + at, time=f"2026-03-05T00:00:{5 * at:02}Z") for at in range(3)],
            ExportKind.DATA_API,
        ),
        (exported([settings()]), ExportKind.WEB_PAGE),
        ([settings()], ExportKind.DATA_API),
        (exported([stored("physicalActivity")]), ExportKind.WEB_PAGE),
        ([None, 1, [], {}, {"type": []}, {"type": "basal", "duration": True}], ExportKind.EITHER),
    ],
)  # fmt: skip
def test_a_file_shows_which_export_it_is(rows: list[Any], kind: ExportKind) -> None:
    assert told(rows) is kind


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        ([bolus(1, duration=0.5)], ExportKind.WEB_PAGE),
        ([bolus(1, duration=90)], ExportKind.UNCLEAR),
        ([settings()], ExportKind.DATA_API),
        ([cbg(1, payload="{}"), cbg(2, payload={"a": 1})], ExportKind.MIXED),
        ([cbg(1, **{"a.b": 1}, payload={"a": 1})], ExportKind.DATA_API),
    ],
)
def test_other_data_have_to_show_that_they_are_an_export(rows: list[Record], kind: ExportKind) -> None:
    """Every record that Tidepool shows names its data set, and no other does."""
    assert told(rows, is_export=False) is ExportKind.EITHER
    owned = [row | {"uploadId": "upid_1"} for row in rows]
    assert told(owned, is_export=False) is told(rows) is kind
    assert told([*owned, {"messagetext": "hello"}], is_export=False) is kind
    assert told([*owned, cbg(9)], is_export=False) is ExportKind.EITHER


@pytest.mark.parametrize(
    ("rows", "file", "code"),
    [
        (exported(day_of_basals()), API, "export-of-web-page"),
        (exported([settings()]), API, "export-of-web-page"),
        (day_of_basals(), FORMAT, "export-of-data-api"),
        ([*day_of_basals(), *exported([settings()])], FORMAT, "export-mixed"),
        ([*day_of_basals(), *exported([settings()])], API, "export-mixed"),
        ([basal(0, 30)], API, "export-unclear"),
        ([basal(0, 30)], FORMAT, None),
        ([cbg(1)], API, None),
        ([cbg(1)], FORMAT, None),
    ],
)
def test_a_batch_whose_file_is_not_the_export_it_says_is_held(
    world: World, rows: list[Record], file: Record, code: str | None
) -> None:
    world.stage(rows, name="export.json", file=file)

    outcome = world.run()

    assert outcome.codes == ([code] if code else [])
    if code is not None:
        (number,) = outcome.plan.batches
        assert world.row(number).state is BatchState.HELD
        assert "file 1" in str(outcome.errors[number])
        assert not world.recorder.sent


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (exported(day_of_basals()), "export-of-web-page"),
        ([*API_BASALS, *exported([basal(90, suppressed={"rate": 1})])], "export-mixed"),
        ([basal(0, 30)], "export-unclear"),
        (API_BASALS, None),
        ([basal(0, 30) | {"uploadId": None}, cbg(1)], None),
    ],
)
@pytest.mark.parametrize("name", ["data.json", "data.ndjson"])
def test_a_web_export_that_is_said_to_be_plain_records_is_held_too(
    world: World, rows: list[Record], code: str | None, name: str
) -> None:
    world.stage(rows, name=name, edits={"set": {"timezoneOffset": 60}})

    (number,) = world.plan().batches

    if code is None:
        assert world.prepare(number).accepted
        return
    with pytest.raises(ExportKindError) as caught:
        world.prepare(number)
    assert caught.value.code == code
    assert world.row(number).state is BatchState.HELD


def test_the_message_says_where_and_which_format_to_name(world: World) -> None:
    world.stage([*API_BASALS, *exported([basal(90, suppressed={"rate": 1})])], name="a.json", file=API)

    (error,) = world.run().errors.values()

    assert isinstance(error, ExportKindError)
    assert "record 3 is of the web page, record 0 is of the data API" in str(error)
    assert "`tidepool-web-export`" in error.remedy


# ---------------------------------------------------------------- staging and validating


@pytest.mark.parametrize("named", ["tidepool-export", "tidepool-web-export", None])
@pytest.mark.parametrize(
    ("rows", "format_name"),
    [
        (exported([*day_of_basals(), settings()]), "tidepool-web-export"),
        ([*day_of_basals(), settings()], "tidepool-export"),
    ],
)
def test_staging_finds_out_which_export_it_is(
    world: World, tmp_path: Path, named: str | None, rows: list[Record], format_name: str
) -> None:
    rows = [row | {"uploadId": "upid_1"} for row in [*rows, cbg(1, deviceId="other")]]
    (tmp_path / "export.json").write_text(json.dumps(rows))

    folders = stage(UPath(tmp_path / "export.json"), world.root, world.user, file_format=named, day=DAY)

    assert [read_manifest(one.path, world.user).files[0].format for one in folders] == [format_name] * 2


@pytest.mark.parametrize(
    ("rows", "named", "code"),
    [
        ([*API_BASALS, *exported([settings()])], "tidepool-export", "export-mixed"),
        ([*API_BASALS, *exported([settings()])], "tidepool-web-export", "export-mixed"),
        ([*API_BASALS, *exported([settings()])], None, "export-mixed"),
        ([basal(0, 30)], "tidepool-export", "export-unclear"),
        ([basal(0, 30)], None, "export-unclear"),
    ],
)
def test_staging_refuses_what_may_be_either(
    world: World, tmp_path: Path, rows: list[Record], named: str | None, code: str
) -> None:
    (tmp_path / "export.json").write_text(json.dumps(rows))

    with pytest.raises(ExportKindError) as caught:
        stage(UPath(tmp_path / "export.json"), world.root, world.user, file_format=named)

    assert caught.value.code == code
    assert not list(world.staging.glob("*/*"))


def test_verdicts_are_of_the_records_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "export.json").write_text(json.dumps(exported([settings()])))

    assert main(["validate", "--verdicts", str(tmp_path / "export.json")]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 7


def test_what_is_no_export_for_certain_stays_what_it_begins_as(world: World, tmp_path: Path) -> None:
    own = [{name: value for name, value in basal(0, 30).items() if name != "uploadId"}, settings(1)]
    (tmp_path / "a.ndjson").write_text("\n".join(map(json.dumps, own)))

    (folder,) = stage(UPath(tmp_path / "a.ndjson"), world.root, world.user, day=DAY)

    assert read_manifest(folder.path, world.user).files[0].format == "ndjson"


def test_the_command_says_that_it_is_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text(json.dumps(exported(day_of_basals())))
    command = ["stage", str(tmp_path / "a.json"), "--user", "5a3c0d0001", "--root", str(tmp_path / "root")]

    assert main([*command, "--format", "tidepool-export"]) == 0
    said = "By its records, this is an export of Tidepool: staged as tidepool-web-export."
    assert capsys.readouterr().err.splitlines()[0] == said
    assert main([*command, "--format", "tidepool-web-export", "--batch-id", "two"]) == 0
    assert said not in capsys.readouterr().err


def test_validating_finds_out_that_it_is_a_web_export(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "export.json").write_text(json.dumps(exported([*day_of_basals(), settings()])))

    assert main(["validate", str(tmp_path / "export.json")]) == 0

    out = capsys.readouterr().out
    assert "25 records: 25 accepted, 0 rejected" in out
    assert "6 rows are no reading: 6 joined-settings" in out
    assert "staged-export-incomplete" in out
    assert main(["validate", "--format", "tidepool-export", str(tmp_path / "export.json")]) == 1
    assert "[export-of-web-page]" in capsys.readouterr().err


def test_the_file_that_was_reported(world: World, shared: Path) -> None:
    file = UPath(shared / "reports" / "export-webjson-basal-minutes.json")
    stage(file, world.root, world.user, file_format="tidepool-export", day=DAY)

    world.run()

    rows = world.visible()
    assert [row["duration"] / 60_000 for row in rows if row["type"] == "basal"] == [5, 180, 30]
    assert [row["duration"] for row in rows if row.get("subType") == "square"] == [5_400_000]
    (calculation,) = [row for row in rows if row["type"] == "wizard"]
    assert calculation["recommended"] == {"carb": 4, "correction": 0.5, "net": 4.5}


def test_basals_beyond_what_memory_allows_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "MAX_BASALS", 1)
    assert told(exported(day_of_basals())) is ExportKind.UNCLEAR
