"""Airflow's face of the Tidepool ingestion library: hook, operators, retry policy, links."""
