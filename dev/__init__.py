"""Running the project on one machine with nothing installed around it: the demo, and Airflow with its UI."""
