"""A running Airflow for the tests, seen from outside: over its REST API and in the ledger."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from dev.components import LocalAirflow
from dev.home import Databases, LocalHome
from dev.postgresql import postgresql

from tidepool_ingest.ledger import Ledger, Upload
from tidepool_simulator.sample.checker import CheckResult, check

DAG_ID = "tidepool_normal_upload"
RUN_SECONDS = 180


@contextmanager
def home_on_server() -> Iterator[tuple[LocalHome, Databases]]:
    """Make a home for an Airflow on PostgreSQL, for the length of a ``with`` block.

    It is in no folder of pytest's: run by root, PostgreSQL may not enter those.
    """
    with tempfile.TemporaryDirectory(prefix="tidepool-deployment-") as made, ExitStack() as stack:
        home = LocalHome(Path(made))
        yield home, stack.enter_context(postgresql(home.postgresql))


@dataclass
class Deployment:
    """A running Airflow and a Tidepool to practise on, both in processes of their own."""

    home: LocalHome
    airflow: LocalAirflow
    roles: dict[str, Any]
    port: int
    stack: ExitStack
    first_run: str = ""
    family: list[psutil.Process] = field(default_factory=list)

    def get(self, path: str, **query: object) -> Any:
        response = self.airflow.request("GET", f"/api/v2/dags/{DAG_ID}{path}{_query(query)}")
        assert response.ok, response.text
        return response.json()

    def post(self, path: str, body: object) -> Any:
        response = self.airflow.request("POST", f"/api/v2/dags/{DAG_ID}{path}", body)
        assert response.ok, response.text
        return response.json()

    def trigger(self) -> str:
        """Start a run as REST does without any date, and return its id when it has succeeded."""
        run_id: str = self.post("/dagRuns", {"logical_date": None})["dag_run_id"]
        self.wait_for(run_id)
        return run_id

    def wait_for(self, run_id: str, seconds: float = RUN_SECONDS) -> None:
        give_up = time.monotonic() + seconds
        while (state := self.get(f"/dagRuns/{run_id}")["state"]) in ("queued", "running"):
            self.airflow.check()
            assert time.monotonic() < give_up, self.states(run_id)
            time.sleep(0.5)
        assert state == "success", self.states(run_id)

    def task_instances(self, run_id: str, task_id: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/dagRuns/{run_id}/taskInstances", limit=100)[
            "task_instances"
        ]
        return [instance for instance in found if task_id in (None, instance["task_id"])]

    def states(self, run_id: str) -> list[tuple[str, int, str]]:
        return [
            (task_instance["task_id"], task_instance["map_index"], task_instance["state"])
            for task_instance in self.task_instances(run_id)
        ]

    def xcom(self, run_id: str, task_id: str, key: str, map_index: int = -1) -> Any:
        path = f"/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self.get(path, map_index=map_index)["value"]

    def log(self, instance: dict[str, Any]) -> str:
        """The log of a task's try, as the UI shows it."""
        path = f"/dagRuns/{instance['dag_run_id']}/taskInstances/{instance['task_id']}"
        content = self.get(f"{path}/logs/{instance['try_number']}", map_index=instance["map_index"])
        return json.dumps(content, ensure_ascii=False)

    def ledger(self) -> AbstractContextManager[Ledger]:
        return closing(Ledger(self.airflow.settings["TIDEPOOL_LEDGER"]))

    def uploads(self) -> list[Upload]:
        with self.ledger() as ledger:
            return ledger.uploads.last_changed()

    def check(self) -> CheckResult:
        """Ask the checker whether all is visible as it was staged."""
        return check(self.home.staging, self.home.simulator_store)

    def writes_at_tidepool(self) -> list[str]:
        """The requests so far that could change anything at Tidepool."""
        found = requests.get(f"{self.roles['base_url']}/simulator/requests", timeout=30).json()
        return [
            f"{request['method']} {request['route']}"
            for request in found
            if "data" in request["route"] and request["method"] != "GET"
        ]

    def stop(self) -> None:
        self.stack.close()


def _query(query: dict[str, object]) -> str:
    return "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""
