"""The ledger behind an Airflow connection."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from tidepool_ingest.ledger import Ledger

DEFAULT_LEDGER_CONN_ID = "tidepool_ledger"


def open_ledger(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> Ledger:
    """Return the ledger that a connection names, its tables brought up to date.

    Without a connection ``tidepool_ledger`` the ledger is a SQLite file beside Airflow's own configuration,
    which is enough for one machine.

    :param conn_id: an Airflow connection to a PostgreSQL or SQLite database of the ledger's own.
    """
    ledger = Ledger(ledger_address(conn_id))
    ledger.migrate()
    return ledger


def ledger_address(conn_id: str = DEFAULT_LEDGER_CONN_ID) -> str:
    """Return the address of the ledger's database; see :func:`open_ledger`."""
    try:
        address = BaseHook.get_connection(conn_id).get_uri()
    except AirflowNotFoundException:
        if conn_id != DEFAULT_LEDGER_CONN_ID:
            raise
        address = f"sqlite:///{_embedded_file()}"
    return _as_sqlalchemy(address)


def _embedded_file() -> Path:
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    return home / "tidepool_ledger.db"


def _as_sqlalchemy(uri: str) -> str:
    """Turn a connection's URI into a database address: Airflow writes SQLite paths with their own slashes."""
    if not uri.startswith("sqlite:"):
        return uri
    path = unquote(uri.removeprefix("sqlite:")).lstrip("/")
    return f"sqlite:////{path}"
