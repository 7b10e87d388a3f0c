"""A giant batch is cut into parts and gets into Tidepool part by part: each record once, wherever it ends."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import (
    BAD,
    DAY,
    NONE,
    ORIGIN,
    TOO_HIGH,
    TRUNCATE,
    bolus,
    cbg,
    readings,
    set_data_set_state,
)
from tests.happenings import before_it_is_sent, lose, reconcile
from tests.killing import Killed, Killer
from tests.world import World, a_world
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import OlderThanUploadedError, WithdrawnError
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, lease_of_batch
from tidepool_ingest.maintenance.erasure import PersonErasure
from tidepool_ingest.reports.dry_run import compare_batch
from tidepool_ingest.reports.run import counts_of, report_on
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import ChangedSinceError, reverify, withdraw_batch
from tidepool_ingest.upload.deleting import NotWithdrawableError
from tidepool_ingest.upload.rejections import TooManyRejectedByTidepoolError
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault

NEXT = DAY + timedelta(days=1)
BOTH = Window(DAY, NEXT)

LIMIT = 300
"""Records a part; a day of one reading every six minutes has 240 of them."""

CUT = {"part_records": LIMIT, "chunk_records": 100}


def days_of(days: int, first: int = 0, value: float = 6.5) -> list[dict[str, Any]]:
    """Return a reading every six minutes."""
    return [cbg(6 * number, value) for number in range(240 * first, 240 * (first + days))]


def giant(world: World, days: int = 4, **more: Any) -> int:
    """Stage and prepare a batch of 240 records a day, a part for each day."""
    return world.ready(days_of(days), **{**CUT, **more})


def parts(world: World, number: int) -> list[BatchRow]:
    return world.ledger.parts.of_batch(number)


def states(world: World, number: int) -> list[str]:
    return [str(part.state) for part in parts(world, number)]


def sets(world: World, number: int) -> list[str]:
    """Return the states of all data sets of a batch's parts, part by part."""
    return [str(data_set.state) for part in parts(world, number) for data_set in world.sets(part.id)]


def is_done(world: World, number: int, rows: int = 960) -> bool:
    assert world.row(number).state is BatchState.VERIFIED
    assert set(states(world, number)) == {"verified"}
    assert len(world.visible()) == rows
    return world.all_right()


def areas(world: World) -> list[Path]:
    return list((world.staging / "_work").iterdir())


def break_off(world: World, number: int, after: int) -> None:
    """Upload until so many parts are verified; the next one cannot be opened."""
    world.simulator.faults.add(Fault.refused("create", 503, skip=after, times=50))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.clear()


def withdraw(world: World, number: int) -> int:
    return withdraw_batch(world.context(), world.row(number))


# ---------------------------------------------------------------- all goes well


def test_each_part_goes_to_a_data_set_of_its_own(world: World) -> None:
    number = giant(world)
    opened: list[str] = []

    summary = world.upload(number, on_open=opened.append)

    assert (summary.visible_rows, summary.chunks_sent) == (960, 12)
    assert opened == [world.sets(part.id)[0].data_set_id for part in parts(world, number)]
    assert summary.data_set_id == opened[-1]
    row = world.row(number)
    assert (row.staged, row.accepted, row.chunks) == (960, 960, 12)
    assert world.sets(number) == []
    labels = [part.label for part in parts(world, number)]
    assert labels == [f"{row.label} part {place} of 4" for place in (1, 2, 3, 4)]
    assert is_done(world, number)


def test_what_is_verified_is_neither_planned_nor_sent_again(world: World) -> None:
    number = giant(world)
    world.upload(number)
    world.recorder.sent.clear()

    assert world.plan().batches == []
    assert world.upload(number, run="another").visible_rows == 960
    assert world.recorder.sent == []
    assert world.row(number).state is BatchState.VERIFIED


def test_the_report_and_the_counts_are_those_of_the_whole(world: World) -> None:
    number = giant(world)
    world.upload(number)

    report = report_on(world.ledger, [number])
    counts = counts_of(world.root, [world.row(number)])

    assert report.summary()["visible_rows"] == 960
    (line,) = report.table()[1]
    assert line[-2:] == (960, "4 data sets")
    assert (counts.batches, counts.requests, dict(counts.accepted)) == (1, 12, {"cbg": 960})
    assert counts.size == sum(part.size for part in world.prepared(number).parts) > 0


def test_a_dry_run_compares_every_part(world: World) -> None:
    number = giant(world)

    before = compare_batch(world.client, world.settings, world.root, world.row(number))
    world.upload(number)
    after = compare_batch(world.client, world.settings, world.root, world.row(number))

    assert (before.new, before.same) == ({"cbg": 960}, {})
    assert (after.new, after.same) == ({}, {"cbg": 960})


def test_progress_is_told_part_by_part(world: World, caplog: pytest.LogCaptureFixture) -> None:
    number = giant(world)
    caplog.set_level("INFO")

    world.upload(number)

    assert "part 3 of 4: 240 rows verified, 240 remaining in 1 part." in caplog.text


def test_the_uploads_page_and_silence_know_one_batch(world: World) -> None:
    from tidepool_ingest.ledger import UploadFilter
    from tidepool_ingest.ledger.record_counts import batch_ends

    number = giant(world)
    break_off(world, number, 2)

    (shown,) = world.ledger.uploads.page(UploadFilter())

    assert (shown.batch, shown.parts, shown.parts_ended) == (number, 4, 2)
    assert (shown.stored, shown.chunks, shown.visible_rows) == (6, 12, 480)
    assert world.ledger.uploads.by_state() == {BatchState.UPLOADING: 1}
    assert len(list(batch_ends(world.ledger.database, DAY - timedelta(days=30)))) == 1
    second = parts(world, number)[1]
    of_part = world.ledger.uploads.get(second.id)
    assert of_part is not None
    assert (of_part.part_of, of_part.stored, of_part.visible_rows) == (number, 3, 240)


# ---------------------------------------------------------------- what is cut, and what never is


@pytest.mark.parametrize("deduplicator", [TRUNCATE, ORIGIN])
def test_what_compares_more_than_moments_stays_whole(world: World, deduplicator: str) -> None:
    data_set = {"deduplicator": {"name": deduplicator}}
    number = giant(world, 2, data_set=data_set, allow_truncate=True)

    assert parts(world, number) == []
    assert world.upload(number).visible_rows == 480
    assert world.all_right()


def test_what_hides_nothing_may_be_cut(world: World) -> None:
    number = giant(world, 2, data_set={"deduplicator": {"name": NONE}})

    assert world.upload(number).visible_rows == 480
    assert len(parts(world, number)) == 2
    # The parts that are verified are not doubled by going on with the others, and not without being told to.
    assert world.run(**CUT).plan.batches == []
    assert world.run(run="forced", force=True, **CUT).codes == ["would-double"]


def test_going_on_with_a_batch_whose_deduplicator_hides_nothing_is_no_doubling(world: World) -> None:
    number = giant(world, data_set={"deduplicator": {"name": NONE}})
    break_off(world, number, 2)

    outcome = world.run(**CUT)

    assert outcome.codes == []
    assert is_done(world, number)


def test_another_limit_cuts_anew_as_long_as_nothing_is_begun(world: World) -> None:
    number = giant(world)
    first = [part.content_key for part in parts(world, number)]

    world.prepare(number, part_records=500, chunk_records=100)
    assert (len(parts(world, number)), len(areas(world))) == (2, 3)
    world.prepare(number)
    assert (parts(world, number), len(areas(world))) == ([], 1)
    assert world.accepted(number) != []
    world.prepare(number, **CUT)

    assert [part.content_key for part in parts(world, number)] == first
    world.upload(number)
    assert is_done(world, number)


def test_what_was_begun_keeps_its_parts(world: World) -> None:
    number = giant(world)
    break_off(world, number, 1)

    world.run(part_records=500)

    assert len(parts(world, number)) == 4
    assert is_done(world, number)


def test_what_was_begun_whole_stays_whole(world: World) -> None:
    number = world.ready(days_of(2), chunk_records=100)
    world.simulator.faults.add(Fault.refused("close", 503, times=50))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.clear()
    WorkArea(world.root, world.row(number).content_key).discard()

    world.run(**CUT)

    assert parts(world, number) == []
    assert len(world.sets(number)) == 1
    assert len(world.visible()) == 480
    assert world.all_right()


def test_a_batch_of_other_content_in_the_folder_takes_the_parts_along(world: World) -> None:
    number = giant(world)
    world.stage(days_of(1, value=7.5))

    world.run(**CUT)

    assert world.row(number).state is BatchState.OVERWRITTEN
    assert parts(world, number) == []
    assert len(world.visible()) == 240


def test_a_batch_that_is_staged_elsewhere_takes_the_parts_along(world: World) -> None:
    number = giant(world)
    world.stage(days_of(4), "elsewhere", day=NEXT)

    world.plan(Window(NEXT, NEXT))

    row = world.row(number)
    assert row.day == NEXT
    assert {(part.day, part.folder, part.batch_id) for part in parts(world, number)} == {
        (NEXT, row.folder, "elsewhere")
    }
    assert parts(world, number)[0].label == f"{row.label} part 1 of 4"


# ---------------------------------------------------------------- ended in the middle


def test_ended_after_two_parts_the_next_try_goes_on_with_the_third(world: World) -> None:
    number = giant(world)
    break_off(world, number, 2)
    assert states(world, number) == ["verified", "verified", "uploading", "prepared"]
    world.recorder.sent.clear()

    summary = world.resume(number)

    assert len(world.recorder.chunks) == 6
    assert (summary.visible_rows, summary.chunks_sent) == (960, 6)
    assert is_done(world, number)


def test_the_next_try_goes_on_in_the_middle_of_a_part(world: World) -> None:
    number = giant(world)
    world.simulator.faults.add(Fault.refused("post", 503, skip=4, times=50))
    with pytest.raises(TidepoolUnreachableError):
        world.upload(number)
    world.simulator.faults.clear()

    summary = world.resume(number)

    assert summary.chunks_resumed == 1
    assert len(sets(world, number)) == 4
    assert is_done(world, number)


CALLS_OF_TWO_PARTS = 35


@pytest.fixture(scope="module")
def shared_world(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path) -> Iterator[World]:
    with a_world(tmp_path_factory.mktemp("parts"), empty_ledger, World) as world:
        yield world


def small(world: World, user: str) -> int:
    """Return a batch in two parts of two requests each."""
    records = [cbg(number * 360) for number in range(8)]
    return world.ready(records, user=user, part_records=4, chunk_records=2)


def test_these_are_all_calls(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = small(shared_world, shared_world.add_user())
    killer = Killer(shared_world, monkeypatch)

    shared_world.upload(number)

    assert len(killer.calls) == CALLS_OF_TWO_PARTS


@pytest.mark.parametrize("by", ["retry", pytest.param("maintenance", marks=pytest.mark.slow)])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, CALLS_OF_TWO_PARTS))
def test_killed_once(
    shared_world: World, monkeypatch: pytest.MonkeyPatch, at: int, after: bool, by: str
) -> None:
    world = shared_world
    user = world.add_user()
    number = small(world, user)
    with monkeypatch.context() as patch:
        killer = Killer(world, patch)
        killer.strike(at, after=after)
        with pytest.raises(Killed):
            world.upload(number)

    if by == "retry":
        world.resume(number)
    else:
        reconcile(world)

    assert (world.row(number).state, states(world, number)) == (BatchState.VERIFIED, ["verified"] * 2)
    assert len(world.visible(user)) == 8


def test_the_checker_finds_nothing_wrong_with_any_of_them(shared_world: World) -> None:
    assert shared_world.all_right()


@pytest.mark.parametrize("operation", ["create", "post", "close"])
@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
def test_lost_answers(world: World, operation: str, done: bool) -> None:
    number = giant(world, 2)
    for skip in (0, 1):
        lose_it = Fault.lost_answer if done else Fault.lost_request
        world.simulator.faults.add(lose_it(operation, skip=skip))
    while True:
        try:
            world.resume(number)
        except TidepoolUnreachableError:
            continue
        break

    assert is_done(world, number, 480)


@pytest.mark.parametrize("erased", [False, True])
def test_cutting_that_is_ended_leaves_nothing_that_counts(
    world: World, monkeypatch: pytest.MonkeyPatch, *, erased: bool
) -> None:
    from tidepool_ingest.prepare import parts as cutting

    world.stage(days_of(4))
    (number,) = world.plan().batches
    key = world.row(number).content_key
    with monkeypatch.context() as patch:
        filed, calls = cutting._write_part, []

        def killed(*args: Any) -> Any:
            calls.append(args)
            if len(calls) == 3:
                raise Killed
            return filed(*args)

        patch.setattr(cutting, "_write_part", killed)
        with pytest.raises(Killed):
            world.prepare(number, **CUT)
    assert WorkArea(world.root, key).load() is None
    assert parts(world, number) == []
    assert len(areas(world)) == 3

    if erased:
        PersonErasure(world.ledger, world.root, world.user).run("somebody")
        assert areas(world) == []
        return
    world.prepare(number, **CUT)

    assert len(areas(world)) == 5
    assert not WorkArea(world.root, key).accepted_path.exists()
    world.upload(number)
    assert is_done(world, number)


def test_a_part_whose_work_area_is_lost_is_cut_again(world: World) -> None:
    number = giant(world)
    break_off(world, number, 2)
    WorkArea(world.root, parts(world, number)[3].content_key).discard()
    keys = [part.content_key for part in parts(world, number)]

    reconcile(world)

    assert [part.content_key for part in parts(world, number)] == keys
    assert is_done(world, number)


def test_what_tidepool_holds_parts_of_is_not_cut_otherwise(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = giant(world)
    break_off(world, number, 2)
    WorkArea(world.root, world.row(number).content_key).discard()
    with monkeypatch.context() as patch:
        # Rules of another version refuse a record that was accepted before.
        from tidepool_ingest.prepare import writer

        classifier = writer._classifier
        patch.setattr(
            writer, "_classifier", lambda batch, editing: _without_first(classifier(batch, editing))
        )
        with pytest.raises(BatchError) as caught:
            world.prepare(number, **CUT)

    assert caught.value.code == "parts-differ"
    assert states(world, number)[:2] == ["verified", "verified"]
    assert len(world.visible()) == 480


def _without_first(classifier: Any) -> Any:
    classify, seen = classifier.classify, []

    def without_first(lines: list[bytes]) -> Any:
        block = classify(lines)
        if not seen:
            seen.append(1)
            block.exceptions[0] = next(iter(block))._replace(identical=True)
        return block

    classifier.classify = without_first
    return classifier


def test_a_second_task_is_sent_away(world: World) -> None:
    number = giant(world)
    with world.ledger.leases.held(lease_of_batch(number), seconds=60), pytest.raises(IngestError) as caught:
        world.upload(number)

    assert caught.value.code == "lease-held"
    assert world.recorder.sent == []


# ---------------------------------------------------------------- refused by Tidepool itself


def with_bad(*bad: int) -> list[dict[str, Any]]:
    return [{**record, "value": BAD} if place in bad else record for place, record in enumerate(days_of(4))]


def test_what_is_refused_of_a_part_is_in_the_one_quarantine_of_the_batch(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    records: list[Any] = with_bad(5, 250, 251, 730)
    records[0] = b'{"type": "nothing"}'
    number = world.ready(records, **CUT)

    summary = world.upload(number)

    assert summary.visible_rows == 955
    assert [place for place, _codes in world.refused(number)] == [0, 5, 250, 251, 730]
    row = world.row(number)
    assert (row.state, row.accepted, row.quarantined) == (BatchState.VERIFIED, 955, 5)
    assert [part.quarantined for part in parts(world, number)] == [1, 2, 0, 1]
    assert world.check().quarantined == 5
    assert world.all_right()
    world.prepare(number)
    assert world.row(number).quarantined == 5


def test_the_share_is_of_the_whole_batch_and_stops_the_parts_that_follow(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    number = world.ready(with_bad(*range(10), *range(250, 260)), **CUT)

    with pytest.raises(TooManyRejectedByTidepoolError):
        world.upload(number, max_rejected_percent=2)

    assert states(world, number) == ["verified", "held", "prepared", "prepared"]
    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.HELD, "too-many-refused")
    assert len(world.refused(number)) == 20
    assert world.resume(number, max_rejected_percent=3).visible_rows == 940
    assert is_done(world, number, 940)


def test_a_part_of_which_nothing_is_left_does_not_keep_the_others(world: World) -> None:
    world.simulator.rules.add(TOO_HIGH)
    records = [*days_of(2), cbg(1440 * 9, BAD)]
    number = world.ready(records, part_records=240, chunk_records=100)

    summary = world.upload(number)

    assert summary.visible_rows == 480
    assert states(world, number) == ["verified", "verified", "nothing-accepted"]
    assert sets(world, number) == ["verified", "verified", "deleted"]
    assert world.row(number).state is BatchState.VERIFIED
    assert world.plan().batches == []
    assert world.all_right()


# ---------------------------------------------------------------- taken back, replaced, erased


def test_taking_it_back_takes_back_every_part(world: World) -> None:
    number = giant(world)
    world.upload(number)

    assert withdraw(world, number) == 4

    assert world.visible() == []
    assert world.row(number).state is BatchState.WITHDRAWN
    assert set(states(world, number)) == {"withdrawn"}
    assert world.plan().batches == []
    with pytest.raises(WithdrawnError):
        world.upload(number)
    assert list(world.run(force=True, **CUT).uploaded) == [number]
    assert is_done(world, number)


def test_one_that_is_under_way_can_be_taken_back_too(world: World) -> None:
    number = giant(world)
    break_off(world, number, 2)

    assert withdraw(world, number) == 2
    assert world.visible() == []
    assert reconcile(world).failed == {}
    assert world.visible() == []


def test_an_interrupted_withdrawal_is_brought_to_its_end(world: World) -> None:
    number = giant(world)
    world.upload(number)
    # The first of these is the empty set whose mark says that the batch is undone.
    world.simulator.faults.add(Fault.refused("delete", 503, skip=3, times=50))
    with pytest.raises(TidepoolUnreachableError):
        withdraw(world, number)
    world.simulator.faults.clear()
    assert set(states(world, number)) == {"withdrawn"}

    assert withdraw(world, number) == 2
    assert world.visible() == []


def test_a_part_alone_cannot_be_taken_back(world: World) -> None:
    number = giant(world)
    world.upload(number)

    with pytest.raises(NotWithdrawableError):
        withdraw(world, parts(world, number)[0].id)
    assert is_done(world, number)


def test_a_forced_upload_goes_to_new_data_sets_part_by_part(world: World) -> None:
    number = giant(world)
    world.upload(number)

    outcome = world.run(run="forced", force=True, **CUT)

    assert outcome.uploaded[number].visible_rows == 960
    assert sets(world, number) == ["verified"] * 8
    assert is_done(world, number)


@pytest.mark.parametrize("cut", ["old", "new", "both"])
def test_what_it_replaces_is_deleted_once_all_of_it_shows(world: World, cut: str) -> None:
    world.stage(days_of(4), "wrong")
    world.run(**(CUT if cut != "new" else {}))
    world.stage(days_of(4, value=7.5), "right", replaces="wrong", day=NEXT)

    outcome = world.run(BOTH, **(CUT if cut != "old" else {}))

    assert outcome.codes == []
    assert {datum["value"] for datum in world.visible()} == {7.5}
    assert len(world.visible()) == 960
    (old,) = world.ledger.batches.namesakes(world.api_host, world.user, "wrong")
    assert old.state is BatchState.REPLACED
    assert world.run(BOTH, force=True, **CUT).plan.batches != [old.id]


def test_what_it_replaces_stays_as_long_as_a_part_is_missing(world: World) -> None:
    world.stage(days_of(4), "wrong")
    world.run()
    world.stage(days_of(4, value=7.5), "right", replaces="wrong")
    world.simulator.faults.add(Fault.refused("create", 503, skip=3, times=50))

    assert world.run(**CUT).codes == ["tidepool-unreachable"]
    assert sum(datum["value"] == 6.5 for datum in world.visible()) == 960

    world.simulator.faults.clear()
    assert world.run(**CUT).codes == []
    assert {datum["value"] for datum in world.visible()} == {7.5}


def test_erasing_a_person_takes_parts_along(world: World) -> None:
    number = giant(world)
    world.upload(number)

    found = PersonErasure(world.ledger, world.root, world.user).run("somebody")

    assert len(found.remaining) == 4
    assert len(found.batches) == 5
    assert areas(world) == []
    assert parts(world, number) == []


# ---------------------------------------------------------------- beside other batches of the device


def doses(days: int, amount: float) -> list[dict[str, Any]]:
    return [bolus(6 * number, amount) for number in range(240 * days)]


def test_an_older_batch_does_not_win_over_a_part_that_is_verified(world: World) -> None:
    world.stage(doses(4, 2.0), "giant", day=NEXT)
    (number,) = world.plan(BOTH).batches
    world.prepare(number, **CUT)
    break_off(world, number, 2)
    world.stage(doses(1, 1.0), "old-first-day")
    world.stage([bolus(3 * 1440, 1.0)], "old-last-day")

    outcome = world.run(Window(DAY, DAY))

    assert outcome.codes == ["older-than-uploaded"]
    (went,) = outcome.uploaded
    assert world.row(went).batch_id == "old-last-day"
    world.resume(number)
    # The dose of the last day was there first: the newer one hides it.
    assert {datum["normal"] for datum in world.visible()} == {2.0}
    assert len(world.visible()) == 960


def test_a_part_is_held_by_a_newer_batch_that_was_verified_meanwhile(world: World) -> None:
    world.stage(doses(4, 1.0), "giant")
    (number,) = world.plan().batches
    world.prepare(number, **CUT)
    break_off(world, number, 2)
    world.stage([bolus(2 * 1440, 2.0)], "newer", day=NEXT)
    world.run(Window(NEXT, NEXT))

    with pytest.raises(OlderThanUploadedError):
        world.resume(number)

    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.HELD, "older-than-uploaded")
    assert states(world, number) == ["verified", "verified", "held", "prepared"]
    assert reconcile(world).unfinished == 0
    assert withdraw(world, number) == 2
    assert [datum["normal"] for datum in world.visible()] == [2.0]


def test_a_split_batch_is_held_as_a_whole_when_it_was_undone_and_is_forced(world: World) -> None:
    world.stage([*readings(3), bolus(1440, 1.0)], "older")
    (number,) = world.run(BOTH, part_records=2).uploaded
    withdraw(world, number)
    world.stage([bolus(1440, 2.0)], "newer", day=NEXT)
    assert world.run(Window(NEXT, NEXT)).codes == []

    outcome = world.run(Window(DAY, DAY), run="run-2", force=True, part_records=2)

    assert outcome.codes == ["older-than-uploaded"]
    assert [datum.get("normal") for datum in world.visible()] == [2.0]


def opened(world: World, monkeypatch: pytest.MonkeyPatch) -> int:
    """Prepare a split batch and open a data set for its first part; the task is killed before it sends."""
    world.stage([*readings(3), bolus(1440, 1.0)], "older")
    (number,) = world.plan().batches
    world.prepare(number, part_records=2)

    def killed() -> None:
        raise KeyboardInterrupt

    before_it_is_sent(world, monkeypatch, killed)
    with pytest.raises(KeyboardInterrupt):
        world.upload(number)
    return number


def test_a_split_batch_is_held_as_a_whole_when_a_part_was_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = opened(world, monkeypatch)
    (part, *_others) = world.ledger.parts.of_batch(number)
    set_data_set_state(world.ledger, world.sets(part.id)[0].id, DataSetState.DELETED)
    world.wait_out_claims()
    world.stage([bolus(1440, 2.0)], "newer", day=NEXT)
    assert world.run(Window(NEXT, NEXT)).codes == []

    outcome = world.run(Window(DAY, DAY), run="run-2", part_records=2)

    assert outcome.codes == ["older-than-uploaded"]
    assert [datum.get("normal") for datum in world.visible()] == [2.0]


def test_a_split_batch_is_held_as_a_whole_when_its_first_part_is_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(world, monkeypatch)
    world.wait_out_claims()
    world.stage([bolus(1440, 2.0)], "newer", day=NEXT)
    assert world.run(Window(NEXT, NEXT)).codes == []

    outcome = world.run(Window(DAY, DAY), run="run-2", part_records=2)

    assert outcome.codes == ["older-than-uploaded"]
    assert [datum.get("normal") for datum in world.visible()] == [2.0]


def test_parts_at_work_keep_newer_ones_of_their_days_waiting_and_no_others(world: World) -> None:
    world.stage(doses(4, 1.0), "giant")
    (number,) = world.plan().batches
    world.prepare(number, **CUT)
    break_off(world, number, 2)
    world.timed(close_turn=0.0)
    world.stage([bolus(0, 2.0)], "newer-first-day", day=NEXT)
    world.stage([bolus(3 * 1440, 2.0)], "newer-last-day", day=NEXT)

    with world.ledger.leases.held(lease_of_batch(number), seconds=60):
        outcome = world.run(Window(NEXT, NEXT))

    # What shares a day with a verified part closes; what shares one with a part that is to come waits.
    assert outcome.codes == ["lease-held"]
    assert [world.row(one).batch_id for one in outcome.uploaded] == ["newer-first-day"]


# ---------------------------------------------------------------- looked at again


def test_what_a_part_has_lost_is_told_of_the_whole_batch_and_repaired(world: World) -> None:
    number = giant(world)
    world.upload(number)
    second = parts(world, number)[1]
    lose(world, second.id, 1440)

    assert reconcile(world, check_batches=9, check_after_days=0, repair=False).failed == {
        "changed-since-verified": 1
    }
    row = world.row(number)
    assert (row.state, row.reason) == (BatchState.VERIFIED, "changed-since-verified")

    assert reconcile(world, check_batches=9, check_after_days=0).repaired == 1
    assert world.row(number).reason is None
    assert sets(world, number) == ["verified", "deleted", "verified", "verified", "verified"]
    assert is_done(world, number)


def test_looking_again_at_the_whole_looks_at_every_part(world: World) -> None:
    number = giant(world)
    world.upload(number)

    def look() -> Any:
        return reverify(world.context(), world.row(number))

    assert look().comparison.visible == 960
    lose(world, parts(world, number)[2].id, 2 * 1440)
    with pytest.raises(ChangedSinceError):
        look()
    assert world.row(number).reason == "changed-since-verified"
    assert sets(world, number) == ["verified"] * 4
