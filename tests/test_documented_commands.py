"""The commands of the documents work as they stand: typed into a shell, in a folder with their files."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path

import pytest
from upath import UPath

from tests import PROJECT
from tests.console import Command, blocks_of, files_of, shows
from tidepool_ingest.stage import stage
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, Simulator
from tidepool_simulator.sample import SAMPLE_USERS, write_sample_feed
from tidepool_simulator.sample.__main__ import content_of

DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])

PROGRAMS = ("tidepool-ingest", ".venv/bin/tidepool-ingest", "python")

NOT_RUN = {
    "make": "runs for minutes, or until somebody ends it: tests/dev/test_make_up.py starts make up",
    "airflow": "needs a running Airflow: tests/dev/test_make_up.py",
    ". .local/up/env": "is there while make up runs: tests/dev/test_make_up.py",
    "export": "sets a variable of a deployment",
    "tidepool-ingest sessions": "needs a ledger: tests/dev/test_make_up.py, tests/cli/test_sessions.py",
    "tidepool-ingest ledger": "needs a ledger that holds a throttle: tests/cli/test_throttles.py",
    "tidepool-ingest erase": "needs a ledger: tests/cli/test_erase.py",
}
"""What is not run here, by how it begins, and why not."""

ROOT = "/data/staging"
"""The staging root of the documents; it becomes a folder of the test."""

USER = "5a3c0d0001"
STUDY_MAPPING = {
    "time": {"column": "When", "format": "iso"},
    "deviceId": {"column": "Serial", "prefix": "Study-"},
    "records": [{"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "Glucose"}}}],
}


def _record(minute: int, **fields: object) -> dict[str, object]:
    time = f"2026-11-19T08:{minute:02}:00Z"
    return {"type": "cbg", "time": time, "deviceId": "G6-1", "units": "mg/dL", "value": 110 + minute} | fields


def _lines(count: int) -> bytes:
    return b"".join(json.dumps(_record(minute)).encode() + b"\n" for minute in range(count))


def _study() -> bytes:
    import pyarrow.parquet  # type: ignore[import-untyped]

    columns = {
        "PtID": ["17", "17", "18"],
        "When": ["2026-03-05T07:00:00", "2026-03-05T07:05:00", "2026-03-05T07:00:00"],
        "Serial": ["A", "A", "B"],
        "Glucose": [112.0, 115.0, 98.0],
    }
    written = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), written)
    return written.getvalue()


FILES: Mapping[str, Callable[[], bytes]] = {
    "export.csv": lambda: content_of("clarity"),
    "entries.json": lambda: content_of("nightscout-entries"),
    "treatments.json": lambda: content_of("nightscout-treatments"),
    "profile.json": lambda: content_of("nightscout-profile"),
    "readings.json.gz": lambda: gzip.compress(json.dumps([_record(n) for n in range(9)]).encode()),
    "export.json.gz": lambda: gzip.compress(content_of("tidepool-export")),
    "corrected.ndjson": lambda: _lines(3),
    "study.parquet": _study,
    "map.json": lambda: json.dumps(STUDY_MAPPING).encode(),
    "ids.csv": lambda: b"PtID,User\n17,5a3c0d0001\n18,5a3c0d0002\n",
}
"""The files that the documents name and do not show, made up."""


def test_an_output_is_the_one_that_is_shown() -> None:
    assert shows(["one  ", "…", "last … of it"], "one\ntwo\nthree\nlast line of it\n")
    assert shows(["…", "end"], "end")
    assert not shows(["one"], "one\ntwo\n")
    assert not shows(["a.b"], "axb\n")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_block_ends_before_another_begins(document: Path) -> None:
    """Else what is explained is shown as commands, and the commands as text."""
    inside = False
    for number, line in enumerate(document.read_text().splitlines(), start=1):
        if fence := re.match(r" *```(\w*)", line):
            assert not (inside and fence[1]), f"line {number} is in the block before it"
            inside = not inside
    assert not inside, "the last block does not end"


@pytest.fixture(scope="module")
def tidepool() -> Iterator[Simulator]:
    """A Tidepool for the documents' connection, which may upload for their people."""
    with Simulator() as running:
        for user in SAMPLE_USERS:
            running.accounts.add_user(user, user_id=user)
            running.accounts.grant("service", of=user)
        yield running


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tidepool: Simulator) -> Path:
    """A folder with the documents' files, and the batches that they speak of."""
    folder = tmp_path_factory.mktemp("desk")
    for name, make in FILES.items():
        (folder / name).write_bytes(make())
    for document in DOCUMENTS:
        for name, content in files_of(document).items():
            (folder / name).write_text(content)
    fields = {"host": tidepool.base_url, "login": CLIENT_ID, "password": CLIENT_SECRET}
    connection = folder / "connection.json"
    connection.write_text(json.dumps(fields | {"extra": {"auth_mode": "client_credentials"}}))
    connection.chmod(0o600)
    (folder / "staging").mkdir()
    root = folder / "data" / "staging"
    day, source = date(2026, 11, 20), UPath(folder / "corrected.ndjson")
    stage(source, UPath(root), USER, day=day, batch_id="batch-1")
    first, *_ = write_sample_feed(root, day).batches
    first.rename(first.with_name("20261120T020000Z-1f0c"))
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a shell that finds the commands, of this checkout."""
    programs = tmp_path_factory.mktemp("bin")
    for name, arguments in (("tidepool-ingest", "-m tidepool_ingest "), ("python", "")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        script.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"
    library = str(PROJECT / "include")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEPOOL_")}
    return {**kept, "PATH": path, "PYTHONPATH": library, "NO_COLOR": "1", "COLUMNS": "80"}


def why_not(command: Command) -> str | None:
    """Return how a command begins that is not run here."""
    return next((start for start in NOT_RUN if f"{command.text} ".startswith(f"{start} ")), None)


def documented() -> Iterator[tuple[str, Command]]:
    for document in DOCUMENTS:
        for block in blocks_of(document):
            for command in block:
                yield document.name, command


def test_each_command_is_run_or_it_is_known_why_not() -> None:
    commands = [command for _name, command in documented()]
    unknown = [
        command.text for command in commands if why_not(command) is None and command.words[0] not in PROGRAMS
    ]
    assert unknown == []
    assert {why_not(command) for command in commands} - {None} == NOT_RUN.keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "command"),
    [
        pytest.param(name, command, id=f"{name}: {command.text}")
        for name, command in documented()
        if why_not(command) is None
    ],
)
def test_a_command_works_as_it_stands(
    document: str, command: Command, desk: Path, environment: dict[str, str]
) -> None:
    if "parquet" in command.text:
        pytest.importorskip("pyarrow")
    root = desk / ROOT.removeprefix("/")
    # Each document's reader begins with a ledger of their own.
    text = command.text.replace("///ledger.db", f"///{document.removesuffix('.md')}.db")
    ended = subprocess.run(
        ["sh", "-c", text.replace(ROOT, str(root))],
        cwd=desk,
        env=environment | {"TIDEPOOL_STAGING_ROOT": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    printed = ended.stdout.replace(str(root), ROOT)
    assert ended.returncode == 0, printed
    assert not command.output or shows(command.output, printed), printed
