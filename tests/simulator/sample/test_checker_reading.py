"""The checker reads staged batches by itself, and shares no code with what it checks."""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.simulator.sample.two_sides import TwoSides, kept, smbg
from tidepool_simulator.sample import checker
from tidepool_simulator.sample.vendor_files import german_clarity_export, meter_table

CLARITY, TABLE = german_clarity_export(), meter_table()
PLAIN = b"\n".join(json.dumps(smbg(minute)).encode() for minute in range(3))


@pytest.fixture
def world(tmp_path: Path) -> TwoSides:
    world = TwoSides(tmp_path)
    world.open_set()
    world.put(*(kept(smbg(minute)) for minute in range(3)))
    return world


@pytest.mark.parametrize(
    "name",
    ["d.ndjson", "d.ndjson.gz", "d.ndjson.zst", "d.json", "d.json.gz", "d.json.zst"],
)
def test_every_format(world: TwoSides, name: str) -> None:
    world.stage([smbg(minute) for minute in range(3)], name=name)
    assert world.check().ok


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.ndjson", b"\xef\xbb\xbf" + PLAIN.replace(b"\n", b"\r\n\r\n")),
        ("d.ndjson", b"\n  \n" + PLAIN),
        ("d.json", json.dumps([smbg(minute, a="],[") for minute in range(3)], indent=4).encode()),
        ("d.json", b"\xef\xbb\xbf\r\n[\t" + PLAIN.replace(b"\n", b" , ") + b"\n]\n"),
    ],
)
def test_every_spelling(world: TwoSides, name: str, content: bytes) -> None:
    world.stage([], name=name, content=content)
    result = world.check()
    assert result.ok
    assert result.staged == 3


def test_a_broken_element_of_an_array(world: TwoSides) -> None:
    good = [json.dumps(smbg(minute)).encode() for minute in range(3)]
    odd = good[0].replace(b'"deviceId": "', b'"deviceId": "\xff')
    broken = [b'{"value": NaN}', b"tru", b'{"a": [1,, 2], "b": "},"}', odd]
    world.stage([*good, *broken], name="d.json")
    result = world.check()
    assert result.sets[0].lost_places == [(1, 3), (1, 4), (1, 5), (1, 6)]
    world.refuse("one", 3, 4, 5, 6)
    assert world.check().ok


@pytest.mark.parametrize(
    "line", [b"NaN", b'{"value":NaN}', b"[1]", b"7", b'"x"', b"{", b'{"a":"\xff"}', b"[" * 99999]
)
def test_lines_that_are_no_records(world: TwoSides, line: bytes) -> None:
    world.stage([*(smbg(minute) for minute in range(3)), line])
    result = world.check()
    assert result.sets[0].lost_places == [(1, 3)]


BAD_BATCHES: list[dict[str, Any]] = [
    {"name": "d.ndjson.gz", "content": gzip.compress(PLAIN, mtime=0)[:-9]},
    {"name": "d.ndjson.zst", "content": zstandard.compress(PLAIN)[:-3]},
    {"name": "d.ndjson.zst", "content": zstandard.compress(PLAIN) + zstandard.compress(PLAIN)[:-3]},
    {"name": "d.ndjson.gz", "content": PLAIN},
    {"content": b""},
    {"content": b"\n\n"},
    {"name": "d.json", "content": b"[" + PLAIN.replace(b"\n", b",")},
    {"name": "d.json", "content": b"{}"},
    {"content": PLAIN, "file": {"sha256": "0" * 64}},
    {"content": PLAIN, "file": {"records": 4}},
    {"content": PLAIN, "file": {"name": "../other.ndjson"}},
    {"content": PLAIN, "file": {"name": "missing.ndjson"}},
    {"content": PLAIN, "userId": "0123456789"},
    {"content": PLAIN, "comment": "an unknown key"},
    {"content": PLAIN, "edits": {"rename": {}}},
    {"content": PLAIN, "checks": {"value-odd": "warn"}},
    {"content": PLAIN, "checks": {"units-mixed": "drop"}},
    {"content": PLAIN, "checks": None},
    {"content": PLAIN, "file": {"format": "csv"}},
    {"content": PLAIN, "file": {"timezone": "Europe/Berlin"}},
    {"content": PLAIN, "file": {"format": "clarity", "timezone": "Europe/Berlin"}},
    {"content": PLAIN, "file": {"format": "libreview", "timezone": "Europe/Berlin"}},
    {"content": CLARITY.content, "file": {"format": "clarity"}},
    {"content": CLARITY.content, "file": {"format": "clarity", "timezone": "Mars/Olympus"}},
    {"content": CLARITY.content, "file": {"format": "clarity", "timezone": "Europe/Berlin", "serial": "x"}},
    {
        "content": CLARITY.content,
        "file": {"format": "clarity", "timezone": "Europe/Berlin"},
        "meantAs": ["x"],
    },
    {"content": TABLE.content, "file": {"format": "table", "timezone": "Europe/Berlin"}},
    {
        "content": TABLE.content,
        "file": {"format": "table", "timezone": "UTC", "table": {"time": 1}},
    },
]


@pytest.mark.parametrize("batch", BAD_BATCHES, ids=range(len(BAD_BATCHES)))
def test_nothing_of_a_bad_batch_may_be_visible(world: TwoSides, batch: dict[str, Any]) -> None:
    folder = world.stage([], **batch)
    (folder.parent / "other.ndjson").write_bytes(PLAIN)
    result = world.check()
    assert result.unreadable == ["/".join(folder.parts[-3:])]
    assert result.foreign == 3


def test_digest_and_count_that_are_right(world: TwoSides) -> None:
    world.stage([], content=PLAIN, file={"sha256": hashlib.sha256(PLAIN).hexdigest().upper(), "records": 3})
    assert world.check().ok


def test_a_vendors_file_is_read_by_what_its_manifest_says_of_it(tmp_path: Path) -> None:
    world = TwoSides(tmp_path)
    world.stage([], name=TABLE.name, content=TABLE.content, file=TABLE.manifest_entry())
    result = world.check()

    assert result.unreadable == []
    assert result.staged == TABLE.rows - TABLE.skipped
    assert result.lost == TABLE.rows - TABLE.skipped  # nothing is stored


def test_folders_that_are_no_batches(world: TwoSides) -> None:
    world.stage([smbg(minute) for minute in range(3)])
    world.stage([smbg(30)], "_hidden")
    assert world.check().staged == 3


def test_edits_are_made_by_the_checker_too(tmp_path: Path) -> None:
    world = TwoSides(tmp_path)
    edits = {"drop": ["source"], "set": {"timezoneOffset": 60}, "glucoseUnits": "mmol/L"}
    old = {"units": "mg/dL", "value": 6.4, "source": "demo"}
    calibration = smbg(2, type="deviceEvent", subType="calibration") | old
    bolus = {
        "type": "bolus",
        "subType": "normal",
        "normal": 1,
        "time": "2026-11-19T08:00:00Z",
        "deviceId": "Meter-1",
    }
    settings = bolus | {
        "type": "pumpSettings",
        "units": {"bg": "mg/dL", "carb": "grams"},
        "bgSafetyLimit": 4.2,
    }
    ketone = smbg(3, type="bloodKetone") | {"units": "mmol/L", "value": 0.3}
    world.stage([smbg(1) | old, calibration, bolus, settings, ketone], edits=edits)
    world.open_set()
    changed = {"timezoneOffset": 60}
    for record in (smbg(1) | old, calibration):
        world.put(kept(record, 6.4, **changed) | {"source": None})
    world.put(
        bolus | changed, settings | changed | {"units": {"bg": "mmol/L", "carb": "grams"}}, ketone | changed
    )
    result = world.check()
    assert result.ok, result


def test_sensor_alerts_are_relabelled() -> None:
    from tidepool_simulator.sample.checker.staged import edited

    alerts = {
        "low": {"enabled": True, "level": 4, "units": "mg/dL"},
        "fall": {"rate": 0.1, "units": "mg/dL/minute"},
    }
    settings = {"type": "cgmSettings", "units": "mg/dL", "defaultAlerts": alerts}
    after = edited(json.loads(json.dumps(settings)), {"glucoseUnits": "mmol/L"})
    assert after["units"] == after["defaultAlerts"]["low"]["units"] == "mmol/L"
    assert after["defaultAlerts"]["fall"]["units"] == "mmol/L/minute"


def test_the_checker_shares_no_code_with_what_it_checks() -> None:
    import sys

    folder = Path(checker.__file__).parent
    # What knows a file's bytes, and nothing of what they say.
    known = {*sys.stdlib_module_names, "defusedxml", "pyarrow", "zstandard"}
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [str(node.module)]
            for name in names:
                own = name.startswith("tidepool_simulator.sample.checker")
                assert own or name.split(".")[0] in known, (path.name, name)
