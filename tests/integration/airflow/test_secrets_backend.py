"""Connections that neither the UI nor the environment holds, but a secrets backend: a file for Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import pytest
from dev.simulator import simulator_connection

from tests.airflow.world import DAG_ID, AirflowWorld
from tests.factories import meter_readings
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET

pytestmark = pytest.mark.slow

BACKEND = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
CONN_VARIABLES = ("AIRFLOW_CONN_TIDEPOOL_DEFAULT", "AIRFLOW_CONN_TIDEPOOL_LEDGER")
SECONDS = 300
HOOK = "from tidepool_airflow.hook import TidepoolHook"


def as_json(world: AirflowWorld) -> tuple[str, str]:
    return "connections.json", json.dumps(world.connections)


def as_yaml(world: AirflowWorld) -> tuple[str, str]:
    given = simulator_connection(world.simulator.base_url)
    extra = "".join(f"    {name}: {value}\n" for name, value in dict(given.pop("extra")).items())  # type: ignore[call-overload]
    fields = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in given.items())
    place = world.connections["tidepool_ledger"]["host"]
    ledger = f"tidepool_ledger:\n  conn_type: sqlite\n  host: {place}\n"
    return "connections.yaml", f"tidepool_default:\n{fields}  extra:\n{extra}{ledger}"


def as_uri(world: AirflowWorld) -> tuple[str, str]:
    extra = dict(simulator_connection(world.simulator.base_url)["extra"])  # type: ignore[call-overload]
    place = urlsplit(world.simulator.base_url)
    who = f"{quote(CLIENT_ID, safe='')}:{quote(CLIENT_SECRET, safe='')}"
    uri = f"tidepool://{who}@{place.netloc}/{place.scheme}?{urlencode(extra)}"
    return "connections.env", f"tidepool_default={uri}\ntidepool_ledger={world.ledger_address}\n"


FORMS = {"JSON": as_json, "YAML": as_yaml, "URI": as_uri}


def in_a_process(file: Path, *arguments: str) -> str:
    """Run a module with no connection but those of a file, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name not in CONN_VARIABLES}
    environment |= {
        "AIRFLOW__SECRETS__BACKEND": BACKEND,
        "AIRFLOW__SECRETS__BACKEND_KWARGS": json.dumps({"connections_file_path": str(file)}),
    }
    ended = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    output = ended.stdout + ended.stderr
    assert ended.returncode == 0, output[-3000:]
    assert CLIENT_SECRET not in output
    return output


def written(world: AirflowWorld, folder: Path, form: str) -> Path:
    name, content = FORMS[form](world)
    file = folder / name
    file.write_text(content)
    return file


def test_a_run_and_a_test_take_their_connections_from_a_secrets_backend(
    world: AirflowWorld, tmp_path: Path
) -> None:
    file = written(world, tmp_path, "JSON")
    world.stage(meter_readings(7))

    in_a_process(file, "-m", "dev.demo", DAG_ID)

    assert [upload.data_set_state for upload in world.uploads()] == ["verified"]
    assert world.posts() == 1
    output = in_a_process(file, "-m", "airflow", "connections", "test", "tidepool_default")
    assert "Connection success!" in output


@pytest.mark.parametrize("form", FORMS)
def test_a_connection_can_be_written_in_every_form_that_a_secrets_backend_takes(
    world: AirflowWorld, tmp_path: Path, form: str
) -> None:
    file = written(world, tmp_path, form)

    assert "It may upload for itself" in in_a_process(
        file, "-c", f"{HOOK}; print(TidepoolHook().test_connection())"
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("connections.env", "tidepool_default=tidepool://an-id:a-secret@/?{query}"),
        ("connections.yaml", "tidepool_default: tidepool://an-id:a-secret@/?{query}"),
        ("connections.json", '{{"tidepool_default": "tidepool://an-id:a-secret@/?{query}"}}'),
    ],
)
def test_a_connection_without_host_and_port_goes_by_its_environment(
    world: AirflowWorld, tmp_path: Path, name: str, content: str
) -> None:
    query = urlencode(
        {
            "environment": "integration",
            "auth_mode": "client_credentials",
            "client_name": "org.example.ingest",
            "client_version": "1.0.0",
        }
    )
    file = tmp_path / name
    file.write_text(content.format(query=query))

    output = in_a_process(file, "-c", f"{HOOK}; print(TidepoolHook().api_host)")

    assert output.splitlines()[-1] == "int-api.tidepool.org"
