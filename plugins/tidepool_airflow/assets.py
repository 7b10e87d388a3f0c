"""The assets: manifests that land in staging, and uploads that become visible in Tidepool.

Their schemes begin with ``x-``: for any other, Airflow asks every provider's code, boto3's among it, how to
normalize the address, each time a DAG file is parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetWatcher
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from tidepool_airflow import settings
from tidepool_ingest.errors import IngestError
from tidepool_ingest.options import LOOK_BACK_DAYS
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.staging.batches import Arrivals

SEEN_KEY = "seen"
"""Key in the asset's own store of what was seen, so that a restarted triggerer starts no run for it again."""


class ManifestTrigger(BaseEventTrigger):
    """Fires when manifests land in the day folders that a run without explicit days takes.

    It lists those folders and opens nothing. Its events hold numbers only.

    :param seconds: pause between two checks.
    :param staging_root: where the day folders lie, if not where the deployment's own do.
    """

    def __init__(self, seconds: float, staging_root: str | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds
        self.staging_root = staging_root

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer recreates it from."""
        own = {} if self.staging_root is None else {"staging_root": self.staging_root}
        return f"{type(self).__module__}.{type(self).__name__}", {"seconds": self.seconds, **own}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check staging, fire, and save what was seen, for as long as the triggerer wants."""
        from asgiref.sync import sync_to_async

        look = sync_to_async(_look, thread_sensitive=False)
        seen = await self.asset_state_store.aget(SEEN_KEY) if self.asset_state_store else None
        arrivals: Arrivals | None = None
        saved: dict[Any, Any] = {}
        while True:
            arrived = 0
            try:
                if arrivals is None:
                    listing = sync_to_async(_arrivals, thread_sensitive=False)
                    arrivals = await listing(seen, self.staging_root)
                    saved = dict(arrivals.seen)
                arrived = await look(arrivals)
            except IngestError as error:
                # The next check may succeed; a watcher that ends is not restarted.
                self.log.warning("Staging cannot be listed: %s", error)
            if arrived:
                self.log.info("%s landed in staging.", counted(arrived, "manifest"))
                yield TriggerEvent({"manifests": arrived})  # type: ignore[no-untyped-call]
            if self.asset_state_store and arrivals is not None and arrivals.seen != saved:
                await self.asset_state_store.aset(SEEN_KEY, {**arrivals.seen})
                saved = dict(arrivals.seen)
            await asyncio.sleep(self.seconds)


def _arrivals(seen: Any, staging_root: str | None) -> Arrivals:
    from tidepool_ingest.staging.batches import Arrivals

    return Arrivals(settings.staging_root(staging_root), seen)


def _look(arrivals: Arrivals) -> int:
    import pendulum

    from tidepool_ingest.window import Window

    window = Window.recent(pendulum.now("UTC").date(), LOOK_BACK_DAYS)
    return arrivals.look(window.first_day, window.last_day)


STAGED = Asset(
    name="tidepool_staged",
    uri="x-tidepool-staging://manifests",
    watchers=[AssetWatcher(name="manifests", trigger=ManifestTrigger(settings.deployment().watch_seconds))],
)
"""Manifests in staging. The triggerer watches for new ones while a DAG scheduled by them is not paused."""


def staged_in(staging_root: str, name: str) -> Asset:
    """Return the asset of the manifests in another staging root.

    :param staging_root: a folder or an fsspec URL.
    :param name: of the asset, which no other one has.
    """
    trigger = ManifestTrigger(settings.deployment().watch_seconds, staging_root)
    return Asset(
        name=name,
        uri=f"x-tidepool-staging://{name}",
        watchers=[AssetWatcher(name="manifests", trigger=trigger)],
    )


UPLOADS = Asset(name="tidepool_uploads", uri="x-tidepool://uploads")
"""The ``schedule`` for a DAG that should run after each run that made something visible.

It is an outlet of the report task itself, not of an alias: Airflow stores what is behind an alias when the
first task that names it has succeeded, and fails one of two that succeed at once.
"""


def announce_uploads(context: Context, summary: dict[str, Any], *, dry_run: bool) -> None:
    """Create an event for a run's uploads once its report succeeds; none if nothing became visible.

    :param context: the report task's context.
    :param summary: the run's numbers; some of them travel with the event.
    """
    if summary["visible_rows"] and not dry_run:
        counts = {name: summary[name] for name in ("batches", "accepted", "quarantined", "visible_rows")}
        context["outlet_events"][UPLOADS].extra.update(counts)
    else:
        # Airflow creates one for each outlet that the task has when it ends.
        task = context["ti"].task
        task.outlets = [outlet for outlet in task.outlets if outlet != UPLOADS]
