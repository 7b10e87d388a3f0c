"""What an earlier batch leaves to a later one: what that has brought in, not what it only meant to."""

from __future__ import annotations

import pytest

from tests.factories import NONE, cbg, minute_of
from tests.happenings import strike
from tests.killing import Killed
from tests.world import FeedWorld
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.upload.feeds.verify import FeedVerificationError
from tidepool_simulator import Fault
from tidepool_simulator.rules import Rule

TOO_HIGH = Rule(type="cbg", pointer="/value", above=20)


def test_a_later_batch_that_was_refused_supersedes_nothing(world: FeedWorld) -> None:
    world.simulator.rules.add(TOO_HIGH)
    older = world.ready([cbg(0, 5.0), cbg(1, 5.5)], batch="b-1")
    newer = world.ready([cbg(0, 22.5), cbg(1, 22.6)], batch="b-2")
    with pytest.raises(IngestError) as caught:
        world.upload(newer)
    summary = world.upload(older)

    assert caught.value.code == "too-many-refused"
    assert (summary.expected_rows, summary.superseded) == (2, 0)
    assert world.values() == {minute_of(0): 5.0, minute_of(1): 5.5}


def test_a_refused_record_of_a_later_batch_supersedes_nothing(world: FeedWorld) -> None:
    world.simulator.rules.add(TOO_HIGH)
    older = world.ready([cbg(0, 5.0), cbg(1, 5.5)], batch="b-1")
    newer = world.ready([cbg(0, 22.5), cbg(1, 6.5)], batch="b-2")
    world.upload(newer, max_rejected_percent=50)
    summary = world.upload(older)

    assert (summary.expected_rows, summary.superseded) == (1, 1)
    assert world.values() == {minute_of(0): 5.0, minute_of(1): 6.5}


def test_what_was_never_sent_of_a_folder_staged_anew_supersedes_nothing(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = world.ready([cbg(0, 5.0), cbg(1, 5.5)], batch="b-1")
    newer = world.ready([cbg(0, 6.0), cbg(1, 6.5)], batch="b-2")
    strike(world, newer, monkeypatch)
    corrected = world.ready([cbg(9, 7.0)], batch="b-2")
    world.resume(corrected)
    summary = world.resume(older)

    assert (summary.expected_rows, summary.superseded) == (2, 0)
    assert world.values() == {minute_of(0): 5.0, minute_of(1): 5.5, minute_of(9): 7.0}


def test_what_a_dead_task_had_brought_in_is_left_alone(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = world.ready([cbg(minute, 5.0) for minute in range(4)], batch="b-1")
    newer = world.ready([cbg(minute, 6.0) for minute in range(4)], batch="b-2", chunk_records=2)
    strike(world, newer, monkeypatch, chunks=1)
    summary = world.resume(older)

    assert (summary.expected_rows, summary.superseded) == (2, 2)
    assert sorted(world.values().values()) == [5.0, 5.0, 6.0, 6.0]

    summary = world.resume(newer)
    assert (summary.chunks_resumed, summary.chunks_sent) == (1, 1)
    assert set(world.values().values()) == {6.0}
    assert world.all_right()


def test_what_is_live_of_a_held_batch_is_left_alone(world: FeedWorld) -> None:
    world.simulator.rules.add(TOO_HIGH)
    older = world.ready([cbg(minute, 5.0) for minute in range(4)], batch="b-1")
    records = [cbg(0, 6.0), cbg(1, 6.0), cbg(2, 22.0), cbg(3, 22.0)]
    newer = world.ready(records, batch="b-2", chunk_records=2)
    with pytest.raises(IngestError, match="What was sent of it before is visible"):
        world.upload(newer, rejected_from=1)
    summary = world.upload(older)

    assert (summary.expected_rows, summary.superseded) == (2, 2)
    assert world.values() == {minute_of(0): 6.0, minute_of(1): 6.0, minute_of(2): 5.0, minute_of(3): 5.0}


def test_a_later_chunk_in_doubt_is_sent_again_over_the_older_version(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = world.ready([cbg(0, 5.0)], batch="b-1")
    newer = world.ready([cbg(0, 6.0)], batch="b-2")
    send = world.client.upload_data

    def struck(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.client, "upload_data", struck)
        with pytest.raises(Killed):
            world.upload(newer)
    summary = world.resume(older)
    assert (summary.visible_rows, summary.superseded) == (1, 0)
    assert world.values() == {minute_of(0): 5.0}

    world.resume(newer)
    assert world.values() == {minute_of(0): 6.0}
    assert world.all_right()


def test_what_never_appeared_of_a_later_batch_supersedes_nothing(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = world.ready([cbg(0, 5.0)], batch="b-1")
    newer = world.ready([cbg(0, 6.0)], batch="b-2")
    with monkeypatch.context() as patched:
        patched.setattr(world.client, "upload_data", lambda data_set_id, body: None)
        with pytest.raises(FeedVerificationError):
            world.upload(newer)
    world.upload(older)
    assert world.values() == {minute_of(0): 5.0}

    world.upload(newer)
    assert world.values() == {minute_of(0): 6.0}
    assert world.all_right()


@pytest.mark.parametrize("carried_out", [True, False])
def test_only_a_deletion_that_was_carried_out_is_left_alone(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    named = {"origin": {"id": "x", "name": "org.example.app", "type": "application"}}
    older = world.ready([cbg(0, 5.0, **named)], batch="b-1")
    newer = world.ready([cbg(9)], batch="b-2", deletes=[{"id": "x"}])
    if carried_out:
        strike(world, newer, monkeypatch)
    else:
        world.simulator.faults.add(Fault.refused("delete-data", 403))
        with pytest.raises(IngestError):
            world.upload(newer)
    world.resume(older)
    assert list(world.values()) == ([] if carried_out else [minute_of(0)])

    world.resume(newer)
    assert list(world.values()) == [minute_of(9)]
    assert world.row(newer).state is BatchState.VERIFIED


def test_what_was_removed_to_be_sent_again_supersedes_nothing(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set = {"deduplicator": {"name": NONE}}
    older = world.ready([cbg(0, 5.0)], batch="b-1", data_set=data_set)
    newer = world.ready([cbg(0, 6.0)], batch="b-2", data_set=data_set)

    def struck(*args: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.ledger.data_sets, "chunk_stored", struck)
        with pytest.raises(Killed):
            world.upload(newer)
    assert world.values() == {minute_of(0): 6.0}
    with monkeypatch.context() as patched:
        patched.setattr(world.client, "upload_data", struck)
        with pytest.raises(Killed):
            world.resume(newer)
    assert world.values() == {}
    world.resume(older)
    assert world.values() == {minute_of(0): 5.0}

    world.resume(newer)
    assert world.values() == {minute_of(0): 6.0}
    assert world.all_right()
