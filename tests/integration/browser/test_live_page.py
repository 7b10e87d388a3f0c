"""The uploads page while runs are at work: it moves by itself, asks seldom, and leaves its reader alone."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.factories import meter_readings, stage
from tests.integration.browser.axe import WIDTHS, axe_script, grave_problems
from tests.integration.browser.runs import (
    DONE,
    PAGE,
    PHONE,
    REFUSED_VALUE,
    Asked,
    opened,
    own,
    slowly,
    start,
    wait_for,
)
from tests.integration.browser.stack import ADMIN, DAG_ID, SCREENSHOTS, VIEWER, Stack, Visitor, shoot
from tidepool_airflow.uploads_page.html import NOTHING
from tidepool_ingest.ledger import BatchState, Ledger, Upload, UploadFilter, lease_of_batch
from tidepool_simulator.sample import SAMPLE_USERS

USER = SAMPLE_USERS[1]
DAY = date(2024, 8, 1)
"""The first of these tests' own day folders."""

GOOD, TO_UNDO, SPOILT, SLOW = MODELS = ("kept meter", "undone meter", "spoilt meter", "slow meter")
"""Models of devices, each with one batch on a day of its own."""

DAYS = {model: DAY + timedelta(days=number) for number, model in enumerate(MODELS)}

CHUNKS, RECORDS_A_CHUNK = 10, 100


STILL_SECONDS = 9.0
"""A page that asks nothing for so long is still."""

NO_ANIMATION = "() => document.getAnimations().length"


@pytest.fixture(scope="module")
def ledger(stack: Stack) -> Iterator[Ledger]:
    """The ledger after a run over these tests' own batches, but the slow one."""
    stack.connect()
    for model in (GOOD, TO_UNDO):
        stage_one(stack, model, 3)
    stage_one(stack, SPOILT, 11, refused=10)
    for dag_id in (DAG_ID, "tidepool_action"):
        stack.airflow.unpause(dag_id)
    wait_for(stack, start(stack, first_day=str(DAY), last_day=str(DAYS[SPOILT])))
    with closing(Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])) as opened_ledger:
        opened_ledger.migrate()
        yield opened_ledger


def stage_one(stack: Stack, model: str, records: int, *, refused: int = 0) -> None:
    """Stage the one batch of a device."""
    made = meter_readings(records, device=model, day=DAYS[model])
    for record in made[:refused]:
        record["value"] = REFUSED_VALUE
    body = {"deviceId": model, "deviceModel": model, "deviceTags": ["bgm"]}
    batch = model.replace(" ", "-")
    stage(stack.home.staging, made, user=USER, day=DAYS[model], batch=batch, dataSet=body)


def stored(progress: Locator) -> int:
    return int(progress.inner_text().split()[0].replace(NOTHING, "0"))


def freshness(page: Page) -> Locator:
    return page.locator("[data-freshness]").first


@contextmanager
def moving(ledger: Ledger, upload: Upload) -> Iterator[None]:
    """Let a page find that a task is at work on an upload."""
    with ledger.leases.held(lease_of_batch(upload.batch), seconds=300):
        yield


def test_progress_moves_until_the_run_ends_and_nothing_is_taken_from_the_reader(
    stack: Stack, ledger: Ledger, visit: Visitor
) -> None:
    stage_one(stack, SLOW, CHUNKS * RECORDS_A_CHUNK)
    listed = visit(ADMIN)
    detail = listed.context.new_page()
    asked, asked_by_detail = Asked(listed), Asked(detail)
    listed.set_viewport_size({"width": 1280, "height": 320})
    with slowly(stack):
        run_id = start(stack, first_day=str(DAYS[SLOW]), chunk_records=RECORDS_A_CHUNK, parallel_chunks=1)
        listed.goto(f"{PAGE}/list")
        expect(freshness(listed)).to_contain_text("updates by itself while a run is at work")
        typed = listed.get_by_label("Label or hash")
        typed.fill("being typed")
        listed.locator("select[name=state]").select_option("held")
        typed.focus()
        row = listed.get_by_role("row").filter(has_text=SLOW)
        expect(row).to_have_count(1)  # nobody has loaded the page again
        expect(row.locator(".progress")).to_be_visible()
        upload = ledger.uploads.page(UploadFilter(label=SLOW))[0]
        expect(row.locator(".badge")).to_have_text("Uploading")
        listed.evaluate("() => scrollTo(0, 60)")
        assert listed.evaluate("() => scrollY") == 60

        detail.goto(f"{PAGE}/{upload.batch}")
        detail.get_by_role("button", name="Undo…").click()
        dialog = detail.get_by_role("dialog")
        behind = detail.locator("dl.facts div").filter(has_text="Requests stored").locator("dd")
        seen, seen_behind = {stored(row.locator(".progress"))}, {stored(behind)}
        give_up = time.monotonic() + DONE / 1000
        while row.locator(".badge").inner_text() != "Verified" and time.monotonic() < give_up:
            seen.add(stored(row.locator(".progress")))
            seen_behind.add(stored(behind))
            if len(seen) == 3:
                shoot(listed, "live-list")
                shoot(detail, "live-behind-dialog")
            listed.wait_for_timeout(300)
    wait_for(stack, run_id)

    assert len(seen) >= 4, seen
    assert len(seen_behind) >= 3, seen_behind
    expect(typed).to_have_value("being typed")
    expect(typed).to_be_focused()
    expect(listed.locator("select[name=state]")).to_have_value("held")
    assert listed.evaluate("() => scrollY") == 60
    expect(freshness(listed)).not_to_contain_text("updates by itself")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    expect(freshness(detail)).not_to_contain_text("updates by itself")
    expect(detail.locator(".title .badge")).to_have_text("Verified")
    dialog.get_by_role("button", name="Cancel").click()
    expect(detail.get_by_role("button", name="Verify again…")).to_be_visible()
    expect(detail.get_by_role("button", name="Retry…")).to_have_count(0)
    assert detail.locator("#heard").inner_text().startswith("State: Verified")
    assert listed.evaluate(NO_ANIMATION) == 0

    # Nothing moves any more: nobody asks.
    listed.wait_for_timeout(3_000)
    before = len(asked.requests), len(asked_by_detail.requests)
    listed.wait_for_timeout(STILL_SECONDS * 1000)
    assert (len(asked.requests), len(asked_by_detail.requests)) == before
    # The reader comes back, and then clicks several times.
    for event in ("focus", "focus"):
        listed.evaluate("event => dispatchEvent(new Event(event))", event)
    listed.wait_for_timeout(3_000)
    assert len(asked.requests) == before[0] + 1
    listed.get_by_role("link", name="Refresh").evaluate(
        "link => { for (let i = 0; i < 5; i++) link.click(); }"
    )
    listed.wait_for_timeout(5_000)
    assert len(asked.requests) == before[0] + 2
    asked.check()
    asked_by_detail.check()


def test_what_became_of_a_request_is_shown_and_outlives_a_reload(
    stack: Stack, ledger: Ledger, visit: Visitor
) -> None:
    page = visit(ADMIN)
    asked = Asked(page)
    started, alone = "Started.", "A run takes this upload alone."
    for model, state, button, confirm, said, result in (
        (GOOD, BatchState.VERIFIED, "Verify again…", "Verify again", started, "3 rows visible, 0"),
        (TO_UNDO, BatchState.VERIFIED, "Undo…", "Undo this upload", started, "Undone: 1 data set deleted."),
        (SPOILT, BatchState.HELD, "Retry…", "Retry", alone, "Retry: held again (too-many-refused)."),
    ):  # fmt: skip
        page.goto(f"{PAGE}/{own(ledger, model, state).batch}")
        asked.requests.clear()
        page.get_by_role("button", name=button).click()
        page.get_by_role("dialog").get_by_role("button", name=confirm).dblclick()
        expect(page.get_by_role("status")).to_contain_text(f"{said} Follow the run")
        outcome = page.locator("#outcomes")
        # Its run may be over before the page has looked again.
        expect(outcome).to_contain_text(re.compile("Follow the run|The run"), timeout=DONE)
        expect(page.get_by_role("status")).to_have_count(0)
        shoot(page, f"live-{confirm.split()[0].lower()}-in-progress")
        expect(outcome).to_contain_text(result, timeout=DONE)
        expect(outcome.get_by_role("link", name="The run")).to_be_visible()
        asked.check()
        assert sum(request.method == "POST" for request in asked.requests) == 1
        page.reload()
        expect(outcome).to_contain_text(result)
        shoot(page, f"live-{confirm.split()[0].lower()}-done")
    page.goto(f"{PAGE}/list")
    expect(page.locator("#outcomes p")).to_have_count(3)


def test_an_ill_server_is_asked_ever_less_often(ledger: Ledger, visit: Visitor) -> None:
    upload = own(ledger, GOOD, BatchState.VERIFIED)
    page = visit(VIEWER)
    with moving(ledger, upload):
        page.goto(f"{PAGE}/{upload.batch}")
        asked = Asked(page)

        def ill(route: Route) -> None:
            route.fulfill(status=503, body="busy")

        page.route(f"**{PAGE}/{upload.batch}", ill)
        expect(freshness(page)).to_contain_text("the server answers 503. Next try in 4 s.")
        expect(freshness(page)).to_contain_text("the server answers 503. Next try in 8 s.")
        expect(freshness(page)).to_contain_text("the server answers 503. Next try in 16 s.")
        shoot(page, "live-ill-server")
        assert [round(gap) for gap in asked.gaps()[:2]] == [4, 8]
        page.unroute(f"**{PAGE}/{upload.batch}", ill)
        page.get_by_role("link", name="Refresh").click()
        expect(freshness(page)).to_contain_text("updates by itself")

        def slow(route: Route) -> None:
            time.sleep(3)
            route.continue_()

        asked.requests.clear()
        page.route(f"**{PAGE}/{upload.batch}", slow)
        page.wait_for_timeout(20_000)
        page.unroute(f"**{PAGE}/{upload.batch}", slow)
        assert len(asked.requests) >= 2
        asked.check()
        assert min(asked.gaps()) >= 6
        page.context.clear_cookies()
        expect(freshness(page)).to_contain_text("you have been signed out")
        ended = len(asked.requests)
        page.wait_for_timeout(STILL_SECONDS * 1000)
        assert len(asked.requests) == ended


PATCHED = """async path => {
  const { patch } = await import(path);
  const row = (number, text) => `<tr><td><input type="checkbox" name="batch" value="${number}"></td>
    <th><a href="/${number}">${number}</a></th><td>${text}</td></tr>`;
  const made = rows => Object.assign(document.createElement("main"), { innerHTML:
    `<div class="notice held">${rows.length}</div><div class="buttons"><button>One</button></div>
     <table><tbody>${rows.map(each => row(...each)).join("")}</tbody></table>
     <details><summary>More</summary>x</details>` });
  const page = made([[1, "a"], [2, "b"], [3, "c"]]);
  document.body.append(page);
  const box = value => page.querySelector(`[value="${value}"]`);
  box(2).checked = true;
  box(3).checked = true;
  box(3).focus();
  page.querySelector("details").open = true;
  const button = page.querySelector("button");
  const wanted = made([[4, "new"], [3, "c"], [2, "changed"]]);
  wanted.querySelector(".notice").remove();
  const isWhole = patch(page, wanted);
  return {
    isWhole,
    rows: [...page.querySelectorAll("tr")].map(each => each.innerText.replace(/\\s+/g, " ").trim()),
    checked: [...page.querySelectorAll("input:checked")].map(each => each.value),
    focused: document.activeElement.value,
    open: page.querySelector("details").open,
    isSameButton: button === page.querySelector("button"),
    notices: page.querySelectorAll(".notice").length,
  };
}"""


def test_what_is_chosen_stays_with_its_row(ledger: Ledger, visit: Visitor) -> None:
    page = visit(VIEWER)
    page.goto(f"{PAGE}/list")

    assert page.evaluate(PATCHED, f"{PAGE}/static/patch.js") == {
        "isWhole": True,
        "rows": ["4 new", "3 c", "2 changed"],
        "checked": ["3", "2"],
        "focused": "3",
        "open": True,
        "isSameButton": True,
        "notices": 0,
    }


TILES = """() => [...document.querySelectorAll("dl.facts")].map(facts => {
  const rows = new Map();
  for (const tile of facts.children) {
    const top = Math.round(tile.getBoundingClientRect().top);
    rows.set(top, (rows.get(top) ?? 0) + 1);
  }
  return [...new Set(rows.values())].length;
})"""
"""How many different lengths the rows of the facts have: one, unless the last row is shorter."""


def test_every_page_is_whole_at_every_width_in_both_themes(ledger: Ledger, visit: Visitor) -> None:
    axe = axe_script()
    held, good = (own(ledger, *each) for each in ((SPOILT, BatchState.HELD), (GOOD, BatchState.VERIFIED)))
    undone = ledger.uploads.page(UploadFilter(label=TO_UNDO))[0]
    page = visit(ADMIN)
    pages = {
        "list": "/list",
        "list-filtered": "/list?state=held",
        "waiting": "/list?waiting=True",
        "inactive": "/inactive",
        "audit-log": "/audit-log",
        "good": f"/{good.batch}",
        "held": f"/{held.batch}",
        "undone": f"/{undone.batch}",
    }
    problems = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for name, path in pages.items():
                page.goto(f"{PAGE}{path}")
                where = f"{name}-{scheme}-{width}"
                expect(page.get_by_role("heading", level=1)).to_be_visible()
                if page.evaluate("() => document.documentElement.scrollWidth") > width:
                    problems.append(f"{where} is wider than its window")
                if set(page.evaluate(TILES)) - {1}:
                    problems.append(f"{where}: a tile stands alone in its row")
                problems += [f"{where}: {found}" for found in grave_problems(page, axe)]
                shoot(page, f"live-{where}")
            page.goto(f"{PAGE}/{good.batch}")
            page.get_by_role("button", name="Undo…").click()
            undo, cancel = (
                page.get_by_role("dialog").get_by_role("button", name=name).bounding_box()
                for name in ("Undo this upload", "Cancel")
            )
            assert undo is not None
            assert cancel is not None
            if cancel["x"] - undo["x"] - undo["width"] < 40:
                problems.append(f"Cancel is next to Undo at {width}")
            problems += [f"dialog-{scheme}-{width}: {found}" for found in grave_problems(page, axe)]
            shoot(page, f"live-dialog-{scheme}-{width}")
    assert not problems, "\n".join(problems)


def test_the_filter_is_folded_on_a_phone_only(ledger: Ledger, visit: Visitor) -> None:
    page = visit(VIEWER)
    page.goto(f"{PAGE}/list")
    field = page.get_by_label("Label or hash")
    expect(field).to_be_visible()
    expect(page.get_by_text("Filter", exact=True).locator("visible=true")).to_have_count(1)  # the button
    page.set_viewport_size(PHONE)
    expect(field).to_be_hidden()
    page.locator("summary").first.click()
    expect(field).to_be_visible()
    page.goto(f"{PAGE}/list?state=held")
    expect(page.get_by_text("Filter (1 set)")).to_be_visible()
    expect(field).to_be_visible()


def test_airflows_navigation_names_it_uncut(ledger: Ledger, visit: Visitor) -> None:
    page = visit(VIEWER)
    label = page.get_by_role("link", name="Uploads", exact=True).first
    assert label.evaluate(
        "link => [link, ...link.querySelectorAll('*')].every(each => each.scrollWidth <= each.clientWidth || "
        "getComputedStyle(each).display === 'inline')"
    )
    label.screenshot(path=SCREENSHOTS / "live-navigation.png")
    opened(page)
    shoot(page, "live-in-airflow")
