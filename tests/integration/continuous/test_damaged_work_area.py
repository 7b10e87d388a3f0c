"""The damaged work area of a batch of a feed is rebuilt, and the batch goes on where it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests import damage
from tests.factories import cbg
from tests.world import FeedWorld
from tidepool_ingest.ledger import BatchState, DataSetState
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload import upload_batch


@pytest.mark.parametrize(
    ("name", "call", "skip", "way"),
    [
        ("accepted.ndjson", "upload_data", 0, "removed"),
        ("accepted.ndjson", "upload_data", 2, "flipped"),
        ("accepted.ndjson", "read_data", 0, "truncated"),
        ("prepared.json", "upload_data", 2, "flipped"),
        ("prepared.json", "read_data", 0, "removed"),
    ],
)
def test_it_is_made_again(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch, name: str, call: str, skip: int, way: str
) -> None:
    number = world.ready(
        [cbg(minute) for minute in range(20)], user=world.add_user(), batch="b-0001", chunk_records=5
    )
    path = WorkArea(world.root, world.row(number).content_key).path / name
    real, calls = getattr(world.client, call), []

    def struck(*given: Any, **more: Any) -> Any:
        calls.append(call)
        if len(calls) == skip + 1:
            damage.WAYS[way](path)
        return real(*given, **more)

    monkeypatch.setattr(world.client, call, struck)
    world.recorder.sent.clear()

    upload_batch(world.context(), world.row(number))

    assert len(calls) > skip
    assert len(world.recorder.chunks) == 4
    assert world.row(number).state is BatchState.VERIFIED
    assert world.set_states(number) == [DataSetState.VERIFIED]
    assert len(world.visible(world.row(number).user_id)) == 20
