"""What OpenLineage is told of an upload, for deployments that have its provider; nobody else imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

STAGING = "tidepool-staging"
"""Namespace of the staged batches. They are named by their labels: a folder's path holds the user id."""


def of_upload(label: str, data_set_url: str, rows: int) -> OperatorLineage[Any, Any]:
    """Return a batch as the input of a task, and its data set as the output.

    :param label: day, device model and short hash of the batch.
    :param data_set_url: where the API shows the data set.
    :param rows: rows of it that are visible.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset, OutputDataset
    from airflow.providers.common.compat.openlineage.facet import OutputStatisticsOutputDatasetFacet as Rows
    from airflow.providers.openlineage.extractors import OperatorLineage

    url = urlsplit(data_set_url)
    made = OutputDataset(
        namespace=f"tidepool://{url.netloc}",
        name=url.path.removeprefix("/v1/"),
        outputFacets={"outputStatistics": Rows(rowCount=rows)},
    )
    return OperatorLineage(inputs=[Dataset(namespace=STAGING, name=label)], outputs=[made])
