"""The Airflow connection to the simulated Tidepool."""

from __future__ import annotations

from typing import Any

from tidepool_ingest.simulator.accounts import CLIENT_ID, CLIENT_SECRET


def simulator_connection(base_url: str) -> dict[str, object]:
    """Return the connection ``tidepool_default`` for a simulator.

    :param base_url: where it listens.
    """
    extra: dict[str, Any] = {
        "auth_mode": "client_credentials",
        "client_name": "org.example.tidepool-airflow",
        "client_version": "1.0.0",
    }
    return {
        "conn_type": "tidepool",
        "host": base_url,
        "login": CLIENT_ID,
        "password": CLIENT_SECRET,
        "extra": extra,
    }
