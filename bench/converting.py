"""What ``tidepool-ingest convert`` costs beside parsing what comes out, and how much memory it takes.

The whole process is measured, start-up included, with its output to ``/dev/null``. The files are made up:
years of readings of one person, with what a person enters in between. A row of a file gives one record, but
for Nightscout, whose treatments and profile also tell of scheduled basal: there, each record counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

import pyarrow
import pyarrow.parquet
from bench.result import Result
from bench.validation import json_microseconds

from tidepool_simulator.sample.vendor_files import (
    CLARITY_COLUMNS,
    HOME,
    LIBREVIEW_COLUMNS,
    TABLE_COLUMNS,
    meter_mapping,
)

ROWS = 200_000
FEW, MANY = 50_000, 5_000_000
ROUNDS = 3
ROW_GROUP = 100_000

START = datetime(1979, 1, 1, tzinfo=UTC)
"""Five million readings five minutes apart fill the years up to now."""

_STUDY_START = datetime(1979, 1, 1)
_STUDY_ZONE = "Etc/GMT+5"
"""Has every hour once."""

PEOPLE = 1_000

READING_SECONDS = 300
SENSOR_SECONDS = 90 * 86_400

ENTERED_ONE_IN = 40
"""One row in so many was entered by the person: insulin, and carbohydrate after it."""

SITE_START = datetime(2001, 1, 1, tzinfo=UTC)
"""A site's document from before 2000 has no date."""

ENTRIES_TO_A_TREATMENT = 20

_MEASURE = """
import json, os, subprocess, sys
process = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], "wb"))
_, status, usage = os.wait4(process.pid, 0)
seconds, unit = usage.ru_utime + usage.ru_stime, 1 if sys.platform == "darwin" else 1024
said = {"exit": os.waitstatus_to_exitcode(status), "seconds": seconds}
print(json.dumps(said | {"peak_mb": usage.ru_maxrss * unit / 1024**2}))
"""
"""Run by a small process of its own: what a child is told to have held at most begins with its parent."""


@dataclass(frozen=True)
class Kind:
    """One format, and how a file of so many rows is written.

    :param write: is given the open file and the number of rows.
    """

    name: str
    write: Callable[[IO[str], int], None]


def measure_converting(*, memory: bool) -> Iterator[Result]:
    """Measure each format with 200,000 rows, and on request with few and with very many.

    :param memory: whether to measure memory too, which takes minutes and a GB of temporary files.
    """
    for kind in (*KINDS, PARQUET):
        yield _measured(f"convert, {kind.name}", kind, ROWS)
        if memory:
            yield _measured(f"convert, {kind.name}, small file", kind, FEW)
            yield _measured(f"convert, {kind.name}, huge file", kind, MANY, rounds=1)


def _measured(what: str, kind: Kind, rows: int, *, rounds: int = ROUNDS) -> Result:
    """Convert in several rounds, with ``json.loads`` around each: what else loads the machine slows both."""
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name:
        folder = Path(name)
        command = command_for(kind.name, write_file(kind.name, folder, rows), folder)
        few = write_file(kind.name, folder, min(rows, ROWS), "few.csv")
        records = folder / "records.ndjson"
        _in_own_process(command_for(kind.name, few, folder), records)
        lines = records.read_bytes().splitlines()
        made = rows * len(lines) // min(rows, ROWS)
        outcomes, parsing = [], [json_microseconds(lines, rounds=1)]
        for _ in range(rounds):
            outcomes.append(_in_own_process(command, Path("/dev/null")))
            parsing.append(json_microseconds(lines, rounds=1))
    return Result(
        what=what,
        records=made,
        rejected=0,
        json_microseconds=min(parsing),
        microseconds=min(outcome["seconds"] for outcome in outcomes) * 1e6 / made,
        peak_mb=max(outcome["peak_mb"] for outcome in outcomes),
    )


def write_file(name: str, folder: Path, rows: int, file_name: str = "export.csv") -> Path:
    """Write a file of one format, each row of which gives a record.

    :param name: the format.
    :param rows: how many.
    """
    path = folder / file_name
    if name == PARQUET.name:
        _write_study(path, rows)
        return path
    with path.open("w", encoding="utf-8", newline="") as file:
        next(kind for kind in KINDS if kind.name == name).write(file, rows)
    return path


def _write_study(path: Path, rows: int) -> None:
    """Write the table of a study as Parquet, a row group at a time, with the types that such tables have."""
    schema = pyarrow.schema(
        {
            "PtID": pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
            "DataDtTm": pyarrow.timestamp("us"),
            "CGM": pyarrow.float64(),
            "Bolus": pyarrow.float64(),
        }
    )
    numbers = iter(range(rows))
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(numbers, ROW_GROUP)):
            entered = [number % ENTERED_ONE_IN == 1 for number in some]
            columns = {
                "PtID": pyarrow.array([f"P{number % PEOPLE:04}" for number in some]).dictionary_encode(),
                "DataDtTm": [_STUDY_START + timedelta(seconds=number * READING_SECONDS) for number in some],
                "CGM": [
                    None if is_entered else float(number % 350 + 45)
                    for number, is_entered in zip(some, entered, strict=True)
                ],
                "Bolus": [
                    number % 9 + 0.5 if is_entered else None
                    for number, is_entered in zip(some, entered, strict=True)
                ],
            }
            writer.write_table(pyarrow.table(columns, schema=schema))


def measure_splitting(*, memory: bool) -> Iterator[Result]:
    """Measure splitting the table of a study of 1,000 people into their batches, which are staged.

    :param memory: whether to split five million rows too.
    """
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-") as name:
        folder = Path(name)
        study, users = folder / "study.parquet", folder / "users.csv"
        listed = [f"P{number:04},{number:010x}" for number in range(PEOPLE)]
        users.write_text("\n".join(["PtID,user", *listed]) + "\n")
        for what, rows in (("small file", FEW), *([("huge file", MANY)] if memory else [])):
            _write_study(study, rows)
            records = folder / "records.ndjson"
            _in_own_process(command_for(PARQUET.name, study, folder), records)
            with records.open("rb") as file:
                lines = list(islice(file, ROWS))
            command = [sys.executable, "-m", "tidepool_ingest", "stage", str(study)]
            command += [
                "--timezone",
                _STUDY_ZONE,
                "--root",
                str(folder / what),
                "--mapping",
                str(folder / "mapping.json"),
            ]
            command += ["--users", str(users), "--split-by", "PtID", "--device-id", "bench"]
            outcome = _in_own_process(command, folder / "staged")
            yield Result(
                what=f"split, {PEOPLE:,} people, {what}",
                records=rows,
                rejected=0,
                json_microseconds=json_microseconds(lines, rounds=1),
                microseconds=outcome["seconds"] * 1e6 / rows,
                peak_mb=outcome["peak_mb"],
            )


def command_for(name: str, path: Path, folder: Path) -> list[str]:
    """Return the command that converts a file.

    :param name: its format.
    :param folder: where a mapping may be written.
    """
    is_table = name in ("table", PARQUET.name)
    command = [sys.executable, "-m", "tidepool_ingest", "convert", str(path)]
    command += ["--format", "table" if is_table else name]
    if is_table:
        mapping = folder / "mapping.json"
        of_meter = meter_mapping() | {"csv": {"delimiter": ";", "decimal": ","}}
        mapping.write_text(json.dumps(_STUDY_MAPPING if name == PARQUET.name else of_meter))
        command += ["--mapping", str(mapping)]
    return [*command, "--timezone", _STUDY_ZONE if name == PARQUET.name else HOME]


def _in_own_process(command: Sequence[str], output: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(output), *command], check=True, capture_output=True, text=True
    )
    outcome: dict[str, Any] = json.loads(done.stdout)
    if outcome["exit"]:
        raise RuntimeError(f"convert ended with {outcome['exit']}: {done.stderr}")
    return outcome


def _clarity(file: IO[str], rows: int) -> None:
    file.write(",".join(CLARITY_COLUMNS) + "\r\n1,,FirstName,,X,,,,,,,,,\r\n")
    for number, at, stamp in _stamps(rows, "%Y-%m-%dT%H:%M:%S"):
        entered = number % ENTERED_ONE_IN
        start = f"{number + 2},{stamp},"
        if entered == 1:
            file.write(f"{start}Insulin,Fast-Acting,,,iPhone G6,,{number % 9 + 1}.50,,,,,\r\n")
        elif entered == 2:
            file.write(f"{start}Carbs,,,,iPhone G6,,,{number % 70 + 5},,,,\r\n")
        else:
            sensor, counted = divmod(at, SENSOR_SECONDS)
            file.write(f"{start}EGV,,,,iPhone G6,{number % 350 + 45},,,,,{counted},8T{sensor:04}\r\n")


def _libreview(file: IO[str], rows: int) -> None:
    start = "FreeStyle Libre 3,7F3543A5-0000-4000-8000-00000000BEEF,"
    file.write("Glucose Data,Generated on,01-01-2040 10:00 UTC,Generated by,X\n")
    file.write(",".join(LIBREVIEW_COLUMNS) + "\n")
    entered = rows // ENTERED_ONE_IN
    for number, _, stamp in _stamps(rows - 2 * entered, "%d-%m-%Y %H:%M"):
        file.write(f"{start}{stamp},0,{number % 200 / 10 + 3:.1f},,,,,,,,,,,,,,\n")
    for number, _, stamp in _stamps(entered, "%d-%m-%Y %H:%M", every=ENTERED_ONE_IN):
        file.write(f"{start}{stamp},4,,,,{number % 9 + 1},,,,,,,,,,,\n")
    for number, _, stamp in _stamps(entered, "%d-%m-%Y %H:%M", every=ENTERED_ONE_IN):
        file.write(f"{start}{stamp},5,,,,,,{number % 70 + 5},,,,,,,,,\n")


def _table(file: IO[str], rows: int) -> None:
    file.write(";".join(TABLE_COLUMNS) + "\r\n")
    for number, _, stamp in _stamps(rows, "%d.%m.%Y;%H:%M"):
        value = f"{number % 200 / 10 + 3:.1f}".replace(".", ",")
        kind, sort = ("Insulin", "Bolus") if number % ENTERED_ONE_IN == 1 else ("CGM", "")
        file.write(f"{stamp};{kind};{value};{sort};TWN-5512;{number};\r\n")


def _nightscout(file: IO[str], rows: int) -> None:
    """Write the documents of a site whose loop sets temporary basals and gives boluses, one a line."""
    basal = [
        {"time": start, "value": rate} for start, rate in (("00:00", 0.8), ("06:00", 1.1), ("21:30", 0.95))
    ]
    store = {"Default": {"timezone": HOME, "units": "mmol", "basal": basal}}
    start = {"startDate": f"{SITE_START:%Y-%m-%dT%H:%M:%S.000Z}", "defaultProfile": "Default"}
    file.write(json.dumps({"_id": "5f0000000000000000000000"} | start | {"store": store}) + "\n")
    at, step, entered = SITE_START, timedelta(seconds=READING_SECONDS), 0
    for number in range(1, rows):
        stamp, name = f"{at:%Y-%m-%dT%H:%M:%S.000Z}", f"5f{number:022x}"
        if number % (ENTRIES_TO_A_TREATMENT + 1):
            reading = {"type": "sgv", "sgv": number % 350 + 45, "direction": "Flat", "device": "share2"}
            when = {"date": int(at.timestamp() * 1000), "dateString": stamp, "sysTime": stamp, "utcOffset": 0}
            file.write(json.dumps({"_id": name} | reading | when) + "\n")
            at += step
        else:
            said = _TREATMENTS[entered % len(_TREATMENTS)]
            entered += 1
            when = {"created_at": stamp, "enteredBy": "iAPS", "utcOffset": 0}
            file.write(json.dumps({"_id": name} | when | said) + "\n")


_TREATMENTS: tuple[dict[str, object], ...] = (
    {"eventType": "Temp Basal", "duration": 30, "rate": 1.35, "absolute": 1.35, "temp": "absolute"},
    {"eventType": "SMB", "insulin": 0.15, "bolus": {"isSMB": True, "amount": 0.15}},
    {"eventType": "Temp Basal", "duration": 60, "rate": 0, "absolute": 0, "temp": "absolute"},
    {"eventType": "Carb Correction", "carbs": 35, "foodType": None},
    {"eventType": "Meal Bolus", "insulin": 4.5, "carbs": 50},
)
"""What the treatments of a site say in turn."""


def _stamps(count: int, form: str, *, every: int = 1) -> Iterator[tuple[int, int, str]]:
    """Yield numbers, seconds since the first, and what a clock at home shows, but for repeated hours."""
    zone, step = ZoneInfo(HOME), timedelta(seconds=READING_SECONDS * every)
    at, number = START, 0
    while number < count:
        local = at.astimezone(zone)
        if local.replace(fold=0).utcoffset() == local.replace(fold=1).utcoffset():
            yield number, (at - START) // timedelta(seconds=1), local.strftime(form)
            number += 1
        at += step


PARQUET = Kind("table in Parquet", _table)
"""Written by :func:`_write_study`."""

_STUDY_MAPPING = {
    "time": {"column": "DataDtTm", "format": "iso"},
    "records": [
        {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "CGM"}}},
        {"record": {"type": "bolus", "subType": "normal", "normal": {"column": "Bolus"}}},
    ],
}

KINDS = (
    Kind("clarity", _clarity),
    Kind("libreview", _libreview),
    Kind("table", _table),
    Kind("nightscout", _nightscout),
)
