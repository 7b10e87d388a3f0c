"""An end of the process, played by an exception that nothing in the code under test handles."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.world import World


class Killed(BaseException):
    """The process ends here: nothing in the code under test may handle it."""


STEPS = ("open_data_set", "delete_data", "upload_data", "close_data_set", "delete_data_set", "read_data")
NOTES = (
    *("begin_opening", "mark_open", "mark_not_created", "mark_unreachable", "set_origin"),
    *("begin_chunk", "chunk_stored", "begin_close", "mark_closed", "mark_verified"),
    *("begin_delete", "mark_deleted", "retract"),
)
OF_BATCHES = (
    *("begin_upload", "mark_unfinished", "mark_verified", "mark_nothing_accepted"),
    *("hold", "mark_failed", "set_reason"),
)


class Killer:
    """Ends an upload before or after a call, counting every request and every note in the ledger."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self._at: int | None = None
        self._after = False
        self._lock = threading.Lock()
        for target, names in (
            (world.client, STEPS),
            (world.ledger.data_sets, NOTES),
            (world.ledger.batches, OF_BATCHES),
            (world.ledger.parts, ("set_all", "sum_up")),
        ):
            for name in names:
                monkeypatch.setattr(target, name, self._watched(name, getattr(target, name)))

    def strike(self, at: int, *, after: bool) -> None:
        self.calls.clear()
        self._at, self._after = at, after

    def stand_down(self) -> None:
        self._at = None

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            with self._lock:
                self.calls.append(name)
                struck = self._at == len(self.calls) - 1
            if struck and not self._after:
                raise Killed
            result = call(*args, **more)
            if struck:
                raise Killed
            return result

        return watched


CALLS = [
    "begin_upload",
    "begin_opening",
    "open_data_set",
    "mark_open",
    *["begin_chunk", "upload_data", "chunk_stored"] * 3,
    "begin_close",
    "close_data_set",
    "mark_closed",
    "read_data",
    "mark_verified",
    "mark_verified",
]
"""What an upload of three chunks does: requests and notes in their order."""

OPENED = (3, 4)
"""Those that are one transaction: a data set is open, and its first chunk is about to be sent."""

STORED = ((6, 7), (9, 10), (12,))
"""The same: a chunk is stored, and the next one is about to be sent. A kill within leaves nothing of it."""
