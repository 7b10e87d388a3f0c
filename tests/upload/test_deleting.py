"""A batch is taken back: its data sets are deleted, what they had hidden shows again, nothing comes back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.factories import DAY, readings
from tests.world import World
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.guards import WithdrawnError
from tidepool_ingest.ledger import BatchState, DataSetState, UploadFilter, lease_of_batch
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.upload import withdraw_batch
from tidepool_ingest.upload.closing import device_lease_name
from tidepool_ingest.upload.deleting import NotWithdrawableError
from tidepool_ingest.window import Window
from tidepool_simulator import Fault

NEXT = DAY + timedelta(days=1)
BOTH = Window(DAY, NEXT)


def verified(world: World, batch: str = "one", *, first: int = 0, count: int = 3, **staged: object) -> int:
    world.stage(readings(count, first), batch, **staged)  # type: ignore[arg-type]
    (number,) = world.run(BOTH).uploaded
    return number


def withdraw(world: World, number: int) -> int:
    return withdraw_batch(world.context(), world.row(number))


def visible(world: World) -> list[str]:
    return sorted(str(one["uploadId"]) for one in world.visible())


def test_what_was_uploaded_is_gone_and_what_it_had_hidden_shows_again(world: World) -> None:
    older = verified(world)
    newer = verified(world, "two", day=NEXT, count=5)
    (old_set,), (new_set,) = world.sets(older), world.sets(newer)
    assert set(visible(world)) == {new_set.data_set_id}

    assert withdraw(world, newer) == 1

    assert visible(world) == [old_set.data_set_id] * 3
    assert world.row(newer).state is BatchState.WITHDRAWN
    assert world.set_states(newer) == [DataSetState.DELETED]


def test_the_older_of_two_can_go_without_a_change_to_what_shows(world: World) -> None:
    older = verified(world)
    newer = verified(world, "two", day=NEXT, count=4)
    shown = visible(world)

    assert withdraw(world, older) == 1
    assert visible(world) == shown
    assert set(shown) == {world.sets(newer)[0].data_set_id}


def test_no_run_uploads_it_again_unless_it_is_forced(world: World) -> None:
    number = verified(world)
    withdraw(world, number)

    assert world.run(BOTH).plan.batches == []
    assert visible(world) == []
    assert list(world.run(BOTH, force=True).uploaded) == [number]
    assert len(visible(world)) == 3
    assert world.row(number).state is BatchState.VERIFIED


def test_a_cleared_task_does_not_bring_it_back(world: World) -> None:
    number = verified(world)
    withdraw(world, number)

    with pytest.raises(WithdrawnError):
        world.prepare(number)
    with pytest.raises(WithdrawnError):
        world.upload(number)
    assert world.row(number).state is BatchState.WITHDRAWN
    assert visible(world) == []


def test_an_interrupted_one_is_brought_to_its_end(world: World) -> None:
    number = verified(world)
    world.simulator.faults.add(Fault.refused("delete", 503, times=50))
    with pytest.raises(TidepoolUnreachableError):
        withdraw(world, number)
    world.simulator.faults.clear()
    assert world.row(number).state is BatchState.WITHDRAWN
    assert world.run(BOTH).plan.batches == []

    assert withdraw(world, number) == 1
    assert withdraw(world, number) == 0
    assert visible(world) == []


def test_what_has_nothing_at_tidepool_cannot_be_taken_back(world: World) -> None:
    world.stage(readings(2), name="data.json", content=b"[broken")
    world.run(BOTH)
    (row,) = world.ledger.uploads.page(UploadFilter())

    with pytest.raises(NotWithdrawableError):
        withdraw(world, row.batch)
    assert world.row(row.batch).state is BatchState.FAILED


@pytest.mark.parametrize("of_device", [True, False])
def test_it_waits_for_its_turn(world: World, of_device: bool) -> None:
    number = verified(world)
    world.timed(close_turn=0.1)
    name = device_lease_name(world.row(number)) if of_device else lease_of_batch(number)

    with world.ledger.leases.held(name, seconds=30), pytest.raises(LeaseHeldError):
        withdraw(world, number)
    assert world.row(number).state is BatchState.VERIFIED
    assert withdraw(world, number) == 1
