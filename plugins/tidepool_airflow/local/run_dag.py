"""``python -m tidepool_airflow.local.run_dag DAG_ID``: run a DAG once, each task as Airflow runs it."""

from __future__ import annotations

import sys

from airflow.dag_processing.dagbag import DagBag

from tidepool_airflow.local.home import PROJECT


def main(dag_id: str) -> int:
    """Run a DAG without a logical date, as its trigger button does; return 0 if the run succeeded."""
    bag = DagBag(str(PROJECT / "dags"))
    for path, error in bag.import_errors.items():
        print(f"{path}: {error}", file=sys.stderr)
    if bag.import_errors:
        return 2
    run = bag.dags[dag_id].test(logical_date=None)
    return 0 if str(run.state) == "success" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
