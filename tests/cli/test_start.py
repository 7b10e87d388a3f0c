"""What a command loads: whoever types one waits for all that it imports.

How long that takes, `python -m bench --only start` measures. Here stands what is not to be loaded, which is
the same on every machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.model.examples import EXAMPLES
from tidepool_ingest.formats import READERS, Entry, Formats
from tidepool_ingest.ledger import Ledger

NEVER = {
    "airflow": "the library does not know it",
    "requests": "nothing is asked of Tidepool",
    "urllib3": "the same",
    "tenacity": "nothing is asked again",
    "tidepool_simulator": "only `simulate` needs it",
    "tidepool_ingest.client": "nothing is asked of Tidepool",
    "alembic": "nothing is migrated",
    "cryptography": "nothing is encrypted",
    "pyarrow": "no file is in Parquet",
    "openpyxl": "no file is a workbook",
    "pendulum": "the standard library knows times well enough",
    "psutil": "nobody asks for memory",
    "fastapi": "there is no page",
    "jinja2": "there is no page",
    "s3fs": "no file is in a bucket",
    "tidepool_ingest.formats.json_array": "the file is of lines",
    "tidepool_ingest.formats.table": "no file is a table",
    "tidepool_ingest.formats.libreview": "no file is an export of LibreView's",
    "tidepool_ingest.formats.clarity": "no file is an export of Clarity's",
    "tidepool_ingest.formats.nightscout": "no file is of a Nightscout site",
}
"""What none of these commands needs for one record on a local disk, and why."""

NO_LEDGER = {
    "sqlalchemy": "there is no ledger to look into",
    "tidepool_ingest.ledger": "the same",
}

NO_STORAGE = {
    "zstandard": "no file is compressed",
    "fsspec": "a local file is read without it",
    "upath": "a local path is a plain one",
    "asyncio": "only storages and databases elsewhere need it",
}

NOTHING = {
    "pydantic": "there is no manifest",
    "pydantic_core": "few records are validated exactly, without the fast path",
    "tidepool_ingest.staging.manifest": "there is no manifest",
    "tidepool_ingest.formats.tidepool_export": "the record names no data set",
    "logging": "nothing is logged",
    "zoneinfo": "the record names no zone",
}

SELDOM = {
    "hashlib": "nothing is digested, and nobody's pseudonym is shown",
    "secrets": "nothing is kept secret",
    "tempfile": "nothing is copied, and what is remembered fits into memory",
    "csv": "no file is a table",
    "importlib.resources": "the zones are files beside a module",
}

NO_EXPORT = {
    "tidepool_ingest.formats.tidepool_export.reader": "the file is no export of Tidepool's",
    "tidepool_ingest.staging.edits": "no record is changed",
    "tidepool_ingest.staging.splice": "no record is cut or put together",
}

SPARED = {
    "validate": NEVER | NO_LEDGER | NO_STORAGE | NO_EXPORT | SELDOM | NOTHING,
    "inspect": NEVER | NO_LEDGER | NO_STORAGE | NO_EXPORT | SELDOM,
    "stage": NEVER
    | NO_LEDGER
    | NO_STORAGE
    | NO_EXPORT
    | {
        "tidepool_ingest.stage.vendor": "the file is of records",
        "difflib": "no key of a manifest is misspelt",
    },
    "sessions": NEVER
    | {
        "fsspec": "no file is looked for",
        "pydantic": "there is no manifest",
        "sqlalchemy.dialects.postgresql": "the ledger is in SQLite",
    },
}

WATCHED = """
import json, sys
from tidepool_ingest.cli import main
code = main(sys.argv[1:])
print()
print(json.dumps([code, sorted(sys.modules)]))
"""


def loaded(*arguments: str, folder: Path) -> list[str]:
    """Run a command in a process of its own; return the modules that it has loaded."""
    # Without what another test may have left, such as the address of a ledger.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEPOOL_")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert code == 0, done.stderr
    return list(modules)


@pytest.mark.parametrize("command", SPARED)
def test_a_command_loads_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    (tmp_path / "one.ndjson").write_text(json.dumps(EXAMPLES["cbg"] | {"deviceId": "a device"}) + "\n")
    if command == "sessions":
        ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
        ledger.migrate()
        ledger.close()
    arguments = {
        "stage": ["one.ndjson", "--root", "staging", "--user", "0123456789"],
        "sessions": ["--ledger", f"sqlite:///{tmp_path}/ledger.db"],
    }

    modules = loaded(command, *arguments.get(command, ["one.ndjson"]), folder=tmp_path)

    assert f"tidepool_ingest.cli.{command}" in modules
    needless = {name: why for name, why in SPARED[command].items() if name in modules}
    assert needless == {}


def test_no_plugin_of_pydantics_sees_a_manifest(tmp_path: Path) -> None:
    packages, folder = tmp_path / "packages", tmp_path / "folder"
    (packages / "spy-1.dist-info").mkdir(parents=True)
    (packages / "spy-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: spy\nVersion: 1\n")
    (packages / "spy-1.dist-info" / "entry_points.txt").write_text("[pydantic]\nspy = spy\n")
    (packages / "spy.py").write_text(
        "import pathlib\npathlib.Path('seen').touch()\n"
        "def new_schema_validator(*_, **__):\n    return None, None, None\n"
    )
    folder.mkdir()
    (folder / "one.ndjson").write_text(json.dumps(EXAMPLES["cbg"] | {"deviceId": "a device"}) + "\n")
    command = [sys.executable, "-m", "tidepool_ingest", "stage", "one.ndjson", "--root", "staging"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(packages)])}
    seen = []
    for more in ({}, {"PYDANTIC_DISABLE_PLUGINS": ""}):
        subprocess.run(
            [*command, "--user", "0123456789"],
            check=True,
            capture_output=True,
            cwd=folder,
            env=environment | more,
        )
        seen.append((folder / "seen").exists())

    assert seen == [False, True]


CLARITY = (
    b"Timestamp,Event Type,Event Subtype,Patient Info,Device Info,Source Device ID,Glucose Value (mg/dL),"
    b"Insulin Value (u),Carb Value (grams),Duration,Glucose Rate of Change (mg/dL/min),Transmitter Time,ID"
)


def test_what_is_said_of_a_format_before_it_is_loaded_is_so() -> None:
    fresh = Formats(READERS)
    for name, entry in READERS.items():
        reader = fresh[name]
        assert reader.name == name
        if isinstance(entry, Entry):
            assert (reader.in_manifests, reader.has_own_rows) == (entry.in_manifests, entry.has_own_rows)
            assert ("recognizes" in vars(reader)) == entry.is_recognized, name


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"[Index],%s\n" % CLARITY, "clarity"),
        (b"{n},%s\n" % CLARITY, "clarity"),
        (b"[]%s\n" % CLARITY, None),
        (b'[{"type":"cbg"},%s\n' % CLARITY, None),
    ],
)
def test_a_table_that_begins_with_a_bracket_is_no_json(start: bytes, name: str | None) -> None:
    assert Formats(READERS).recognized(start, has_own_rows=True) == name
