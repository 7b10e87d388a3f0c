"""Links on a task's page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from airflow.sdk import BaseOperatorLink, conf

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


PREFIX = "/tidepool/uploads"
"""Path of the page's own application, below Airflow's."""

ROUTE = "tidepool-uploads"
"""Path of the page within Airflow's UI, below ``/plugin``."""


def airflow_url() -> str:
    """Return Airflow's address as people's browsers know it, without a slash at its end."""
    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def page_path() -> str:
    """Return the path of the page's own application, as a browser asks for it."""
    return f"{urlsplit(airflow_url()).path}{PREFIX}/"


def uploads_url() -> str:
    """Return where Airflow's UI shows the page."""
    return f"{airflow_url()}/plugin/{ROUTE}"


def upload_url(batch: int, part: str = "") -> str:
    """Return where Airflow's UI shows one upload on the page.

    :param batch: the batch's number in the ledger.
    :param part: id of the part to show first.
    """
    # The UI hands the rest of its path on to the page.
    shown = f"{uploads_url()}{page_path()}{batch}"
    return f"{shown}#{part}" if part else shown


class TidepoolUploadLink(BaseOperatorLink):
    """The task's batch on the uploads page; for a pack, the page."""

    name = "Upload"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the address; empty for a task without a batch."""
        pass

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
    pass

    batch = str(getattr(operator, "batch", None) or "")
    return upload_url(int(batch), part) if batch.isdecimal() and int(batch) else ""


LINKS: tuple[type[BaseOperatorLink], ...] = (TidepoolUploadLink, TidepoolQuarantineLink, TidepoolDataSetLink)
"""Every link, for the plugin and the provider."""


UPLOAD_DAG: Final = "tidepool_normal_upload"
"""Who may see its runs sees the page; who may trigger it may act there."""

ACTION_DAG: Final = "tidepool_action"
"""Does what somebody has asked for on the page."""

DAG_OF_TYPE: Final = {"normal": UPLOAD_DAG, "continuous": "tidepool_continuous_upload"}
"""Which DAG uploads batches of a type of data set."""

BATCH_GROUP: Final = "batch"
"""The task group of the upload DAGs in which a plan's batches, or packs of them, are uploaded."""

RECONCILE_DAG: Final = "tidepool_reconcile"
"""Brings to an end what uploads have left unfinished."""
