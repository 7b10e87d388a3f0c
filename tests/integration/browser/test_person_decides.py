"""Too many records of a batch are rejected, and a person decides about it in the browser."""

from __future__ import annotations

import time
from datetime import date

import pytest
from playwright.sync_api import expect

from tests.factories import meter_readings, stage
from tests.integration.browser.pages import RequiredActions, TriggerForm
from tests.integration.browser.runs import FIRST_RUN_SECONDS, new_run, run_ids, runs
from tests.integration.browser.stack import ADMIN, DAG_ID, Stack, Visitor, shoot
from tidepool_ingest.ledger import Upload

DEVICE = "to-decide-about"
DAY = date(2024, 4, 17)
"""A day folder of this test alone, so that nothing else is asked about."""


def spoilt(stack: Stack) -> Upload | None:
    """Return what the ledger knows of the batch in question."""
    return next((upload for upload in stack.uploads() if upload.folder.endswith(DEVICE)), None)


def has_left_the_executor(stack: Stack, run_id: str) -> bool:
    """Return whether Airflow's executor has reported the end of the process that asked.

    That may take seconds. A task that has been answered and queued by then counts as killed ("state
    mismatch"), and fails where it has no retry, as here.
    """
    log = (stack.airflow.logs / "scheduler.log").read_text(errors="replace")
    return any(
        "Received executor event" in line and run_id in line and "'batch.prepare'" in line
        for line in log.splitlines()
    )


def waits(stack: Stack, before: set[str]) -> str:
    """Return the run triggered since that waits for a person, once it does."""
    give_up = time.monotonic() + FIRST_RUN_SECONDS
    while True:
        for run_id in run_ids(stack) - before:
            path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?state=awaiting_input"
            if stack.api(path)["task_instances"] and has_left_the_executor(stack, run_id):
                return run_id
        stack.airflow.check()
        assert time.monotonic() < give_up, runs(stack)
        time.sleep(0.5)


@pytest.mark.usefixtures("connected")
def test_a_person_sees_the_counts_and_decides(stack: Stack, visit: Visitor) -> None:
    good = meter_readings(25, device=DEVICE, day=DAY)
    records = [*({**record, "units": "stones"} for record in good[:10]), *good[10:]]
    stage(stack.home.staging, records, day=DAY, batch=DEVICE, device=DEVICE)
    before = run_ids(stack)
    page = visit(ADMIN)
    form = TriggerForm(page, DAG_ID)
    form.field("first_day").fill(str(DAY))
    form.open("With care")
    form.choose("when_refused", "Ask a person")
    shoot(page, "trigger-ask")
    form.trigger()
    run_id = waits(stack, before)
    found = spoilt(stack)
    assert found is not None
    assert (found.state, found.reason) == ("held", "too-many-refused")

    actions = RequiredActions(page, DAG_ID, run_id)
    expect(page.get_by_text(f"{found.label}: upload it without 10 rejected records?").first).to_be_visible()
    expect(page.get_by_text("10 of 25 records (40.0 %) are rejected").first).to_be_visible()
    expect(page.get_by_role("cell", name="value-not-allowed").first).to_be_visible()
    shoot(page, "decision")
    actions.choose("Upload them, but stop if Tidepool rejects more")

    assert new_run(stack, before) == run_id
    decided = spoilt(stack)
    assert decided is not None
    assert (decided.state, decided.visible_rows, decided.quarantined) == ("verified", 15, 10)
