"""A real Airflow with accounts, and a real browser before it; both once for all tests of this folder.

They share the stack and nothing in it: a test stages, uploads and acts on what is its own, by a day, a device
or a person that no other test uses, and so they run in any order.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from dev.components import Account, LocalAirflow
from dev.home import LocalHome
from dev.postgresql import postgresql
from dev.simulator import simulator
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.integration.browser.stack import ADMIN, DAG_ID, PATIENCE, VIEWER, Stack, Visitor, shoot
from tests.ports import free_port

CHROMIUM_VARIABLE = "CHROMIUM"
"""Environment variable with the browser's path, where it has none of the usual names."""

USUAL_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; the tests are skipped where there is none."""
    given = os.environ.get(CHROMIUM_VARIABLE)
    found = given or next(filter(None, map(shutil.which, USUAL_NAMES)), None)
    if not found:
        pytest.skip("no Chromium on this machine: apt-get install chromium, or set CHROMIUM to its path")
    return found


@pytest.fixture(scope="session")
def stack(chromium: str) -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="tidepool-browser-") as made, ExitStack() as stack:
        home = LocalHome(Path(made))
        databases = stack.enter_context(postgresql(home.postgresql))
        roles = stack.enter_context(simulator(home))
        environment = {**home.environment(databases=databases), "TIDEPOOL_RETRIES": "0"}
        airflow = LocalAirflow(environment, home.folder / "logs", free_port(), accounts=(ADMIN, VIEWER))
        stack.enter_context(airflow.running())
        airflow.unpause(DAG_ID)
        yield Stack(home, airflow, roles)


@pytest.fixture
def connected(stack: Stack) -> None:
    """Make the connection, if no other test has."""
    stack.connect()


# Of each module: an event loop runs in this thread for as long as it is open, and in the way of storages that
# other tests of the process use, which run one of their own.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def visit(stack: Stack, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visitor]:
    """Sign somebody in, and return their page; what it shows at the end of the test is kept."""
    opened: list[Page] = []

    def signed_in(account: Account) -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 960}, base_url=stack.airflow.url)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        opened.append(page)
        page.goto("/")
        page.get_by_label("Username").fill(account.name)
        page.locator("input[type=password]").fill(account.password)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Dags").first.wait_for()
        return page

    yield signed_in
    for number, page in enumerate(opened):
        shoot(page, f"{request.node.name}-{number}")
        page.context.close()
