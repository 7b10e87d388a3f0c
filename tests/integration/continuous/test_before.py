"""A feed whose device had another zone or deviceId when records of the same days were sent."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import DROP_HASH
from tests.guards.clock_reader import LONDON, NEW_YORK, RENAMED, SERIAL, ClockReader, rows
from tests.world import FeedWorld
from tidepool_ingest.formats import FORMATS
from tidepool_ingest.guards import HeldError
from tidepool_ingest.ledger import BatchState


@pytest.fixture(autouse=True)
def _formats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ClockReader.name, ClockReader)


def file_of(zone: str, days: int = 2, **body: Any) -> dict[str, Any]:
    return {
        "content": rows("2026-03-01", days),
        "file": {"format": ClockReader.name, "timezone": zone},
        "data_set": {"deviceSerialNumber": SERIAL} | body,
    }


@pytest.mark.parametrize(
    ("code", "after"),
    [("zone-differs", file_of(LONDON, 3)), ("device-renamed", file_of(NEW_YORK, 3, **RENAMED))],
)
def test_it_is_held_before_anything_is_sent_and_replaces_once_it_is_meant(
    world: FeedWorld, code: str, after: dict[str, Any]
) -> None:
    world.feed([], "b-0001", **file_of(NEW_YORK))
    before = world.visible()
    requests = len(world.simulator.requests)

    with pytest.raises(HeldError, match="replace their records, by origin ids") as caught:
        world.ready([], batch="b-0002", **after)

    assert caught.value.code == code
    assert len(world.simulator.requests) == requests
    assert world.visible() == before
    world.feed([], "b-0003", **after, meantAs=[code])
    assert len(world.visible()) == 12
    assert len(set(world.origin_ids())) == 12


def test_an_earlier_batch_changes_nothing_of_a_later_one(world: FeedWorld) -> None:
    world.feed([], "b-0002", **file_of(NEW_YORK))
    before = sorted(row["time"] for row in world.visible())
    number = world.feed([], "b-0001", **file_of(LONDON))

    assert world.row(number).state is BatchState.VERIFIED
    assert sorted(row["time"] for row in world.visible()) == before


def test_what_drops_equal_records_would_show_other_times_twice(world: FeedWorld) -> None:
    dropping = {"deduplicator": {"name": DROP_HASH}}
    world.feed([], "b-0001", **file_of(NEW_YORK, **dropping))

    world.feed([], "b-0002", **file_of(NEW_YORK, 3, **dropping, **RENAMED))
    with pytest.raises(HeldError, match="show twice"):
        world.ready([], batch="b-0003", **file_of(LONDON, **dropping))


def test_another_program_is_another_feed(world: FeedWorld) -> None:
    world.feed([], "b-0001", **file_of(NEW_YORK))

    world.feed([], "b-0002", **file_of(LONDON, 3, client={"name": "org.example.other"}))
