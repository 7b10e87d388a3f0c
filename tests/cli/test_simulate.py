from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.cli.commands import Run
from tests.timing import PATIENCE_SECONDS


@contextmanager
def simulating(folder: Path, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """Start the command and wait for what it writes once it listens."""
    command = [sys.executable, "-m", "tidepool_ingest", "simulate", "--port", "0", "--write-roles", "roles"]
    process = subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        roles = json.loads((folder / "roles").read_text())
        assert line == f"simulator: listening on {roles['base_url']}\n"
        yield process, roles
    finally:
        process.kill()
        process.communicate()


def test_it_answers_the_recorded_exchanges_and_ends_on_request(shared: Path, tmp_path: Path) -> None:
    folder = shared / "conformance"
    with simulating(tmp_path) as (process, roles):
        replay = [sys.executable, folder / "replay.py", "--base-url", roles["base_url"]]
        played = subprocess.run(
            [*replay, "--roles", tmp_path / "roles", folder / "http-exchanges.ndjson.gz"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert played.stdout.splitlines()[-1].endswith(" 0 scenarios differ"), played.stdout
        assert played.returncode == 0
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=PATIENCE_SECONDS)
        assert (process.returncode, out, errors) == (0, "", "")


def test_options_reach_the_simulator(tmp_path: Path) -> None:
    users = [{"name": "patient", "id": "1000000001"}]
    grants = [{"to": "uploader", "of": "patient"}]
    (tmp_path / "accounts").write_text(json.dumps({"users": users, "grants": grants}))
    options = ("--accounts", "accounts", "--store", "store", "--latency", "0.05", "--token-lifetime", 60)
    with simulating(tmp_path, *options) as (process, roles):
        answer = requests.get(
            f"{roles['base_url']}/v1/users/1000000001/data_sets",
            headers={"X-Tidepool-Session-Token": roles["uploader"]["token"]},
            timeout=10,
        )
        assert (answer.status_code, answer.json()) == (200, [])
        assert answer.elapsed.total_seconds() >= 0.05
        assert (tmp_path / "store").stat().st_size > 0
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_SECONDS) == 0


def test_a_port_that_is_taken_is_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = run("simulate", "--port", port).told

    assert f"Port {port} is taken" in error


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "Invalid JSON"),
        ('{"users": [{"name": "x", "colour": "red"}]}', "users.0.colour"),
        ('{"users": [{"name": "x", "id": "short"}]}', "ten hex digits or a UUID"),
        ('{"grants": [{"to": "nobody", "of": "owner"}]}', "no account 'nobody'"),
    ],
)
def test_accounts_that_cannot_be_are_one_line(run: Run, tmp_path: Path, content: str, what: str) -> None:
    (tmp_path / "accounts").write_text(content)

    error = run("simulate", "--accounts", "accounts").told

    assert what in error
    assert error.endswith("Correct the file of --accounts.")


@pytest.mark.parametrize("store", ["nowhere/store", "text"])
def test_a_store_that_is_none_is_one_line(run: Run, tmp_path: Path, store: str) -> None:
    (tmp_path / "text").write_text("no database at all, but a text that is long enough to be read as one" * 9)

    assert "--store" in run("simulate", "--store", store).told


def test_a_roles_file_nowhere_is_one_line(run: Run) -> None:
    assert "--write-roles" in run("simulate", "--write-roles", "nowhere/roles").told
