"""Queries of the steps, of maintenance and of the page find their rows by an index when the ledger is large.

PostgreSQL is asked how it would carry out each statement that these make, on tables large enough that reading
one whole is not the quickest way.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from bench.uploads_page import DEVICES, VISITED, fill, visit, visit_one
from sqlalchemy import create_engine, event, insert, make_url, text, update

from tests.factories import found
from tidepool_ingest.guards import check_order
from tidepool_ingest.ledger import (
    ActionKind,
    BatchState,
    DataSetState,
    Ledger,
    Purged,
    ReadManifest,
    StoppedIn,
    TaskOrigin,
    lease_of_batch,
)
from tidepool_ingest.ledger.schema import (
    actions,
    batches,
    data_sets,
    feed_writes,
    feeds,
    file_digests,
)
from tidepool_ingest.model.deduplicators import deduplicator_named

pytestmark = pytest.mark.slow

UPLOADS = 20_000
FEW = 30
HOST = "api.example.org"
HASH = "org.tidepool.deduplicator.device.deactivate.hash"
NOW = datetime(2026, 6, 1, tzinfo=UTC)

LARGE = {
    "batches",
    "data_sets",
    "chunks",
    "batch_days",
    "manifests",
    "file_digests",
    "feed_writes",
    "actions",
}
"""Tables that grow with what is uploaded."""


@pytest.fixture(scope="module")
def large(postgresql: str) -> Iterator[Ledger]:
    """A ledger of many uploads on PostgreSQL."""
    server = make_url(postgresql).set(drivername="postgresql+psycopg")
    name = f"large_{secrets.token_hex(4)}"
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    ledger = Ledger(server.set(database=name).render_as_string(hide_password=False))
    ledger.migrate()
    fill(ledger, UPLOADS)
    fill_the_rest(ledger)
    yield ledger
    ledger.close()
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


def fill_the_rest(ledger: Ledger) -> None:
    numbers = range(1, UPLOADS + 1)
    ledger.manifests.save({f"/staging/{number}": read(number) for number in numbers})
    with ledger.database.writing() as connection:
        connection.execute(
            insert(file_digests),
            [
                {"path_key": f"{n:064x}", "fingerprint": "1", "sha256": "0" * 64, "updated_at": NOW}
                for n in numbers
            ],
        )
        connection.execute(
            insert(feeds),
            [
                {
                    "api_host": HOST,
                    "user_id": f"{n:010x}",
                    "client_name": "org.example",
                    "data_set_type": "continuous",
                    "created_at": NOW,
                }
                for n in range(1, 201)
            ],
        )
        connection.execute(
            insert(feed_writes),
            [
                {"feed": 1 + n % 200, "batch": n, "chunk_index": 0, "origins": bytes(8), "created_at": NOW}
                for n in numbers
            ],
        )
        connection.execute(
            insert(actions),
            [
                {
                    "actor": "ada",
                    "kind": ActionKind.CHECK,
                    "batch": n,
                    "dag_id": "tidepool_action",
                    "run_id": f"manual__{n}",
                    "status": "done",
                    "created_at": NOW,
                }
                for n in numbers
            ],
        )
        connection.execute(text("SELECT setval('data_sets_id_seq', 1000000)"))
        for table, done in ((batches, BatchState.VERIFIED), (data_sets, DataSetState.VERIFIED)):
            # What is begun and not done is never so much of a large ledger as the page's filling has.
            started = table.c.state.in_((BatchState.UPLOADING, DataSetState.OPEN))
            connection.execute(update(table).where(started, table.c.id > UPLOADS // 20).values(state=done))
    with ledger.database.engine.connect() as connection:
        # Vacuumed as autovacuum would within minutes, so that an index can answer alone.
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("VACUUM ANALYZE"))


def read(number: int) -> ReadManifest:
    return ReadManifest(
        fingerprint="1" * 64, user_id=f"{number % DEVICES:010x}", content_key=f"{number:064x}", label="label"
    )


def batches_found(first: int, count: int = FEW) -> list[Any]:
    return [
        found(
            content_key=f"{number:064x}",
            user_id=f"{number % DEVICES:010x}",
            batch_id=f"batch-{number}",
            folder=f"/staging/{date(2026, 1, 1)}/{number % DEVICES:010x}/batch-{number}",
        )
        for number in range(first, first + count)
    ]


def plan(ledger: Ledger) -> None:
    # Fewer than in earnest: to find 500 of 20,000 rows PostgreSQL rightly reads them all.
    addresses = [f"/staging/{number}" for number in range(FEW)]
    ledger.manifests.known(dict.fromkeys(addresses, "1" * 64))
    ledger.manifests.save(dict.fromkeys(addresses, read(0)))
    ledger.batches.of_contents(HOST, [f"{number:064x}" for number in range(FEW)])
    ledger.batches.register_all([*batches_found(UPLOADS - FEW // 2), *batches_found(500)])
    users = [f"{number:010x}" for number in range(FEW)]
    ledger.devices.newest_verified_days(HOST, users, after=date(2025, 7, 18))
    ledger.batches.days()
    ledger.batches.days_waiting()
    waiting = ledger.absences.waiting("/staging")[:2]
    ledger.absences.mark_missed(waiting)
    ledger.absences.mark_gone(waiting)
    ledger.file_digests.digest_of("/staging/a", "1", lambda: "0" * 64)


def prepare(ledger: Ledger) -> None:
    row = ledger.batches.get(UPLOADS // 2)
    ledger.batches.namesakes(HOST, row.user_id, row.batch_id)
    ledger.batches.set_replaces(row.id, None)
    ledger.batches.set_counts(row.id, staged=1)
    ledger.batch_days.replace_for_batch(row.id, {date(2026, 1, 1): {"cbg": 1}})
    ledger.quarantine_reasons.replace_for_batch(row.id, {"cbg": {"value-out-of-range": 1}})
    ledger.rejections.forget(row.id)
    ledger.rejections.of_batch(row.id)
    ledger.data_sets.of_batch(row.id)
    check_order(ledger, row, known(HASH))
    ledger.batches.set_counts(row.id, device_key="d" * 64, zones="[]")
    ledger.devices.others_of(ledger.batches.get(row.id))
    ledger.devices.shown_days([row.id, row.id + DEVICES], date(2026, 1, 1), date(2026, 1, 1))


def upload(ledger: Ledger) -> None:
    row = ledger.batches.get(UPLOADS // 2)
    with ledger.leases.held(lease_of_batch(row.id), seconds=60) as lease:
        ledger.batches.begin_upload(row.id, lease=lease)
        ledger.stops.record(row.id, StoppedIn())
        opened = ledger.data_sets.begin_opening(
            row.id,
            data_set_type="normal",
            deduplicator=HASH,
            expected_rows=1,
            origin=TaskOrigin(),
            lease=lease,
        )
        ledger.data_sets.mark_open(opened.id, "1" * 32, lease=lease)
        ledger.data_sets.begin_chunk(opened.id, 0, digest="0" * 64, records=1, lease=lease)
        ledger.data_sets.chunk_stored(opened.id, 0, lease=lease)
        ledger.data_sets.chunks_of(opened.id)
        ledger.devices.older_in_progress(row, sharing_days=True)
        ledger.devices.older_planned(row, sharing_days=True)
        ledger.turns.of_batches([row.id])
        ledger.turns.end(row.id, "dag", "run")
        ledger.devices.newer(row, [DataSetState.VERIFIED, DataSetState.CLOSING], sharing_days=True)
        ledger.devices.verified_since(row, NOW)
    feed = ledger.feeds.find(HOST, f"{7:010x}", "org.example")
    assert feed is not None
    ledger.feeds.pinned("1" * 32)
    ledger.feed_writes.chunks_of(feed.id, row.id)
    ledger.feed_writes.replace_for_chunk(feed.id, row.id, 1, [bytes(8)])
    ledger.feed_writes.forget(feed.id, row.id, [1])
    ledger.feed_writes.later_than(feed.id, row)


def reconcile(ledger: Ledger) -> None:
    ledger.unfinished.batches(NOW)
    ledger.data_sets.due_for_reverification(NOW, 1_000)
    before = datetime(2025, 1, 3, tzinfo=UTC)
    rows = ledger.retention.finished(
        "/staging", None, before, after=(before - timedelta(days=1), 1), limit=30
    )
    ledger.retention.of_contents("/staging", [row.content_key for row in rows])
    ledger.retention.mark_purged(rows[:1], Purged.ACCEPTED, before)
    ledger.retention.forget(datetime(2024, 1, 1, tzinfo=UTC))


def page(ledger: Ledger) -> None:
    # What looks for a part of a label reads all labels, until it has found a page of them.
    by_index = [kind for kind in VISITED if kind not in ("one label", "no such label")]
    for wanted, before in (VISITED[kind] for kind in by_index):
        visit(ledger, wanted, UPLOADS // 2 if before else None)
    ledger.uploads.page(VISITED["newest"][0], after=UPLOADS // 2)
    ledger.uploads.get(UPLOADS // 2)
    visit_one(ledger, UPLOADS // 2)
    ledger.corrections.of(ledger.batches.get(UPLOADS // 2))
    ledger.actions.newest()
    ledger.actions.of_run("tidepool_action", f"manual__{UPLOADS // 2}")


def known(name: str) -> Any:
    deduplicator = deduplicator_named(name)
    assert deduplicator is not None
    return deduplicator


@pytest.mark.parametrize("step", [plan, prepare, upload, reconcile, page], ids=lambda step: step.__name__)
def test_no_large_table_is_read_whole(large: Ledger, step: Callable[[Ledger], None]) -> None:
    made: dict[str, Any] = {}

    def note(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        made.setdefault(statement, parameters[0] if many else parameters)

    event.listen(large.database.engine, "before_cursor_execute", note)
    step(large)
    event.remove(large.database.engine, "before_cursor_execute", note)

    assert made
    read_whole = {one: whole for one, given in made.items() if (whole := read_whole_by(large, one, given))}
    assert not read_whole, "\n".join(f"{sorted(v)}: {k[:60]} ... {k[-900:]}" for k, v in read_whole.items())


def test_the_look_itself_finds_a_table_read_whole(large: Ledger) -> None:
    assert read_whole_by(large, "SELECT id FROM batches WHERE folder = %(folder)s", {"folder": "x"}) == {
        "batches"
    }


def read_whole_by(ledger: Ledger, statement: str, parameters: Any) -> set[str]:
    """Return the large tables that a statement would read from end to end."""
    with ledger.database.engine.connect() as connection:
        answer = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters).scalar_one()
    plans = answer if isinstance(answer, list) else json.loads(answer)
    return {
        node["Relation Name"] for node in nodes(plans[0]["Plan"]) if node["Node Type"] == "Seq Scan"
    } & LARGE


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)
