"""How many transactions of the ledger a batch and each further chunk of it take, and what is in one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.factories import bolus, readings
from tests.servers import postgresql_database
from tests.world import World, a_world
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import BatchState, ChunkState, DataSetState, Ledger, client_state
from tidepool_ingest.ledger.data_sets import DataSets
from tidepool_ingest.ledger.database import LedgerUnavailableError

OF_A_BATCH = 16
"""Transactions of a batch of one chunk at most, from its plan to verified."""

BATCHES = 6
CHUNK = 10


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "sqlite":
        made = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
        made.migrate()
        yield made
        made.close()
        return
    with postgresql_database(request.getfixturevalue("postgresql")) as address:
        made = Ledger(address)
        made.migrate()
        yield made
        made.close()


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    # A task looks for throttles by time, not by batch.
    monkeypatch.setattr(client_state, "FREE_SECONDS", 3_600.0)
    with a_world(tmp_path, ledger, World) as made:
        yield made


class Transactions:
    """Counts the transactions of a ledger, reading ones included."""

    def __init__(self, ledger: Ledger) -> None:
        self.number = 0
        self._lock = threading.Lock()
        event.listen(ledger.database.engine, "begin", self._begin)

    def _begin(self, _connection: object) -> None:
        with self._lock:
            self.number += 1


def run_of(world: World, transactions: Transactions, batches: int, *, first: int) -> int:
    """Stage small batches of devices of their own, run over them, and return the transactions."""
    for number in range(first, first + batches):
        device = f"device-{number}"
        world.stage(readings(5, deviceId=device), batch=device, device=device)
    before = transactions.number
    outcome = world.run()
    assert not outcome.errors
    assert len(outcome.uploaded) == batches
    assert {world.row(number).state for number in outcome.uploaded} == {BatchState.VERIFIED}
    return transactions.number - before


def test_a_batch_of_one_chunk_takes_few_transactions(world: World) -> None:
    transactions = Transactions(world.ledger)
    run_of(world, transactions, 1, first=0)  # the first one registers its program's name

    one = run_of(world, transactions, 1, first=1)
    more = run_of(world, transactions, 1 + BATCHES, first=2)

    assert 0 < (more - one) / BATCHES <= OF_A_BATCH


def test_each_further_chunk_takes_one_transaction(world: World) -> None:
    transactions = Transactions(world.ledger)
    run_of(world, transactions, 1, first=0)
    taken = []
    for number, chunks in enumerate((2, 7)):
        device = f"meter-{number}"
        records = readings(CHUNK * chunks, deviceId=device)
        data_set = {"deviceId": device}
        batch = world.ready(records, batch=device, data_set=data_set, chunk_records=CHUNK)
        before = transactions.number
        world.upload(batch)
        taken.append(transactions.number - before)

    assert taken[1] - taken[0] == 5


def test_no_request_is_sent_within_a_transaction(world: World) -> None:
    context = world.context()
    with pytest.raises(RuntimeError), world.ledger.database.together():
        context.guard().read(lambda: None)


def test_what_is_recorded_together_is_recorded_at_once_or_not_at_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger fails between "this chunk is stored" and "the next one is about to be sent"."""
    number = world.ready([*readings(CHUNK * 2), bolus(900)], chunk_records=CHUNK)
    begin_chunk, fails = DataSets.begin_chunk, [True]

    def failing(data_sets: DataSets, data_set: int, chunk_index: int, **more: object) -> None:
        if chunk_index == 1 and fails.pop():
            raise LedgerUnavailableError("OperationalError")
        begin_chunk(data_sets, data_set, chunk_index, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DataSets, "begin_chunk", failing)
    with pytest.raises(IngestError):
        world.upload(number)
    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id)

    assert {index: chunk.state for index, chunk in chunks.items()} == {0: ChunkState.SENDING}

    monkeypatch.undo()
    world.upload(number)

    assert world.set_states(number)[-1] is DataSetState.VERIFIED
    assert world.all_right()


def test_a_verified_batch_and_its_released_leases_are_one_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(5))
    mark_verified = type(world.ledger.batches).mark_verified

    def failing(*_given: object, **_more: object) -> None:
        raise LedgerUnavailableError("OperationalError")

    monkeypatch.setattr(type(world.ledger.batches), "mark_verified", failing)
    with pytest.raises(LedgerUnavailableError):
        world.upload(number)

    assert world.set_states(number) == [DataSetState.CLOSED]
    assert not world.ledger.leases.is_work_in_progress()  # it was released all the same, for the next try

    monkeypatch.setattr(type(world.ledger.batches), "mark_verified", mark_verified)
    world.upload(number)

    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()
