"""A batch of a feed is retracted by a later one: nothing of it shows any more; what others wrote stays."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.factories import (
    DAY,
    DROP_HASH,
    NONE,
    ORIGIN,
    ORIGIN_OLDER,
    bolus,
    cbg,
    later,
    minute_of,
    readings,
    wizard,
)
from tests.happenings import age, reconciled, strike, tidy
from tests.killing import Killed, Killer
from tests.timing import Clock
from tests.world import FeedWorld
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import QuarantineLimitError, WithdrawnError
from tidepool_ingest.ledger import ActionKind, BatchRow, BatchState, DataSetState
from tidepool_ingest.maintenance import retracting as retracting_module
from tidepool_ingest.maintenance.retracting import retract_batch
from tidepool_ingest.model import Problem
from tidepool_ingest.prepare.feeds.classify import CLASH, OriginIndex
from tidepool_ingest.reports.help import available_actions
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import UploadSummary, upload_batch
from tidepool_ingest.upload import guarded_requests as waiting
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_ingest.window import Window
from tidepool_simulator import Fault, reading_service
from tidepool_simulator.rules import Rule


def retracting(world: FeedWorld, retracted: str = "b-0001", batch: str = "b-0009", **more: Any) -> int:
    """Stage and prepare a batch that retracts another one, and return its number."""
    return world.ready(more.pop("records", []), batch=batch, retracts=retracted, **more)


def is_retracted(world: FeedWorld, retracted: int, by: int) -> bool:
    assert (world.row(retracted).state, world.row(by).state) == (BatchState.WITHDRAWN, BatchState.VERIFIED)
    assert {share.state for share in world.sets(retracted)} == {DataSetState.ABANDONED}
    assert len(world.data_sets()) == 1
    return world.all_right()


def named(origin: str, minute: int, value: float, **more: Any) -> dict[str, Any]:
    """Return a reading that was staged with an id of its own, so that no version of it differs by its id."""
    own = {"id": f"{minute:032}", "origin": {"id": origin, "name": "org.example.app", "type": "application"}}
    return cbg(minute, value, **own, **more)


def test_nothing_of_it_shows_any_more(world: FeedWorld) -> None:
    wrong = world.feed([*readings(5), wizard(7), bolus(9)], "b-0001")
    assert len(world.visible()) == 8

    by = retracting(world)
    summary = world.upload(by)

    assert world.visible() == []
    assert (summary.visible_rows, summary.expected_rows, summary.deleted) == (0, 0, 8)
    assert is_retracted(world, wrong, by)


def test_what_others_have_written_stays_whenever_they_come(world: FeedWorld) -> None:
    world.feed([cbg(0, 4.0), cbg(1, 4.0), cbg(2, 4.0)], "b-0000")
    wrong = world.feed([cbg(1, 5.0), cbg(2, 5.0), cbg(3, 5.0), cbg(4, 5.0)], "b-0001")
    world.feed([cbg(2, 6.0), cbg(3, 6.0)], "b-0002")
    late = world.ready([cbg(4, 7.0)], batch="b-0003")
    by = retracting(world)
    summary = world.upload(by)
    world.upload(late)  # it lies between the two, and comes after both
    world.feed([cbg(5, 8.0)], "b-0010")

    # A version that the batch had replaced does not come back.
    assert world.values() == {
        minute_of(0): 4.0,
        minute_of(2): 6.0,
        minute_of(3): 6.0,
        minute_of(4): 7.0,
        minute_of(5): 8.0,
    }
    assert summary.deleted == 2
    assert is_retracted(world, wrong, by)


def test_what_it_had_replaced_shows_once_that_batch_is_staged_again(world: FeedWorld) -> None:
    world.feed([cbg(0, 4.0)], "b-0001", day=DAY)
    world.feed([cbg(0, 5.0)], "b-0002")
    world.upload(retracting(world, "b-0002"))
    assert world.values() == {}

    world.feed([cbg(0, 4.0)], "b-0010")
    assert world.values() == {minute_of(0): 4.0}


def test_no_run_brings_it_back_but_a_forced_one_does(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by = retracting(world)
    world.upload(by)

    assert wrong not in world.plan().batches
    with pytest.raises(WithdrawnError):
        world.upload(wrong)
    with pytest.raises(WithdrawnError):
        world.prepare(wrong)
    assert world.visible() == []

    world.prepare(wrong, force=True)
    world.upload(wrong, force=True, run="run-2")
    assert len(world.values()) == 5
    assert world.row(wrong).state is BatchState.VERIFIED
    # Whoever wants that can retract it once more.
    again = retracting(world, batch="b-0010")
    world.upload(again)
    assert world.visible() == []
    assert is_retracted(world, wrong, again)


def test_a_forced_upload_that_died_is_not_taken_for_the_one_before(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = world.feed(readings(5), "b-0001")
    world.upload(retracting(world))

    def struck(*args: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.ledger.data_sets, "begin_opening", struck)
        with pytest.raises(Killed):
            world.upload(wrong, force=True, run="run-2")
    assert world.row(wrong).state is BatchState.UPLOADING

    world.resume(wrong, run="run-3")
    assert world.row(wrong).state is BatchState.VERIFIED
    assert len(world.values()) == 5


@pytest.mark.parametrize("deduplicator", [ORIGIN, ORIGIN_OLDER, DROP_HASH, NONE])
@pytest.mark.parametrize("own_ids", [False, True])
def test_each_deduplicator_leaves_what_others_brought_in(
    world: FeedWorld, deduplicator: str, own_ids: bool
) -> None:
    body = {"deduplicator": {"name": deduplicator}}

    def record(minute: int, value: float) -> dict[str, Any]:
        return named(f"o-{minute}", minute, value) if own_ids else cbg(minute, value)

    world.feed([record(0, 4.0)], "b-0000", data_set=body)
    wrong = world.feed([record(1, 5.0), record(2, 5.0)], "b-0001", data_set=body)
    world.feed([record(3, 6.0)], "b-0002", data_set=body)
    by = retracting(world, data_set=body)
    world.upload(by)

    assert world.values() == {minute_of(0): 4.0, minute_of(3): 6.0}
    assert is_retracted(world, wrong, by)


def test_an_equal_record_that_tidepool_kept_of_an_earlier_batch_stays(world: FeedWorld) -> None:
    body = {"deduplicator": {"name": DROP_HASH}}
    world.feed([cbg(0, 4.0)], "b-0000", data_set=body)
    wrong = world.feed([cbg(0, 4.0), cbg(1, 5.0)], "b-0001", data_set=body)
    world.upload(retracting(world, data_set=body))

    assert world.values() == {minute_of(0): 4.0}
    assert world.row(wrong).state is BatchState.WITHDRAWN


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_one_that_is_half_uploaded(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch, own_ids: bool, stored: bool
) -> None:
    def record(minute: int, value: float) -> dict[str, Any]:
        return named(f"o-{minute}", minute, value) if own_ids else cbg(minute, value)

    world.feed([record(minute, 4.0) for minute in range(6)], "b-0000")
    wrong = world.ready([record(minute, 5.0) for minute in range(6)], batch="b-0001", chunk_records=2)
    if stored:
        send, left = world.client.upload_data, [None]

        def struck(data_set_id: str, body: bytes) -> None:
            send(data_set_id, body)
            if not left:
                raise Killed  # its second chunk arrived, and nobody knows
            left.pop()

        with monkeypatch.context() as patched:
            patched.setattr(world.client, "upload_data", struck)
            with pytest.raises(Killed):
                world.upload(wrong)
    else:
        strike(world, wrong, monkeypatch, chunks=1)
    by = retracting(world)
    world.resume(by)

    # What it never sent was never replaced.
    kept = range(4, 6) if stored else range(2, 6)
    assert world.values() == {minute_of(minute): 4.0 for minute in kept}
    with pytest.raises(WithdrawnError):
        world.resume(wrong)
    assert is_retracted(world, wrong, by)
    assert reconciled(world).unfinished == 0


def test_it_may_bring_records_of_its_own(world: FeedWorld) -> None:
    wrong = world.feed([cbg(0, 5.0), cbg(1, 5.0), wizard(2)], "b-0001")
    by = retracting(world, records=[cbg(1, 6.0), cbg(3, 6.0)])
    summary = world.upload(by)

    assert world.values() == {minute_of(1): 6.0, minute_of(3): 6.0}
    assert (summary.visible_rows, summary.deleted) == (2, 3)
    assert is_retracted(world, wrong, by)


def test_a_rejected_record_does_not_keep_the_one_that_it_was_to_replace(
    world: FeedWorld,
) -> None:
    world.feed([cbg(0, 5.0), cbg(1, 5.0)], "b-0001")
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    by = retracting(world, records=[cbg(0, 22.0), cbg(1, 6.0)])
    world.upload(by, max_rejected_percent=50)

    assert world.values() == {minute_of(1): 6.0}


def test_one_that_is_held_withdraws_nothing(world: FeedWorld) -> None:
    wrong = world.feed([cbg(0, 5.0), cbg(1, 5.0)], "b-0001")
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    by = retracting(world, records=[cbg(0, 22.0), cbg(1, 23.0)])
    with pytest.raises(QuarantineLimitError):
        world.upload(by)

    assert world.row(wrong).state is BatchState.VERIFIED
    assert world.values() == {minute_of(0): 5.0, minute_of(1): 5.0}


def test_two_retract_one(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    first, second = retracting(world), retracting(world, batch="b-0010")
    assert world.upload(second).deleted == 5
    assert world.upload(first).deleted == 5

    assert world.visible() == []
    assert is_retracted(world, wrong, first)
    assert world.row(second).state is BatchState.VERIFIED


def test_a_retracting_one_is_retracted_with_its_records(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by = retracting(world, records=[cbg(0, 9.0), cbg(8, 9.0)])
    world.upload(by)
    world.upload(retracting(world, "b-0009", "b-0010"))

    assert world.visible() == []
    assert {world.row(number).state for number in (wrong, by)} == {BatchState.WITHDRAWN}


def test_a_retracting_one_that_had_not_finished_is_completed_by_the_one_that_retracts_it(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = world.feed(readings(5), "b-0001")
    world.feed([cbg(9, 6.0)], "b-0002")
    by = retracting(world, records=[cbg(0, 9.0)])
    world.simulator.faults.add(Fault.refused("delete-data", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(by)
    world.simulator.faults.clear()
    assert (world.row(wrong).state, world.row(by).state) == (BatchState.WITHDRAWN, BatchState.UPLOADING)

    again = retracting(world, "b-0009", "b-0010")
    with monkeypatch.context() as patched:
        delete, left = world.client.delete_data, [None]

        def struck(*given: Any) -> None:
            if not left:
                raise Killed  # between the two
            left.pop()
            delete(*given)

        patched.setattr(world.client, "delete_data", struck)
        with pytest.raises(Killed):
            world.upload(again)
    world.resume(again)

    assert world.values() == {minute_of(9): 6.0}
    assert reconciled(world).unfinished == 0


@pytest.mark.parametrize("deduplicator", [ORIGIN, ORIGIN_OLDER, DROP_HASH, NONE])
def test_a_version_that_a_later_batch_did_not_replace_goes_too(world: FeedWorld, deduplicator: str) -> None:
    body = {"deduplicator": {"name": deduplicator}}
    world.feed([cbg(1, 5.0, origin={"id": "o"})], "b-0001", data_set=body)
    # Under drop.hash, both versions show: they are of another time, and it does not look at the origin.
    world.feed([cbg(2, 6.0, origin={"id": "o"})], "b-0002", data_set=body)
    world.upload(retracting(world, data_set=body))

    assert world.values() == {minute_of(2): 6.0}


# ---------------------------------------------------------------- whatever goes wrong


def test_it_may_die_after_any_step(world: FeedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.feed([cbg(0, 4.0), cbg(1, 4.0)], "b-0000")
    wrong = world.feed([cbg(minute, 5.0) for minute in range(1, 4)], "b-0001")
    killer = Killer(world, monkeypatch)
    at, struck = 0, True
    while struck:
        by = retracting(world, batch=f"b-{100 + at}", records=[cbg(9, 6.0)])
        killer.strike(at, after=True)
        try:
            world.upload(by)
        except Killed:
            killer.stand_down()
            world.resume(by)
        else:
            struck = False
        killer.stand_down()
        assert world.values() == {minute_of(0): 4.0, minute_of(9): 6.0}
        assert world.row(by).state is BatchState.VERIFIED
        world.prepare(wrong, force=True)
        world.upload(wrong, force=True, run=f"run-{at}")
        assert len(world.values()) == 5
        at += 1
    assert {"delete_data", "upload_data", "read_data", "retract"} <= set(killer.calls)


@pytest.mark.parametrize("is_done", [True, False])
def test_lost_answers(world: FeedWorld, is_done: bool) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by = retracting(world)
    lost = Fault.lost_answer("delete-data") if is_done else Fault.refused("delete-data", 503)
    world.simulator.faults.add(lost)
    world.simulator.faults.add(Fault.refused("read-back", 503))
    world.upload(by)

    assert world.visible() == []
    assert is_retracted(world, wrong, by)


def test_the_maintenance_completes_it(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by = retracting(world)
    world.simulator.faults.add(Fault.refused("delete-data", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(by)
    world.simulator.faults.clear()
    assert (world.row(wrong).state, world.row(by).state) == (BatchState.WITHDRAWN, BatchState.UPLOADING)

    assert reconciled(world).finished == 1
    assert world.visible() == []
    assert is_retracted(world, wrong, by)
    assert reconciled(world).unfinished == 0


def test_rows_that_show_late_are_found(world: FeedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(reading_service, "time", clock)
    usual = Timeouts()
    world.timed(visible_wait=usual.visible_wait, visible_poll=usual.visible_poll)
    wrong = world.ready(readings(5), batch="b-0001")
    world.simulator.faults.add(Fault.shown_late("post", 40.0))

    def struck(*args: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(world.ledger.data_sets, "chunk_stored", struck)
        with pytest.raises(Killed):
            world.upload(wrong)
    by = retracting(world)
    world.resume(by)
    clock.sleep(60.0)

    assert world.visible() == []
    assert is_retracted(world, wrong, by)


# ---------------------------------------------------------------- where its records are read


@pytest.mark.parametrize("is_prepared", [True, False])
def test_its_work_area_may_be_gone(world: FeedWorld, is_prepared: bool) -> None:
    wrong = world.feed([*readings(5), wizard(7)], "b-0001")
    area = WorkArea(world.root, world.row(wrong).content_key)
    if is_prepared:
        by = retracting(world)
        area.discard()
    else:
        area.discard()
        by = retracting(world)
    upload_batch(world.context(), world.row(by))

    assert world.visible() == []
    assert is_retracted(world, wrong, by)


def test_a_damaged_chunk_of_it_is_read_from_staging(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by = retracting(world)
    path = Path(WorkArea(world.root, world.row(wrong).content_key).accepted_path.path)
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    upload_batch(world.context(), world.row(by))

    assert world.visible() == []
    assert is_retracted(world, wrong, by)


def test_staging_is_not_needed_while_there_is_a_work_area(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    shutil.rmtree(world.row(wrong).folder)
    world.upload(retracting(world))

    assert world.visible() == []


def test_its_work_area_is_not_cleaned_up_before(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    other = world.feed([cbg(9, 6.0)], "b-0002")
    by = retracting(world)
    world.simulator.faults.add(Fault.refused("delete-data", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(by)
    world.simulator.faults.clear()
    shutil.rmtree(world.row(wrong).folder)
    age(world, 100)
    tidy(world)
    assert [world.row(number).purged is None for number in (wrong, other)] == [True, False]
    world.resume(by)

    assert world.values() == {minute_of(9): 6.0}
    age(world, 100)
    tidy(world)
    assert world.row(wrong).purged is not None


def test_only_what_was_brought_in_counts_as_deleted(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20))
    records = [cbg(0, 22.0), *(cbg(minute, 5.0) for minute in range(1, 8))]
    wrong = world.ready(records, batch="b-0001", chunk_records=2)
    strike(world, wrong, monkeypatch, chunks=3)  # the first one twice, the third in doubt
    by = retracting(world)

    assert world.resume(by).deleted == 5
    assert world.visible() == []


def test_without_both_it_says_what_is_missing(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    shutil.rmtree(world.row(wrong).folder)
    WorkArea(world.root, world.row(wrong).content_key).discard()

    refused(world, "retracts-not-in-staging")
    assert world.row(wrong).state is BatchState.VERIFIED
    assert len(world.values()) == 5


def test_records_that_are_numbered_otherwise_by_now_go_too(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = world.feed(readings(5), "b-0001")
    WorkArea(world.root, world.row(wrong).content_key).discard()
    add = OriginIndex.add

    def stricter(index: OriginIndex, ordinal: int, *more: Any) -> None:
        if ordinal == 0:
            index.rejected[0] = (Problem(CLASH, "/origin/id"),)
        else:
            add(index, ordinal, *more)

    monkeypatch.setattr(OriginIndex, "add", stricter)
    by = retracting(world)
    assert world.prepared(wrong).travelling == 4
    world.upload(by)

    assert world.row(by).state is BatchState.VERIFIED
    assert world.visible() == []


# ---------------------------------------------------------------- what cannot be retracted


def refused(world: FeedWorld, code: str, retracted: str = "b-0001", **more: Any) -> IngestError:
    """Stage a batch that retracts something, and see it stop before anything is sent."""
    requests = len(world.simulator.requests)
    with pytest.raises(IngestError) as caught:
        retracting(world, retracted, **more)
    assert caught.value.code == code
    assert len(world.simulator.requests) == requests
    assert "b-0" not in str(caught.value)
    return caught.value


def test_one_that_nobody_knows(world: FeedWorld) -> None:
    refused(world, "retracts-unknown", "never-staged")


def test_itself(world: FeedWorld) -> None:
    refused(world, "retracts-unknown", "b-0009", records=readings(1))


def test_one_of_a_normal_data_set(world: FeedWorld) -> None:
    folder = world.stage(readings(3), "b-0001")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["dataSet"].pop("dataSetType")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    world.data_set_type = "normal"
    world.plan()
    world.data_set_type = "continuous"

    refused(world, "retracts-unknown")


def test_one_that_is_about_to_be_uploaded_is_waited_for(world: FeedWorld) -> None:
    wrong = world.ready(readings(3), batch="b-0001")
    error = refused(world, "retracted-first")
    # Not as one that waits: only another run may take that one up again.
    assert (error.disposition, error.waits) == (Disposition.RETRIABLE, False)

    world.upload(wrong)
    by = retracting(world)
    world.upload(by)
    assert is_retracted(world, wrong, by)


def test_one_of_which_nothing_was_uploaded(world: FeedWorld) -> None:
    wrong = world.ready(readings(3), batch="b-0001")
    world.ledger.batches.mark_failed(wrong, "file-truncated")

    refused(world, "retracts-not-uploaded")


def test_one_that_comes_after_records_of_its_own(world: FeedWorld) -> None:
    wrong = world.feed([cbg(0, 5.0), cbg(1, 5.0)], "b-0001")
    refused(world, "retracts-later", batch="b-0000", records=[cbg(0, 6.0)])
    assert world.row(wrong).state is BatchState.VERIFIED

    by = retracting(world, batch="b-0000")  # without records, the order does not matter
    world.upload(by)
    assert is_retracted(world, wrong, by)


def test_one_of_another_feed(world: FeedWorld) -> None:
    wrong = world.feed(readings(3), "b-0001", data_set={"client": {"name": "org.example.other"}})
    by = retracting(world)
    with pytest.raises(IngestError) as caught:
        world.upload(by)

    assert caught.value.code == "retracts-other-feed"
    assert world.row(wrong).state is BatchState.VERIFIED
    assert len(world.values()) == 3


def test_a_folder_that_has_held_two_that_show(world: FeedWorld) -> None:
    first = world.feed(readings(3), "b-0001")
    second = world.feed(readings(3, first=10), "b-0001")
    assert first != second

    refused(world, "retracts-ambiguous")


def test_a_dry_run_sends_nothing(world: FeedWorld) -> None:
    wrong = world.feed(readings(3), "b-0001")
    world.stage([], "b-0009", retracts="b-0001")
    (by,) = world.plan().batches
    summary = world.prepare(by, dry_run=True)

    assert summary.retracts == 3
    assert not summary.is_empty
    assert world.row(wrong).state is BatchState.VERIFIED


# ---------------------------------------------------------------- at a person's request


def asked(world: FeedWorld, number: int, key: str = "7", **more: Any) -> tuple[BatchRow, UploadSummary]:
    return retract_batch(
        world.context(**more),
        world.row(number),
        root=world.root,
        api_host_of=world.host_of,
        at=datetime(2026, 3, 6, 12, tzinfo=UTC),
        key=key,
    )


def test_a_person_asks_for_it(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    by, summary = asked(world, wrong)

    assert (by.day, by.replaces, by.state) == (later(1), wrong, BatchState.VERIFIED)
    assert summary.deleted == 5
    assert world.visible() == []
    assert is_retracted(world, wrong, by.id)


def test_a_person_asks_for_a_batch_whose_folder_is_gone(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    shutil.rmtree(world.row(wrong).folder)
    by, _summary = asked(world, wrong)

    assert world.visible() == []
    assert world.row(by.id).state is BatchState.VERIFIED


def test_each_try_of_a_request_goes_on_with_the_same_batch(world: FeedWorld) -> None:
    wrong = world.feed(readings(5), "b-0001")
    world.simulator.faults.add(Fault.refused("delete-data", 503, times=9))
    with pytest.raises(TidepoolUnreachableError):
        asked(world, wrong)
    world.simulator.faults.clear()
    by, _summary = asked(world, wrong)
    again, summary = asked(world, wrong)

    assert by.id == again.id
    assert summary.visible_rows == 0
    assert world.visible() == []
    another, _summary = asked(world, wrong, key="8")
    assert another.id != by.id


def test_a_request_that_died_is_carried_out_by_the_next_run(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = world.feed(readings(5), "b-0001")

    def struck(*args: object, **more: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(retracting_module, "prepare_batch", struck)
        with pytest.raises(Killed):
            asked(world, wrong)
    (by,) = world.plan(Window(later(1), later(1))).batches
    world.prepare(by)
    world.upload(by)

    assert world.visible() == []
    assert is_retracted(world, wrong, by)


def test_what_can_be_retracted_is_offered(world: FeedWorld) -> None:
    wrong = world.ready(readings(5), batch="b-0001")

    def offered(number: int) -> bool:
        upload = world.ledger.uploads.get(number)
        assert upload is not None
        return ActionKind.WITHDRAW in available_actions(upload)

    assert not offered(wrong)
    world.upload(wrong)
    assert offered(wrong)
    by, _summary = asked(world, wrong)
    assert not offered(wrong)
    assert not offered(by.id)
