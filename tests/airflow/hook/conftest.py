"""Connections to the simulated Tidepool as Airflow gives them, and small helpers to use a hook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from tests.airflow.hook.connections import CONN_ID, Connect
from tidepool_airflow.hook import TidepoolHook
from tidepool_simulator import Simulator


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Iterator[Simulator]:
    yield shared_simulator
    shared_simulator.faults.clear()


@pytest.fixture
def ledger_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of the test's own, behind the connection `tidepool_ledger`."""
    path = tmp_path / "ledger.db"
    connection = {"conn_type": "sqlite", "host": str(path)}
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", json.dumps(connection))
    return path


@pytest.fixture
def connect(ledger_file: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Write a connection into the environment, and return the hook behind it."""

    def made(connection: dict[str, Any], *, as_uri: bool = False, conn_id: str = CONN_ID) -> TidepoolHook:
        written = json.dumps(connection)
        if as_uri:
            written = Connection.from_json(written, conn_id=conn_id).get_uri()
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", written)
        return TidepoolHook(conn_id)

    return made
