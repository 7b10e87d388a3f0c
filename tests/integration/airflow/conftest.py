"""A local Airflow for whole runs, and the world that a DAG finds."""

from __future__ import annotations

from tests.airflow.world import airflow_home, api_server, world

__all__ = ["airflow_home", "api_server", "world"]
