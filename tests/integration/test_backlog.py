"""A backlog of one device goes up in order, whatever starts first; only other values are held."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from tests.factories import DAY, HASH, TRUNCATE, readings
from tests.overlaps import (
    BOTH,
    OLDER,
    RIGHT,
    WRONG,
    amounts,
    closes,
    dose,
    held,
    ready,
    shown,
    values_of,
    verified,
)
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import OlderThanUploadedError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.ledger.database import OlderFirstError, now_of
from tidepool_ingest.ledger.schema import turns
from tidepool_ingest.packs import PackWork
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.window import Window

RUN = ("dag", "run-1")
READ_OUTS = 5


@pytest.fixture(autouse=True)
def _no_waiting(world: World) -> None:
    """Nobody waits for its turn with its slot here: a batch that has to wait is started again later."""
    world.timed(slot=0.0, usual_close=0.0)


def stage_backlog(world: World, days: list[date], **more: Any) -> None:
    """Stage read-outs that overlap; each tells a dose anew, as only the newest has it right."""
    for number in range(READ_OUTS):
        records = readings(6, first=3 * number) + dose(1 + number, minute=100)
        # Their names are in no order.
        world.stage(records, f"batch-{-number % 3}-{number}", day=days[number], **_staged(number), **more)


def _staged(number: int) -> dict[str, str]:
    return {"stagedAt": f"2026-03-06T10:00:00.{number:06}Z"}


def start(world: World, numbers: Iterable[int], run: str = RUN[1], **options: Any) -> list[int]:
    """Start batches in this order, those that have to wait again and again; return the order of success."""
    waiting, done = list(numbers), []
    for _ in range(READ_OUTS * len(waiting)):
        if not waiting:
            break
        number = waiting.pop(0)
        try:
            world.prepare(number, run=run, **options)
            world.upload(number, run=run, **options)
        except IngestError as error:
            if not error.waits:
                world.ledger.turns.end(number, *RUN)
                raise
            waiting.append(number)
        else:
            world.ledger.turns.end(number, *RUN)
            done.append(number)
    assert not waiting
    return done


def planned(world: World, window: Window | None = None, **options: Any) -> list[int]:
    numbers = world.plan(window, **options).batches
    world.ledger.turns.plan(*RUN, dict.fromkeys(numbers))
    return numbers


@pytest.mark.parametrize("days", [[DAY] * READ_OUTS, [DAY + timedelta(n) for n in range(READ_OUTS)]])
@pytest.mark.parametrize("seed", range(3))
def test_whatever_starts_first_a_backlog_goes_up_in_order(world: World, days: list[date], seed: int) -> None:
    stage_backlog(world, days)
    window = Window(days[0], days[-1])
    numbers = planned(world, window)
    assert [world.row(number).batch_id[-1] for number in numbers] == list("01234")

    shuffled = random.Random(seed).sample(numbers, len(numbers))
    assert start(world, shuffled) == numbers
    assert closes(world) == [str(world.sets(number)[0].data_set_id) for number in numbers]
    assert amounts(world, types=["bolus"]) == [READ_OUTS]
    assert len(world.visible(types=["cbg"])) == 6 + 3 * (READ_OUTS - 1)
    assert world.all_right()

    assert world.run(window).uploaded == {}
    world.recorder.sent.clear()
    again = planned(world, window, force=True)
    assert start(world, again[::-1], "run-2", force=True, allow_older=True) == numbers
    assert amounts(world, types=["bolus"]) == [READ_OUTS]
    assert world.all_right()


def test_a_forced_run_holds_nothing_where_no_value_differs(world: World) -> None:
    for number in range(3):
        world.stage(readings(6, first=3 * number), f"batch-{number}")
    world.run()

    numbers = planned(world, force=True)

    assert start(world, numbers[::-1], "run-2", force=True) == numbers
    assert world.all_right()


# ---------------------------------------------------------------- nobody waits for what will not run


def end(world: World, number: int) -> None:
    world.ledger.turns.end(number, *RUN)


def expire(world: World, number: int) -> None:
    with world.ledger.database.writing() as connection:
        connection.execute(update(turns).values(expires_at=now_of(connection)))


def end_run(world: World, number: int) -> None:
    world.ledger.turns.end_run(*RUN)


@pytest.mark.parametrize("over", [end, expire, end_run])
def test_an_older_batch_that_will_not_run_holds_up_nobody(
    world: World, over: Callable[[World, int], None]
) -> None:
    older, newer = ready(world, dose(1), OLDER, "older"), ready(world, dose(2), DAY, "newer")
    world.ledger.turns.plan(*RUN, {older: 0, newer: 1})
    with pytest.raises(OlderFirstError) as caught:
        world.upload(newer)
    assert caught.value.batches == (older,)
    assert closes(world) == []

    over(world, older)
    world.upload(newer)

    assert amounts(world) == [2]
    with pytest.raises(OlderThanUploadedError):
        world.upload(older)


def test_a_batch_that_is_not_prepared_yet_is_waited_for_and_one_of_other_days_is_not(world: World) -> None:
    newer = ready(world, dose(2), DAY, "newer")
    world.stage(dose(1, 1440), "older", day=OLDER)
    (older,) = planned(world, Window(OLDER, OLDER))

    with pytest.raises(OlderFirstError):
        world.upload(newer)
    world.prepare(older)
    world.upload(newer)

    assert amounts(world) == [2]


def test_what_was_about_to_be_closed_does_not_wait_for_an_older_one_that_waits_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = ready(world, dose(1), OLDER, "older"), ready(world, dose(2), DAY, "newer")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "read_data", killed)
        with pytest.raises(KeyboardInterrupt):
            world.upload(newer)
    world.ledger.turns.plan(*RUN, {older: 0, newer: 1})

    with pytest.raises(IngestError) as caught:
        world.upload(older)
    assert (caught.value.code, caught.value.waits) == ("newer-at-close", True)
    world.resume(newer)

    assert world.row(newer).state is BatchState.VERIFIED


def test_a_batch_waits_for_what_it_replaces(world: World) -> None:
    world.stage(values_of(WRONG), "a-wrong-one")
    world.stage(values_of(RIGHT), "right", replaces="a-wrong-one")
    numbers = planned(world)

    assert start(world, numbers[::-1]) == numbers

    assert shown(world) == RIGHT


def test_in_a_pack_waiting_is_no_failure(world: World) -> None:
    older = ready(world, dose(1), OLDER, "older")
    newer = [ready(world, dose(2), DAY, "one"), ready(world, dose(3), DAY, "two")]
    world.ledger.turns.plan(*RUN, {older: 0})
    rows = [world.row(number) for number in newer]

    outcome = PackWork(rows).run(lambda row, share: world.upload(row.id) and None)

    assert (outcome.done, outcome.failed) == ([], {})
    assert [error.code for error in outcome.waiting] == ["older-first"]


# ---------------------------------------------------------------- only other values are held


def forget_work_area(world: World, number: int) -> None:
    WorkArea(world.root, world.row(number).content_key).discard()


@pytest.mark.parametrize("is_there", [True, False], ids=["prepared", "cleaned-up"])
@pytest.mark.parametrize("day", [OLDER, DAY], ids=["earlier-day", "same-day"])
def test_an_older_batch_is_held_only_where_a_value_differs(world: World, day: date, is_there: bool) -> None:
    overlap = readings(4) + dose(2, 60)
    newer = verified(world, overlap, batch="newest")
    if not is_there:
        forget_work_area(world, newer)
    world.stage(readings(8, first=2)[:3] + dose(2, 60), "a-same", day=day)
    world.stage(readings(3) + dose(1, 60), "a-unlike", day=day)

    outcome = world.run(BOTH)

    assert outcome.codes == ["older-than-uploaded"]
    (number,) = outcome.errors
    assert world.row(number).batch_id == "a-unlike"
    assert held(world, number)
    assert amounts(world, types=["bolus"]) == [2]
    assert len(world.visible(types=["cbg"])) == 5
    assert not world.check().left_open


def test_of_several_newer_batches_the_newest_counts(world: World) -> None:
    verified(world, dose(1), batch="second")
    verified(world, dose(3), batch="third")
    world.stage(dose(3), "first", day=OLDER)

    assert world.run(BOTH).codes == []
    assert amounts(world) == [3]


def test_what_deletes_everything_is_held_whatever_the_values(world: World) -> None:
    verified(world, dose(2), batch="newest", data_set={"deduplicator": {"name": HASH}})
    world.stage(dose(2), "a-truncating", data_set={"deduplicator": {"name": TRUNCATE}})

    assert world.run(allow_truncate=True).codes == ["older-than-uploaded"]
