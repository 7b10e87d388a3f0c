"""A feed's batches over HTTP: one data set, each record once, the newest version."""

from __future__ import annotations

import pytest

from tests.factories import DEVICE, bolus, cbg, minute_of, readings, wizard
from tests.world import FeedWorld
from tidepool_ingest.guards import QuarantineLimitError
from tidepool_simulator.rules import Rule


def test_a_batch_is_visible_at_once_in_an_open_data_set(world: FeedWorld) -> None:
    number = world.feed(readings(10), "b-0001")

    (data_set_id,) = world.data_sets()
    (row,) = world.sets(number)
    assert (row.data_set_id, row.data_set_type, row.state) == (data_set_id, "continuous", "verified")
    assert len(world.visible()) == 10
    assert world.client.is_open(data_set_id)


def test_batches_go_on_in_the_same_data_set(world: FeedWorld) -> None:
    for start in range(0, 30, 10):
        world.feed(readings(10, first=start), f"b-{start:04}")

    assert len(world.data_sets()) == 1
    assert len(world.values()) == 30


def test_overlaps_and_edits_replace(world: FeedWorld) -> None:
    world.feed([cbg(0, 5.0), cbg(1, 6.0), bolus(2, 1.0)], "b-0001")
    world.feed([cbg(1, 6.5), bolus(2, 2.0), cbg(3, 7.0)], "b-0002")

    assert world.values() == {
        minute_of(0): 5.0,
        minute_of(1): 6.5,
        minute_of(2): None,
        minute_of(3): 7.0,
    }
    assert world.values("normal")[minute_of(2)] == 2.0


def test_a_wizard_and_its_bolus_are_two_rows_that_an_edit_replaces(world: FeedWorld) -> None:
    world.feed([wizard(0)], "b-0001")
    world.feed([wizard(0, carbInput=45)], "b-0002")

    shown = {row["type"]: row for row in world.visible()}
    assert len(world.visible()) == 2
    assert shown["wizard"]["carbInput"] == 45
    assert shown["wizard"]["bolus"] == shown["bolus"]["id"]
    assert shown["wizard"]["origin"]["id"] != shown["bolus"]["origin"]["id"]


def test_deletions(world: FeedWorld) -> None:
    world.feed([cbg(0), cbg(1)], "b-0001")
    gone = next(row["origin"]["id"] for row in world.visible() if row["time"] == minute_of(1))
    world.feed([cbg(2)], "b-0002", deletes=[{"id": gone}])

    assert sorted(world.values()) == [minute_of(0), minute_of(2)]


def test_an_older_batch_does_not_overtake_a_newer_one(world: FeedWorld) -> None:
    older = world.ready([cbg(0, 4.0), cbg(1, 4.0)], batch="b-0001")
    world.feed([cbg(1, 5.0), cbg(2, 5.0)], "b-0002")
    summary = world.upload(older)

    assert world.values() == {minute_of(0): 4.0, minute_of(1): 5.0, minute_of(2): 5.0}
    assert (summary.visible_rows, summary.superseded) == (1, 1)


def test_few_rejected_records_hold_nothing_but_all_of_them_do(world: FeedWorld) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))

    world.feed([cbg(0, 22.5), cbg(1, 99), cbg(2)], "b-0001")
    assert len(world.values()) == 1
    with pytest.raises(QuarantineLimitError):
        world.feed([cbg(3, 22.5)], "b-0002")


def test_device_is_shown(world: FeedWorld) -> None:
    world.feed([cbg(0)], "b-0001")

    assert [row["deviceId"] for row in world.visible()] == [DEVICE]


def test_the_independent_checker_agrees(world: FeedWorld) -> None:
    world.feed([cbg(0, 5.0), cbg(1, 6.0), wizard(2), {"type": "smbg"}], "b-0001", max_quarantined_percent=50)
    world.feed([cbg(1, 6.5), wizard(2, carbInput=10), cbg(1, 6.6)], "b-0002")

    result = world.check()
    assert world.all_right()
    assert (result.visible, result.superseded, result.quarantined, result.identical) == (4, 3, 1, 1)


def test_the_checker_finds_a_version_that_should_be_gone(world: FeedWorld) -> None:
    world.feed([cbg(0, 5.0)], "b-0001")
    world.stage([cbg(0, 6.0)], "b-0002")

    result = world.check()
    assert (result.lost, result.double) == (1, 1)
