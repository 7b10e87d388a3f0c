"""Backfills under a real scheduler on PostgreSQL, made by command and over the API that the UI uses."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from dev.components import LocalAirflow
from dev.simulator import simulator, simulator_connection

from tests.factories import meter_readings, stage
from tests.integration.airflow.deployment import DAG_ID, RUN_SECONDS, Deployment, home_on_server
from tests.ports import free_port

pytestmark = pytest.mark.slow

FIRST, LAST = date(2024, 2, 28), date(2024, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range((LAST - FIRST).days + 1)]
BROKEN = DAYS[1]
RECORDS = 30
RANGE = ("--from-date", str(FIRST), "--to-date", str(LAST + timedelta(days=1)))
ENDED = ("success", "failed")


class Backfills:
    """Makes backfills of the days that are staged, and waits for their runs."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    def by_command(self, *arguments: str) -> str:
        """Create one as docs/airflow.md says, and return what the command printed."""
        command = [sys.executable, "-m", "airflow", "backfill", "create", "--dag-id", DAG_ID, *RANGE]
        ended = subprocess.run(
            [*command, *arguments],
            env={**os.environ, **self.deployment.airflow.settings},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def by_ui(self, **body: Any) -> dict[str, Any]:
        """Create one as the UI's form does."""
        given = {
            "dag_id": DAG_ID,
            "from_date": f"{FIRST}T00:00:00Z",
            "to_date": f"{LAST}T23:59:59Z",
            "run_backwards": False,
            "max_active_runs": 3,
            **body,
        }
        response = self.deployment.airflow.request("POST", "/api/v2/backfills", given)
        assert response.ok, response.text
        made: dict[str, Any] = response.json()
        return made

    def runs(self) -> dict[date, dict[str, Any]]:
        """Return every run, by its day; there is one a day at most."""
        runs = self.deployment.get("/dagRuns", limit=100)["dag_runs"]
        by_day = {date.fromisoformat(run["data_interval_start"][:10]): run for run in runs}
        assert len(by_day) == len(runs)
        return by_day

    def end(self) -> dict[date, dict[str, Any]]:
        """Wait until all runs have ended, and return them.

        Airflow records twice a minute which backfills are complete, and takes no other one before. One that
        has nothing left to run is cancelled instead, which is the same but for the waiting.
        """
        give_up = time.monotonic() + RUN_SECONDS
        while not all(run["state"] in ENDED for run in self.runs().values()):
            self.deployment.airflow.check()
            assert time.monotonic() < give_up, self.runs()
            time.sleep(0.5)
        for made in self._all():
            if made["completed_at"] is None:
                self.deployment.airflow.request("PUT", f"/api/v2/backfills/{made['id']}/cancel")
        return self.runs()

    def plan(self, day: date) -> dict[str, Any]:
        plan: dict[str, Any] = self.deployment.xcom(self.runs()[day]["dag_run_id"], "plan", "plan")
        return plan

    def _all(self) -> list[dict[str, Any]]:
        response = self.deployment.airflow.request("GET", f"/api/v2/backfills?dag_id={DAG_ID}")
        found: list[dict[str, Any]] = response.json()["backfills"]
        return found


@pytest.fixture(scope="module")
def backfills() -> Iterator[Backfills]:
    """Airflow on PostgreSQL, and some staged days of which one cannot be read."""
    with ExitStack() as stack:
        home, databases = stack.enter_context(home_on_server())
        for day in DAYS:
            stage(home.staging, meter_readings(RECORDS, day=day), day=day, batch=f"batch-{day}")
        name_digest(home.staging, "0" * 64)
        roles = stack.enter_context(simulator(home))
        environment = home.environment(tidepool=simulator_connection(roles["base_url"]), databases=databases)
        port = free_port()
        airflow = LocalAirflow({**environment, "TIDEPOOL_RETRIES": "0"}, home.folder / "logs", port)
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Backfills(Deployment(home, airflow, roles, port, stack))


def name_digest(staging: Path, sha256: str) -> None:
    """Let the manifest of the broken day say what its file's digest is."""
    (path,) = (staging / str(BROKEN)).glob("*/*/manifest.json")
    manifest = json.loads(path.read_text())
    manifest["files"][0]["sha256"] = sha256
    path.write_text(json.dumps(manifest))


def states(runs: dict[date, dict[str, Any]]) -> dict[date, str]:
    return {day: run["state"] for day, run in sorted(runs.items())}


def verified(backfills: Backfills) -> dict[date, str | None]:
    """Return the data set of each day that is visible in Tidepool as it was staged, each record once."""
    deployment = backfills.deployment
    result = deployment.check()
    assert (result.double, result.foreign, result.left_open, result.unreachable) == (0,) * 4
    found = [session for session in deployment.uploads() if session.data_set_state == "verified"]
    assert result.visible == RECORDS * len(found)
    assert len({upload.day for upload in found}) == len(found)
    return {upload.day: upload.data_set_id for upload in found}


def test_the_command_takes_every_day_of_its_range_once(backfills: Backfills) -> None:
    output = backfills.by_command("--dry-run")
    assert [f"{day} 03:00:00" in output for day in [*DAYS, LAST + timedelta(days=1)]] == [True] * 3 + [False]
    assert backfills.runs() == {}

    backfills.by_command("--max-active-runs", "3")
    runs = backfills.end()

    assert states(runs) == {day: "failed" if day == BROKEN else "success" for day in DAYS}
    assert {run["run_type"] for run in runs.values()} == {"backfill"}
    assert verified(backfills).keys() == set(DAYS) - {BROKEN}
    assert {backfills.plan(day)["window"] for day in DAYS} == {str(day) for day in DAYS}


def test_the_same_backfill_again_makes_no_run_and_asks_nothing_of_tidepool(backfills: Backfills) -> None:
    writes, runs = backfills.deployment.writes_at_tidepool(), backfills.runs()

    backfills.by_ui(reprocess_behavior="none")

    assert backfills.end() == runs
    assert backfills.deployment.writes_at_tidepool() == writes


def test_failed_runs_are_run_again_and_no_others(backfills: Backfills) -> None:
    staging, before = backfills.deployment.home.staging, backfills.runs()
    (file,) = (staging / str(BROKEN)).glob("*/*/records.ndjson")
    name_digest(staging, hashlib.sha256(file.read_bytes()).hexdigest())

    backfills.by_ui(reprocess_behavior="failed")
    runs = backfills.end()

    assert states(runs) == dict.fromkeys(DAYS, "success")
    assert [day for day in DAYS if runs[day]["start_date"] != before[day]["start_date"]] == [BROKEN]
    assert verified(backfills).keys() == set(DAYS)


def test_completed_runs_that_are_run_again_upload_nothing(backfills: Backfills) -> None:
    writes, ids, before = backfills.deployment.writes_at_tidepool(), verified(backfills), backfills.runs()

    backfills.by_command("--reprocess-behavior", "completed", "--max-active-runs", "3")
    runs = backfills.end()

    assert states(runs) == dict.fromkeys(DAYS, "success")
    assert [day for day in DAYS if runs[day]["start_date"] == before[day]["start_date"]] == []
    assert [(backfills.plan(day)["batches"], backfills.plan(day)["done"]) for day in DAYS] == [(0, 1)] * 3
    assert backfills.deployment.writes_at_tidepool() == writes
    assert verified(backfills) == ids


def test_what_is_forced_is_uploaded_again_and_still_visible_once(backfills: Backfills) -> None:
    """After plans without a batch: Airflow must not leave out the tasks of what is planned again."""
    ids = verified(backfills)

    backfills.by_ui(reprocess_behavior="completed", dag_run_conf={"force": True})
    runs = backfills.end()

    assert states(runs) == dict.fromkeys(DAYS, "success")
    again = verified(backfills)
    assert again.keys() == ids.keys()
    assert not set(again.values()) & set(ids.values())


def test_a_day_that_grew_since_is_taken_up_by_its_run(backfills: Backfills) -> None:
    staging, ids = backfills.deployment.home.staging, verified(backfills)
    stage(
        staging,
        meter_readings(RECORDS, device="device-2", day=LAST),
        day=LAST,
        batch="late",
        device="device-2",
    )

    backfills.by_ui(reprocess_behavior="completed", dag_run_conf={"force": False})
    assert states(backfills.end()) == dict.fromkeys(DAYS, "success")

    sessions = backfills.deployment.uploads()
    found = [session.data_set_id for session in sessions if session.data_set_state == "verified"]
    assert len(found) == len(set(found)) == len(DAYS) + 1
    assert set(ids.values()) < set(found)
