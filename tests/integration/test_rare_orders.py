"""Orders of events that are rare, and in which data were lost, doubled or shown wrongly once."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import delete

from tests.factories import DAY, ORIGIN, TOO_HIGH, cbg, readings, some_bad, with_origins
from tests.happenings import reconcile
from tests.killing import Killed
from tests.overlaps import (
    OLDER,
    RIGHT,
    WRONG,
    amounts,
    dose,
    ready,
    right_one,
    shown,
    values_of,
    verified,
    wrong_one,
)
from tests.timing import PATIENCE_SECONDS, Clock
from tests.world import World
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.errors import Disposition
from tidepool_ingest.guards import SupersededBatchError
from tidepool_ingest.guards.checks import NewerAtCloseError
from tidepool_ingest.ledger import BatchState, DataSetState, Lease, devices
from tidepool_ingest.ledger import leases as claims
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.ledger.schema import leases
from tidepool_ingest.model import Problem
from tidepool_ingest.prepare.record_checks import DEVICE_ID_MISSING, Findings, RecordChecker
from tidepool_ingest.prepare.writer import write_batch
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault


def killed_before(world: World, monkeypatch: pytest.MonkeyPatch, number: int, name: str, **more: Any) -> None:
    """Upload, and let the task be killed when it is about to send its first request of a kind."""

    def struck(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(world.client, name, struck)
        with pytest.raises(Killed):
            world.upload(number, **more)


def end_all_claims(world: World) -> None:
    """Let so much time pass that no claim is left."""
    with world.ledger.database.writing() as connection:
        connection.execute(delete(leases))


def lose_work_area(world: World, number: int) -> None:
    WorkArea(world.root, world.row(number).content_key).discard()


# ---------------------------------------------------------------- the only copy


def test_a_closed_set_of_which_newer_data_hide_a_part_is_never_deleted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ready(world, [*dose(1, 0), *dose(1, 5)], OLDER, "first")
    killed_before(world, monkeypatch, first, "read_data")
    end_all_claims(world)
    second = ready(world, dose(2, 0), DAY, "second")
    world.upload(second)
    assert amounts(world) == [1, 2]
    lose_work_area(world, first)
    shutil.rmtree(world.staging / str(OLDER))

    reconcile(world)

    assert amounts(world) == [1, 2]


def test_a_closed_set_stays_when_its_folder_holds_something_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ready(world, dose(1, 0), DAY, "latest")
    killed_before(world, monkeypatch, first, "read_data")
    end_all_claims(world)
    lose_work_area(world, first)
    world.stage(dose(3, 60), "latest")

    reconcile(world)
    assert world.row(first).state is BatchState.UPLOADING
    world.run()
    reconcile(world)

    assert amounts(world) == [1, 3]


def test_a_verified_batch_that_a_guard_holds_stays_verified(world: World) -> None:
    older = verified(world, dose(1), OLDER, batch="older")
    verified(world, dose(2))
    outcome = world.run(Window(OLDER, OLDER), run="run-2", force=True)
    assert outcome.codes == ["older-than-uploaded"]
    assert world.row(older).state is BatchState.VERIFIED
    world.stage(dose(5, 90), "older", day=OLDER)

    world.plan(Window(OLDER, OLDER))

    assert world.row(older).state is BatchState.VERIFIED


def test_which_of_two_is_replaced_has_to_be_clear(world: World) -> None:
    world.stage(values_of([5.0]), "latest")
    world.run()
    world.stage([cbg(100, 9.0)], "latest")
    world.run()
    world.stage([cbg(100, 9.5)], "right", replaces="latest")
    (number,) = [batch for batch in world.plan().batches if world.row(batch).batch_id == "right"]

    with pytest.raises(BatchError) as caught:
        world.prepare(number)

    assert caught.value.code == "replaces-ambiguous"
    assert shown(world) == [5.0, 9.0]


# ---------------------------------------------------------------- in the place of another


def test_a_corrected_batch_is_not_uploaded_again(world: World) -> None:
    wrong = wrong_one(world)
    world.upload(right_one(world))

    with pytest.raises(SupersededBatchError):
        world.upload(wrong, try_number=2)  # its task is cleared
    with pytest.raises(SupersededBatchError):
        world.prepare(wrong)

    assert world.row(wrong).state is BatchState.REPLACED
    assert world.run().uploaded == {}
    assert shown(world) == RIGHT


@pytest.mark.parametrize("percent", [100, 0], ids=["prepared", "failed"])
def test_what_is_staged_anew_while_it_is_prepared_is_not_taken_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch, percent: int
) -> None:
    world.stage([*values_of(WRONG), {"type": "cbg"}], "one")
    (first,) = world.plan().batches

    def overtaken(*written: Any, **more: Any) -> PreparedBatch:
        prepared = write_batch(*written, **more)
        world.stage(values_of(RIGHT), "one")
        world.plan()
        return prepared

    monkeypatch.setattr("tidepool_ingest.prepare.step.write_batch", overtaken)

    with pytest.raises(SupersededBatchError):
        world.prepare(first, max_quarantined_percent=percent)
    assert world.row(first).state is BatchState.OVERWRITTEN


def test_what_was_staged_anew_is_not_uploaded_beside_it(world: World) -> None:
    first = world.ready(values_of(WRONG), batch="one")
    second = world.ready(values_of(RIGHT), batch="one")

    with pytest.raises(SupersededBatchError) as caught:
        world.upload(first)  # its task was queued already
    world.upload(second)

    assert caught.value.disposition is Disposition.DATA
    assert world.row(first).state is BatchState.OVERWRITTEN
    assert shown(world) == RIGHT


def test_content_that_lies_in_staging_once_more_is_taken_up_again(world: World) -> None:
    first = world.ready(values_of(WRONG), batch="one")
    world.ready(values_of(RIGHT), batch="one")
    assert world.row(first).state is BatchState.OVERWRITTEN

    world.stage(values_of(WRONG), "one")
    world.run()

    assert world.row(first).state is BatchState.VERIFIED
    assert shown(world) == WRONG


# ---------------------------------------------------------------- order


def test_an_older_batch_waits_for_a_newer_one_that_was_left_at_its_close(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = ready(world, dose(1), OLDER, "older")
    newer = ready(world, dose(2), DAY, "newer")
    killed_before(world, monkeypatch, newer, "read_data")

    with pytest.raises(NewerAtCloseError) as caught:
        world.upload(older)
    assert caught.value.disposition is Disposition.RETRIABLE
    world.resume(newer)

    assert amounts(world) == [2]
    assert world.row(newer).state is BatchState.VERIFIED


# ---------------------------------------------------------------- claims and requests


def test_a_claim_outlasts_the_last_request_of_a_dead_holder() -> None:
    usual = UploadContext.default_timeouts
    gateway = 60.0

    assert usual.lease >= usual.request + usual.doubt
    assert usual.begin + gateway <= usual.request
    assert usual.lease > usual.read_back


@pytest.mark.parametrize("answers", [1, 3], ids=["in-a-chunk", "in-the-close"])
def test_a_claim_outlasts_the_request_its_holder_was_killed_in_and_the_doubt_about_it(
    world: World, monkeypatch: pytest.MonkeyPatch, answers: int
) -> None:
    request, doubt = 30.0, 60.0
    world.timed(request=request, doubt=doubt, lease=request + doubt)
    number = world.ready(readings(6), chunk_records=2)
    world.simulator.faults.add(Fault.slow(0.3, "post", times=1))  # so that the claim has aged
    answered: list[float] = []

    def killed_in_time(send: Callable[..., None]) -> Callable[..., None]:
        def sending(*given: Any) -> None:
            if len(answered) == answers:
                raise Killed
            send(*given)
            answered.append(time.monotonic())

        return sending

    with monkeypatch.context() as patch:
        for name in ("upload_data", "close_data_set"):
            patch.setattr(world.client, name, killed_in_time(getattr(world.client, name)))
        # The dead give nothing back and note nothing.
        patch.setattr(Lease, "release", lambda lease: None)
        patch.setattr(Lease, "keep_for", lambda lease, seconds: None)
        with pytest.raises(Killed):
            world.upload(number)

    with pytest.raises(LeaseHeldError) as caught:
        world.upload(number, try_number=2)
    assert caught.value.retry_after + time.monotonic() - answered[-1] >= request + doubt

    end_all_claims(world)
    world.resume(number)
    assert world.all_right()


def test_a_claim_outlasts_the_wait_for_a_doubt_and_the_request_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, doubt = 30.0, 0.5
    world.timed(request=request, doubt=doubt, lease=request + doubt)
    # Its deduplicator takes no chunk back, so that the set is deleted after the wait.
    records = with_origins(readings(6))
    number = world.ready(records, chunk_records=2, data_set={"deduplicator": {"name": ORIGIN}})
    world.simulator.faults.add(Fault.lost_answer("post", skip=1, latency=0.3))
    send, begin_delete = world.client.upload_data, world.ledger.data_sets.begin_delete
    lost: list[float] = []
    claimed: list[float] = []

    def sending(*given: Any) -> None:
        try:
            send(*given)
        except TidepoolUnreachableError:
            lost.append(time.monotonic())
            raise

    def deleting(data_set: int, **more: Any) -> None:
        with pytest.raises(LeaseHeldError) as caught:
            world.upload(number, try_number=2)
        claimed.append(caught.value.retry_after + time.monotonic() - lost[0])
        begin_delete(data_set, **more)

    monkeypatch.setattr(world.client, "upload_data", sending)
    monkeypatch.setattr(world.ledger.data_sets, "begin_delete", deleting)

    world.upload(number)

    assert len(lost) == len(claimed) == 1
    assert claimed[0] >= doubt + request
    assert world.set_states(number) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert world.all_right()


def test_a_request_whose_token_took_too_long_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = ready(world, dose(1), DAY, "one")
    world.timed(begin=0.2, attempts=1)
    token = world.client._transport._tokens.token
    open_data_set = world.client.open_data_set
    opened = threading.Event()

    def waiting() -> str:
        if opened.is_set():
            time.sleep(0.5)
        return token()

    def opening(*given: Any) -> Any:
        data_set = open_data_set(*given)
        opened.set()
        return data_set

    with monkeypatch.context() as patch:
        patch.setattr(world.client._transport._tokens, "token", waiting)
        patch.setattr(world.client, "open_data_set", opening)
        with pytest.raises(TidepoolUnreachableError, match="could not be started in time") as caught:
            world.upload(number)

    assert not caught.value.in_doubt
    assert world.recorder.chunks == []
    world.timed(begin=60.0)
    world.resume(number)
    assert amounts(world) == [1]


class ClockOfClaims(Clock):
    """Claims end by what the test lets pass, however long a busy machine takes; who waits waits for real."""

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def test_the_claims_are_kept_while_a_read_back_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.timed(request=0.3, read_back=0.6, lease=1.0, close_turn=PATIENCE_SECONDS)
    clock = ClockOfClaims()
    for module in (claims, devices):
        monkeypatch.setattr(module, "now_of", clock.of_database)
    monkeypatch.setattr(claims, "time", clock)
    monkeypatch.setattr("tidepool_ingest.upload.guarded_requests.ROWS_BETWEEN_RENEWALS", 1)
    older = ready(world, [*dose(1, 0), *dose(1, 5)], DAY, "first")
    newer = ready(world, dose(2, 0), DAY, "second")
    read, began = world.client.read_data, threading.Event()

    def slow(*given: Any, **more: Any) -> Iterator[dict[str, Any]]:
        first = not began.is_set()
        began.set()
        for row in read(*given, **more):
            if first:
                time.sleep(0.5)  # the other one looks meanwhile
                clock.pass_by(0.5)  # all of it takes longer than a claim lasts
            yield row

    monkeypatch.setattr(world.client, "read_data", slow)
    task = threading.Thread(target=world.upload, args=(older,))
    task.start()
    assert began.wait(PATIENCE_SECONDS)
    world.resume(newer)
    task.join()

    assert world.set_states(older) == [DataSetState.VERIFIED]
    assert amounts(world) == [1, 2]


# ---------------------------------------------------------------- what Tidepool refused


def test_a_kill_does_not_get_refused_records_past_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(), chunk_records=5)
    add = world.ledger.rejections.add

    def struck(*given: Any, **more: Any) -> None:
        add(*given, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger.rejections, "add", struck)
        for _ in range(2):
            with pytest.raises(Killed):
                world.resume(number, rejected_from=3)

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.resume(number, rejected_from=3)

    assert world.visible() == []


def test_other_rules_of_ours_do_not_shift_what_tidepool_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(some_bad(bad=(0, 5)), max_quarantined_percent=50)
    killed_before(world, monkeypatch, number, "close_data_set", max_rejected_percent=50)
    lose_work_area(world, number)
    look_at = RecordChecker.check_record

    def stricter(checker: RecordChecker, datum: Any, embedded: Any) -> Any:
        if datum.get("value", 0) > 20:
            return Findings(rejected=(Problem(DEVICE_ID_MISSING, "/value"),), warned=())
        return look_at(checker, datum, embedded)

    monkeypatch.setattr(RecordChecker, "needing_check", lambda checker, data: list(range(len(data))))
    monkeypatch.setattr(RecordChecker, "check_record", stricter)
    world.prepare(number, max_quarantined_percent=50)

    world.resume(number, max_rejected_percent=50)

    assert len(world.visible()) == 18
    assert [place for place, _codes in world.refused(number)] == [0, 5]
