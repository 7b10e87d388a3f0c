"""What needs attention is brought to nothing, as a person walks it: dismissed, reopened, retried, undone."""

from __future__ import annotations

import time
from datetime import date

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.factories import meter_readings, stage
from tests.integration.browser.axe import WIDTHS, look
from tests.integration.browser.stack import ADMIN, DAG_ID, Stack, Visitor
from tidepool_ingest.ledger import ActionKind, BatchState, Dismissal, Ledger, UploadFilter
from tidepool_simulator.sample import SAMPLE_USERS

PAGE = "/tidepool/uploads"
ACTION_DAG = "tidepool_action"
DAY = date(2024, 4, 2)
"""The day folder of these tests alone."""

HELD = ("walk held one", "walk held two", "walk held three", "walk held four")
GOOD = ("walk good one", "walk good two", "walk good three")
BESIDE = "walk beside"
ROWS = 3
RUN_SECONDS = 180
DONE = 120_000
"""Milliseconds that a run may take from being asked for to being seen on the page."""

REASON = "It cannot or will not be corrected"


@pytest.fixture(scope="module")
def of(stack: Stack, ledger: Ledger) -> dict[str, int]:
    """The batches of a run, three uploaded and four that a guard holds; one beside them is not taken."""
    stack.connect()
    for model in GOOD:
        stage_one(stack, model, 0)
    for model in HELD:
        stage_one(stack, model, 10)
    for dag_id in (DAG_ID, ACTION_DAG):
        stack.airflow.unpause(dag_id)
    run(stack, {"first_day": str(DAY)})
    stage_one(stack, BESIDE, 0)
    found = {model: ledger.uploads.page(UploadFilter(label=model))[0] for model in (*GOOD, *HELD)}
    assert {upload.state for upload in found.values()} == {BatchState.VERIFIED, BatchState.HELD}
    return {model: upload.batch for model, upload in found.items()}


@pytest.fixture(scope="module")
def ledger(stack: Stack) -> Ledger:
    opened = Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])
    opened.migrate()
    return opened


def stage_one(stack: Stack, model: str, refused: int) -> None:
    records = meter_readings(ROWS + refused, device=model, day=DAY)
    for record in records[ROWS:]:
        record["value"] = 77_777
    body = {"deviceId": model, "deviceModel": model, "deviceTags": ["bgm"]}
    user = SAMPLE_USERS[1]
    stage(stack.home.staging, records, day=DAY, batch=model.replace(" ", "-"), user=user, dataSet=body)


def run(stack: Stack, conf: dict[str, object]) -> str:
    """Trigger a run of the upload, wait for its end, and return its id."""
    response = stack.airflow.request(
        "POST", f"/api/v2/dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf}
    )
    assert response.ok, response.text
    wait_for(stack, response.json()["dag_run_id"])
    return str(response.json()["dag_run_id"])


def wait_for(stack: Stack, run_id: str) -> None:
    give_up = time.monotonic() + RUN_SECONDS
    while stack.api(f"/dags/{DAG_ID}/dagRuns/{run_id}")["state"] not in ("success", "failed"):
        stack.airflow.check()
        assert time.monotonic() < give_up
        time.sleep(0.5)


def bar_of(page: Page) -> Locator:
    return page.get_by_role("group", name="Chosen uploads")


def listed(page: Page, query: str) -> Locator:
    page.goto(f"{PAGE}/list?label=walk&{query}")
    return page.locator("table.uploads tbody tr")


def apart(danger: Locator, others: list[Locator]) -> bool:
    """Return whether a button stands away from all the others: by a gap, or in a line of its own."""
    one = danger.bounding_box()
    assert one is not None
    for other in others:
        box = other.bounding_box()
        assert box is not None
        gap = one["x"] - (box["x"] + box["width"])
        if abs(one["y"] - box["y"]) < one["height"] and abs(gap) < 24:
            return False
    return True


def test_one_is_dismissed_by_keyboard_and_no_run_takes_it_until_it_is_retried_alone(
    stack: Stack, ledger: Ledger, of: dict[str, int], visit: Visitor
) -> None:
    number = of[HELD[0]]
    page = visit(ADMIN)
    page.goto(f"{PAGE}/{number}")
    button = page.get_by_role("button", name="Dismiss…")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    look(page, "attention-upload-dismiss")
    # Without a reason, nothing is sent.
    dialog.get_by_role("button", name="Dismiss").press("Enter")
    expect(dialog).to_be_visible()
    assert ledger.actions.of_batch(number) == []
    dialog.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowDown")
    expect(dialog.get_by_label(REASON)).to_be_checked()
    page.keyboard.press("Enter")

    expect(page.get_by_role("status")).to_contain_text("Dismissed 1 upload. Reopen takes it back.")
    expect(page.locator("p.dismissed")).to_contain_text("it cannot or will not be corrected")
    expect(page.locator("p.dismissed")).to_contain_text(ADMIN.name)
    assert ledger.batches.get(number).dismissed is Dismissal.NOT_CORRECTED
    look(page, "attention-upload-dismissed")
    rows = listed(page, "waiting=True")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text=HELD[0])).to_have_count(0)

    before = ledger.batches.get(number)
    other = run(stack, {"batches": [of[HELD[1]]], "force": True})
    every = run(stack, {"first_day": str(DAY), "force": True, "users": [SAMPLE_USERS[0]]})
    assert ledger.batches.get(number) == before
    for run_id in (other, every):
        assert stack.api(f"/dags/{DAG_ID}/dagRuns/{run_id}")["state"] in ("success", "failed")

    page.goto(f"{PAGE}/{number}")
    page.get_by_role("button", name="Retry…").click()
    expect(dialog).to_contain_text("this upload alone")
    expect(dialog).to_contain_text("Somebody has dismissed it: that ends.")
    look(page, "attention-upload-retry")
    dialog.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status")).to_contain_text("A run takes this upload alone.")
    retried = next(a for a in ledger.actions.of_batch(number) if a.kind is ActionKind.RETRY)
    wait_for(stack, str(retried.run_id))
    plan = f"/dags/{DAG_ID}/dagRuns/{retried.run_id}/taskInstances/plan/xcomEntries/plan"
    assert "'batches': 1" in str(stack.api(plan)["value"]).replace('"', "'")
    assert not ledger.batches.get(number).is_decided
    assert ledger.uploads.page(UploadFilter(label=BESIDE)) == []


def test_several_are_chosen_and_dismissed_and_reopened(
    stack: Stack, ledger: Ledger, of: dict[str, int], visit: Visitor
) -> None:
    page = visit(ADMIN)
    rows = listed(page, "waiting=True")
    bar = bar_of(page)
    expect(bar).to_contain_text("None chosen")
    expect(bar.get_by_role("button")).to_have_count(0)
    chosen = rows.filter(has_text=HELD[2]), rows.filter(has_text=HELD[3])
    for row in chosen:
        row.get_by_role("checkbox").focus()
        page.keyboard.press("Space")
    expect(bar).to_contain_text("2 uploads chosen")
    expect(bar.get_by_role("button", name="Retry 2…")).to_be_enabled()
    expect(bar.get_by_role("button", name="Verify again 0…")).to_be_disabled()
    all_of_them = bar.get_by_role("checkbox", name="All on this page")
    assert all_of_them.evaluate("box => box.indeterminate")
    look(page, "attention-list-chosen")
    # What is chosen outlasts that the page is made anew.
    page.evaluate("() => document.querySelector('main').append(document.createElement('p'))")
    expect(bar).to_contain_text("2 uploads chosen")

    bar.get_by_role("button", name="Dismiss 2…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Dismiss: 2 uploads")
    look(page, "attention-list-dismiss")
    dialog.get_by_label(REASON).check()
    dialog.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("status")).to_contain_text("Dismissed 2 uploads.")
    for row in chosen:
        expect(row).to_have_count(0)
    expect(bar).to_contain_text("None chosen")

    rows = listed(page, "decided=True")
    expect(
        rows.filter(has_text="walk held t").or_(rows.filter(has_text="walk held f")).first
    ).to_contain_text(REASON)
    look(page, "attention-list-dismissed")
    bar.get_by_role("checkbox", name="All on this page").check()
    bar.get_by_role("button", name="Reopen").click()
    page.get_by_role("dialog").get_by_role("button", name="Reopen").click()
    expect(page.get_by_role("status")).to_contain_text("Reopened")
    assert not any(ledger.batches.get(of[model]).is_decided for model in HELD[2:])
    page.goto(f"{PAGE}/audit-log")
    expect(page.get_by_role("row").filter(has_text="Reopen").first).to_contain_text(ADMIN.name)
    look(page, "attention-audit-log")


def test_several_are_undone_after_one_question_with_counts(
    stack: Stack, ledger: Ledger, of: dict[str, int], visit: Visitor
) -> None:
    page = visit(ADMIN)
    rows = listed(page, "state=verified")
    for model in GOOD:
        rows.filter(has_text=model).get_by_role("checkbox").check()
    bar = bar_of(page)
    undo = bar.get_by_role("button", name="Undo 3…")
    others = [button for button in bar.get_by_role("button").all() if "Undo" not in button.inner_text()]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert apart(undo, others), width
    look(page, "attention-list-undo-chosen")
    undo.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"3 uploads with {3 * ROWS} rows disappear from Tidepool for good")
    cancel = dialog.get_by_role("button", name="Cancel")
    expect(cancel).to_be_focused()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert apart(cancel, [dialog.get_by_role("button", name="Undo them")]), width
    look(page, "attention-list-undo")
    dialog.get_by_role("button", name="Undo them").click()

    expect(page.get_by_role("status")).to_contain_text("A run undoes these 3 uploads, one after the other.")
    actions = [ledger.actions.of_batch(of[model])[0] for model in GOOD]
    assert {action.kind for action in actions} == {ActionKind.WITHDRAW}
    (run_id,) = {action.run_id for action in actions}
    give_up = time.monotonic() + RUN_SECONDS
    while stack.api(f"/dags/{ACTION_DAG}/dagRuns/{run_id}")["state"] not in ("success", "failed"):
        stack.airflow.check()
        assert time.monotonic() < give_up
        time.sleep(0.5)
    assert {ledger.batches.get(of[model]).state for model in GOOD} == {BatchState.WITHDRAWN}
