"""The assets: what has landed in staging, and what became visible in Tidepool.

Their schemes begin with ``x-``: for any other Airflow asks every provider's code, boto3 among it, whether it
knows better how to write the address, each time a DAG file is parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from tidepool_airflow import settings
from tidepool_ingest.errors import IngestError
from tidepool_ingest.options import LOOK_BACK_DAYS

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.staging.batches import Arrivals


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
    from tidepool_airflow.settings import staging_root
    from tidepool_ingest.staging.batches import Arrivals

    return Arrivals(staging_root(), seen)


def _look(arrivals: Arrivals) -> int:
    import pendulum

    from tidepool_ingest.window import Window

    window = Window.recent(pendulum.now("UTC").date(), LOOK_BACK_DAYS)
    return arrivals.look(window.first_day, window.last_day)


STAGED = Asset(
    name="tidepool_staged",
    uri="x-tidepool-staging://manifests",
    watchers=[AssetWatcher(name="manifests", trigger=ManifestTrigger(settings.watch_seconds()))],
)
"""Manifests in staging. The triggerer looks out for new ones while a DAG that goes by it is not paused."""

UPLOADS = Asset(name="tidepool_uploads", uri="x-tidepool://uploads")
"""What to give as ``schedule`` of a DAG that runs after each run in which something became visible."""

UPLOADS_OF_A_RUN = AssetAlias(name="tidepool_uploads_of_a_run")
"""The outlet of the report task: an alias, because a dry run or one without new data is no event."""


def tell(context: Context, summary: dict[str, Any]) -> None:
    """Let others know of a run's uploads, if there are any.

    :param context: the report task's context.
    :param summary: the run's numbers; they travel with the event.
    """
    if summary["visible_rows"]:
        counts = {name: summary[name] for name in ("batches", "accepted", "quarantined", "visible_rows")}
        context["outlet_events"][UPLOADS_OF_A_RUN].add(UPLOADS, extra=counts)
