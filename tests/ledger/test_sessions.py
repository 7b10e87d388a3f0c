from __future__ import annotations

from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import BatchState, DataSetState, Ledger, TaskOrigin


def begin(ledger: Ledger, batch: int, state: DataSetState, data_set_id: str) -> None:
    row = ledger.data_sets.begin_opening(
        batch, data_set_type="normal", deduplicator="org.example.d", expected_rows=1, origin=TaskOrigin()
    )
    set_data_set_state(ledger, row.id, state, data_set_id=data_set_id)


def test_a_batch_shows_its_newest_data_set(ledger: Ledger) -> None:
    batch = ledger.batches.register(found()).id
    begin(ledger, batch, DataSetState.DELETED, "upid_000000000001")
    begin(ledger, batch, DataSetState.VERIFIED, "upid_000000000002")
    (shown,) = ledger.uploads.last_changed()

    assert (shown.data_set_id, shown.data_set_state) == ("upid_000000000002", "verified")


def test_a_batch_without_a_data_set_is_shown_too(ledger: Ledger) -> None:
    set_batch_state(ledger, ledger.batches.register(found()).id, BatchState.HELD, reason="too-many-refused")
    (shown,) = ledger.uploads.last_changed(state="held")

    assert (shown.data_set_id, shown.reason) == (None, "too-many-refused")
    assert ledger.uploads.last_changed(state="verified") == []


def test_a_batch_is_found_by_the_hash_of_its_label(ledger: Ledger) -> None:
    for number in range(3):
        ledger.batches.register(
            found(content_key=f"{number:064}", folder=f"/{number}", label=f"2026-01-02 G6 {number}abc")
        )

    assert [one.label for one in ledger.uploads.last_changed(label_part="1abc")] == ["2026-01-02 G6 1abc"]
    assert ledger.uploads.last_changed(label_part="%") == []
    assert len(ledger.uploads.last_changed(limit=2)) == 2
