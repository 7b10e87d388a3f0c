"""What runs in Airflow's triggerer: looking out for manifests that land in staging."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from tidepool_ingest.errors import IngestError
from tidepool_ingest.options import LOOK_BACK_DAYS

if TYPE_CHECKING:
    from tidepool_ingest.staging.arrivals import Arrivals

SEEN_KEY = "seen"
"""Key in the asset's own store: what was seen, so that a new triggerer does not start a run for it again."""


class ManifestTrigger(BaseEventTrigger):
    """Tell of manifests that land in the day folders which a run without explicit days takes.

    It lists those folders and opens nothing. What it tells are numbers.

    :param seconds: pause between two looks.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes it from."""
        return f"{type(self).__module__}.{type(self).__name__}", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, tell, and remember what was seen, for as long as the triggerer wants."""
        from asgiref.sync import sync_to_async

        look = sync_to_async(_look, thread_sensitive=False)
        seen = await self.asset_state_store.aget(SEEN_KEY) if self.asset_state_store else None
        arrivals = await sync_to_async(_arrivals, thread_sensitive=False)(seen)
        while True:
            before = dict(arrivals.seen)
            try:
                arrived = await look(arrivals)
            except IngestError as error:
                # The next look may succeed; a watcher that ends is not started again.
                self.log.warning("Staging cannot be looked into: %s", error)
                arrived = 0
            if arrived:
                self.log.info("%d manifests have landed in staging.", arrived)
                yield TriggerEvent({"manifests": arrived})  # type: ignore[no-untyped-call]
            if self.asset_state_store and arrivals.seen != before:
                await self.asset_state_store.aset(SEEN_KEY, {**arrivals.seen})
            await asyncio.sleep(self.seconds)


def _arrivals(seen: Any) -> Arrivals:
    from tidepool_airflow.staging import staging_root
    from tidepool_ingest.staging.arrivals import Arrivals

    return Arrivals(staging_root(), seen)


def _look(arrivals: Arrivals) -> int:
    import pendulum

    from tidepool_ingest.window import Window

    window = Window.recent(pendulum.now("UTC").date(), LOOK_BACK_DAYS)
    return arrivals.look(window.first_day, window.last_day)
