"""Schedules of faults as part of the tests; ``make faults`` plays hundreds."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from tests.faults.__main__ import play_all
from tests.faults.catalogue import FEED_REMOTE, OF_LEDGERS, REMOTE, Local, Proxied
from tests.faults.feeds import FeedBatchSpec
from tests.faults.schedule import BEHIND_A_PROXY, EVERY, PART_RECORDS, BatchSpec, Schedule, schedule_of
from tests.faults.supervise import Outcome
from tests.faults.table import last_line, missing_kinds, table

SEED = 7


def wrong(outcomes: list[Outcome]) -> list[str]:
    return [
        f"ONLY={outcome.number}: {outcome.verdict} {outcome.wrong}" for outcome in outcomes if not outcome.ok
    ]


def in_short(outcomes: list[Outcome]) -> str:
    return last_line(outcomes).partition(" repairs, ")[2]


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule_of(3, 17) == schedule_of(3, 17)
    assert schedule_of(3, 17) != schedule_of(3, 18)
    assert schedule_of(3, 17) != schedule_of(4, 17)


def test_each_kind_of_fault_leads_a_schedule() -> None:
    schedules = [schedule_of(1, number) for number in range(len(REMOTE))]

    assert {schedule.remote[0].name for schedule in schedules} == {kind.name for kind in REMOTE}
    assert {schedule.local[0].kind for schedule in schedules} == set(Local)


def test_what_strikes_a_ledger_meets_every_deduplicator() -> None:
    met = {
        (schedule.local[0].kind, batch.deduplicator)
        for schedule in map(partial(schedule_of, 1), range(200))
        for batch in schedule.batches
        if isinstance(batch, BatchSpec) and batch.device == 1
    }

    assert set(product(OF_LEDGERS, EVERY)) <= met


def test_half_of_the_schedules_cut_their_batches_into_parts() -> None:
    limits = Counter(schedule_of(1, number).part_records for number in range(200))

    assert set(limits) == {None, *PART_RECORDS}
    assert 80 < limits[None] < 120
    assert schedule_of(1, 3, "continuous").part_records is None


def test_each_fault_of_a_proxy_leads_a_schedule() -> None:
    for kind in ("normal", "continuous"):
        schedules = [schedule_of(1, number, kind) for number in range(len(Proxied) * BEHIND_A_PROXY)]
        proxied = [schedule.proxied for schedule in schedules if schedule.proxied]

        assert {faults[0].kind for faults in proxied} == set(Proxied)
        assert len(proxied) == len(schedules) // BEHIND_A_PROXY


def test_a_few_schedules(tmp_path: Path) -> None:
    outcomes = play_all(SEED, range(3), tmp_path)

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"
    assert sum(sum(outcome.struck.values()) for outcome in outcomes) > 4


def test_each_kind_of_fault_that_a_feed_can_meet_leads_a_schedule() -> None:
    schedules = [schedule_of(1, number, "continuous") for number in range(len(FEED_REMOTE))]

    assert {schedule.remote[0].name for schedule in schedules} == {kind.name for kind in FEED_REMOTE}
    assert {batch.wave for schedule in schedules for batch in schedule.batches} == {0, 1, 2, 3}


def test_batches_of_feeds_are_retracted_before_and_after_they_are_uploaded() -> None:
    waves = Counter(
        batch.wave - next(one for one in schedule.batches if one.name == batch.retracts).wave
        for schedule in (schedule_of(1, number, "continuous") for number in range(100))
        for batch in schedule.batches
        if isinstance(batch, FeedBatchSpec) and batch.retracts
    )

    assert waves.keys() >= {0, 1, 2}
    assert waves.total() > 30


@pytest.mark.slow
def test_a_few_schedules_of_feeds(tmp_path: Path) -> None:
    outcomes = play_all(SEED, range(2), tmp_path, kind="continuous")

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"


def test_each_kind_of_fault_leads_a_schedule_of_a_backlog_too() -> None:
    schedules = [schedule_of(1, number, "backlog") for number in range(len(REMOTE))]

    assert {schedule.remote[0].name for schedule in schedules} == {kind.name for kind in REMOTE}
    batches = [batch for schedule in schedules for batch in schedule.batches if isinstance(batch, BatchSpec)]
    assert {batch.day for batch in batches} == set(range(9))
    assert {batch.age for batch in batches} == set(range(5))


@pytest.mark.slow
def test_a_few_schedules_of_backlogs(tmp_path: Path) -> None:
    outcomes = play_all(SEED, range(2), tmp_path, kind="backlog")

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"


@pytest.mark.slow
def test_a_plain_uploader_fails_where_ours_does_not(tmp_path: Path) -> None:
    names = ("answer lost: post", "stored in part, then 500: post")
    numbers = [number for number in range(len(REMOTE)) if _leads(schedule_of(SEED, number), names)]

    ours = play_all(SEED, numbers, tmp_path / "ours")
    plain = play_all(SEED, numbers, tmp_path / "plain", uploader="plain")

    assert not wrong(ours)
    assert sum(outcome.verdict.double for outcome in plain) > 0
    assert "plain" in table({"ours": ours, "plain": plain})


def test_a_kind_that_never_struck_is_named() -> None:
    outcome = Outcome(0, struck=Counter({REMOTE[0].name: 2}))

    missing = missing_kinds([outcome])

    assert REMOTE[0].name not in missing
    assert len(missing) == len(REMOTE) + len(Local) + len(Proxied) - 1


@pytest.mark.slow
def test_schedules(tmp_path: Path) -> None:
    outcomes = play_all(SEED, [*range(10), 13], tmp_path)

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"
    assert sum(outcome.kills for outcome in outcomes) > 0
    assert sum(outcome.repairs for outcome in outcomes) > 0


@pytest.mark.slow
def test_schedules_of_backlogs(tmp_path: Path) -> None:
    outcomes = play_all(SEED, range(8), tmp_path, kind="backlog")

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"
    assert sum(outcome.kills for outcome in outcomes) > 0


@pytest.mark.slow
def test_schedules_of_feeds(tmp_path: Path) -> None:
    outcomes = play_all(SEED, [*range(8), 13], tmp_path, kind="continuous")

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"
    assert sum(outcome.kills for outcome in outcomes) > 0
    assert sum(outcome.repairs for outcome in outcomes) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "continuous"])
def test_schedules_of_ledgers(tmp_path: Path, kind: str) -> None:
    led = [number for number in range(60) if schedule_of(SEED, number, kind).local[0].kind in OF_LEDGERS]

    outcomes = play_all(SEED, led[:6], tmp_path, kind=kind)

    assert not wrong(outcomes)
    assert in_short(outcomes) == "lost 0, double 0, left open 0"
    assert {str(struck) for struck in OF_LEDGERS} <= set().union(*(outcome.struck for outcome in outcomes))


def _leads(schedule: Schedule, names: tuple[str, ...]) -> bool:
    return schedule.remote[0].name in names
