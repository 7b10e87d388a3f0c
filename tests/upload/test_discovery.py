"""What Tidepool has already is not uploaded once more by whoever lost the ledger, or never had it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.factories import DAY, HASH, NONE, ORIGIN, TRUNCATE, cbg, readings, with_origins, wizard
from tests.happenings import BOTH, NEXT, before_it_is_sent, body, live, lose, recheck, uploaded
from tests.overlaps import amounts, dose
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.guards import OlderThanUploadedError
from tidepool_ingest.guards.marks import Mark
from tidepool_ingest.ledger import ActionKind, BatchState, DataSetState
from tidepool_ingest.ledger.database import NewerFirstError
from tidepool_ingest.reports.help import available_actions
from tidepool_ingest.upload import withdraw_batch
from tidepool_ingest.upload.adoption import FoundDiffersError
from tidepool_ingest.window import Window
from tidepool_simulator.faults import Fault
from tidepool_simulator.rules import Rule

EVERY = [HASH, TRUNCATE, NONE, ORIGIN]
"""Every deduplicator that a normal data set may have."""


def back_up(world: World, backup: Path) -> None:
    with (
        closing(sqlite3.connect(world.folder / "ledger.db")) as ledger,
        closing(sqlite3.connect(backup)) as copied,
    ):
        ledger.backup(copied)


def records() -> list[dict[str, Any]]:
    found = [*readings(5), wizard(10)]
    return with_origins(found)


def creations(world: World) -> int:
    return sum(sent.path.endswith("/data_sets") for sent in world.recorder.sent)


@pytest.mark.parametrize("deduplicator", EVERY)
def test_a_lost_ledger_doubles_nothing(
    world: World, elsewhere: Callable[..., World], deduplicator: str
) -> None:
    world.stage(records(), data_set=body(deduplicator))
    first = world.sets(uploaded(world))[0]
    second, before = elsewhere(), creations(world)

    number = uploaded(second)

    assert creations(world) == before
    (found,) = second.sets(number)
    assert (found.data_set_id, found.state) == (first.data_set_id, DataSetState.VERIFIED)
    assert (found.expected_rows, found.visible_rows) == (7, 7)
    assert second.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 7
    assert second.all_right()
    assert second.run(BOTH, run="run-2").plan.batches == []


def test_parts_are_found_one_by_one(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(9), data_set=body(NONE))
    uploaded(world, part_records=3)
    second, before = elsewhere(), creations(world)

    number = uploaded(second, part_records=3)

    assert creations(world) == before
    assert second.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 9


@pytest.mark.parametrize(("first", "then"), [(3, 100), (100, 3), (3, 5)])
def test_the_same_content_split_otherwise_is_not_sent_beside(
    world: World, elsewhere: Callable[..., World], first: int, then: int
) -> None:
    world.stage(readings(9), data_set=body(NONE))
    uploaded(world, part_records=first)
    second, before = elsewhere(), creations(world)

    outcome = second.run(part_records=then)

    assert outcome.codes == ["parts-differ"]
    assert creations(world) == before
    assert len(world.visible()) == 9
    (number,) = outcome.plan.batches
    assert second.row(number).reason == "parts-differ"


def prepared_elsewhere(second: World) -> int:
    """Plan and prepare the only batch of another deployment, and return its number."""
    (number,) = second.plan().batches
    second.prepare(number)
    return number


def test_what_tidepool_had_rejected_is_asked_about_again(
    world: World, elsewhere: Callable[..., World]
) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20.0))
    number = world.ready([*readings(5), cbg(6, 21.0), cbg(7, 22.0)], data_set=body(NONE))
    world.upload(number, max_rejected_percent=50)
    assert len(world.refused(number)) == 2
    second = elsewhere()
    number = prepared_elsewhere(second)

    second.upload(number, max_rejected_percent=50)

    assert second.row(number).state is BatchState.VERIFIED
    assert len(second.refused(number)) == 2
    assert len(second.ledger.rejections.of_batch(number)) == 2
    assert len(world.visible()) == 5
    assert len(live(world)) == 1
    assert second.sets(number)[-1].state is DataSetState.VERIFIED


def test_one_of_two_that_it_had_rejected_is_few_enough(world: World, elsewhere: Callable[..., World]) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20.0))
    world.upload(world.ready([cbg(6, 21.0), cbg(7)], data_set=body(NONE)))
    second = elsewhere()
    number = prepared_elsewhere(second)

    second.upload(number)

    assert second.row(number).state is BatchState.VERIFIED
    assert len(second.refused(number)) == len(world.visible()) == 1


def test_what_makes_tidepool_fail_is_found_again(world: World, elsewhere: Callable[..., World]) -> None:
    world.simulator.rules.add(
        Rule(type="cbg", pointer="/value", equals=22.5, in_storage=True),
        Rule(type="cbg", pointer="/value", above=24.0),
    )
    records = [*readings(20), cbg(30, 22.5), cbg(31, 22.5), cbg(32, 25.0)]
    number = world.ready(records, data_set=body(NONE))
    world.upload(number, max_rejected_percent=50)
    assert len(world.refused(number)) == 3
    second = elsewhere()
    number = prepared_elsewhere(second)

    second.upload(number, max_rejected_percent=50)

    assert second.row(number).state is BatchState.VERIFIED
    assert second.refused(number) == world.refused(number)
    assert len(live(world)) == 1
    assert second.all_right()


def test_a_record_is_blamed_for_its_own_failures_only(world: World, elsewhere: Callable[..., World]) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=24.0))
    number = world.ready([*readings(5), cbg(32, 25.0)], data_set=body(NONE))
    world.upload(number, max_rejected_percent=50)
    lose(world, number, 1)
    second = elsewhere()
    number = prepared_elsewhere(second)
    world.simulator.faults.add(Fault.refused("post", 500, times=2), Fault.refused("post", 500, skip=3))

    with pytest.raises(FoundDiffersError):
        second.upload(number, max_rejected_percent=50)

    assert "tidepool-500" not in str(second.refused(number))


def test_what_it_rejects_is_in_quarantine_even_if_the_asking_was_interrupted(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.simulator.rules.add(Rule(type="cbg", pointer="/value", above=20.0))
    number = world.ready([*readings(5), cbg(6, 21.0)], data_set=body(NONE))
    world.upload(number, max_rejected_percent=50)
    second = elsewhere()
    number = prepared_elsewhere(second)
    delete = world.client.delete_data_set

    def interrupted(_data_set_id: str) -> None:
        monkeypatch.setattr(world.client, "delete_data_set", delete)
        raise KeyboardInterrupt

    monkeypatch.setattr(world.client, "delete_data_set", interrupted)
    with pytest.raises(KeyboardInterrupt):
        second.upload(number, max_rejected_percent=50)
    second.resume(number, max_rejected_percent=50)

    assert len(second.refused(number)) == 1
    assert second.row(number).state is BatchState.VERIFIED
    assert second.all_right()


def test_one_that_shows_something_else_is_held(world: World, elsewhere: Callable[..., World]) -> None:
    number = world.ready(readings(5), data_set=body(NONE))
    summary = world.upload(number)
    with closing(sqlite3.connect(world.store)) as connection, connection:
        connection.execute("DELETE FROM data WHERE seq = (SELECT min(seq) FROM data)")
    second, before = elsewhere(), live(world)

    outcome = second.run()

    assert outcome.codes == ["found-differs"]
    (number,) = outcome.plan.batches
    assert (second.row(number).state, second.row(number).reason) == (BatchState.HELD, "found-differs")
    assert live(world) == before == [summary.data_set_id]
    upload = second.ledger.uploads.get(number)
    assert upload is not None
    assert ActionKind.WITHDRAW in available_actions(upload)
    assert len(world.visible()) == 4
    assert withdraw_batch(second.context(), second.row(number)) == 1
    assert uploaded(second, force=True) == number
    assert len(world.visible()) == 5


def at_the_close(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], object],
    then: Callable[[], object] = lambda: None,
) -> None:
    """Do something right before a world closes its next set, and something else right after that."""
    close = world.client.close_data_set

    def closed(data_set_id: str) -> None:
        monkeypatch.setattr(world.client, "close_data_set", close)
        meanwhile()
        close(data_set_id)
        then()

    monkeypatch.setattr(world.client, "close_data_set", closed)


def uploads_before_the_close(second: World, world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let another deployment upload right before a world closes its own set; the list gets the number."""
    numbers: list[int] = []
    at_the_close(world, monkeypatch, lambda: numbers.append(uploaded(second)))
    return numbers


@pytest.mark.parametrize("deduplicator", [HASH, TRUNCATE, NONE])
def test_of_two_at_once_the_one_created_first_stays(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch, deduplicator: str
) -> None:
    world.stage(records(), data_set=body(deduplicator))
    second = elsewhere()
    numbers = uploads_before_the_close(second, world, monkeypatch)
    number = uploaded(world)

    *given_up, own = world.sets(number)
    assert own.state is DataSetState.VERIFIED
    assert live(world) == [own.data_set_id]
    assert len(world.visible()) == 7
    # A close that truncates had deleted the one that was still open.
    assert len(given_up) == (deduplicator == TRUNCATE)
    assert second.sets(numbers[0])[0].data_set_id != own.data_set_id


@pytest.mark.parametrize("deduplicator", [HASH, NONE])
def test_whoever_was_second_gives_way(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch, deduplicator: str
) -> None:
    world.stage(records(), data_set=body(deduplicator))
    second = elsewhere()
    close, firsts, numbers = world.client.close_data_set, [], []

    def while_the_other_uploads(data_set_id: str) -> None:
        firsts.append(data_set_id)
        monkeypatch.setattr(world.client, "close_data_set", after_the_first)
        numbers.append(uploaded(second))
        close(data_set_id)  # once more: it is closed already

    def after_the_first(data_set_id: str) -> None:
        monkeypatch.setattr(world.client, "close_data_set", close)
        close(firsts[0])
        close(data_set_id)

    monkeypatch.setattr(world.client, "close_data_set", while_the_other_uploads)
    number = uploaded(world)

    assert len(world.visible()) == 7
    (remaining,) = live(world)
    assert world.sets(number)[-1].data_set_id == remaining
    assert remaining == firsts[0] == second.sets(numbers[0])[-1].data_set_id
    assert second.sets(numbers[0])[0].state is DataSetState.DELETED


@pytest.mark.parametrize("deduplicator", EVERY)
def test_what_another_deployment_has_closed_meanwhile_is_not_closed_once_more(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch, deduplicator: str
) -> None:
    number = world.ready(records(), data_set=body(deduplicator), allow_truncate=True)
    second = elsewhere()
    second.timed(listing=0.0)
    before_it_is_sent(second, monkeypatch, lambda: world.upload(number))

    found = second.sets(uploaded(second))

    assert [sent.path for sent in world.recorder.sent if sent.method == "PUT"] == [
        f"/v1/data_sets/{world.sets(number)[0].data_set_id}"
    ]
    assert [one.state for one in found] == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert found[-1].data_set_id == world.sets(number)[0].data_set_id
    assert len(world.visible()) == 7


def test_what_a_newer_one_has_deleted_meanwhile_is_not_closed_over_it(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    number = world.ready(readings(5), data_set=body(TRUNCATE), allow_truncate=True)
    second = elsewhere()
    second.timed(listing=0.0)
    world.stage(readings(2, 30), "newer", day=NEXT, data_set=body(TRUNCATE))

    def meanwhile() -> None:
        world.upload(number)
        assert world.run(Window(NEXT, NEXT), allow_truncate=True).codes == []

    before_it_is_sent(second, monkeypatch, meanwhile)
    assert second.run(Window(DAY, DAY), allow_truncate=True).codes == []

    assert len(world.visible()) == 2


def test_a_data_set_of_its_own_that_was_given_up_is_no_reason_against_the_next(world: World) -> None:
    world.timed(listing=0.0)
    world.stage(readings(2, 30), "first", data_set=body(TRUNCATE))
    assert world.run(Window(DAY, DAY), allow_truncate=True).codes == []
    world.stage(readings(5), "second", day=NEXT)
    (number,) = world.run(Window(NEXT, NEXT)).uploaded
    lose(world, number, 1)
    recheck(world, number, repair=True)

    assert world.run(Window(NEXT, NEXT), run="run-2").codes == []

    assert world.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 7


def test_what_was_given_up_is_not_adopted_for_an_older_data_set_that_had_truncated(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidepool_ingest.upload.discovery.CLOCKS_DIFFER", timedelta(0))
    world.stage(readings(2, 30), "first", data_set=body(TRUNCATE))
    assert world.run(Window(DAY, DAY), allow_truncate=True).codes == []
    world.stage(readings(5), "second", day=NEXT)
    second = elsewhere()
    (number,) = second.run(Window(NEXT, NEXT)).uploaded
    lose(second, number, 1)
    recheck(second, number, repair=True)
    with monkeypatch.context() as patched:
        patched.setattr(second.client, "open_data_set", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            second.upload(number)

    assert world.run(Window(NEXT, NEXT)).codes == []

    assert len(world.visible()) == 7


def test_no_intent_to_close_is_recorded_before_tidepool_was_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.timed(listing=0.0)
    number = world.ready(readings(5))
    before_it_is_sent(
        world, monkeypatch, lambda: monkeypatch.setattr(world.client, "data_sets", _interrupted)
    )

    with pytest.raises(KeyboardInterrupt):
        world.upload(number)

    assert world.set_states(number) == [DataSetState.OPEN]


def test_a_restored_ledger_finds_what_came_after_it(world: World, elsewhere: Callable[..., World]) -> None:
    number = world.ready(readings(5), data_set=body(NONE))
    backup = world.folder / "backup.db"
    back_up(world, backup)
    summary = world.upload(number)
    restored = elsewhere(backup)
    shutil.copytree(world.root / "_work", restored.root / "_work")

    again = restored.upload(number)

    assert again.data_set_id == summary.data_set_id
    assert live(world) == [summary.data_set_id]


def test_a_later_upload_may_hide_rows_of_what_is_found(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(5))
    world.stage(readings(5, 3), "two", day=NEXT)
    assert world.run(BOTH).codes == []
    shown, second = sorted(row["id"] for row in world.visible()), elsewhere()

    outcome = second.run(BOTH)

    assert outcome.codes == []
    older, newer = (second.sets(number)[0] for number in outcome.uploaded)
    assert (older.visible_rows, older.superseded_rows) == (3, 2)
    assert (newer.visible_rows, newer.superseded_rows) == (5, 0)
    assert sorted(row["id"] for row in world.visible()) == shown


def test_of_two_at_once_either_may_hide_rows_of_the_other(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = world.ready(readings(5)), world.ready(readings(5, 3), batch="two")
    upload = world.client.upload_data

    def and_the_whole_other_one(data_set_id: str, content: bytes) -> None:
        monkeypatch.setattr(world.client, "upload_data", upload)
        upload(data_set_id, content)
        world.upload(one)

    monkeypatch.setattr(world.client, "upload_data", and_the_whole_other_one)
    world.upload(two)  # created first, closed last
    second = elsewhere()

    assert second.run().codes == []

    assert len(world.visible()) == 8
    assert sorted(second.sets(number)[0].superseded_rows or 0 for number in (1, 2)) == [0, 2]


def test_what_a_later_upload_truncated_stays_so(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(5))
    world.stage(readings(2, 20), "two", day=NEXT, data_set=body(TRUNCATE))
    assert world.run(BOTH, allow_truncate=True).codes == []
    second, before = elsewhere(), creations(world)

    assert second.run(BOTH, allow_truncate=True).codes == []

    assert creations(world) == before
    assert len(world.visible()) == 2


def test_all_pages_are_read(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(4):
        world.stage(readings(1, minute), f"batch-{minute}", data_set=body(NONE))
    assert world.run().codes == []
    monkeypatch.setattr("tidepool_ingest.upload.discovery.LISTED_AT_ONCE", 2)
    second, before = elsewhere(), creations(world)

    assert second.run().codes == []

    assert creations(world) == before


def test_without_a_device_the_program_is_listed(world: World, elsewhere: Callable[..., World]) -> None:
    staged = {"deviceId": None, "deviceModel": "Model 5", **body(NONE)}
    plain = {name: value for name, value in staged.items() if value is not None}
    folder = world.stage(readings(3), data_set=plain)
    manifest = (folder / "manifest.json").read_text().replace('"deviceId": "device-1", ', "", 1)
    (folder / "manifest.json").write_text(manifest)
    number = uploaded(world)
    assert world.row(number).device_id is None or "deviceId" in manifest
    second, before = elsewhere(), creations(world)

    uploaded(second)

    assert creations(world) == before
    assert len(world.visible()) == 3


# ---------------------------------------------------------------- on purpose


def test_a_forced_upload_says_so_and_the_newest_counts(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(3))
    number = uploaded(world)
    uploaded(world, run="run-2", force=True)
    sets = world.sets(number)
    assert [data_set.generation for data_set in sets] == [0, 1]
    second = elsewhere()

    found = second.sets(uploaded(second))

    assert [(one.data_set_id, one.generation) for one in found] == [
        (one.data_set_id, one.generation) for one in sets
    ]
    assert {one.state for one in found} == {DataSetState.VERIFIED}
    assert len(live(world)) == 2


@pytest.mark.parametrize("deduplicator", [HASH, NONE])
def test_doubling_asks_tidepool_too(world: World, elsewhere: Callable[..., World], deduplicator: str) -> None:
    world.stage(readings(3), data_set=body(deduplicator))
    uploaded(world)
    second = elsewhere()

    outcome = second.run(force=True)

    if deduplicator == HASH:
        assert outcome.codes == []
        assert len(world.visible()) == 3
        assert len(second.sets(outcome.plan.batches[0])) == 2
    else:
        assert outcome.codes == ["would-double"]
        assert len(live(world)) == 1
        (number,) = outcome.plan.batches
        assert second.row(number).state is BatchState.HELD
        second.upload(number, force=True, allow_doubling=True)
        assert len(world.visible()) == 6


def test_what_was_undone_does_not_come_back(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(3))
    number = uploaded(world)
    assert withdraw_batch(world.context(), world.row(number)) == 1
    assert live(world) == []
    second, before = elsewhere(), creations(world)

    outcome = second.run()

    assert outcome.codes == ["withdrawn"]
    assert creations(world) == before
    (number,) = outcome.plan.batches
    assert second.row(number).state is BatchState.WITHDRAWN
    assert second.run(run="run-2").plan.batches == []
    uploaded(second, run="run-3", force=True)
    assert second.sets(number)[-1].generation == 2
    third = elsewhere(name="third")
    assert third.sets(uploaded(third))[-1].data_set_id == second.sets(number)[-1].data_set_id
    assert len(world.visible()) == 3


def test_an_undo_deletes_what_the_ledger_does_not_know(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage(readings(3), data_set=body(NONE))
    number = uploaded(world)
    backup = world.folder / "backup.db"
    back_up(world, backup)
    uploaded(world, run="run-2", force=True, allow_doubling=True)
    restored = elsewhere(backup)
    assert len(world.visible()) == 6

    assert withdraw_batch(restored.context(), restored.row(number)) == 2

    assert world.visible() == []
    assert live(world) == []


def test_an_undo_that_was_interrupted_is_completed_by_whoever_sees_it(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(3))
    number = uploaded(world)
    own = world.sets(number)[0].data_set_id
    delete = world.client.delete_data_set

    def not_the_data(data_set_id: str) -> None:
        if data_set_id == own:
            raise KeyboardInterrupt
        delete(data_set_id)

    monkeypatch.setattr(world.client, "delete_data_set", not_the_data)
    with pytest.raises(KeyboardInterrupt):
        withdraw_batch(world.context(), world.row(number))
    monkeypatch.setattr(world.client, "delete_data_set", delete)
    assert len(world.visible()) == 3

    assert elsewhere().run().codes == ["withdrawn"]

    assert world.visible() == []


def test_what_was_replaced_does_not_come_back(world: World, elsewhere: Callable[..., World]) -> None:
    world.stage([cbg(0, 5.0)], "wrong", data_set=body(NONE))
    uploaded(world)
    world.stage([cbg(0, 5.5)], "right", data_set=body(NONE), replaces="wrong")
    uploaded(world, run="run-2")
    second, before = elsewhere(), creations(world)

    codes = [second.run(run=f"run-{number}").codes for number in range(3)]

    assert codes[-1] == []
    assert creations(world) == before
    assert [row["value"] for row in world.visible()] == [5.5]
    states = {second.row(number).state for number in (1, 2)}
    assert states == {BatchState.REPLACED, BatchState.VERIFIED}


def test_an_undo_during_an_upload_elsewhere_wins(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(3))
    second = elsewhere()
    close = world.client.close_data_set

    def undone_meanwhile(data_set_id: str) -> None:
        monkeypatch.setattr(world.client, "close_data_set", close)
        number = uploaded(second)
        withdraw_batch(second.context(), second.row(number))
        close(data_set_id)

    monkeypatch.setattr(world.client, "close_data_set", undone_meanwhile)
    outcome = world.run()

    assert outcome.codes == ["withdrawn"]
    assert world.visible() == []
    assert live(world) == []


def test_what_was_verified_and_gave_way_elsewhere_is_found_again(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidepool_ingest.upload import reverify

    world.stage(readings(3), data_set=body(NONE))
    second = elsewhere()
    numbers = uploads_before_the_close(second, world, monkeypatch)
    own = world.sets(uploaded(world))[0]

    found = reverify(second.context(), second.row(numbers[0]))

    assert found is not None
    assert found.data_set_id == own.data_set_id
    assert second.set_states(numbers[0]) == [DataSetState.DELETED, DataSetState.VERIFIED]
    assert second.row(numbers[0]).state is BatchState.VERIFIED


@pytest.mark.parametrize("deduplicator", [HASH, NONE])
def test_what_was_uploaded_anew_after_an_undo_elsewhere_stays(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch, deduplicator: str
) -> None:
    world.stage(readings(3), data_set=body(deduplicator))
    second = elsewhere()

    def undone_and_uploaded_anew() -> None:
        number = uploaded(second)
        withdraw_batch(second.context(), second.row(number))
        uploaded(second, run="run-2", force=True)

    at_the_close(world, monkeypatch, undone_and_uploaded_anew)

    assert world.run().codes == []

    assert len(world.visible()) == 3
    assert len(live(world)) == 1


def test_a_forced_upload_does_not_end_with_what_was_there_before(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(3))
    uploaded(world)
    with closing(sqlite3.connect(world.store)) as connection, connection:
        connection.execute("DELETE FROM data WHERE seq = (SELECT min(seq) FROM data)")
    second = elsewhere()
    (number,) = second.plan(force=True).batches
    second.prepare(number, force=True)
    with monkeypatch.context() as patched:
        patched.setattr(second.ledger.data_sets, "begin_opening", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            second.upload(number, force=True)

    second.resume(number, force=True)

    assert second.row(number).state is BatchState.VERIFIED
    assert len(world.visible()) == 3


def test_nothing_is_deleted_beside_one_that_shows_something_else(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.stage(readings(3), data_set=body(NONE))
    second, third = elsewhere(), elsewhere(name="third")

    def interrupted() -> None:
        with closing(sqlite3.connect(world.store)) as connection, connection:
            connection.execute("DELETE FROM data WHERE seq = (SELECT min(seq) FROM data)")
        raise KeyboardInterrupt

    at_the_close(world, monkeypatch, lambda: uploaded(second), interrupted)
    with pytest.raises(KeyboardInterrupt):
        world.run()

    assert third.run().codes == ["found-differs"]

    assert len(live(world)) == 2
    assert len(world.visible()) == 5


def _interrupted(*_args: Any, **_more: Any) -> None:
    raise KeyboardInterrupt


def test_a_mark_is_of_one_user(world: World, elsewhere: Callable[..., World]) -> None:
    number = world.ready(readings(2))
    world.upload(number)
    other = world.add_user()
    world.stage(readings(2), user=other)

    outcome = world.run(users=[other])

    assert outcome.codes == []
    assert len(outcome.uploaded) == 1
    assert Mark.of(world.row(number).content_key) != Mark.of(world.row(outcome.plan.batches[0]).content_key)
    assert not isinstance(outcome, IngestError)


# ---------------------------------------------------------------- older and newer batches of one device


@pytest.mark.parametrize("at", ["open", "closing", "closed"])
def test_a_restored_ledger_lets_no_older_batch_hide_a_newer_one(
    world: World, elsewhere: Callable[..., World], monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    world.stage(readings(3) + dose(1), "a")
    world.stage(readings(3) + dose(2), "b", day=NEXT)
    backup = world.folder / "backup.db"
    where: Any = world.ledger.data_sets if at == "open" else world.client
    name = {"open": "begin_close", "closing": "close_data_set", "closed": "read_data"}[at]
    call = getattr(where, name)

    def backed_up(*args: Any, **given: Any) -> Any:
        monkeypatch.setattr(where, name, call)
        back_up(world, backup)
        return call(*args, **given)

    monkeypatch.setattr(where, name, backed_up)
    assert world.run(BOTH).codes == []
    before = creations(world)
    restored = elsewhere(backup)
    restored.wait_out_claims()

    assert [restored.run(BOTH, run=f"run-{number}").codes for number in range(2)] == [[], []]

    assert creations(world) == before
    assert amounts(world, types=["bolus"]) == [2]
    assert {row.state for row in restored.ledger.batches.get_all([1, 2])} == {BatchState.VERIFIED}
    assert restored.all_right()


@pytest.mark.parametrize("part_records", [100, 2])
def test_a_lost_ledger_lets_no_older_batch_hide_a_newer_one(
    world: World, elsewhere: Callable[..., World], part_records: int
) -> None:
    world.stage(readings(3) + dose(2), "b", day=NEXT)
    uploaded(world, part_records=part_records)
    world.stage(readings(3) + dose(1), "a")
    second, before = elsewhere(), creations(world)
    older, newer = second.plan(BOTH, part_records=part_records).batches
    second.ledger.turns.plan("dag", "run-1", {older: 0, newer: 1})
    second.prepare(older)

    with pytest.raises(NewerFirstError) as caught:
        second.upload(older)

    assert (caught.value.batches, caught.value.waits) == ((newer,), True)
    assert creations(world) == before
    second.prepare(newer, part_records=part_records)
    with pytest.raises(OlderThanUploadedError):
        second.upload(older)
    assert amounts(world, types=["bolus"]) == [2]
    assert [second.row(number).state for number in (older, newer)] == [BatchState.HELD, BatchState.VERIFIED]
    second.upload(newer)
    assert amounts(world, types=["bolus"]) == [2]


@pytest.mark.parametrize("part_records", [100, 2])
def test_an_older_batch_that_tidepool_has_is_adopted_though_a_newer_one_was_first(
    world: World, elsewhere: Callable[..., World], part_records: int
) -> None:
    world.stage(readings(3) + dose(1), "a")
    world.stage(readings(3) + dose(2), "b", day=NEXT)
    assert world.run(BOTH, part_records=part_records).codes == []
    second, before = elsewhere(), creations(world)
    assert second.run(Window(NEXT, NEXT), part_records=part_records).codes == []

    assert second.run(BOTH, run="run-2", part_records=part_records).codes == []

    assert creations(world) == before
    assert amounts(world, types=["bolus"]) == [2]
    assert second.all_right()


def test_what_was_adopted_for_an_older_batch_and_differs_is_held_alone(
    world: World, elsewhere: Callable[..., World]
) -> None:
    world.stage(readings(3) + dose(2), "b", day=NEXT)
    lose(world, uploaded(world), 1)
    world.stage(readings(3) + dose(1), "a")
    second = elsewhere()
    older, newer = second.plan(BOTH).batches
    for number in (older, newer):
        second.prepare(number)

    second.upload(older)

    assert [second.row(number).state for number in (older, newer)] == [BatchState.VERIFIED, BatchState.HELD]
    assert second.row(newer).reason == "found-differs"
