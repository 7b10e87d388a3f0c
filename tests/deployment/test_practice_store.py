"""The S3 store to practise with: its image, and what manual and compose file say of it, tested on one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dev.compose_test.stack import block_of_manual

from tests import PROJECT
from tests.deployment.files import Compose, settings
from tests.servers import s3_server
from tidepool_ingest.cli import main
from tidepool_simulator.sample import SAMPLE_USERS

ADDRESS = "http://store:5000"


@pytest.fixture
def written() -> dict[str, str]:
    """What the manual adds to the settings of the practice."""
    return settings(block_of_manual("--profile practice-s3"), commented=False)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(tmp_path / "s3.log") as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "practice")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "practice")
        yield address


def test_image_is_the_store_that_the_tests_use(compose: Compose) -> None:
    pinned = re.search(r"^moto==(\S+)", (PROJECT / "requirements-dev.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert compose.services["store"]["image"] == f"motoserver/moto:{pinned[1]}"


def test_store_is_reached_by_the_other_containers_only(compose: Compose) -> None:
    assert not {"ports", "network_mode", "environment"} & compose.services["store"].keys()


def test_profile_has_the_simulator_and_what_it_waits_for(compose: Compose) -> None:
    mine = "practice-s3"
    with_it = {name for name, service in compose.services.items() if mine in service.get("profiles", [mine])}
    assert {"simulator", "store", "store-sample", "airflow-worker"} <= with_it
    assert "sample" not in with_it
    for name in with_it:
        needed = compose.services[name].get("depends_on", {})
        assert {other for other, how in needed.items() if how.get("required", True)} <= with_it, name


def test_manuals_connection_leads_to_the_store_and_its_bucket(
    compose: Compose, written: dict[str, str]
) -> None:
    from airflow.sdk import Connection

    connection = Connection.from_json(
        written["AIRFLOW_CONN_STAGING_STORE"].strip("'"), conn_id="staging_store"
    )
    root = re.fullmatch(r"s3://staging_store@([a-z-]+)/batches", written["TIDEPOOL_STAGING_ROOT"])
    program = compose.services["store-sample"]["command"][-1]

    assert connection.conn_type == "aws"
    assert connection.extra_dejson["endpoint_url"] == ADDRESS
    assert root is not None
    assert f'"{root[1]}/batches/"' in program
    assert f'endpoint_url="{ADDRESS}"' in program


@pytest.mark.slow
def test_sample_is_staged_and_read_back_as_the_manual_says(
    compose: Compose, manual: str, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = compose.services["store-sample"]["command"][-1].replace(ADDRESS, server)
    for _ in range(2):  # as after a restart
        subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"type": "smbg", "deviceId": "device-1", "value": 100}]))
    root = re.search(r"--root (s3://\S+)'", manual)
    assert root is not None
    assert main(["stage", str(data), "--user", SAMPLE_USERS[0], "--root", root[1]]) == 0

    (fetch,) = re.findall(r'python -c "(import s3fs.*)"$', manual, flags=re.MULTILINE)
    folder = tmp_path / "staging"
    fetch = fetch.replace('\\"', '"').replace("/tmp/staging/", f"{folder}/")
    subprocess.run([sys.executable, "-c", fetch], check=True, env=os.environ)

    assert len(list(folder.glob("*/*/*/manifest.json"))) == 8 + 1


@pytest.mark.slow
def test_health_is_asked_of_the_store_itself(compose: Compose, server: str) -> None:
    test = compose.services["store"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    program = test[3].replace("http://127.0.0.1:5000", server)
    assert program != test[3]
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
