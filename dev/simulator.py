"""The simulated Tidepool as a process of its own, and the connection to it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dev.home import LocalHome, LocalRunError
from dev.processes import LocalProcess, end
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET
from tidepool_simulator.sample import practice_accounts

START_SECONDS = 30.0
"""How long the simulator may take to start listening."""


@contextmanager
def simulator(home: LocalHome, *, port: int = 0) -> Iterator[dict[str, Any]]:
    """Run a simulator for the length of a ``with`` block.

    Its accounts are the practice ones and the sample's people, for whom the connection may upload.

    :param home: holds its store and its accounts file.
    :param port: the port to listen on; 0 for any free one.
    :return: the contents of its roles file: ``base_url`` and the practice accounts.
    """
    accounts = home.folder / "accounts.json"
    accounts.parent.mkdir(parents=True, exist_ok=True)
    accounts.write_text(json.dumps(practice_accounts()))
    home.roles.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidepool_ingest", "simulate", "--port", str(port)]
    command += ["--store", str(home.simulator_store), "--accounts", str(accounts)]
    command += ["--write-roles", str(home.roles)]
    process = LocalProcess(command)
    try:
        yield _roles(home, process)
    finally:
        end([process])


def _roles(home: LocalHome, process: LocalProcess) -> dict[str, Any]:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and not process.has_ended:
        if home.roles.exists():
            roles: dict[str, Any] = json.loads(home.roles.read_text())
            return roles
        time.sleep(0.05)
    raise LocalRunError("The simulator did not start.", remedy="Its own messages say why.", code="simulator")


def simulator_connection(base_url: str) -> dict[str, object]:
    """Return the Airflow connection ``tidepool_default`` to a simulator.

    :param base_url: its URL.
    """
    extra: dict[str, Any] = {
        "auth_mode": "client_credentials",
        "client_name": "org.example.tidepool-airflow",
        "client_version": "1.0.0",
    }
    return {
        "conn_type": "tidepool",
        "host": base_url,
        "login": CLIENT_ID,
        "password": CLIENT_SECRET,
        "extra": extra,
    }
