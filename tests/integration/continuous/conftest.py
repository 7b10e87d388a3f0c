"""The world, with feeds in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import FeedWorld, a_world


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path) -> Iterator[FeedWorld]:
    with a_world(tmp_path, empty_ledger, FeedWorld) as made:
        yield made
