"""A verified batch is looked at again: what a later upload shows instead is right, what is lost is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.factories import DEVICE, NONE, TRUNCATE, alarm, bolus, readings, wizard
from tests.happenings import BOTH, NEXT, double, in_the_store, lose, recheck, verified
from tests.world import World
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.upload import ChangedSinceError, reverify_one
from tidepool_ingest.window import Window

# ---------------------------------------------------------------- right


def test_what_shows_all_is_right(world: World) -> None:
    number = verified(world, [*readings(3), wizard(10), alarm(11)])
    world.recorder.sent.clear()

    found = recheck(world, number)

    assert (found.comparison.visible, found.comparison.superseded, found.to_repair) == (7, 0, False)
    (data_set,) = world.sets(number)
    assert data_set.checked_at is not None
    assert data_set.superseded_rows == 0
    assert world.recorder.sent == []


def test_what_a_later_upload_shows_in_its_place_is_superseded_record_by_record(world: World) -> None:
    older = verified(world, [*readings(4), bolus(20, 1.0), wizard(30), alarm(40)])
    newer = verified(world, [*readings(4, first=2), bolus(20, 2.0), wizard(30), alarm(40)], "two", day=NEXT)
    world.recorder.sent.clear()

    found = recheck(world, older)

    # Two readings, a corrected bolus, and a calculation and an alarm with what is embedded in them.
    assert (found.comparison.visible, found.comparison.superseded) == (2, 7)
    assert found.comparison.missing == found.comparison.double == ()
    (data_set,) = world.sets(older)
    assert (data_set.visible_rows, data_set.superseded_rows) == (2, 7)
    assert recheck(world, newer).comparison.superseded == 0
    assert world.recorder.sent == []
    assert world.row(older).state is BatchState.VERIFIED
    assert world.all_right()


def test_a_chain_of_uploads(world: World) -> None:
    first = verified(world, [bolus(0, 1.0), *readings(2, first=5)])
    second = verified(world, [bolus(0, 2.0)], "two", day=NEXT)
    third = verified(world, [bolus(0, 3.0)], "two-and-a-half", day=NEXT)

    superseded = [recheck(world, number).comparison.superseded for number in (first, second, third)]

    assert superseded == [1, 1, 0]


def test_what_a_later_upload_truncated_is_superseded(world: World) -> None:
    older = verified(world, readings(3))
    verified(world, readings(2, first=10), "two", day=NEXT, data_set={"deduplicator": {"name": TRUNCATE}})

    found = recheck(world, older)

    assert (found.comparison.visible, found.comparison.superseded) == (0, 3)
    assert world.row(older).state is BatchState.VERIFIED


def test_odd_times_are_found_too(world: World) -> None:
    odd = [bolus(0, 1.0, time=time) for time in ("0000-06-01T00:00:00Z", "9999-12-31T23:59:00Z")]
    older = verified(world, odd)
    verified(world, [record | {"normal": 2.0} for record in odd], "two", day=NEXT)

    assert recheck(world, older).comparison.superseded == 2


# ---------------------------------------------------------------- wrong


def test_what_nobody_shows_is_lost_and_told_by_positions(world: World) -> None:
    number = verified(world, readings(6))
    lose(world, number, 1, 4)

    with pytest.raises(ChangedSinceError) as caught:
        recheck(world, number)

    error = caught.value
    assert (error.comparison.missing, error.comparison.visible) == ((1, 4), 4)
    assert "2 missing (accepted records 1, 4)" in str(error)
    assert error.disposition is Disposition.DATA
    assert DEVICE not in str(error)
    assert world.user not in str(error)
    assert (world.row(number).state, world.row(number).reason) == (
        BatchState.VERIFIED,
        "changed-since-verified",
    )
    assert world.sets(number)[0].checked_at is None


def test_lost_beside_superseded(world: World) -> None:
    older = verified(world, readings(4))
    verified(world, readings(1), "two", day=NEXT)
    lose(world, older, 3)

    with pytest.raises(ChangedSinceError) as caught:
        recheck(world, older)

    assert (caught.value.comparison.missing, caught.value.comparison.superseded) == ((3,), 1)
    assert "1 superseded by a later upload" in str(caught.value)


@pytest.mark.parametrize(
    "harm", [lambda world, number: lose(world, number, 1), double], ids=["lost", "double"]
)
def test_what_is_wrong_can_be_repaired(world: World, harm: Callable[[World, int], None]) -> None:
    number = verified(world, readings(4))
    harm(world, number)

    assert recheck(world, number, repair=True).to_repair
    assert world.row(number).state is BatchState.UPLOADING
    world.upload(number, run="run-2")

    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 4
    assert recheck(world, number).comparison.is_exact
    assert world.all_right()


def test_a_repair_that_nobody_went_on_with_is_taken_up_by_the_next_run(world: World) -> None:
    number = verified(world, readings(4))
    lose(world, number, 1)
    recheck(world, number, repair=True)

    assert world.run(BOTH).codes == []
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 4


def test_a_right_look_takes_back_the_complaint(world: World) -> None:
    number = verified(world, readings(3))
    data_set_id = world.sets(number)[0].data_set_id
    in_the_store(world, "UPDATE data SET active = 0 WHERE upload_id = ?", data_set_id)
    with pytest.raises(ChangedSinceError):
        recheck(world, number)
    in_the_store(world, "UPDATE data SET active = 1 WHERE upload_id = ?", data_set_id)

    recheck(world, number)

    assert world.row(number).reason is None


def delete_it(world: World, number: int) -> None:
    world.client.delete_data_set(str(world.sets(number)[0].data_set_id))


def supersede_and_lose(world: World, number: int) -> None:
    verified(world, readings(1), "two", day=NEXT)
    lose(world, number, 3)


@pytest.mark.parametrize(
    ("deduplicator", "harm", "why"),
    [
        (None, delete_it, "somebody deleted"),
        (None, supersede_and_lose, "newer batches"),
        (TRUNCATE, lambda world, number: lose(world, number, 1), "everything else of the device"),
    ],
    ids=["deleted", "older", "truncate"],
)
def test_what_a_repair_could_harm_is_told_and_left(
    world: World, deduplicator: str | None, harm: Callable[[World, int], None], why: str
) -> None:
    body = {"deduplicator": {"name": deduplicator}} if deduplicator else {}
    number = verified(world, readings(4), data_set=body)
    harm(world, number)

    with pytest.raises(ChangedSinceError, match=why):
        recheck(world, number, repair=True)

    assert world.row(number).state is BatchState.VERIFIED
    assert world.set_states(number) == [DataSetState.VERIFIED]


def test_under_a_deduplicator_without_hashes_nothing_is_superseded(world: World) -> None:
    older = verified(world, readings(3), data_set={"deduplicator": {"name": NONE}})
    verified(world, readings(3), "two", day=NEXT)
    lose(world, older, 0)

    with pytest.raises(ChangedSinceError):
        recheck(world, older)


def test_it_takes_the_claims_of_batch_and_device(world: World) -> None:
    number = verified(world, readings(3))
    world.timed(close_turn=0.1)
    with world.ledger.leases.held(f"batch:{number}", seconds=300), pytest.raises(LeaseHeldError):
        recheck(world, number)

    assert recheck(world, number).comparison.is_exact


def test_what_is_not_verified_is_left_alone(world: World) -> None:
    number = world.ready(readings(3))

    assert reverify_one(world.context(), world.row(number), repair=True) is None
    assert world.row(number).state is BatchState.PREPARED


# ---------------------------------------------------------------- superseded before it was verified


@pytest.mark.parametrize("noted", [True, False], ids=["closed", "closing"])
def test_what_was_superseded_before_it_could_be_verified_is_right(
    world: World, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    older = world.ready([*readings(3), bolus(20, 1.0)])
    close = world.client.close_data_set

    def killed_after(*args: Any, **more: Any) -> Any:
        if not noted:
            close(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "read_data" if noted else "close_data_set", killed_after)
        with pytest.raises(KeyboardInterrupt):
            world.upload(older)
    assert world.sets(older)[0].state is (DataSetState.CLOSED if noted else DataSetState.CLOSING)
    newer = _newer(world)

    summary = world.resume(older)

    assert (summary.expected_rows, summary.visible_rows) == (4, 3)
    (data_set,) = world.sets(older)
    assert (data_set.state, data_set.superseded_rows) == (DataSetState.VERIFIED, 1)
    assert {world.row(one).state for one in (older, newer)} == {BatchState.VERIFIED}
    assert [datum["normal"] for datum in world.visible() if datum["type"] == "bolus"] == [2.0]
    assert world.all_right()


def _newer(world: World) -> int:
    """Bring a batch of the next day to verified that shows another dose for the same moment."""
    world.stage([bolus(20, 2.0)], "two", day=NEXT)
    (number,) = world.run(Window(NEXT, NEXT)).uploaded
    return number


def test_older_rows_that_a_broken_close_left_visible_do_not_count_as_newer(world: World) -> None:
    verified(world, [bolus(20, 1.0)])
    world.stage([bolus(20, 2.0)], "two", day=NEXT)
    close = world.client.close_data_set
    broken: list[str] = []

    def breaks_off(data_set_id: str) -> None:
        if broken:
            close(data_set_id)
            return
        broken.append(data_set_id)
        in_the_store(world, "UPDATE data_sets SET state = 'closed' WHERE upload_id = ?", data_set_id)
        raise KeyboardInterrupt

    world.client.close_data_set = breaks_off  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        world.run(Window(NEXT, NEXT))

    (number,) = world.run(Window(NEXT, NEXT)).uploaded

    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert [datum["normal"] for datum in world.visible()] == [2.0]
