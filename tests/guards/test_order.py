"""Older content is not closed after newer content of the same device, unless a run says that it may win."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from tests.factories import DAY, DEVICE, NONE, ORIGIN, TRUNCATE, readings
from tests.happenings import before_it_is_sent
from tests.overlaps import BOTH, OLDER, amounts, closes, dose, held, ready, verified
from tests.world import World
from tidepool_ingest.guards import OlderThanUploadedError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.window import Window

MINUTES_A_DAY = 1440


# ---------------------------------------------------------------- before anything is opened


def test_older_content_is_held_before_anything_is_opened_until_a_run_lets_it_win(world: World) -> None:
    newer = verified(world, dose(2))
    world.stage(dose(1), "older", day=OLDER)
    world.recorder.sent.clear()

    outcome = world.run(BOTH)

    ((number, error),) = outcome.errors.items()
    assert isinstance(error, OlderThanUploadedError)
    assert "allow_older" in str(error)
    assert str(DAY) in str(error)
    assert held(world, number)
    assert world.sets(number) == []
    assert world.recorder.sent == []
    assert outcome.plan.older_than_uploaded == 1
    assert outcome.plan.summary()["older_than_uploaded"] == 1
    assert amounts(world) == [2]
    assert world.run(BOTH).codes == ["older-than-uploaded"]

    assert world.run(BOTH, allow_older=True).codes == []

    assert (world.row(number).state, world.row(newer).state) == (BatchState.VERIFIED, BatchState.VERIFIED)
    assert amounts(world) == [1]


def test_a_dry_run_tells_that_it_would_be_held(world: World) -> None:
    verified(world, dose(2))
    world.stage(dose(1), "older", day=OLDER)

    assert world.run(BOTH, dry_run=True).codes == ["older-than-uploaded"]


def test_nothing_about_a_person_is_told(world: World) -> None:
    verified(world, dose(2))
    world.stage(dose(1), "older", day=OLDER)

    (error,) = world.run(BOTH).errors.values()

    assert world.user not in str(error)
    assert DEVICE not in str(error)
    assert world.row(2).folder not in str(error)


@pytest.mark.parametrize(
    "other",
    [
        {"day": DAY},
        {"data_set": {"deviceId": "device-2"}},
        {"data_set": {"deduplicator": {"name": NONE}}},
        {"data_set": {"deduplicator": {"name": ORIGIN}}},
        {"records": dose(1, MINUTES_A_DAY)},
        {"day": DAY + timedelta(days=1)},
    ],
    ids=["same day", "another device", "none", "origin", "records of other days", "a newer one"],
)
def test_what_cannot_take_the_place_of_newer_content_is_not_held(world: World, other: dict[str, Any]) -> None:
    verified(world, dose(2))
    staged = {"records": dose(1), "batch": "other", "day": OLDER} | other
    world.stage(**staged)

    outcome = world.run(Window(OLDER, DAY + timedelta(days=1)))

    assert outcome.codes == []
    assert len(outcome.uploaded) == 1


def test_a_newer_batch_whose_rows_cannot_be_hidden_holds_nothing(world: World) -> None:
    verified(world, dose(2), data_set={"deduplicator": {"name": NONE}})
    world.stage(dose(1), "older", day=OLDER)

    assert world.run(BOTH).codes == []
    assert amounts(world) == [1, 2]


def test_another_users_newer_batch_holds_nothing(world: World) -> None:
    other = world.add_user()
    verified(world, dose(2), user=other)
    world.stage(dose(1), "older", day=OLDER)

    assert world.run(BOTH).codes == []


# ---------------------------------------------------------------- right before the close


def test_what_became_older_meanwhile_is_held_at_its_close_and_leaves_nothing_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ready(world, dose(1), OLDER, "older")

    def killed() -> None:
        raise KeyboardInterrupt

    before_it_is_sent(world, monkeypatch, killed)
    with pytest.raises(KeyboardInterrupt):
        world.upload(number)
    verified(world, dose(2))

    with pytest.raises(OlderThanUploadedError):
        world.resume(number)

    assert held(world, number)
    assert world.set_states(number) == [DataSetState.DELETED]
    assert amounts(world) == [2]
    assert not world.check().left_open
    assert world.run(BOTH).codes == ["older-than-uploaded"]
    world.prepare(number, allow_older=True)
    world.upload(number, allow_older=True)
    assert amounts(world) == [1]


def test_a_verified_batch_that_its_forced_upload_holds_stays_verified(world: World) -> None:
    number = verified(world, dose(1), OLDER, batch="older")
    world.prepare(number, force=True, run="run-2")
    verified(world, dose(2))

    with pytest.raises(OlderThanUploadedError):
        world.upload(number, force=True, run="run-2")

    assert (world.row(number).state, world.row(number).reason) == (BatchState.VERIFIED, None)
    assert world.set_states(number) == [DataSetState.VERIFIED]


def test_nobody_is_asked_about_rejected_records_of_a_batch_that_is_held_anyway(world: World) -> None:
    verified(world, dose(2))
    world.stage([*dose(1), *({"type": "cbg"} for _ in range(30))], "older", day=OLDER)
    (number,) = world.plan(Window(OLDER, OLDER)).batches

    with pytest.raises(OlderThanUploadedError):
        world.prepare(number, when_refused="ask")


def test_a_kill_before_the_hold_is_noted_ends_in_the_hold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ready(world, dose(1), OLDER, "older")
    verified(world, dose(2))

    def killed(*_args: Any, **_more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger.batches, "hold", killed)
        with pytest.raises(KeyboardInterrupt):
            world.upload(number)

    assert world.row(number).state is BatchState.UPLOADING
    assert world.run(BOTH).codes == ["older-than-uploaded"]
    assert held(world, number)


def test_an_older_set_that_could_not_be_closed_yet_is_deleted_when_a_newer_one_came_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ready(world, dose(1), OLDER, "older")

    def killed(data_set_id: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "close_data_set", killed)
        with pytest.raises(KeyboardInterrupt):
            world.upload(number)
    assert world.sets(number)[-1].state is DataSetState.CLOSING
    verified(world, dose(2))

    with pytest.raises(OlderThanUploadedError):
        world.resume(number)

    assert held(world, number)
    assert amounts(world) == [2]
    assert not world.check().left_open


# ---------------------------------------------------------------- several days of one run


class Waiting:
    """Tells when a batch waits for older ones of its device."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen = threading.Event()
        self._ask = world.ledger.devices.older_in_progress
        monkeypatch.setattr(world.ledger.devices, "older_in_progress", self._asked)

    def _asked(self, *args: Any, **more: Any) -> dict[str, float]:
        found = self._ask(*args, **more)
        if found:
            self.seen.set()
        return found


def test_a_newer_batch_waits_for_an_older_one_that_is_at_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = ready(world, dose(1), OLDER, "older"), ready(world, dose(2), DAY, "newer")
    waiting = Waiting(world, monkeypatch)
    started = threading.Event()
    send = world.client.upload_data

    def slowly(data_set_id: str, body: bytes) -> None:
        if not started.is_set():
            started.set()
            assert waiting.seen.wait(30)
        send(data_set_id, body)

    monkeypatch.setattr(world.client, "upload_data", slowly)
    first = threading.Thread(target=world.upload, args=(older,))
    first.start()
    assert started.wait(30)

    world.upload(newer)
    first.join()

    assert closes(world) == [world.sets(older)[0].data_set_id, world.sets(newer)[0].data_set_id]
    assert {world.row(number).state for number in (older, newer)} == {BatchState.VERIFIED}
    assert amounts(world) == [2]


def test_a_batch_does_not_wait_for_older_ones_that_it_cannot_touch(world: World) -> None:
    older = ready(world, dose(1, MINUTES_A_DAY), OLDER, "older")
    newer = ready(world, dose(2), DAY, "newer")

    with world.ledger.leases.held(f"batch:{older}", seconds=300):
        world.upload(newer)

    assert world.row(newer).state is BatchState.VERIFIED


def test_who_has_waited_for_a_whole_turn_is_tried_again_later(world: World) -> None:
    older, newer = ready(world, dose(1), OLDER, "older"), ready(world, dose(2), DAY, "newer")
    world.timed(close_turn=0.1)

    with world.ledger.leases.held(f"batch:{older}", seconds=300), pytest.raises(LeaseHeldError) as caught:
        world.upload(newer)

    assert caught.value.name == f"batch:{older}"
    assert closes(world) == []
    world.upload(older)
    world.resume(newer)
    assert amounts(world) == [2]


# ---------------------------------------------------------------- truncate


def test_truncate_is_held_whatever_the_days_of_the_records(world: World) -> None:
    verified(world, readings(2))
    truncate = {"deduplicator": {"name": TRUNCATE}}
    world.stage(readings(2, first=5 * MINUTES_A_DAY), "older", day=OLDER, data_set=truncate)

    assert world.run(BOTH, allow_truncate=True).codes == ["older-than-uploaded"]
    assert len(world.visible()) == 2
