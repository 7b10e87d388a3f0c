"""The button Test sends port 0 for a connection that has none: what of it reaches Airflow's API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from tidepool_airflow.middleware import CONNECTION_TEST_PATH, MAX_BODY_BYTES, ConnectionTestWorkaround

ASKED = {
    "conn_type": "tidepool",
    "connection_id": "tidepool_default",
    "host": "h",
    "port": 0,
    "password": "é",
}


@pytest.fixture
def client() -> TestClient:
    """An application that returns what it was sent, behind the middleware as Airflow puts it."""
    application = FastAPI()

    @application.post("/{path:path}")
    async def echo(request: Request) -> dict[str, Any]:
        body = await request.body()
        return {"body": body.decode(), "length": int(request.headers["content-length"]), "bytes": len(body)}

    application.add_middleware(ConnectionTestWorkaround)
    return TestClient(application)


def arrived(client: TestClient, path: str, body: bytes) -> str:
    echoed: dict[str, Any] = client.post(path, content=body).json()
    assert echoed["length"] == echoed["bytes"]
    return str(echoed["body"])


@pytest.mark.parametrize("path", [CONNECTION_TEST_PATH, f"/behind/a/proxy{CONNECTION_TEST_PATH}"])
def test_port_0_of_a_tidepool_connection_is_none(client: TestClient, path: str) -> None:
    expected = {name: value for name, value in ASKED.items() if name != "port"}

    assert json.loads(arrived(client, path, json.dumps(ASKED).encode())) == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CONNECTION_TEST_PATH, json.dumps({**ASKED, "port": 8443})),
        (CONNECTION_TEST_PATH, json.dumps({**ASKED, "port": None})),
        (CONNECTION_TEST_PATH, json.dumps({**ASKED, "conn_type": "postgres"})),
        (CONNECTION_TEST_PATH, json.dumps([ASKED])),
        (CONNECTION_TEST_PATH, "no json"),
        pytest.param(CONNECTION_TEST_PATH, '{"port": 0, "extra":' + "[" * 100_000, id="deep"),
        pytest.param(
            CONNECTION_TEST_PATH, json.dumps({**ASKED, "description": "d" * MAX_BODY_BYTES}), id="long"
        ),
        (CONNECTION_TEST_PATH, ""),
        ("/api/v2/connections", json.dumps(ASKED)),
    ],
)
def test_everything_else_arrives_as_it_was_sent(client: TestClient, path: str, body: str) -> None:
    assert arrived(client, path, body.encode()) == body
