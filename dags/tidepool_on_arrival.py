"""Start an upload when a manifest lands: see :func:`tidepool_airflow.dag_factory.on_arrival_dag`."""

from __future__ import annotations

from tidepool_airflow import on_arrival_dag

dag = on_arrival_dag()
