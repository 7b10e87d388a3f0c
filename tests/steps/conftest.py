"""The world of each test."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import event

from tests.steps.world import World
from tidepool_ingest.ledger import Ledger
from tidepool_simulator import Simulator

W = TypeVar("W", bound=World)


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that knows nothing: migrating one for each test would take most of their time."""
    path = tmp_path_factory.mktemp("ledger") / "empty.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    ledger.close()
    return path


def _without_waiting_for_the_disk(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@contextmanager
def a_world(folder: Path, empty_ledger: Path, kind: type[W]) -> Iterator[W]:
    """Make a world in a folder of its own."""
    copy = folder / "ledger.db"
    shutil.copy(empty_ledger, copy)
    ledger = Ledger(f"sqlite:///{copy}")
    event.listen(ledger.database.engine, "connect", _without_waiting_for_the_disk)
    store = folder / "store.sqlite"
    with Simulator(store) as simulator:
        made = kind(folder, simulator, store, ledger)
        yield made
        made.client.close()
        assert simulator.settle(10)
    ledger.close()


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path, empty_ledger, World) as made:
        yield made


class Listener(logging.Handler):
    """Keeps all that is logged, but for what the simulator's own server says of itself."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("uvicorn", "asyncio")):
            self.lines.append(f"{record.name}: {logging.Formatter().format(record)} {record.args!r}")


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
