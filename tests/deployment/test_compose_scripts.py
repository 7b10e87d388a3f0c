"""The scripts within the compose file, run as they stand, with stand-ins for the programs that they call."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deployment.files import Compose

WAIT_SECONDS = 60.0
"""Long enough on any machine for a script to do what it does at once."""

DAYS = 24 * 60 * 60


def script_of(compose: Compose, service: str) -> str:
    """Return a service's script as the container's shell gets it."""
    shell, options, script = compose.services[service]["command"]
    assert (shell, options) == ("bash", "-ec")
    return str(script).replace("$$", "$")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    return folder


def install(programs: Path, name: str, script: str) -> None:
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def environment_with(programs: Path, **variables: str) -> dict[str, str]:
    return os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"} | variables


# ---------------------------------------------------------------------- the simulator in the worker's network


@contextmanager
def simulating(compose: Compose, programs: Path, routes: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the simulator's script until it ends by itself, or the ``with`` block does."""
    install(programs, "python", "echo '{}'")
    install(programs, "tidepool-ingest", f"touch '{programs}/started'; while true; do /bin/sleep 1; done")
    install(programs, "sleep", f"touch '{programs}/looked'; /bin/sleep 0.05")
    script = script_of(compose, "simulator")
    for there, here in (("/proc/net/route", routes), ("/opt/tidepool/practice", programs)):
        assert there in script
        script = script.replace(there, str(here))
    command = ["bash", "-ec", script]
    process = subprocess.Popen(command, env=environment_with(programs), start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def until_there(file: Path) -> None:
    give_up = time.monotonic() + WAIT_SECONDS
    while not file.exists():
        assert time.monotonic() < give_up, f"{file.name} did not appear"
        time.sleep(0.02)


def test_simulator_ends_when_the_workers_network_is_gone(
    compose: Compose, programs: Path, tmp_path: Path
) -> None:
    routes = tmp_path / "route"
    routes.write_text("Iface Destination\neth0 00000000\n")
    with simulating(compose, programs, routes) as process:
        until_there(programs / "started")
        for _ in range(2):  # it has looked, and looks again
            (programs / "looked").unlink(missing_ok=True)
            until_there(programs / "looked")
        assert process.poll() is None, "it has ended although the network is there"

        routes.write_text("Iface Destination\n")  # as in the network of a container that has ended

        assert process.wait(WAIT_SECONDS) != 0


# ---------------------------------------------------------------------- the pool


@pytest.mark.parametrize("there", [True, False])
def test_slots_of_the_pool_are_set_only_where_it_is_missing(
    compose: Compose, programs: Path, tmp_path: Path, there: bool
) -> None:
    calls = tmp_path / "calls"
    install(programs, "python", ":")  # the checks of the deployment
    install(
        programs,
        "airflow",
        f'echo "$1 $2 $3" >> "{calls}"; [ "$1 $2" != "pools get" ] || exit {0 if there else 1}',
    )
    variables = {
        "TIDEPOOL_POOL": "tidepool",
        "POOL_SLOTS": "16",
        "ADMIN_USER": "admin",
        "ADMIN_PASSWORD": "made-up",
    }

    subprocess.run(
        ["bash", "-ec", script_of(compose, "airflow-init")],
        env=environment_with(programs, **variables),
        check=True,
    )

    made = calls.read_text().splitlines()
    assert made.index("db migrate ") < made.index("pools get tidepool") < made.index("users create --role")
    assert ("pools set tidepool" in made) is not there


# ---------------------------------------------------------------------- logs of tasks


def cleaned_up(compose: Compose, programs: Path, logs: Path, keep_days: str) -> int:
    """Let the script make one pass over a folder of logs, and return how it ended."""
    install(programs, "sleep", "exit 3")
    script = script_of(compose, "log-cleanup")
    for there, here in (("/opt/airflow/logs", logs), ("/tmp/done", programs / "done")):
        assert there in script
        script = script.replace(there, str(here))
    ended = subprocess.run(
        ["bash", "-ec", script], env=environment_with(programs, KEEP_DAYS=keep_days), check=False
    )
    return ended.returncode


def logs_of(folder: Path) -> tuple[Path, Path, Path]:
    """Make an old log, a new one and an old empty folder."""
    old, new, empty = folder / "run-1" / "old.log", folder / "run-2" / "new.log", folder / "run-0"
    for log in (old, new):
        log.parent.mkdir(parents=True)
        log.write_text("…")
    empty.mkdir()
    then = time.time() - 40 * DAYS
    for path in (old, empty):
        os.utime(path, (then, then))
    return old, new, empty


def test_logs_are_removed_when_they_are_old_enough(compose: Compose, programs: Path, tmp_path: Path) -> None:
    old, new, empty = logs_of(tmp_path / "logs")

    assert cleaned_up(compose, programs, tmp_path / "logs", "30") == 3
    assert not old.exists()
    assert not empty.exists()
    assert new.exists()


@pytest.mark.parametrize("keep_days", ["0", "60"])
def test_logs_are_kept_as_long_as_the_setting_says(
    compose: Compose, programs: Path, tmp_path: Path, keep_days: str
) -> None:
    made = logs_of(tmp_path / "logs")

    assert cleaned_up(compose, programs, tmp_path / "logs", keep_days) == 3
    assert all(path.exists() for path in made)


def test_a_setting_that_is_no_number_of_days_is_not_taken_for_one(
    compose: Compose, programs: Path, tmp_path: Path
) -> None:
    made = logs_of(tmp_path / "logs")

    assert cleaned_up(compose, programs, tmp_path / "logs", "a month") not in (0, 3)
    assert all(path.exists() for path in made)
    assert not (programs / "done").exists()
