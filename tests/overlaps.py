"""Batches of one device that lie over each other, and what Tidepool shows of them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.factories import DAY, bolus, cbg
from tests.world import World
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.window import Window

OLDER = DAY - timedelta(days=1)


BOTH = Window(OLDER, DAY)


def dose(amount: float, minute: int = 0) -> list[dict[str, Any]]:
    """A bolus: a corrected one has the same hash, so that the set closed last wins."""
    return [bolus(minute, amount)]


def amounts(world: World, **more: Any) -> list[float]:
    return sorted(datum["normal"] for datum in world.visible(**more))


def held(world: World, number: int) -> bool:
    row = world.row(number)
    return (row.state, row.reason) == (BatchState.HELD, "older-than-uploaded")


def verified(world: World, records: list[dict[str, Any]], day: date = DAY, **staged: Any) -> int:
    """Stage one batch, bring it to verified, and return its number."""
    world.stage(records, day=day, **staged)
    (number,) = world.run(Window(day, day)).uploaded
    return number


def ready(world: World, records: list[dict[str, Any]], day: date, batch: str, **more: Any) -> int:
    """Stage and prepare one batch of a day, and return its number."""
    world.stage(records, batch, day=day, **more)
    (number,) = [one for one in world.plan(Window(day, day)).batches if world.row(one).batch_id == batch]
    world.prepare(number)
    return number


def closes(world: World) -> list[str]:
    return [sent.path.rsplit("/", 1)[-1] for sent in world.recorder.sent if sent.method == "PUT"]


WRONG, RIGHT = [5.0, 6.0, 7.0], [5.5, 6.5, 7.5]


def values_of(numbers: list[float]) -> list[dict[str, Any]]:
    """Glucose: a changed value has another hash, so that closing the new set hides nothing."""
    return [cbg(minute, value) for minute, value in enumerate(numbers)]


def shown(world: World) -> list[float]:
    return sorted(datum["value"] for datum in world.visible())


def wrong_one(world: World, **staged: Any) -> int:
    """Upload the batch that turns out to be wrong, and return its number."""
    world.stage(values_of(WRONG), "wrong", **staged)
    (number,) = world.run().uploaded
    return number


def right_one(world: World, **staged: Any) -> int:
    """Stage and prepare the batch that corrects it, and return its number."""
    return world.ready(values_of(RIGHT), batch="right", replaces="wrong", **staged)
