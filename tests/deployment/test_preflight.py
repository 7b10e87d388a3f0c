"""What is in the way of a start is told before anything starts, a line each, and no line holds a value."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest
from cryptography.fernet import Fernet

from tests import PROJECT
from tests.deployment.files import Compose, environment, filled
from tests.servers import s3_server
from tidepool_airflow import preflight
from tidepool_airflow.preflight import SECRETS, failures

CANARY = "c4nary"
GIGABYTE = 10**9
ENOUGH = 4 * GIGABYTE
FERNET_KEY, OTHER_KEY = (Fernet.generate_key().decode() for _ in range(2))
GOOD = {name: f"{number:032}" for number, name in enumerate(SECRETS)} | {"AIRFLOW_FERNET_KEY": FERNET_KEY}


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a deployment with nothing in its way; a test changes it."""
    for name in [name for name in os.environ if name.startswith(("TIDEPOOL_", "AIRFLOW_CONN_"))]:
        monkeypatch.delenv(name)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", "postgresql://ledger:secret@postgres:5432/ledger")
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(tmp_path))
    return monkeypatch


def found(memory: int = ENOUGH) -> list[str]:
    return list(failures(os.environ, memory))


def test_nothing_is_in_the_way_of_a_good_deployment(deployed: pytest.MonkeyPatch) -> None:
    deployed.setenv("TIDEPOOL_WORK_KEYS", OTHER_KEY)
    deployed.setenv("POOL_SLOTS", "16")

    assert found() == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"REDIS_PASSWORD": ""}, "REDIS_PASSWORD is not set: add it to .env"),
        ({"ADMIN_PASSWORD": CANARY}, "AIRFLOW_ADMIN_PASSWORD is shorter than 16 characters: give a longer"),
        ({"POSTGRES_PASSWORD": f"{CANARY:x<15}"}, "POSTGRES_PASSWORD is shorter than 16 characters"),
        ({"LEDGER_DB_PASSWORD": f"{CANARY:/<32}"}, "LEDGER_DB_PASSWORD has a sign that means something in a"),
        ({"AIRFLOW_FERNET_KEY": f"{CANARY:x<32}"}, "AIRFLOW_FERNET_KEY is no Fernet key"),
        ({"AIRFLOW_FERNET_KEY": f"{OTHER_KEY},{CANARY:x<32}"}, "AIRFLOW_FERNET_KEY is no Fernet key"),
        (
            {"AIRFLOW_JWT_SECRET": f"{CANARY:x<32}", "AIRFLOW_API_SECRET_KEY": f"{CANARY:x<32}"},
            "AIRFLOW_JWT_SECRET and AIRFLOW_API_SECRET_KEY are the same: make another one",
        ),
        ({"TIDEPOOL_WORK_KEYS": FERNET_KEY}, "AIRFLOW_FERNET_KEY and TIDEPOOL_WORK_KEYS are the same"),
        (
            {"AIRFLOW_FERNET_KEY": f"{OTHER_KEY},{OTHER_KEY}"},
            "Two keys of AIRFLOW_FERNET_KEY are the same: make another one",
        ),
        ({"POOL_SLOTS": CANARY}, "TIDEPOOL_POOL_SLOTS is no whole number from 1"),
        ({"WORKER_CONCURRENCY": "0"}, "WORKER_CONCURRENCY is no whole number from 1"),
        ({"TIDEPOOL_RETRIES": CANARY}, "TIDEPOOL_RETRIES is no whole number: give a whole number from 0"),
        ({"TIDEPOOL_WORK_KEYS": CANARY}, "TIDEPOOL_WORK_KEYS cannot be used: give Fernet keys"),
        ({"AIRFLOW_CONN_TIDEPOOL_LEDGER": f"mysql://a:{CANARY}@b/c"}, "The ledger cannot live in mysql."),
        ({"AIRFLOW_CONN_TIDEPOOL_LEDGER": f'{{"{CANARY}'}, "Airflow cannot read the ledger's connection"),
        ({"AIRFLOW_CONN_TIDEPOOL_DEFAULT": f'{{"{CANARY}'}, "AIRFLOW_CONN_TIDEPOOL_DEFAULT is no connection"),
        (
            {"AIRFLOW_CONN_TIDEPOOL_DEFAULT": f'{{"conn_type": "tidepool", "password": "{CANARY}"}}'},
            "AIRFLOW_CONN_TIDEPOOL_DEFAULT: Could not find the Tidepool environment",
        ),
        ({"TIDEPOOL_STAGING_ROOT": f"/{CANARY}"}, "TIDEPOOL_STAGING_ROOT: the staging root is not there"),
        ({"TIDEPOOL_STAGING_ROOT": f"unknown://{CANARY}/x"}, "TIDEPOOL_STAGING_ROOT: "),
    ],
)
def test_each_failure_is_one_line_without_its_value(
    deployed: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    changes: Mapping[str, str],
    line: str,
) -> None:
    for name, value in changes.items():
        deployed.setenv(name, value)

    (told,) = found()

    assert told.startswith(line)
    assert "\n" not in told
    assert told.endswith((".", "makes."))
    assert CANARY not in told + caplog.text + "".join(capsys.readouterr())


def test_all_failures_are_told_at_once(deployed: pytest.MonkeyPatch) -> None:
    deployed.setenv("REDIS_PASSWORD", "short")
    deployed.setenv("TIDEPOOL_RETRIES", "-1")
    deployed.setenv("TIDEPOOL_ANSWER_HOURS", "0")

    told = found(2 * GIGABYTE)

    assert [line.split()[0] for line in told[:3]] == [
        "REDIS_PASSWORD",
        "TIDEPOOL_RETRIES",
        "TIDEPOOL_ANSWER_HOURS",
    ]
    assert "has 2.0 GB of memory: give it at least 4 GB" in told[3]


def test_a_machine_of_four_gigabytes_shows_somewhat_less(deployed: pytest.MonkeyPatch) -> None:
    assert found(int(3.8 * GIGABYTE)) == []
    assert len(found(3 * GIGABYTE)) == 1


def test_a_folder_that_may_not_be_written_is_told(deployed: pytest.MonkeyPatch) -> None:
    def refuse(**_given: object) -> None:
        raise PermissionError(13, "Permission denied", CANARY)

    deployed.setattr(preflight.tempfile, "TemporaryFile", refuse)

    (told,) = found()

    assert f"user {os.geteuid()} cannot write there (Permission denied): set AIRFLOW_UID" in told
    assert CANARY not in told


def test_checking_leaves_nothing_in_staging(deployed: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert found() == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_connection_is_to_be_made_is_not_checked(
    deployed: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployed.setenv("TIDEPOOL_STAGING_ROOT", "s3://not_made_yet@bucket/staging")

    assert found() == []
    assert "was not checked" in capsys.readouterr().out


# ---------------------------------------------------------------- object stores, over HTTP


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("store") / "s3.log") as address:
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id=CANARY,
            aws_secret_access_key=CANARY,
        )
        client.create_bucket(Bucket="there")
        yield address


def connect(deployed: pytest.MonkeyPatch, name: str, endpoint: str) -> None:
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": CANARY, "password": CANARY, "extra": extra}
    deployed.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))
    deployed.setattr(preflight, "STORE_SECONDS", 0.0)


@pytest.mark.slow
def test_a_store_that_answers_is_fine_and_a_bucket_that_is_not_there_is_told(
    deployed: pytest.MonkeyPatch, store: str
) -> None:
    connect(deployed, "checked_store", store)
    deployed.setenv("TIDEPOOL_STAGING_ROOT", "s3://checked_store@there/staging")
    assert found() == []

    deployed.setenv("TIDEPOOL_STAGING_ROOT", "s3://checked_store@misspelt/staging")
    (told,) = found()
    assert told.startswith("TIDEPOOL_STAGING_ROOT: the staging root is not there")


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_told(
    deployed: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        connect(deployed, "absent_store", f"http://127.0.0.1:{unused.getsockname()[1]}")
        deployed.setenv("TIDEPOOL_STAGING_ROOT", "s3://absent_store@bucket/staging")
        (told,) = found()

    assert told.startswith("TIDEPOOL_STAGING_ROOT: staging storage cannot be read: EndpointConnectionError")
    assert CANARY not in told + caplog.text


def test_a_store_that_starts_at_the_same_time_is_waited_for(
    deployed: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tries = []

    def answer(_root: object) -> dict[str, object]:
        tries.append(1)
        if len(tries) < 3:
            raise preflight.BatchError("staging-unreadable")
        return {}

    deployed.setattr(preflight, "local_path", lambda _root: None)
    deployed.setattr(preflight, "entries_of_root", answer)
    deployed.setattr(preflight, "STORE_POLL_SECONDS", 0.0)

    assert found() == []
    assert len(tries) == 3


# ---------------------------------------------------------------- where it is called


def test_airflow_init_checks_before_all_else_what_it_was_given(compose: Compose) -> None:
    service = compose.services["airflow-init"]
    program = service["command"][-1].splitlines()
    given = dict(environment(service))

    assert program[0] == "python -m tidepool_airflow.preflight"
    assert "-ec" in service["command"], "it would go on"
    assert set(SECRETS) <= given.keys()
    for name in SECRETS:
        assert f"${{{preflight.IN_ENV.get(name, name)}:?" in str(given[name]), name
    # Every secret of the deployment, and every setting of its own.
    assert {preflight.IN_ENV.get(name, name) for name in SECRETS} == compose.required
    settings = {name for name in dict(environment(compose.services["airflow-worker"])) if "TIDEPOOL" in name}
    assert settings <= given.keys()
    assert set(preflight.NUMBERS) <= given.keys()
    mounts = [filled(mount).split(":") for mount in service["volumes"]]
    assert ["staging", "/opt/tidepool/staging"] in mounts


def test_it_ends_with_one_and_a_line_for_each_failure(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TIDEPOOL_")}
    variables |= GOOD | {"AIRFLOW_HOME": str(tmp_path), "TIDEPOOL_STAGING_ROOT": str(tmp_path)}
    variables |= {"REDIS_PASSWORD": f"{CANARY}!", "AIRFLOW_JWT_SECRET": GOOD["POSTGRES_PASSWORD"]}
    variables["AIRFLOW_CONN_TIDEPOOL_LEDGER"] = "sqlite:////tmp/ledger.db"

    command = [sys.executable, "-m", "tidepool_airflow.preflight"]
    ended = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    told = [line for line in ended.stderr.splitlines() if line.startswith("preflight: ")]
    assert [line.split()[1] for line in told[:3]] == ["REDIS_PASSWORD", "REDIS_PASSWORD", "POSTGRES_PASSWORD"]
    assert CANARY not in ended.stdout + ended.stderr


# ---------------------------------------------------------------- docker/check.sh


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a good ``.env``, and a ``docker`` that writes down what it is asked.

    Asked to run something, it does what the script ``says`` in the checkout does.
    """
    (tmp_path / "docker").mkdir()
    shutil.copy(PROJECT / "docker" / "check.sh", tmp_path / "docker")
    shutil.copy(PROJECT / ".env.example", tmp_path)
    text = (PROJECT / ".env.example").read_text()
    lines = [f"{line}{CANARY}" if line[:1].isupper() else line for line in text.splitlines()]
    write(tmp_path, "\n".join(lines))
    programs = tmp_path / "programs"
    programs.mkdir()
    docker = programs / "docker"
    docker.write_text(
        '#!/bin/sh\necho "$@" >> asked\n'
        'case "$*" in *" ps "*) cat running 2>/dev/null;; *" run "*) [ ! -e says ] || . ./says;; esac\n'
    )
    docker.chmod(0o755)
    return tmp_path


def write(checkout: Path, text: str) -> None:
    (checkout / ".env").write_text(text)
    (checkout / ".env").chmod(0o600)


def check(checkout: Path, *arguments: str) -> tuple[int, list[str]]:
    path = f"{checkout / 'programs'}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", str(checkout / "docker" / "check.sh"), *arguments],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert CANARY not in ended.stdout + ended.stderr
    return ended.returncode, ended.stderr.splitlines()


def with_free_port(checkout: Path, more: str = "") -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    write(checkout, f"{(checkout / '.env').read_text()}\nAIRFLOW_PORT={port}\n{more}")


def test_the_image_checks_the_rest_without_the_databases(checkout: Path) -> None:
    with_free_port(checkout, "AIRFLOW__CORE__PARALLELISM=8\nCOMPOSE_PROJECT_NAME=mine\n")

    assert check(checkout, ".env", "--project-name", "mine") == (0, [])

    (asked,) = (checkout / "asked").read_text().splitlines()
    assert asked == (
        "compose --env-file .env --project-name mine run --rm --no-deps -T "
        "--env CONNECTION_CHECK_MAX_COUNT=0 airflow-init python -m tidepool_airflow.preflight"
    )


def test_an_env_file_of_an_older_version_is_told(checkout: Path) -> None:
    text = (checkout / ".env").read_text().replace(f"REDIS_PASSWORD={CANARY}", "REDIS_PASSWORD=")
    write(checkout, f"{text}\nTIDEPOOL_STAGING_FOLDER={CANARY}\n")
    with_free_port(checkout)

    code, lines = check(checkout)

    assert code == 1
    assert [line.split()[1] for line in lines] == ["REDIS_PASSWORD", "TIDEPOOL_STAGING_FOLDER"]
    assert "may be of an older version: add it, as .env.example says" in lines[0]
    assert "is no setting, or not any more" in lines[1]
    assert not (checkout / "asked").exists()


def test_a_port_in_use_is_told_unless_it_is_ours(checkout: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        write(checkout, f"{(checkout / '.env').read_text()}\nAIRFLOW_PORT={port}\n")

        code, (line,) = check(checkout)
        assert code == 1
        assert f"another program listens on port {port} already: end it, or set AIRFLOW_PORT" in line

        (checkout / "running").write_text("0123456789ab\n")
        assert check(checkout) == (0, [])


@pytest.mark.parametrize("port", ["0", "http", "70000"])
def test_a_port_that_is_none_is_told(checkout: Path, port: str) -> None:
    write(checkout, f"{(checkout / '.env').read_text()}\nAIRFLOW_PORT={port}\n")

    code, (line,) = check(checkout)

    assert code == 1
    assert "AIRFLOW_PORT in .env is no port" in line


def test_an_env_file_that_is_not_there_or_open_to_others_is_told(checkout: Path) -> None:
    with_free_port(checkout)
    (checkout / ".env").chmod(0o644)
    code, (line,) = check(checkout)
    assert code == 1
    assert line.endswith("chmod 600 .env")

    code, (line,) = check(checkout, "absent.env")
    assert code == 1
    assert "there is no absent.env" in line


NO_INIT = (
    'docker: Error response from daemon: failed to create task for container: exec: "docker-init": '
    "executable file not found in $PATH"
)


@pytest.mark.parametrize(
    ("printed", "last"),
    [
        (["Container tidepool-airflow-init-run-1  Created", NO_INIT, "\r", ""], NO_INIT),
        (["Traceback (most recent call last):", "ImportError: no module"], "ImportError: no module"),
        ([], "nothing"),
    ],
)
def test_a_container_that_does_not_come_to_its_check_is_told_with_its_last_line(
    checkout: Path, printed: list[str], last: str
) -> None:
    with_free_port(checkout)
    (checkout / "printed").write_text("".join(f"{line}\n" for line in printed))
    (checkout / "says").write_text("cat printed >&2; exit 125\n")

    code, lines = check(checkout)

    assert code == 125
    assert list(filter(None, lines[:-1])) == [line for line in printed if line.strip()]
    assert lines[-1].startswith("check: airflow-init's container ended with 125 before it checked anything")
    assert f"the last line of its message is: {last}. Mend what that names" in lines[-1]


def test_what_the_image_finds_is_told_in_its_own_words_only(checkout: Path) -> None:
    with_free_port(checkout)
    (checkout / "says").write_text("echo 'preflight: memory is too small: give it more.' >&2; exit 1\n")

    assert check(checkout) == (1, ["preflight: memory is too small: give it more."])
