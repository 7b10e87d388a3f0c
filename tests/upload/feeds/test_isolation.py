"""Records of a feed for which Tidepool answers 500: found by halving, and the rest is visible."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NONE, ORIGIN, cbg
from tests.world import FeedWorld, store_and_answer_500
from tidepool_ingest.ledger import BatchState
from tidepool_simulator.rules import Rule

POISON = Rule(type="cbg", pointer="/value", equals=22.5, in_storage=True)


def records_with_poison(count: int, *poison: int) -> list[dict[str, Any]]:
    return [cbg(number, 22.5 if number in poison else 6.5) for number in range(count)]


@pytest.mark.parametrize("deduplicator", [ORIGIN, NONE])
def test_it_goes_to_quarantine_and_the_others_are_visible(world: FeedWorld, deduplicator: str) -> None:
    world.simulator.rules.add(POISON)
    number = world.ready(
        records_with_poison(40, 3, 25), chunk_records=20, data_set={"deduplicator": {"name": deduplicator}}
    )

    summary = world.upload(number, at_once=4)

    assert summary.visible_rows == 38
    assert world.refused(number) == [(3, ["tidepool-500"]), (25, ["tidepool-500"])]
    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()


def test_an_earlier_batch_may_write_what_it_did_not(world: FeedWorld) -> None:
    world.simulator.rules.add(POISON)
    world.feed(records_with_poison(40, 3), "b-0002")

    number = world.feed([cbg(3, 7.5), cbg(4, 7.5)], "b-0001")

    assert world.sets(number)[-1].visible_rows == 1
    values = world.values()
    assert [values[cbg(minute)["time"]] for minute in (2, 3, 4)] == [6.5, 7.5, 6.5]
    assert world.all_right()


def test_one_that_is_stored_and_answered_with_500_all_the_same_is_removed(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(records_with_poison(20, 3))
    store_and_answer_500(world, monkeypatch, b"22.5")

    world.upload(number)

    assert world.refused(number) == [(3, ["tidepool-500"])]
    assert len(world.visible()) == 19
    assert world.all_right()


def test_the_version_that_it_hid_comes_back_with_a_forced_run(world: FeedWorld) -> None:
    world.simulator.rules.add(POISON)
    world.feed(records_with_poison(20), "b-0001")
    world.feed(records_with_poison(20, 3), "b-0002", max_quarantined_percent=50)
    assert len(world.values()) == 19  # its attempts have marked the older version deleted

    (number,) = [one for one in world.plan(force=True).batches if world.row(one).batch_id == "b-0001"]
    world.prepare(number, force=True)
    world.upload(number, force=True, run="run-2")

    assert len(world.values()) == 20
    assert world.all_right()
