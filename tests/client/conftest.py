from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tidepool_ingest.client import BackOff, FixedToken, TidepoolClient

from .wire import Wire


@pytest.fixture
def wire() -> Iterator[Wire]:
    server = Wire()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    """The pauses that were asked for instead of waited."""
    return []


@pytest.fixture
def backoff(pauses: list[float]) -> BackOff:
    return BackOff(sleep=pauses.append)


@pytest.fixture
def talk(wire: Wire, backoff: BackOff) -> Iterator[Callable[..., TidepoolClient]]:
    """Make a client of the wire; with a fixed token unless told otherwise."""
    made: list[TidepoolClient] = []

    def make(tokens: Any = None, **more: Any) -> TidepoolClient:
        client = TidepoolClient(wire.url, tokens or FixedToken("fixed"), **{"backoff": backoff, **more})
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()
