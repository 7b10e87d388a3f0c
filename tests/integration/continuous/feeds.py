"""A small world with feeds: batches of one program for one user, one after the other."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from tests.world import DAY, DEVICE, Record, World, bolus, cbg
from tidepool_ingest.upload import upload_to_feed
from tidepool_simulator.accounts import CLIENT_ID

CLIENT = "org.example.ingest.continuous"
"""What the world's feeds are called unless a manifest says otherwise."""

ORIGIN = "org.tidepool.deduplicator.dataset.delete.origin"
OLDER = "org.tidepool.deduplicator.dataset.delete.origin.older"
DROP_HASH = "org.tidepool.deduplicator.dataset.drop.hash"
NONE = "org.tidepool.deduplicator.none"

__all__ = ["CLIENT_ID", "DAY", "DEVICE", "bolus", "cbg"]


class FeedWorld(World):
    """The world of the steps, whose batches are for continuous data sets."""

    data_set_type = "continuous"
    uploader = staticmethod(upload_to_feed)

    def stage(
        self,
        records: Sequence[Record | bytes] = (),
        batch: str = "b-0001",
        *,
        data_set: Record | None = None,
        **more: Any,
    ) -> Path:
        folder = super().stage(
            records, batch, data_set={"dataSetType": "continuous"} | (data_set or {}), **more
        )
        if not records and {"deletes", "retracts"} & more.keys():
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps(manifest | {"files": []}))
        return folder

    def feed(self, records: Sequence[Record | bytes], batch: str, **more: Any) -> int:
        """Stage a batch and bring it into the feed's data set; return its number."""
        number = self.ready(records, batch=batch, **more)
        self.upload(number)
        return number

    # ---------------------------------------------------------------- what became of it

    def data_sets(self, user: str = "", *, deleted: bool = False) -> list[str]:
        """Return the ids of the user's continuous data sets, as Tidepool lists them."""
        listed = self.client.data_sets(user or self.user, include_deleted=deleted)
        return [one.data_set_id for one in listed if one.data_set_type == "continuous"]

    def values(self, name: str = "value", user: str = "") -> dict[str, Any]:
        """Return a field of what is visible by time; fail if a moment is shown more than once."""
        shown = self.visible(user)
        times = Counter(row["time"] for row in shown)
        assert set(times.values()) <= {1}, times
        return {row["time"]: row.get(name) for row in shown}

    def origin_ids(self, user: str = "") -> list[str]:
        return sorted(row["origin"]["id"] for row in self.visible(user))


def later(days: int) -> date:
    return date.fromordinal(DAY.toordinal() + days)
