"""Until when a request that changes something may still be begun.

Whoever sends one may hold a claim that ends. Between the look at the claim and the first byte on the wire
lies the token, for which a task may have to wait. Where that took too long, the request is not sent at all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_BEGIN_BY: Final[ContextVar[float]] = ContextVar("tidepool_begin_by", default=math.inf)


@contextmanager
def begun_within(seconds: float) -> Iterator[None]:
    """Let this thread's requests that change something be begun within so many seconds, or not at all."""
    token = _BEGIN_BY.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _BEGIN_BY.reset(token)


def is_too_late() -> bool:
    """Tell whether a request may not be begun any more."""
    return time.monotonic() > _BEGIN_BY.get()
