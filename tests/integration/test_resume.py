"""An upload that was killed anywhere goes on from the ledger, and each record is visible once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.factories import HASH, NONE, ORIGIN, TRUNCATE, readings, with_origins, wizard
from tests.killing import CALLS, OPENED, STORED, Killed, Killer
from tests.world import World, a_world
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError, LeaseLostError


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("resume"), empty_ledger, World) as world:
        yield world


@pytest.fixture
def killed_world(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> tuple[World, Killer]:
    """The module's world with a user of its own for this test, and a killer in it."""
    shared_world.user = shared_world.add_user()
    shared_world.recorder.sent.clear()
    return shared_world, Killer(shared_world, monkeypatch)


def staged(world: World, deduplicator: str = HASH) -> int:
    """Stage and prepare six records that make seven rows and travel in three chunks."""
    records = with_origins([*readings(5), wizard(10)])
    body = {"deduplicator": {"name": deduplicator}}
    return world.ready(records, chunk_records=2, data_set=body, allow_truncate=True)


def test_these_are_all_calls(killed_world: tuple[World, Killer]) -> None:
    world, killer = killed_world
    number = staged(world)
    killer.calls.clear()

    world.upload(number)

    assert killer.calls == CALLS


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(len(CALLS)), ids=[f"{at}-{name}" for at, name in enumerate(CALLS)])
def test_killed_once(killed_world: tuple[World, Killer], at: int, after: bool) -> None:
    world, killer = killed_world
    number = staged(world)
    killer.strike(at, after=after)
    with pytest.raises(Killed):
        world.upload(number)
    killer.stand_down()
    already = len(world.recorder.chunks)

    summary = world.resume(number)

    assert summary.visible_rows == 7
    assert len(world.visible()) == 7
    assert world.row(number).state is BatchState.VERIFIED
    sets = world.sets(number)
    assert sets[-1].state is DataSetState.VERIFIED
    assert sets[-1].data_set_id == summary.data_set_id
    lost_creation = CALLS[at] == "open_data_set" or (CALLS[at] == "begin_opening" and after) or at in OPENED
    assert len(sets) == (2 if lost_creation else 1)
    assert all(data_set.state is DataSetState.UNREACHABLE for data_set in sets[:-1])
    # A chunk that is surely stored is not sent again; one in doubt is, after it was taken back.
    in_doubt = (CALLS[at] == "upload_data" and after) or at in chain.from_iterable(STORED)
    assert len(world.recorder.chunks) == 3 + in_doubt
    assert summary.chunks_sent == 3 + in_doubt - already


@pytest.mark.parametrize("deduplicator", [HASH, TRUNCATE, NONE, ORIGIN])
@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again(killed_world: tuple[World, Killer], seed: int, deduplicator: str) -> None:
    world, killer = killed_world
    chance = random.Random(f"{seed} {deduplicator}")
    number = staged(world, deduplicator)
    killed = 0
    for try_number in range(1, 8):
        killer.strike(chance.randrange(8), after=chance.random() < 0.5)
        try:
            world.resume(number, try_number=try_number)
        except Killed:
            killed += 1
    killer.stand_down()

    assert killed >= 2
    assert world.resume(number, try_number=8).visible_rows == 7
    assert len(world.visible()) == 7
    assert world.row(number).state is BatchState.VERIFIED


def test_the_checker_finds_nothing_wrong_with_any_of_them(shared_world: World) -> None:
    assert shared_world.check().sets
    assert shared_world.all_right()


# ---------------------------------------------------------------- claims


def test_a_killed_task_leaves_a_claim_that_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    world.timed(lease=60.0)
    killer = Killer(world, monkeypatch)
    killer.strike(6, after=True)
    with monkeypatch.context() as patch:
        patch.setattr("tidepool_ingest.ledger.leases.Lease.release", lambda lease: None)
        with pytest.raises(Killed):
            world.upload(number)
    killer.stand_down()

    with pytest.raises(LeaseHeldError) as caught:
        world.upload(number, try_number=2)
    assert 0 < caught.value.retry_after <= 60.0
    world.wait_out_claims()

    assert world.resume(number).visible_rows == 7
    assert world.all_right()


def test_a_task_that_was_silent_for_too_long_stops_before_it_sends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    world.timed(lease=0.01)
    send = world.client.upload_data
    takers = []

    def overtaken(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        if not takers:
            takers.append(world.ledger.leases._acquire(f"batch:{number}", seconds=60, wait=5))

    monkeypatch.setattr(world.client, "upload_data", overtaken)

    with pytest.raises(LeaseLostError, match=f"batch:{number}"):
        world.upload(number)

    assert len(world.recorder.chunks) == 1
    monkeypatch.undo()
    takers[0].release()
    assert world.resume(number).visible_rows == 7
    assert world.all_right()


# ---------------------------------------------------------------- what the next try finds


def test_the_next_try_is_noted_and_tells_the_data_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    killer = Killer(world, monkeypatch)
    killer.strike(8, after=False)
    with pytest.raises(Killed):
        world.upload(number, run="run-1", try_number=1)
    killer.stand_down()
    told: list[str] = []

    summary = world.resume(number, run="run-2", try_number=3, on_open=told.append)

    (data_set,) = world.sets(number)
    assert told == [summary.data_set_id] == [data_set.data_set_id]
    assert (data_set.run_id, data_set.try_number) == ("run-2", 3)
    assert (summary.chunks_sent, summary.chunks_resumed) == (2, 1)


def test_another_run_goes_on_where_the_first_was_killed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    killer = Killer(world, monkeypatch)
    killer.strike(9, after=True)
    with pytest.raises(Killed):
        world.upload(number)
    killer.stand_down()

    outcome = world.run(run="run-2", chunk_records=1_000)

    assert outcome.plan.batches == [number]
    assert outcome.uploaded[number].visible_rows == 7
    assert len(world.sets(number)) == 1
    assert world.all_right()


def test_a_batch_prepared_differently_since_is_begun_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    killer = Killer(world, monkeypatch)
    killer.strike(8, after=True)
    with pytest.raises(Killed):
        world.upload(number)
    killer.stand_down()
    from tidepool_ingest.ledger.schema import chunks
    from tidepool_ingest.staging.work_area import WorkArea

    WorkArea(world.root, world.row(number).content_key).discard()
    with world.ledger.database.writing() as connection:  # its records come out otherwise than they were sent
        connection.execute(update(chunks).values(digest="0" * 64))
    world.prepare(number, chunk_records=3)

    assert world.resume(number).visible_rows == 7
    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert world.all_right()
