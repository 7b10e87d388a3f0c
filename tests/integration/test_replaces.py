"""A corrected batch takes the place of the one that its manifest names, wherever the work is interrupted."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.factories import DAY, DEVICE, NONE, bolus, cbg
from tests.killing import Killed, Killer
from tests.overlaps import RIGHT, WRONG, right_one, shown, values_of, wrong_one
from tests.world import World
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.guards import ReplacesLosesDaysError
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault
from tidepool_simulator.rules import Rule

OLDER = DAY - timedelta(days=1)


def is_replaced(world: World, wrong: int, right: int) -> bool:
    assert (world.row(wrong).state, world.row(right).state) == (BatchState.REPLACED, BatchState.VERIFIED)
    assert {data_set.state for data_set in world.sets(wrong)} == {DataSetState.DELETED}
    assert world.sets(right)[-1].state is DataSetState.VERIFIED
    assert shown(world) == RIGHT
    return world.all_right()


@pytest.mark.parametrize("deduplicator", [None, NONE])
def test_the_old_is_deleted_once_the_new_is_visible(world: World, deduplicator: str | None) -> None:
    body = {"deduplicator": {"name": deduplicator}} if deduplicator else {}
    wrong = wrong_one(world, data_set=body)
    right = right_one(world, data_set=body)
    world.recorder.sent.clear()

    summary = world.upload(right)

    assert is_replaced(world, wrong, right)
    assert summary.visible_rows == 3
    changes = [
        (sent.method, sent.path.rsplit("/", 1)[-1]) for sent in world.recorder.sent if not sent.is_chunk
    ]
    # In between, an empty data set says for good that nothing of the old one is to be shown.
    closed, created, *said, deleted = changes[-5:]
    assert closed == ("PUT", summary.data_set_id)
    assert (created[0], [method for method, _ in said]) == ("POST", ["PUT", "DELETE"])
    assert deleted == ("DELETE", world.sets(wrong)[0].data_set_id)


def test_no_later_run_brings_it_back(world: World) -> None:
    wrong, right = wrong_one(world), right_one(world)
    world.upload(right)
    sent = len(world.recorder.sent)

    again = world.run(run="run-2")

    assert (again.plan.batches, again.plan.done) == ([], 2)
    forced = world.run(run="run-3", force=True)
    assert (forced.codes, list(forced.uploaded), forced.plan.done) == ([], [right], 1)
    assert len(world.recorder.sent) > sent
    assert world.row(wrong).state is BatchState.REPLACED
    assert shown(world) == RIGHT


def test_every_copy_that_was_forced_is_deleted(world: World) -> None:
    wrong = wrong_one(world)
    world.run(run="run-2", force=True)
    assert len(world.sets(wrong)) == 2
    right = right_one(world)

    world.upload(right)

    assert is_replaced(world, wrong, right)


def test_what_the_wrong_one_had_hidden_shows_again(world: World) -> None:
    world.stage([cbg(0, 5.0), cbg(10, 4.0)], "first", day=OLDER)
    assert world.run(Window(OLDER, OLDER)).codes == []
    wrong, right = wrong_one(world), right_one(world)
    assert shown(world) == [4.0, *WRONG]

    world.upload(right)

    # 5.0 was in both: the deletion of the wrong batch brings the first one's own row back.
    assert shown(world) == sorted([4.0, 5.0, *RIGHT])
    assert world.row(wrong).state is BatchState.REPLACED


def test_a_newer_day_of_what_is_replaced_does_not_hold_its_correction(world: World) -> None:
    wrong = wrong_one(world)
    world.stage(values_of(RIGHT), "right", day=OLDER, replaces="wrong")

    outcome = world.run(Window(OLDER, DAY))

    assert outcome.codes == []
    (right,) = outcome.uploaded
    assert is_replaced(world, wrong, right)


# ---------------------------------------------------------------- interrupted


def calls_of_a_replacement(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    killer = Killer(world, monkeypatch)
    wrong_one(world)
    number = right_one(world)
    killer.calls.clear()
    world.upload(number)
    return killer.calls


STEPS = [
    *["begin_upload", "begin_opening", "open_data_set", "mark_open"],
    *["begin_chunk", "upload_data", "chunk_stored"],
    *["begin_close", "close_data_set", "mark_closed", "read_data"],
    *["set_all", "open_data_set", "close_data_set", "delete_data_set"],
    *["begin_delete", "delete_data_set", "mark_deleted", "read_data"],
    *["mark_verified", "mark_verified"],
]
"""What replacing a batch does; the fourth and fifth lines are the old one's."""


def test_these_are_all_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert calls_of_a_replacement(world, monkeypatch) == STEPS


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(8, len(STEPS)), ids=[f"{at}-{STEPS[at]}" for at in range(8, len(STEPS))])
def test_killed_once(world: World, monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
    wrong, right = wrong_one(world), right_one(world)
    killer = Killer(world, monkeypatch)
    killer.strike(at, after=after)
    with pytest.raises(Killed):
        world.upload(right)
    killer.stand_down()

    outcome = world.run(run="run-2")

    assert (outcome.codes, outcome.plan.batches) in (([], [right]), ([], []))
    assert is_replaced(world, wrong, right)


@pytest.mark.parametrize("status", [None, 500, 504])
def test_a_deletion_in_doubt_is_asked_for_again(world: World, status: int | None) -> None:
    wrong, right = wrong_one(world), right_one(world)
    fault = Fault.lost_answer("delete") if status is None else Fault.refused("delete", status)
    world.simulator.faults.add(fault)
    with pytest.raises(TidepoolUnreachableError):
        world.upload(right)
    assert world.row(wrong).state is BatchState.REPLACED
    assert world.row(right).state is BatchState.UPLOADING

    world.resume(right)

    assert is_replaced(world, wrong, right)


def test_what_is_not_as_sent_after_the_deletion_is_repaired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, right = wrong_one(world), right_one(world)
    delete = world.client.delete_data_set
    deleted: list[str] = []

    def with_a_mishap(data_set_id: str) -> None:
        delete(data_set_id)
        if not deleted:
            delete(str(world.sets(right)[0].data_set_id))
        deleted.append(data_set_id)

    monkeypatch.setattr(world.client, "delete_data_set", with_a_mishap)

    world.upload(right)

    assert world.set_states(right) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert is_replaced(world, wrong, right)


def test_it_waits_for_whoever_is_at_work_on_the_old_one(world: World) -> None:
    wrong, right = wrong_one(world), right_one(world)
    with world.ledger.leases.held(f"batch:{wrong}", seconds=300), pytest.raises(LeaseHeldError) as caught:
        world.upload(right)

    assert caught.value.name == f"batch:{wrong}"
    assert world.row(wrong).state is BatchState.VERIFIED
    world.resume(right)
    assert is_replaced(world, wrong, right)


# ---------------------------------------------------------------- days that would be lost

DAY_LONG = 24 * 60


def of_days(*days: int, value: float = 5.0, **more: Any) -> list[dict[str, Any]]:
    return [cbg(day * DAY_LONG, value, **more) for day in days]


def test_a_file_of_fewer_days_is_held_and_the_old_one_stays(world: World) -> None:
    world.stage([*of_days(3, 4, 5, 6), bolus(5 * DAY_LONG)], "wrong")
    (wrong,) = world.run().uploaded
    folder = world.stage(of_days(4, 5, value=5.5), "right", replaces="wrong")

    outcome = world.run(run="run-2")

    assert outcome.codes == ["replaces-loses-days"]
    message = str(next(iter(outcome.errors.values())))
    assert "3 of its 4 days (bolus on 1, cbg on 2)" in message
    assert "meantAs" in message
    assert "2026-03" not in message.replace(str(DAY), "")  # no day of a record
    assert world.row(wrong).state is BatchState.VERIFIED
    assert len(world.visible()) == 5

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest |= {"meantAs": ["replaces-loses-days"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (right,) = world.run(run="run-3").uploaded
    assert (world.row(wrong).state, world.row(right).state) == (BatchState.REPLACED, BatchState.VERIFIED)
    assert [datum["value"] for datum in world.visible()] == [5.5, 5.5]
    assert world.all_right()


def test_a_file_of_the_same_days_and_more_is_not_held(world: World) -> None:
    world.stage(of_days(3, 5), "wrong")
    (wrong,) = world.run().uploaded
    right = world.ready(of_days(3, 4, 5, value=5.5), batch="right", replaces="wrong")
    world.upload(right)

    assert (world.row(wrong).state, world.row(right).state) == (BatchState.REPLACED, BatchState.VERIFIED)


def test_records_that_are_rejected_cover_no_day(world: World) -> None:
    world.stage(of_days(3, 4), "wrong")
    (wrong,) = world.run().uploaded
    rejected = of_days(4, value=5.5, units="furlongs")
    world.stage([*of_days(3, value=5.5), *rejected], "right", replaces="wrong")

    assert world.run(run="run-2").codes == ["replaces-loses-days"]
    assert world.row(wrong).state is BatchState.VERIFIED


def test_what_only_tidepool_rejects_covers_no_day_either(world: World) -> None:
    world.stage(of_days(3, 4), "wrong")
    (wrong,) = world.run().uploaded
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    records = [*of_days(3, value=5.5), *of_days(4, value=22.0)]
    right = world.ready(records, batch="right", replaces="wrong")
    for _ in range(2):
        with pytest.raises(ReplacesLosesDaysError, match="1 of its 2 days"):
            world.upload(right, max_rejected_percent=50)
        assert (world.row(wrong).state, world.row(right).state) == (BatchState.VERIFIED, BatchState.HELD)
        assert shown(world) == [5.0, 5.0]
    assert world.set_states(right) == [DataSetState.DELETED]  # the second time, none is opened

    meant = world.ready(records, batch="right", replaces="wrong", meantAs=["replaces-loses-days"])
    world.upload(meant, max_rejected_percent=50)
    assert (world.row(wrong).state, shown(world)) == (BatchState.REPLACED, [5.5])


def test_what_is_uploaded_in_parts_is_compared_as_a_whole(world: World) -> None:
    world.stage(of_days(3, 4, 5), "wrong")
    (wrong,) = world.run(part_records=1).uploaded
    with pytest.raises(ReplacesLosesDaysError, match="1 of its 3 days"):
        world.ready(of_days(3, 4, value=5.5), batch="right", replaces="wrong", part_records=1)
    assert world.row(wrong).state is BatchState.VERIFIED


# ---------------------------------------------------------------- what cannot be replaced


def refused(world: World, code: str, **staged: Any) -> None:
    """Stage a batch that replaces something, and see it refused before anything is opened."""
    world.stage(values_of(RIGHT), **{"batch": "right", **staged})
    world.recorder.sent.clear()

    outcome = world.run()

    assert code in outcome.codes
    (number, error) = next((n, e) for n, e in outcome.errors.items() if e.code == code)
    assert error.disposition is Disposition.DATA
    assert DEVICE not in str(error)
    assert world.user not in str(error)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.FAILED, code)
    assert world.sets(number) == []
    assert world.recorder.sent == []


def test_itself(world: World) -> None:
    refused(world, "replaces-itself", replaces="right")


def test_an_unknown_one(world: World) -> None:
    refused(world, "replaces-unknown", replaces="never-staged")


def test_one_of_another_user(world: World) -> None:
    wrong_one(world, user=world.add_user())
    refused(world, "replaces-unknown", replaces="wrong")


def test_one_of_another_device(world: World) -> None:
    wrong = wrong_one(world, data_set={"deviceId": "device-2"})
    refused(world, "replaces-other-device", replaces="wrong")
    assert world.row(wrong).state is BatchState.VERIFIED


def test_one_of_the_devices_feed(world: World) -> None:
    wrong = wrong_one(world)
    as_feed = update(batches).where(batches.c.id == wrong).values(data_set_type="continuous")
    with world.ledger.database.writing() as connection:
        connection.execute(as_feed)
        connection.execute(update(data_sets).values(data_set_type="continuous"))

    refused(world, "replaces-continuous", replaces="wrong")
    assert world.row(wrong).state is BatchState.VERIFIED


def test_one_that_is_not_verified(world: World) -> None:
    world.stage([cbg(0, 99)], "wrong")
    assert world.run().codes == ["too-many-refused"]
    refused(world, "replaces-not-verified", replaces="wrong")


def test_one_that_another_batch_has_replaced(world: World) -> None:
    wrong_one(world)
    world.upload(right_one(world))
    refused(world, "replaces-not-verified", batch="third", replaces="wrong", edits={"drop": ["payload"]})


def test_a_chain_of_corrections(world: World) -> None:
    first, second = wrong_one(world), right_one(world)
    world.upload(second)
    third = world.ready(values_of([8.0, 9.0]), batch="third", replaces="right")

    world.upload(third)

    assert [world.row(one).state for one in (first, second, third)] == [
        BatchState.REPLACED,
        BatchState.REPLACED,
        BatchState.VERIFIED,
    ]
    assert shown(world) == [8.0, 9.0]
