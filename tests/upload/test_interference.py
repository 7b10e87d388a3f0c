"""Others at work on the same data set: what they close, delete or add is noticed and put right."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import HASH, readings, set_data_set_state, with_origins, wizard
from tests.world import World
from tidepool_ingest.client import TidepoolNotFoundError, TidepoolUnreachableError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.upload import normal as step
from tidepool_ingest.upload.read_back import Comparison, ShownRow, VerificationError
from tidepool_simulator.faults import Fault

ROWS = 8


def staged(world: World, deduplicator: str = HASH) -> int:
    """Stage and prepare seven records that make eight rows and travel in three chunks."""
    records = with_origins([*readings(6), wizard(10)])
    return world.ready(records, chunk_records=3, data_set={"deduplicator": {"name": deduplicator}})


def test_a_set_that_somebody_closed_in_between_is_begun_anew(world: World) -> None:
    number = staged(world)
    send = world.client.upload_data
    closed: list[str] = []

    def overtaken(data_set_id: str, body: bytes) -> None:
        send(data_set_id, body)
        if not closed:
            closed.append(data_set_id)
            world.client.close_data_set(data_set_id)

    world.client.upload_data = overtaken  # type: ignore[method-assign]

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.sets(number)[0].data_set_id == closed[0]
    assert world.shows_once(number, ROWS)


@pytest.mark.parametrize("at", range(4))
def test_a_set_that_somebody_deleted_in_between_is_begun_anew(world: World, at: int) -> None:
    number = staged(world)
    send, close = world.client.upload_data, world.client.close_data_set
    calls: list[str] = []

    def gone(data_set_id: str) -> None:
        if len(calls) == at:
            world.client.delete_data_set(data_set_id)
        calls.append(data_set_id)

    def sent(data_set_id: str, body: bytes) -> None:
        gone(data_set_id)
        send(data_set_id, body)

    def closed(data_set_id: str) -> None:
        gone(data_set_id)
        close(data_set_id)

    world.client.upload_data = sent  # type: ignore[method-assign]
    world.client.close_data_set = closed  # type: ignore[method-assign]

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)
    (entry,) = [data_set for data_set in world.check().sets if data_set.visible]
    assert entry.state == "closed"


def test_rows_that_somebody_else_added_are_noticed(world: World) -> None:
    number = staged(world)
    close = world.client.close_data_set
    added: list[str] = []

    def crowded(data_set_id: str) -> None:
        if not added:
            added.append(data_set_id)
            world.client.upload_data(data_set_id, b"[" + world.accepted(number)[0] + b"]")
        close(data_set_id)

    world.client.close_data_set = crowded  # type: ignore[method-assign]

    world.upload(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.shows_once(number, ROWS)


def test_what_stays_unlike_what_was_sent_is_never_called_verified(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = staged(world)
    read = world.client.read_data

    def short(*args: Any, **more: Any) -> Any:
        rows = [row for block in read(*args, **more) for row in block if row.type != "upload"]
        yield [*rows[2:], rows[2], ShownRow(id="f" * 32, type=rows[3].type)]

    with monkeypatch.context() as patch:
        patch.setattr(world.client, "read_data", short)
        with pytest.raises(VerificationError) as caught:
            world.upload(number)

    assert caught.value.disposition is Disposition.RETRIABLE
    comparison: Comparison = caught.value.comparison
    assert (comparison.expected, comparison.visible, comparison.foreign) == (ROWS, ROWS, 1)
    assert (comparison.missing, comparison.double) == ((0, 1), (2,))
    assert "2 missing (accepted records 0, 1), 1 double (accepted records 2), 1 that" in str(caught.value)
    assert world.set_states(number) == [DataSetState.DELETED] * step.DATA_SETS_PER_ATTEMPT
    assert world.row(number).state is BatchState.UPLOADING
    assert world.visible() == []
    world.resume(number)
    assert world.shows_once(number, ROWS)


def test_a_data_set_that_tidepool_does_not_know_is_replaced(world: World) -> None:
    number = staged(world)
    world.simulator.faults.add(Fault.refused("post", 503, times=world.timeouts.attempts))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    (data_set,) = world.sets(number)
    set_data_set_state(world.ledger, data_set.id, DataSetState.OPEN, data_set_id="0" * 32)
    with pytest.raises(TidepoolNotFoundError):
        world.client.is_open("0" * 32)

    world.resume(number)

    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert len(world.visible()) == ROWS
