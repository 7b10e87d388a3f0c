"""Where a schedule takes place: its folder, its staged batches, its ledger and its simulated Tidepool."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.faults.catalogue import Proxied
from tests.faults.children import start, stop
from tests.faults.feeds import FeedBatchSpec, feed_manifest, feed_records
from tests.faults.journal import Journal
from tests.faults.records import POISONED, STRICTER, device_id, file_name, poison, records_of, spoilt_ones
from tests.faults.schedule import BatchSpec, Schedule
from tests.proxy import API_NAME, ConnectProxy, End, make_certificate
from tidepool_simulator import Fault, Simulator
from tidepool_simulator.accounts import Accounts
from tidepool_simulator.rules import Rule

DAY = date(2026, 3, 9)
USER = "c0ffee4711"
"""Tidepool user id of the patient."""

SLOW_TUNNEL_SECONDS = 0.9
"""Longer than these workers' requests may wait to be started, and shorter than they wait for a connection."""

REUSED_FROM_TURN = 3
"""From this turn of the client on, its connection has carried a request before: the handshake takes two."""
WHOLE_DELETED = "a data set with all its rows visible was deleted"
"""What the journal says of a repair that was none."""

START_SECONDS = 20.0
SETTLE_SECONDS = 20.0
"""Seconds that the simulator may take to start, and to end all late work."""


@dataclass(frozen=True)
class Place:
    """The folder of a schedule, and what is in it.

    :param folder: a folder of its own.
    :param base_url: where its Tidepool is.
    :param proxy: the proxy by which that is reached; empty if there is none.
    """

    folder: Path
    base_url: str = ""
    proxy: str = ""

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
    def authority(self) -> Path:
        """The certificate that those of Tidepool are checked against, if it is behind a proxy."""
        return self.folder / "authority.pem"

    @property
    def striking(self) -> Path:
        """A file that is there as long as faults strike at the proxy."""
        return self.folder / "striking"

    @property
    def journal(self) -> Journal:
        """What struck, and what was done again."""
        return Journal(self.folder / "journal")

    def areas_of(self, batch: int | None) -> list[Path]:
        """Return the work areas of a batch and its parts; none for the plan."""
        with closing(sqlite3.connect(self.ledger, timeout=10)) as ledger:
            keys = ledger.execute(
                "SELECT content_key FROM batches WHERE id = ? OR part_of = ? ORDER BY id", (batch, batch)
            ).fetchall()
        return [self.staging / "_work" / key for (key,) in keys]

    def is_whole(self, data_set_id: str) -> bool:
        """Return whether each row that a data set should have is visible, or superseded by a newer one."""
        with closing(sqlite3.connect(self.ledger, timeout=10)) as ledger:
            expected = ledger.execute(
                "SELECT expected_rows FROM data_sets WHERE data_set_id = ?", (data_set_id,)
            ).fetchone()
        with closing(sqlite3.connect(self.store, timeout=10)) as store:
            rows = store.execute(
                "SELECT count(*), coalesce(sum(active OR archived_by IS NOT NULL), 0) FROM data"
                " WHERE upload_id = ?",
                (data_set_id,),
            ).fetchone()
        return expected is not None and expected[0] > 0 and rows == (expected[0], expected[0])


def lay_out(place: Place, empty_ledger: Path) -> None:
    """Make the folders and an empty ledger.

    :param empty_ledger: a migrated SQLite file to copy.
    """
    place.logs.mkdir(parents=True)
    place.results.mkdir()
    place.staging.mkdir()
    shutil.copy(empty_ledger, place.ledger)


def second_place(place: Place, empty_ledger: Path) -> Place:
    """Lay out another deployment of the same Tidepool: a copy of staging, and a ledger of its own.

    :param place: the first one.
    :param empty_ledger: a migrated SQLite file to copy.
    """
    second = replace(place, folder=place.folder / "second")
    lay_out(second, empty_ledger)
    second.store.symlink_to(place.store)
    if place.proxy:
        second.authority.symlink_to(place.authority)
    copy_staging(place, second)
    return second


def copy_staging(place: Place, second: Place) -> None:
    """Stage for another deployment what is staged for the first one."""
    without_work = shutil.ignore_patterns("_work")
    shutil.copytree(place.staging, second.staging, ignore=without_work, dirs_exist_ok=True)


def back_up(ledger: Path, copy: Path) -> None:
    """Copy a ledger that may be in use."""
    with closing(sqlite3.connect(ledger, timeout=10)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def replace_ledger(place: Place, by: Path) -> None:
    """Put another ledger in the place of the present one, of which a copy is kept.

    :param by: the SQLite file that is copied.
    """
    kept = place.folder / f"replaced-{len(replaced_ledgers(place))}.db"
    back_up(place.ledger, kept)
    for ending in ("", "-wal", "-shm"):
        Path(f"{place.ledger}{ending}").unlink(missing_ok=True)
    shutil.copy(by, place.ledger)


def replaced_ledgers(place: Place) -> list[Path]:
    """Return the copies of ledgers that others took the place of."""
    return sorted(place.folder.glob("replaced-*.db"))


def stage(place: Place, batch: BatchSpec | FeedBatchSpec, seed: str) -> None:
    """Write a ready batch."""
    if isinstance(batch, FeedBatchSpec):
        records, said = feed_records(batch), feed_manifest(batch)
    else:
        records, said = _records(batch, seed), _manifest(batch)
    folder = folder_of(place, batch)
    folder.mkdir(parents=True)
    name = file_name(batch.name)
    files = [{"name": name, "format": "ndjson"}] if records else []
    (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "manifest.json").write_text(json.dumps({"userId": USER, **said, "files": files}))


def folder_of(place: Place, batch: BatchSpec | FeedBatchSpec) -> Path:
    """Return the folder of a batch."""
    day = DAY + timedelta(days=0 if isinstance(batch, FeedBatchSpec) else batch.day)
    return place.staging / str(day) / USER / batch.name


def _records(batch: BatchSpec, seed: str) -> list[dict[str, Any]]:
    records = records_of(batch.device, batch.first, batch.count, dose=batch.dose, seed=seed)
    if batch.poisoned:
        records.insert(len(records) // 2, poison(batch.device, batch.first + batch.count // 2))
    return records + spoilt_ones(batch.device, 10_000 + batch.first, batch.spoiled)


def _manifest(batch: BatchSpec) -> dict[str, Any]:
    data_set: dict[str, Any] = {"deviceId": device_id(batch.device), "deviceModel": "Model 5"}
    data_set["deduplicator"] = {"name": batch.deduplicator}
    if batch.age is None:
        return {"dataSet": data_set}
    return {"dataSet": data_set, "stagedAt": f"2026-03-20T10:00:00.{batch.age:06}Z"}


@contextmanager
def simulated(place: Place, schedule: Schedule, *, stricter: bool) -> Iterator[tuple[Place, Tidepool]]:
    """Run a simulator in a process of its own, which outlives the workers that are killed.

    :param stricter: whether it rejects some of what local validation accepts.
    """
    address = place.folder / "address"
    certificate = make_certificate(place.folder)[1] if schedule.proxied else None
    rules = (STRICTER, POISONED) if stricter else ()
    pid = start(lambda: _serve(place, address, schedule, rules, certificate), place.folder / "simulator.log")
    try:
        deadline = time.monotonic() + START_SECONDS
        while not address.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)
        base_url, proxy = address.read_text().splitlines()
        there = Place(place.folder, f"https://{API_NAME}" if proxy else base_url, proxy)
        yield there, Tidepool(base_url, place.authority if proxy else None)
    finally:
        stop(pid)


def _serve(
    place: Place, address: Path, schedule: Schedule, rules: tuple[Rule, ...], certificate: Path | None
) -> None:
    accounts = Accounts()
    accounts.add_user("patient", user_id=USER)
    accounts.grant("service", of="patient")
    parent = os.getppid()
    # Every other schedule has the Platform's undoing of a close at its worst.
    undo_loses = bool(schedule.number % 2)
    with ExitStack() as stack:
        simulator = stack.enter_context(
            Simulator(
                place.store,
                accounts=accounts,
                seed=schedule.number,
                undo_loses=undo_loses,
                certificate=certificate,
            )
        )
        simulator.rules.add(*rules)
        proxy = ""
        if schedule.proxied:
            there = urlsplit(simulator.base_url)
            faulty = FaultyProxy({API_NAME: (str(there.hostname), int(there.port or 0))}, schedule, place)
            proxy = stack.enter_context(faulty).url
        part = address.with_suffix(".part")
        part.write_text(f"{simulator.base_url}\n{proxy}\n")
        part.replace(address)
        while os.getppid() == parent:
            time.sleep(0.2)


class FaultyProxy(ConnectProxy):
    """A proxy that cuts, refuses and delays as a schedule says, as long as faults strike.

    :param names: see :class:`ConnectProxy`.
    :param schedule: holds its faults.
    :param place: gets in its journal what struck.
    """

    def __init__(self, names: dict[str, tuple[str, int]], schedule: Schedule, place: Place) -> None:
        super().__init__(names)
        self._waiting = {fault: fault.at for fault in schedule.proxied}
        self._place = place

    def at_tunnel(self) -> int | None:
        """Return the status that a tunnel is refused with, None to open it."""
        return 503 if self._strikes(Proxied.REFUSED) else None

    def tunnel_delay(self) -> float:
        """Return for how many seconds a tunnel has to wait."""
        return SLOW_TUNNEL_SECONDS if self._strikes(Proxied.SLOW) else 0.0

    def at_answer(self, turn: int) -> End | None:
        """Return how a piece of an answer is cut off, None to pass it on."""
        cut = (Proxied.HANDSHAKE_CUT,) if turn == 1 else (Proxied.ANSWER_CUT,)
        reset: tuple[Proxied, ...] = () if turn == 1 else (Proxied.ANSWER_RESET,)
        if turn > REUSED_FROM_TURN:
            cut, reset = (*cut, Proxied.REUSED_CUT), (*reset, Proxied.REUSED_RESET)
        if self._strikes(*cut):
            return End.FIN
        return End.RST if self._strikes(*reset) else None

    def at_request(self, turn: int) -> End | None:
        """Return how a connection is cut instead of passing on what the client sends, None to pass it on."""
        return End.RST if turn > 1 and self._strikes(Proxied.REQUEST_RESET) else None

    def _strikes(self, *kinds: Proxied) -> bool:
        due = next((fault for fault in self._waiting if fault.kind in kinds), None)
        if due is None or not self._place.striking.exists():
            return False
        self._waiting[due] -= 1
        if self._waiting[due] >= 0:
            return False
        del self._waiting[due]
        self._place.journal.append(str(due.kind))
        return True


class Tidepool:
    """The simulator, controlled over its own routes.

    :param base_url: where it listens.
    :param authority: the certificate that its own is checked against, if it has one.
    """

    def __init__(self, base_url: str, authority: Path | None = None) -> None:
        self._address = f"{base_url}/simulator"
        self._session = requests.Session()
        self._session.trust_env = False
        if authority is not None:
            self._session.verify = str(authority)

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
