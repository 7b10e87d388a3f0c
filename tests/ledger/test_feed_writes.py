from __future__ import annotations

from datetime import date

from sqlalchemy import text

from tests.ledger.conftest import found
from tidepool_ingest.ledger import DELETIONS, BatchRow, BatchState, Ledger, origin_digest
from tidepool_ingest.ledger.database import migrate

ONE, TWO, THREE = (origin_digest(name) for name in ("one", "two", "three"))


def batch(ledger: Ledger, name: str, day: int = 1) -> BatchRow:
    return ledger.batches.note(found(content_key=name, batch_id=name, folder=name, day=date(2026, 1, day)))


def feed(ledger: Ledger) -> int:
    return ledger.feeds.claim("api.example.org", "0123456789", "org.example.app", "continuous").id


def test_what_comes_later_in_staging_counts_part_by_part(ledger: Ledger) -> None:
    writes, here = ledger.feed_writes, feed(ledger)
    first, second, third = (batch(ledger, name, day) for name, day in (("b", 1), ("c", 1), ("a", 2)))
    writes.note(here, second.id, 0, [ONE])
    writes.note(here, third.id, DELETIONS, [TWO, THREE])

    assert writes.later_than(here, first) == {ONE, TWO, THREE}
    assert writes.later_than(here, second) == {TWO, THREE}
    assert writes.later_than(here, third) == frozenset()
    assert writes.later_than(here + 1, first) == frozenset()


def test_a_part_is_noted_anew_or_forgotten(ledger: Ledger) -> None:
    writes, here = ledger.feed_writes, feed(ledger)
    first, second = batch(ledger, "b"), batch(ledger, "c")
    for part, digest in ((0, ONE), (1, TWO), (0, THREE)):
        writes.note(here, second.id, part, [digest])
    assert writes.later_than(here, first) == {TWO, THREE}

    writes.forget(here, second.id, [1, 7])
    assert writes.later_than(here, first) == {THREE}
    assert writes.parts_of(here, second.id) == [0]


def test_older_ledgers_keep_what_verified_batches_wrote(ledger: Ledger) -> None:
    here = feed(ledger)
    first, done, begun = batch(ledger, "b"), batch(ledger, "c"), batch(ledger, "d")
    ledger.batches.set_state(done.id, BatchState.VERIFIED)
    migrate(ledger.database.engine, "0006")
    with ledger.database.writing() as connection:
        insert = (
            "INSERT INTO feed_writes (feed, batch, origins, superseded, created_at)"
            " VALUES (:feed, :batch, :origins, 0, CURRENT_TIMESTAMP)"
        )
        for number, digest in ((done.id, ONE + TWO), (begun.id, THREE)):
            connection.execute(text(insert), {"feed": here, "batch": number, "origins": digest})
    ledger.migrate()

    assert ledger.feed_writes.later_than(here, first) == {ONE, TWO}


def test_going_back_puts_the_parts_of_a_batch_together(ledger: Ledger) -> None:
    here, done = feed(ledger), batch(ledger, "c")
    ledger.feed_writes.note(here, done.id, 0, [ONE])
    ledger.feed_writes.note(here, done.id, 1, [TWO])
    migrate(ledger.database.engine, "0006")

    with ledger.database.reading() as connection:
        (origins,) = connection.execute(text("SELECT origins FROM feed_writes")).scalars()
    assert sorted((origins[:8], origins[8:])) == sorted((ONE, TWO))
