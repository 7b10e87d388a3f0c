"""Rows of a continuous data set that Tidepool shows late: they are waited for, and nothing is sent again."""

from __future__ import annotations

import pytest

from tests.factories import NONE, ORIGIN, cbg
from tests.timing import Clock
from tests.world import FeedWorld
from tidepool_ingest.upload import guarded_requests as waiting
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_simulator import Fault, reading_service


@pytest.mark.parametrize("deduplicator", [ORIGIN, NONE])
def test_what_is_shown_late_is_not_sent_again(
    world: FeedWorld, monkeypatch: pytest.MonkeyPatch, deduplicator: str
) -> None:
    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    monkeypatch.setattr(reading_service, "time", clock)
    usual = Timeouts()
    world.timed(visible_wait=usual.visible_wait, visible_poll=usual.visible_poll)
    world.simulator.faults.add(Fault.shown_late("post", 40.0, gradually=deduplicator == NONE))

    number = world.feed(
        [cbg(minute) for minute in range(20)], "b-0001", data_set={"deduplicator": {"name": deduplicator}}
    )

    assert len(world.recorder.chunks) == 1
    assert len(world.visible()) == 20
    assert world.sets(number)[-1].visible_rows == 20
