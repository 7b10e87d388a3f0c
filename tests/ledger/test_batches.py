from __future__ import annotations

import pytest

from tests.ledger.conftest import found
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.errors import UnknownBatchError


def test_the_same_content_is_one_batch_wherever_it_lies(ledger: Ledger) -> None:
    first = ledger.batches.note(found())
    moved = ledger.batches.note(found(folder="/staging/elsewhere", batch_id="batch-2"))

    assert (moved.id, moved.folder, moved.batch_id) == (first.id, "/staging/elsewhere", "batch-2")


def test_a_done_batch_keeps_its_place(ledger: Ledger) -> None:
    first = ledger.batches.note(found())
    ledger.batches.set_state(first.id, BatchState.VERIFIED)

    assert ledger.batches.note(found(folder="/staging/elsewhere")).folder == first.folder


def test_the_same_content_for_another_host_is_another_batch(ledger: Ledger) -> None:
    integration = ledger.batches.note(found(api_host="int-api.example.org"))
    ledger.batches.set_state(integration.id, BatchState.VERIFIED)
    production = ledger.batches.note(found(api_host="api.example.org"))

    assert production.id != integration.id
    at_production = ledger.batches.of_contents("api.example.org", ["c" * 64])
    at_integration = ledger.batches.of_contents("int-api.example.org", ["c" * 64, "d" * 64])
    assert [row.state.is_done for row in at_production.values()] == [False]
    assert at_integration == {"c" * 64: ledger.batches.get(integration.id)}


def test_corrected_content_takes_the_place_of_what_never_was_opened(ledger: Ledger) -> None:
    bad = ledger.batches.note(found(content_key="b" * 64))
    ledger.batches.set_state(bad.id, BatchState.FAILED, reason="file-sha256")
    ledger.batches.note(found(content_key="a" * 64))

    assert ledger.batches.get(bad.id).state is BatchState.REPLACED


@pytest.mark.parametrize("state", [BatchState.VERIFIED, BatchState.UPLOADING])
def test_corrected_content_leaves_what_was_opened(ledger: Ledger, state: BatchState) -> None:
    opened = ledger.batches.note(found(content_key="b" * 64))
    ledger.batches.set_state(opened.id, state)
    ledger.batches.note(found(content_key="a" * 64))

    assert ledger.batches.get(opened.id).state is state


def test_more_keys_than_a_statement_takes_are_asked_for_in_parts(ledger: Ledger) -> None:
    keys = [f"{number:064x}" for number in range(1_203)]
    for key in keys[::400]:
        row = ledger.batches.note(found(content_key=key, folder=f"/staging/{key}"))
        ledger.batches.set_state(row.id, BatchState.NOTHING_ACCEPTED)

    assert set(ledger.batches.of_contents("api.example.org", keys)) == set(keys[::400])


def test_counts_and_reason_are_kept_apart(ledger: Ledger) -> None:
    row = ledger.batches.note(found())
    ledger.batches.set_counts(row.id, staged=10, accepted=7, quarantined=2, identical=1, expected_rows=9)
    ledger.batches.set_state(row.id, BatchState.HELD, reason="too-many-refused")
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
