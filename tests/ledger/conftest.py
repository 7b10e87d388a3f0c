from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.timing import Clock
from tidepool_ingest.ledger import Ledger, leases


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with postgresql_database(request.getfixturevalue("postgresql")) as made:
        yield made


@contextmanager
def postgresql_database(server: str) -> Iterator[str]:
    """Make an empty database on a server, and return its address."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"ledger_{secrets.token_hex(4)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def ledger(address: str) -> Iterator[Ledger]:
    ledger = Ledger(address)
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which leases expire."""
    made = Clock()
    monkeypatch.setattr(leases, "time", made)
    monkeypatch.setattr(leases, "now_of", made.of_database)
    return made
