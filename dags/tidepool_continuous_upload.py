"""Upload the staged batches of feeds: see :func:`tidepool_airflow.dag_factory.continuous_upload_dag`."""

from __future__ import annotations

from tidepool_airflow import continuous_upload_dag

dag = continuous_upload_dag()
