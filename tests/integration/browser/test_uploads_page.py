"""The uploads page in Airflow's navigation, compared with the ledger, and what people do on it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.factories import TODAY, days_since, meter_readings, stage
from tests.integration.browser.axe import WIDTHS
from tests.integration.browser.runs import DONE, PAGE, PHONE, REFUSED, REFUSED_VALUE, opened, own, wait_for
from tests.integration.browser.stack import ADMIN, DAG_ID, VIEWER, Stack, Visitor, shoot
from tidepool_airflow.uploads_page.html import NOTHING
from tidepool_ingest.coverage import hours_of_text
from tidepool_ingest.ledger import ActionKind, ActionStatus, BatchState, Ledger, Upload, UploadFilter
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import InactiveDevice, inactive_devices
from tidepool_simulator.sample import SAMPLE_USERS, vendor_files
from tidepool_simulator.sample.vendor_files import VendorFile

SHOWS_FOCUS = """() => {
  const focused = document.activeElement;
  // The button within a date field shows its focus by itself, and the field is not the one that has it.
  const within = focused.type === "date" && !focused.matches(":focus-visible");
  return within || getComputedStyle(focused).outlineStyle === "solid";
}"""

TO_VERIFY_AGAIN, TO_UNDO = GOOD = ("meter to verify again", "meter to undo")
TO_RETRY, TO_OPEN = SPOILT = ("meter to retry", "meter to open")
"""Models of devices, by which a test finds the batch that is its own; the guard holds those of the spoilt."""

SAMPLE_DAY = date(2024, 6, 1)
DAYS = {model: SAMPLE_DAY + timedelta(days=1 + number) for number, model in enumerate((*GOOD, *SPOILT))}
"""Day folders of these tests alone, one for each batch: a retry runs a whole day of a person again."""

PEN = "a-pen-that-has-stopped"

VENDORS_DAY = date(2024, 5, 1)
"""The day folder of files as vendors give them."""

SAMPLES = {
    "clarity": [vendor_files.clarity_export()],
    "libreview": [vendor_files.libreview_export()],
    "nightscout": vendor_files.nightscout_site(),
    "table": [vendor_files.meter_table()],
}
"""One batch of each format, by its name."""


@pytest.fixture(scope="module")
def ledger(stack: Stack) -> Ledger:
    """The ledger after a run: uploads of the sample, and a batch for each test that changes something."""
    stack.connect()
    stack.stage_sample(SAMPLE_DAY, SAMPLE_USERS[0])
    for model in GOOD:
        stage_one(stack, model, meter_readings(3, device=model, day=DAYS[model]))
    for model in SPOILT:
        good, *bad = meter_readings(1 + REFUSED, device=model, day=DAYS[model])
        stage_one(stack, model, [good, *({**record, "value": REFUSED_VALUE} for record in bad)])
    for dag_id in (DAG_ID, "tidepool_action"):
        stack.airflow.unpause(dag_id)
    trigger(stack, first_day=str(SAMPLE_DAY), last_day=str(max(DAYS.values())))
    opened = Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])
    opened.migrate()
    return opened


@pytest.fixture(scope="module")
def inactive(stack: Stack, ledger: Ledger) -> InactiveDevice:
    """A pen that sent every day until a fortnight ago."""
    first, last = (TODAY - timedelta(days=ago) for ago in (20, 14))
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        records = meter_readings(3, device=PEN, day=day)
        stage(stack.home.staging, records, day=day, batch=f"{PEN}-{number}", device=PEN)
    trigger(stack, first_day=str(first), last_day=str(last), dry_run=True)
    (found,) = (device for device in inactive_devices(ledger, TODAY) if device.device_id == PEN)
    return found


@pytest.fixture(scope="module")
def of_vendors(stack: Stack, ledger: Ledger) -> dict[str, Upload]:
    """A batch of each format, prepared; and the table once more, with a time that its zone leaves out."""
    for name, files in SAMPLES.items():
        stage_files(stack, name, files)
    (table,) = SAMPLES["table"]
    missing = b"30.03.2025;02:30;CGM;8,0;;TWN-5512;1900;\r\n"
    stage_files(stack, "held", [replace(table, content=table.content + missing)])
    trigger(stack, first_day=str(VENDORS_DAY), last_day=str(VENDORS_DAY), dry_run=True)
    return {name: ledger.uploads.page(UploadFilter(label=f"model {name}"))[0] for name in (*SAMPLES, "held")}


def stage_files(stack: Stack, name: str, files: list[VendorFile]) -> None:
    """Stage files as their vendor gives them, with a manifest written by hand."""
    folder = stack.home.staging / str(VENDORS_DAY) / SAMPLE_USERS[0] / name
    folder.mkdir(parents=True)
    for file in files:
        (folder / file.name).write_bytes(file.content)
    chosen = {"serial": vendor_files.NEW_READER} if name == "libreview" else {}
    manifest = {
        "userId": SAMPLE_USERS[0],
        "dataSet": {"deviceId": f"{name}-1", "deviceModel": f"model {name}"},
        "files": [file.manifest_entry() | chosen for file in files],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def stage_one(stack: Stack, model: str, records: list[dict[str, Any]]) -> None:
    """Stage the one batch of a device, on its day."""
    body = {"deviceId": model, "deviceModel": model, "deviceTags": ["bgm"]}
    stage(stack.home.staging, records, day=DAYS[model], batch=model.replace(" ", "-"), dataSet=body)


def trigger(stack: Stack, **conf: object) -> None:
    """Trigger a run of the upload, and wait for its end."""
    body = {"logical_date": None, "conf": conf}
    response = stack.airflow.request("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)
    assert response.ok, response.text
    wait_for(stack, response.json()["dag_run_id"])


def held(ledger: Ledger) -> Upload:
    """Return a batch that the guard holds, to look at only."""
    return own(ledger, TO_OPEN, BatchState.HELD)


def largest(ledger: Ledger) -> Upload:
    """Return the upload with most records, to look at only."""
    sample = ledger.uploads.page(
        UploadFilter(state=BatchState.VERIFIED, first_day=SAMPLE_DAY, last_day=SAMPLE_DAY)
    )
    return max(sample, key=lambda upload: upload.accepted or 0)


def visible_rows(stack: Stack, data_set_id: str | None) -> int:
    with closing(sqlite3.connect(stack.home.simulator_store)) as store:
        query = "SELECT count(*) FROM data WHERE upload_id = ? AND active = 1"
        return int(store.execute(query, (data_set_id,)).fetchone()[0])


def test_the_list_shows_what_the_ledger_holds(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    page = visit(ADMIN)
    frame = opened(page)
    everything = ledger.uploads.page(UploadFilter())

    rows = frame.locator("table.uploads tbody tr")
    expect(rows).to_have_count(len(everything))
    for number, upload in enumerate(everything):
        row = rows.nth(number)
        expect(row.get_by_role("link", name=upload.label)).to_be_visible()
        values = [upload.accepted, upload.quarantined, upload.visible_rows]
        for label, value in zip(("Accepted", "Rejected", "Visible"), values, strict=True):
            cell = row.locator(f"[data-label={label}]")
            expect(cell).to_contain_text(NOTHING if value is None else f"{value:,}")
    shoot(page, "uploads-list")
    frame.locator("select[name=state]").select_option("held")
    frame.get_by_role("button", name="Filter").click()
    expect(rows).to_have_count(len(ledger.uploads.page(UploadFilter(state=BatchState.HELD))))
    expect(rows.first).to_contain_text("too-many-refused")

    frame.get_by_role("link", name="Needs attention").click()
    waiting = rows.filter(has_text=held(ledger).label)
    expect(waiting.get_by_text("correct the batch or let its manifest edit")).to_be_visible()
    shoot(page, "uploads-waiting")


def test_one_upload_is_shown_in_detail_and_its_run_is_a_click_away(
    stack: Stack, ledger: Ledger, visit: Visitor
) -> None:
    upload = largest(ledger)
    page = visit(ADMIN)
    frame = opened(page)
    frame.get_by_role("link", name=upload.label).click()

    expect(frame.get_by_role("heading", name=upload.label)).to_be_visible()
    expect(
        frame.get_by_text(f"{upload.visible_rows:,} of {upload.expected_rows:,} rows are visible")
    ).to_be_visible()
    expect(frame.get_by_text(str(upload.data_set_id))).to_be_visible()
    days = ledger.batch_days.of_batch(upload.batch)
    charted = frame.locator("figure.chart")
    expect(charted).to_have_count(len({kind for kinds in days.values() for kind in kinds}))
    kind = str(charted.first.locator("strong").inner_text())
    bars = charted.first.locator("rect.own, rect.unusual")
    assert bars.count() == sum(1 for kinds in days.values() if kinds.get(kind))
    reasons = ledger.quarantine_reasons.of_batch(upload.batch)
    for codes in reasons.values():
        for code in codes:
            expect(frame.get_by_text(code, exact=True).first).to_be_visible()
    assert page.url.endswith(f"/plugin/tidepool-uploads{PAGE}/{upload.batch}")
    shoot(page, "upload-detail")
    page.set_viewport_size({"width": 1280, "height": 2600})
    shoot(page, "upload-detail-whole")
    page.set_viewport_size({"width": 1280, "height": 960})

    frame.get_by_role("link", name=DAG_ID).first.click()
    page.wait_for_url(f"**/dags/{DAG_ID}/runs/**")


def test_a_task_leads_to_its_upload(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = largest(ledger)
    path = f"/dags/{upload.dag_id}/dagRuns/{upload.run_id}/taskInstances/batch.upload/links"
    links = stack.api(f"{path}?map_index={upload.map_index}")["extra_links"]
    page = visit(VIEWER)

    page.goto(links["Quarantine"])
    frame = page.frame_locator("iframe[title='Uploads']")
    expect(frame.get_by_role("heading", name=upload.label)).to_be_visible()
    assert links["Quarantine"] == f"{links['Upload']}#quarantine"
    assert links["Tidepool data set"].endswith(str(upload.data_set_id))


def test_verifying_again_is_confirmed_done_and_recorded(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = own(ledger, TO_VERIFY_AGAIN, BatchState.VERIFIED)
    page = visit(ADMIN)
    page.goto(f"{PAGE}/{upload.batch}")
    button = page.get_by_role("button", name="Verify again…")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(button).to_be_focused()
    assert ledger.actions.of_batch(upload.batch) == []

    button.click()
    shoot(page, "upload-dialog")
    dialog.get_by_role("button", name="Verify again").click()

    expect(page.get_by_role("status")).to_contain_text("Started.")
    result = page.get_by_text(f"done: {upload.visible_rows} rows visible, 0 superseded")
    expect(result).to_be_visible(timeout=DONE)
    (action,) = ledger.actions.of_batch(upload.batch)
    assert (action.actor, action.kind, action.status) == (ADMIN.name, ActionKind.CHECK, ActionStatus.DONE)


def test_undoing_deletes_the_data_set(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = own(ledger, TO_UNDO, BatchState.VERIFIED)
    assert visible_rows(stack, upload.data_set_id) > 0
    page = visit(ADMIN)
    page.goto(f"{PAGE}/{upload.batch}")
    page.get_by_role("button", name="Undo…").click()
    expect(page.get_by_role("dialog")).to_contain_text("disappear from Tidepool for good")
    page.get_by_role("button", name="Undo this upload").click()

    expect(page.locator("#outcomes")).to_contain_text("Undone: 1 data set deleted.", timeout=DONE)
    expect(page.locator(".title .badge")).to_have_text("Undone")
    assert visible_rows(stack, upload.data_set_id) == 0
    assert page.get_by_role("button", name="Undo…").count() == 0
    page.goto(f"{PAGE}/audit-log")
    expect(page.get_by_role("row").filter(has_text=upload.label)).to_contain_text(ADMIN.name)
    shoot(page, "uploads-audit-log")


def test_retrying_runs_the_day_again(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = own(ledger, TO_RETRY, BatchState.HELD)
    page = visit(ADMIN)
    page.goto(f"{PAGE}/{upload.batch}")
    page.get_by_role("button", name="Retry…").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()

    page.get_by_role("link", name="Follow the run").click()
    page.wait_for_url(f"**/dags/{DAG_ID}/runs/**")
    (action,) = ledger.actions.of_batch(upload.batch)
    wait_for(stack, str(action.run_id))
    # What the guard objected to has not changed.
    assert own(ledger, TO_RETRY, BatchState.HELD).batch == upload.batch


def test_the_quarantine_file_opens_after_a_warning(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = own(ledger, TO_OPEN, BatchState.HELD)
    page = visit(ADMIN)
    page.goto(f"{PAGE}/{upload.batch}#quarantine")
    page.get_by_role("button", name="Open the quarantine file…").click()
    expect(page.get_by_role("dialog")).to_contain_text("This is a person's health data")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the file").click()

    lines = downloading.value.path().read_text().splitlines()
    assert [json.loads(line)["record"]["value"] for line in lines] == [REFUSED_VALUE] * REFUSED
    assert ledger.actions.of_batch(upload.batch)[0].kind is ActionKind.QUARANTINE


def test_a_throttle_is_lifted_after_a_question(ledger: Ledger, visit: Visitor) -> None:
    ledger.rate_limits.record("api.example.org", 1800.0)
    page = visit(ADMIN)
    page.goto(f"{PAGE}/list")
    expect(page.get_by_text("Tidepool (api.example.org)")).to_contain_text("30 minutes more")
    shoot(page, "uploads-throttled")
    page.get_by_role("button", name="Lift…").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    shoot(page, "uploads-throttled-dialog")
    dialog.get_by_role("button", name="Lift the throttle").click()

    expect(page.get_by_role("status")).to_contain_text("Tasks may send requests again.")
    expect(page.get_by_role("button", name="Lift…")).to_have_count(0)
    assert ledger.rate_limits.in_force() == {}


def test_a_viewer_finds_nothing_to_press(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    page = visit(VIEWER)
    for upload in (largest(ledger), held(ledger)):
        page.goto(f"{PAGE}/{upload.batch}")
        expect(page.get_by_role("heading", name=upload.label)).to_be_visible()
        assert page.get_by_role("button").count() == 0
        assert page.request.get(f"{PAGE}/{upload.batch}/quarantine.ndjson").status == 403
        assert page.request.post(f"{PAGE}/{upload.batch}/withdraw").status == 403


def test_it_is_as_dark_as_airflow_is(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    upload = largest(ledger)
    page = visit(VIEWER)
    page.goto(f"{PAGE}/{upload.batch}")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == "rgb(17, 19, 23)"
    page.emulate_media(color_scheme="light")
    page.evaluate("() => localStorage.setItem('theme', 'dark')")
    for name, path in {
        "overview": "/",
        "list": "/list",
        "waiting": "/list?waiting=True",
        "audit-log": "/audit-log",
    }.items():
        page.goto(f"{PAGE}{path}")
        assert page.evaluate(ground) == "rgb(17, 19, 23)"
        shoot(page, f"uploads-{name}-dark")
    page.goto(f"/plugin/tidepool-uploads{PAGE}/{upload.batch}")
    frame = page.frame_locator("iframe[title='Uploads']")
    expect(frame.get_by_role("heading", name=upload.label)).to_be_visible()
    expect(frame.locator("html")).to_have_attribute("data-theme", "dark")
    shoot(page, "upload-dark")


def test_it_fits_a_phone(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    page = visit(ADMIN)
    page.set_viewport_size(PHONE)
    pages = {
        "overview": "/",
        "list": "/list",
        "waiting": "/list?waiting=True",
        "audit-log": "/audit-log",
        "inactive": "/inactive",
        "held": f"/{held(ledger).batch}",
        "verified": f"/{largest(ledger).batch}",
    }
    for name, path in pages.items():
        page.goto(f"{PAGE}{path}")
        expect(page.get_by_role("heading").first).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"], path
        for tab in page.get_by_role("navigation", name="Uploads").get_by_role("link").all():
            box = tab.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= PHONE["width"], (path, tab.inner_text())
        shoot(page, f"phone-{name}")


def test_it_is_walked_through_by_keyboard(stack: Stack, ledger: Ledger, visit: Visitor) -> None:
    page = visit(ADMIN)
    page.goto(f"{PAGE}/list")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("() => document.activeElement.textContent.trim()"))
        assert page.evaluate(SHOWS_FOCUS), seen
        if seen[-1] == ledger.uploads.page(UploadFilter())[0].label:
            break
    else:
        pytest.fail(f"the first upload is not reached: {seen}")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=seen[-1])).to_be_visible()


def test_an_inactive_device_is_found_by_keyboard_and_named_by_hashes(
    ledger: Ledger, inactive: InactiveDevice, visit: Visitor
) -> None:
    page = visit(VIEWER)
    page.goto(f"{PAGE}/")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("() => document.activeElement.textContent") == "Inactive devices":
            break
    assert page.evaluate(SHOWS_FOCUS)
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Inactive devices")).to_be_visible()
    expect(page.get_by_role("link", name="Inactive devices")).to_have_attribute("aria-current", "page")
    (row,) = page.get_by_role("row").filter(has_text=short_hash(inactive.device_id)).all()
    expect(row).to_contain_text(short_hash(inactive.user_id))
    expect(row).to_contain_text(str(inactive.last_day))
    expect(row).to_contain_text(f"{days_since(inactive.last_day)} days")
    assert not [secret for secret in (inactive.device_id, inactive.user_id) if secret in page.content()]
    shoot(page, "uploads-inactive")


def test_inactive_devices_fit_a_phone_in_the_dark(inactive: InactiveDevice, visit: Visitor) -> None:
    page = visit(VIEWER)
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme="dark")
    page.goto(f"{PAGE}/inactive")

    expect(page.get_by_role("row").filter(has_text=short_hash(inactive.device_id))).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(17, 19, 23)"
    shoot(page, "phone-inactive-dark")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_vendors_batch_shows_its_hours_in_its_zone(
    ledger: Ledger, of_vendors: dict[str, Upload], visit: Visitor, name: str
) -> None:
    upload = of_vendors[name]
    hours = ledger.batch_days.hours_of_batch(upload.batch)
    page = visit(VIEWER)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{PAGE}/{upload.batch}")
            picture = page.get_by_role("img", name="Records by day and hour")
            expect(picture).to_be_visible()
            expect(page.locator("figure.heat figcaption")).to_contain_text("in Europe/Berlin")
            box = picture.bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= width
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            # What the browser paints: a class that the style sheet lacks, or that it may not use, is black.
            fills = page.locator("svg.cells path").evaluate_all(
                "cells => cells.map(c => getComputedStyle(c).fill)"
            )
            assert "rgb(0, 0, 0)" not in fills
            page.locator("#hours").evaluate("heading => heading.scrollIntoView()")
            shoot(page, f"upload-{name}-{scheme}-{width}")
    page.locator("summary").first.click()
    expect(page.locator("table.by-hour")).to_be_visible()
    shown = page.locator("table.by-hour tbody td").evaluate_all(
        "cells => cells.map(c => Number(c.textContent))"
    )
    kind = "cbg" if any("cbg" in kinds for kinds in hours.values()) else None
    texts = [text for kinds in hours.values() for each, text in kinds.items() if kind in (None, each)]
    assert sum(shown) == sum(sum(hours_of_text(text)) for text in texts)
    facts = page.locator("dl.facts")
    expect(facts).to_contain_text(name)
    expect(facts).to_contain_text(f"model {name}")
    assert not [secret for secret in (f"{name}-1", SAMPLE_USERS[0]) if secret in page.content()]


def test_a_held_file_says_what_lets_it_go_on(of_vendors: dict[str, Upload], visit: Visitor) -> None:
    page = visit(VIEWER)
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{PAGE}/{of_vendors['held'].batch}")
            expect(page.locator("div.notice.held")).to_contain_text("1 time, the first in line")
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width
            shoot(page, f"upload-held-file-{scheme}-{width}")
    copied = page.locator("code.copied").first
    copied.click()
    # One click selects the whole of it.
    assert page.evaluate("() => getSelection().toString().trim()") == '"meantAs": ["clock-not-in-zone"]'
