"""What the tasks report to Airflow's metrics and to OpenLineage: numbers, never whose they are.

Switch the metrics (StatsD, OpenTelemetry) on in Airflow's section ``[metrics]``; without that they cost
nothing. The lineage needs Airflow's OpenLineage provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.sdk.observability import stats

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk.definitions.context import Context

    from tidepool_ingest.prepare.summary import PrepareSummary
    from tidepool_ingest.upload.context import UploadSummary

STAGING = "tidepool-staging"
"""Namespace of the staged batches. They are named by their labels: a folder's path holds the user id."""

# ---------------------------------------------------------------- metrics


def started(context: Context) -> None:
    """Count a task that is retried."""
    if context["ti"].try_number > 1:
        stats.incr("tidepool.retries", tags=tags_of(context))


def prepared(context: Context, summary: PrepareSummary) -> None:
    """Count the records of a prepared batch."""
    tags = tags_of(context)
    stats.incr("tidepool.records.accepted", summary.accepted, tags=tags)
    stats.incr("tidepool.records.quarantined", summary.quarantined, tags=tags)
    stats.incr("tidepool.records.identical", summary.identical, tags=tags)


def uploaded(context: Context, summary: UploadSummary, *, seconds: float) -> None:
    """Count what it took to upload and verify a batch; one that was verified before took nothing.

    :param context: the task's context.
    :param summary: the upload's numbers.
    :param seconds: how long it took.
    """
    tags = tags_of(context)
    stats.incr("tidepool.chunks.sent", summary.chunks_sent, tags=tags)
    stats.incr("tidepool.chunks.resumed", summary.chunks_resumed, tags=tags)
    stats.incr("tidepool.repairs", summary.repairs, tags=tags)
    if summary.chunks_sent:
        stats.incr("tidepool.data_sets.verified", tags=tags)
        stats.incr("tidepool.rows.visible", summary.visible_rows, tags=tags)
        stats.incr("tidepool.bytes", summary.size, tags=tags)
        stats.timing("tidepool.upload.duration", seconds * 1000, tags=tags)


def tags_of(context: Context) -> dict[str, str]:
    """Return the tags of a task's metrics."""
    return {"dag_id": context["ti"].dag_id}


# ---------------------------------------------------------------- lineage


def of_uploads(uploads: Sequence[tuple[str, str, int]]) -> OperatorLineage[Any, Any]:
    """Return batches as the inputs of a task, and their data sets as its outputs.

    :param uploads: of each batch its label (day, device model and short hash), the API's URL of its data set,
        and how many rows of it are visible.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[Dataset(namespace=STAGING, name=label) for label, _url, _rows in uploads],
        outputs=[_data_set(url, rows) for _label, url, rows in uploads],
    )


def _data_set(address: str, rows: int) -> OutputDataset:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.common.compat.openlineage.facet import (
        OutputStatisticsOutputDatasetFacet as Rows,
    )

    url = urlsplit(address)
    return OutputDataset(
        namespace=f"tidepool://{url.netloc}",
        name=url.path.removeprefix("/v1/"),
        outputFacets={"outputStatistics": Rows(rowCount=rows)},
    )
