"""What happens to a world: rows are lost, a ledger is lost, maintenance runs, time passes."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from upath import UPath

from tests.factories import DAY, cbg
from tests.killing import Killed
from tests.world import FeedWorld, World, copied_ledger
from tidepool_ingest.ledger import BatchRow, TaskOrigin
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.maintenance.cleanup import Cleanup, RetentionPolicy
from tidepool_ingest.maintenance.rebuild import LedgerRebuild
from tidepool_ingest.maintenance.reconcile import Reconciled, Reconciliation
from tidepool_ingest.options import ReconcileOptions
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import Reverified, UploadContext, reverify_one
from tidepool_ingest.window import Window
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET

NEXT = DAY + timedelta(days=1)


BOTH = Window(DAY, NEXT)


def verified(world: World, records: list[dict[str, Any]], batch: str = "one", **staged: Any) -> int:
    """Stage one batch, bring it to verified, and return its number."""
    world.stage(records, batch, **staged)
    (number,) = world.run(BOTH, allow_truncate=True).uploaded
    return number


def recheck(world: World, number: int, *, repair: bool = False) -> Reverified:
    found = reverify_one(world.context(), world.row(number), repair=repair)
    assert found is not None
    return found


def in_the_store(world: World, statement: str, *values: Any) -> int:
    """Let something happen at Tidepool that we did not ask for; return how many rows it concerned."""
    with closing(sqlite3.connect(world.store)) as store, store:
        return store.execute(statement, values).rowcount


def lose(world: World, number: int, *minutes: int) -> None:
    for minute in minutes:
        time = cbg(minute)["time"]
        gone = in_the_store(
            world,
            "DELETE FROM data WHERE upload_id = ? AND json_extract(document, '$.time') = ?",
            world.sets(number)[-1].data_set_id,
            time,
        )
        assert gone == 1


def before_it_is_sent(world: World, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let something happen right before the next chunk goes out: its data set is open by then."""
    send = world.client.upload_data

    def sent(data_set_id: str, body: bytes) -> None:
        monkeypatch.setattr(world.client, "upload_data", send)
        action()
        send(data_set_id, body)

    monkeypatch.setattr(world.client, "upload_data", sent)


def double(world: World, number: int) -> None:
    with closing(sqlite3.connect(world.store)) as store:
        columns = [row[1] for row in store.execute("PRAGMA table_info(data)") if row[1] != "seq"]
    names = ", ".join(columns)
    data_set_id = world.sets(number)[-1].data_set_id
    copied = f"SELECT {names} FROM data WHERE upload_id = ? ORDER BY seq LIMIT 1"
    assert in_the_store(world, f"INSERT INTO data ({names}) {copied}", data_set_id) == 1


def reconciliation(
    world: World,
    *,
    keeping: RetentionPolicy | None = None,
    root: UPath | None = None,
    root_of: Callable[[BatchRow], UPath] | None = None,
    **options: Any,
) -> Reconciliation:
    origin = TaskOrigin(dag_id="tidepool_reconcile", run_id="maintenance", map_index=-1, try_number=1)

    def context_of(named: str | None) -> UploadContext:
        if named not in world.allowed:
            raise BatchError("connection-not-allowed")
        return world.context(origin=origin)

    return Reconciliation(
        root or world.root,
        world.ledger,
        options=ReconcileOptions.of_params({"older_than_minutes": 0, "check_batches": 0} | options),
        context_of=context_of,
        api_host_of=world.host_of,
        keeping=keeping,
        root_of=root_of,
    )


def reconcile(world: World, **options: Any) -> Reconciled:
    return reconciliation(world, **options).run()


def forget_work_area(world: World, number: int) -> None:
    WorkArea(world.root, world.row(number).content_key).discard()


def forget_staged(world: World, number: int) -> None:
    shutil.rmtree(Path(world.row(number).folder))


def age(world: World, days: float) -> None:
    """Let everything in the ledger and in the work areas be older."""
    moment = datetime.now(UTC) - timedelta(days=days)
    with world.ledger.database.writing() as connection:
        connection.execute(update(batches).values(updated_at=moment))
        connection.execute(update(data_sets).values(updated_at=moment, verified_at=moment))
    for path in (world.staging / "_work").rglob("*"):
        os.utime(path, (moment.timestamp(), moment.timestamp()))


def tidy(world: World, work: int = 30, quarantine: int = 365, **more: Any) -> dict[str, int]:
    return Cleanup(world.root, world.ledger, RetentionPolicy(work, quarantine), **more).run().summary()


@contextmanager
def deployment(world: World, ledger: Path, name: str) -> Iterator[World]:
    """Provide another deployment: the same Tidepool and staged data, a work area and a ledger of its own.

    :param ledger: what it starts with.
    """
    other = copy.copy(world)
    folder = world.folder / name
    shutil.copytree(world.root.path, folder / "staging", ignore=shutil.ignore_patterns("_work"))
    other.root, other.folder = UPath(folder / "staging"), folder
    with closing(copied_ledger(ledger, folder)) as other.ledger:
        yield other


def body(deduplicator: str) -> dict[str, Any]:
    return {"deduplicator": {"name": deduplicator}}


def live(world: World) -> list[str]:
    """Return the closed data sets that are not deleted, oldest first."""
    return [data_set.data_set_id for data_set in world.client.data_sets(world.user)][::-1]


def uploaded(world: World, **options: Any) -> int:
    """Run the job; return the number of its only batch."""
    outcome = world.run(BOTH, allow_truncate=True, **options)
    assert outcome.codes == []
    (number,) = outcome.uploaded
    return number


Elsewhere = Callable[..., World]


def rebuilt(world: World, **options: int) -> dict[str, int]:
    return dict(LedgerRebuild(world.root, world.context(), world.api_host, **options).run())


def connection(world: World) -> str:
    extra = {"auth_mode": "client_credentials"}
    fields = {"conn_type": "tidepool", "host": world.simulator.base_url, "login": CLIENT_ID}
    return json.dumps({**fields, "password": CLIENT_SECRET, "extra": extra})


def rows_in_store(world: World) -> int:
    """Return how many rows Tidepool holds, seen or not."""
    with closing(sqlite3.connect(world.store)) as store:
        return int(store.execute("SELECT count(*) FROM data").fetchone()[0])


def reconciled(world: FeedWorld) -> Reconciled:
    return Reconciliation(
        world.root,
        world.ledger,
        options=ReconcileOptions(older_than_minutes=0, check_after_days=0),
        context_of=lambda connection: world.context(),
        api_host_of=world.host_of,
    ).run()


def strike(world: FeedWorld, number: int, monkeypatch: pytest.MonkeyPatch, *, chunks: int = 0) -> None:
    """Upload a batch and let its process die as a chunk is about to be sent.

    :param chunks: how many are sent before.
    """
    send, left = world.client.upload_data, [None] * chunks

    def upload(data_set_id: str, body: bytes) -> None:
        if not left:
            raise Killed
        left.pop()
        send(data_set_id, body)

    with monkeypatch.context() as patched:
        patched.setattr(world.client, "upload_data", upload)
        with pytest.raises(Killed):
            world.upload(number)
