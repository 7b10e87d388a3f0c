"""The maintenance job brings to an end what was left, or deletes it, and leaves alone what is at work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from upath import UPath

from tests.factories import DAY, DEVICE, cbg, readings, set_batch_state, set_data_set_state, wizard
from tests.happenings import (
    double,
    forget_staged,
    forget_work_area,
    in_the_store,
    lose,
    reconcile,
    reconciliation,
    verified,
)
from tests.killing import CALLS, Killed, Killer
from tests.world import World, a_world
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.ledger.schema import leases
from tidepool_ingest.maintenance.reconcile import Reconciled
from tidepool_ingest.upload import withdraw_batch
from tidepool_ingest.upload.guarded_requests import UploadStoppedError
from tidepool_simulator.faults import Fault

ROWS = 7


def staged(world: World, **more: Any) -> int:
    """Stage and prepare six records that make seven rows and travel in three chunks."""
    return world.ready([*readings(5), wizard(10)], chunk_records=2, **more)


def left(world: World, monkeypatch: pytest.MonkeyPatch, at: str, *, after: bool = True, **more: Any) -> int:
    """Leave a batch where its task was killed at a request, and return its number."""
    number = staged(world, **more)
    with monkeypatch.context() as patch:
        call = getattr(world.client, at)

        def killed(*args: Any, **given: Any) -> Any:
            if after:
                call(*args, **given)
            raise Killed

        patch.setattr(world.client, at, killed)
        with pytest.raises(Killed):
            world.upload(number)
    return number


def is_done(world: World, number: int) -> bool:
    assert world.row(number).state is BatchState.VERIFIED
    assert world.sets(number)[-1].state is DataSetState.VERIFIED
    assert len(world.visible()) == ROWS
    return world.all_right()


# ---------------------------------------------------------------- brought to an end


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("reconcile"), empty_ledger, World) as world:
        yield world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, len(CALLS)), ids=[f"{at}-{CALLS[at]}" for at in range(1, len(CALLS))])
def test_wherever_a_task_was_killed_its_batch_is_brought_to_an_end(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, at: int, after: bool
) -> None:
    world = shared_world
    world.user = world.add_user()
    number = staged(world)
    killer = Killer(world, monkeypatch)
    killer.strike(at, after=after)
    with pytest.raises(Killed):
        world.upload(number)
    killer.stand_down()

    counts = reconcile(world)

    assert (counts.unfinished, counts.finished) == (1, 1)
    assert counts.failed == {}
    assert world.row(number).state is BatchState.VERIFIED
    assert world.sets(number)[-1].state is DataSetState.VERIFIED
    assert len(world.visible()) == ROWS
    assert reconcile(world).unfinished == 0


def test_what_was_left_is_noted_as_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")

    reconcile(world)

    assert is_done(world, number)
    assert world.sets(number)[-1].dag_id == "tidepool_reconcile"


def test_a_data_set_that_was_about_to_be_deleted_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    (data_set,) = world.sets(number)
    set_data_set_state(world.ledger, data_set.id, DataSetState.DELETING)

    reconcile(world)

    assert world.set_states(number) == [
        DataSetState.DELETED,
        DataSetState.VERIFIED,
    ]
    assert is_done(world, number)


def test_a_replacement_that_was_interrupted_is_completed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = verified(world, readings(3), "wrong")
    right = left(world, monkeypatch, "delete_data_set", after=False, batch="right", replaces="wrong")
    assert world.row(wrong).state is BatchState.REPLACED

    counts = reconcile(world)

    assert (counts.finished, counts.failed) == (1, {})
    assert world.sets(wrong)[-1].state is DataSetState.DELETED
    assert is_done(world, right)


def test_a_work_area_that_is_gone_is_made_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    forget_work_area(world, number)

    assert reconcile(world).finished == 1
    assert is_done(world, number)


# ---------------------------------------------------------------- left alone


def test_what_is_at_work_is_left_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    before = len(world.recorder.sent)

    with world.ledger.leases.held(f"batch:{number}", seconds=300):
        counts = reconcile(world)

    assert (counts.unfinished, counts.busy, counts.finished) == (1, 1, 0)
    assert len(world.recorder.sent) == before
    assert world.sets(number)[-1].state is DataSetState.OPEN


def test_what_was_left_a_moment_ago_is_not_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")

    assert reconcile(world, older_than_minutes=60).unfinished == 0
    assert world.sets(number)[-1].state is DataSetState.OPEN


def test_what_was_never_begun_is_for_the_upload(world: World) -> None:
    staged(world)

    assert reconcile(world) == Reconciled()


def test_what_was_done_is_told_in_sentences() -> None:
    assert Reconciled().sentences() == [
        "Nothing was unfinished, due to be verified again, or to be cleaned up."
    ]
    done = Reconciled(unfinished=2, finished=1, deleted=1, checked=1, tidied={"areas": 3})
    assert done.sentences() == [
        "2 unfinished batches: 1 completed, 1 data set deleted.",
        "1 batch verified again, 0 of them uploaded again; 0 rows superseded by later uploads.",
        "Cleaned up: 3 areas.",
    ]


# ---------------------------------------------------------------- deleted, never closed half


@pytest.mark.parametrize("at", ["open_data_set", "upload_data"])
def test_what_has_nothing_to_be_completed_from_is_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    number = left(world, monkeypatch, at)
    forget_work_area(world, number)
    forget_staged(world, number)

    counts = reconcile(world)

    assert (counts.finished, counts.deleted, counts.failed) == (0, int(at == "upload_data"), {})
    expected = DataSetState.DELETED if at == "upload_data" else DataSetState.UNREACHABLE
    assert world.set_states(number) == [expected]
    assert world.row(number).state is BatchState.FAILED
    assert [sent.method for sent in world.recorder.sent if sent.method == "PUT"] == []
    assert world.visible() == []
    assert not world.check().left_open
    assert reconcile(world).unfinished == 0


def test_a_close_that_was_never_carried_out_is_not_repeated_for_half_a_set(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = left(world, monkeypatch, "close_data_set", after=False)
    forget_work_area(world, number)
    forget_staged(world, number)

    assert reconcile(world).deleted == 1
    assert world.visible() == []


@pytest.mark.parametrize("left_rows", [ROWS - 1, 0], ids=["something", "nothing"])
def test_a_closed_set_stays_if_it_shows_anything(
    world: World, monkeypatch: pytest.MonkeyPatch, left_rows: int
) -> None:
    number = left(world, monkeypatch, "close_data_set")
    data_set_id = world.sets(number)[-1].data_set_id
    first = "SELECT seq FROM data WHERE upload_id = ? LIMIT ?"
    in_the_store(world, f"DELETE FROM data WHERE seq IN ({first})", data_set_id, ROWS - left_rows)
    forget_work_area(world, number)
    forget_staged(world, number)

    counts = reconcile(world)

    assert counts.deleted == (left_rows == 0)
    assert len(world.visible()) == left_rows


@pytest.mark.parametrize("at", ["close_data_set", "read_data"])
def test_a_closed_set_that_may_be_all_that_is_left_stays(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    number = left(world, monkeypatch, at)
    forget_work_area(world, number)
    forget_staged(world, number)
    # In windows of time, as every large set is read back; the ledger knows its days.
    world.timed(read_rows=ROWS // 2)
    world.simulator.requests.clear()

    counts = reconcile(world)

    assert sum(request.operation == "read-back" for request in world.simulator.requests) > 1
    assert (counts.deleted, counts.failed) == (0, {"unverifiable": 1})
    assert len(world.visible()) == ROWS
    world.stage([*readings(5), wizard(10)])
    assert world.run().codes == []
    assert is_done(world, number)


def test_what_a_guard_holds_is_not_uploaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    set_batch_state(world.ledger, number, BatchState.HELD, reason="too-many-refused")

    counts = reconcile(world)

    assert (counts.finished, counts.deleted) == (0, 1)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.HELD, "too-many-refused")
    assert world.visible() == []


# ---------------------------------------------------------------- several


def test_one_that_cannot_be_put_in_order_does_not_keep_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = left(world, monkeypatch, "upload_data")
    stranger = world.add_user()
    other = left(world, monkeypatch, "upload_data", user=stranger)
    world.simulator.faults.add(Fault.refused("post", 403))

    counts = reconcile(world)

    assert (counts.unfinished, counts.finished, counts.failed) == (2, 1, {"tidepool-permission": 1})
    assert {world.row(first).state, world.row(other).state} == {BatchState.UPLOADING, BatchState.VERIFIED}
    assert reconcile(world).finished == 1


def test_what_may_pass_is_left_for_the_next_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    world.simulator.faults.add(Fault.refused("close", 503, times=10))

    counts = reconcile(world)

    assert (counts.later, counts.failed) == (1, {})
    world.simulator.faults.clear()
    assert reconcile(world).finished == 1
    assert is_done(world, number)


def test_it_stops_between_two_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = left(world, monkeypatch, "upload_data")
    job = reconciliation(world)
    send = world.client.upload_data

    def and_stop(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        job.stop()

    monkeypatch.setattr(world.client, "upload_data", and_stop)

    with pytest.raises(UploadStoppedError):
        job.run()

    assert world.row(number).state is BatchState.UPLOADING
    monkeypatch.undo()
    assert reconcile(world).finished == 1


def test_claims_of_the_dead_are_taken_out(world: World) -> None:
    now = datetime.now(UTC)
    with world.ledger.database.writing() as connection:
        for name, expires_at in (
            ("batch:1", now - timedelta(hours=2)),
            ("batch:2", now + timedelta(hours=2)),
        ):
            connection.execute(insert(leases).values(name=name, owner="x", fence=3, expires_at=expires_at))

    assert reconcile(world).leases == 1
    assert reconcile(world).leases == 0
    with world.ledger.leases.held("batch:1", seconds=1):
        pass


# ---------------------------------------------------------------- verified


CHECKING = {"check_batches": 10, "check_after_days": 0}


def test_verified_batches_are_looked_at_again_those_first_that_wait_longest(world: World) -> None:
    older = verified(world, readings(4))
    newer = verified(world, readings(4, first=2), "two", day=DAY + timedelta(days=1))

    first = reconcile(world, check_batches=1, check_after_days=0)

    assert (first.checked, first.superseded_rows) == (1, 2)
    assert world.sets(older)[0].superseded_rows == 2
    assert world.sets(newer)[0].checked_at is None
    second = reconcile(world, check_batches=1, check_after_days=0)
    assert (second.checked, second.superseded_rows) == (1, 0)
    assert world.sets(newer)[0].checked_at is not None
    assert reconcile(world, check_batches=10, check_after_days=1).checked == 0


def test_what_was_lost_or_doubled_since_is_repaired(world: World) -> None:
    number = verified(world, readings(5))
    lose(world, number, 2)

    counts = reconcile(world, **CHECKING)

    assert (counts.checked, counts.repaired, counts.failed) == (1, 1, {})
    assert len(world.visible()) == 5
    double(world, number)
    assert reconcile(world, **CHECKING).repaired == 1
    assert len(world.visible()) == 5
    assert world.all_right()


def test_without_repair_it_is_told(world: World) -> None:
    number = verified(world, readings(5))
    lose(world, number, 2)

    counts = reconcile(world, **CHECKING, repair=False)

    assert (counts.repaired, counts.failed) == (0, {"changed-since-verified": 1})
    assert world.row(number).reason == "changed-since-verified"


def test_what_an_undone_upload_had_superseded_is_checked_at_once(world: World) -> None:
    world.simulator.store.undo_loses = True
    older = verified(world, readings(5))
    undone = verified(world, readings(6, first=2), "two")
    verified(world, readings(4, first=6), "three", day=DAY + timedelta(days=1))
    withdraw_batch(world.context(), world.row(undone))
    assert len(world.visible()) == 6  # Tidepool shows neither what was undone nor all that it had superseded

    counts = reconcile(world, check_batches=10, check_after_days=30)

    assert counts.failed == {"changed-since-verified": 1}
    assert world.row(older).reason == "changed-since-verified"


def test_what_has_no_work_area_cannot_be_checked_and_keeps_no_other_from_it(world: World) -> None:
    gone = verified(world, readings(3))
    verified(world, [cbg(50)], "two")
    forget_work_area(world, gone)
    forget_staged(world, gone)

    counts = reconcile(world, check_batches=1, check_after_days=0)

    assert (counts.checked, counts.uncheckable) == (1, 1)


def test_a_work_area_that_is_lost_is_made_again_to_be_checked(world: World) -> None:
    number = verified(world, readings(3))
    forget_work_area(world, number)

    counts = reconcile(world, check_batches=1, check_after_days=0)

    assert (counts.checked, counts.uncheckable, dict(counts.failed)) == (1, 0, {})


def test_the_report_holds_numbers_only(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    number = verified(world, readings(5))
    lose(world, number, 2)
    left(world, monkeypatch, "upload_data", user=world.add_user())
    with caplog.at_level("DEBUG"):
        counts = reconcile(world, **CHECKING, repair=False)

    said = json.dumps(counts.summary()) + "".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("uvicorn")
    )
    assert world.user not in said
    assert DEVICE not in said
    assert counts.summary()["failed"] == {"changed-since-verified": 1}


# ---------------------------------------------------------------- several staging roots


def test_a_batch_of_another_root_is_completed_there(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    number = left(world, monkeypatch, "close_data_set")
    own = UPath(tmp_path / "own")
    own.mkdir()

    counts = reconcile(world, root=own, root_of=lambda _row: world.root)

    assert (counts.finished, counts.deleted) == (1, 0)
    assert world.row(number).state is BatchState.VERIFIED


@pytest.mark.parametrize("falls_back", [False, True], ids=["gone", "own-root-instead"])
def test_a_batch_whose_root_is_not_here_is_left_for_later(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, falls_back: bool
) -> None:
    number = left(world, monkeypatch, "close_data_set")
    own, gone = UPath(tmp_path / "own"), UPath(tmp_path / "gone")
    own.mkdir()

    counts = reconcile(world, root=own, root_of=lambda _row: own if falls_back else gone)

    assert (counts.later, counts.finished, counts.deleted, counts.failed) == (1, 0, 0, {})
    assert world.row(number).state is BatchState.UPLOADING
    assert reconcile(world).finished == 1
