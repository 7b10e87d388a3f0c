"""``convert``: all records of a file as NDJSON, or none and the reason."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.cli.commands import Ran, Run, cbg, ndjson
from tests.formats.readers import VendorReader, vendor_file
from tidepool_ingest.formats import FORMATS

BERLIN = ("--timezone", "Europe/Berlin")
ROWS = [f"A,,2026-03-05T08:0{minute}:00,6.{minute}" for minute in range(4)]
EXPORT = vendor_file(*ROWS)
SEE = "docs/codes.md explains each code and reason."
HEAVY = ("sqlalchemy", "requests", "tidepool_ingest.ledger", "tidepool_ingest.client")


@pytest.fixture(autouse=True)
def _test_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, VendorReader.name, VendorReader)


def records(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ran.lines]


def write(folder: Path, content: bytes, name: str = "a.csv") -> None:
    (folder / name).write_bytes(content)


def test_all_records_come_out_as_ndjson(run: Run, tmp_path: Path) -> None:
    write(tmp_path, EXPORT)

    ran = run("convert", "a.csv", "--format", VendorReader.name, *BERLIN)

    assert (ran.code, ran.err) == (0, "")
    assert [one["value"] for one in records(ran)] == [6.0, 6.1, 6.2, 6.3]
    assert records(ran)[0]["time"] == "2026-03-05T07:00:00Z"
    assert ran.out.endswith("\n")


def test_the_format_is_told_by_content(run: Run, tmp_path: Path) -> None:
    write(tmp_path, EXPORT)

    assert (
        run("convert", "a.csv", *BERLIN).out
        == run("convert", "a.csv", "--format", VendorReader.name, *BERLIN).out
    )


def test_the_zone_may_change_at_a_local_time(run: Run, tmp_path: Path) -> None:
    write(tmp_path, EXPORT)

    ran = run("convert", "a.csv", "--timezone", "Europe/London@2026-03-05T08:02:00", *BERLIN)

    assert [one["timezoneOffset"] for one in records(ran)] == [0, 0, 60, 60]


def test_one_device_of_several(run: Run, tmp_path: Path) -> None:
    write(tmp_path, vendor_file(*ROWS, "B,,2026-03-05T08:09:00,7"))

    ran = run("convert", "a.csv", *BERLIN, "--serial", "B")

    assert [one["deviceId"] for one in records(ran)] == ["Vendor-B"]
    assert ran.err == f"4 rows are no reading: 4 other-device\n{SEE}\n"
    assert len(records(run("convert", "a.csv", *BERLIN))) == 5


def test_what_gives_no_record_is_counted(run: Run, tmp_path: Path) -> None:
    bad = [f"A,,2026-03-05T09:0{minute}:00,x" for minute in range(7)]
    write(tmp_path, vendor_file(*ROWS, *bad, "A,,2026-03-05T09:30:00,"))

    ran = run("convert", "a.csv", *BERLIN)

    assert (ran.code, len(ran.lines)) == (0, 4)
    assert ran.err.splitlines() == [
        "7 rows are rejected: 7 staged-not-a-number (line 6, line 7, line 8, line 9, line 10, ...)",
        "1 row is no reading: 1 note",
        SEE,
    ]


def test_several_files_come_one_after_the_other(run: Run, tmp_path: Path) -> None:
    write(tmp_path, EXPORT)
    write(tmp_path, vendor_file("A,,2026-03-06T08:00:00,9", "A,,2026-03-06T08:05:00,x"), "b.csv")

    ran = run("convert", "a.csv", "b.csv", *BERLIN)

    assert [one["value"] for one in records(ran)] == [6.0, 6.1, 6.2, 6.3, 9]
    assert ran.err == f"1 row is rejected: 1 staged-not-a-number (b.csv, line 3)\n{SEE}\n"


@pytest.mark.parametrize(
    "packed", [EXPORT, gzip.compress(EXPORT), zstandard.compress(EXPORT)], ids=["plain", "gzip", "zstd"]
)
def test_the_standard_input_is_read(run: Run, monkeypatch: pytest.MonkeyPatch, packed: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(packed)))

    assert len(run("convert", "-", *BERLIN).lines) == 4


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.zst"])
def test_a_compressed_file_is_expanded(run: Run, tmp_path: Path, name: str) -> None:
    write(tmp_path, gzip.compress(EXPORT) if name.endswith("gz") else zstandard.compress(EXPORT), name)

    assert len(run("convert", name, *BERLIN).lines) == 4


HELD: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "held": (vendor_file(*ROWS, "A,,2026-03-05T09:00:00,swapped"), BERLIN, "dates-swapped"),
    "no zone": (EXPORT, (), "timezone-missing"),
    "another format": (b"1,2\n3,4\n", ("--format", VendorReader.name, *BERLIN), "file-other-format"),
    "of no format": (b"Index,Value\n1,2\n", (), "file-not-records"),
    "empty": (b"", BERLIN, "file-empty"),
    "heading only": (vendor_file(), BERLIN, "file-empty"),
    "UTF-16": (EXPORT.decode().encode("utf-16"), BERLIN, "file-encoding"),
    "implausible unit": (
        vendor_file(*(f"A,,2026-03-05T08:0{minute}:00,118" for minute in range(9))),
        BERLIN,
        "glucose-units-implausible",
    ),
}


@pytest.mark.parametrize("case", HELD)
def test_nothing_comes_out_of_what_would_be_held(run: Run, tmp_path: Path, case: str) -> None:
    content, options, code = HELD[case]
    write(tmp_path, content)

    ran = run("convert", "a.csv", *options)

    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert code in line or code == "glucose-units-implausible"
    assert "tidepool-ingest: " in line


def test_what_is_meant_as_it_is_comes_out(run: Run, tmp_path: Path) -> None:
    write(tmp_path, HELD["held"][0])

    ran = run("convert", "a.csv", *BERLIN, "--meant-as", "dates-swapped")

    assert (ran.code, len(ran.lines)) == (0, 4)
    assert "staged-not-a-number" in ran.err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["nowhere.csv"], "file-missing"),
        ([], "required"),
        (["a.csv", "--format", "nothing"], "invalid choice"),
        (["a.csv", "--timezone", "Nowhere"], "--timezone"),
        (["a.csv", "--timezone", "Europe/Berlin@yesterday", "--timezone", "Europe/Rome"], "no local time"),
        (["a.csv", "--timezone", "Europe/Berlin@2026-03-40T08:00:00", *BERLIN], "no local time"),
        (["a.csv", "--timezone", "Europe/Berlin", "--timezone", "Europe/Rome"], "not in order"),
        (["a.csv", "--timezone", "Europe/Berlin@2026-03-05T08:00:00"], "not in order"),
        (["a.csv", "--date-order", "ydm"], "invalid choice"),
        (["a.csv", *BERLIN, "--date-order", "dmy"], "takes no --date-order"),
        (["a.csv", "--meant-as", "whatever"], "invalid choice"),
        (["a.csv", "--serial", ""], "--serial"),
        (["-", "-"], "once"),
        (["a.csv", "--mapping", "nowhere.json"], "--mapping"),
        (["a.csv", "--mapping", "a.csv"], "--mapping"),
    ],
)
def test_wrong_use_is_one_line(run: Run, tmp_path: Path, arguments: list[str], what: str) -> None:
    write(tmp_path, EXPORT)

    assert what in run("convert", *arguments).error


def test_records_of_other_formats_come_out_as_a_run_reads_them(run: Run, tmp_path: Path) -> None:
    write(tmp_path, ndjson(cbg(), cbg(value=7)), "a.ndjson")
    write(tmp_path, json.dumps([cbg(), cbg(value=7)]).encode(), "a.json")

    assert run("convert", "a.ndjson").out == (tmp_path / "a.ndjson").read_text()
    assert records(run("convert", "a.json")) == [cbg(), cbg(value=7)]


def test_it_loads_neither_ledger_nor_client() -> None:
    code = (
        "import sys; from tidepool_ingest.cli import parser; parser('convert'); "
        f"print([name for name in sys.modules if name.startswith({HEAVY})])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
