"""Complete, verify again and clean up: see :func:`tidepool_airflow.dag_factory.reconcile_dag`."""

from __future__ import annotations

from tidepool_airflow import reconcile_dag

dag = reconcile_dag()
