"""Rows that would wait for a person for ever: their folder is not there, or holds something else by now."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.factories import DAY, readings
from tests.world import World
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.guards import SupersededBatchError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.whole_batches import IS_WHOLE
from tidepool_ingest.staging import batches as listing
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault

NEXT_DAY = DAY.replace(day=DAY.day + 1)
BOTH = Window(DAY, NEXT_DAY)


def rows(world: World) -> list[tuple[str, str, str | None]]:
    """Return batch id, state and reason of every row, oldest first."""
    query = batches.select().where(IS_WHOLE).order_by(batches.c.id)
    with world.ledger.database.reading() as connection:
        return [(row.batch_id, row.state, row.reason) for row in connection.execute(query)]


def states(world: World, batch: str = "one") -> list[str]:
    return [state for name, state, _reason in rows(world) if name == batch]


def failing(world: World, batch: str = "one", **staged: object) -> Path:
    """Stage a batch that cannot be read, and let a run fail at it."""
    folder = world.stage(readings(5), batch, file={"sha256": "0" * 64}, **staged)  # type: ignore[arg-type]
    assert world.run(BOTH).codes == ["file-sha256"]
    return folder


def test_a_file_that_was_away_for_a_moment_leaves_nothing_behind(world: World) -> None:
    folder = world.stage(readings(20))
    world.run()
    (folder / "data.ndjson").rename(folder / "data.away")
    assert world.run().codes == ["file-missing"]
    assert world.ledger.uploads.waiting() == 1
    (folder / "data.away").rename(folder / "data.ndjson")

    world.run()

    assert rows(world) == [("one", "verified", None), ("one", "overwritten", None)]
    assert world.ledger.uploads.waiting() == 0
    assert world.all_right()


def test_a_folder_that_was_removed_ends_its_row_at_the_second_plan(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    shutil.rmtree(failing(world))

    world.plan()
    assert ("one", "failed", "file-sha256") in rows(world)
    world.plan()

    assert ("one", "gone", None) in rows(world)
    assert world.ledger.uploads.waiting() == 0


@pytest.mark.parametrize("state", ["planned", "prepared", "held"])
def test_so_do_other_batches_of_which_nothing_was_sent(world: World, state: str) -> None:
    world.stage([], "other", day=NEXT_DAY, content=b"x")
    number = world.ready(readings(5))
    match state:
        case "planned":
            world.ledger.batches.mark_failed(number, None)
        case "held":
            world.ledger.batches.hold(number, "older-than-uploaded")
    shutil.rmtree(world.staging / str(DAY))  # of an object store, an empty day is not there

    world.plan()
    world.plan()

    assert world.row(number).state is BatchState.GONE
    with pytest.raises(SupersededBatchError):
        world.upload(number)


def test_a_folder_that_comes_back_in_between_is_not_gone(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    folder = failing(world)
    away = Path(world.folder) / "away"
    for _ in range(2):
        folder.rename(away)
        world.plan()
        away.rename(folder)
        world.plan()

    assert states(world) == ["failed"]


def test_what_is_gone_is_planned_when_it_is_staged_once_more(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    number = world.ready(readings(20))
    shutil.rmtree(world.staging / str(DAY) / world.user / "one")
    world.plan()
    world.plan()
    assert world.row(number).state is BatchState.GONE

    world.stage(readings(20))
    world.run()

    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()


@pytest.mark.parametrize("unmount", [shutil.rmtree, lambda root: root.rename(root.with_name("away"))])
@pytest.mark.parametrize("leaves_mount_point", [True, False])
def test_an_unmounted_share_ends_nothing(
    world: World, unmount: Callable[[Path], object], leaves_mount_point: bool
) -> None:
    failing(world)
    root = world.staging
    unmount(root)
    if leaves_mount_point:
        root.mkdir()

    for _ in range(3):
        with nullcontext() if leaves_mount_point else pytest.raises(BatchError, match="staging-root-missing"):
            world.plan()

    assert rows(world) == [("one", "failed", "file-sha256")]


def test_a_day_that_cannot_be_listed_ends_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stage(readings(20, first=50), "other", day=NEXT_DAY)
    shutil.rmtree(failing(world))
    list_folder = listing._list

    def unreadable(folder: object, below_root: int) -> object:
        if str(DAY) in str(folder):
            raise BatchError("staging-unreadable")
        return list_folder(folder, below_root)  # type: ignore[arg-type]

    monkeypatch.setattr(listing, "_list", unreadable)
    for _ in range(3):
        world.plan(Window(NEXT_DAY, NEXT_DAY))

    assert states(world) == ["failed"]


def test_a_plan_of_other_days_ends_it_too(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    shutil.rmtree(failing(world))

    for _ in range(2):
        world.plan(Window(NEXT_DAY, NEXT_DAY))

    assert ("one", "gone", None) in rows(world)


def test_a_run_for_some_users_ends_nothing_of_others(world: World) -> None:
    failing(world)
    other = world.add_user()
    world.stage(readings(5), "b-0002", user=other)

    for _ in range(3):
        world.plan(users=[other])

    assert states(world) == ["failed"]


def test_one_that_was_staged_anew_on_another_day_is_replaced_by_that(world: World) -> None:
    shutil.rmtree(failing(world))
    world.stage(readings(20), day=NEXT_DAY)

    for _ in range(2):
        world.run(BOTH)

    assert rows(world) == [("one", "overwritten", None), ("one", "verified", None)]
    assert world.all_right()


def test_the_same_content_in_another_folder_is_the_same_row(world: World) -> None:
    number = world.ready(readings(20))
    world.ledger.batches.decline(number)
    folder = world.staging / str(DAY) / world.user / "one"
    folder.rename(folder.with_name("b-0009"))

    world.plan(Window(NEXT_DAY, NEXT_DAY))
    world.plan()
    world.plan()

    assert world.row(number).state in (BatchState.HELD, BatchState.PLANNED)


def test_what_tidepool_may_hold_data_of_is_never_gone(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    number = world.ready(readings(20))
    world.simulator.faults.add(Fault.refused("close", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.ledger.batches.hold(number, "older-than-uploaded")
    shutil.rmtree(world.staging / str(DAY) / world.user / "one")

    for _ in range(3):
        world.plan()

    assert world.row(number).state is BatchState.HELD


def test_a_giant_one_goes_with_its_parts(world: World) -> None:
    world.stage(readings(20, first=50), "b-0002")
    number = world.ready(readings(40), part_records=10)
    parts = [part.id for part in world.ledger.parts.of_batch(number)]
    assert parts
    shutil.rmtree(world.staging / str(DAY) / world.user / "one")

    for _ in range(2):
        world.plan()

    assert world.row(number).state is BatchState.GONE
    assert {world.row(part).state for part in parts} == {BatchState.OVERWRITTEN}
