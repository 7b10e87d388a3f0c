"""The assets: what has landed in staging, and what became visible in Tidepool.

Their schemes begin with ``x-``: for any other Airflow asks every provider's code, boto3 among it, whether it
knows better how to write the address, each time a DAG file is parsed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, AssetWatcher

from tidepool_airflow import settings
from tidepool_airflow.triggers import ManifestTrigger

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

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
