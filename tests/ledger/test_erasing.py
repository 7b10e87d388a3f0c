from __future__ import annotations

from datetime import date

from sqlalchemy import select

from tests.factories import found, set_data_set_state
from tidepool_ingest.ledger import ActionKind, DataSetState, Ledger, Rejection, TaskOrigin, lease_of_batch
from tidepool_ingest.ledger.retention import Person
from tidepool_ingest.ledger.schema import batches, leases, metadata

OTHER = "9876543210"


def filled(ledger: Ledger, name: str, **more: str) -> int:
    """Note a batch with something in every table that hangs on it."""
    batch = ledger.batches.register(found(content_key=name * 64, folder=f"/{name}", **more)).id
    ledger.batches.set_counts(batch, device_key=name * 64, zones=f"zones of {name}", formats='["clarity"]')
    day = date(2026, 1, 2)
    ledger.batch_days.replace_for_batch(batch, {day: {"cbg": 1}}, {day: {"cbg": "1" + 23 * ","}})
    ledger.rejections.add(batch, [Rejection(ordinal=0, type="cbg", rows=1, problems=(("code", "/value"),))])
    row = ledger.data_sets.begin_opening(
        batch, data_set_type="normal", deduplicator="d", expected_rows=1, origin=TaskOrigin()
    )
    set_data_set_state(ledger, row.id, DataSetState.VERIFIED, data_set_id=f"set-{name}")
    ledger.data_sets.begin_chunk(row.id, 0, digest="0" * 64, records=1)
    ledger.actions.record("ada", ActionKind.CHECK, batch=batch)
    return batch


def rows(ledger: Ledger) -> dict[str, int]:
    with ledger.database.reading() as connection:
        counted = {
            table.name: len(connection.execute(select(table)).all()) for table in metadata.sorted_tables
        }
    return {name: count for name, count in counted.items() if count}


def test_one_persons_rows_go_and_the_others_stay(ledger: Ledger) -> None:
    filled(ledger, "b", user_id=OTHER)
    feed = ledger.feeds.register("api.example.org", OTHER, "org.example", "continuous")
    others = rows(ledger)
    batch = filled(ledger, "a")
    own = ledger.feeds.register("api.example.org", "0123456789", "org.example", "continuous")
    ledger.feeds.pin(own.id, "set-of-feed", "d")
    person = Person(ledger.database, "0123456789")

    assert [(one.data_set_id, one.state) for one in person.remaining_data_sets()] == [
        ("set-a", "verified"),
        ("set-of-feed", "continuous"),
    ]
    with ledger.leases.held(lease_of_batch(batch), seconds=60) as lease:
        person.erase_batch(batch, lease)
    person.erase_feeds()

    assert rows(ledger) == others | {"actions": 2}
    assert person.batches() == []
    assert ledger.feeds.find("api.example.org", OTHER, "org.example") == feed
    with ledger.database.reading() as connection:
        assert list(connection.scalars(select(batches.c.user_id))) == [OTHER]
        assert connection.execute(select(batches.c.device_key, batches.c.zones)).all() == [
            ("b" * 64, "zones of b")
        ]


def test_claims_that_somebody_holds_are_told_by_name(ledger: Ledger) -> None:
    ledger.leases._acquire("batch:1", seconds=-1, wait=0)
    with ledger.leases.held("batch:2", seconds=60):
        assert list(ledger.leases.alive(["batch:1", "batch:2", "batch:3"])) == ["batch:2"]
    Person(ledger.database, "0123456789").erase_leases(["batch:1"])
    with ledger.database.reading() as connection:
        assert list(connection.scalars(select(leases.c.name))) == []
