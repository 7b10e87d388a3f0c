"""The simulated Tidepool of a local run, as a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tidepool_airflow.local.errors import LocalRunError
from tidepool_airflow.local.home import LocalHome
from tidepool_airflow.local.processes import LocalProcess, end
from tidepool_ingest.sample import practice_accounts

START_SECONDS = 30.0
"""How long the simulator may take to listen."""


@contextmanager
def simulator(home: LocalHome, *, port: int = 0) -> Iterator[dict[str, Any]]:
    """Run a simulator for the length of a ``with`` block.

    Its accounts are the practice ones, and the sample's people, for whom the connection may upload.

    :param home: where its store and its accounts file lie.
    :param port: where it listens; any free port for 0.
    :return: its roles file: ``base_url`` and the practice accounts.
    """
    accounts = home.folder / "accounts.json"
    accounts.parent.mkdir(parents=True, exist_ok=True)
    accounts.write_text(json.dumps(practice_accounts()))
    home.roles.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tidepool_ingest", "simulate", "--port", str(port)]
    command += [
        "--store",
        str(home.simulator_store),
        "--accounts",
        str(accounts),
        "--write-roles",
        str(home.roles),
    ]
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
