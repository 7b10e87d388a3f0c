from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import ColumnElement, event, select, text

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import (
    DECLINED,
    BatchState,
    DataSetState,
    FoundPart,
    Ledger,
    TaskOrigin,
    Upload,
    UploadFilter,
)
from tidepool_ingest.ledger.attention import left_alone, needs_attention
from tidepool_ingest.ledger.schema import batches as batches_table


def noted(ledger: Ledger, number: int, state: BatchState = BatchState.PLANNED, **values: Any) -> int:
    reason = values.pop("reason", None)
    given = {
        "content_key": f"{number:064}",
        "folder": f"/{number}",
        "label": f"2026-01-02 G6 {number:010x}",
        **values,
    }
    batch = ledger.batches.register(found(**given)).id
    set_batch_state(ledger, batch, state, reason=reason)
    return batch


def with_data_set(ledger: Ledger, batch: int, state: DataSetState, dag_id: str | None = None) -> int:
    row = ledger.data_sets.begin_opening(
        batch,
        data_set_type="normal",
        deduplicator="org.example.d",
        expected_rows=3,
        origin=TaskOrigin(dag_id=dag_id, run_id="run-1" if dag_id else None, map_index=0),
    )
    set_data_set_state(ledger, row.id, state, data_set_id=f"upid_{row.id:012}")
    return row.id


def batches(page: list[Upload]) -> list[int]:
    return [one.batch for one in page]


def test_pages_follow_each_other_in_both_directions(ledger: Ledger) -> None:
    numbers = [noted(ledger, number) for number in range(7)][::-1]

    first = ledger.uploads.page(UploadFilter(), limit=3)
    second = ledger.uploads.page(UploadFilter(), before=first[-1].batch, limit=3)
    third = ledger.uploads.page(UploadFilter(), before=second[-1].batch, limit=3)

    assert batches(first) + batches(second) + batches(third) == numbers
    assert ledger.uploads.page(UploadFilter(), before=third[-1].batch) == []
    assert ledger.uploads.page(UploadFilter(), after=third[0].batch, limit=3) == second
    assert ledger.uploads.page(UploadFilter(), after=second[0].batch, limit=3) == first


def test_a_batch_shows_the_progress_of_its_newest_data_set(ledger: Ledger) -> None:
    batch = noted(ledger, 1, BatchState.UPLOADING)
    ledger.batches.set_counts(batch, staged=30, accepted=29, quarantined=1, identical=0, chunks=3)
    given_up = with_data_set(ledger, batch, DataSetState.DELETED, "a_dag")
    newest = with_data_set(ledger, batch, DataSetState.OPEN, "another_dag")
    for data_set, stored in ((given_up, (0, 1, 2)), (newest, (0, 1))):
        for chunk in range(3):
            ledger.data_sets.begin_chunk(data_set, chunk, digest="d" * 64, records=10)
        for chunk in stored:
            ledger.data_sets.chunk_stored(data_set, chunk)

    (shown,) = ledger.uploads.page(UploadFilter())

    assert (shown.stored, shown.chunks, shown.data_set_state) == (2, 3, "open")
    assert (shown.dag_id, shown.run_id, shown.map_index) == ("another_dag", "run-1", 0)
    assert ledger.uploads.get(batch) == shown
    assert ledger.uploads.get(batch + 1) is None


def test_each_filter_takes_what_it_says(ledger: Ledger) -> None:
    old = noted(ledger, 1, BatchState.VERIFIED, day=date(2026, 1, 1))
    with_data_set(ledger, old, DataSetState.VERIFIED, "a_dag")
    held = noted(ledger, 2, BatchState.HELD, reason="too-many-refused", day=date(2026, 1, 5))
    feed = noted(ledger, 3, data_set_type="continuous", day=date(2026, 1, 9), label="2026-01-09 50%_x ab")

    def taken(**wanted: Any) -> list[int]:
        return batches(ledger.uploads.page(UploadFilter(**wanted)))

    assert taken(state=BatchState.VERIFIED) == [old]
    assert taken(first_day=date(2026, 1, 5)) == [feed, held]
    assert taken(last_day=date(2026, 1, 5)) == [held, old]
    assert taken(first_day=date(2026, 1, 2), last_day=date(2026, 1, 8)) == [held]
    assert taken(label="g6") == [held, old]
    assert taken(label="50%_") == [feed]
    assert taken(label="%") == [feed]
    assert taken(dag_id="a_dag") == [old]
    assert taken(dag_id="no_dag") == []
    assert taken(data_set_type="continuous") == [feed]
    assert taken(waiting=True) == [held]
    assert taken(state=BatchState.HELD, label="g6", first_day=date(2026, 1, 6)) == []
    assert ledger.uploads.dags() == ["a_dag"]
    assert ledger.uploads.by_state() == {
        BatchState.VERIFIED: 1,
        BatchState.HELD: 1,
        BatchState.PLANNED: 1,
    }


@pytest.mark.parametrize(
    ("state", "reason", "waits"),
    [
        (BatchState.HELD, "would-double", True),
        (BatchState.HELD, DECLINED, False),
        (BatchState.FAILED, "file-missing", True),
        (BatchState.UPLOADING, "tidepool-permission", True),
        (BatchState.UPLOADING, None, False),
        (BatchState.VERIFIED, "changed-since-verified", True),
        (BatchState.VERIFIED, None, False),
        (BatchState.OVERWRITTEN, "file-missing", False),
        (BatchState.WITHDRAWN, None, False),
    ],
)
def test_what_needs_attention(ledger: Ledger, state: BatchState, reason: str | None, waits: bool) -> None:
    noted(ledger, 1, state, reason=reason)

    assert ledger.uploads.waiting() == int(waits)
    assert len(ledger.uploads.page(UploadFilter(waiting=True))) == int(waits)


def test_a_page_tells_no_person_device_or_folder(ledger: Ledger) -> None:
    assert not {"device_id", "batch_id", "connection"} & set(Upload.__annotations__)
    whole = ledger.batches.register(found())
    ledger.parts.register(whole, [FoundPart(content_key="d" * 64, records=1, expected_rows=1, chunks=1)])

    shown = [
        *ledger.uploads.page(UploadFilter()),
        *ledger.uploads.of_parts(whole.id),
        ledger.uploads.get(whole.id),
    ]
    assert len(shown) == 3
    for upload in shown:
        assert upload is not None
        assert (upload.user_id, upload.folder) == ("", "")
        assert not {whole.user_id, whole.folder, whole.batch_id, whole.device_id} & set(vars(upload).values())


@pytest.mark.parametrize("condition", [needs_attention, left_alone])
def test_sqlite_finds_what_needs_attention_by_its_reason(
    tmp_path: Path, condition: Callable[[], ColumnElement[bool]]
) -> None:
    """By the states it would go through nearly all batches, at each visit of the page."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    asked = select(batches_table.c.id).where(condition())
    query = asked.compile(ledger.database.engine, compile_kwargs={"literal_binds": True})

    with ledger.database.reading() as connection:
        (plan,) = connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).scalars(3)
    ledger.close()

    assert "USING INDEX ix_batches_reason" in plan


@pytest.mark.parametrize(("part", "found"), [("g6", True), ("Möller", True), ("mÖLLER", False), ("%", False)])
def test_a_label_is_found_in_either_case_from_a_to_z(ledger: Ledger, part: str, found: bool) -> None:
    """The same on both databases."""
    number = noted(ledger, 1, label="2026-01-02 G6 Möller 0a1b2c3d4e")

    assert batches(ledger.uploads.page(UploadFilter(label=part))) == [number] * found


LOOKS: dict[str, Callable[[Ledger], object]] = {
    "newest": lambda ledger: ledger.uploads.page(UploadFilter()),
    "of a DAG": lambda ledger: ledger.uploads.page(UploadFilter(dag_id="tidepool_normal_upload")),
    "of a label": lambda ledger: ledger.uploads.page(UploadFilter(label="G6")),
    "needs attention": lambda ledger: ledger.uploads.page(UploadFilter(waiting=True)),
    "the page before": lambda ledger: ledger.uploads.page(UploadFilter(), after=1),
    "by state": lambda ledger: ledger.uploads.by_state(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_sqlite_does_not_sort_all_batches_to_show_some(tmp_path: Path, look: str) -> None:
    """Nearly all are whole, which SQLite does not know: the index of parts would lead it to all of them."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    ledger.migrate()
    noted(ledger, 1, BatchState.PREPARED)
    asked: list[tuple[str, Any]] = []
    engine = ledger.database.engine
    event.listen(
        engine, "before_cursor_execute", lambda _c, _d, query, values, *_: asked.append((query, values))
    )
    LOOKS[look](ledger)
    with ledger.database.reading() as connection:
        steps = [
            step
            for query, values in [one for one in asked if one[0].startswith("SELECT") and "likely" in one[0]]
            for step in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values).scalars(3)
        ]
    ledger.close()

    assert steps
    assert not [step for step in steps if "TEMP B-TREE" in step or "(part_of=?)" in step]
