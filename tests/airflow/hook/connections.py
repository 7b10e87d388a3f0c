"""Connections to the simulated Tidepool as Airflow gives them, and small helpers to use a hook."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.factories import refresh_token
from tidepool_airflow.hook import TidepoolHook
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, PUBLIC_CLIENT_ID, Simulator

MODES = ("client_credentials", "refresh_token", "password", "login", "token")


RENEWING = [mode for mode in MODES if mode != "token"]


CONN_ID = "tidepool_default"


LIFETIME = 60.0
"""Seconds that a token lives where several processes or hooks renew it in turn, by a clock of the test's."""


CANARY = "canary-in-a-wrong-place"


BODY = {"deviceId": "canary-device", "deviceModel": "Meter", "deviceTags": ["bgm"]}


Connect = Callable[..., TidepoolHook]


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
