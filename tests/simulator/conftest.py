"""A simulator for all tests of a module, and small helpers to use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulator.api_user import ApiUser
from tidepool_simulator import Simulator


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_fault_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "simulator" in request.fixturenames:
        running: Simulator = request.getfixturevalue("simulator")
        running.faults.clear()
        assert running.settle(10)


@pytest.fixture
def owner(simulator: Simulator) -> ApiUser:
    return ApiUser(simulator)


@pytest.fixture
def uploader(simulator: Simulator) -> ApiUser:
    return ApiUser(simulator, "uploader")


@pytest.fixture
def stranger(simulator: Simulator) -> ApiUser:
    return ApiUser(simulator, "stranger")
