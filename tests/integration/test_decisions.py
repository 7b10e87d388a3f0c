"""What a person has declined or dismissed stays so, whatever run comes, until a run names that very batch."""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import DAY, readings
from tests.happenings import reconcile
from tests.world import World
from tidepool_ingest import plan
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.guards import Decision, apply_decision, record_decision, reopen
from tidepool_ingest.ledger import DECLINED, BatchState, DataSetState, Dismissal, TaskOrigin, UploadFilter
from tidepool_ingest.run import Run
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault

NEXT_DAY = DAY + timedelta(days=1)
WIDE = Window(DAY - timedelta(days=30), DAY + timedelta(days=30))


def decided(world: World, how: str, records: int = 5, batch: str = "one", **staged: Any) -> int:
    """Stage a batch that a guard holds, and decide that nothing more is done about it."""
    folder = world.stage(readings(records), batch, **staged)
    day = staged.get("day", DAY)
    (number,) = [n for n in world.plan(Window(day, day)).batches if world.row(n).folder == str(folder)]
    world.prepare(number)
    world.ledger.batches.hold(number, "older-than-uploaded")
    decide(world, how, number)
    return number


def decide(world: World, how: str, number: int) -> None:
    if how == "declined":
        world.ledger.batches.decline(number)
    else:
        assert world.ledger.attention.dismiss([number], Dismissal.NOT_WANTED, actor="ada") == [number]


def list_of(world: World, *, decided: bool = False) -> list[int]:
    wanted = UploadFilter(decided=True) if decided else UploadFilter(waiting=True)
    return [upload.batch for upload in world.ledger.uploads.page(wanted)]


@pytest.fixture(params=["declined", "dismissed"])
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_no_other_run_takes_it(world: World, how: str) -> None:
    number = decided(world, how)
    before = world.row(number)
    world.stage(readings(5, first=50), "another")
    (another,) = world.plan().batches
    for run in (
        {"dry_run": True, "first_day": DAY},
        {"batches": [another]},
        {},
        {"force": True},
        {"first_day": DAY, "last_day": DAY},
        {"force": True, "first_day": DAY},
        {"users": [world.user]},
    ):
        made = world.run(**run).plan

        assert number not in made.batches, run
        assert world.row(number) == before, run
        if "batches" not in run:
            assert (made.declined, made.dismissed) == ((1, 0) if how == "declined" else (0, 1)), run
            told = {"rejected": made.declined, "dismissed": made.dismissed}
            assert told.items() <= made.summary().items()
            assert f"1 batch that somebody has {how}" in made.sentence()
    assert world.plan(Window(NEXT_DAY, NEXT_DAY)).days_outside == []
    assert plan.unfinished(world.root, world.ledger, world.host_of) == {}


def test_a_run_that_names_it_takes_it_and_nothing_else(world: World, how: str) -> None:
    number = decided(world, how, day=NEXT_DAY)
    world.stage(readings(5, first=50), "beside", day=NEXT_DAY)
    world.stage(readings(5, first=80), "of-its-days")

    outcome = world.run(Window(DAY, DAY), batches=[number], users=["0123456789"])

    assert outcome.codes == []
    assert outcome.plan.batches == [number]
    assert outcome.plan.days_outside == []
    assert outcome.plan.users_not_found == 0
    assert outcome.plan.sentence() == "Of the 1 upload that it names, this run takes 1 batch."
    row = world.row(number)
    assert (row.state, row.reason, row.dismissed) == (BatchState.VERIFIED, None, None)
    assert len(world.plan(WIDE).batches) == 2


def test_what_a_run_names_and_does_not_find_is_counted(world: World) -> None:
    world.stage(readings(5), "done")
    (done,) = world.run().plan.batches
    number = world.ready(readings(5, first=50), batch="one")
    shutil.rmtree(world.staging / str(DAY) / world.user / "one")

    made = world.plan(batches=[done, number, 77])

    assert (made.batches, made.done, made.named, made.named_not_found) == ([], 1, 3, 2)
    assert made.sentence() == (
        "Of the 3 uploads that it names, this run takes no batch; it leaves 1 batch done already, "
        "2 not staged where they were."
    )
    assert world.plan(batches=[done], force=True).batches == [done]


def test_what_stands_in_its_folder_now_is_taken_in_its_place(world: World) -> None:
    """As once its manifest is repaired, or its file corrected."""
    folder = world.stage(readings(5))
    (folder / "manifest.json").write_text("{")
    (unreadable,) = world.run().plan.batches
    world.stage(readings(5))

    outcome = world.run(Window(NEXT_DAY, NEXT_DAY), batches=[unreadable])

    (repaired,) = outcome.plan.batches
    assert repaired != unreadable
    assert world.row(repaired).state is BatchState.VERIFIED
    # Its page still says what was wrong with it.
    assert world.row(unreadable).state is BatchState.OVERWRITTEN
    assert world.row(unreadable).reason == "manifest-malformed"


def test_a_decision_about_what_stands_in_its_folder_now_outlasts_that_too(world: World, how: str) -> None:
    folder = world.stage(readings(5))
    (folder / "manifest.json").write_text("{")
    (unreadable,) = world.run().plan.batches
    other = decided(world, how, records=9, batch="other")
    shutil.rmtree(folder.with_name("other"))
    world.stage(readings(9))

    made = world.plan(batches=[unreadable])

    assert (made.batches, made.declined + made.dismissed) == ([], 1)
    assert world.row(other).is_decided
    assert world.row(other).folder == str(folder)


def test_the_whole_batch_is_meant_where_a_part_is_named(world: World) -> None:
    number = world.ready(readings(40), part_records=10)
    part = world.ledger.parts.of_batch(number)[0].id

    assert world.plan(batches=[part]).batches == [number]


def test_a_namesake_under_another_root_is_not_meant(world: World) -> None:
    number = world.ready(readings(5))
    elsewhere = Path(world.folder) / "elsewhere"
    world.staging.rename(elsewhere)
    world.stage(readings(9))
    (other,) = world.plan().batches
    world.root = type(world.root)(elsewhere)

    assert world.plan(batches=[other]).batches == []
    assert world.plan(batches=[number]).batches == [number]


def test_the_maintenance_does_not_resume_what_was_dismissed(world: World) -> None:
    number = world.ready(readings(5))
    world.simulator.faults.add(Fault.refused("post", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.clear()
    world.ledger.batches.mark_unfinished(number, "tidepool-permission")
    decide(world, "dismissed", number)

    counts = reconcile(world)

    assert (counts.finished, counts.deleted, dict(counts.failed)) == (0, 1, {})
    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.FAILED, "tidepool-permission")
    assert row.dismissed is Dismissal.NOT_WANTED
    assert {data_set.state for data_set in world.sets(number)} == {DataSetState.DELETED}
    assert world.visible() == []


def test_what_was_found_changed_and_dismissed_is_not_repaired(world: World) -> None:
    world.stage(readings(5))
    (number,) = world.run().plan.batches
    world.ledger.batches.set_reason(number, "changed-since-verified")
    decide(world, "dismissed", number)
    world.client.delete_data_set(str(world.sets(number)[0].data_set_id))

    counts = reconcile(world, check_batches=10, check_after_days=0)

    assert (counts.checked, counts.repaired, dict(counts.failed)) == (0, 0, {})
    assert world.row(number).is_decided
    assert world.plan(force=True).batches == []


def test_a_split_batch_that_was_found_changed_and_dismissed_is_not_repaired(world: World) -> None:
    number = world.ready(readings(40), part_records=10)
    world.upload(number)
    part = world.ledger.parts.of_batch(number)[0]
    for one in (part.id, number):
        world.ledger.batches.set_reason(one, "changed-since-verified")
    decide(world, "dismissed", number)
    world.client.delete_data_set(str(world.sets(part.id)[0].data_set_id))

    counts = reconcile(world, check_batches=10, check_after_days=0)

    assert (counts.checked, counts.repaired, dict(counts.failed)) == (0, 0, {})
    assert world.row(number).is_decided


# ---------------------------------------------------------------- two at once


def test_a_decision_outlasts_a_task_that_was_at_work_meanwhile(world: World, how: str) -> None:
    number = decided(world, how)
    before = world.row(number).reason

    world.prepare(number)

    row = world.row(number)
    assert (row.state, row.reason, row.is_decided) == (BatchState.PREPARED, before, True)
    assert list_of(world, decided=True) == [number]
    assert world.run(force=True).plan.batches == []
    reopen(world.ledger, [number], actor="ada")
    assert world.run().plan.batches == [number]
    assert world.row(number).state is BatchState.VERIFIED


def test_what_was_declined_and_stops_for_another_reason_stays_declined(world: World) -> None:
    number = decided(world, "declined")

    world.ledger.batches.hold(number, "replaces-not-verified", "in file 2")
    world.ledger.batches.mark_failed(number, "file-missing")

    row = world.row(number)
    assert (row.state, row.reason, row.reason_detail) == (BatchState.FAILED, DECLINED, None)


def test_a_run_heeds_a_decision_unless_it_has_asked_for_it_since_it_was_started(world: World) -> None:
    number = decided(world, "dismissed")
    this, other = (TaskOrigin(dag_id="dag", run_id=run) for run in ("this", "other"))
    started = world.ledger.database.now()

    def leaves(since: datetime = started, **options: Any) -> bool:
        run = Run(
            ledger=world.ledger,
            options=world.options(**options),
            origin=this,
            turns_of=("dag", "this"),
            asked_at=since,
        )
        return run.is_left_alone(world.row(number))

    def answer(decision: Decision, run: TaskOrigin) -> None:
        record_decision(world.ledger, world.row(number), decision, actor="ada", run=run)
        apply_decision(world.ledger, world.row(number), decision)

    assert leaves()
    assert not leaves(dry_run=True)
    reopen(world.ledger, [number], actor="ada")
    assert not leaves()
    answer(Decision.APPROVE, this)
    assert not leaves()
    answer(Decision.DECLINE, other)
    assert leaves(), "though this run was told to upload it before"
    answer(Decision.DECLINE, this)
    assert not leaves(), "it is this run that has to say so"
    assert leaves(world.ledger.database.now() + timedelta(seconds=1)), "once it is cleared"
    answer(Decision.APPROVE, this)
    assert (world.row(number).state, world.row(number).reason) == (BatchState.PREPARED, None)


# ---------------------------------------------------------------- what leaves the list by itself


def failing(world: World, batch: str = "one", **staged: Any) -> tuple[int, Path]:
    folder = world.stage(readings(5), batch, file={"sha256": "0" * 64}, **staged)
    outcome = world.run(WIDE)
    assert outcome.codes == ["file-sha256"]
    (number,) = outcome.errors
    assert number in list_of(world)
    return number, folder


def test_a_decision_follows_its_batch_to_another_day_and_folder(world: World, how: str) -> None:
    number = decided(world, how)
    folder = world.staging / str(DAY) / world.user / "one"
    to = world.staging / str(NEXT_DAY) / world.user / "two"
    to.parent.mkdir(parents=True)
    folder.rename(to)

    assert world.plan(WIDE).batches == []

    row = world.row(number)
    assert (row.day, row.batch_id, row.is_decided) == (NEXT_DAY, "two", True)
    assert world.plan(batches=[number]).batches == [number]


def test_a_decision_outlasts_that_its_folder_was_away(world: World, how: str) -> None:
    world.stage(readings(5, first=50), "another")
    world.run()
    number = decided(world, how)
    folder = world.staging / str(DAY) / world.user / "one"
    folder.rename(world.folder / "away")
    for _ in range(2):
        world.plan()
    assert world.row(number).state is BatchState.GONE
    assert list_of(world, decided=True) == []
    (world.folder / "away").rename(folder)

    assert world.run().plan.batches == []

    assert (world.row(number).state, world.row(number).is_decided) == (BatchState.PLANNED, True)
    assert list_of(world, decided=True) == [number]
    reopen(world.ledger, [number], actor="ada")
    assert world.plan().batches == [number]
    assert world.row(number).reason != DECLINED


@pytest.mark.parametrize(
    "way", ["removed", "moved", "staged anew", "staged anew elsewhere", "manifest repaired", "root moved"]
)
def test_what_is_gone_or_was_staged_anew_leaves_the_list(world: World, way: str) -> None:
    world.stage(readings(5, first=50), "another")
    world.run()
    if way == "manifest repaired":
        folder = world.stage(readings(5))
        (folder / "manifest.json").write_text("{")
        (number,) = world.run().errors
    else:
        number, folder = failing(world)
    match way:
        case "removed":
            shutil.rmtree(folder)
        case "moved":
            to = world.staging / str(NEXT_DAY) / world.user / "one"
            to.parent.mkdir(parents=True)
            folder.rename(to)
            (to / "manifest.json").write_text(
                (to / "manifest.json").read_text().replace(', "sha256": "' + "0" * 64 + '"', "")
            )
        case "staged anew elsewhere":
            shutil.rmtree(folder)
            world.stage(readings(7), "corrected", day=NEXT_DAY)
        case "root moved":
            moved = world.folder / "moved"
            world.staging.rename(moved)
            world.root = type(world.root)(moved)
            world.stage(readings(7))
        case _:
            world.stage(readings(7))

    for _ in range(2):
        assert world.run(WIDE).codes == []

    assert list_of(world) == []
    assert not world.row(number).state.is_done


def test_a_root_that_was_moved_ends_what_is_not_in_it_and_an_unmounted_one_nothing(
    world: World,
) -> None:
    world.stage(readings(5, first=50), "another")
    world.run()
    number, folder = failing(world)
    old, new = world.staging, world.folder / "moved"
    shutil.copytree(old, new)
    shutil.rmtree(new / folder.relative_to(old))
    world.root = type(world.root)(new)
    for _ in range(3):
        world.run()
    assert list_of(world) == [number]  # its own root is there
    shutil.rmtree(old)
    old.mkdir()
    for _ in range(3):
        world.run()
    assert list_of(world) == [number]  # where a share was mounted
    old.rmdir()
    for _ in range(2):
        world.run()

    assert world.row(number).state is BatchState.GONE
