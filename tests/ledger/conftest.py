from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.timing import Clock
from tidepool_ingest.ledger import FoundBatch, Ledger, leases


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


def found(**values: Any) -> FoundBatch:
    given = {
        "api_host": "api.example.org",
        "content_key": "c" * 64,
        "user_id": "0123456789",
        "batch_id": "batch-1",
        "day": date(2026, 1, 2),
        "folder": "/staging/2026-01-02/0123456789/batch-1",
        "label": "2026-01-02 Dexcom G6 0a1b2c3d4e",
        "device_id": "device-1",
    }
    return FoundBatch(**{**given, **values})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which leases expire."""
    made = Clock()
    monkeypatch.setattr(leases, "time", made)
    monkeypatch.setattr(leases, "now_of", made.of_database)
    return made
