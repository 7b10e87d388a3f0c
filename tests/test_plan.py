"""Which staged batches a run takes up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import event
from upath import UPath

from tests.factories import DAY, readings, sha256
from tests.world import World
from tidepool_ingest import plan, staged_batch
from tidepool_ingest import plan as ready
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.batches import days_with_batches
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.window import Window


def batch_ids(world: World, numbers: list[int]) -> list[str]:
    return [world.row(number).batch_id for number in numbers]


def test_a_window_takes_its_own_days_and_names_the_others(world: World) -> None:
    for offset in (-2, -1, 0, 1):
        world.stage(readings(2, first=10 * offset + 20), f"day{offset}", day=DAY + timedelta(days=offset))

    made = world.plan(Window(DAY - timedelta(days=1), DAY))

    assert batch_ids(world, made.batches) == ["day-1", "day0"]
    assert made.days_outside == ["2026-03-03", "2026-03-06"]
    assert made.summary()["number_of_days_outside"] == 2
    assert [world.row(number).state for number in made.batches] == [BatchState.PLANNED] * 2


def test_look_back_finds_what_arrived_late_and_not_what_is_done(world: World) -> None:
    start = datetime(2026, 3, 5, tzinfo=UTC)
    window = Window.of_interval(start, start + timedelta(days=1), look_back_days=7)
    world.stage(readings(2), "on-time", day=DAY - timedelta(days=1))
    assert world.run(window).codes == []
    world.stage(readings(2, first=10), "late", day=DAY - timedelta(days=7))
    world.stage(readings(2, first=20), "too-late", day=DAY - timedelta(days=8))

    made = world.plan(window)

    assert batch_ids(world, made.batches) == ["late"]
    assert made.done == 1
    assert made.days_outside == ["2026-02-25"]


def test_days_outside_that_are_done_or_declined_wait_for_no_run(world: World) -> None:
    for offset in (-3, -2, -1):
        world.stage(readings(2, first=10 * offset + 40), f"day{offset}", day=DAY + timedelta(days=offset))
    outcome = world.run(Window(DAY - timedelta(days=3), DAY - timedelta(days=2)))
    done, declined = outcome.plan.batches
    world.ledger.batches.hold(declined, "too-many-refused")
    assert world.plan(Window(DAY, DAY)).days_outside == ["2026-03-03", "2026-03-04"]

    world.ledger.batches.decline(declined)

    assert world.row(done).state is BatchState.VERIFIED
    assert world.plan(Window(DAY, DAY)).days_outside == ["2026-03-04"]


def test_the_plan_is_told_in_a_sentence(world: World) -> None:
    window = Window(DAY, DAY)
    assert world.plan().sentence() == f"In the day folders of {DAY}, this run takes no batch."
    made = plan.Plan(window, done=2, declined=1, dismissed=2, ignored={"no-manifest": 1})
    assert made.sentence() == (
        f"In the day folders of {DAY}, this run takes no batch; it leaves 2 batches done already, "
        "1 batch that somebody has declined, 2 batches that somebody has dismissed, "
        "1 folder or file (no-manifest)."
    )


def test_many_days_outside_are_counted_and_not_all_named(world: World) -> None:
    for offset in range(1, 20):
        world.stage(readings(1, first=offset), day=DAY + timedelta(days=offset))

    summary = world.plan().summary()

    assert len(summary["days_outside"]) == plan.DAYS_NAMED
    assert summary["number_of_days_outside"] == 19


def test_a_folder_without_manifest_is_not_ready_and_is_counted(world: World) -> None:
    (world.stage(readings(2), "unfinished") / "manifest.json").unlink()
    world.stage(readings(2, first=10), "ready")

    made = world.plan()

    assert batch_ids(world, made.batches) == ["ready"]
    assert made.ignored == {"no-manifest": 1}


def test_done_at_one_host_is_not_done_at_another(world: World) -> None:
    world.stage(readings(2))
    world.run()

    assert world.plan().batches == []
    elsewhere = world.plan(host_of=lambda connection: "api.tidepool.org")
    assert elsewhere.done == 0
    assert [world.row(number).api_host for number in elsewhere.batches] == ["api.tidepool.org"]


def test_done_for_one_user_is_not_done_for_another(world: World) -> None:
    other = world.add_user()
    world.stage(readings(2))
    world.run()
    world.stage(readings(2), user=other)

    made = world.plan()

    assert [world.row(number).user_id for number in made.batches] == [other]
    assert made.done == 1


def test_other_content_is_not_done(world: World) -> None:
    world.stage(readings(2))
    world.run()
    world.stage(readings(3), "another")

    assert batch_ids(world, world.plan().batches) == ["another"]


def test_the_same_content_under_another_name_and_day_is_done(world: World) -> None:
    world.stage(readings(2))
    world.run()
    world.stage(readings(2), "again", name="renamed.ndjson", day=DAY + timedelta(days=1))

    made = world.plan(Window(DAY, DAY + timedelta(days=1)))

    assert (made.batches, made.done) == ([], 2)


def test_the_same_content_twice_is_taken_once(world: World) -> None:
    world.stage(readings(2), "first")
    world.stage(readings(2), "second")

    made = world.plan()

    assert batch_ids(world, made.batches) == ["first"]
    assert made.same_content == 1


def test_force_takes_what_is_done(world: World) -> None:
    world.stage(readings(2))
    done = world.run().plan.batches

    assert world.plan().batches == []
    assert world.plan(force=True).batches == done


def test_users_are_chosen_by_id_or_by_the_hash_that_logs_show(world: World) -> None:
    other, third = world.add_user(), world.add_user()
    for user in (world.user, other, third):
        world.stage(readings(2), user=user)

    chosen = world.plan(users=[world.user, short_hash(other)])

    assert {world.row(number).user_id for number in chosen.batches} == {world.user, other}
    assert chosen.users_not_found == 0


def test_people_without_a_ready_batch_in_the_window_are_counted(world: World) -> None:
    world.stage(readings(2))
    elsewhere, unready = world.add_user(), world.add_user()
    world.stage(readings(2), user=elsewhere, day=DAY + timedelta(days=1))
    (world.stage(readings(2), user=unready) / "manifest.json").unlink()

    made = world.plan(users=[world.user, elsewhere, short_hash(unready), "0123456789"])

    assert len(made.batches) == 1
    assert made.summary()["users_not_found"] == 3
    assert world.run(users=["0123456789"]).plan.summary()["users_not_found"] == 1


def test_more_than_a_run_can_take_is_left_for_the_next_oldest_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "MAX_BATCHES_A_RUN", 2)
    for number in range(3):
        world.stage(readings(1, first=number), f"batch{number}", day=DAY + timedelta(days=number))
    window = Window(DAY, DAY + timedelta(days=2))

    first = world.run(window)
    second = world.run(window)

    assert batch_ids(world, first.plan.batches) == ["batch0", "batch1"]
    assert first.plan.deferred == 1
    assert batch_ids(world, second.plan.batches) == ["batch2"]
    assert (second.plan.done, second.plan.deferred) == (2, 0)


def test_continuous_batches_are_counted_and_left_to_their_own_dag(world: World) -> None:
    world.stage(readings(2), "continuous", data_set={"dataSetType": "continuous"})
    world.stage(readings(2), "normal")

    made = world.plan()

    assert batch_ids(world, made.batches) == ["normal"]
    assert made.other_type == 1


@pytest.mark.parametrize(
    ("manifest", "code"),
    [
        (b"{", "manifest-malformed"),
        (b'{"userId": "0123456789", "dataSet": {}, "files": []}', "manifest-malformed"),
        (b'{"unheardOf": 1}', "manifest-malformed"),
    ],
)
def test_an_unreadable_manifest_is_taken_up_and_the_others_go_on(
    world: World, manifest: bytes, code: str
) -> None:
    (world.stage(readings(2), "broken") / "manifest.json").write_bytes(manifest)
    world.stage(readings(2), "good")

    outcome = world.run()

    assert batch_ids(world, outcome.plan.batches) == ["broken", "good"]
    broken, good = outcome.plan.batches
    assert outcome.codes == [code]
    assert (world.row(broken).state, world.row(broken).reason) == (BatchState.FAILED, code)
    assert world.row(good).state is BatchState.VERIFIED


def test_two_batches_of_one_id_are_both_taken_up_and_the_second_fails(world: World) -> None:
    world.stage(readings(2), "same", day=DAY)
    second = world.stage(readings(2, first=10), "same", day=DAY + timedelta(days=1))
    window = Window(DAY, DAY + timedelta(days=1))

    outcome = world.run(window)

    assert len(outcome.plan.batches) == 2
    assert outcome.codes == ["batch-id-repeated"]
    assert len(world.visible()) == 2
    assert world.run(window).codes == ["batch-id-repeated"]
    second.rename(second.with_name("another"))
    assert world.run(window).codes == []
    assert len(world.visible()) == 4
    assert world.all_right()


def test_one_batch_id_may_serve_two_users(world: World) -> None:
    other = world.add_user()
    world.stage(readings(2), "same")
    world.stage(readings(2, first=10), "same", user=other)

    assert world.run().codes == []
    assert world.all_right()


def test_a_connection_that_is_not_allowed_fails_its_batch_only(world: World) -> None:
    world.stage(readings(2), "elsewhere", connection="clinic_b")
    world.stage(readings(2, first=10), "here", connection="tidepool_default")

    outcome = world.run()

    assert outcome.codes == ["connection-not-allowed"]
    assert len(outcome.uploaded) == 1
    world.allowed.add("clinic_b")
    again = world.run()
    assert (again.codes, len(again.uploaded)) == ([], 1)
    assert world.all_right()


# ---------------------------------------------------------------- content


@pytest.mark.parametrize("together", [True, False], ids=["in one run", "later"])
def test_other_data_under_the_digest_of_a_batch_that_is_done_are_not_taken_for_it(
    world: World, together: bool
) -> None:
    content = b"".join(json.dumps(record).encode() + b"\n" for record in readings(2))
    world.stage(content=content, file={"sha256": sha256(content)}, batch="first")
    if not together:
        assert world.run().codes == []
    others = readings(3, first=10)
    world.stage(others, "second", file={"sha256": sha256(content)})

    outcome = world.run()

    assert outcome.codes == ["file-sha256"]
    assert len(world.visible()) == 2
    assert world.run().codes == ["file-sha256"]
    world.stage(others, "second")
    assert world.run().codes == []
    assert len(world.visible()) == 5
    assert world.all_right()


def test_a_digest_that_is_right_is_believed_wherever_the_content_lies(
    world: World, digests_made: list[str]
) -> None:
    content = b"".join(json.dumps(record).encode() + b"\n" for record in readings(2))
    world.stage(content=content, file={"sha256": sha256(content)}, batch="first")
    world.run()
    assert world.plan().done == 1
    assert digests_made == []
    world.stage(content=content, file={"sha256": sha256(content)}, batch="copy")

    assert [world.plan().done, world.plan().done] == [2, 2]
    assert digests_made == ["data.ndjson"]


@pytest.fixture
def digests_made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read for their digest."""
    made: list[str] = []
    compute = staged_batch.sha256_of

    def counted(path: Path, *, file_number: int | None = None) -> str:
        made.append(path.name)
        return compute(path, file_number=file_number)

    monkeypatch.setattr(staged_batch, "sha256_of", counted)
    return made


def test_a_file_without_digest_is_read_for_it_once(world: World, digests_made: list[str]) -> None:
    world.stage(readings(2))

    first = world.plan().batches
    assert digests_made == ["data.ndjson"]
    assert world.plan().batches == first
    world.prepare(first[0])
    assert digests_made == ["data.ndjson"]


def test_a_file_with_digest_is_not_read_by_plan(world: World, digests_made: list[str]) -> None:
    content = b"".join(json.dumps(record).encode() + b"\n" for record in readings(2))
    world.stage(content=content, file={"sha256": sha256(content)})

    assert len(world.plan().batches) == 1
    assert digests_made == []


def test_a_changed_file_is_another_content(world: World, digests_made: list[str]) -> None:
    world.stage(readings(2))
    (first,) = world.plan().batches
    world.stage(readings(3))

    (second,) = world.plan().batches

    assert len(digests_made) == 2
    assert first != second
    assert world.row(first).state is BatchState.OVERWRITTEN


def test_a_file_of_the_same_size_that_was_changed_is_noticed(world: World) -> None:
    folder = world.stage([*readings(2), b'{"a": 1}'])
    (first,) = world.plan().batches
    path = folder / "data.ndjson"
    path.write_bytes(path.read_bytes().replace(b'"a": 1', b'"a": 2'))
    os.utime(path, ns=(10**18, 10**18))

    assert world.plan().batches != [first]


def test_what_changes_between_plan_and_prepare_is_not_prepared(world: World) -> None:
    world.stage(readings(2))
    outcome = world.run(dry_run=True)
    (number,) = outcome.plan.batches
    world.stage(readings(3))

    with pytest.raises(BatchError, match=r"\[batch-changed\]"):
        world.prepare(number)

    assert world.row(number).state is BatchState.FAILED
    assert world.run().codes == []
    assert len(world.visible()) == 3


def test_labels_show_day_model_and_hash_only(world: World) -> None:
    world.stage(readings(2), "Jane's pump", data_set={"deviceModel": "Model 5\n<b>", "deviceId": "SN-4711"})

    (number,) = world.plan().batches

    name = f"{DAY}/{world.user}/Jane's pump"
    assert world.row(number).label == f"{DAY} Model 5<b> {short_hash(name)}"


@pytest.mark.parametrize("laid", [lambda root: None, lambda root: root.touch()])
def test_a_root_that_is_not_there_is_no_empty_plan(world: World, laid: Callable[[Path], None]) -> None:
    root = world.staging
    root.rmdir()
    laid(root)

    with pytest.raises(BatchError, match=r"\[staging-root-missing\]"):
        world.plan()


def test_a_root_that_goes_away_after_the_plan_is_named_as_the_cause(world: World) -> None:
    world.stage(readings(2))
    (number,) = world.plan().batches
    world.staging.rename(world.folder / "away")

    with pytest.raises(BatchError, match=r"\[staging-root-missing\]"):
        world.prepare(number)


def test_an_empty_root_is_an_empty_plan(world: World) -> None:
    made = world.plan(Window(date(2026, 1, 1), date(2026, 12, 31)))

    assert made.summary() == {
        "window": "2026-01-01 to 2026-12-31",
        "batches": 0,
        "done": 0,
        "rejected": 0,
        "dismissed": 0,
        "older_than_uploaded": 0,
        "same_content": 0,
        "other_type": 0,
        "left_for_next_run": 0,
        "named": 0,
        "named_not_found": 0,
        "users_not_found": 0,
        "ignored": {},
        "days_outside": [],
        "number_of_days_outside": 0,
    }


def test_what_is_done_is_known_by_as_few_queries_however_many_days_there_are(world: World) -> None:
    """As for a backfill of years that are verified.

    What manifests say, what is done, which days there are.
    """
    asked: list[str] = []
    event.listen(
        world.ledger.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_more: asked.append(statement),
    )
    queries = {}
    for days in (1, 12):
        for offset in range(days):
            content = json.dumps(readings(1, first=offset)[0]).encode() + b"\n"
            name, day = f"day{offset}", DAY + timedelta(days=offset)
            world.stage(content=content, batch=name, day=day, file={"sha256": sha256(content)})
        window = Window(DAY, DAY + timedelta(days=days))
        assert world.run(window).codes == []
        asked.clear()
        made = world.plan(window)
        assert (made.batches, made.done) == ([], days)
        queries[days] = [statement for statement in asked if "FROM" in statement]

    assert {days: len(statements) for days, statements in queries.items()} == {1: 4, 12: 4}


# ---------------------------------------------------------------- reading no manifest twice


@pytest.fixture
def manifests_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Batch ids whose manifest was opened, in no order."""
    opened: list[str] = []
    reading = staged_batch.read_manifest

    def counted(folder: UPath, user_id: str | None) -> Manifest:
        opened.append(folder.name)
        return reading(folder, user_id)

    monkeypatch.setattr(staged_batch, "read_manifest", counted)
    return opened


def test_a_manifest_that_has_not_changed_is_not_opened_again(world: World, manifests_read: list[str]) -> None:
    world.stage(readings(2), "one", data_set={"deviceModel": "Model 7"}, connection="tidepool_default")
    world.stage(readings(2, first=10), "two")
    first = world.plan()
    noted = [world.row(number) for number in first.batches]
    assert sorted(manifests_read) == ["one", "two"]

    second = world.plan()

    assert second.batches == first.batches
    assert [world.row(number) for number in second.batches] == noted
    assert sorted(manifests_read) == ["one", "two"]
    world.stage(readings(3, first=10), "two")
    assert world.plan().batches != first.batches
    assert sorted(manifests_read) == ["one", "two", "two"]


def test_a_manifest_that_cannot_be_read_is_read_by_each_run(world: World, manifests_read: list[str]) -> None:
    (world.stage(readings(2), "broken") / "manifest.json").write_bytes(b"{")

    assert world.plan().batches == world.plan().batches
    assert manifests_read == ["broken"] * 2


def test_a_connection_that_is_allowed_later_needs_no_second_reading(
    world: World, manifests_read: list[str]
) -> None:
    world.stage(readings(2), connection="clinic_b")
    (refused,) = world.plan().batches
    assert world.row(refused).connection is None
    world.allowed.add("clinic_b")

    (allowed,) = world.plan().batches

    assert world.row(allowed).connection == "clinic_b"
    assert world.row(refused).state is BatchState.OVERWRITTEN
    assert manifests_read == ["one"]


def test_a_run_of_many_parts_keeps_their_order(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready, "FOLDERS_PER_BATCH", 3)
    names = [f"batch{number}" for number in range(8)]
    for number, name in enumerate(names):
        world.stage(readings(1, first=number), name)

    assert batch_ids(world, world.plan().batches) == names
    (world.staging / str(DAY) / world.user / "batch4" / "data.ndjson").write_bytes(b"{}\n")
    again = world.plan().batches
    assert batch_ids(world, again) == names
    assert again == [*sorted(again)[:4], again[4], *sorted(again)[4:7]]


def test_storage_that_fails_ends_the_plan_and_notes_nothing_of_the_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        world.stage(readings(1, first=number), f"batch{number}")
    reading = staged_batch.read_manifest

    def failing(folder: UPath, user_id: str | None) -> Manifest:
        if folder.name == "batch1":
            raise BatchError("staging-unreadable", detail="ConnectionError")
        return reading(folder, user_id)

    monkeypatch.setattr(staged_batch, "read_manifest", failing)
    with pytest.raises(BatchError, match=r"\[staging-unreadable\]"):
        world.plan()
    monkeypatch.undo()

    assert batch_ids(world, world.plan().batches) == ["batch0", "batch1", "batch2"]


def test_days_that_the_ledger_knows_are_not_looked_into_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[date] = []

    def looking(root: UPath, among: list[date]) -> list[date]:
        looked.extend(among)
        return days_with_batches(root, among)

    monkeypatch.setattr(plan, "days_with_batches", looking)
    for offset in (-2, -1, 0):
        world.stage(readings(1, first=10 * offset + 20), f"day{offset}", day=DAY + timedelta(days=offset))
    assert world.plan(Window(DAY - timedelta(days=1), DAY)).days_outside == ["2026-03-03"]
    assert looked == [DAY - timedelta(days=2)]
    looked.clear()

    assert world.plan(Window(DAY - timedelta(days=2), DAY - timedelta(days=2))).days_outside == [
        "2026-03-04",
        "2026-03-05",
    ]
    assert looked == []


def test_what_is_not_done_is_counted_by_type_and_nothing_is_registered(world: World) -> None:
    world.stage(readings(2), "done")
    world.run()
    for offset, number in ((0, 10), (-40, 20), (-40, 30)):
        world.stage(readings(2, first=number), f"b{number}", day=DAY + timedelta(days=offset))
    (world.stage(readings(2, first=40), "unreadable") / "manifest.json").write_text("{")
    known = world.ledger.uploads.by_state()

    left = plan.unfinished(world.root, world.ledger, world.host_of)

    assert left == {"normal": plan.Unfinished(batches=4, days=2)}
    assert world.ledger.uploads.by_state() == known
    assert plan.unfinished(world.root, world.ledger, lambda _named: "api.tidepool.org") == {
        "normal": plan.Unfinished(batches=5, days=2)
    }
