"""A local Airflow for the tests: one home for the session, set up before Airflow is imported."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from dev.home import PROJECT, LocalHome
from dev.simulator import simulator_connection

from tests.factories import TODAY
from tests.world import World, a_world
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_simulator.sample import SAMPLE_USERS

# Airflow reads its environment when it is imported, which collecting a test module may do already.
HOME = LocalHome(Path(tempfile.mkdtemp(prefix="tidepool-airflow-tests-")))
os.environ |= {**HOME.environment(), "TIDEPOOL_RETRIES": "0"}

DAG_ID = "tidepool_normal_upload"
CONTINUOUS_DAG_ID = "tidepool_continuous_upload"


_sleep = time.sleep


def _sleep_unless_idle(seconds: float) -> None:
    """Sleep, but not between two rounds of `DAG.test`, which waits for nothing outside this process."""
    if sys._getframe(1).f_globals["__name__"] != "airflow.sdk.definitions.dag":
        _sleep(seconds)


@pytest.fixture(scope="session")
def airflow_home() -> LocalHome:
    """The session's Airflow, its database created."""
    _create_database()
    return HOME


@cache
def _create_database() -> None:
    """Create Airflow's database, once for all folders whose tests use it."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(scope="session")
def api_server(airflow_home: LocalHome) -> Any:
    """Airflow's whole API server, with the DAGs that it can trigger."""
    from airflow.api_fastapi.app import create_app
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(DagBag(str(PROJECT / "dags")), "dags-folder", None)
    return create_app(apps="core")


@dataclass
class Run:
    """The result of one DAG run."""

    state: str
    tasks: dict[tuple[str, int], str]
    xcoms: dict[tuple[str, int, str], Any]


class AirflowWorld(World):
    """A world whose steps are done by Airflow, which finds all of it in its environment."""

    day = TODAY

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.user, *_others = [self.add_user(user_id) for user_id in SAMPLE_USERS]

    @property
    def connections(self) -> dict[str, dict[str, object]]:
        """The connections that the DAGs go by, as Airflow reads them."""
        return {
            "tidepool_default": dict(simulator_connection(self.simulator.base_url)),
            "tidepool_ledger": {"conn_type": "sqlite", "host": self.ledger.database.engine.url.database},
        }

    def run_dag(
        self,
        conf: dict[str, Any] | None = None,
        *,
        logical_date: datetime | None = None,
        run_type: str = "manual",
        interval: tuple[datetime, datetime] | None = None,
        dag_id: str = DAG_ID,
        run_id: str | None = None,
        folder: Path = PROJECT / "dags",
    ) -> Run:
        """Run a DAG once in this process, each task as Airflow runs it."""
        import airflow.dag_processing.dagbag
        import airflow.models.dagrun
        from airflow.dag_processing.dagbag import DagBag
        from airflow.models.dagrun import DagRun
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunType
        from sqlalchemy import delete

        create = airflow.models.dagrun.get_or_create_dagrun

        def created(**given: Any) -> Any:
            if run_id is not None:
                # One that the API server has queued: there is no scheduler here to run it.
                given["run_id"] = run_id
                queued = delete(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
                given["session"].execute(queued)
            run = create(**given)
            if run_type != "manual":
                # `DAG.test` only makes manual runs; a scheduler makes the other types like this.
                run.run_type = DagRunType(run_type)
                run.data_interval_start, run.data_interval_end = interval or (None, None)
                given["session"].commit()
            return run

        sync = airflow.dag_processing.dagbag.sync_bag_to_db

        def synced(bag: DagBag, *given: Any) -> None:
            # `DAG.test` serializes all DAGs of the folder before each run, which takes longer than it does.
            bag.dags = {dag_id: bag.dags.get(dag_id, dag)}
            sync(bag, *given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(airflow.models.dagrun, "get_or_create_dagrun", created)
            patch.setattr(time, "sleep", _sleep_unless_idle)
            patch.setattr(airflow.dag_processing.dagbag, "sync_bag_to_db", synced)
            dag = DagBag(str(folder / f"{dag_id}.py")).dags[dag_id]
            run = dag.test(logical_date=logical_date, run_conf=conf)
        with create_session() as session:
            tasks = {
                (instance.task_id, instance.map_index): str(instance.state)
                for instance in run.get_task_instances(session=session)
            }
            found = session.query(XComModel).filter(
                XComModel.dag_id == dag_id, XComModel.run_id == run.run_id
            )
            xcoms = {
                (entry.task_id, entry.map_index, entry.key): XComModel.deserialize_value(entry)
                for entry in found
            }
        return Run(str(run.state), tasks, xcoms)


@pytest.fixture
def world(
    airflow_home: LocalHome, tmp_path: Path, empty_ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AirflowWorld]:
    """A world of its own for one test, with an Airflow in it."""
    # A request in doubt keeps nobody waiting here for as long as a real gateway would.
    monkeypatch.setattr(UploadContext, "default_timeouts", Timeouts(doubt=0.05, pause=0.01))
    with a_world(tmp_path, empty_ledger, AirflowWorld) as made:
        for name, connection in made.connections.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
        monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(made.staging))
        yield made
