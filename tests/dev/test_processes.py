"""Starting and ending the processes of a local run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from dev.home import LocalHome, LocalRunError
from dev.processes import LocalProcess, end, uninterrupted
from dev.simulator import simulator
from dev.up import DEFAULT_PORT, alone, port_of, port_of_last_time, require_free

SLEEP = "import time; time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('x', flush=True); {SLEEP}"
PARENT = """
import os, subprocess, sys
if sys.argv[1] == "leaves":
    subprocess.Popen([sys.executable, "-c", sys.argv[2]], process_group=0)
else:
    subprocess.run([sys.executable, "-c", sys.argv[2]], process_group=0)
"""


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_a_child_in_a_group_of_its_own_is_ended_too() -> None:
    process = LocalProcess([sys.executable, "-c", PARENT, "waits", SLEEP])
    until(lambda: len(_groups(process)) == 2)  # a new child is for an instant still in its parent's group
    members = process.members()

    end([process])

    assert process.members() == []
    assert not any(psutil.pid_exists(pid) and _runs(pid) for pid in members)


def test_a_child_that_outlives_its_parent_is_ended_too() -> None:
    process = LocalProcess([sys.executable, "-c", PARENT, "leaves", SLEEP])
    until(lambda: process.has_ended)
    (child,) = process.members()

    end([process])

    assert not _runs(child)


def test_what_does_not_end_in_time_is_ended_by_force(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = LocalProcess([sys.executable, "-c", STUBBORN], log=log)
    until(lambda: log.exists() and log.read_bytes() == b"x\n")

    end([process], within=0.3)

    assert process.has_ended


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt, even where the shell that started the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_waits_for_the_end_of_what_may_not_be_interrupted() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - where it is raised is what is tested
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            reached.append("end")
        reached.append("after")

    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_simulator_listens_where_it_did_before(tmp_path: Path) -> None:
    home = LocalHome(tmp_path)
    assert port_of_last_time(home) == 0
    with simulator(home) as roles:
        port = port_of_last_time(home)
        assert roles["base_url"] == f"http://127.0.0.1:{port}"
        with pytest.raises(LocalRunError, match=f"^Port {port} cannot be used. End what does.$"):
            require_free(port, "End what does.")
    require_free(port, "")
    with simulator(home, port=port) as roles:
        assert roles["base_url"] == f"http://127.0.0.1:{port}"


def test_one_home_is_for_one_run(tmp_path: Path) -> None:
    home = LocalHome(tmp_path)
    with alone(home), pytest.raises(LocalRunError, match="It is already running"), alone(home):
        pytest.fail("two runs share one home")
    with alone(home):
        pass


@pytest.mark.parametrize(
    ("given", "port"), [(None, DEFAULT_PORT), ("", DEFAULT_PORT), ("1", 1), ("65535", 65535)]
)
def test_ports(given: str | None, port: int) -> None:
    assert port_of(given) == port


@pytest.mark.parametrize("given", ["0", "65536", "-1", "http", "80 80", "٨٠٨٠"])
def test_what_is_no_port(given: str) -> None:
    with pytest.raises(LocalRunError, match="PORT is not a port number"):
        port_of(given)


def test_secrets_are_long_enough_and_only_for_their_owner(tmp_path: Path) -> None:
    home = LocalHome(tmp_path)
    first, again = home.environment(), home.environment()

    assert first == again
    assert len(first["AIRFLOW__API_AUTH__JWT_SECRET"]) == 64
    assert len(first["AIRFLOW__CORE__FERNET_KEY"]) == 44
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob(".*_key")} == {0o600}


def _groups(process: LocalProcess) -> set[int]:
    return {os.getpgid(pid) for pid in process.members()}


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
