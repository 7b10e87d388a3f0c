from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from sqlalchemy import update

from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.schema import slow_downs

HOST = "api.example.org"


def ended(ledger: Ledger, seconds_ago: float) -> None:
    """Let the present slow-down have ended some time ago."""
    with ledger.database.writing() as connection:
        until = datetime.now(UTC) - timedelta(seconds=seconds_ago)
        connection.execute(update(slow_downs).values(until=until))


def pauses(ledger: Ledger) -> int:
    with ledger.database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT pauses FROM slow_downs").scalar_one())


def test_nobody_waits_unless_asked_to(ledger: Ledger) -> None:
    assert ledger.slow_downs.seconds_left(HOST) == 0


def test_everybody_waits_as_long_as_tidepool_says(ledger: Ledger) -> None:
    ledger.slow_downs.note(HOST, 30.0)

    assert 29 < ledger.slow_downs.seconds_left(HOST) <= 30
    assert ledger.slow_downs.seconds_left("other.example.org") == 0


def test_a_shorter_pause_does_not_shorten_a_longer_one(ledger: Ledger) -> None:
    ledger.slow_downs.note(HOST, 30.0)
    ledger.slow_downs.note(HOST, 1.0)

    assert ledger.slow_downs.seconds_left(HOST) > 29


def test_pauses_of_our_own_choice_grow_while_tidepool_asks_again(ledger: Ledger) -> None:
    lengths = []
    for _ in range(3):
        ledger.slow_downs.note(HOST, None)
        lengths.append(ledger.slow_downs.seconds_left(HOST))
        ended(ledger, 0.01)

    assert [round(length) for length in lengths] == [1, 2, 4]


def test_after_a_quiet_time_the_next_pause_is_short_again(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.slow_downs.note(HOST, None)
        ended(ledger, 0.01)
    ended(ledger, 1000)

    ledger.slow_downs.note(HOST, None)

    assert ledger.slow_downs.seconds_left(HOST) <= 1


def test_what_several_are_told_at_once_counts_as_once(ledger: Ledger) -> None:
    threads = [threading.Thread(target=ledger.slow_downs.note, args=(HOST, None)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert pauses(ledger) == 1
