"""Tables whose rows have names: a later export replaces what it changes, and so does a corrected zone."""

from __future__ import annotations

from typing import Any

from tests.formats.tables import mapping
from tests.world import FeedWorld

NAMED = mapping(id=["n"], time={"column": "t", "format": "iso"})


def export(
    world: FeedWorld, rows: list[str], batch: str, zone: str = "Europe/Berlin", **manifest: Any
) -> None:
    file: dict[str, Any] = {"format": "table", "timezone": zone, "table": NAMED}
    content = "\n".join(["n,t,v", *rows]).encode()
    world.feed([], batch, content=content, name="meter.csv", file=file, **manifest)


ROWS = [f"{number},2026-03-05 {10 + number}:00:00,{100 + number}" for number in range(5)]


def test_overlapping_exports_and_changed_values(world: FeedWorld) -> None:
    export(world, ROWS[:4], "b-1")
    export(world, [ROWS[2], ROWS[3].replace(",103", ",203"), ROWS[4]], "b-2")

    times = [f"2026-03-05T{hour:02}:00:00Z" for hour in range(9, 14)]
    shown = {time: round(value * 18.01559) for time, value in world.values().items()}
    assert shown == dict(zip(times, [100, 101, 102, 203, 104], strict=True))
    assert world.origin_ids() == [f"cbg:{number}" for number in range(5)]


def test_a_corrected_zone_replaces_what_was_there(world: FeedWorld) -> None:
    export(world, ROWS, "b-1", "America/New_York")
    export(world, ROWS, "b-2", meantAs=["zone-differs"])

    assert sorted(world.values()) == [f"2026-03-05T{hour:02}:00:00Z" for hour in range(9, 14)]
