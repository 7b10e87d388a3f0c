"""Several chunks of one data set are under way at the same time, and what that means when something fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.factories import NONE, ORIGIN, readings, with_origins
from tests.happenings import rows_in_store
from tests.timing import PATIENCE_SECONDS
from tests.world import World
from tidepool_ingest.client import TidepoolBusyError, TidepoolPermissionError, TidepoolUnreachableError
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import BatchState, ChunkState, DataSetState, Lease
from tidepool_ingest.ledger.client_state import RateLimits
from tidepool_ingest.upload import upload_batch
from tidepool_ingest.upload.guarded_requests import UploadStoppedError
from tidepool_ingest.upload.sending import Sending
from tidepool_simulator.faults import Fault

ROWS = 24
CHUNKS = 12


def staged(world: World, **more: Any) -> int:
    return world.ready(readings(ROWS), chunk_records=2, **more)


class UnderWay:
    """Counts the uploads of chunks that are under way at the same time."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = self.now = self.started = 0
        self._lock = threading.Lock()
        self._send = world.client.upload_data
        self.before: Callable[[int], None] = lambda number: None
        monkeypatch.setattr(world.client, "upload_data", self._counted)

    def _counted(self, data_set_id: str, body: bytes) -> None:
        with self._lock:
            self.started += 1
            number = self.started
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.before(number)
            self._send(data_set_id, body)
        finally:
            with self._lock:
                self.now -= 1


@pytest.mark.parametrize("at_once", [1, 4, 50])
def test_as_many_as_allowed_are_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    number = staged(world)
    expected = min(at_once, CHUNKS)
    meeting = threading.Barrier(expected, timeout=20)
    under_way = UnderWay(world, monkeypatch)
    under_way.before = lambda call: meeting.wait() if call <= expected else None

    summary = world.upload(number, at_once=at_once)

    assert under_way.most == expected
    assert summary.chunks_sent == CHUNKS
    assert world.all_right()


def test_no_more_chunks_are_read_than_are_under_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    read: list[int] = []
    from tidepool_ingest.staging.work_area import WorkArea

    reading = WorkArea.read_chunk
    monkeypatch.setattr(
        WorkArea, "read_chunk", lambda area, chunk: (read.append(chunk.index), reading(area, chunk))[1]
    )
    ahead: list[int] = []
    under_way = UnderWay(world, monkeypatch)
    under_way.before = lambda call: ahead.append(len(read) - call)

    world.upload(number, at_once=3)

    assert max(ahead) < 3


@pytest.mark.parametrize("lost", [1, 3, 7])
def test_several_answers_lost_at_once_are_each_reconciled(world: World, lost: int) -> None:
    world.timed(attempts=lost + 1)  # all of them may strike one chunk
    number = staged(world)
    world.simulator.faults.add(Fault.lost_answer("post", skip=2, times=lost))

    summary = world.upload(number, at_once=4)

    assert summary.repairs == lost
    assert len(world.sets(number)) == 1
    assert world.all_right()


@pytest.mark.parametrize("deduplicator", [NONE, ORIGIN])
def test_late_commits_side_by_side(world: World, deduplicator: str) -> None:
    world.timed(doubt=0.8)
    records = with_origins(readings(ROWS))
    number = world.ready(records, chunk_records=2, data_set={"deduplicator": {"name": deduplicator}})
    world.simulator.faults.add(Fault.late_commit("post", 0.3, skip=1, times=3))

    world.upload(number, at_once=4)

    assert world.simulator.settle(10)
    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()


def test_a_set_is_deleted_only_when_nothing_can_reach_it_any_more(world: World) -> None:
    world.timed(doubt=0.8)
    number = staged(world, data_set={"deduplicator": {"name": ORIGIN}})
    world.simulator.faults.add(
        Fault.late_commit("post", 0.2, skip=2, times=1), Fault.late_commit("post", 0.3, skip=3, times=1)
    )

    world.upload(number, at_once=4)

    assert world.simulator.settle(10)
    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.check().ok  # nothing came into the deleted set


def test_a_set_that_somebody_closed_is_deleted_only_when_no_chunk_in_doubt_can_reach_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubt = 1.5
    world.timed(doubt=doubt)
    number = staged(world)
    world.simulator.faults.add(Fault.late_commit("post", 0.4))
    under_way = UnderWay(world, monkeypatch)
    keep_for, delete = Lease.keep_for, world.client.delete_data_set
    in_doubt = threading.Event()
    began: list[float] = []
    deleted: list[float] = []

    def doubting(lease: Lease, seconds: float) -> None:
        keep_for(lease, seconds)
        in_doubt.set()

    def closed_beside_a_doubt(call: int) -> None:
        if call == 1:
            began.append(time.monotonic())
        if call == 2:
            assert in_doubt.wait(20)
            world.client.close_data_set(str(world.sets(number)[0].data_set_id))

    def deleting(data_set_id: str) -> None:
        deleted.append(time.monotonic())
        delete(data_set_id)

    monkeypatch.setattr(Lease, "keep_for", doubting)
    monkeypatch.setattr(world.client, "delete_data_set", deleting)
    under_way.before = closed_beside_a_doubt

    world.upload(number, at_once=2)

    assert deleted[0] - began[0] >= doubt
    assert world.simulator.settle(10)
    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.all_right()
    assert rows_in_store(world) == ROWS  # nothing came into the deleted set


def test_what_only_a_person_can_mend_goes_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    under_way = UnderWay(world, monkeypatch)
    both = threading.Barrier(2, timeout=20)

    def failing(call: int) -> None:
        if call <= 2:
            both.wait()
            if call == 1:
                raise TidepoolUnreachableError("upload", in_doubt=False)
            raise TidepoolPermissionError("upload")

    under_way.before = failing

    with pytest.raises(TidepoolPermissionError):
        world.upload(number, at_once=2)

    assert world.row(number).reason == "tidepool-permission"
    under_way.before = lambda call: None
    world.resume(number)
    assert world.all_right()


def test_when_one_fails_no_other_chunk_is_begun(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    under_way = UnderWay(world, monkeypatch)
    both = threading.Barrier(2, timeout=20)
    failed = threading.Event()
    one_after_the_other = Sending._sender

    def watched(sending: Sending, waiting: Any) -> None:
        try:
            one_after_the_other(sending, waiting)
        except TidepoolPermissionError:
            failed.set()
            raise

    def failing(call: int) -> None:
        if call <= 2:
            both.wait()
        if call == 1:
            raise TidepoolPermissionError("upload")
        assert failed.wait(PATIENCE_SECONDS)

    monkeypatch.setattr(Sending, "_sender", watched)
    under_way.before = failing

    with pytest.raises(TidepoolPermissionError):
        world.upload(number, at_once=2)

    assert under_way.started == 2
    assert under_way.now == 0


def test_told_to_stop_it_stops_between_two_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    under_way = UnderWay(world, monkeypatch)
    context = world.context(at_once=2)
    under_way.before = lambda call: context.stop() if call == 3 else None

    with pytest.raises(UploadStoppedError) as caught:
        upload_batch(context, world.row(number))

    assert "goes on from the ledger" in str(caught.value)
    assert under_way.started <= 4
    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id).values()
    assert {chunk.state for chunk in chunks} == {ChunkState.STORED}  # nothing is left in doubt
    under_way.before = lambda call: None
    assert world.upload(number, try_number=2).chunks_resumed == under_way.started - (CHUNKS - len(chunks))
    assert world.all_right()


@pytest.mark.parametrize("told", ["on_open", "on_stored"])
@pytest.mark.parametrize("deduplicator", [NONE, ORIGIN])
@pytest.mark.parametrize("at_once", [1, 3])
def test_told_to_stop_once_an_intent_is_recorded_it_leaves_no_doubt(
    world: World, told: str, deduplicator: str, at_once: int
) -> None:
    """The next chunk's intent stands in the ledger with what came before, and is then not sent."""
    number = staged(world, data_set={"deduplicator": {"name": deduplicator}})
    context = world.context(at_once=at_once)
    context = replace(context, **{told: lambda _told: context.stop()})

    with pytest.raises(UploadStoppedError):
        upload_batch(context, world.row(number))

    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id).values()
    assert {chunk.state for chunk in chunks} <= {ChunkState.STORED}
    assert len(chunks) == sum(request.operation == "post" for request in world.simulator.requests)

    summary = world.resume(number)

    assert summary.repairs == 0
    assert [row.id for row in world.sets(number)] == [data_set.id]  # it was not given up for a doubt
    assert world.all_right()


def test_what_was_in_doubt_before_stays_so_when_told_to_stop(world: World) -> None:
    number = staged(world)
    world.timed(attempts=1)
    world.simulator.faults.add(Fault.lost_answer("post", skip=1))
    with pytest.raises(IngestError):
        world.upload(number, at_once=1)
    context = world.context(at_once=1)
    context = replace(context, on_found=lambda _told: context.stop())

    with pytest.raises(UploadStoppedError):
        upload_batch(context, world.row(number))

    (data_set,) = world.sets(number)
    chunks = world.ledger.data_sets.chunks_of(data_set.id)
    assert {index: chunk.state for index, chunk in chunks.items()} == {
        0: ChunkState.STORED,
        1: ChunkState.SENDING,
    }
    assert world.resume(number).repairs == 1
    assert world.all_right()


def test_told_to_stop_it_does_not_wait_out_a_doubt(world: World) -> None:
    world.timed(doubt=60.0)
    number = staged(world)
    world.simulator.faults.add(Fault.lost_answer("post", skip=1))
    context = world.context(at_once=2)
    threading.Timer(1.0, context.stop).start()

    with pytest.raises(IngestError):
        upload_batch(context, world.row(number))


def test_a_signal_while_chunks_are_under_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = staged(world)
    under_way = UnderWay(world, monkeypatch)

    def ending(*_: object) -> None:
        raise SystemExit(143)

    before = signal.signal(signal.SIGTERM, ending)
    under_way.before = lambda call: os.kill(os.getpid(), signal.SIGTERM) if call == 4 else time.sleep(0.05)
    try:
        with pytest.raises(SystemExit):
            world.upload(number, at_once=3)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert under_way.now == 0
    under_way.before = lambda call: None
    world.resume(number)
    assert world.all_right()


# ---------------------------------------------------------------- 429


def test_one_429_slows_down_every_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = staged(world, batch="first")
    other = world.ready(readings(ROWS, first=100), batch="other", chunk_records=2, data_set={"deviceId": "x"})
    monkeypatch.setattr("tidepool_ingest.ledger.client_state.FIRST_PAUSE_SECONDS", 1.6)
    asked: list[float] = []
    sent: list[float] = []
    note = RateLimits.record

    def noted(table: RateLimits, api_host: str, seconds: float | None) -> None:
        asked.append(time.monotonic())
        note(table, api_host, seconds)

    monkeypatch.setattr(RateLimits, "record", noted)
    under_way = UnderWay(world, monkeypatch)
    under_way.before = lambda call: sent.append(time.monotonic())
    world.simulator.faults.add(Fault.refused("post", 429, skip=4))

    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(world.upload, number, at_once=2) for number in (first, other)]
        summaries = [one.result() for one in done]

    assert len(asked) == 1
    pause = [moment for moment in sent if asked[0] < moment < asked[0] + 1.6]
    assert len(pause) <= 3  # the other senders may have been on their way, each with one chunk
    assert [summary.repairs for summary in summaries] == [0, 0]
    assert world.all_right()


@pytest.mark.parametrize("operation", ["create", "post", "close"])
def test_a_short_pause_is_waited_for_within_the_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr("tidepool_ingest.ledger.client_state.FIRST_PAUSE_SECONDS", 0.05)
    number = staged(world)
    world.simulator.faults.add(Fault.refused(operation, 429, times=2))

    world.upload(number, at_once=2)

    assert len(world.sets(number)) == 1
    assert world.all_right()


def test_busy_without_end_goes_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.ledger.client_state.FIRST_PAUSE_SECONDS", 0.02)
    number = staged(world)
    world.simulator.faults.add(Fault.refused("post", 429, times=None))

    with pytest.raises(TidepoolBusyError):
        world.upload(number, at_once=4)

    world.simulator.faults.clear()
    world.wait_out_slow_downs()
    world.upload(number, try_number=2)
    assert world.all_right()
