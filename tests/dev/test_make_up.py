"""``make up`` as somebody uses it: start it, use it, press Ctrl-C, and have the machine back as it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from dev.home import PROJECT
from dev.up import BY_ITSELF_VARIABLE, FOLDER_VARIABLE

from tests.console import blocks_of
from tests.ports import free_port, is_open
from tests.processes import children_of, of_folder, remaining_of
from tidepool_simulator.sample.__main__ import content_of

pytestmark = pytest.mark.slow

START_SECONDS = 180
STOP_SECONDS = 60
READY = "up: Ctrl-C stops everything."
ENVIRONMENT = ". .local/up/env"


def _outside_make() -> dict[str, str]:
    """Return the environment without what a ``make`` that runs these tests hands on to an inner one."""
    return {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }


def _interruptible() -> None:
    """Let Ctrl-C interrupt, as in a terminal: a shell starts what runs in its background with it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Up:
    """A running ``make up``, as the foreground job of a terminal: a process group of its own."""

    def __init__(self, folder: Path, port: int, *variables: str) -> None:
        self.folder, self.port = folder, port
        self.output = folder.parent / f"{folder.name}.txt"
        # The environment that these tests run in, and no setting up of another.
        python = f"BIN={Path(sys.executable).parent}"
        command = ["make", "-o", ".venv/.ready", python, f"PORT={port}", *variables, "up"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env={**_outside_make(), FOLDER_VARIABLE: str(folder)},
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_interruptible,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not is_so():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < give_up, self.said
            time.sleep(0.2)

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to Airflow's API, as whoever may reach its port."""
        url = f"http://127.0.0.1:{self.port}"
        token = requests.get(f"{url}/auth/token", timeout=30).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        response = requests.request(method, f"{url}/api/v2{path}", json=body, headers=headers, timeout=30)
        assert response.ok, response.text
        return response.json()

    def interrupt(self) -> None:
        """What a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)


@contextmanager
def up(folder: Path, *variables: str) -> Iterator[Up]:
    running = Up(folder, free_port(), *variables)
    try:
        yield running
    finally:
        # Only when a test has failed: nothing may be left of it either.
        for process in of_folder(folder):
            process.kill()
        running.process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder to keep everything in. Not pytest's own: run by root, PostgreSQL may not enter that one."""
    with tempfile.TemporaryDirectory(prefix="tidepool-up-") as made:
        yield Path(made) / "up"


def run_up(folder: Path, port: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dev.up"],
        env={**os.environ, FOLDER_VARIABLE: str(folder), "PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def in_its_shell(folder: Path, command: str) -> str:
    """Run a command as the lines that `make up` prints say."""
    ended = subprocess.run(
        ["sh", "-c", f". {folder}/env && {command}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def is_verified(sessions: str) -> bool:
    """Return whether the ledger's table has the sensor of the export as verified."""
    found, *_ = [line for line in sessions.splitlines() if " G6 " in line] or [""]
    return found.split()[4:5] == ["verified"]


def test_ctrl_c_leaves_nothing_behind(folder: Path, tmp_path: Path) -> None:
    with up(folder) as running:
        running.wait_until(lambda: READY in running.said)
        url = f"http://127.0.0.1:{running.port}"

        # Nobody is asked for a password, and both DAGs wait for Trigger.
        for dag_id in ("tidepool_normal_upload", "tidepool_continuous_upload"):
            assert running.ask("GET", f"/dags/{dag_id}")["is_paused"] is False
        assert f"{url}/dags/tidepool_normal_upload" in running.said
        assert list((folder / "staging").glob("*/*/*/manifest.json"))
        assert any("postgres" in process.name() for process in of_folder(folder))

        # It says what waits, and no run that nobody will start is shown as the next one.
        assert (
            "up: tidepool_normal_upload is not paused; staged for it and not done: 8 batches" in running.said
        )
        assert (
            "up: tidepool_continuous_upload is not paused; staged for it and not done: 6 batches"
            in running.said
        )
        assert "up: paused as well: tidepool_on_arrival, tidepool_reconcile." in running.said
        shown = running.ask("GET", "/dags")["dags"]
        assert {dag["next_dagrun_run_after"] for dag in shown} == {None}

        # Another terminal finds Airflow's database and the ledger's, and nobody else finds the secrets.
        assert f". {folder}/env" in running.said
        assert (folder / "env").stat().st_mode & 0o777 == 0o600
        conn = in_its_shell(folder, "airflow config get-value database sql_alchemy_conn")
        assert conn.startswith("postgresql+psycopg2://")
        in_its_shell(folder, "python -c 'from tidepool_airflow.settings import open_ledger; open_ledger()'")
        assert in_its_shell(folder, "tidepool-ingest sessions --json").strip() == "[]"

        # README's way from a vendor's export to a verified upload, word for word.
        _environment, *way = next(
            block for block in blocks_of(PROJECT / "README.md") if block[0].text == ENVIRONMENT
        )
        (tmp_path / "export.csv").write_bytes(content_of("clarity"))
        *commands, last = (command.text for command in way)
        in_its_shell(folder, f"cd {tmp_path} && {' && '.join(commands)}")
        running.wait_until(lambda: is_verified(in_its_shell(folder, last)))

        # A second one is turned away with one line, and does no harm to the first.
        for second, port, line in (
            (folder, free_port(), f"up: It is already running in {folder}. Stop that one with Ctrl-C.\n"),
            (
                tmp_path / "other",
                running.port,
                f"up: Port {running.port} cannot be used. Choose another, for example: make up PORT=18080\n",
            ),
        ):
            turned_away = run_up(second, port)
            assert (turned_away.returncode, turned_away.stdout, turned_away.stderr) == (2, "", line)

        family = children_of(running.process.pid)
        assert len(family) > 6
        running.interrupt()
        time.sleep(0.5)
        running.interrupt()
        running.process.wait(STOP_SECONDS)

        assert "up: stopped.\n" in running.said
        assert remaining_of(family, folder) == []
        assert not is_open(running.port)
        assert not (folder / "env").exists()


def test_what_is_due_and_what_arrives_runs_by_itself_if_that_is_wanted(folder: Path) -> None:
    with up(folder, f"{BY_ITSELF_VARIABLE}=1") as running:
        running.wait_until(lambda: READY in running.said)

        def has_run(run_type: str) -> bool:
            runs = running.ask("GET", "/dags/tidepool_normal_upload/dagRuns")["dag_runs"]
            return [run["state"] for run in runs if run["run_type"] == run_type] == ["success"]

        running.wait_until(lambda: has_run("scheduled"))
        running.ask("PATCH", "/dags/tidepool_on_arrival?update_mask=is_paused", {"is_paused": False})
        running.wait_until(lambda: has_run("operator_triggered"))
        soon = running.ask("GET", "/dags/tidepool_normal_upload")["next_dagrun_run_after"]
        assert datetime.fromisoformat(soon) > datetime.now(UTC)
        states = json.loads(in_its_shell(folder, "tidepool-ingest sessions --json"))
        assert {state["state"] for state in states} == {"verified"}
        family = children_of(running.process.pid)
        running.interrupt()
        running.process.wait(STOP_SECONDS)

        assert remaining_of(family, folder) == []


def test_ended_while_it_starts_it_leaves_nothing_behind_either(folder: Path) -> None:
    with up(folder) as running:
        running.wait_until(lambda: (folder / "logs" / "dag-processor.log").exists())
        family = children_of(running.process.pid)
        running.process.terminate()
        running.process.wait(STOP_SECONDS)

        assert READY not in running.said
        assert len(family) > 4
        assert remaining_of(family, folder) == []


def test_a_port_that_is_none_is_one_clear_line(tmp_path: Path) -> None:
    turned_away = run_up(tmp_path, "http")

    assert (turned_away.returncode, turned_away.stdout) == (2, "")
    assert turned_away.stderr == "up: PORT is not a port number. Give a number from 1 to 65535.\n"
