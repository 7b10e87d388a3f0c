"""Runs that are requested with a mistake: which reach Airflow, and what the others are answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from tidepool_airflow.middleware import RunParamsMiddleware

UPLOAD = "/api/v2/dags/tidepool_normal_upload/dagRuns"
CONTINUOUS = "/api/v2/dags/tidepool_continuous_upload/dagRuns"
RECONCILE = "/api/v2/dags/tidepool_reconcile/dagRuns"
BACKFILLS = "/api/v2/backfills"
WRONG_ORDER = {"first_day": "2026-03-02", "last_day": "2026-03-01"}


@pytest.fixture
def client() -> TestClient:
    """An application that returns what it was sent, behind the middleware as Airflow puts it."""
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


def test_what_is_no_json_and_what_asks_for_no_run_is_left_to_airflow(client: TestClient) -> None:
    assert client.post(UPLOAD, content="{").json() == {"body": "{"}
    sent = json.dumps({"conf": WRONG_ORDER})
    assert client.patch(UPLOAD, content=sent).json() == {"body": sent}


def test_the_settings_of_the_deployment_do_not_matter_for_it(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_RETRIES", "three")

    assert "exchange them" in refused(client, UPLOAD, {"conf": WRONG_ORDER})
