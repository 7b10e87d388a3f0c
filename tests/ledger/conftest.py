from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import postgresql_database
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
