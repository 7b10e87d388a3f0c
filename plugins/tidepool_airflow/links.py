"""Links on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class TidepoolDataSetLink(BaseOperatorLink):
    """The data set at Tidepool's API, for somebody who is logged in there."""

    name = "Tidepool data set"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty for a task that opened none."""
        return getattr(operator, "data_set_url", None) or ""
