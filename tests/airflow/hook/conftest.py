"""Connections to the simulated Tidepool as Airflow gives them, and small helpers to use a hook."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from airflow.sdk import Connection

from tidepool_airflow.hook import TidepoolHook
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, PUBLIC_CLIENT_ID, Simulator

MODES = ("client_credentials", "refresh_token", "password", "login", "token")
RENEWING = [mode for mode in MODES if mode != "token"]
CONN_ID = "tidepool_default"
LIFETIME = 60.0
"""Seconds that a token lives where several processes or hooks renew it in turn, by a clock of the test's."""
CANARY = "canary-in-a-wrong-place"
BODY = {"deviceId": "canary-device", "deviceModel": "Meter", "deviceTags": ["bgm"]}


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Iterator[Simulator]:
    yield shared_simulator
    shared_simulator.faults.clear()


@pytest.fixture
def ledger_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of the test's own, behind the connection `tidepool_ledger`."""
    path = tmp_path / "ledger.db"
    connection = {"conn_type": "sqlite", "host": str(path)}
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", json.dumps(connection))
    return path


Connect = Callable[..., TidepoolHook]


@pytest.fixture
def connect(ledger_file: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Write a connection into the environment, and return the hook behind it."""

    def made(connection: dict[str, Any], *, as_uri: bool = False, conn_id: str = CONN_ID) -> TidepoolHook:
        written = json.dumps(connection)
        if as_uri:
            written = Connection.from_json(written, conn_id=conn_id).get_uri()
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", written)
        return TidepoolHook(conn_id)

    return made


def refresh_token(simulator: Simulator) -> str:
    """Sign the uploader in, as a person does once."""
    account = simulator.accounts["uploader"]
    auth = requests.get(f"{simulator.base_url}/info", timeout=5).json()["auth"]
    url = f"{auth['url']}/realms/{auth['realm']}/protocol/openid-connect/token"
    form = {
        "grant_type": "password",
        "client_id": PUBLIC_CLIENT_ID,
        "username": account.username,
        "password": account.password,
    }
    return str(requests.post(url, data=form, timeout=5).json()["refresh_token"])


def connection(simulator: Simulator, mode: str, **extra: Any) -> dict[str, Any]:
    """Return an Airflow connection to the simulator in one of the auth modes."""
    account = simulator.accounts["uploader"]
    login, password, extra_fields = {
        "client_credentials": lambda: (CLIENT_ID, CLIENT_SECRET, {}),
        "refresh_token": lambda: (PUBLIC_CLIENT_ID, refresh_token(simulator), {}),
        "password": lambda: (account.username, account.password, {"client_id": PUBLIC_CLIENT_ID}),
        "login": lambda: (account.username, account.password, {}),
        "token": lambda: ("", account.token, {}),
    }[mode]()
    return {
        "conn_type": "tidepool",
        "host": simulator.base_url,
        "login": login,
        "password": password,
        "extra": {
            "auth_mode": mode,
            "client_name": "org.example.ingest",
            "client_version": "1.2.3",
            **extra_fields,
            **extra,
        },
    }


def readings(count: int, first: int = 0) -> bytes:
    return json.dumps(
        [
            {
                "type": "smbg",
                "time": f"2026-01-01T{number // 60:02}:{number % 60:02}:00Z",
                "deviceId": BODY["deviceId"],
                "units": "mmol/L",
                "value": 5.5,
            }
            for number in range(first, first + count)
        ]
    ).encode()


def visible(hook: TidepoolHook, user: str, data_set_id: str) -> int:
    return sum(record["type"] != "upload" for record in hook.read_data(user, data_set_id=data_set_id))


def uploaded(hook: TidepoolHook, user: str) -> int:
    """Take a data set through its life, and return how many records became visible."""
    data_set = hook.open_data_set(user, BODY)
    hook.upload_data(data_set.data_set_id, readings(3))
    hook.close_data_set(data_set.data_set_id)
    return visible(hook, user, data_set.data_set_id)
