"""A backfill made in Airflow's form takes each day of its range once."""

from __future__ import annotations

import time
from datetime import date, timedelta

import pytest
from playwright.sync_api import expect

from tests.factories import meter_readings, stage
from tests.integration.browser.pages import BackfillForm
from tests.integration.browser.runs import FIRST_RUN_SECONDS, runs
from tests.integration.browser.stack import ADMIN, DAG_ID, Stack, Visitor, shoot

FIRST = date(2024, 2, 28)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]


def ended(stack: Stack) -> dict[str, str]:
    """Return how each of the backfill's runs has ended, once all have."""
    give_up = time.monotonic() + FIRST_RUN_SECONDS
    while True:
        found = {
            run["dag_run_id"]: run["state"]
            for run in runs(stack)
            if run["run_type"] == "backfill" and date.fromisoformat(run["data_interval_start"][:10]) in DAYS
        }
        if len(found) == len(DAYS) and not {"queued", "running"} & set(found.values()):
            return found
        stack.airflow.check()
        assert time.monotonic() < give_up, found
        time.sleep(0.5)


@pytest.mark.usefixtures("connected")
def test_a_backfill_from_the_form_uploads_each_day_once(stack: Stack, visit: Visitor) -> None:
    for day in DAYS:
        records = meter_readings(4, day=day, device="years-ago")
        stage(stack.home.staging, records, day=day, batch=f"years-ago-{day}", device="years-ago")
    page = visit(ADMIN)
    form = BackfillForm(page, DAG_ID)
    form.dates(DAYS[0], DAYS[-1] + timedelta(days=1))
    expect(form.dialog.get_by_text(f"{len(DAYS)} runs will be triggered.")).to_be_visible()
    shoot(page, "backfill-form")
    form.run()

    assert set(ended(stack).values()) == {"success"}
    found = {session.day: session for session in stack.uploads() if session.day in DAYS}
    assert found.keys() == set(DAYS)
    assert {(upload.data_set_state, upload.visible_rows) for upload in found.values()} == {("verified", 4)}
