"""Where a schedule takes place: its folder, its staged batches, its ledger and its simulated Tidepool."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import requests

from tests.faults.children import start, stop
from tests.faults.feeds import FeedBatchSpec, feed_manifest, feed_records
from tests.faults.journal import Journal
from tests.faults.records import STRICTER, device_id, file_name, records_of, spoilt_ones
from tests.faults.schedule import BatchSpec, Schedule
from tidepool_simulator import Fault, Simulator
from tidepool_simulator.accounts import Accounts
from tidepool_simulator.rules import Rule

DAY = date(2026, 3, 9)
USER = "c0ffee4711"
"""Tidepool user id of the patient."""

START_SECONDS = 20.0
SETTLE_SECONDS = 20.0
"""Seconds that the simulator may take to start, and to end all late work."""


@dataclass(frozen=True)
class Place:
    """The folder of a schedule, and what is in it.

    :param folder: a folder of its own.
    :param base_url: where its Tidepool listens.
    """

    folder: Path
    base_url: str = ""

    @property
    def staging(self) -> Path:
        """The staging root."""
        return self.folder / "staging"

    @property
    def ledger(self) -> Path:
        """The ledger's SQLite file."""
        return self.folder / "ledger.db"

    @property
    def store(self) -> Path:
        """The simulator's SQLite file."""
        return self.folder / "store.sqlite"

    @property
    def logs(self) -> Path:
        """Where every worker's log and output are."""
        return self.folder / "logs"

    @property
    def results(self) -> Path:
        """Where every worker's outcome is."""
        return self.folder / "results"

    @property
    def journal(self) -> Journal:
        """What struck, and what was done again."""
        return Journal(self.folder / "journal")


def lay_out(place: Place, empty_ledger: Path) -> None:
    """Make the folders and an empty ledger.

    :param empty_ledger: a migrated SQLite file to copy.
    """
    place.logs.mkdir(parents=True)
    place.results.mkdir()
    place.staging.mkdir()
    shutil.copy(empty_ledger, place.ledger)


def stage(place: Place, batch: BatchSpec | FeedBatchSpec, seed: str) -> None:
    """Write a ready batch."""
    if isinstance(batch, FeedBatchSpec):
        records, said = feed_records(batch), feed_manifest(batch)
    else:
        records, said = _records(batch, seed), _manifest(batch)
    folder = place.staging / str(DAY) / USER / batch.name
    folder.mkdir(parents=True)
    name = file_name(batch.name)
    files = [{"name": name, "format": "ndjson"}] if records else []
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "manifest.json").write_text(json.dumps({"userId": USER, **said, "files": files}))


def _records(batch: BatchSpec, seed: str) -> list[dict[str, Any]]:
    records = records_of(batch.device, batch.first, batch.count, dose=batch.dose, seed=seed)
    return records + spoilt_ones(batch.device, 10_000 + batch.first, batch.spoiled)


def _manifest(batch: BatchSpec) -> dict[str, Any]:
    data_set: dict[str, Any] = {"deviceId": device_id(batch.device), "deviceModel": "Model 5"}
    data_set["deduplicator"] = {"name": batch.deduplicator}
    return {"dataSet": data_set}


@contextmanager
def simulated(place: Place, schedule: Schedule, *, stricter: bool) -> Iterator[tuple[Place, Tidepool]]:
    """Run a simulator in a process of its own, which outlives the workers that are killed.

    :param stricter: whether it rejects some of what local validation accepts.
    """
    address = place.folder / "address"
    rules = (STRICTER,) if stricter else ()
    pid = start(lambda: _serve(place.store, address, schedule.number, rules), place.folder / "simulator.log")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not address.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        there = Place(place.folder, address.read_text())
        yield there, Tidepool(there.base_url)
    finally:
        stop(pid)


def _serve(store: Path, address: Path, number: int, rules: tuple[Rule, ...]) -> None:
    accounts = Accounts()
    accounts.add_user("patient", user_id=USER)
    accounts.grant("service", of="patient")
    parent = os.getppid()
    # Every other schedule has the Platform's undoing of a close at its worst.
    with Simulator(store, accounts=accounts, seed=number, undo_loses=bool(number % 2)) as simulator:
        simulator.rules.add(*rules)
        part = address.with_suffix(".part")
        part.write_text(simulator.base_url)
        part.replace(address)
        while os.getppid() == parent:
            time.sleep(0.2)


class Tidepool:
    """The simulator, controlled over its own routes.

    :param base_url: where it listens.
    """

    def __init__(self, base_url: str) -> None:
        self._address = f"{base_url}/simulator"
        self._session = requests.Session()
        self._session.trust_env = False

    def install(self, faults: tuple[Fault, ...]) -> None:
        """Install faults."""
        body = [fault.model_dump(mode="json") for fault in faults]
        self._session.post(f"{self._address}/faults", json=body, timeout=10).raise_for_status()

    def waiting(self) -> int:
        """Return how many faults have not struck."""
        faults = self._state()["faults"]
        return sum(fault["struck"] < (fault["times"] or 1) for fault in faults)

    def counts(self) -> dict[str, int]:
        """Return how often each fault struck, by its name."""
        counts: dict[str, int] = self._state()["counts"]
        return counts

    def clear(self) -> None:
        """Remove all faults."""
        self._session.delete(f"{self._address}/faults", timeout=10).raise_for_status()

    def settle(self) -> None:
        """Wait until no request is in progress, no late work either."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self._state()["working"]:
            if time.monotonic() > deadline:
                raise RuntimeError("the simulator does not settle")
            time.sleep(0.02)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._session.get(f"{self._address}/faults", timeout=10).json()
        return state
