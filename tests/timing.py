"""Time as tests want it: it passes when they say so, and late work is done when they let it go.

A busy machine stalls any process for a second now and then. What holds only while nothing is stalled is no
test of ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from sqlalchemy import Connection

from tidepool_ingest.client import auth, tokens
from tidepool_ingest.ledger import client_state
from tidepool_simulator import application, sessions
from tidepool_simulator.partial_writes import CutError, HeldSteps

PATIENCE_SECONDS = 120.0
"""How long to wait for what is certain to come; only a test that fails waits so long."""


class Clock:
    """Stands in for the modules ``time`` and ``datetime`` of a module under test, and stands still.

    Whoever sleeps moves it on, and goes on at once.
    """

    def __init__(self) -> None:
        self._passed = 0.0
        self._began = datetime.now(UTC)

    def monotonic(self) -> float:
        return 1_000.0 + self._passed

    def time(self) -> float:
        return self._began.timestamp() + self._passed

    def now(self, zone: tzinfo) -> datetime:
        return (self._began + timedelta(seconds=self._passed)).astimezone(zone)

    def of_database(self, _connection: Connection) -> datetime:
        return self.now(UTC)

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._passed += seconds

    def sleep(self, seconds: float) -> None:
        self.pass_by(seconds)


def clock_of_tokens(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which tokens end from now on, here and in simulators of this process."""
    clock = clock_of_simulated_tokens(monkeypatch)
    for module in (tokens, auth):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(client_state, "now_of", clock.of_database)
    return clock


def clock_of_simulated_tokens(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock by which a simulator of this process refuses tokens from now on."""
    clock = Clock()
    monkeypatch.setattr(sessions, "time", clock)
    return clock


class LateWork:
    """What the simulator does only after it has answered: held until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held = threading.Event()
        self._free = threading.Event()
        late = self

        class Held(HeldSteps):
            """Waits to be let go, and not for a time."""

            def __init__(self, complete: int, _seconds: float, stopping: threading.Event) -> None:
                super().__init__(complete, 0.0, stopping)
                self._before = complete
                self._ending = stopping

            def share(self) -> float:
                if self._before > 0:
                    self._before -= 1
                else:
                    late._wait(self._ending)
                return super().share()

        monkeypatch.setattr(application, "HeldSteps", Held)

    def is_held(self) -> bool:
        """Wait until some has done all that it does before it is held."""
        return self._held.wait(PATIENCE_SECONDS)

    def let_go(self) -> None:
        """Let it be done, and whatever comes after it."""
        self._free.set()

    def _wait(self, ending: threading.Event) -> None:
        self._held.set()
        while not self._free.wait(0.02):
            if ending.is_set():
                raise CutError


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that is certain to come."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < give_up, "it has not come"
        time.sleep(0.01)
