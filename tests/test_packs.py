"""Batches that travel in packs: how they are divided, and that none holds up another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.factories import DAY, readings, row
from tests.world import World
from tidepool_ingest.client.errors import TidepoolConfigurationError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, BatchState
from tidepool_ingest.packs import (
    FAILURES_IN_A_ROW,
    MAX_PACKS,
    PackStoppedError,
    PackWork,
    label_of_pack,
    packs_of,
)
from tidepool_simulator import Fault

# ---------------------------------------------------------------------- how they are divided


def test_few_batches_have_a_task_each() -> None:
    assert packs_of([row(1), row(2)], alone=2, size=50) == [[1], [2]]


def test_many_share_tasks() -> None:
    assert packs_of([row(n) for n in range(1, 8)], alone=2, size=3) == [[1, 2, 3], [4, 5, 6], [7]]


@pytest.mark.parametrize(
    ("batches", "packs"),
    [(101, [50, 50, 1]), (800, [100] * 8), (2_000, [250] * 8), (4_000, [250] * 16)],
)
def test_packs_are_few_but_leave_no_task_idle_that_may_run(batches: int, packs: list[int]) -> None:
    rows = [row(number, device=f"device-{number}") for number in range(batches)]

    assert [len(pack) for pack in packs_of(rows, at_once=8)] == packs


@pytest.mark.parametrize("of_a_device", [3, 7, 8])
def test_devices_with_several_batches_make_no_further_pack(of_a_device: int) -> None:
    """It would be started when the others end, and keep the run waiting."""
    rows = [row(number, device=f"device-{number // of_a_device}") for number in range(1_000)]
    packs = packs_of(rows, at_once=8)

    assert len(packs) == 8
    assert max(map(len, packs)) < 125 + of_a_device


def test_a_pack_is_no_larger_than_somebody_wants() -> None:
    rows = [row(number, device=f"device-{number}") for number in range(300)]

    assert {len(pack) for pack in packs_of(rows, size=20, at_once=8)} == {20}


def test_the_batches_of_a_device_stay_together_in_their_order() -> None:
    rows = [row(n, device="one" if n % 2 else "other") for n in range(1, 9)]

    assert packs_of(rows, alone=1, size=3) == [[1, 3, 5, 7], [2, 4, 6, 8]]


def test_the_feed_of_a_person_stays_together_whatever_its_device() -> None:
    rows = [row(n, device=f"device-{n}", data_set_type="continuous") for n in range(1, 5)]

    assert packs_of(rows, alone=1, size=2) == [[1, 2, 3, 4]]


@given(
    devices=st.lists(st.integers(0, 400), max_size=3_000),
    alone=st.integers(0, 50),
    size=st.integers(1, 60),
)
def test_each_batch_is_in_one_pack_and_there_are_never_too_many(
    devices: list[int], alone: int, size: int
) -> None:
    rows = [row(n, device=str(device)) for n, device in enumerate(devices, 1)]
    packs = packs_of(rows, alone=alone, size=size)

    assert sorted(number for pack in packs for number in pack) == [one.id for one in rows]
    assert len(packs) <= max(alone, min(-(-len(rows) // size), MAX_PACKS))
    homes: dict[int, set[int]] = {}
    for place, pack in enumerate(packs):
        for number in pack:
            homes.setdefault(devices[number - 1], set()).add(place)
    if len(rows) > alone:
        assert all(len(places) == 1 for places in homes.values())


def test_twenty_thousand_batches_stay_within_what_airflow_maps() -> None:
    assert len(packs_of([row(n) for n in range(20_000)], alone=100, size=1)) <= 1_024


def test_a_pack_is_named_by_its_days() -> None:
    assert label_of_pack([row(1), row(2)]) == f"2 batches of {DAY}"
    assert label_of_pack([row(1, day=DAY + timedelta(days=9)), row(2)]) == (
        f"2 batches of {DAY} to {DAY + timedelta(days=9)}"
    )


# ---------------------------------------------------------------------- how they are worked off


class OfItsOwnError(IngestError):
    disposition = Disposition.DATA

    def __init__(self) -> None:
        super().__init__("Its own.", code="own")


class PassingError(IngestError):
    disposition = Disposition.RETRIABLE

    def __init__(self, code: str = "passing") -> None:
        super().__init__("Passing.", code=code)


def failing(errors: dict[int, Exception]) -> Callable[[BatchRow, int], None]:
    def work(batch: BatchRow, share: int) -> None:
        if batch.id in errors:
            raise errors[batch.id]

    return work


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_batch_that_fails_holds_nobody_up(at_once: int) -> None:
    outcome = PackWork([row(n) for n in range(1, 10)], at_once=at_once).run(failing({4: OfItsOwnError()}))

    assert sorted(outcome.done) == [1, 2, 3, 5, 6, 7, 8, 9]
    assert outcome.failed == {"own": 1}


def test_what_comes_later_of_its_device_waits_for_one_that_may_succeed_yet() -> None:
    rows = [row(n, device="one" if n < 4 else "other") for n in range(1, 7)]

    assert PackWork(rows).run(failing({2: PassingError()})).done == [1, 4, 5, 6]
    assert PackWork(rows).run(failing({2: OfItsOwnError()})).done == [1, 3, 4, 5, 6]


def test_a_cause_that_is_nobodys_own_ends_the_pack() -> None:
    rows = [row(n) for n in range(1, 20)]
    started: list[int] = []

    def work(batch: BatchRow, share: int) -> None:
        started.append(batch.id)
        if batch.id > 2:
            raise TidepoolConfigurationError("speak to Tidepool", reason="no", remedy="Correct it.")

    pack = PackWork(rows)
    with pytest.raises(TidepoolConfigurationError):
        pack.run(work)
    assert started == list(range(1, 3 + FAILURES_IN_A_ROW))
    assert pack.outcome.done == [1, 2]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_cause_of_one_connection_holds_up_no_batch_of_another(at_once: int) -> None:
    rows = [row(n, connection="wrong" if n % 3 else None) for n in range(1, 60)]
    tried: list[int] = []

    def work(batch: BatchRow, share: int) -> None:
        if batch.connection is not None:
            tried.append(batch.id)
            raise TidepoolConfigurationError("speak to Tidepool", reason="no", remedy="Correct it.")

    pack = PackWork(rows, at_once=at_once)
    with pytest.raises(TidepoolConfigurationError):
        pack.run(work)
    assert sorted(pack.outcome.done) == [one.id for one in rows if one.connection is None]
    assert FAILURES_IN_A_ROW <= len(tried) < FAILURES_IN_A_ROW + at_once


def test_causes_of_their_own_never_end_the_pack() -> None:
    errors: dict[int, Exception] = {n: OfItsOwnError() for n in range(1, 15)}

    assert PackWork([row(n) for n in range(1, 20)]).run(failing(errors)).done == [15, 16, 17, 18, 19]


def test_passing_troubles_of_several_kinds_do_not_end_it_either() -> None:
    errors: dict[int, Exception] = {n: PassingError(f"kind-{n % 2}") for n in range(1, 15)}

    assert PackWork([row(n) for n in range(1, 20)]).run(failing(errors)).done == [15, 16, 17, 18, 19]


def test_a_defect_of_ours_is_no_batchs_failure() -> None:
    with pytest.raises(ZeroDivisionError):
        PackWork([row(1), row(2)], at_once=2).run(failing({1: ZeroDivisionError()}))


def test_the_requests_are_shared_out() -> None:
    shares: list[int] = []
    PackWork([row(n) for n in range(1, 9)], at_once=4).run(lambda _batch, share: shares.append(share))
    PackWork([row(n, device="one") for n in range(1, 3)], at_once=4).run(
        lambda _b, share: shares.append(share)
    )

    assert shares == [1] * 8 + [4] * 2


def test_it_stops_before_the_next_batch() -> None:
    pack = PackWork([row(n) for n in range(1, 9)])

    def work(batch: BatchRow, share: int) -> None:
        if batch.id == 3:
            pack.stop()

    with pytest.raises(PackStoppedError):
        pack.run(work)
    assert pack.outcome.done == [1, 2, 3]


# ---------------------------------------------------------------------- over HTTP


def test_several_data_sets_at_once_and_each_batch_once(world: World) -> None:
    numbers = [
        world.ready(
            readings(30, deviceId=f"device-{n}"), batch=f"batch-{n}", data_set={"deviceId": f"device-{n}"}
        )
        for n in range(12)
    ]
    stranger = world.ready(readings(30), batch="of-a-stranger", user="0123456789")
    world.simulator.faults.add(Fault.lost_answer("post", skip=1, times=2))
    lanes: set[str] = set()

    def upload(batch: BatchRow, share: int) -> None:
        lanes.add(threading.current_thread().name)
        world.upload(batch.id, at_once=share)

    rows = [world.row(number) for number in (*numbers[:5], stranger, *numbers[5:])]
    outcome = PackWork(rows, at_once=4).run(upload)

    assert sorted(outcome.done) == sorted(numbers)
    assert outcome.failed == {"tidepool-permission": 1}
    assert len(lanes) == 4
    assert {world.row(number).state for number in numbers} == {BatchState.VERIFIED}
    result = world.check()
    assert (result.lost, result.double, result.left_open) == (30, 0, 0)  # lost: the stranger's, who said no
