from __future__ import annotations

import threading

import pytest

from tests.timing import Clock
from tidepool_ingest.ledger import Ledger, client_state
from tidepool_ingest.ledger.client_state import RateLimits
from tidepool_ingest.upload.guarded_requests import RECHECK_SECONDS, Throttle

HOST = "api.example.org"
YEAR = 365 * 86_400.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which slow-downs end."""
    made = Clock()
    monkeypatch.setattr(client_state, "now_of", made.of_database)
    return made


def ended(ledger: Ledger, clock: Clock, seconds_ago: float) -> None:
    """Let the present slow-down have ended some time ago."""
    clock.sleep(ledger.rate_limits.seconds_remaining(HOST) + seconds_ago)


def pauses(ledger: Ledger) -> int:
    with ledger.database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT pauses FROM rate_limits").scalar_one())


def test_nobody_waits_unless_asked_to(ledger: Ledger) -> None:
    assert ledger.rate_limits.seconds_remaining(HOST) == 0


def test_everybody_waits_as_long_as_tidepool_says(ledger: Ledger) -> None:
    ledger.rate_limits.record(HOST, 30.0)

    assert ledger.rate_limits.seconds_remaining(HOST) == 30
    assert ledger.rate_limits.seconds_remaining("other.example.org") == 0


def test_a_shorter_pause_does_not_shorten_a_longer_one(ledger: Ledger) -> None:
    ledger.rate_limits.record(HOST, 30.0)
    ledger.rate_limits.record(HOST, 1.0)

    assert ledger.rate_limits.seconds_remaining(HOST) == 30


def test_pauses_of_our_own_choice_grow_while_tidepool_asks_again(ledger: Ledger, clock: Clock) -> None:
    lengths = []
    for _ in range(3):
        ledger.rate_limits.record(HOST, None)
        lengths.append(ledger.rate_limits.seconds_remaining(HOST))
        ended(ledger, clock, 0.01)

    assert lengths == [1, 2, 4]


def test_after_a_quiet_time_the_next_pause_is_short_again(ledger: Ledger, clock: Clock) -> None:
    for _ in range(3):
        ledger.rate_limits.record(HOST, None)
        ended(ledger, clock, 0.01)
    ended(ledger, clock, 1000)

    ledger.rate_limits.record(HOST, None)

    assert ledger.rate_limits.seconds_remaining(HOST) <= 1


def test_what_several_are_told_at_once_counts_as_once(ledger: Ledger) -> None:
    threads = [threading.Thread(target=ledger.rate_limits.record, args=(HOST, None)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert pauses(ledger) == 1


def test_a_throttle_is_listed_until_it_is_over(ledger: Ledger, clock: Clock) -> None:
    ledger.rate_limits.record(HOST, 30.0)
    ledger.rate_limits.record("other.example.org", 90.0)

    assert ledger.rate_limits.in_force() == {HOST: 30, "other.example.org": 90}
    clock.sleep(31)
    assert ledger.rate_limits.in_force() == {"other.example.org": 59}


def test_a_lifted_throttle_is_over(ledger: Ledger) -> None:
    ledger.rate_limits.record(HOST, 3600.0)

    assert ledger.rate_limits.lift(HOST)
    assert ledger.rate_limits.seconds_remaining(HOST) == 0
    assert ledger.rate_limits.in_force() == {}
    assert not ledger.rate_limits.lift(HOST)
    ledger.rate_limits.record(HOST, 5.0)
    assert ledger.rate_limits.seconds_remaining(HOST) == 5


@pytest.mark.parametrize("jump", [-YEAR, -3601.0, 3601.0, YEAR])
def test_a_database_whose_clock_is_set_anew_keeps_nobody_waiting(
    ledger: Ledger, clock: Clock, jump: float
) -> None:
    ledger.rate_limits.record(HOST, 3600.0)
    clock.sleep(jump)

    assert ledger.rate_limits.seconds_remaining(HOST) == 0
    ledger.rate_limits.record(HOST, None)
    assert ledger.rate_limits.seconds_remaining(HOST) <= 2


@pytest.mark.parametrize("lifted", [False, True])
def test_a_task_that_waits_goes_on_once_the_throttle_is_over_or_lifted(
    ledger: Ledger, clock: Clock, lifted: bool
) -> None:
    ledger.rate_limits.record(HOST, 600.0)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        clock.sleep(seconds)
        waited.append(seconds)
        if lifted and len(waited) == 2:
            ledger.rate_limits.lift(HOST)

    Throttle(ledger.rate_limits, HOST, patience=600.0).wait(wait)

    assert len(waited) == 2 if lifted else sum(waited) >= 600
    assert max(waited) <= RECHECK_SECONDS


def test_a_throttle_recorded_while_one_looks_is_not_missed(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread finds no throttle; before it remembers that, another one's request is answered with 429."""
    limits, look = ledger.rate_limits, RateLimits.seconds_remaining
    asked_for = [30.0]

    def overtaken(table: RateLimits, api_host: str) -> float:
        found = look(table, api_host)
        while asked_for:
            limits.record(HOST, asked_for.pop())
        return found

    monkeypatch.setattr(RateLimits, "seconds_remaining", overtaken)

    assert limits.seconds_to_wait(HOST) == 0
    assert limits.seconds_to_wait(HOST) > 0
