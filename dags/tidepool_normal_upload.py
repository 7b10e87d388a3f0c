"""Upload staged batches as normal data sets: see :func:`tidepool_airflow.dag_factory.normal_upload_dag`."""

from __future__ import annotations

from tidepool_airflow import normal_upload_dag

dag = normal_upload_dag()
