"""From an upload to its cause: the log of the task, the question, its folder, what corrects it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.factories import meter_readings, stage
from tests.integration.browser.axe import WIDTHS
from tests.integration.browser.runs import PAGE, RUN_SECONDS, Asked, wait_for
from tests.integration.browser.stack import ADMIN, DAG_ID, VIEWER, Stack, Visitor, shoot
from tidepool_ingest.ledger import ActionKind, Ledger, Upload
from tidepool_ingest.privacy import short_hash
from tidepool_simulator.sample import SAMPLE_USERS

DAY = date(2024, 3, 11)
"""A day folder of these tests alone."""

ASKED, MALFORMED, REPAIRED = "asked-about", "malformed-to-look-at", "malformed-to-repair"
USERS = {MALFORMED: SAMPLE_USERS[0], ASKED: SAMPLE_USERS[0], REPAIRED: SAMPLE_USERS[1]}
MANIFEST = b'{\n  "userId": "anna 4711"\n  "files": []}'
FILE = "annas meter.ndjson"
LIST = f"{PAGE}/list?first_day={DAY}&last_day={DAY}"
FITS = "() => document.documentElement.scrollWidth"


@dataclass(frozen=True)
class Causes:
    """A run that waits for a person, and the batches of its day."""

    run_id: str
    ledger: Ledger
    folders: dict[str, Path]

    def upload(self, batch: str) -> Upload:
        """Return the newest batch of a folder."""
        found = [row for row in self.ledger.uploads.last_changed() if row.folder.endswith(f"/{batch}")]
        return max(found, key=lambda upload: upload.batch)

    @property
    def forerunner(self) -> Upload:
        """The batch that could not be read and was repaired."""
        found = [row for row in self.ledger.uploads.last_changed() if row.folder.endswith(f"/{REPAIRED}")]
        return min(found, key=lambda upload: upload.batch)


def trigger(stack: Stack, **conf: object) -> str:
    body = {"logical_date": None, "conf": {"first_day": str(DAY), "last_day": str(DAY), **conf}}
    response = stack.airflow.request("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)
    assert response.ok, response.text
    return str(response.json()["dag_run_id"])


def wait_until_asked(stack: Stack, run_id: str) -> None:
    give_up = time.monotonic() + RUN_SECONDS
    path = f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances?state="
    while not (
        stack.api(f"{path}awaiting_input")["task_instances"]
        and len(stack.api(f"{path}failed")["task_instances"]) == 2
    ):
        stack.airflow.check()
        assert time.monotonic() < give_up
        time.sleep(0.5)


@pytest.fixture(scope="module")
def causes(stack: Stack) -> Causes:
    """Two manifests that cannot be read, a batch about which a person is asked; one manifest is repaired."""
    stack.connect()
    root = stack.home.staging
    folders = {}
    for batch in (MALFORMED, REPAIRED):
        folders[batch] = stage(
            root,
            meter_readings(3, device=batch, day=DAY),
            user=USERS[batch],
            day=DAY,
            batch=batch,
            device=batch,
        )
    repaired = (folders[REPAIRED] / "manifest.json").read_bytes()
    for folder in folders.values():
        (folder / "manifest.json").write_bytes(MANIFEST)
    good = meter_readings(25, device=ASKED, day=DAY)
    records = [*({**record, "units": "stones"} for record in good[:10]), *good[10:]]
    folders[ASKED] = stage(root, records, day=DAY, batch=ASKED, device=ASKED)
    rename(folders[ASKED])
    run_id = trigger(stack, when_refused="ask")
    wait_until_asked(stack, run_id)
    (folders[REPAIRED] / "manifest.json").write_bytes(repaired)
    # The other person's batches are worked on no second time.
    wait_for(stack, trigger(stack, dry_run=True, users=[USERS[REPAIRED]]))
    ledger = Ledger(stack.airflow.settings["TIDEPOOL_LEDGER"])
    ledger.migrate()
    return Causes(run_id, ledger, folders)


def rename(folder: Path) -> None:
    """Give the file of a batch a name that tells of a person."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][0]["name"] = FILE
    (folder / "records.ndjson").rename(folder / FILE)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def each_look(page: Page) -> list[tuple[str, int]]:
    return [(scheme, width) for width in WIDTHS for scheme in ("light", "dark")]


def look(page: Page, scheme: str, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]


def test_the_list_leads_to_the_log_of_the_task_that_failed(causes: Causes, visit: Visitor) -> None:
    upload = causes.upload(MALFORMED)
    assert upload.stopped_in is not None
    hashed = short_hash(f"{DAY}/{SAMPLE_USERS[0]}/{MALFORMED}")
    page = visit(VIEWER)
    page.goto(f"/plugin/tidepool-uploads{LIST}")
    frame = page.frame_locator("iframe[title='Uploads']")
    row = frame.get_by_role("row").filter(has_text=f"{DAY} folder {hashed}")

    row.get_by_role("link", name=DAG_ID).click()

    instance = f"/tasks/batch.prepare/mapped/{upload.stopped_in.map_index}"
    page.wait_for_url(f"**{instance}?try_number={upload.stopped_in.try_number}")
    expect(page.get_by_text("the manifest cannot be read").first).to_be_visible()
    shoot(page, "causes-log")
    for scheme, width in each_look(page):
        look(page, scheme, width)
        page.goto(LIST)
        link = page.get_by_role("link", name="Answer its question", exact=True)
        expect(link).to_be_visible()
        assert page.evaluate(FITS) <= width
        box = link.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width
        shoot(page, f"causes-list-{scheme}-{width}")
        page.goto(f"{LIST}&waiting=True")
        expect(link).to_be_visible()
        assert page.evaluate(FITS) <= width
        shoot(page, f"causes-waiting-{scheme}-{width}")
        page.goto(f"{PAGE}/{upload.batch}")
        notice = page.locator("div.notice")
        expect(notice).to_contain_text("Here: it is not JSON (line 3, column 3).")
        expect(notice.get_by_role("link", name=DAG_ID)).to_be_visible()
        assert page.evaluate(FITS) <= width
        shoot(page, f"causes-failed-{scheme}-{width}")
    assert not [name for name in ("anna", "4711", MALFORMED, SAMPLE_USERS[0]) if name in page.content()]


def test_folder_and_files_are_shown_after_a_warning_and_forgotten(causes: Causes, visit: Visitor) -> None:
    upload = causes.upload(ASKED)
    page = visit(ADMIN)
    for scheme, width in each_look(page):
        look(page, scheme, width)
        page.goto(f"{PAGE}/{upload.batch}")
        assert FILE not in page.content()
        button = page.get_by_role("button", name="Show folder and files…")
        button.focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("This can name a person")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        before = len(causes.ledger.actions.of_batch(upload.batch))
        dialog.get_by_role("button", name="Show them").click()
        expect(dialog).to_contain_text(FILE)
        expect(dialog).to_contain_text(str(causes.folders[ASKED]))
        assert page.evaluate(FITS) <= width
        expect(dialog.get_by_role("button", name="Show them")).to_be_hidden()
        shoot(page, f"causes-folder-{scheme}-{width}")
        assert len(causes.ledger.actions.of_batch(upload.batch)) == before + 1
        dialog.get_by_role("button", name="Close").click()
        expect(button).to_be_focused()
        expect(page.locator("#dialog-folder")).not_to_contain_text(FILE)
        assert FILE not in page.content()
        assert ASKED not in page.content()
    # A click too many asks nothing more, and the page asks no more often for it.
    asked, before = Asked(page), len(causes.ledger.actions.of_batch(upload.batch))
    page.goto(f"{PAGE}/{upload.batch}")
    page.get_by_role("button", name="Show folder and files…").click()
    dialog.get_by_role("button", name="Show them").dblclick()
    expect(dialog).to_contain_text(FILE)
    asked.check()
    assert len(causes.ledger.actions.of_batch(upload.batch)) == before + 1
    action = causes.ledger.actions.of_batch(upload.batch)[0]
    assert (action.actor, action.kind) == (ADMIN.name, ActionKind.FOLDER)
    viewer = visit(VIEWER)
    viewer.goto(f"{PAGE}/{upload.batch}")
    assert viewer.get_by_role("button").count() == 0
    assert viewer.request.post(f"{PAGE}/{upload.batch}/folder").status == 403


def test_a_repaired_batch_and_its_forerunner_lead_to_each_other(causes: Causes, visit: Visitor) -> None:
    forerunner, repaired = causes.forerunner, causes.upload(REPAIRED)
    page = visit(VIEWER)
    for scheme, width in each_look(page):
        look(page, scheme, width)
        page.goto(f"{PAGE}/{forerunner.batch}")
        expect(page.locator(".related")).to_contain_text("Another batch was staged in its place")
        expect(page.locator("div.notice")).to_contain_text("needs nothing more")
        assert page.evaluate(FITS) <= width
        shoot(page, f"causes-forerunner-{scheme}-{width}")
        page.locator(".related").get_by_role("link", name=repaired.label).click()
        expect(page.get_by_role("heading", name=repaired.label)).to_be_visible()
        page.locator(".related").get_by_role("link", name=forerunner.label).click()
        expect(page.get_by_role("heading", name=forerunner.label)).to_be_visible()


def test_the_list_leads_to_the_question_as_long_as_it_waits(
    stack: Stack, causes: Causes, visit: Visitor
) -> None:
    upload = causes.upload(ASKED)
    page = visit(ADMIN)
    for scheme, width in each_look(page):
        look(page, scheme, width)
        page.goto(f"{PAGE}/{upload.batch}")
        expect(page.locator("div.notice")).to_contain_text("A question waits for an answer.")
        assert page.evaluate(FITS) <= width
        shoot(page, f"causes-question-{scheme}-{width}")
    look(page, "light", 1400)
    page.goto(f"/plugin/tidepool-uploads{LIST}")
    frame = page.frame_locator("iframe[title='Uploads']")
    frame.get_by_role("row").filter(has_text=upload.label).get_by_role("link", name="Answer").click()

    page.wait_for_url("**/tasks/batch.prepare/mapped/*/required_actions*")
    expect(page.get_by_text(f"{upload.label}: upload it without 10 rejected records?").first).to_be_visible()
    shoot(page, "causes-answer")
    page.get_by_role("button", name="Upload them, but stop if Tidepool rejects more", exact=True).click()
    wait_for(stack, causes.run_id)
    page.goto(LIST)
    expect(page.get_by_role("link", name=upload.label)).to_be_visible()
    expect(page.get_by_role("link", name="Answer its question")).to_have_count(0)
