"""The overview in a browser: the real page, served without the rest of Airflow, over a ledger of a fleet."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bench.uploads_page import fill_fleet
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser.axe import WIDTHS, axe_script, grave_problems
from tests.integration.browser.stack import shoot
from tests.ports import free_port
from tidepool_airflow.uploads_page.html import NOTHING
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.reports.overview import CellState

DEVICES, DAYS = 120, 90


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'ledger.db'}")
    ledger.migrate()
    fill_fleet(ledger, DEVICES, DAYS, datetime.now(UTC).date())
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def address(ledger: Ledger) -> Iterator[str]:
    """The page, as its own application answers a viewer."""
    import uvicorn
    from fastapi import FastAPI

    from tidepool_airflow.links import PREFIX
    from tidepool_airflow.uploads_page import access, received
    from tidepool_airflow.uploads_page.application import application

    page, whole = application(), FastAPI()
    page.dependency_overrides |= {
        received.current_ledger: lambda: ledger,
        access.require_reader: lambda: None,
        access.get_user: lambda: None,
    }
    page_of_viewer = pytest.MonkeyPatch()
    page_of_viewer.setattr("tidepool_airflow.uploads_page.application.may_act", lambda user: False)
    whole.mount(PREFIX, page)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(whole, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}{PREFIX}"
    server.should_exit = True
    thread.join()
    page_of_viewer.undo()


def opened(browser: Browser, address: str, width: int = 1400, scheme: Any = "light") -> Page:
    context = browser.new_context(
        viewport={"width": width, "height": 1000}, color_scheme=scheme, base_url=address
    )
    page = context.new_page()
    page.goto(f"{address}/")
    return page


def fills(page: Page) -> list[str]:
    script = "shapes => shapes.map(s => getComputedStyle(s).fill + getComputedStyle(s).stroke)"
    return list(page.locator("defs g > *").evaluate_all(script))


def test_it_opens_first_and_a_day_has_its_numbers_and_its_uploads(
    browser: Browser, address: str, ledger: Ledger
) -> None:
    page = opened(browser, address)

    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_role("link", name="Overview")).to_have_attribute("aria-current", "page")
    row = page.locator("table.overview tbody tr").first
    day = row.locator(".device-days a").filter(has=page.locator("use[href='#day-failed']")).first
    day.hover()
    said = day.locator("title").text_content() or ""
    assert "failed; 1 batch, 288 accepted, 0 rejected, 0 visible" in said
    device = row.locator("th code").inner_text()
    day.click()
    expect(page.get_by_role("heading", name="All uploads")).to_be_visible()
    expect(page.locator("table.uploads tbody tr")).to_have_count(1)
    expect(page.locator("table.uploads tbody tr")).to_contain_text("Failed")
    expect(page.locator("p.notice code").first).to_have_text(device)
    page.context.close()


def test_it_is_filtered_sorted_turned_over_and_saved(browser: Browser, address: str, tmp_path: Path) -> None:
    page = opened(browser, address)
    rows = page.locator("table.overview tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Page 2").click()
    expect(page.locator(".overview-head")).to_contain_text(f"51{NOTHING}100 of {DEVICES} devices")

    page.get_by_role("columnheader", name="Accepted").get_by_role("link").click()
    figures = [int(text.replace(",", "")) for text in rows.locator("td:nth-child(5)").all_inner_texts()]
    assert figures == sorted(figures, reverse=True)
    page.get_by_label("Model").fill("DASH")
    page.locator("select[name=state]").select_option("silent")
    page.locator("select[name=weeks]").select_option("13")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("columnheader", name="Accepted")).to_have_attribute("aria-sort", "descending")
    expect(page.locator(".overview-head")).to_contain_text(f"(of {DEVICES})")
    count = rows.count()
    assert 0 < count < 50
    expect(rows.first).to_contain_text("Omnipod DASH")
    expect(rows.first).to_contain_text("silent since")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="All as CSV").click()
    names, *lines = csv.reader(downloading.value.path().read_text("utf-8-sig").splitlines())
    assert len(lines) == count
    assert len(names) == len(lines[0]) > 91
    assert {line[names.index("model")] for line in lines} == {"Omnipod DASH"}
    page.get_by_text("These devices as a table").click()
    expect(page.locator("table.days-table tbody tr")).to_have_count(count)
    expect(page.locator("table.days-table [data-label=Silent]").first).not_to_have_text(NOTHING)
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_no_state_is_told_by_colour_alone(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    axe = axe_script()
    page = opened(browser, address, width, scheme)
    for weeks in (4, 13):
        page.goto(f"{address}/?weeks={weeks}")
        expect(page.locator(".device-days").first).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        boxes = [picture.bounding_box() for picture in page.locator(".device-days").all()[:3]]
        assert all(box and box["x"] + box["width"] <= width for box in boxes)
        shoot(page, f"overview-{weeks}-{scheme}-{width}")
    shapes = page.locator("defs g").evaluate_all("shapes => shapes.map(s => s.innerHTML)")
    assert len(set(shapes)) == len(shapes) == len(CellState) - 1
    # What the style sheet lacks is black.
    assert not [fill for fill in fills(page) if fill == "rgb(0, 0, 0)none"]
    page.locator("details").evaluate_all("all => all.forEach(one => (one.open = true))")
    assert grave_problems(page, axe) == []
    page.context.close()
