"""A request whose answer was lost may be carried out seconds later: nothing is done about it before that."""

from __future__ import annotations

import pytest

from tests.factories import DEVICE, HASH, NONE, ORIGIN, readings, with_origins
from tests.happenings import rows_in_store
from tests.world import World
from tidepool_ingest.client import TidepoolBusyError, TidepoolUnreachableError
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.faults import Fault

DOUBT = 0.6
LATE = 0.15
"""Seconds: a quarter, so that what is late is over in time on a busy machine too."""

LONG = 60.0
"""A doubt that is not over before a test says so."""

CUT = [None, 504]
"""How the gateway cuts an answer: a reset, or a 504 of its own."""


@pytest.fixture(autouse=True)
def _doubt(world: World) -> None:
    world.timed(doubt=DOUBT)


def staged(world: World, deduplicator: str = HASH) -> int:
    records = with_origins(readings(6))
    return world.ready(records, chunk_records=2, data_set={"deduplicator": {"name": deduplicator}})


def all_visible_once(world: World, number: int) -> bool:
    assert world.shows_once(number, 6)
    return rows_in_store(world) == 6


@pytest.mark.parametrize("status", CUT)
@pytest.mark.parametrize("deduplicator", [HASH, NONE, ORIGIN])
def test_a_chunk_that_is_stored_late(world: World, deduplicator: str, status: int | None) -> None:
    number = staged(world, deduplicator)
    world.simulator.faults.add(Fault.late_commit("post", LATE, status=status, skip=1))

    world.upload(number)

    assert all_visible_once(world, number)


@pytest.mark.parametrize("status", CUT)
def test_a_removal_that_happens_late(world: World, status: int | None) -> None:
    number = staged(world)
    world.simulator.faults.add(
        Fault.lost_answer("post", skip=1), Fault.late_commit("delete-data", LATE, status=status)
    )

    world.upload(number)

    assert all_visible_once(world, number)


@pytest.mark.parametrize("steps", range(4))
def test_a_close_that_happens_late(world: World, steps: int) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("close", LATE, status=504, steps=steps))

    world.upload(number)

    assert all_visible_once(world, number)
    assert len(world.sets(number)) == 1


def test_a_chunk_in_doubt_keeps_the_batch_to_itself(world: World) -> None:
    number = staged(world)
    world.timed(attempts=1, doubt=LONG)
    world.simulator.faults.add(Fault.late_commit("post", LATE, skip=1))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    with pytest.raises(LeaseHeldError) as caught:
        world.upload(number, try_number=2)
    assert LONG / 2 < caught.value.retry_after <= LONG
    world.wait_out_claims()

    world.upload(number, try_number=3)
    assert all_visible_once(world, number)


def test_a_close_in_doubt_keeps_the_device_to_itself(world: World) -> None:
    number = staged(world)
    world.timed(attempts=1, doubt=LONG)
    world.simulator.faults.add(Fault.late_commit("close", LATE))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)

    device = f"device:{short_hash(f'{world.api_host} {world.user} {DEVICE}')}"
    with pytest.raises(LeaseHeldError) as caught, world.ledger.leases.held(device, seconds=1):
        pass
    assert LONG / 2 < caught.value.retry_after <= LONG
    world.wait_out_claims()
    with world.ledger.leases.held(device, seconds=1):
        pass


def test_a_signal_in_the_middle_of_a_request_leaves_it_in_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    world.timed(doubt=LONG)
    send = world.client.upload_data

    def ended(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "upload_data", ended)
        with pytest.raises(SystemExit):
            world.upload(number)

    with pytest.raises(LeaseHeldError) as caught:
        world.upload(number, try_number=2)
    assert LONG / 2 < caught.value.retry_after <= LONG
    world.wait_out_claims()
    world.upload(number, try_number=3)
    assert all_visible_once(world, number)


def test_an_answer_leaves_no_doubt(world: World) -> None:
    number = staged(world)
    world.timed(doubt=60.0, patience=0.0)
    world.simulator.faults.add(Fault.refused("post", 429, skip=1))
    with pytest.raises(TidepoolBusyError):
        world.upload(number)

    world.wait_out_slow_downs()
    world.upload(number, try_number=2)  # the claim did not outlive its holder

    assert all_visible_once(world, number)
