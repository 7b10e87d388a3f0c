"""The usual ids of the DAGs, the URLs of the project's pages, and the links on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

UPLOAD_DAG: Final = "tidepool_normal_upload"
"""Whoever may see its runs may see the uploads page; whoever may trigger it may act there.

Where DAGs have other ids, :mod:`tidepool_airflow.known_dags` finds them.
"""

ACTION_DAG: Final = "tidepool_action"
"""Carries out what somebody has requested on the uploads page."""

RECONCILE_DAG: Final = "tidepool_reconcile"
"""Completes unfinished uploads, verifies some again, and cleans up."""

DAG_OF_TYPE: Final = {"normal": UPLOAD_DAG, "continuous": "tidepool_continuous_upload"}
"""Which DAG usually uploads batches for which type of data set."""

BATCH_GROUP: Final = "batch"
"""The task group of the upload DAGs that uploads the batches or packs of a plan."""

PREFIX = "/tidepool/uploads"
"""Path of the uploads page's own application, below Airflow's."""

ROUTE = "tidepool-uploads"
"""Path of the page within Airflow's UI, below ``/plugin``."""


def airflow_url() -> str:
    """Return Airflow's URL as people's browsers know it, without a slash at its end."""
    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def page_path() -> str:
    """Return the path of the page's own application, as a browser requests it."""
    return f"{urlsplit(airflow_url()).path}{PREFIX}/"


def uploads_url() -> str:
    """Return the URL of the page in Airflow's UI."""
    return f"{airflow_url()}/plugin/{ROUTE}"


def upload_url(batch: int, part: str = "") -> str:
    """Return the URL of one upload on the page in Airflow's UI.

    :param batch: the batch's number in the ledger.
    :param part: id of the section to show first.
    """
    # The UI hands the rest of its path on to the page.
    url = f"{uploads_url()}{page_path()}{batch}"
    return f"{url}#{part}" if part else url


class TidepoolUploadLink(BaseOperatorLink):
    """The task's batch on the uploads page; for a larger pack, the page."""

    name = "Upload"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty for a task without a batch."""
        return _batch_link(operator) or (uploads_url() if getattr(operator, "batches", None) else "")


class TidepoolQuarantineLink(BaseOperatorLink):
    """The rejected records of the task's batch by reason, and their file for those who may open it."""

    name = "Quarantine"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty for a task without a batch."""
        return _batch_link(operator, "quarantine")


class TidepoolDataSetLink(BaseOperatorLink):
    """The data set at Tidepool's API, for somebody who is signed in there."""

    name = "Tidepool data set"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty for a task that opened none."""
        return getattr(operator, "data_set_url", None) or ""


LINKS: tuple[type[BaseOperatorLink], ...] = (TidepoolUploadLink, TidepoolQuarantineLink, TidepoolDataSetLink)
"""Every link, for the plugin and the provider."""


def _batch_link(operator: BaseOperator, part: str = "") -> str:
    batch = str(getattr(operator, "batch", None) or "")
    return upload_url(int(batch), part) if batch.isdecimal() and int(batch) else ""
