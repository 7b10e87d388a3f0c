"""Times in the ledger are the database's: a worker whose clock is a day wrong does nothing wrong by it."""

from __future__ import annotations

import ast
import hashlib
import itertools
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from tests.factories import found
from tests.ledger.refresh_tokens import refresh, store
from tests.servers import postgresql_database
from tidepool_ingest import ledger as package
from tidepool_ingest.ledger import BatchRow, DataSetRow, Ledger, TaskOrigin, lease_of_batch
from tidepool_ingest.ledger.database import LeaseHeldError, LeaseLostError, now_of
from tidepool_ingest.options import ReconcileOptions

DAY = timedelta(days=1)
ORIGIN = TaskOrigin(dag_id="dag", run_id="run", map_index=0, try_number=1)

Skew = Callable[[], AbstractContextManager[None]]


NUMBERS = itertools.count(1)
"""Each test makes things of its own: they share the ledger, because a database costs more than them all."""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            address = f"sqlite:///{tmp_path_factory.mktemp('clocks') / 'ledger.db'}"
        else:
            address = stack.enter_context(postgresql_database(request.getfixturevalue("postgresql")))
        made = Ledger(address)
        made.migrate()
        yield made
        made.close()


def registered(ledger: Ledger, device: str, day: date = date(2026, 1, 2)) -> BatchRow:
    """Return a batch of its own."""
    name = f"batch-{next(NUMBERS)}"
    key = hashlib.sha256(name.encode()).hexdigest()
    return ledger.batches.register(
        found(content_key=key, batch_id=name, folder=f"/staging/{name}", device_id=device, day=day)
    )


@pytest.fixture(params=[DAY, -DAY], ids=["a day fast", "a day slow"])
def skewed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Skew:
    """Let a worker's clock be wrong for the length of a ``with`` block."""
    wrong_by: timedelta = request.param
    true_time = time.time

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + wrong_by

    @contextmanager
    def wrong() -> Iterator[None]:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: true_time() + wrong_by.total_seconds())
            for name, module in list(sys.modules.items()):
                if name.startswith("tidepool_ingest") and getattr(module, "datetime", None) is datetime:
                    patch.setattr(module, "datetime", Wrong)
            yield

    return wrong


def test_a_clock_that_is_wrong_takes_over_no_lease_and_holds_none_for_longer(
    ledger: Ledger, skewed: Skew
) -> None:
    name = f"device:{next(NUMBERS)}"
    with ledger.leases.held(name, seconds=30) as lease:
        with skewed():
            with pytest.raises(LeaseHeldError) as caught, ledger.leases.held(name, seconds=30):
                pass
            assert 0 < caught.value.retry_after <= 30
            assert 0 < ledger.leases.alive([name])[name] <= 30
            assert ledger.leases.sweep(ledger.database.now() - timedelta(minutes=5)) == 0
        lease.ensure(60)
    with skewed():
        wrong = ledger.leases.held(name, seconds=30)
        lease = wrong.__enter__()
        lease.ensure(60)
        lease.keep_for(20)
        wrong.__exit__(None, None, None)
    assert 0 < ledger.leases.alive([name])[name] <= 20


def test_a_lease_that_has_expired_is_free_whatever_the_clock_says(ledger: Ledger, skewed: Skew) -> None:
    name = f"device:{next(NUMBERS)}"
    lease = ledger.leases.held(name, seconds=0.05).__enter__()
    time.sleep(0.1)
    with skewed(), ledger.leases.held(name, seconds=30), pytest.raises(LeaseLostError):
        lease.ensure(1)


def test_a_batch_in_progress_is_seen_to_be(ledger: Ledger, skewed: Skew) -> None:
    device = f"device-{next(NUMBERS)}"
    older = registered(ledger, device)
    newer = registered(ledger, device, older.day + DAY)
    with ledger.leases.held(lease_of_batch(older.id), seconds=30), skewed():
        (remaining,) = ledger.devices.older_in_progress(newer, sharing_days=False).values()
    assert 0 < remaining <= 30


def test_a_pause_that_tidepool_asked_for_is_as_long_as_it_asked(ledger: Ledger, skewed: Skew) -> None:
    host = f"api{next(NUMBERS)}.example.org"
    with skewed():
        ledger.rate_limits.record(host, 30.0)
    assert 0 < ledger.rate_limits.seconds_remaining(host) <= 30
    with skewed():
        assert 0 < ledger.rate_limits.seconds_remaining(host) <= 30


def closed(ledger: Ledger, device: str) -> tuple[BatchRow, DataSetRow]:
    """Return a batch of the device whose data set has just been closed and verified, and the data set."""
    row = registered(ledger, device)
    data_set = ledger.data_sets.begin_opening(
        row.id, data_set_type="normal", deduplicator="none", expected_rows=1, origin=ORIGIN
    )
    ledger.data_sets.mark_open(data_set.id, row.content_key[:32])
    ledger.data_sets.begin_close(data_set.id)
    ledger.data_sets.mark_closed(data_set.id)
    ledger.data_sets.mark_verified(data_set.id, expected_rows=1, visible_rows=1)
    return row, ledger.data_sets.get(data_set.id)


def test_which_of_two_was_closed_later_is_not_up_to_their_workers(ledger: Ledger, skewed: Skew) -> None:
    device = f"device-{next(NUMBERS)}"
    with skewed():
        first, of_first = closed(ledger, device)
    time.sleep(0.005)
    second, of_second = closed(ledger, device)
    assert of_first.closed_at
    assert of_second.closed_at
    with skewed():
        assert set(ledger.devices.verified_since(first, of_first.closed_at)) == {of_second.data_set_id}
        assert ledger.devices.verified_since(second, of_second.closed_at) == {}


def test_what_is_unfinished_for_long_is_not_up_to_who_asks(ledger: Ledger, skewed: Skew) -> None:
    age = timedelta(minutes=ReconcileOptions().older_than_minutes)
    with skewed():
        row = registered(ledger, "device")
        ledger.batches.begin_upload(row.id)
    assert row.id not in ledger.unfinished.batches(ledger.database.now() - age)
    with skewed():
        assert row.id not in ledger.unfinished.batches(ledger.database.now() - age)
    assert row.id in ledger.unfinished.batches(ledger.database.now() + age)


def test_a_shared_token_is_as_old_as_it_is(ledger: Ledger, skewed: Skew) -> None:
    with skewed():
        refresh(ledger, "second-token")
    for clock in (contextmanager(lambda: iter([None])), skewed):
        with clock():
            loaded = store(ledger).load()
        assert loaded is not None
        assert 0 <= loaded[1] < 60


def test_the_moment_is_that_of_the_database(ledger: Ledger, skewed: Skew) -> None:
    with skewed(), ledger.database.writing() as connection:
        moment = now_of(connection)
    assert moment.tzinfo is not None
    assert abs(moment - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(package.__path__)])
def test_no_module_of_the_ledger_asks_the_workers_clock(name: str) -> None:
    path = Path(package.__path__[0]) / f"{name}.py"
    if not path.exists():
        return
    calls = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    wrong = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "time.time"}
    assert calls & wrong == set()
