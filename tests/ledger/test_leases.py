from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from sqlalchemy import event

from tests.factories import found
from tests.timing import Clock
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.database import LeaseHeldError, LeaseLostError
from tidepool_ingest.ledger.leases import Lease


def test_a_second_taker_is_told_who_long_to_wait(ledger: Ledger) -> None:
    again = ledger.leases.held("batch:1", seconds=30)
    with ledger.leases.held("batch:1", seconds=30), pytest.raises(LeaseHeldError) as caught, again:
        pass

    assert 0 < caught.value.retry_after <= 30


def test_it_is_free_again_after_its_block(ledger: Ledger) -> None:
    for _ in range(2):
        with ledger.leases.held("batch:1", seconds=30):
            pass


def test_a_dead_holder_is_taken_over_and_finds_out(ledger: Ledger, clock: Clock) -> None:
    with ledger.leases.held("batch:1", seconds=0.2) as dead:
        clock.sleep(0.3)
        with ledger.leases.held("batch:1", seconds=30) as alive:
            with pytest.raises(LeaseLostError):
                dead.ensure(1)
            alive.ensure(60)


def test_a_late_release_leaves_the_new_holder_alone(ledger: Ledger, clock: Clock) -> None:
    dead = ledger.leases.held("batch:1", seconds=0.1)
    dead.__enter__()
    clock.sleep(0.2)
    with ledger.leases.held("batch:1", seconds=30):
        dead.__exit__(None, None, None)
        with pytest.raises(LeaseHeldError), ledger.leases.held("batch:1", seconds=30):
            pass


def test_work_is_in_progress_as_long_as_a_lease_on_a_batch_is(ledger: Ledger, clock: Clock) -> None:
    with ledger.leases.held("device:1", seconds=30):
        assert not ledger.leases.is_work_in_progress()
    dead = ledger.leases.held("batch:1", seconds=0.2)
    dead.__enter__()
    assert ledger.leases.is_work_in_progress()
    clock.sleep(0.3)
    assert not ledger.leases.is_work_in_progress()


def test_renewal_keeps_it(ledger: Ledger, clock: Clock) -> None:
    with ledger.leases.held("batch:1", seconds=0.4) as lease:
        for _ in range(4):
            clock.sleep(0.2)
            lease.ensure(0.3)
        with pytest.raises(LeaseHeldError), ledger.leases.held("batch:1", seconds=30):
            pass


def test_of_many_at_once_one_at_a_time_is_inside(ledger: Ledger) -> None:
    inside, most, entered = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most, entered
        with ledger.leases.held("device:1", seconds=30, wait=30):
            with lock:
                inside, entered = inside + 1, entered + 1
                most = max(most, inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (entered, most) == (6, 1)


def test_it_stays_for_a_request_in_doubt(ledger: Ledger, clock: Clock) -> None:
    with ledger.leases.held("batch:1", seconds=30) as lease:
        lease.keep_for(0.5)
        lease.keep_for(0.1)

    with pytest.raises(LeaseHeldError) as caught, ledger.leases.held("batch:1", seconds=30):
        pass
    assert 0 < caught.value.retry_after <= 0.5
    with ledger.leases.held("batch:1", seconds=30, wait=5):
        pass


def test_a_doubt_that_is_over_keeps_nothing(ledger: Ledger, clock: Clock) -> None:
    with ledger.leases.held("batch:1", seconds=30) as lease:
        lease.keep_for(0.05)
        clock.sleep(0.1)
    with ledger.leases.held("batch:1", seconds=30):
        pass


def test_one_who_was_overtaken_cannot_write_any_more(ledger: Ledger, clock: Clock) -> None:
    batch = ledger.batches.register(found()).id
    with ledger.leases.held("batch:1", seconds=0.1) as stalled:
        ledger.batches.begin_upload(batch, lease=stalled)
        clock.sleep(0.2)
        with ledger.leases.held("batch:1", seconds=30) as successor:
            ledger.batches.mark_verified(batch, lease=successor)
            with pytest.raises(LeaseLostError):
                ledger.batches.mark_failed(batch, "some-code", lease=stalled)

    assert ledger.batches.get(batch).state is BatchState.VERIFIED


def test_what_is_written_last_releases_the_leases_with_it(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    with (
        ledger.leases.held("batch:1", seconds=30) as lease,
        ledger.leases.held("device:1", seconds=30) as other,
    ):
        ledger.batches.begin_upload(batch, lease=lease)
        with lease.last_writing(other):
            ledger.batches.mark_verified(batch, lease=lease)

    assert ledger.leases.alive(["batch:1", "device:1"]) == {}
    assert ledger.batches.get(batch).state is BatchState.VERIFIED


def test_leases_stay_where_what_is_written_last_fails(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id

    def write_and_fail(lease: Lease) -> None:
        ledger.batches.mark_verified(batch, lease=lease)
        raise InterruptedError

    with (
        ledger.leases.held("batch:1", seconds=30) as lease,
        ledger.leases.held("device:1", seconds=30) as other,
    ):
        ledger.batches.begin_upload(batch, lease=lease)
        with pytest.raises(InterruptedError), lease.last_writing(other):
            write_and_fail(lease)

        assert set(ledger.leases.alive(["batch:1", "device:1"])) == {"batch:1", "device:1"}
        assert ledger.batches.get(batch).state is BatchState.UPLOADING
        lease.ensure(60)
    assert ledger.leases.alive(["batch:1", "device:1"]) == {}


def test_one_who_was_overtaken_writes_nothing_last(ledger: Ledger, clock: Clock) -> None:
    batch = ledger.batches.register(found()).id
    with (
        ledger.leases.held("device:1", seconds=30) as other,
        ledger.leases.held("batch:1", seconds=0.1) as stalled,
    ):
        clock.sleep(0.2)
        with ledger.leases.held("batch:1", seconds=30):
            with pytest.raises(LeaseLostError), stalled.last_writing(other):
                ledger.batches.mark_failed(batch, "some-code")
            assert set(ledger.leases.alive(["batch:1", "device:1"])) == {"batch:1", "device:1"}

    assert ledger.batches.get(batch).state is not BatchState.FAILED


def test_a_request_in_doubt_outlives_what_is_written_last(ledger: Ledger, clock: Clock) -> None:
    batch = ledger.batches.register(found()).id
    with ledger.leases.held("batch:1", seconds=30) as lease:
        lease.keep_for(0.5)
        ledger.batches.begin_upload(batch, lease=lease)
        with lease.last_writing():
            ledger.batches.mark_verified(batch, lease=lease)

    with pytest.raises(LeaseHeldError) as caught, ledger.leases.held("batch:1", seconds=30):
        pass
    assert 0 < caught.value.retry_after <= 0.5
    assert ledger.batches.get(batch).state is BatchState.VERIFIED


def test_a_holder_that_wakes_up_in_the_middle_of_a_takeover_keeps_its_claim_or_learns_of_it(
    ledger: Ledger, clock: Clock
) -> None:
    other = Ledger(ledger.database.engine.url.render_as_string(hide_password=False))
    with ledger.leases.held("batch:1", seconds=0.2) as mine:
        clock.sleep(0.3)
        mine._seconds = 60
        woken: list[threading.Thread] = []
        lost: list[LeaseLostError] = []

        def wake() -> None:
            try:
                mine.ensure(0.1)
            except LeaseLostError as error:
                lost.append(error)

        def between(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("INSERT INTO leases") and not woken:
                woken.append(threading.Thread(target=wake))
                woken[0].start()
                woken[0].join(1)

        event.listen(other.database.engine, "before_cursor_execute", between)
        taken = True
        try:
            with other.leases.held("batch:1", seconds=60):
                woken[0].join()
        except LeaseHeldError:
            taken = False
        woken[0].join()
    other.close()

    assert taken == bool(lost)
