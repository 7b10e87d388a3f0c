"""Running the project on one machine with nothing else installed: the demo, and Airflow with its UI."""
