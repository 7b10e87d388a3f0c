"""What is read by whole columns is what single rows say: the same records, refusals, places and counts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.tables import CBG, mapping, source
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import SourceReader
from tidepool_ingest.formats.reader import ReadingContext
from tidepool_ingest.formats.table import column_pass, parquet, rows
from tidepool_ingest.formats.table.survey import Survey
from tidepool_ingest.model import glucose_reading
from tidepool_ingest.model.decode import FAST_ERRORS, fast_decode
from tidepool_ingest.model.glucose_levels import readings_of


def written(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), file, **options)
    return file.getvalue()


def read(folder: Path, content: bytes, table: dict[str, Any], **options: Any) -> list[Any]:
    """Return all that a table gives: its devices and blocks, or the code of its error."""
    file = source(folder, content, table, **options)
    context = ReadingContext(timezone="Europe/Berlin", meant_as=("clock-not-in-zone", "dates-swapped"))
    try:
        with SourceReader([file], context) as reader:
            devices = [(device.serial, device.fields) for device in reader.devices()]
            blocks = [
                (b.lines, b.rejected, b.staged, b.positions, b.where, b.skipped, b.first_position)
                for b in reader
            ]
    except IngestError as error:
        return [error.code, str(error)]
    return [devices, blocks]


def by_rows(folder: Path, content: bytes, table: dict[str, Any], **options: Any) -> list[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Survey, "see_columns", lambda *_: False)
        patch.setattr(column_pass.ColumnPass, "blocks", lambda *_: None)
        return read(folder, content, table, **options)


# ---------------------------------------------------------------- any table

STARTS = [
    datetime(2026, 3, 5, 6),
    datetime(2026, 3, 28, 23, 30),  # an hour that Berlin leaves out
    datetime(2026, 10, 24, 22, 30),  # an hour that it has twice
    datetime(2026, 12, 31, 21),
    datetime(1969, 12, 31, 23, 30),
    datetime(1892, 1, 1),
]
STEPS = st.sampled_from([0, 1, 60, 250, 299.5, 300, 300, 300, 3600, 86_400, -300, -7200, 0.0015])

Stamps = list[datetime | None]


def _typed(unit: str, zone: str | None) -> Callable[[Stamps], Any]:
    def array(stamps: Stamps) -> Any:
        kind = pyarrow.timestamp(unit, zone)
        return (
            pyarrow.array(stamps, pyarrow.timestamp("us"))
            .cast(pyarrow.timestamp(unit), safe=False)
            .cast(kind)
        )

    return array


def _texts(pattern: str) -> Callable[[Stamps], Any]:
    return lambda stamps: pyarrow.array(
        [None if at is None else at.strftime(pattern) for at in stamps], pyarrow.string()
    )


def _counts(per_second: int) -> Callable[[Stamps], Any]:
    start = datetime(1970, 1, 1)
    return lambda stamps: pyarrow.array(
        [None if at is None else int((at - start).total_seconds() * per_second) for at in stamps],
        pyarrow.int64(),
    )


TIMES: list[tuple[str, Callable[[Stamps], Any]]] = [
    *(("iso", _typed(unit, None)) for unit in ("s", "ms", "us", "ns")),
    *(("iso", _typed("us", zone)) for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata", "-03:00")),
    *(("iso", _texts(f"%Y-%m-%d{form}")) for form in ("T%H:%M:%S", " %H:%M:%S", "T%H:%M", "T%H:%M:%S.%f")),
    *(("iso", _texts(f"%Y-%m-%dT%H:%M:%S{zone}")) for zone in ("Z", "+02:00", " ")),
    ("iso", lambda stamps: _texts("%Y-%m-%dT%H:%M:%S")(stamps).dictionary_encode()),
    ("%d.%m.%Y %H:%M", _texts("%d.%m.%Y %H:%M")),
    ("%d-%b-%Y %I:%M:%S %p", _texts("%d-%b-%Y %I:%M:%S %p")),
    ("%Y-%m-%dT%H:%M:%S", _typed("s", None)),
    ("epoch-s", _counts(1)),
    ("epoch-ms", _counts(1000)),
    ("epoch-ms", _typed("ms", None)),
]

WORDS = ["", "5.5", "LO", "HI", "120", "x", "1,5", "7.0", " 7.0", "401", "20"]
NUMBERS = [None, 5.5, 120.0, 401.0, 20.0, 39.9, float("nan"), -0.0, 0.0, 1e-7, 1e22]
DECIMALS = [None, Decimal("5.50"), Decimal("120.00"), Decimal("0.00"), Decimal("401.25")]

VALUES: list[tuple[list[Any], Any]] = [
    (WORDS, pyarrow.string()),
    (WORDS, pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
    ([None, *WORDS], pyarrow.large_string()),
    (NUMBERS, pyarrow.float64()),
    (NUMBERS, pyarrow.float32()),
    (DECIMALS, pyarrow.decimal128(9, 2)),
    ([None, 5, 120, 401, 20, -3], pyarrow.int16()),
    ([None, b"120", b"LO", b"5"], pyarrow.binary()),
    ([None, True, False], pyarrow.bool_()),
]

BOUNDED = {
    "column": "v",
    "missing": ["x"],
    "low": {"words": ["LO"], "value": 39, "below": 40, "threshold": 40},
    "high": {"words": ["HI"], "value": 401, "above": 400},
}
RULES: list[dict[str, Any]] = [
    CBG,
    {"record": CBG["record"] | {"value": BOUNDED}},
    {
        "record": CBG["record"] | {"value": BOUNDED, "annotations": [{"code": "a%sb"}]},
        "when": {"column": "k", "in": ["R", "L"]},
    },
    {
        "when": [{"column": "k", "is": "R"}, {"column": "v", "above": 6}],
        "record": {"type": "bolus", "subType": "normal", "normal": {"column": "v", "times": 0.5}},
    },
    {
        "when": {"column": "k", "notIn": ["L", ""]},
        "record": {
            "type": "smbg",
            "units": "mg/dL",
            "value": {"column": "v", "default": 5, "missing": ["LO"]},
        },
    },
    {
        "when": {"column": "k", "present": True},
        "record": {
            "type": "insulin",
            "dose": {"units": "Units", "total": {"column": "v"}},
            "formulation": {"simple": {"actingType": {"column": "k", "map": {"R": "rapid", "L": "long"}}}},
        },
    },
    {
        "record": {
            "type": "food",
            "name": {"column": "k", "as": "text"},
            "nutrition": {"carbohydrate": {"units": "grams", "net": {"column": "v"}}},
        }
    },
    {
        "record": {
            "type": "basal",
            "deliveryType": "automated",
            "rate": {"column": "v"},
            "duration": {"toNext": {"max": "PT12M", "to": "ms"}},
        }
    },
]
WHERE = [{"column": "k", "in": ["R", "L", "ä%"]}, {"column": "v", "below": 300}, {"column": "d", "is": "A"}]


JOURNEYS = [
    [
        {"zone": "Europe/Berlin", "until": "2026-03-05T08:00:00"},
        {"zone": "Europe/London", "until": "2026-03-05T08:40:00"},
        {"zone": "Europe/Berlin"},
    ],
    [{"zone": "America/New_York", "until": "2026-12-31T22:30:00"}, {"zone": "Asia/Kolkata"}],
    "Australia/Lord_Howe",
    "Africa/Monrovia",
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """Return a Parquet file, a mapping, and the options of the file."""
    count = draw(st.integers(1, 40))
    at, stamps = draw(st.sampled_from(STARTS)), list[datetime | None]()
    steps = draw(st.one_of(st.just([300]), st.lists(STEPS, min_size=1, max_size=6)))
    gaps = draw(st.sampled_from([0, 0, 7]))
    for number in range(count):
        stamps.append(None if gaps and number % gaps == 3 else at)
        at += timedelta(seconds=steps[number % len(steps)])
    written_as, array = draw(st.sampled_from(TIMES))
    choices, kind = draw(st.sampled_from(VALUES))
    values = draw(st.lists(st.sampled_from(choices), min_size=count, max_size=count))
    words = st.sampled_from([None, "R", "L", "ä%", " R", "R"])
    devices = draw(st.sampled_from([["A"], ["A", "B"], ["B", "A", " A"], ["A", None], ["A", "a:%"]]))
    columns = {
        "t": array(stamps),
        "v": pyarrow.array(values, kind),
        "k": pyarrow.array(draw(st.lists(words, min_size=count, max_size=count)), pyarrow.string()),
        "d": pyarrow.array([devices[number % len(devices)] for number in range(count)], pyarrow.string()),
        "n": pyarrow.array(range(count)),
    }
    if draw(st.booleans()):
        twice = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=60))
        columns = {name: column.take(pyarrow.array(twice)) for name, column in columns.items()}
    more = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "where": st.lists(st.sampled_from(WHERE), min_size=1, max_size=2),
                "rowNumber": st.just(["n"]),
                "deviceId": st.just({"column": "d", "prefix": "P-"}),
                "id": st.sampled_from([["n"], ["k", "n"], ["d"]]),
            },
        )
    )
    time: dict[str, Any] = {"column": "t", "format": written_as}
    order = draw(st.sampled_from([None, None, "oldest-first", "newest-first"]))
    rules = draw(st.lists(st.sampled_from(RULES[: None if order else -1]), min_size=1, max_size=4))
    stated = mapping(*rules, time=time | ({"order": order} if order else {}), **more)
    serial = draw(st.sampled_from([{}, {"serial": "A"}])) if "deviceId" in more else {}
    if draw(st.booleans()):
        serial = serial | {"timezone": draw(st.sampled_from(JOURNEYS))}
    return written(columns, row_group_size=draw(st.sampled_from([100, 13]))), stated, serial


@settings(max_examples=30)
@given(table=tables(), batch=st.sampled_from([500, 8, 11]), remembered=st.sampled_from([50_000, 6]))
def test_columns_say_what_rows_say(
    tmp_path_factory: pytest.TempPathFactory,
    table: tuple[bytes, dict[str, Any], dict[str, Any]],
    batch: int,
    remembered: int,
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content, stated, options = table
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "_ROWS_READ", batch)
        patch.setattr(rows, "REMEMBERED_ROWS", remembered)

        assert read(folder, content, stated, **options) == by_rows(folder, content, stated, **options)


@pytest.mark.parametrize("back", ["2026-03-05T20:00:00", "2026-03-05T10:40:00"])
def test_a_journey_there_and_back_in_a_day_is_followed(tmp_path: Path, back: str) -> None:
    stamps = [datetime(2026, 3, 4, 22) + timedelta(minutes=10 * number) for number in range(160)]
    content = written({"t": pyarrow.array(stamps, pyarrow.timestamp("s")), "v": [100] * 160})
    journey = [
        {"zone": "Europe/Berlin", "until": "2026-03-05T10:10:00"},
        {"zone": "Europe/London", "until": back},
        {"zone": "Europe/Berlin"},
    ]

    found = read(tmp_path, content, mapping(), timezone=journey)

    assert found == by_rows(tmp_path, content, mapping(), timezone=journey)
    offsets = {
        record["deviceTime"]: record["timezoneOffset"]
        for block in found[1]
        for record in map(json.loads, block[0])
    }
    until, back_at = journey[0]["until"], journey[1]["until"]
    assert offsets == {at: 0 if until <= at < back_at else 60 for at in offsets}


def _never(*_: Any) -> Any:
    raise AssertionError("rows are read one by one")


@pytest.mark.parametrize(
    ("written_as", "array"),
    [*TIMES[:6], *TIMES[7:10], *TIMES[12:14], *TIMES[15:17], *TIMES[18:21]],
)
def test_plain_tables_are_read_by_columns_only(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written_as: str,
    array: Callable[[Stamps], Any],
) -> None:
    stamps: Stamps = [STARTS[0] + timedelta(minutes=5 * number) for number in range(40)]
    columns = {"t": array(stamps), "v": [100.5, None] * 20, "d": ["A", "B"] * 20, "k": ["R", "L"] * 20}
    stated = mapping(
        {"record": CBG["record"] | {"value": BOUNDED}},
        RULES[4],
        time={"column": "t", "format": written_as},
        where=WHERE[0],
        deviceId={"column": "d"},
        id=["k"],
    )
    expected = by_rows(tmp_path, written(columns), stated, serial="A")
    monkeypatch.setattr("tidepool_ingest.formats.table._Making.block", _never)
    monkeypatch.setattr(column_pass.ColumnPass, "_look_at", _never)
    if "%m" not in written_as:  # whether days and months were swapped, the order of all rows says
        monkeypatch.setattr(Survey, "see", _never)

    found = read(tmp_path, written(columns), stated, serial="A")

    assert found == expected
    assert sum(len(block[0]) for block in found[1]) == 40


# ---------------------------------------------------------------- what `convert` looks at

LINES = [
    b'{"type":"cbg","units":"mg/dL","value":100}',
    b'{"type":"smbg","units":"mmol/L","value":5.5,"a":[1,{"value":2}]}',
    b'{"type":"deviceEvent","subType":"calibration","units":"mg/dL","value":1e2}',
    b'{"type":"deviceEvent","subType":"alarm","units":"mg/dL","value":100}',
    b'{"type":"cbg","units":"mg/dL","value":"100"}',
    b'{"type":"cbg","units":"mg/dL","value":true}',
    b'{"type":"cbg","units":5,"value":100}',
    b'{"type":"cbg","value":100,"units":"mg/dL","value":101}',
    b'{"type":["cbg"],"units":"mg/dL","value":100}',
    b'{"type":"basal","rate":1}',
    b"[1]",
    b"null",
    b"{",
    b"\xff",
]


@pytest.mark.parametrize("line", LINES)
def test_a_glucose_value_is_found_without_decoding_all_of_its_record(line: bytes) -> None:
    try:
        datum = fast_decode(line)
    except FAST_ERRORS:
        datum = None

    found = glucose_reading(datum) if isinstance(datum, dict) else None

    assert list(readings_of([line])) == ([found] if found else [])
