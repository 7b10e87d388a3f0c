"""The compose file's stack, set up by the manual's commands, seen through engine, API, ledger and checker."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from dev.compose_test.engine import Engine, wait_until
from dev.home import PROJECT, LocalRunError
from tidepool_simulator import Fault
from tidepool_simulator.sample import SAMPLE_USERS

NAME = "tidepool-compose-test"
"""Compose project of the stack."""

DAG_ID = "tidepool_normal_upload"
SIMULATOR = "http://127.0.0.1:8009"
STAGING = "/opt/tidepool/staging"

CALL_SECONDS = 30.0
RUN_SECONDS = 1500.0
"""How long a run may take: one that loses its worker waits for a heartbeat and a lease first."""
HEALTHY_SECONDS = 900.0

RECORDS = 1_600
CHUNK_RECORDS = 10
SLOW_POST_SECONDS = 0.5
"""How long each chunk takes, so that something can happen to an upload meanwhile."""
CHUNKS_SENT = 5
"""As many chunks are stored when it happens."""


def block_of_manual(start: str) -> str:
    """Return the deployment manual's one shell block that holds a text.

    :param start: the text.
    """
    manual = (PROJECT / "docs" / "deployment.md").read_text()
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", manual, flags=re.DOTALL | re.MULTILINE)
    found = [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks]
    (block,) = (each for each in found if start in each)
    return str(block)


class Stack:
    """The stack with a profile to practise, under a Compose project of its own.

    :param engine: where it runs.
    :param folder: what it is set up in: its settings and backups.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.settings_file = folder / ".local" / "practice.env"
        self.root = STAGING
        self.profile = "practice"
        shutil.copy(PROJECT / ".env.example", folder)
        practice = block_of_manual("mkdir -p .local").partition("alias ")[0]
        engine.shell(f"{block_of_manual('fresh_env()')}\n{practice}", folder)
        self.port = free_port()
        self.set("AIRFLOW_PORT", str(self.port))
        # Faults are the point of this: a minute saved at each of them.
        self.set("TIDEPOOL_RETRY_SECONDS", "10")

    @cached_property
    def settings(self) -> dict[str, str]:
        """The settings in force."""
        return dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", self.settings_file.read_text(), re.MULTILINE))

    def set(self, name: str, value: str) -> None:
        """Set a variable, for the next ``up``."""
        lines = self.settings_file.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(f"{name}=")]
        self.settings_file.write_text("\n".join([*kept, f"{name}={value}", ""]))
        vars(self).pop("settings", None)

    @property
    def _compose(self) -> list[str]:
        return [
            "compose", "--project-name", NAME, "--file", str(PROJECT / "docker-compose.yml"),
            "--env-file", str(self.settings_file), "--profile", self.profile,
        ]  # fmt: skip

    def compose(self, *arguments: str, given: str | None = None) -> str:
        """Run a Compose command and return what it printed."""
        return self.engine.docker(*self._compose, *arguments, given=given)

    def shell(self, script: str) -> str:
        """Run commands of the manual's on this stack, as whoever has the stack's folder as home.

        :param script: the commands; what follows ``docker compose`` or ``practice`` is for this stack.
        :return: what they printed.
        """
        words = shlex.join(self._compose)
        mine = (
            f'real=$HOME\npractice() {{ env HOME="$real" docker {words} "$@"; }}\n'
            f'docker() {{ shift; practice "$@"; }}\nHOME={shlex.quote(str(self.folder))}\n'
        )
        return self.engine.shell(mine + script, self.folder)

    def within(self, service: str, *command: str, given: str | None = None) -> str:
        """Run a command in a service's container and return what it printed."""
        return self.compose("exec", "-T", service, *command, given=given)

    def can(self, service: str, *command: str) -> bool:
        """Return whether a command succeeds in a service's container."""
        return self.engine.status(*self._compose, "exec", "-T", service, *command) == 0

    def in_the_way(self) -> list[str]:
        """Return what the manual's check finds in the way of a start.

        :raises LocalRunError: its exit status says something else than its lines.
        """
        options = ("--project-name", NAME, "--profile", self.profile)
        status, printed = self.engine.complaints("docker/check.sh", str(self.settings_file), *options)
        found = hindrances(printed)
        if (status == 0) != (not found):
            raise LocalRunError(
                f"docker/check.sh ended with {status}, and named {len(found)} things in the way. "
                f"The last line that it printed: {printed[-1] if printed else 'none'}",
                remedy="Mend what that line names, or look into the engine's log for all that it printed.",
                code="check",
            )
        return found

    def practise_on_s3(self) -> None:
        """Change, from nothing, to staging on S3 as the manual says."""
        self.down()
        self.profile = "practice-s3"
        self.shell(block_of_manual("TIDEPOOL_STAGING_ROOT=s3").partition("alias ")[0])
        vars(self).pop("settings", None)

    def up(self) -> None:
        """Start what is not running, and wait until all of it is healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", f"{HEALTHY_SECONDS:.0f}")

    def until_healthy(self) -> float:
        """Wait until every service with a health check is healthy; return how long that took, in seconds."""
        return wait_until(self._is_healthy, "every service is healthy", HEALTHY_SECONDS)

    def _is_healthy(self) -> bool:
        containers = map(json.loads, self.compose("ps", "--all", "--format", "json").splitlines())
        # What is there to do one thing has ended by itself.
        return all(
            each["Health"] == "healthy" or (each["State"] == "exited" and each["ExitCode"] == 0)
            for each in containers
        )

    # ------------------------------------------------------------------ Airflow

    def api(self, method: str, path: str, body: object = None) -> Any:
        """Send a request to Airflow's API and return what it answers.

        :raises LocalRunError: there is no answer, or an error.
        """
        response = self._send(method, path, body, {"Authorization": f"Bearer {self._token}"})
        return response.json() if "json" in response.headers["Content-Type"] else response.text

    @cached_property
    def _token(self) -> str:
        body = {"username": "admin", "password": self.settings["AIRFLOW_ADMIN_PASSWORD"]}
        token: str = self._send("POST", "/auth/token", body, {}).json()["access_token"]
        return token

    def _send(self, method: str, path: str, body: object, headers: dict[str, str]) -> requests.Response:
        address = f"http://127.0.0.1:{self.port}{path}"
        try:
            response = requests.request(method, address, json=body, timeout=CALL_SECONDS, headers=headers)
            response.raise_for_status()
        except requests.RequestException as error:
            what = type(error).__name__ if error.response is None else f"status {error.response.status_code}"
            raise LocalRunError(
                f"Airflow's API answers {method} {path.partition('?')[0]} with {what}.",
                remedy="The API server's log says why.",
                code="api",
            ) from None
        return response

    def trigger(self) -> str:
        """Trigger the upload without dates, as its button does, and return the run's id."""
        body = {"logical_date": None, "conf": {"chunk_records": CHUNK_RECORDS}}
        run: str = self.api("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)["dag_run_id"]
        return run

    def until_ended(self, run: str) -> None:
        """Wait until a run has succeeded.

        :raises LocalRunError: it has failed, or takes too long.
        """
        state = ""

        def ended() -> bool:
            nonlocal state
            try:
                state = self.api("GET", f"/api/v2/dags/{DAG_ID}/dagRuns/{run}")["state"]
            except LocalRunError:
                return False  # Airflow may be what the fault is about
            return state in ("success", "failed")

        wait_until(ended, "the run has ended", RUN_SECONDS)
        if state != "success":
            raise LocalRunError(
                f"The run {run} has {state}.", remedy="Its tasks' logs say why.", code="run-failed"
            )

    def upload(self) -> None:
        """Trigger the upload, and wait until the run has succeeded."""
        self.until_ended(self.trigger())

    # ------------------------------------------------------------------ what is staged, sent and visible

    def stage(self, device: str) -> None:
        """Stage readings of a device by the manual's command."""
        self.write_readings(device)
        self.shell(
            block_of_manual("stage /tmp/data.json --user <user id>").replace("<user id>", SAMPLE_USERS[0])
        )

    def write_readings(self, device: str) -> None:
        """Write readings of a device into the file that the manual's commands stage."""
        first = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5 * RECORDS)
        readings = [
            {
                "type": "cbg",
                "time": (first + timedelta(minutes=5 * number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "deviceId": device,
                "units": "mg/dL",
                "value": 80 + number % 100,
            }
            for number in range(RECORDS)
        ]
        (self.folder / "data.json").write_text(json.dumps(readings))

    def slow_down(self) -> None:
        """Let the simulator take its time for each chunk."""
        fault = Fault.slow(SLOW_POST_SECONDS, "post").model_dump_json()
        address = f"{SIMULATOR}/simulator/faults"
        self.within("simulator", "curl", "--fail", "--silent", "--request", "DELETE", address)
        self.within("simulator", "curl", "--fail", "--silent", "--data", "@-", address, given=fault)

    def in_mid_upload(self, device: str, happens: Callable[[], object]) -> None:
        """Upload a device's readings, let something happen meanwhile, and wait until each is visible once.

        :param device: an id that no other batch has.
        :param happens: what happens.
        :raises LocalRunError: the run fails, or the checker finds something lost or double.
        """
        self.stage(device)
        self.slow_down()
        run = self.trigger()
        wait_until(lambda: self._chunks_stored(device) >= CHUNKS_SENT, "chunks are stored", RUN_SECONDS)
        if self._batch_state(device) == "verified":
            raise LocalRunError(
                "The upload was done before anything could happen to it.",
                remedy="Stage more readings.",
                code="too-late",
            )
        happens()
        self.until_ended(run)
        self.require_verified(device)
        self.check()

    def require_verified(self, device: str) -> None:
        """Make sure that the ledger has a device's batch as verified.

        :raises LocalRunError: it does not.
        """
        if (state := self._batch_state(device)) != "verified":
            raise LocalRunError(
                f"The run has succeeded, and its batch is {state or 'unknown'}.",
                remedy="The uploads page says why.",
                code="not-verified",
            )

    def ledger(self, query: str) -> str:
        """Ask the ledger's database, and return the answer's one value."""
        psql = ("psql", "--username", "postgres", "--dbname", "tidepool_ledger", "-qtAc")
        return self.within("postgres", *psql, query).strip()

    def _batch_state(self, device: str) -> str:
        return self.ledger(f"SELECT state FROM batches WHERE device_id = '{device}'")

    def _chunks_stored(self, device: str) -> int:
        query = (
            "SELECT count(*) FROM chunks JOIN data_sets ON data_sets.id = chunks.data_set "
            f"JOIN batches ON batches.id = data_sets.batch WHERE device_id = '{device}' "
            "AND chunks.state = 'stored'"
        )
        return int(self.ledger(query))

    def check(self) -> str:
        """Compare what is staged with what is visible, by the manual's checker; return its summary.

        :raises LocalRunError: something is lost, double, foreign or left open.
        """
        store = "/opt/tidepool/practice/simulator.db"
        printed = self.within(
            "simulator", "python", "-m", "tidepool_simulator.sample.checker", self.root, store
        )
        return summary_of(printed)

    def check_on_s3(self) -> str:
        """Compare what is staged on S3 with what is visible, by the manual's commands; return the summary.

        :raises LocalRunError: as ``check``.
        """
        return summary_of(self.shell(command_for_s3("practice exec")))

    def stage_on_s3(self, device: str) -> None:
        """Stage readings of a device on S3 by the manual's command."""
        self.write_readings(device)
        self.shell(command_for_s3("practice run"))

    def reaches_simulator(self) -> bool:
        """Return whether the worker reaches the simulator."""
        ask = ("curl", "--fail", "--silent", "--max-time", "5", "--output", "/dev/null", f"{SIMULATOR}/info")
        return self.can("airflow-worker", *ask)

    def logs(self) -> str:
        """Return all that the containers, and Airflow's tasks, have logged."""
        files = ("bash", "-c", "find /opt/airflow/logs -type f -exec cat {} +")
        return self.compose("logs", "--no-color") + self.within("airflow-worker", *files)

    def down(self) -> None:
        """Remove containers, networks and volumes."""
        self.compose("down", "--volumes", "--timeout", "20", "--remove-orphans")


def command_for_s3(command: str) -> str:
    """Return one command of the manual's for S3 and what it needs, by how it begins."""
    script = block_of_manual("practice exec $store")
    first, *commands = re.split(r"^(?=practice )", script, flags=re.MULTILINE)
    (found,) = (each for each in commands if each.startswith(command))
    return first + found


def hindrances(printed: Sequence[str]) -> list[str]:
    """Return the lines in which docker/check.sh, or the image's own check, names what is in the way."""
    # Compose may put a sign for the terminal before a line.
    found = (re.search(r"(?:check|preflight): (.+)", line) for line in printed)
    return [each[1] for each in found if each]


def summary_of(printed: str) -> str:
    """Return what the checker says at last.

    :raises LocalRunError: it does not say that nothing is lost or double.
    """
    summary = printed.splitlines()[-1]
    if not re.search(r"\blost 0, double 0\b", summary):
        raise LocalRunError(
            "The checker succeeds, and does not say that nothing is lost or double.",
            remedy="Compare its summary with what is expected here.",
            code="checker",
        )
    return summary.removeprefix("checker: ")


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port
