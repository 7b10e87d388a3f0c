"""The page of ``inspect --html`` in a browser without a network: all is there, and as wide as the window."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser.stack import shoot
from tidepool_ingest.cli import main
from tidepool_simulator.sample.vendor_files import (
    VendorFile,
    clarity_export,
    libreview_export,
    nightscout_site,
)


def page_of(folder: Path, *exports: VendorFile) -> Path:
    paths = []
    for export in exports:
        paths.append(folder / export.name)
        paths[-1].write_bytes(export.content)
    out = folder / "page.html"
    main(["inspect", *map(str, paths), "--timezone", exports[0].timezone, "--html", str(out)])
    return out


def opened(browser: Browser, path: Path, width: int, scheme: str) -> tuple[Page, list[str]]:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        offline=True,
    )
    page, heard = context.new_page(), []
    page.on("request", lambda request: heard.append(request.url))
    page.on("console", lambda message: heard.append(message.text))
    page.goto(path.as_uri())
    return page, heard


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 800, 1400])
def test_it_needs_no_network_and_fits_the_window(
    browser: Browser, tmp_path: Path, width: int, scheme: str
) -> None:
    path = page_of(tmp_path, clarity_export())
    page, heard = opened(browser, path, width, scheme)

    assert heard == [path.as_uri()]  # nor a complaint of the page's own policy
    expect(page.get_by_role("heading", level=1)).to_have_text("Dexcom Clarity export")
    expect(page.get_by_text("This page holds health data")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    red, green, blue = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert (max(red, green, blue) < 40) == (scheme == "dark")
    assert page.locator("path.level").first.evaluate("path => getComputedStyle(path).stroke") != "none"
    shoot(page, f"inspection-{width}-{scheme}")
    page.context.close()


def test_on_a_phone_no_day_lies_on_the_next_one(browser: Browser, tmp_path: Path) -> None:
    page, _ = opened(browser, page_of(tmp_path, libreview_export()), 390, "light")

    for plot in page.locator(".plot.bars").all():
        places = [text.bounding_box() for text in plot.locator(".area text").all() if text.is_visible()]
        days = sorted((place for place in places if place), key=lambda place: place["x"])
        assert all(one["x"] + one["width"] < two["x"] for one, two in pairwise(days))
    page.context.close()


def test_on_paper_it_is_black_on_white(browser: Browser, tmp_path: Path) -> None:
    page, _ = opened(browser, page_of(tmp_path, libreview_export()), 1400, "dark")
    page.emulate_media(media="print", color_scheme="dark")

    style = page.evaluate(
        "(({color, backgroundColor}) => [color, backgroundColor])(getComputedStyle(document.body))"
    )
    assert style == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    expect(page.get_by_text("This page holds health data")).to_be_visible()
    page.context.close()


def test_files_of_one_site_are_one_page(browser: Browser, tmp_path: Path) -> None:
    page, _ = opened(browser, page_of(tmp_path, *nightscout_site()), 1400, "light")

    expect(page.get_by_role("heading", level=1)).to_have_text("Nightscout site")
    page.get_by_text("Glucose by hour as a table").click()
    expect(page.get_by_role("table", name="Percentiles by hour of the day")).to_be_visible()
    page.context.close()
