"""Carry out what people request on the uploads page: see :func:`tidepool_airflow.dag_factory.action_dag`."""

from __future__ import annotations

from tidepool_airflow import action_dag

dag = action_dag()
