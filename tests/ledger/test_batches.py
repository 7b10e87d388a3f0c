from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import BatchState, DataSetState, FoundBatch, Ledger, TaskOrigin
from tidepool_ingest.ledger.database import UnknownBatchError


def test_the_same_content_is_one_batch_wherever_it_lies(ledger: Ledger) -> None:
    first = ledger.batches.register(found())
    moved = ledger.batches.register(found(folder="/staging/elsewhere", batch_id="batch-2"))

    assert (moved.id, moved.folder, moved.batch_id) == (first.id, "/staging/elsewhere", "batch-2")


def test_no_time_of_a_manifest_is_too_early_or_too_late_to_be_read(ledger: Ledger) -> None:
    engine = ledger.database.engine
    moments = {"a": datetime.min.replace(tzinfo=UTC), "b": datetime.max.replace(tzinfo=UTC)}
    for zone in ("Asia/Tokyo", "America/Los_Angeles"):
        if engine.dialect.name == "postgresql":
            with ledger.database.writing() as connection:
                connection.execute(text(f"ALTER DATABASE {engine.url.database} SET timezone TO '{zone}'"))
            engine.dispose()
        for key, moment in moments.items():
            row = ledger.batches.register(found(content_key=key * 64, staged_at=moment))
            assert ledger.batches.get(row.id).staged_at == moment


def test_a_done_batch_keeps_its_place(ledger: Ledger) -> None:
    first = ledger.batches.register(found())
    set_batch_state(ledger, first.id, BatchState.VERIFIED)

    assert ledger.batches.register(found(folder="/staging/elsewhere")).folder == first.folder


def test_the_same_content_for_another_host_is_another_batch(ledger: Ledger) -> None:
    integration = ledger.batches.register(found(api_host="int-api.example.org"))
    set_batch_state(ledger, integration.id, BatchState.VERIFIED)
    production = ledger.batches.register(found(api_host="api.example.org"))

    assert production.id != integration.id
    at_production = ledger.batches.of_contents("api.example.org", ["c" * 64])
    at_integration = ledger.batches.of_contents("int-api.example.org", ["c" * 64, "d" * 64])
    assert [row.state.is_done for row in at_production.values()] == [False]
    assert {key: row.id for key, row in at_integration.items()} == {"c" * 64: integration.id}


def test_corrected_content_takes_the_place_of_what_never_was_opened(ledger: Ledger) -> None:
    bad = ledger.batches.register(found(content_key="b" * 64))
    set_batch_state(ledger, bad.id, BatchState.FAILED, reason="file-sha256")
    ledger.batches.register(found(content_key="a" * 64))

    assert ledger.batches.get(bad.id).state is BatchState.OVERWRITTEN


@pytest.mark.parametrize("state", [BatchState.VERIFIED, BatchState.UPLOADING])
def test_corrected_content_leaves_what_was_opened(ledger: Ledger, state: BatchState) -> None:
    opened = ledger.batches.register(found(content_key="b" * 64))
    set_batch_state(ledger, opened.id, state)
    ledger.batches.register(found(content_key="a" * 64))

    assert ledger.batches.get(opened.id).state is state


def test_more_keys_than_a_statement_takes_are_asked_for_in_parts(ledger: Ledger) -> None:
    keys = [f"{number:064x}" for number in range(1_203)]
    for key in keys[::400]:
        row = ledger.batches.register(found(content_key=key, folder=f"/staging/{key}"))
        set_batch_state(ledger, row.id, BatchState.NOTHING_ACCEPTED)

    assert set(ledger.batches.of_contents("api.example.org", keys)) == set(keys[::400])


def test_counts_and_reason_are_kept_apart(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    ledger.batches.set_counts(row.id, staged=10, accepted=7, quarantined=2, identical=1, expected_rows=9)
    set_batch_state(ledger, row.id, BatchState.HELD, reason="too-many-refused")
    seen = ledger.batches.get(row.id)

    assert (seen.staged, seen.accepted, seen.quarantined, seen.identical, seen.expected_rows) == (
        10,
        7,
        2,
        1,
        9,
    )
    assert (seen.state, seen.reason) == (BatchState.HELD, "too-many-refused")


def test_an_unknown_number_says_what_to_do(ledger: Ledger) -> None:
    with pytest.raises(UnknownBatchError, match="clear the task `plan`"):
        ledger.batches.get(404)


def lying(content: str, folder: int, **more: Any) -> FoundBatch:
    place = {"batch_id": f"batch-{folder}", "day": date(2026, 1, 1) + timedelta(days=folder)}
    place |= {"folder": f"/staging/{folder}", "label": f"label {folder}"}
    return found(content_key=content * 64, **place, **more)


def set_back(ledger: Ledger, content: str, state: BatchState, started: DataSetState | None) -> None:
    """Bring what was noted to some state, with a data set in another one."""
    row = ledger.batches.of_contents("api.example.org", [content * 64])[content * 64]
    if started is not None:
        data_set = ledger.data_sets.begin_opening(
            row.id, data_set_type="normal", deduplicator="d", expected_rows=1, origin=TaskOrigin()
        )
        set_data_set_state(ledger, data_set.id, started)
    set_batch_state(ledger, row.id, state, reason="some-code" if state is BatchState.HELD else None)


def noted(ledger: Ledger) -> list[tuple[Any, ...]]:
    """Return what stands in the ledger of each batch, but for the times."""
    known = ledger.batches.of_contents("api.example.org", [letter * 64 for letter in "abcdef"])
    rows = ledger.batches.get_all([row.id for row in known.values()])
    columns = ("id", "content_key", "folder", "batch_id", "day", "label", "state", "reason")
    return sorted(tuple(getattr(row, column) for column in columns) for row in rows)


@pytest.mark.parametrize("seed", range(30))
def test_many_are_noted_together_as_they_are_one_after_the_other(tmp_path: Any, seed: int) -> None:
    """Contents wander between folders, in all states, with and without data at Tidepool."""
    chance = random.Random(seed)
    together, one_by_one = (Ledger(f"sqlite:///{tmp_path / name}.db") for name in ("a", "b"))
    for ledger in (together, one_by_one):
        ledger.migrate()
    states = list(BatchState)
    for _ in range(4):
        contents = chance.sample("abcdef", chance.randint(1, 6))
        met = [lying(content, chance.randint(1, 3)) for content in contents]
        rows = together.batches.register_all(met)
        assert [row.content_key for row in rows] == [one.content_key for one in met]
        for one in met:
            one_by_one.batches.register(one)
        assert noted(together) == noted(one_by_one)
        for content in chance.sample(contents, chance.randint(0, len(contents))):
            state = chance.choice(states)
            started = chance.choice([None, DataSetState.OPENING, DataSetState.OPEN, DataSetState.DELETED])
            for ledger in (together, one_by_one):
                set_back(ledger, content, state, started)
    for ledger in (together, one_by_one):
        ledger.close()


def test_contents_that_change_places_are_both_planned(ledger: Ledger) -> None:
    before = ledger.batches.register_all([lying("a", 1), lying("b", 2)])
    after = ledger.batches.register_all([lying("b", 1), lying("a", 2)])

    assert sorted(row.id for row in after) == sorted(row.id for row in before)
    assert [(row.folder, row.state) for row in after] == [
        ("/staging/1", BatchState.PLANNED),
        ("/staging/2", BatchState.PLANNED),
    ]


def test_more_than_one_transaction_takes_are_noted_in_order(ledger: Ledger) -> None:
    many = [found(content_key=f"{number:064x}", folder=f"/{number}") for number in range(701)]

    rows = ledger.batches.register_all(many)

    assert [row.content_key for row in rows] == [one.content_key for one in many]
    assert [row.id for row in rows] == sorted(row.id for row in rows)
    assert ledger.batches.register_all(many) == rows
    assert ledger.batches.register_all([]) == []


def test_the_days_of_batches_are_told_once_each(ledger: Ledger) -> None:
    assert ledger.batches.days() == []
    numbered: Sequence[tuple[str, int]] = [("a", 3), ("b", 1), ("c", 3), ("d", 2)]
    ledger.batches.register_all([lying(content, day) for content, day in numbered])

    assert ledger.batches.days() == [date(2026, 1, day) for day in (2, 3, 4)]


def test_sqlite_finds_what_is_noted_by_content_and_place(tmp_path: Any) -> None:
    """It knows no numbers of rows, and would read all batches of a state if one stood in the question."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    asked: list[tuple[str, Any]] = []
    event.listen(
        ledger.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, given, *_more: asked.append((statement, given)),
    )
    ledger.batches.register_all([lying("a", 1), lying("b", 2)])
    ledger.devices.newest_verified_days("api.example.org", ["0123456789"], after=date(2026, 1, 1))
    with ledger.database.reading() as connection:
        steps = {
            row[3]
            for statement, given in list(asked)
            if statement.startswith("SELECT")
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
        }
    ledger.close()

    assert any("ix_batches_api_host_user_id_batch_id" in step for step in steps)
    steps -= {"SCAN CONSTANT ROW"}  # the question what time it is, which has no table
    assert [step for step in steps if step.startswith("SCAN") or "(state=?)" in step] == []


def test_what_is_said_of_a_reason_does_not_outlive_it(ledger: Ledger) -> None:
    row = ledger.batches.register(found())

    def noted() -> tuple[str | None, str | None]:
        seen = ledger.batches.get(row.id)
        return seen.reason, seen.reason_detail

    ledger.batches.hold(row.id, "dates-swapped", "file 1: 6 times, first at line 1258")
    assert noted() == ("dates-swapped", "file 1: 6 times, first at line 1258")
    ledger.batches.hold(row.id, "timezone-missing")
    assert noted() == ("timezone-missing", None)
    ledger.batches.mark_failed(row.id, "file-damaged", "file 2")
    ledger.batches.set_reason(row.id, "changed-since-verified")
    assert noted() == ("changed-since-verified", None)
    ledger.batches.set_reason(row.id, "file-damaged", "file 2")
    ledger.batches.mark_prepared(row.id)
    assert noted() == (None, None)
    ledger.batches.mark_unfinished(row.id, "some-code", "2 rows")
    assert ledger.batches.begin_upload(row.id)
    assert noted() == (None, None)
    ledger.batches.mark_failed(row.id, "file-damaged", "file 2")
    ledger.parts.set_all(row.id, BatchState.WITHDRAWN)
    assert noted() == (None, None)


def test_what_stops_before_it_is_counted_is_described(ledger: Ledger) -> None:
    row = ledger.batches.register(found())
    ledger.batches.set_described(row.id, zones='[[["Europe/Berlin",""]]]', formats='["clarity"]', device=None)
    seen = ledger.batches.get(row.id)

    assert (seen.zones, seen.formats, seen.device) == ('[[["Europe/Berlin",""]]]', '["clarity"]', None)
    assert (seen.staged, seen.purged, seen.state) == (None, None, BatchState.PLANNED)
