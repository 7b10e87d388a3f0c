from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.cli.commands import Run, cbg, ndjson
from tidepool_ingest.formats.reader import MAX_RECORD_BYTES

GOOD = {"accepted": True, "errors": []}
NO_TIME = {"accepted": False, "errors": [{"code": "value-not-exists", "pointer": "/time"}]}
MALFORMED = {"accepted": False, "errors": [{"code": "json-malformed", "pointer": ""}]}


def verdicts(run: Run, path: Path, code: int) -> list[dict[str, Any]]:
    ran = run("validate", "--verdicts", path)
    assert (ran.code, ran.err) == (code, "")
    shown = [json.loads(line) for line in ran.lines]
    assert [one.pop("index") for one in shown] == list(range(len(shown)))
    return shown


def test_one_object_a_record_in_order(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(ndjson(cbg(), cbg(time=None), cbg()))

    ran = run("validate", "--verdicts", path)

    assert ran.code == 1
    assert ran.lines == [
        '{"index":0,"accepted":true,"errors":[]}',
        '{"index":1,"accepted":false,"errors":[{"code":"value-not-exists","pointer":"/time"}]}',
        '{"index":2,"accepted":true,"errors":[]}',
    ]


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["ndjson", "json"])
def test_every_format_is_read(run: Run, tmp_path: Path, kind: str, packed: str) -> None:
    records = [cbg(), cbg(time=None)] * 1_500  # more than one block
    text = ndjson(*records) if kind == "ndjson" else json.dumps(records, indent=1).encode()
    if packed == ".gz":
        text = gzip.compress(text)
    elif packed == ".zst":
        text = zstandard.compress(text)
    (tmp_path / f"a.data{packed}").write_bytes(text)

    assert verdicts(run, tmp_path / f"a.data{packed}", 1) == [GOOD, NO_TIME] * 1_500


def test_all_accepted_is_success(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(ndjson(cbg()))

    assert verdicts(run, tmp_path / "a", 0) == [GOOD]


def test_our_own_findings_are_no_verdicts_of_the_platform(run: Run, tmp_path: Path) -> None:
    twin = cbg(id="a1b2c3d4e5f60718293a4b5c6d7e8f90")
    other = twin | {"value": 7.5, "time": "2026-03-01T01:00:00+01:00"}
    (tmp_path / "a").write_bytes(ndjson(cbg(), cbg(), twin, other, cbg(deviceId=None)))

    # Identical, a repeated id, an offset, no deviceId: all fine for the Platform's validators.
    assert verdicts(run, tmp_path / "a", 0) == [GOOD] * 5


def test_lines_that_are_no_json_are_malformed_to_the_platform(run: Run, tmp_path: Path) -> None:
    lines = [b'{"type":"cbg"', b'{"value":NaN}', b'{"value":1e999}', b"{} {}", b"{}"]
    (tmp_path / "a").write_bytes(b"\n".join(lines))

    shown = verdicts(run, tmp_path / "a", 1)

    assert shown[:4] == [MALFORMED] * 4
    assert shown[4]["errors"] == [{"code": "value-not-exists", "pointer": "/type"}]


def test_what_is_only_not_stored_or_shown_passes_the_platforms_validators(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(ndjson(cbg(payload={"a\0b": 1}), cbg(time="9999-12-31T23:59:59-01:00")))

    assert verdicts(run, tmp_path / "a", 0) == [GOOD] * 2


def test_bytes_that_are_not_utf8_are_read_as_the_platform_does(run: Run, tmp_path: Path) -> None:
    good = ndjson(cbg(notes=["x"])).replace(b'"x"', b'"\xff"')
    bad = ndjson(cbg(time=None, notes=["x"])).replace(b'"x"', b'"\xff"')
    (tmp_path / "a").write_bytes(good + bad)

    assert verdicts(run, tmp_path / "a", 1) == [GOOD, NO_TIME]


def test_an_empty_element_is_malformed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"[" + json.dumps(cbg()).encode() + b",,{}]")

    assert verdicts(run, tmp_path / "a", 1)[:2] == [GOOD, MALFORMED]


def test_a_record_too_large_to_hold_is_named_and_the_rest_goes_on(run: Run, tmp_path: Path) -> None:
    large = b'"' + b"x" * MAX_RECORD_BYTES + b'"\n'
    (tmp_path / "a").write_bytes(ndjson(cbg()) + large + ndjson(cbg()))

    first, refused, last = verdicts(run, tmp_path / "a", 1)

    assert (first, last) == (GOOD, GOOD)
    assert refused["errors"] == [{"code": "staged-too-large", "pointer": ""}]


def test_pointers_are_in_full(run: Run, tmp_path: Path) -> None:
    settings = {"type": "pumpSettings", "time": "2026-03-01T00:00:00Z", "deviceId": "d"}
    settings["basalSchedules"] = {"My Weekend": [{"rate": "x", "start": 0}]}  # type: ignore[assignment]
    (tmp_path / "a").write_bytes(ndjson(settings))

    (shown,) = verdicts(run, tmp_path / "a", 1)

    assert {"code": "type-not-float64", "pointer": "/basalSchedules/My Weekend/0/rate"} in shown["errors"]


def test_the_real_export_gets_the_platform_s_verdicts(run: Run, shared: Path) -> None:
    ran = run("validate", "--verdicts", shared / "real" / "export-2014.ndjson.gz")

    with gzip.open(shared / "real" / "export-2014.verdicts.ndjson.gz", "rt") as expected:
        assert ran.lines == expected.read().splitlines()
    assert ran.code == 1


def test_recorded_cases_get_the_platform_s_verdicts(run: Run, shared: Path, tmp_path: Path) -> None:
    with gzip.open(shared / "conformance" / "datum-verdicts.ndjson.gz", "rt") as file:
        cases = [json.loads(line) for line in file]
    (tmp_path / "a.ndjson").write_bytes(ndjson(*(case["datum"] for case in cases)))

    shown = verdicts(run, tmp_path / "a.ndjson", 1)

    different = [
        case["id"]
        for case, ours in zip(cases, shown, strict=True)
        if (case["accepted"], case["errors"]) != (ours["accepted"], ours["errors"])
    ]
    assert different == []
