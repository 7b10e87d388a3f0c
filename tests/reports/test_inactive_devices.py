"""Which devices are named as silent: those that used to send, and have stopped for longer than is usual."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import pytest

from tests.factories import found
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import DEVICES_NAMED, inactive_devices, inactive_summary

TODAY = date(2026, 3, 31)
USER, DEVICE = "0123456789", "device-1"
Sent = Callable[..., None]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    yield ledger
    ledger.close()


@pytest.fixture
def sent(ledger: Ledger) -> Sent:
    """Note batches of a device that end so many days ago."""
    numbers = count()

    def sent(*days_ago: int, device: str = DEVICE, records_of_days: int = 1, **more: object) -> None:
        for ago in days_ago:
            name = f"batch-{next(numbers)}"
            last = TODAY - timedelta(days=ago)
            values = {"content_key": name.ljust(64, "x"), "batch_id": name, "folder": f"/{name}"}
            label = f"{last} Dexcom G6 {short_hash(name)}"
            row = ledger.batches.register(found(**values, device_id=device, label=label, day=last, **more))
            days = [last - timedelta(days=number) for number in range(records_of_days)]
            ledger.batch_days.replace_for_batch(row.id, {day: {"cbg": 288, "bolus": 2} for day in days})

    return sent


def silent(ledger: Ledger, today: date = TODAY) -> list[tuple[str, int, int]]:
    return [
        (device.device_id, device.usual_days, device.inactive_days)
        for device in inactive_devices(ledger, today)
    ]


def test_a_daily_device_is_silent_after_some_days(ledger: Ledger, sent: Sent) -> None:
    sent(*range(4, 12))

    assert silent(ledger) == [(DEVICE, 1, 4)]
    assert silent(ledger, TODAY - timedelta(days=1)) == []


def test_a_device_that_is_read_out_once_a_month_is_not_silent_for_weeks(ledger: Ledger, sent: Sent) -> None:
    sent(*range(59, 200, 30), device="monthly", records_of_days=30)
    sent(*range(61, 200, 30), device="gone", records_of_days=30)

    assert silent(ledger) == [("gone", 30, 61)]


def test_one_long_break_does_not_make_a_habit(ledger: Ledger, sent: Sent) -> None:
    sent(*range(5, 20), *range(40, 50))

    assert silent(ledger) == [(DEVICE, 1, 5)]


def test_too_little_history_names_nobody(ledger: Ledger, sent: Sent) -> None:
    sent(100, 101, 102, 103)
    assert silent(ledger) == []
    sent(104)
    assert silent(ledger) == [(DEVICE, 1, 100)]


def test_late_data_of_old_days_do_not_end_a_silence(ledger: Ledger, sent: Sent) -> None:
    sent(*range(10, 20))
    sent(15, 16)

    assert silent(ledger) == [(DEVICE, 1, 10)]


def test_what_stopped_long_ago_is_not_named_any_more(ledger: Ledger, sent: Sent) -> None:
    sent(*range(366, 380))

    assert silent(ledger) == []


def test_devices_of_people_and_hosts_are_told_apart_and_the_longest_silent_comes_first(
    ledger: Ledger, sent: Sent
) -> None:
    sent(*range(1, 10))
    sent(*range(8, 18), user_id="9876543210")
    sent(*range(5, 15), api_host="other.example.org")

    assert [
        (device.user_id, device.api_host, device.inactive_days) for device in inactive_devices(ledger, TODAY)
    ] == [
        ("9876543210", "api.example.org", 8),
        (USER, "other.example.org", 5),
    ]


def test_they_are_named_without_anybody_being_named(ledger: Ledger, sent: Sent) -> None:
    sent(*range(9, 20))
    summary = inactive_summary(inactive_devices(ledger, TODAY))

    assert summary == {
        "devices": 1,
        "named": [
            f"Dexcom G6 {short_hash(DEVICE)} of user {short_hash(USER)}: inactive for 9 days, "
            "since 2026-03-22; it usually sends every day. Find out whether it is still in use, and its "
            "data still staged."
        ],
    }
    for number in range(DEVICES_NAMED + 5):
        sent(*range(9, 15), device=f"more-{number}")
    summary = inactive_summary(inactive_devices(ledger, TODAY))
    assert (summary["devices"], len(summary["named"])) == (DEVICES_NAMED + 6, DEVICES_NAMED)
