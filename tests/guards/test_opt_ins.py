"""What a run has to confirm before anything is opened: deletion of other data, and records shown twice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.factories import DEVICE, HASH, NONE, ORIGIN, TRUNCATE, cbg, readings
from tests.world import World
from tidepool_ingest.errors import Disposition
from tidepool_ingest.guards import DoublingError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.prepare.step import prepare_batch


def under(deduplicator: str) -> dict[str, Any]:
    return {"data_set": {"deduplicator": {"name": deduplicator}}}


# ---------------------------------------------------------------- truncate


def test_truncate_is_held_until_a_run_allows_it(world: World) -> None:
    world.stage(readings(3), "older")
    world.run()
    world.stage(readings(3, first=10), "truncating", **under(TRUNCATE))
    world.recorder.sent.clear()

    outcome = world.run()

    ((number, error),) = outcome.errors.items()
    assert (error.code, error.disposition) == ("truncate-not-allowed", Disposition.DATA)
    assert "allow_truncate" in str(error)
    assert "deletes for good" in str(error)
    assert world.user not in str(error)
    assert DEVICE not in str(error)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.HELD, "truncate-not-allowed")
    assert world.sets(number) == []
    assert world.recorder.sent == []
    assert len(world.visible()) == 3

    assert world.run(allow_truncate=True).codes == []
    assert len(world.visible()) == 3
    assert world.all_right()


def test_a_truncating_set_that_was_begun_is_brought_to_its_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(3), **under(TRUNCATE), allow_truncate=True)

    def killed(data_set_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "close_data_set", killed)
        with pytest.raises(KeyboardInterrupt):
            world.upload(number)

    assert world.run().codes == []
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.sets(number)) == 1


# ---------------------------------------------------------------- force


@pytest.mark.parametrize("deduplicator", [NONE, ORIGIN])
def test_force_is_held_where_nothing_hides_the_older_copy(world: World, deduplicator: str) -> None:
    world.stage(readings(3), **under(deduplicator))
    (number,) = world.run().uploaded
    world.recorder.sent.clear()

    outcome = world.run(run="run-2", force=True)

    (error,) = outcome.errors.values()
    assert (error.code, error.disposition) == ("would-double", Disposition.DATA)
    assert "allow_doubling" in str(error)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.VERIFIED, None)
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert world.recorder.sent == []
    assert len(world.visible()) == 3


def test_what_was_held_from_a_forced_run_is_done_for_the_next_one(world: World) -> None:
    world.stage(readings(3), **under(NONE))
    (number,) = world.run().uploaded
    world.run(run="run-2", force=True)
    world.recorder.sent.clear()

    assert world.run(run="run-3").codes == []

    assert (world.row(number).state, world.row(number).reason) == (BatchState.VERIFIED, None)
    assert world.recorder.sent == []


def test_twice_may_be_meant(world: World) -> None:
    world.stage(readings(3), **under(NONE))
    world.run()

    assert world.run(run="run-2", force=True, allow_doubling=True).codes == []
    assert len(world.visible()) == 6


def test_force_asks_for_nothing_under_the_usual_deduplicator_or_the_first_time(world: World) -> None:
    world.stage(readings(3), "usual", **under(HASH))
    world.stage(readings(3), "first-time", data_set={"deviceId": "device-2", "deduplicator": {"name": NONE}})

    assert world.run(run="run-1", force=True).codes == []
    world.stage(readings(4), "first-time", data_set={"deviceId": "device-2", "deduplicator": {"name": HASH}})
    assert world.run(run="run-1", force=True).codes == []


def test_a_forced_run_that_is_cleared_is_not_held_from_what_it_did_itself(world: World) -> None:
    world.stage(readings(3), **under(NONE))
    (number,) = world.run(run="run-1", force=True).uploaded

    again = world.run(run="run-1", force=True)

    assert again.codes == []
    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 3


def test_a_forced_run_that_is_asked_for_again_is_held_again(world: World) -> None:
    world.stage(readings(3), **under(NONE))
    (number,) = world.run(run="run-1", force=True).uploaded
    asked_again = datetime.now(UTC)

    with pytest.raises(DoublingError):
        prepare_batch(
            world.root,
            world.row(number),
            ledger=world.ledger,
            options=world.options(force=True),
            api_host_of=world.host_of,
            run_id="run-1",
            asked_at=asked_again,
        )


def test_records_of_another_device_are_not_hidden_by_the_usual_deduplicator(world: World) -> None:
    world.stage([*readings(3), cbg(10, deviceId="device-2"), cbg(11, deviceId="device-2")])
    world.run()

    outcome = world.run(run="run-2", force=True)

    (error,) = outcome.errors.values()
    assert error.code == "would-double"
    assert "the 2 that are of another device" in str(error)
    assert "device-2" not in str(error)
    assert len(world.visible()) == 5
