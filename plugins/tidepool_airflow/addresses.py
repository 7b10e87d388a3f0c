"""Where the uploads page lies, for links from tasks and for Airflow's navigation."""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow.sdk import conf

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
