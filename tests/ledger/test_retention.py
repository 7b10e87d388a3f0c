from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, update

from tests.factories import found, set_data_set_state
from tidepool_ingest.ledger import BatchState, DataSetState, Ledger, Purged, Rejection, TaskOrigin
from tidepool_ingest.ledger import retention as retention_module
from tidepool_ingest.ledger.schema import batches, data_sets, file_digests

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=40)
ROOT = "/staging"


def noted(ledger: Ledger, name: str, state: BatchState, at: datetime = OLD, **more: str) -> int:
    folder = f"/staging/2026-01-02/0123456789/{name}"
    row = ledger.batches.register(
        found(**{"content_key": name * 64, "folder": folder, "batch_id": name} | more)
    )
    with ledger.database.writing() as connection:
        values = {"state": state, "updated_at": at}
        connection.execute(update(batches).where(batches.c.id == row.id).values(values))
    return row.id


def over(ledger: Ledger, tidied: Purged | None = None, root: str = ROOT, limit: int = 10) -> list[int]:
    rows = ledger.retention.finished(root, tidied, NOW - timedelta(days=30), after=None, limit=limit)
    return [row.id for row in rows]


def test_what_is_over_for_long_is_found_page_by_page(ledger: Ledger) -> None:
    first = noted(ledger, "a", BatchState.VERIFIED, OLD - timedelta(days=1))
    second = noted(ledger, "b", BatchState.WITHDRAWN)
    third = noted(ledger, "c", BatchState.NOTHING_ACCEPTED)
    noted(ledger, "d", BatchState.HELD)
    noted(ledger, "e", BatchState.VERIFIED, NOW)
    noted(ledger, "f", BatchState.VERIFIED, folder="/elsewhere/2026-01-02/0123456789/f")

    assert over(ledger) == [first, second, third]
    assert over(ledger, Purged.ACCEPTED) == []
    (one,) = ledger.retention.finished(ROOT, None, NOW, after=(OLD, second), limit=1)
    assert one.id == third


def test_it_is_noted_only_if_nothing_was_noted_meanwhile(ledger: Ledger) -> None:
    number = noted(ledger, "a", BatchState.VERIFIED)
    other = noted(ledger, "a", BatchState.VERIFIED, api_host="int-api.example.org")
    before = NOW - timedelta(days=30)
    rows = ledger.retention.of_contents(ROOT, ["a" * 64])["a" * 64]
    assert sorted(row.id for row in rows) == [number, other]
    ledger.batches.set_replaces(other, None)

    assert not ledger.retention.mark_purged(rows, Purged.ACCEPTED, before)
    assert [ledger.batches.get(one).purged for one in (number, other)] == [None, None]
    noted(ledger, "a", BatchState.VERIFIED, api_host="int-api.example.org")
    assert ledger.retention.mark_purged(rows, Purged.ACCEPTED, before)
    assert over(ledger, Purged.ACCEPTED) == [number, other]
    assert over(ledger) == []
    ledger.batches.set_counts(number, staged=1)
    assert ledger.batches.get(number).purged is None


def test_rows_are_forgotten_some_at_a_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "ROWS_PER_BATCH", 2)
    with ledger.database.writing() as connection:
        rows = [
            {"path_key": f"{n:064x}", "fingerprint": "1", "sha256": "0" * 64, "updated_at": at}
            for n, at in enumerate([OLD] * 5 + [NOW])
        ]
        connection.execute(insert(file_digests), rows)
    shown = noted(ledger, "a", BatchState.VERIFIED)
    hidden = noted(ledger, "b", BatchState.REPLACED)
    for number in (shown, hidden):
        refused = [Rejection(ordinal=n, type="cbg", rows=1, problems=()) for n in range(3)]
        ledger.rejections.add(number, refused)
    started = ledger.data_sets.begin_opening(
        hidden, data_set_type="normal", deduplicator="d", expected_rows=1, origin=TaskOrigin()
    )
    set_data_set_state(ledger, started.id, DataSetState.DELETED)
    for index in range(2):
        ledger.data_sets.begin_chunk(started.id, index, digest="0" * 64, records=1)
    with ledger.database.writing() as connection:
        connection.execute(update(data_sets).values(updated_at=OLD))

    before = NOW - timedelta(days=30)
    gone = {"file_digests": 5, "manifests": 0, "chunks": 2, "rejections": 3}
    assert ledger.retention.forget(before, dry_run=True) == gone
    assert ledger.retention.forget(before) == gone
    assert ledger.retention.forget(before) == dict.fromkeys(gone, 0)
    assert len(ledger.rejections.of_batch(shown)) == 3
