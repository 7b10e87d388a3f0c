"""Rows that Tidepool shows only some time after it has confirmed them: they are waited for."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.factories import HASH, NONE, ORIGIN, readings
from tests.timing import Clock
from tests.world import World
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.maintenance.reconcile import delete_unfinished
from tidepool_ingest.upload import ChangedSinceError, reverify_one
from tidepool_ingest.upload import guarded_requests as waiting
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_simulator import Fault, reading_service

LAG = 10.0
"""Seconds; four correct data sets were deleted for it, one after the other."""


@pytest.fixture(autouse=True)
def clock(world: World, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Let the client's waits and the simulator's lag go by one clock, with the times of production."""
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(reading_service, "time", clock)
    usual = Timeouts()
    world.timed(visible_wait=usual.visible_wait, visible_poll=usual.visible_poll)
    return clock


def sent(world: World, operation: str) -> int:
    return sum(request.operation == operation for request in world.simulator.requests)


def staged(world: World, deduplicator: str = HASH) -> int:
    return world.ready(readings(20), chunk_records=5, data_set={"deduplicator": {"name": deduplicator}})


@pytest.mark.parametrize("gradually", [False, True])
@pytest.mark.parametrize("deduplicator", [HASH, NONE, ORIGIN])
def test_what_is_shown_late_is_waited_for(world: World, deduplicator: str, gradually: bool) -> None:
    number = staged(world, deduplicator)
    world.simulator.faults.add(Fault.shown_late("close", LAG, gradually=gradually))

    world.upload(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert sent(world, "delete") == 0
    assert world.all_right()


def test_while_more_keeps_appearing_nothing_is_deleted(world: World, clock: Clock) -> None:
    number = staged(world)
    began = clock.monotonic()
    world.simulator.faults.add(Fault.shown_late("close", 150.0, gradually=True))

    world.upload(number)

    assert clock.monotonic() - began > 140
    assert sent(world, "delete") == 0
    assert world.all_right()


def test_what_never_becomes_visible_is_given_up_after_a_minute(world: World, clock: Clock) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.partial("close", steps=3, share=0.3), Fault.failed_after("close"))
    began = clock.monotonic()

    world.upload(number)

    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert 60 <= clock.monotonic() - began < 90
    assert sent(world, "read-back") < 20
    assert world.all_right()


def test_a_wait_for_rows_ends_when_the_task_is_told_to_stop(world: World, clock: Clock) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.shown_late("close", 600.0))
    context = world.context()
    read = world.client.read_data

    def seen(*given: object, **more: object) -> object:
        context.stop()
        return read(*given, **more)  # type: ignore[arg-type]

    world.client.read_data = seen  # type: ignore[method-assign,assignment]
    with pytest.raises(waiting.UploadStoppedError):
        world.uploader(context, world.row(number))

    assert world.set_states(number) == [DataSetState.CLOSED]
    assert sent(world, "delete") == 0


def test_a_try_that_finds_a_closed_set_waits_for_its_rows_too(world: World, clock: Clock) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.shown_late("close", LAG), Fault.refused("read-back", 403))
    with pytest.raises(Exception, match="403"):
        world.upload(number)

    world.resume(number)

    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert world.all_right()


def hidden_again(world: World, number: int, seconds: float) -> None:
    """Let a data set that was visible be shown late once more, as by a reading service that lags."""
    data_set_id = str(world.sets(number)[-1].data_set_id)
    with closing(sqlite3.connect(world.store)) as store, store:
        store.execute("UPDATE data SET active = 0 WHERE upload_id = ?", (data_set_id,))
    world.simulator._running._platform.late.begin(data_set_id, seconds, gradually=True)
    with closing(sqlite3.connect(world.store)) as store, store:
        store.execute("UPDATE data SET active = 1 WHERE upload_id = ?", (data_set_id,))


@pytest.mark.parametrize("repair", [False, True])
def test_a_verified_batch_is_not_repaired_for_rows_that_are_shown_late(world: World, repair: bool) -> None:
    number = staged(world)
    world.upload(number)
    hidden_again(world, number, LAG)

    found = reverify_one(world.context(), world.row(number), repair=repair)

    assert found is not None
    assert found.comparison.is_exact
    assert world.row(number).state is BatchState.VERIFIED


def test_a_verified_batch_that_stays_incomplete_is_reported(world: World, clock: Clock) -> None:
    number = staged(world)
    world.upload(number)
    hidden_again(world, number, LAG)
    with closing(sqlite3.connect(world.store)) as store, store:
        store.execute("DELETE FROM data WHERE seq = (SELECT max(seq) FROM data)")
    began = clock.monotonic()

    with pytest.raises(ChangedSinceError, match="1 missing"):
        reverify_one(world.context(), world.row(number))

    assert clock.monotonic() - began >= 60


def test_the_maintenance_deletes_no_closed_set_that_shows_its_rows_late(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.shown_late("close", 30.0), Fault.refused("read-back", 403))
    with pytest.raises(Exception, match="403"):
        world.upload(number)

    with pytest.raises(Exception, match="never verified"):
        delete_unfinished(world.context(), world.row(number))

    assert sent(world, "delete") == 0
    world.resume(number)
    assert world.all_right()
