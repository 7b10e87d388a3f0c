"""What other jobs do with feeds: compare a dry run, and erase a person."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from tests.factories import cbg
from tests.world import CLIENT, FeedWorld
from tidepool_ingest.ledger.feeds import lease_of_feed
from tidepool_ingest.ledger.schema import feed_writes, feeds
from tidepool_ingest.maintenance.erasure import PersonErasure, UploadInProgressError
from tidepool_ingest.reports.dry_run import DryRunDiff, compare_batch


def origin(number: int) -> dict[str, object]:
    return {"origin": {"id": f"o-{number}"}}


def readings(first: int, last: int, value: float = 6.5) -> list[dict[str, object]]:
    return [cbg(number, value, **origin(number)) for number in range(first, last)]


def test_a_dry_run_of_a_feed_tells_what_is_new(world: FeedWorld) -> None:
    world.feed(readings(0, 10), "b-0001")
    number = world.ready(readings(5, 15), batch="b-0002")

    found = compare_batch(world.client, world.settings, world.root, world.row(number))

    assert found == DryRunDiff(new={"cbg": 5}, same={"cbg": 5})


def test_the_feed_of_a_person_is_erased_and_its_data_set_is_told_once(world: FeedWorld) -> None:
    world.feed(readings(0, 3), "b-0001")
    world.feed(readings(3, 6), "b-0002")
    (data_set,) = world.data_sets()

    found = PersonErasure(world.ledger, world.root, world.user).run("ada")

    assert [(one.data_set_id, one.state) for one in found.remaining] == [(data_set, "continuous")]
    with world.ledger.database.reading() as connection:
        assert connection.execute(select(feeds)).all() == []
        assert connection.execute(select(feed_writes)).all() == []


def test_nothing_is_removed_while_the_feed_is_written_to(world: FeedWorld) -> None:
    world.feed(readings(0, 3), "b-0001")
    claim = lease_of_feed(world.api_host, world.user, CLIENT)

    with world.ledger.leases.held(claim, seconds=60), pytest.raises(UploadInProgressError):
        PersonErasure(world.ledger, world.root, world.user).run("ada")

    assert len(PersonErasure(world.ledger, world.root, world.user).find().batches) == 1
