"""The world, with feeds in it."""

from __future__ import annotations

import pytest

from tests.world import FeedWorld


@pytest.fixture
def world(feed_world: FeedWorld) -> FeedWorld:
    return feed_world
