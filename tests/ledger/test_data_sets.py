from __future__ import annotations

from tests.factories import found
from tidepool_ingest.ledger import ChunkState, DataSetState, Ledger, TaskOrigin

ORIGIN = TaskOrigin(dag_id="tidepool_normal_upload", run_id="manual", map_index=3, try_number=1)


def begin(ledger: Ledger, batch: int) -> int:
    row = ledger.data_sets.begin_opening(
        batch, data_set_type="normal", deduplicator="org.example.d", expected_rows=5, origin=ORIGIN
    )
    return row.id


def test_intent_is_there_before_the_answer(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    begin(ledger, batch)
    (row,) = ledger.data_sets.of_batch(batch)

    assert (row.state, row.data_set_id, row.ordinal, row.opened_at) == (DataSetState.OPENING, None, 1, None)
    assert (row.dag_id, row.run_id, row.map_index, row.try_number) == (
        "tidepool_normal_upload",
        "manual",
        3,
        1,
    )


def test_each_state_notes_its_time_once_reached(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    number = begin(ledger, batch)
    ledger.data_sets.mark_open(number, "upid_0123456789ab")
    ledger.data_sets.begin_close(number)
    ledger.data_sets.mark_closed(number)
    ledger.data_sets.mark_verified(number, expected_rows=5, visible_rows=5)
    (row,) = ledger.data_sets.of_batch(batch)

    assert row.data_set_id == "upid_0123456789ab"
    assert row.opened_at is not None
    assert row.closed_at is not None
    assert row.verified_at is not None
    assert row.opened_at <= row.closed_at <= row.verified_at
    assert row.visible_rows == 5


def test_a_second_data_set_of_a_batch_counts_on(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    ledger.data_sets.mark_unreachable(begin(ledger, batch))
    begin(ledger, batch)

    assert [row.ordinal for row in ledger.data_sets.of_batch(batch)] == [1, 2]


def test_a_chunk_is_in_doubt_until_it_is_answered(ledger: Ledger) -> None:
    data_set = begin(ledger, ledger.batches.register(found()).id)
    ledger.data_sets.begin_chunk(data_set, 0, digest="d" * 64, records=1_000)
    ledger.data_sets.begin_chunk(data_set, 1, digest="e" * 64, records=7)
    ledger.data_sets.chunk_stored(data_set, 0)
    ledger.data_sets.begin_chunk(data_set, 1, digest="e" * 64, records=7)
    chunks = ledger.data_sets.chunks_of(data_set)

    assert [(chunk.state, chunk.attempts) for chunk in chunks.values()] == [
        (ChunkState.STORED, 1),
        (ChunkState.SENDING, 2),
    ]
