"""The maintenance job and feeds: it brings their batches to an end, and never deletes their data set."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from tests.factories import cbg, readings, set_batch_state
from tests.happenings import reconciled
from tests.killing import Killed
from tests.world import FeedWorld
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.schema import chunks
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_simulator import Fault


def unfinished(world: FeedWorld) -> int:
    world.feed(readings(5), "b-0001")
    number = world.ready(readings(5, first=10), batch="b-0002")
    world.simulator.faults.add(Fault.refused("post", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.clear()
    return number


def test_a_batch_that_was_left_is_brought_to_its_end(world: FeedWorld) -> None:
    number = unfinished(world)
    counts = reconciled(world)

    assert (counts.unfinished, counts.finished, counts.deleted) == (1, 1, 0)
    assert world.row(number).state == "verified"
    assert len(world.values()) == 10


def test_the_data_set_stays_whatever_became_of_a_batch(world: FeedWorld) -> None:
    number = unfinished(world)
    for state in (BatchState.HELD, BatchState.OVERWRITTEN):
        set_batch_state(world.ledger, number, state)
        assert reconciled(world).deleted == 0

    assert len(world.data_sets()) == 1
    assert len(world.values()) == 5


def test_a_batch_that_was_cut_anew_is_not_looked_at_for_ever(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready([cbg(minute) for minute in range(4)], chunk_records=2)
    send = world.client.upload_data

    def struck(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.client, "upload_data", struck)
        with pytest.raises(Killed):
            world.upload(number)
    WorkArea(world.root, world.row(number).content_key).discard()
    with world.ledger.database.writing() as connection:  # its records come out otherwise than they were sent
        connection.execute(update(chunks).values(digest="0" * 64))
    world.prepare(number, chunk_records=3)
    world.resume(number)

    assert world.set_states(number) == [
        DataSetState.ABANDONED,
        DataSetState.VERIFIED,
    ]
    assert reconciled(world).unfinished == 0
    assert len(world.values()) == 4
    assert world.all_right()
