"""The wheel, installed beside a plain Airflow as a team has it: nothing of this checkout is in sight."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dev.simulator import simulator_connection

from tests import PROJECT
from tests.factories import meter_readings
from tidepool_simulator import Accounts, Simulator
from tidepool_simulator.sample import SAMPLE_USERS

pytestmark = pytest.mark.slow

THREE_LINES = """\
from tidepool_airflow import tidepool_dags

tidepool_dags(staging_root="{root}", owner="data platform", tags=["diabetes"])
"""

LOOK = """
import importlib.util, json, sys
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
from airflow.providers_manager import ProvidersManager
import tidepool_airflow, tidepool_ingest, tidepool_simulator

bag = DagBag(sys.argv[1], safe_mode=True)
apps, middlewares = plugins_manager.get_fastapi_plugins()
manager = ProvidersManager()
print(json.dumps({
    "from": [module.__file__ for module in (tidepool_airflow, tidepool_ingest, tidepool_simulator)],
    "checkout": [name for name in ("dev", "tests", "tidepool_plugin") if importlib.util.find_spec(name)],
    "dags": sorted(bag.dags),
    "dag_errors": bag.import_errors,
    "plugin_errors": plugins_manager.get_import_errors(),
    "apps": [app["url_prefix"] for app in apps if "tidepool" in app["url_prefix"]],
    "middleware": len([each for each in middlewares if "Tidepool" in each["name"]]),
    "provider": manager.providers["tidepool-airflow"].data["name"],
    "hook": manager.hooks["tidepool"].hook_class_name,
    "links": [name for name in manager.extra_links_class_names if name.startswith("tidepool_airflow.")],
}))
"""


@dataclass(frozen=True)
class Team:
    """A team's machine.

    :param python: of its virtual environment.
    :param home: ``AIRFLOW_HOME``.
    :param environment: of all its processes.
    """

    python: Path
    home: Path
    environment: dict[str, str]

    @property
    def staging(self) -> Path:
        return self.home / "staging"

    def run(self, *command: str | Path, **more: str) -> str:
        """Run a program of the virtual environment, and return what it prints."""
        program, *arguments = map(str, command)
        done = subprocess.run(
            [self.python.parent / program, *arguments],
            cwd=self.home,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def team(wheel: Path, plain_site: Path, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A virtual environment with Airflow and what Airflow needs, into which the wheel was installed."""
    folder = tmp_path_factory.mktemp("team")
    home, environment = folder / "airflow", folder / "venv"
    venv.create(environment)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python3*/site-packages")
    (site / "airflow.pth").write_text(f"{plain_site}\n")
    install = [Path(sys.executable).parent / "uv", "pip", "install", "-q", "--offline", "--no-deps"]
    subprocess.run([*install, "--python", python, wheel], check=True)
    (home / "dags").mkdir(parents=True)
    (home / "staging").mkdir()
    (home / "dags" / "tidepool.py").write_text(THREE_LINES.format(root=home / "staging"))
    return Team(
        python,
        home,
        {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "TIDEPOOL_LEDGER": f"sqlite:///{home / 'tidepool_ledger.db'}",
        },
    )


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    accounts = Accounts()
    accounts.add_user("sample", user_id=SAMPLE_USERS[0])
    accounts.grant("service", of="sample")
    with Simulator(tmp_path_factory.mktemp("simulator") / "store.db", accounts=accounts) as running:
        yield running


def test_airflow_finds_all_of_it(team: Team) -> None:
    found = json.loads(team.run("python", "-c", LOOK, team.home / "dags").splitlines()[-1])

    assert all(place.startswith(str(team.python.parents[1])) for place in found["from"])
    assert found["checkout"] == []
    assert found["dags"] == sorted(path.stem for path in (PROJECT / "dags").glob("*.py"))
    assert found["dag_errors"] == found["plugin_errors"] == {}
    assert found["apps"] == ["/tidepool/uploads"]
    assert found["middleware"] == 2
    assert (found["provider"], found["hook"]) == ("Tidepool", "tidepool_airflow.hook.TidepoolHook")
    assert len(found["links"]) == 3
    listed = team.run("python", "-m", "airflow", "plugins", "--output", "json")
    assert "tidepool_airflow.plugin:TidepoolPlugin" in listed


def test_a_batch_is_staged_uploaded_and_verified(team: Team, simulator: Simulator) -> None:
    (team.home / "readings.ndjson").write_text("\n".join(map(json.dumps, meter_readings(50))))
    team.run("python", "-m", "airflow", "db", "migrate")
    where = ("--root", team.staging, "--day", datetime.now(UTC).date().isoformat(), "--user", SAMPLE_USERS[0])
    team.run("tidepool-ingest", "stage", "readings.ndjson", *where, "--device-model", "Meter")

    connection = json.dumps(simulator_connection(simulator.base_url))
    team.run(
        "python",
        "-m",
        "airflow",
        "dags",
        "test",
        "tidepool_normal_upload",
        AIRFLOW_CONN_TIDEPOOL_DEFAULT=connection,
    )

    (upload,) = json.loads(team.run("tidepool-ingest", "sessions", "--json"))
    assert (upload["state"], upload["accepted"], upload["visible_rows"]) == ("verified", 50, 50)
    assert upload["dag_id"] == "tidepool_normal_upload"
