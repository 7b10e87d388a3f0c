"""A newcomer's way: create the connection, test it, try a dry run, upload, and see the result."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.factories import TODAY
from tests.integration.browser.pages import ConnectionsPage, TriggerForm
from tests.integration.browser.runs import new_run, run_ids
from tests.integration.browser.stack import ADMIN, CONN_ID, DAG_ID, VIEWER, Stack, Visitor, shoot
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET
from tidepool_simulator.sample import SAMPLE_USERS
from tidepool_simulator.sample.checker.check import check

DRY_RUN_USER, UPLOAD_USER = SAMPLE_USERS[1:]
"""Whose data these tests look at and upload. They fill no day in, as a newcomer does: all other tests stage
into day folders of long ago."""


def test_the_connection_is_made_in_the_form_and_tested(stack: Stack, visit: Visitor) -> None:
    # Another test may have needed it before; it is there again for those that come after.
    gone = stack.airflow.request("DELETE", f"/api/v2/connections/{CONN_ID}")
    assert gone.status_code in (204, 404), gone.text
    page = visit(ADMIN)
    connections = ConnectionsPage(page)
    form = connections.new(CONN_ID, "Tidepool")
    shoot(page, "connection-standard")
    assert [form.dialog.get_by_label(name).count() for name in ("Port", "Schema")] == [0, 0]
    form.fill(host=stack.roles["base_url"], login=CLIENT_ID, password=CLIENT_SECRET)
    assert form.dialog.locator("[name=password]").get_attribute("type") == "password"
    form.open_extra()

    offered = form.choices("environment")
    assert offered[0].startswith("production: ")
    assert offered[-1].startswith("none of these: ")
    assert len(form.choices("auth_mode")) == 6
    assert form.field("client_secret").get_attribute("type") == "password"
    form.field("client_name").fill("org.example.ingest")
    form.field("client_version").fill("1.0.0")
    shoot(page, "connection-extra")
    form.save()

    result = connections.test(CONN_ID)
    shoot(page, "connection-tested")
    assert "Test Connection Successful" in result
    assert re.search(r"as user [0-9a-f]{10}\. It may upload for itself", result)
    assert f"granted it uploading: {len(SAMPLE_USERS) + 1} " in result
    assert CLIENT_SECRET not in page.content()


def test_a_mistake_is_rejected_in_the_form_with_what_to_change(stack: Stack, visit: Visitor) -> None:
    before = run_ids(stack)
    page = visit(ADMIN)
    form = TriggerForm(page, DAG_ID)
    form.field("first_day").fill("2026-03-02")
    form.field("last_day").fill("2026-03-01")
    form.trigger()
    message = form.dialog.get_by_text("the last day lies before the first day: exchange them. Correct them")
    expect(message).to_be_visible()
    shoot(page, "trigger-mistake")

    form.field("last_day").fill("2026-03-03")
    form.open("With care")
    share = form.number("max_quarantined_percent")
    share.fill("500")
    share.press("Tab")
    expect(share).to_have_value("100")
    share.fill("")
    share.press("Tab")
    expect(form.dialog.get_by_text("This field is required")).to_be_visible()
    expect(form.dialog.get_by_role("button", name="Trigger").last).to_be_disabled()
    shoot(page, "trigger-number-missing")
    assert run_ids(stack) == before


def test_choices_are_drop_downs_whose_first_is_what_a_daily_run_takes(stack: Stack, visit: Visitor) -> None:
    form = TriggerForm(visit(ADMIN), DAG_ID)
    offered = {}
    for section, names in (
        ("With care", ["when_refused"]),
        ("How fast", ["chunk_records", "parallel_chunks"]),
    ):
        form.open(section)
        for name in names:
            offered[name] = form.choices(name)
            expect(form.field(name)).to_contain_text(offered[name][0])

    assert [choice.partition(":")[0] for choice in offered["when_refused"]] == [
        "Fail",
        "Ask a person, and wait for the answer",
    ]
    assert offered["chunk_records"][:2] == ["1,000, as Tidepool asks for", "500"]
    assert offered["parallel_chunks"] == [
        "As many as the deployment allows: 4", "1", "2", "3", "4"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"max_quarantined_percent": 101}, "Rejected records allowed (%) (max_quarantined_percent): Input"),
        ({"first_day": "2026-02-30"}, "First day (first_day): Input should be a valid date"),
        ({"frist_day": "2026-03-01"}, "parameters that do not exist: frist_day. The valid ones are: "),
        ({"chunk_records": 333}, "333 is not one of [1000, 500, "),
    ],
)
def test_the_api_rejects_the_same_mistakes(stack: Stack, conf: dict[str, object], message: str) -> None:
    before = run_ids(stack)
    body = {"logical_date": None, "conf": conf}
    response = stack.airflow.request("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)

    assert response.status_code == 400
    assert message in response.json()["detail"]
    assert run_ids(stack) == before


@pytest.mark.usefixtures("connected")
def test_a_dry_run_is_one_tick_and_its_result_can_be_read(stack: Stack, visit: Visitor) -> None:
    batches = stack.stage_sample(TODAY, DRY_RUN_USER)
    before = run_ids(stack)
    page = visit(ADMIN)
    form = TriggerForm(page, DAG_ID)
    form.tick("dry_run")
    shoot(page, "trigger-form")
    form.trigger()
    run_id = new_run(stack, before)

    page.goto(f"/dags/{DAG_ID}/runs/{run_id}/tasks/report")
    expect(page.get_by_text(f"records of {batches} batches would be sent in").first).to_be_visible()
    expect(page.get_by_text("rows would be new; 0 already there").first).to_be_visible()
    expect(page.get_by_text("It would archive 0 rows that it shows now").first).to_be_visible()
    shoot(page, "dry-run")
    page.get_by_role("button", name="to scroll to top").click()
    expect(page.get_by_text("what becomes of it").first).to_be_visible()
    shoot(page, "dry-run-records")
    looked_at = [session.data_set_id for session in stack.uploads() if session.user_id == DRY_RUN_USER]
    assert looked_at == [None] * batches


@pytest.mark.usefixtures("connected")
def test_a_run_from_the_form_is_followed_to_its_end(stack: Stack, visit: Visitor) -> None:
    batches = stack.stage_sample(TODAY, UPLOAD_USER)
    before = run_ids(stack)
    page = visit(ADMIN)
    TriggerForm(page, DAG_ID).trigger()
    run_id = new_run(stack, before)

    page.goto(f"/dags/{DAG_ID}/runs/{run_id}")
    expect(page.get_by_text("Success").first).to_be_visible()
    shoot(page, "run")
    result = check(stack.home.staging, stack.home.simulator_store, users=[UPLOAD_USER])
    found = [session for session in stack.uploads() if session.user_id == UPLOAD_USER]
    assert [upload.data_set_state for upload in found] == ["verified"] * batches
    assert result.ok
    assert sum(upload.visible_rows or 0 for upload in found) == result.visible


def test_a_viewer_may_look_and_not_trigger(stack: Stack, visit: Visitor) -> None:
    page = visit(VIEWER)
    page.goto(f"/dags/{DAG_ID}/runs")
    expect(page.get_by_role("table")).to_be_visible()

    response = page.request.post(f"/api/v2/dags/{DAG_ID}/dagRuns", data={"logical_date": None})
    assert response.status == 403
