"""From a prepared batch to a closed data set in which each record is visible once."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.factories import HASH, NONE, ORIGIN, TRUNCATE, readings, wizard
from tests.world import World
from tidepool_ingest.client import TidepoolPermissionError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchState, ChunkState, DataSetState, TaskOrigin
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

INJECTED = re.compile(rb',"id":"[0-9a-f]{32}"')


def own_id(number: int) -> str:
    return f"{number:032x}"


def test_the_plan_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = world.ready(readings(5))
    load, read = WorkArea.load, []

    def counted(work: WorkArea) -> PreparedBatch | None:
        read.append(work.content_key)
        return load(work)

    monkeypatch.setattr(WorkArea, "load", counted)

    world.upload(number)

    assert len(read) == 1
    assert world.all_right()


def test_a_batch_becomes_visible_once(world: World) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    number = world.ready(readings(25), chunk_records=10)
    told: list[str] = []

    summary = world.upload(number, run="manual-1", try_number=2, on_open=told.append)

    (data_set,) = world.sets(number)
    assert told == [summary.data_set_id] == [data_set.data_set_id]
    assert (summary.expected_rows, summary.visible_rows) == (25, 25)
    assert (summary.chunks_sent, summary.chunks_resumed) == (3, 0)
    assert len(world.visible(data_set_id=summary.data_set_id)) == 25
    assert world.row(number).state is BatchState.VERIFIED
    assert data_set.state is DataSetState.VERIFIED
    assert (data_set.expected_rows, data_set.visible_rows) == (25, 25)
    assert (data_set.data_set_type, data_set.deduplicator, data_set.ordinal) == ("normal", HASH, 1)
    assert (data_set.dag_id, data_set.run_id, data_set.map_index, data_set.try_number) == (
        "dag",
        "manual-1",
        0,
        2,
    )
    assert data_set.opened_at
    assert data_set.closed_at
    assert data_set.verified_at
    assert before < data_set.opened_at <= data_set.closed_at <= data_set.verified_at <= datetime.now(UTC)
    assert world.all_right()


def test_one_that_is_verified_already_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    number = world.ready(readings(25))
    world.upload(number)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="tidepool_ingest"):
        summary = world.upload(number)

    label = world.row(number).label
    assert caplog.messages == [
        f"{label} is verified already: data set {summary.data_set_id} shows its 25 rows. "
        "There is nothing to send."
    ]


def test_chunks_are_noted_with_their_digests(world: World) -> None:
    number = world.ready(readings(25), chunk_records=10)
    world.upload(number)

    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id)

    assert [(chunk.records, chunk.state, chunk.attempts) for chunk in chunks.values()] == [
        (10, ChunkState.STORED, 1),
        (10, ChunkState.STORED, 1),
        (5, ChunkState.STORED, 1),
    ]
    assert [chunk.digest for chunk in chunks.values()] == [
        chunk.digest for chunk in world.prepared(number).chunks
    ]


def test_the_order_of_requests(world: World) -> None:
    number = world.ready(readings(25), chunk_records=10)

    world.upload(number)

    operations = [request.operation for request in world.simulator.requests]
    assert [operation for operation in operations if operation not in ("info", "discovery", "token")] == [
        "list",  # does a feed of this program belong to the user?
        "list",  # is there a data set of this content?
        "create",
        *["post"] * 3,
        "close",
        "read-back",
        "list",  # is there another one by now?
    ]


# ---------------------------------------------------------------- what the ledger knows, and when


def test_the_ledger_knows_the_id_before_the_first_chunk_is_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(25), chunk_records=10)
    told: list[str] = []
    known: list[tuple[Any, ...]] = []
    send = world.client.upload_data

    def looked(data_set_id: str, body: bytes) -> None:
        (data_set,) = world.sets(number)
        chunks = world.ledger.data_sets.chunks_of(data_set.id)
        known.append(
            (data_set.data_set_id, data_set.state, list(told), [chunk.state for chunk in chunks.values()])
        )
        send(data_set_id, body)

    monkeypatch.setattr(world.client, "upload_data", looked)

    data_set_id = world.upload(number, on_open=told.append).data_set_id

    stored, sending = ChunkState.STORED, ChunkState.SENDING
    assert known == [
        (data_set_id, DataSetState.OPEN, [data_set_id], [*[stored] * index, sending]) for index in range(3)
    ]


def test_the_intent_is_noted_before_each_request(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = world.ready(readings(3))
    seen: list[tuple[str, BatchState, DataSetState]] = []

    def watch(name: str) -> None:
        call: Callable[..., Any] = getattr(world.client, name)

        def looked(*args: Any, **more: Any) -> Any:
            seen.append((name, world.row(number).state, world.sets(number)[-1].state))
            return call(*args, **more)

        monkeypatch.setattr(world.client, name, looked)

    for name in ("open_data_set", "upload_data", "close_data_set", "read_data"):
        watch(name)

    world.upload(number)

    assert seen == [
        ("open_data_set", BatchState.UPLOADING, DataSetState.OPENING),
        ("upload_data", BatchState.UPLOADING, DataSetState.OPEN),
        ("close_data_set", BatchState.UPLOADING, DataSetState.CLOSING),
        ("read_data", BatchState.UPLOADING, DataSetState.CLOSED),
    ]


# ---------------------------------------------------------------- again


def test_a_batch_that_is_done_uploads_nothing(world: World) -> None:
    number = world.ready(readings(5))
    first = world.upload(number)
    sent = len(world.simulator.requests)
    told: list[str] = []

    second = world.upload(number, run="run-2", on_open=told.append)

    assert len(world.simulator.requests) == sent
    assert (second.data_set_id, second.visible_rows, second.chunks_sent) == (first.data_set_id, 5, 0)
    assert told == [first.data_set_id]
    assert world.run().plan.done == 1


def test_force_uploads_again_and_the_older_is_archived(world: World) -> None:
    world.stage([*readings(5), wizard(10)])
    (number,) = world.run().plan.batches

    outcome = world.run(run="run-2", force=True)

    assert list(outcome.uploaded) == [number]
    first, second = world.sets(number)
    assert (first.ordinal, second.ordinal) == (1, 2)
    assert first.data_set_id != second.data_set_id
    assert second.state is DataSetState.VERIFIED
    assert world.visible(data_set_id=str(first.data_set_id)) == []
    assert len(world.visible()) == 7
    assert world.check().double == 0
    assert world.all_right()


def test_a_forced_run_that_is_tried_again_uploads_once(world: World) -> None:
    number = world.ready(readings(5))
    world.upload(number)

    for try_number in (1, 2, 3):
        world.upload(number, run="run-2", try_number=try_number, force=True)

    assert len(world.sets(number)) == 2


def test_a_run_that_is_asked_again_to_force_uploads_again(world: World) -> None:
    """As a backfill does that reprocesses its own days: Airflow clears the run and keeps its id."""
    number = world.ready(readings(5))
    world.upload(number)

    asked_at = datetime.now(UTC)
    for try_number in (2, 3):
        world.upload(number, try_number=try_number, force=True, asked_at=asked_at)

    assert len(world.sets(number)) == 2
    assert world.all_right()


def test_two_batches_of_one_device_that_overlap_show_each_record_once(world: World) -> None:
    world.stage(readings(20), "first")
    world.stage(readings(20, first=10), "second")

    outcome = world.run()

    assert outcome.codes == []
    second = outcome.uploaded[outcome.plan.batches[1]]
    assert len(world.visible()) == 30
    assert len(world.visible(data_set_id=second.data_set_id)) == 20
    assert world.all_right()


@pytest.mark.parametrize("deduplicator", [TRUNCATE, NONE, ORIGIN])
def test_other_deduplicators(world: World, deduplicator: str) -> None:
    records = [*readings(5), wizard(10)]
    if deduplicator == ORIGIN:
        records = [record | {"origin": {"id": f"o-{at}"}} for at, record in enumerate(records)]
    body = {"deduplicator": {"name": deduplicator}}
    number = world.ready(records, data_set=body, chunk_records=2, allow_truncate=True)

    summary = world.upload(number)

    assert summary.visible_rows == 7
    assert world.sets(number)[0].deduplicator == deduplicator
    assert world.all_right()


# ---------------------------------------------------------------- refusals


def test_a_user_that_the_account_may_not_write_to(world: World, caplog: pytest.LogCaptureFixture) -> None:
    stranger = world.add_user(may_upload=False)
    world.stage(readings(5), "theirs", user=stranger)
    world.stage(readings(5), "ours")

    with caplog.at_level(logging.DEBUG):
        outcome = world.run()

    logged = [record.getMessage() for record in caplog.records if record.name != "uvicorn.access"]
    (number,) = outcome.errors
    error = outcome.errors[number]
    assert isinstance(error, TidepoolPermissionError)
    assert error.disposition is Disposition.FATAL
    assert error.remedy
    assert stranger not in str(error)
    assert stranger not in "".join(logged)
    assert f"{world.row(number).label} stops here (tidepool-permission)." in logged
    assert (world.row(number).state, world.row(number).reason) == (BatchState.FAILED, "tidepool-permission")
    assert len(world.visible()) == 5
    name = next(account.name for account in world.simulator.accounts if account.id == stranger)
    world.simulator.accounts.grant("service", of=name)
    assert world.run().codes == []
    assert len(world.visible(stranger)) == 5
    assert world.check().unreachable == 0
    assert world.all_right()


def test_a_batch_that_was_not_prepared_is_not_uploaded(world: World) -> None:
    world.stage(readings(5))
    (number,) = world.plan().batches

    with pytest.raises(BatchError, match=r"\[work-area-damaged\]"):
        world.upload(number)

    assert world.simulator.requests == []


def test_a_chunk_that_was_damaged_in_the_work_area_is_not_sent(world: World) -> None:
    number = world.ready(readings(5))
    path = WorkArea(world.root, world.row(number).content_key).accepted_path
    path.write_bytes(path.read_bytes().replace(b"mmol/L", b"mg/dL ", 1))

    with pytest.raises(BatchError, match=r"\[work-area-damaged\]"):
        world.upload(number, rebuild=None)

    assert world.recorder.chunks == []
    assert world.visible() == []


# ---------------------------------------------------------------- one at a time


def test_a_second_uploader_at_the_same_time_is_sent_away(world: World) -> None:
    number = world.ready(readings(5))

    with (
        world.ledger.leases.held(f"batch:{number}", seconds=60),
        pytest.raises(LeaseHeldError, match=f"batch:{number}") as caught,
    ):
        world.upload(number)

    assert caught.value.disposition is Disposition.RETRIABLE
    assert 0 < caught.value.retry_after <= 60
    assert world.simulator.requests == []
    assert world.upload(number).visible_rows == 5


def test_the_uploader_holds_its_batch_while_it_is_at_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(5))
    send = world.client.upload_data
    errors: list[LeaseHeldError] = []

    def contended(data_set_id: str, body: bytes) -> None:
        with pytest.raises(LeaseHeldError) as caught:
            world.upload(number, run="run-2")
        errors.append(caught.value)
        send(data_set_id, body)

    monkeypatch.setattr(world.client, "upload_data", contended)

    world.upload(number)

    assert len(errors) == 1
    assert len(world.sets(number)) == 1
    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()


def test_two_batches_of_one_device_do_not_close_at_the_same_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.ready(readings(5), batch="first")
    second = world.ready(readings(5, first=10), batch="second")
    world.timed(close_turn=0.1)
    close = world.client.close_data_set
    met: list[str] = []

    def contended(data_set_id: str) -> None:
        if not met:
            met.append(data_set_id)
            with pytest.raises(LeaseHeldError, match="device:"):
                world.upload(second)
        close(data_set_id)

    monkeypatch.setattr(world.client, "close_data_set", contended)

    world.upload(first)

    assert len(met) == 1
    assert world.upload(second).chunks_resumed == 1
    assert world.all_right()


def test_a_claim_of_a_dead_task_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = world.ready(readings(5))
    held = world.ledger.leases.held(f"batch:{number}", seconds=60)
    held.__enter__()  # and never left

    with pytest.raises(LeaseHeldError):
        world.upload(number)
    world.wait_out_claims()

    assert world.upload(number).visible_rows == 5


def test_work_from_a_terminal_has_no_task(world: World) -> None:
    number = world.ready(readings(5))

    world.upload(number, origin=TaskOrigin())

    assert world.sets(number)[0].run_id is None
