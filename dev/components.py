"""Airflow with all its components on this machine.

Airflow's own ``standalone`` leaves its children behind when it is stopped. Here each component is a process
of ours, and everything that it started has ended before we do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from dev.home import LocalRunError
from dev.processes import LocalProcess, end, uninterrupted

API_SERVER = "api-server"
COMPONENTS: Mapping[str, tuple[str, ...]] = {
    API_SERVER: (),
    # Both would serve their logs to the whole network, although the API server reads the same files.
    "scheduler": ("--skip-serve-logs",),
    "triggerer": ("--skip-serve-logs",),
    "dag-processor": (),
}
"""The components of a running Airflow, with the arguments of each."""

PASSWORDS_FILE = "passwords.json"

MIGRATE_SECONDS = 300.0
START_SECONDS = 180.0
CALL_SECONDS = 30.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Account:
    """Somebody who may sign in.

    :param role: ``admin``, ``op``, ``user`` or ``viewer``, as Airflow's simple auth manager knows them.
    """

    name: str
    role: str
    password: str


class LocalAirflow:
    """A running Airflow: its components as processes, their output in log files.

    It runs only what somebody triggers, unless ``by_itself`` is set. Whoever can reach the port is its admin
    unless there are accounts, so it listens on loopback only.

    :param environment: see :meth:`~dev.home.LocalHome.environment`; Airflow settings in it override the
        defaults here.
    :param logs: folder for the components' output.
    :param port: port of the web UI and the API.
    :param accounts: who may sign in, an admin first; without any, nobody has to.
    :param by_itself: also run what is due by schedule or triggered by an asset.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        logs: Path,
        port: int,
        *,
        accounts: Sequence[Account] = (),
        by_itself: bool = False,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.logs = logs
        self._accounts = accounts
        self.settings = {
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(not accounts),
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(by_itself),
            **environment,
        }
        if accounts:
            named = ",".join(f"{account.name}:{account.role}" for account in accounts)
            self.settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"] = named
            self.settings["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] = str(logs / PASSWORDS_FILE)
        self._environment = {**os.environ, **self.settings}
        self.components: dict[str, LocalProcess] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run all components for the length of a ``with`` block, which starts when they are all healthy.

        :raises LocalRunError: naming the component that does not start, and its log.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        if self._accounts:
            passwords = self.logs / PASSWORDS_FILE
            passwords.touch(mode=0o600)
            passwords.write_text(json.dumps({account.name: account.password for account in self._accounts}))
        self._migrate()
        try:
            for component in COMPONENTS:
                self._start(component)
            self._wait_for("healthy", self._is_healthy)
            yield
        finally:
            # The API server goes last: a task that is ending still reports to it.
            end([process for name, process in self.components.items() if name != API_SERVER])
            end([process for name, process in self.components.items() if name == API_SERVER])

    def restart(self, component: str) -> None:
        """End a component and start it again; return when all are healthy.

        :param component: its name in :data:`COMPONENTS`.
        :raises LocalRunError: naming the component that does not start, and its log.
        """
        end([self.components[component]])
        self._start(component)
        self._wait_for("healthy", self._is_healthy)

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run, as soon as Airflow has read its file.

        :raises LocalRunError: if it does not appear.
        """

        def unpaused() -> bool:
            path = f"/api/v2/dags/{dag_id}?update_mask=is_paused"
            return self.request("PATCH", path, {"is_paused": False}).ok

        self._wait_for(f"aware of the DAG {dag_id}", unpaused)

    def paused(self, dag_ids: Collection[str]) -> dict[str, bool]:
        """Return which DAGs are paused, once Airflow has read the files of all of them.

        :param dag_ids: the DAGs.
        :raises LocalRunError: if one of them does not appear.
        """
        found: dict[str, bool] = {}

        def there() -> bool:
            response = self.request("GET", "/api/v2/dags")
            if response.ok:
                found.update((dag["dag_id"], dag["is_paused"]) for dag in response.json()["dags"])
            return found.keys() >= set(dag_ids)

        self._wait_for("aware of every DAG", there)
        return {dag_id: found[dag_id] for dag_id in sorted(dag_ids)}

    def request(self, method: str, path: str, body: object = None) -> requests.Response:
        """Send a request to Airflow's REST API and return the response, whatever its status."""
        return requests.request(
            method,
            self.url + path,
            json=body,
            timeout=CALL_SECONDS,
            headers={"Authorization": f"Bearer {self._token}"},
        )

    def check(self) -> None:
        """Check that all components are running.

        :raises LocalRunError: naming one that has ended by itself, and its log.
        """
        for component, process in self.components.items():
            if process.has_ended:
                raise LocalRunError(
                    f"Airflow's {component} has ended.",
                    remedy=f"{self._log(component)} says why.",
                    code="component-ended",
                )

    @cached_property
    def _token(self) -> str:
        url = f"{self.url}/auth/token"
        if self._accounts:
            body = {"username": self._accounts[0].name, "password": self._accounts[0].password}
            response = requests.post(url, json=body, timeout=CALL_SECONDS)
        else:
            response = requests.get(url, timeout=CALL_SECONDS)
        response.raise_for_status()
        token: str = response.json()["access_token"]
        return token

    def _start(self, component: str) -> None:
        self.components[component] = LocalProcess(
            airflow_command(component, *COMPONENTS[component]),
            environment=self._environment,
            log=self._log(component),
        )

    def _migrate(self) -> None:
        log = self._log("db")
        # Never interrupted: SQLite cannot recover from a migration that stopped halfway.
        with log.open("ab") as output, uninterrupted():
            ended = subprocess.run(
                airflow_command("db", "migrate"),
                check=False,
                env=self._environment,
                stdout=output,
                stderr=output,
                timeout=MIGRATE_SECONDS,
                start_new_session=True,
            )
        if ended.returncode:
            raise LocalRunError(
                "Airflow's database cannot be set up.", remedy=f"{log} says why.", code="migration"
            )

    def _wait_for(self, what: str, is_so: Callable[[], bool]) -> None:
        give_up = time.monotonic() + START_SECONDS
        while not is_so():
            self.check()
            if time.monotonic() > give_up:
                raise LocalRunError(
                    f"Airflow is not {what} after {START_SECONDS:.0f} s.",
                    remedy=f"The files in {self.logs} say why.",
                    code="not-ready",
                )
            time.sleep(POLL_SECONDS)

    def _is_healthy(self) -> bool:
        try:
            response = requests.get(f"{self.url}/api/v2/monitor/health", timeout=CALL_SECONDS)
        except requests.RequestException:
            return False
        found: dict[str, dict[str, Any]] = response.json() if response.ok else {}
        return len(found) >= len(COMPONENTS) and all(
            component["status"] == "healthy" for component in found.values()
        )

    def _log(self, component: str) -> Path:
        return self.logs / f"{component}.log"


def airflow_command(*arguments: str) -> tuple[str, ...]:
    """Return a command of Airflow's own command line, run by this Python."""
    return (sys.executable, "-m", "airflow", *arguments)
