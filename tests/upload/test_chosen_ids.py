"""With an id of our own choice, a creation whose answer was lost leaves nothing unreachable behind."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import readings
from tests.happenings import forget_staged, forget_work_area, reconcile
from tests.killing import Killed, Killer
from tests.world import World
from tidepool_ingest.client import BackOff, TidepoolUnreachableError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.upload.normal import chosen_id
from tidepool_simulator.faults import Fault


@pytest.fixture(autouse=True)
def _choosing(world: World) -> None:
    world.settings = world.settings.model_copy(update={"chosen_ids": True})


def created(world: World) -> list[Any]:
    """Return the ids that were sent with creations."""
    creations = [sent for sent in world.recorder.sent if sent.path.endswith("/data_sets")]
    return [json.loads(sent.body).get("id") for sent in creations]


def until_done(world: World, number: int) -> None:
    for try_number in range(1, 6):
        try:
            world.resume(number, try_number=try_number)
        except TidepoolUnreachableError:
            continue
        return
    raise AssertionError("it never ended")


def all_right_and_nothing_unreachable(world: World, number: int) -> bool:
    assert world.simulator.settle(10)
    assert world.row(number).state is BatchState.VERIFIED
    assert world.check().unreachable == 0
    return world.all_right()


def test_the_id_is_sent_and_kept(world: World) -> None:
    number = world.ready(readings(3))

    summary = world.upload(number)

    assert created(world) == [chosen_id(world.row(number), 1)] == [summary.data_set_id]
    assert all_right_and_nothing_unreachable(world, number)


def test_it_is_off_unless_asked_for(world: World) -> None:
    world.settings = world.settings.model_copy(update={"chosen_ids": False})

    world.upload(world.ready(readings(3)))

    assert created(world) == [None]


def test_each_data_set_has_its_own(world: World) -> None:
    number = world.ready(readings(3))
    row = world.row(number)
    others = [
        chosen_id(row, 1),
        chosen_id(row, 2),
        chosen_id(replace(row, content_key="0" * 64), 1),
        chosen_id(replace(row, api_host="elsewhere"), 1),
        chosen_id(replace(row, created_at=row.created_at + timedelta(seconds=1)), 1),
    ]

    assert len(set(others)) == len(others)
    assert all(re.fullmatch("[0-9a-z]{32}", one) for one in others)
    assert chosen_id(row, 1) == others[0]


@pytest.mark.parametrize(
    ("fault", "sets"),
    [
        (Fault.lost_answer("create"), 1),
        (Fault.failed_after("create"), 1),
        (Fault.failed_after("create", 500), 1),
        (Fault.late_commit("create", 0.1), 1),
        (Fault.lost_request("create"), 2),
        (Fault.refused("create", 503), 2),
        (Fault.partial("create", steps=1, share=0), 1),
    ],
    ids=["answer lost", "504", "500", "late", "request lost", "503", "row left behind"],
)
def test_a_creation_in_doubt_is_looked_for(world: World, fault: Fault, sets: int) -> None:
    world.timed(doubt=0.4)
    number = world.ready(readings(3))
    world.simulator.faults.add(fault)

    until_done(world, number)

    assert len(world.sets(number)) == sets
    assert len(created(world)) == sets
    assert all_right_and_nothing_unreachable(world, number)


def test_a_set_that_answers_nothing_but_500_is_deleted(world: World) -> None:
    number = world.ready(readings(3))
    world.simulator.faults.add(Fault.lost_answer("create"))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.add(Fault.refused("post", 500, times=BackOff().attempts))

    world.resume(number)

    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert all_right_and_nothing_unreachable(world, number)


def test_a_creation_in_doubt_is_kept_as_long_as_tidepool_is_away(world: World) -> None:
    number = world.ready(readings(3))
    world.simulator.faults.add(Fault.lost_answer("create"), Fault.refused("post", 503, times=20))
    for _ in range(2):
        with pytest.raises(TidepoolUnreachableError):
            world.resume(number)
    world.simulator.faults.clear()

    world.resume(number)

    assert len(world.sets(number)) == 1
    assert all_right_and_nothing_unreachable(world, number)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, 5))
def test_killed_around_the_creation(
    world: World, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    number = world.ready(readings(3))
    killer = Killer(world, monkeypatch)
    killer.strike(at, after=after)
    with pytest.raises(Killed):
        world.upload(number)
    killer.stand_down()

    world.resume(number)

    assert all_right_and_nothing_unreachable(world, number)


def test_the_id_stands_in_the_ledger_before_the_request(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(3))
    noted: list[Any] = []

    def look(*_: Any, **__: Any) -> None:
        noted.extend((data_set.state, data_set.data_set_id) for data_set in world.sets(number))
        raise Killed

    monkeypatch.setattr(world.client, "open_data_set", look)
    with pytest.raises(Killed):
        world.upload(number)

    assert noted == [(DataSetState.OPENING, chosen_id(world.row(number), 1))]


def test_maintenance_deletes_what_has_nothing_to_be_completed_from(world: World) -> None:
    number = world.ready(readings(3))
    world.simulator.faults.add(Fault.lost_answer("create"))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    forget_work_area(world, number)
    forget_staged(world, number)

    assert reconcile(world).deleted == 1

    assert world.set_states(number) == [DataSetState.DELETED]
    assert world.check().unreachable == 0
