"""``.env.example``, manual and compose file agree; the manual's commands do what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from dev.compose_test.stack import block_of_manual

from tests import PROJECT
from tests.deployment.files import Compose, filled, settings


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder in which the manual's commands have made both env files."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    shutil.copy(PROJECT / ".env.example", tmp_path)
    practice = block_of_manual("mkdir -p .local").partition("alias ")[0]
    script = f"set -e\n{block_of_manual('fresh_env()')}\n{practice}"
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    return tmp_path


def test_example_asks_for_exactly_what_is_required(compose: Compose, env_example: str) -> None:
    required = settings(env_example, commented=False)
    assert set(required) == compose.required
    assert set(required.values()) == {""}, "the example holds a real value"


def test_example_shows_exactly_what_is_optional(compose: Compose, env_example: str) -> None:
    optional = settings(env_example, commented=True)
    assert optional == {name: filled(default) for name, default in compose.optional.items()}


def test_manual_explains_every_variable(compose: Compose, manual: str) -> None:
    explained = set(re.findall(r"^\| `([A-Z0-9_]+)` \|", manual, flags=re.MULTILINE))
    assert explained == compose.required | compose.optional.keys()


def test_manual_explains_every_service(compose: Compose, manual: str) -> None:
    table = manual.partition("| service |")[2].partition("\n\n")[0]
    named = re.sub(r"`--profile \S+`", "", table)
    assert set(re.findall(r"`([a-z-]+)`", named)) == set(compose.services)


def test_env_is_kept_out_of_version_control_and_of_the_image() -> None:
    assert ".env" in (PROJECT / ".gitignore").read_text().splitlines()
    assert ".local/" in (PROJECT / ".gitignore").read_text().splitlines()


def test_commands_fill_every_required_variable(made: Path, compose: Compose) -> None:
    for file in (made / ".env", made / ".local" / "practice.env"):
        values = settings(file.read_text(), commented=False)
        secrets = [values[name] for name in compose.required]
        assert all(len(secret) >= 32 for secret in secrets)
        assert len(set(secrets)) == len(secrets)
        Fernet(values["AIRFLOW_FERNET_KEY"])
        for name in compose.required - {"AIRFLOW_FERNET_KEY"}:
            assert values[name].isalnum(), name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not shared_secrets(made, compose)


def shared_secrets(made: Path, compose: Compose) -> set[str]:
    real, practice = (
        settings((made / name).read_text(), commented=False) for name in (".env", ".local/practice.env")
    )
    return {name for name in compose.required if real[name] == practice[name]}


@pytest.mark.parametrize("start", ["pg_dumpall", "exec -T postgres pg_dump --"])
def test_backups_can_be_read_by_their_owner_only(tmp_path: Path, start: str) -> None:
    """They hold user ids, and secrets that are no better than the key that encrypts them."""
    script = block_of_manual(start).partition("git pull")[0]
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    asked = f'umask 022; docker() {{ echo "$@"; }}; {script}'

    subprocess.run(["sh", "-ec", asked], env=home, check=True)

    (backup,) = tmp_path.glob("*.sql")
    assert "pg_dump" in backup.read_text()
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600


def test_practice_speaks_to_the_simulator_and_nothing_else(made: Path, compose: Compose) -> None:
    from dev.simulator import simulator_connection

    practice = settings((made / ".local" / "practice.env").read_text(), commented=False)
    added = practice.keys() - compose.required
    assert added == {"AIRFLOW_CONN_TIDEPOOL_DEFAULT", "AIRFLOW_PORT"}
    connection = json.loads(practice["AIRFLOW_CONN_TIDEPOOL_DEFAULT"].strip("'"))
    simulator = " ".join(compose.services["simulator"]["command"])
    port = re.search(r"simulate --port (\d+)", simulator)
    assert port is not None
    assert connection == simulator_connection(f"http://127.0.0.1:{port[1]}")
    assert f"http://127.0.0.1:{port[1]}/info" in compose.services["simulator"]["healthcheck"]["test"]


def test_manuals_connection_is_one_the_hook_takes(manual: str) -> None:
    from airflow.sdk import Connection

    from tidepool_ingest.client.connections import client_settings

    written = re.search(r"^AIRFLOW_CONN_TIDEPOOL_DEFAULT='(.*<client id>.*)'$", manual, flags=re.MULTILINE)
    assert written is not None
    taken = client_settings(Connection.from_json(written[1], conn_id="tidepool_default"))
    assert (taken.environment, taken.client_id) == ("integration", "<client id>")
