"""Runs that are requested with a mistake: which reach Airflow, and what the others are answered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from tests.airflow.world import DAG_ID
from tidepool_airflow import middleware
from tidepool_airflow.middleware import MAX_BODY_BYTES, Message, RunParamsMiddleware

UPLOAD = "/api/v2/dags/tidepool_normal_upload/dagRuns"
CONTINUOUS = "/api/v2/dags/tidepool_continuous_upload/dagRuns"
RECONCILE = "/api/v2/dags/tidepool_reconcile/dagRuns"
BACKFILLS = "/api/v2/backfills"
WRONG_ORDER = {"first_day": "2026-03-02", "last_day": "2026-03-01"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """An application that returns what it was sent to those who may start runs, behind the middleware."""

    async def everybody_may(*_given: Any) -> bool:
        return True

    monkeypatch.setattr(middleware, "_may_start", everybody_may)
    application = FastAPI()

    @application.api_route("/{path:path}", methods=["POST", "PATCH"])
    async def echo(request: Request) -> dict[str, Any]:
        return {"body": (await request.body()).decode()}

    application.add_middleware(RunParamsMiddleware)
    return TestClient(application)


def refused(client: TestClient, path: str, body: object) -> str:
    response = client.post(path, json=body)
    assert response.status_code == 400
    return str(response.json()["detail"])


@pytest.mark.parametrize("path", [UPLOAD, CONTINUOUS, f"/behind/a/proxy{UPLOAD}"])
def test_days_in_the_wrong_order_are_rejected_with_what_to_change(client: TestClient, path: str) -> None:
    message = refused(client, path, {"logical_date": None, "conf": WRONG_ORDER})

    assert message == (
        "Days: the last day lies before the first day: exchange them. Correct them and trigger again."
    )


@pytest.mark.parametrize("path", [BACKFILLS, f"{BACKFILLS}/dry_run"])
def test_a_backfill_with_such_parameters_is_rejected_too(client: TestClient, path: str) -> None:
    body = {"dag_id": "tidepool_normal_upload", "dag_run_conf": WRONG_ORDER}

    assert "exchange them" in refused(client, path, body)


def test_a_parameter_is_named_as_the_form_and_the_api_name_it(client: TestClient) -> None:
    message = refused(client, UPLOAD, {"conf": {"max_quarantined_percent": 101, "first_day": "2026-02-30"}})

    assert "Rejected records allowed (%) (max_quarantined_percent): Input should be less than" in message
    assert "First day (first_day): Input should be a valid date" in message


def test_people_named_by_neither_id_nor_hash_are_rejected(client: TestClient) -> None:
    message = refused(client, UPLOAD, {"conf": {"users": ["canary-name"]}})

    assert message.startswith("Only these people (users): one of them is neither a short hash")
    assert "canary" not in message


@pytest.mark.parametrize(("path", "name"), [(UPLOAD, "frist_day"), (RECONCILE, "first_day")])
def test_one_that_does_not_exist_is_rejected_with_those_there_are(
    client: TestClient, path: str, name: str
) -> None:
    message = refused(client, path, {"conf": {name: "2026-03-02"}})

    assert f"do not exist: {name}. The valid ones are: " in message


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (UPLOAD, {"logical_date": None}),
        (UPLOAD, {"conf": None}),
        (UPLOAD, {"conf": "text"}),
        (UPLOAD, {"conf": {"first_day": "2026-03-01", "last_day": "2026-03-02", "users": None}}),
        (UPLOAD, ["no object"]),
        (f"{UPLOAD}/list", {"conf": WRONG_ORDER}),
        ("/api/v2/dags/somebody_elses/dagRuns", {"conf": WRONG_ORDER}),
        (BACKFILLS, {"dag_id": "somebody_elses", "dag_run_conf": WRONG_ORDER}),
        (BACKFILLS, {"dag_id": "tidepool_normal_upload", "dag_run_conf": None}),
        (BACKFILLS, {"dag_id": ["unhashable"], "dag_run_conf": WRONG_ORDER}),
    ],
)
def test_everything_else_reaches_airflow_as_it_was_sent(client: TestClient, path: str, body: object) -> None:
    sent = json.dumps(body)

    assert client.post(path, content=sent).json() == {"body": sent}


DEEP = '{"conf":' + "[" * 100_000
LONG = json.dumps({"conf": {**WRONG_ORDER, "users": ["u" * MAX_BODY_BYTES]}})


@pytest.mark.parametrize(
    "body", ["{", DEEP, LONG, '{"conf": {}, "conf": 5}'], ids=["no", "deep", "long", "twice"]
)
def test_what_cannot_be_checked_is_left_to_airflow(client: TestClient, body: str) -> None:
    assert client.post(UPLOAD, content=body).json() == {"body": body}


def test_a_client_that_goes_away_in_the_middle_is_not_taken_for_one_that_has_finished() -> None:
    sent: list[Message] = [
        {"type": "http.request", "body": json.dumps({"conf": WRONG_ORDER}).encode(), "more_body": True},
        {"type": "http.disconnect"},
    ]
    arrived: list[Message] = []

    async def application(scope: Message, receive: Any, send: Any) -> None:
        arrived.extend([await receive(), await receive()])

    coming = iter(sent)

    async def receive() -> Message:
        return next(coming)

    scope = {"type": "http", "method": "POST", "path": UPLOAD}
    asyncio.run(RunParamsMiddleware(application)(scope, receive, receive))  # type: ignore[arg-type]

    assert arrived == sent


def test_what_asks_for_no_run_is_left_to_airflow(client: TestClient) -> None:
    sent = json.dumps({"conf": WRONG_ORDER})
    assert client.patch(UPLOAD, content=sent).json() == {"body": sent}


def test_the_settings_of_the_deployment_do_not_matter_for_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_RETRIES", "three")

    assert "exchange them" in refused(client, UPLOAD, {"conf": WRONG_ORDER})


# ---------------------------------------------------------------- who is answered


def caller(api_server: Any, role: str) -> TestClient:
    """Return a client of Airflow's whole API server, signed in by a role, or not at all."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    client = TestClient(api_server)
    if role:
        user = SimpleAuthManagerUser(username=f"{role}-name", role=role.upper())
        client.headers["Authorization"] = f"Bearer {get_auth_manager().generate_jwt(user)}"
    return client


BACKFILL = {"dag_id": DAG_ID, "from_date": "2026-03-01", "to_date": "2026-03-02"}


@pytest.mark.parametrize(
    ("path", "wrong", "right"),
    [
        (UPLOAD, {"logical_date": None, "conf": WRONG_ORDER}, {"logical_date": None}),
        (f"{BACKFILLS}/dry_run", {**BACKFILL, "dag_run_conf": WRONG_ORDER}, BACKFILL),
    ],
    ids=["run", "backfill"],
)
def test_only_who_may_start_the_run_learns_what_is_wrong(
    api_server: Any, path: str, wrong: dict[str, Any], right: dict[str, Any]
) -> None:
    for role, status in (("", 401), ("viewer", 403)):
        client = caller(api_server, role)
        airflows, answer = (client.post(path, json=body) for body in (right, wrong))
        assert (answer.status_code, answer.json()) == (airflows.status_code, airflows.json())
        assert answer.status_code == status
    signed_in_wrongly = TestClient(api_server, headers={"Authorization": "Bearer canary"})
    assert signed_in_wrongly.post(path, json=wrong).status_code == 403
    assert "exchange them" in refused(caller(api_server, "user"), path, wrong)


def test_the_cookie_of_the_ui_signs_in_too(api_server: Any) -> None:
    token = caller(api_server, "user").headers["Authorization"].removeprefix("Bearer ")
    client = TestClient(api_server, cookies={"_token": token})

    assert "exchange them" in refused(client, UPLOAD, {"logical_date": None, "conf": WRONG_ORDER})


@pytest.mark.parametrize("role", ["", "viewer", "user"])
@pytest.mark.parametrize("path", [UPLOAD, BACKFILLS, "/api/v2/connections/test"])
def test_a_body_that_cannot_be_read_is_answered_by_airflow(api_server: Any, path: str, role: str) -> None:
    client = caller(api_server, role)
    for body in (DEEP.encode(), b"\xff"):
        response = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code == 400
        assert response.json() == {"detail": "There was an error parsing the body"}
