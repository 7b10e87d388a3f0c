"""Move staged diabetes device data into the Tidepool Platform: the library, free of Airflow."""

__version__ = "0.1.0"
