"""An operator's day, walked as a whole: from a glance at what is red to a glance at which nothing is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.factories import TODAY, meter_readings, stage
from tests.integration.browser.axe import look
from tests.integration.browser.runs import DONE, PAGE, REFUSED_VALUE, opened_overview, slowly, start, wait_for
from tests.integration.browser.stack import ADMIN, DAG_ID, Stack, Visitor, shoot
from tidepool_ingest.ledger import ActionKind, Dismissal, Ledger
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.sample import SAMPLE_USERS

USER = SAMPLE_USERS[1]
DAY = TODAY - timedelta(days=60)
"""A day folder of this test alone, and of no week around which another test has one."""

GOOD, HELD, BROKEN = "day good", "day held", "day broken"
SLOW_SECONDS = 15.0
"""How long Tidepool takes for each of three requests: a page on a busy machine is to see them."""
WRONG = b'{\n  "userId": "anna 4711"\n  "files": []}'
OVERVIEW = f"{PAGE}/?weeks=2&last_day={DAY}&hash={short_hash(USER)}"
OF_THE_DAY = f"first_day={DAY}&last_day={DAY}"
REASON = "It cannot or will not be corrected"


@pytest.fixture(scope="module")
def correct(stack: Stack) -> Callable[[], object]:
    """A batch whose manifest cannot be read, and what corrects it; a good one, and one that a guard holds."""
    stack.connect()
    for model, refused in ((GOOD, 0), (HELD, 10), (BROKEN, 0)):
        records = meter_readings(2_500 if model == BROKEN else 3 + refused, device=model, day=DAY)
        for record in records[:refused]:
            record["value"] = REFUSED_VALUE
        body = {"deviceId": model, "deviceModel": model, "deviceTags": ["bgm"]}
        folder = stage(
            stack.home.staging, records, day=DAY, batch=model.replace(" ", "-"), user=USER, dataSet=body
        )
    manifest = folder / "manifest.json"
    right = manifest.read_bytes()
    manifest.write_bytes(WRONG)
    for dag_id in (DAG_ID, "tidepool_action"):
        stack.airflow.unpause(dag_id)
    wait_for(stack, start(stack, first_day=str(DAY), last_day=str(DAY)))
    return lambda: manifest.write_bytes(right)


def cells(page: Page, *states: str) -> Locator:
    """Return the days of these states in the overview."""
    shapes = ", ".join(f"use[href='#day-{state}']" for state in states)
    return page.locator(".device-days a").filter(has=page.locator(shapes))


def test_an_operators_day(stack: Stack, correct: Callable[[], object], visit: Visitor) -> None:
    page = visit(ADMIN)
    page.set_viewport_size({"width": 1400, "height": 900})
    opened_overview(page)
    shoot(page, "day-in-airflow")
    page.goto(OVERVIEW)
    expect(cells(page, "held")).to_have_count(1)
    look(page, "day-overview")

    # From what is red to its cause.
    cells(page, "failed").click()
    rows = page.locator("table.uploads tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("Failed")
    look(page, "day-list")
    rows.get_by_role("link").first.click()
    expect(page.locator("div.notice")).to_contain_text("Here: it is not JSON (line 3, column 3).")
    expect(page.locator("div.notice").get_by_role("link", name=DAG_ID)).to_be_visible()
    failed = page.url
    look(page, "day-cause")

    # What is not to be corrected is dismissed, and stays so whatever run comes.
    page.goto(f"{PAGE}/list?waiting=True&{OF_THE_DAY}")
    expect(rows).to_have_count(2)
    look(page, "day-waiting")
    rows.filter(has_text=HELD).get_by_role("link").first.click()
    # The list has such a button too, which asks about those that are chosen.
    expect(page.get_by_role("heading", level=1)).to_contain_text(HELD)
    page.get_by_role("button", name="Dismiss…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label(REASON).check()
    look(page, "day-dismiss")
    dialog.get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("status")).to_contain_text("Dismissed 1 upload. Reopen takes it back.")
    expect(page.locator("p.dismissed")).to_contain_text("it cannot or will not be corrected")
    look(page, "day-dismissed")
    number = int(page.url.rsplit("/", 1)[-1])
    with closing(Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])) as ledger:
        before = ledger.batches.get(number)
        wait_for(stack, start(stack, first_day=str(DAY), last_day=str(DAY), force=True))
        assert ledger.batches.get(number) == before
        assert before.dismissed is Dismissal.NOT_CORRECTED

    # What has been corrected is taken alone, and seen to come through.
    correct()
    listed = page.context.new_page()
    listed.set_viewport_size({"width": 1400, "height": 900})
    glance = page.context.new_page()
    with slowly(stack, SLOW_SECONDS):
        page.goto(failed)
        page.get_by_role("button", name="Retry…").click()
        expect(dialog).to_contain_text("this upload alone")
        look(page, "day-retry")
        dialog.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status")).to_contain_text("A run takes this upload alone.")
        listed.goto(f"{PAGE}/list?{OF_THE_DAY}")
        glance.goto(OVERVIEW)
        expect(listed.locator("[data-freshness]").first).to_contain_text("updates by itself")
        corrected = listed.get_by_role("row").filter(has_text=BROKEN)
        expect(corrected.locator(".badge")).to_have_text("Uploading", timeout=DONE)
        look(listed, "day-at-work")
    # Nobody loads any of the three again.
    expect(corrected.locator(".badge")).to_have_text("Verified", timeout=DONE)
    expect(listed.locator("[data-freshness]").first).not_to_contain_text("updates by itself", timeout=DONE)
    expect(cells(glance, "failed", "held", "in-progress")).to_have_count(0)
    expect(cells(glance, "verified")).to_have_count(2)
    look(page, "day-forerunner")
    with closing(Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])) as ledger:
        (retry,) = [one for one in ledger.actions.newest() if one.kind is ActionKind.RETRY][:1]
    assert retry.batch == int(failed.rsplit("/", 1)[-1])

    page.goto(f"{PAGE}/list?waiting=True&{OF_THE_DAY}")
    expect(rows).to_have_count(0)
    look(page, "day-nothing-waits")
    page.goto(OVERVIEW)
    expect(cells(page, "failed", "held", "partly")).to_have_count(0)
    look(page, "day-over")
