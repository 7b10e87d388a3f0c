"""Batches of a feed whose folder is not there any more, or that were staged anew."""

from __future__ import annotations

import shutil

import pytest

from tests.factories import DAY, cbg
from tests.world import FeedWorld
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault

NEXT_DAY = DAY.replace(day=DAY.day + 1)
BOTH = Window(DAY, NEXT_DAY)


def test_a_folder_that_was_removed_ends_its_row(world: FeedWorld) -> None:
    world.feed([cbg(1)], "b-0001")
    number = world.ready([cbg(2)], batch="b-0002")
    world.ledger.batches.hold(number, "some-guard")
    shutil.rmtree(world.staging / str(DAY) / world.user / "b-0002")

    for _ in range(2):
        world.plan()

    assert world.row(number).state is BatchState.GONE
    assert world.all_right()


def test_the_same_content_on_another_day_takes_its_place(world: FeedWorld) -> None:
    number = world.ready([cbg(2)], batch="b-0001")
    shutil.rmtree(world.staging / str(DAY))
    world.stage([cbg(2)], "b-0001", day=NEXT_DAY)

    for _ in range(2):
        world.run(BOTH)

    assert world.row(number).state is BatchState.OVERWRITTEN
    assert world.ledger.uploads.waiting() == 0
    assert world.all_right()


def test_one_that_may_have_written_something_stays(world: FeedWorld) -> None:
    world.feed([cbg(1)], "b-0001")
    number = world.ready([cbg(2)], batch="b-0002")
    world.simulator.faults.add(Fault.failed_after("post", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.ledger.batches.hold(number, "some-guard")
    shutil.rmtree(world.staging / str(DAY) / world.user / "b-0002")

    for _ in range(3):
        world.plan()

    assert world.row(number).state is BatchState.HELD
