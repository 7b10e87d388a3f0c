"""What OpenLineage is told of an upload, for deployments that have its provider; nobody else imports it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.openlineage.extractors import OperatorLineage

STAGING = "tidepool-staging"
"""Namespace of the staged batches. They are named by their labels: a folder's path holds the user id."""


def of_uploads(uploads: Sequence[tuple[str, str, int]]) -> OperatorLineage[Any, Any]:
    """Return batches as the inputs of a task, and their data sets as its outputs.

    :param uploads: of each batch its label (day, device model and short hash), where the API shows its data
        set, and how many rows of it are visible.
    """
    from airflow.providers.common.compat.openlineage.facet import Dataset
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[Dataset(namespace=STAGING, name=label) for label, _url, _rows in uploads],
        outputs=[_data_set(url, rows) for _label, url, rows in uploads],
    )


def _data_set(address: str, rows: int) -> OutputDataset:
    from airflow.providers.common.compat.openlineage.facet import OutputDataset
    from airflow.providers.common.compat.openlineage.facet import OutputStatisticsOutputDatasetFacet as Rows

    url = urlsplit(address)
    return OutputDataset(
        namespace=f"tidepool://{url.netloc}",
        name=url.path.removeprefix("/v1/"),
        outputFacets={"outputStatistics": Rows(rowCount=rows)},
    )
