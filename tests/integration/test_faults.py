"""Answers that are lost, late, wrong or half: each record is visible once all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.factories import HASH, NONE, ORIGIN, TRUNCATE, readings, set_data_set_state, with_origins, wizard
from tests.timing import PATIENCE_SECONDS, LateWork
from tests.world import World
from tidepool_ingest.client import (
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolUnreachableError,
)
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import ChunkState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_simulator.faults import Fault

ROWS = 8


def staged(world: World, deduplicator: str = HASH) -> int:
    """Stage and prepare seven records that make eight rows and travel in three chunks."""
    records = with_origins([*readings(6), wizard(10)])
    body = {"deduplicator": {"name": deduplicator}}
    return world.ready(records, chunk_records=3, data_set=body, allow_truncate=True)


def until_done(world: World, number: int, tries: int = 4) -> int:
    """Upload as Airflow does, trying again what may be tried again; return how many tries it took."""
    for try_number in range(1, tries + 1):
        try:
            world.resume(number, try_number=try_number)
        except IngestError as error:
            if error.disposition is not Disposition.RETRIABLE:
                raise
        else:
            return try_number
    raise AssertionError("it was never done")


def struck(world: World) -> int:
    return sum(world.simulator.faults.counts.values())


FAULTS = {
    "post: answer lost": Fault.lost_answer("post", skip=1),
    "post: request lost": Fault.lost_request("post", skip=1),
    "post: 504 and done": Fault.failed_after("post", skip=1),
    "post: 502 and not done": Fault.refused("post", 502, skip=1),
    "post: 500, half stored": Fault.partial("post", skip=1),
    "post: answer lost each time": Fault.lost_answer("post", times=5),
    "post: half stored each time": Fault.partial("post", times=4),
    "close: answer lost": Fault.lost_answer("close"),
    "close: request lost": Fault.lost_request("close"),
    "close: 504 and done": Fault.failed_after("close"),
    "close: 503 and not done": Fault.refused("close", 503),
    "close: stopped after the first step": Fault.partial("close", steps=1, share=0),
    "close: stopped while showing data": Fault.partial("close", steps=3),
    "close: 504, done soon after": Fault.late_commit("close", 0.1, status=504, steps=1),
    "close: 504, begun soon after": Fault.late_commit("close", 0.1, status=504),
    "create: answer lost": Fault.lost_answer("create"),
    "create: request lost": Fault.lost_request("create"),
    "create: 500, row left behind": Fault.partial("create", steps=1, share=0),
    "create: 504 and done": Fault.failed_after("create"),
    "read-back: 502": Fault.refused("read-back", 502, times=2),
    "read-back: cut short": Fault(operation="read-back", answer="reset-body"),
    "read-back: truncated": Fault(operation="read-back", answer="truncated-body"),
    "token: 503": Fault.refused("token", 503),
    "401 at each step": Fault.refused("*", 401, times=3, chance=0.4),
    "everything, now and then": Fault.lost_answer("*", times=6, chance=0.3),
}


DEDUPLICATORS = {"hash": HASH, "origin": ORIGIN}


@pytest.mark.parametrize(
    ("deduplicator", "name"),
    [
        *[("hash", name) for name in FAULTS],
        # Rows of its open sets cannot be taken back, which makes a difference for posts only.
        *[("origin", name) for name in FAULTS if name.startswith(("post", "everything"))],
    ],
)
def test_a_fault(world: World, name: str, deduplicator: str) -> None:
    number = staged(world, DEDUPLICATORS[deduplicator])
    fault = FAULTS[name]
    world.simulator.faults.add(fault)

    until_done(world, number)

    assert struck(world) >= 1
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("deduplicator", [TRUNCATE, NONE], ids=["truncate", "none"])
@pytest.mark.parametrize("operation", ["create", "post", "close"])
def test_lost_answers_under_other_deduplicators(world: World, operation: str, deduplicator: str) -> None:
    number = staged(world, deduplicator)
    world.simulator.faults.add(Fault.lost_answer(operation))

    until_done(world, number)

    assert world.shows_once(number, ROWS)


# ---------------------------------------------------------------- posts


def test_a_lost_answer_is_reconciled_within_the_same_attempt(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.lost_answer("post", skip=1))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    chunks = world.ledger.data_sets.chunks_of(world.sets(number)[0].id)
    assert [chunk.attempts for chunk in chunks.values()] == [1, 2, 1]
    operations = [request.operation for request in world.simulator.requests]
    assert [operation for operation in operations if operation in ("post", "delete-data")] == [
        *["post", "post"],
        *["delete-data", "post"],
        "post",
    ]


def test_the_selectors_name_the_rows_that_were_sent_embedded_ones_too(world: World) -> None:
    number = world.ready([wizard(1)])
    world.simulator.faults.add(Fault.lost_answer("post"))

    world.upload(number)

    (removal,) = [sent for sent in world.recorder.sent if sent.method == "DELETE"]
    for datum in world.visible():
        assert datum["id"].encode() in removal.body
    assert len(world.visible()) == 2


def test_a_chunk_that_stays_in_doubt_is_left_to_the_next_try(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.lost_answer("post", skip=1, times=world.timeouts.attempts))

    with pytest.raises(TidepoolUnreachableError) as caught:
        world.upload(number)

    assert caught.value.in_doubt
    assert caught.value.disposition is Disposition.RETRIABLE
    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id)
    assert data_set.state is DataSetState.OPEN
    assert [chunk.state for chunk in chunks.values()] == [ChunkState.STORED, ChunkState.SENDING]
    summary = world.resume(number)
    assert (summary.chunks_sent, summary.chunks_resumed) == (2, 1)
    assert world.shows_once(number, ROWS)


def test_a_doubt_that_cannot_be_taken_back_costs_the_data_set(world: World) -> None:
    number = staged(world, ORIGIN)
    world.simulator.faults.add(Fault.partial("post", skip=1))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


def test_a_late_commit_that_doubles_is_found_and_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("post", 0.3, skip=1))
    late, send = LateWork(monkeypatch), world.client.upload_data

    def overtaken(data_set_id: str, body: bytes) -> None:
        if len(world.recorder.chunks) == 2:  # that chunk has been removed, and is about to be sent again
            late.let_go()
            assert world.simulator.settle(PATIENCE_SECONDS)
        send(data_set_id, body)

    monkeypatch.setattr(world.client, "upload_data", overtaken)

    until_done(world, number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("status", [None, 504])
def test_a_late_commit_is_waited_for_and_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    world.timed(doubt=0.8)
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("post", 0.3, status=status, skip=1))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


def test_nobody_goes_on_while_a_request_of_the_one_before_may_still_be_carried_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.timed(attempts=1, doubt=60.0)
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("post", 0.5, skip=1))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    with pytest.raises(LeaseHeldError) as caught:
        world.upload(number, try_number=2)

    assert 30 < caught.value.retry_after <= 60
    world.wait_out_claims()
    world.resume(number)
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("status", [None, 504])
def test_a_commit_later_than_everything_is_never_seen(
    world: World, monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("post", 2.0, status=status, skip=1))
    late = LateWork(monkeypatch)

    world.upload(number)

    late.let_go()
    assert world.simulator.settle(PATIENCE_SECONDS)
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert len(world.visible()) == ROWS
    (entry,) = world.check().sets
    assert (entry.visible, entry.lost, entry.double, entry.foreign) == (ROWS, 0, 0, 0)
    assert entry.hidden == 3  # they came into a closed set, which shows only what was there when it closed


def test_401_in_the_middle_is_answered_with_a_new_token(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.refused("post", 401, skip=1))

    world.upload(number)

    tokens = [request for request in world.simulator.requests if request.operation == "token"]
    assert len(tokens) == 2
    chunks = world.ledger.data_sets.chunks_of(world.sets(number)[0].id)
    assert [chunk.attempts for chunk in chunks.values()] == [1, 1, 1]
    assert world.shows_once(number, ROWS)


def test_a_token_that_stays_refused_is_fatal_and_resumable(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.refused("post", 401, skip=1, times=None))

    with pytest.raises(TidepoolAuthenticationError) as caught:
        world.upload(number)

    assert caught.value.disposition is Disposition.FATAL
    assert caught.value.remedy
    assert world.row(number).reason == "tidepool-authentication"
    world.simulator.faults.clear()
    assert world.resume(number).chunks_resumed == 1
    assert len(world.sets(number)) == 1
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("operation", ["create", "post", "close", "read-back"])
def test_busy_goes_up_with_the_pause_that_tidepool_asks_for(world: World, operation: str) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.refused(operation, 429, retry_after="17"))

    with pytest.raises(TidepoolBusyError) as caught:
        world.upload(number)

    assert caught.value.retry_after == 17
    assert caught.value.disposition is Disposition.RETRIABLE
    with pytest.raises(TidepoolBusyError) as caught:
        world.upload(number)  # another task, which sends nothing before the pause is over
    assert 0 < (caught.value.retry_after or 0) <= 17
    world.wait_out_slow_downs()
    world.resume(number)
    assert world.set_states(number)[-1] is DataSetState.VERIFIED
    assert len(world.check().sets) == 1
    assert world.check().unreachable == 0
    assert world.shows_once(number, ROWS)


# ---------------------------------------------------------------- creations and closes


def test_a_lost_creation_is_noted_and_another_set_is_opened(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.lost_answer("create"))

    with pytest.raises(TidepoolUnreachableError) as caught:
        world.upload(number)
    assert caught.value.in_doubt
    world.resume(number)

    assert world.set_states(number) == [DataSetState.UNREACHABLE, DataSetState.VERIFIED]
    assert world.sets(number)[0].data_set_id is None
    assert world.check().unreachable == 1
    assert world.shows_once(number, ROWS)


def test_a_close_that_was_done_is_not_taken_for_a_loss(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.failed_after("close"))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    closes = [request.status for request in world.simulator.requests if request.operation == "close"]
    assert closes == [504, 409]


def test_a_close_that_comes_to_an_end_late_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.timed(visible_wait=PATIENCE_SECONDS)
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("close", 0.5, status=504, steps=1))
    late, read, close = LateWork(monkeypatch), world.client.read_data, world.client.close_data_set

    def closed(*given: Any, **more: Any) -> None:
        try:
            close(*given, **more)
        finally:
            assert late.is_held()  # or a second request could do all of it first

    def seen(*given: Any, **more: Any) -> Iterator[dict[str, Any]]:
        yield from read(*given, **more)
        late.let_go()  # what was looked at was not whole yet

    monkeypatch.setattr(world.client, "close_data_set", closed)
    monkeypatch.setattr(world.client, "read_data", seen)

    world.upload(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert sum(request.operation == "read-back" for request in world.simulator.requests) > 1
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_close_that_stopped_half_way_is_begun_anew(world: World, steps: int) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.partial("close", steps=steps, share=0))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


def test_an_older_upload_stays_visible_while_a_newer_close_fails(world: World) -> None:
    number = staged(world)
    world.upload(number)
    world.simulator.faults.add(Fault.refused("close", 503, times=None))

    with pytest.raises(TidepoolUnreachableError):
        world.upload(number, run="run-2", force=True)

    assert len(world.visible()) == ROWS
    world.simulator.faults.clear()
    world.resume(number, run="run-2", force=True)
    assert len(world.sets(number)) == 2
    assert world.shows_once(number, ROWS)


def test_a_deletion_that_fails_is_finished_by_the_next_try(world: World) -> None:
    number = staged(world, ORIGIN)
    world.simulator.faults.add(Fault.partial("post", skip=1), Fault.lost_answer("delete"))

    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETING]
    world.resume(number)
    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


def test_a_set_that_was_to_be_deleted_may_be_gone(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.refused("post", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    (data_set,) = world.sets(number)
    set_data_set_state(world.ledger, data_set.id, DataSetState.DELETING, data_set_id="0" * 32)

    world.resume(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert len(world.visible()) == ROWS
