"""Tell a team once a day what became of batches: see :func:`tidepool_airflow.dag_factory.digest_dag`."""

from __future__ import annotations

from tidepool_airflow import digest_dag

dag = digest_dag()
