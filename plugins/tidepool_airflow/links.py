"""Links on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class TidepoolUploadLink(BaseOperatorLink):
    """The task's batch on the uploads page; for a pack, the page."""

    name = "Upload"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty for a task without a batch."""
        from tidepool_airflow.addresses import uploads_url

        return _batch_link(operator) or (uploads_url() if getattr(operator, "batches", None) else "")


class TidepoolQuarantineLink(BaseOperatorLink):
    """What was refused of the task's batch, and why; from there the file, for whoever may open it."""

    name = "Quarantine"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty for a task without a batch."""
        return _batch_link(operator, "quarantine")


class TidepoolDataSetLink(BaseOperatorLink):
    """The data set at Tidepool's API, for somebody who is logged in there."""

    name = "Tidepool data set"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty for a task that opened none."""
        return getattr(operator, "data_set_url", None) or ""


def _batch_link(operator: BaseOperator, part: str = "") -> str:
    from tidepool_airflow.addresses import upload_url

    batch = str(getattr(operator, "batch", None) or "")
    return upload_url(int(batch), part) if batch.isdecimal() and int(batch) else ""


LINKS: tuple[type[BaseOperatorLink], ...] = (TidepoolUploadLink, TidepoolQuarantineLink, TidepoolDataSetLink)
"""Every link, for the plugin and the provider."""
