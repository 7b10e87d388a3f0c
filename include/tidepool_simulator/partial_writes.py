"""The writes of one request, one after the other, and where a fault stops or holds them.

The Platform's database has no transactions across the writes of a request: one that is cut in the middle
leaves what was written. The store asks here before each write, so that a fault can stop a request between two
writes, in the middle of one (a bulk write is not atomic either), or hold it there and let it go on later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class CutError(Exception):
    """The request ends here; what it wrote so far stays."""


class Steps:
    """Count the writes of one request; this one lets them all pass."""

    def share(self) -> float:
        """Return how much of the next write is to be done, 0 to 1; after less than 1 comes :meth:`cut`.

        :raises CutError: if none of it is.
        """
        return 1.0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Apply these steps to what this thread does inside the block."""
        token = _CURRENT.set(self)
        try:
            yield
        finally:
            _CURRENT.reset(token)


class CutSteps(Steps):
    """Stop a request after some writes.

    :param complete: writes that are done completely.
    :param share: how much of the next one is done, 0 (nothing) to 1.
    """

    def __init__(self, complete: int, share: float) -> None:
        self._remaining = complete
        self._share = share

    def share(self) -> float:
        """Let the first writes pass, then a share of one."""
        if self._remaining > 0:
            self._remaining -= 1
            return 1.0
        if self._share <= 0:
            raise CutError
        return self._share


class HeldSteps(Steps):
    """Hold a request before one of its writes for a while, then let it go on.

    :param complete: writes that are done before.
    :param seconds: how long it is held.
    :param stopping: set when the simulator ends; what is held then is never done.
    """

    def __init__(self, complete: int, seconds: float, stopping: threading.Event) -> None:
        self._remaining = complete
        self._seconds = seconds
        self._stopping = stopping
        self._held = False

    def share(self) -> float:
        """Let the first writes pass, hold the next one, then let all pass."""
        if self._remaining > 0:
            self._remaining -= 1
        elif not self._held:
            self._held = True
            if self._stopping.wait(self._seconds):
                raise CutError
        return 1.0


_EVERYTHING = Steps()
_CURRENT: ContextVar[Steps] = ContextVar("simulator_steps", default=_EVERYTHING)


def next_share() -> float:
    """Return how much of the next write of the current request is to be done (see :meth:`Steps.share`)."""
    return _CURRENT.get().share()
