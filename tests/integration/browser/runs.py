"""Runs and pages of the browser's tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import requests
from playwright.sync_api import FrameLocator, Page, Request, expect

from tests.integration.browser.stack import DAG_ID, Stack
from tidepool_ingest.ledger import BatchState, Ledger, Upload, UploadFilter
from tidepool_simulator.faults import Fault

FIRST_RUN_SECONDS = 400


def runs(stack: Stack) -> list[dict[str, str]]:
    found: list[dict[str, str]] = stack.api(f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
    return found


def run_ids(stack: Stack) -> set[str]:
    return {run["dag_run_id"] for run in runs(stack)}


def failed_tasks(stack: Stack, run_id: str) -> list[tuple[str, int, str]]:
    """Return which tasks of a run did not succeed: task, map index and state."""
    tasks = stack.api(f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances")["task_instances"]
    return [
        (task["task_id"], task["map_index"], task["state"]) for task in tasks if task["state"] != "success"
    ]


def new_run(stack: Stack, before: set[str]) -> str:
    """Return the run that was triggered since, when it has ended well."""
    give_up = time.monotonic() + FIRST_RUN_SECONDS
    while True:
        # Of a backfill that another test has begun, runs may still come.
        new = [run for run in runs(stack) if run["dag_run_id"] not in before and run["run_type"] == "manual"]
        if new and new[0]["state"] in ("success", "failed"):
            assert new[0]["state"] == "success", failed_tasks(stack, new[0]["dag_run_id"])
            return new[0]["dag_run_id"]
        stack.airflow.check()
        assert time.monotonic() < give_up, new
        time.sleep(0.5)


SLOW_SECONDS = 4.0
"""How long the simulated Tidepool takes for a chunk."""


GAP = 2.0
"""Seconds in which a page may ask once."""


class Asked:
    """What a page asks of the server, and when: its own parts (style, scripts) aside."""

    def __init__(self, page: Page) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._open = 0
        page.on("request", self._begin)
        for event in ("requestfinished", "requestfailed"):
            page.on(event, self._end)  # type: ignore[call-overload]

    def _counts(self, request: Request) -> bool:
        return PAGE in request.url and "/static/" not in request.url

    def _begin(self, request: Request) -> None:
        if self._counts(request):
            self.requests.append(request)
            self._open += 1
            self.most_at_once = max(self.most_at_once, self._open)

    def _end(self, request: Request) -> None:
        self._open -= self._counts(request)

    def gaps(self) -> list[float]:
        """Return the seconds between the beginnings of two requests, by the browser's clock."""
        begun = sorted(request.timing["startTime"] / 1000 for request in self.requests)
        return [round(later - earlier, 3) for earlier, later in pairwise(begun)]

    def check(self) -> None:
        """Check that there was never more than one request in two seconds."""
        assert self.most_at_once <= 1
        assert not [gap for gap in self.gaps() if gap < GAP], self.gaps()


def start(stack: Stack, **conf: object) -> str:
    """Trigger a run of the upload, and return its id."""
    body = {"logical_date": None, "conf": conf}
    response = stack.airflow.request("POST", f"/api/v2/dags/{DAG_ID}/dagRuns", body)
    assert response.ok, response.text
    return str(response.json()["dag_run_id"])


@contextmanager
def slowly(stack: Stack, seconds: float = SLOW_SECONDS) -> Iterator[None]:
    """Let the simulated Tidepool take its time for each chunk."""
    faults = f"{stack.roles['base_url']}/simulator/faults"
    slow = Fault.slow(seconds, "post").model_dump(mode="json")
    added = requests.post(faults, json=slow, timeout=10)
    assert added.status_code == 201, added.text
    yield
    for number in added.json()["ids"]:
        requests.delete(f"{faults}/{number}", timeout=10)


PAGE = "/tidepool/uploads"


RUN_SECONDS = 180


REFUSED, REFUSED_VALUE = 10, 77_777


DONE = 90_000
"""Milliseconds that a run may take from being asked for to being seen on the page."""


PHONE = {"width": 390, "height": 844}


def wait_for(stack: Stack, run_id: str) -> None:
    give_up = time.monotonic() + RUN_SECONDS
    while stack.api(f"/dags/{DAG_ID}/dagRuns/{run_id}")["state"] not in ("success", "failed"):
        stack.airflow.check()
        assert time.monotonic() < give_up
        time.sleep(0.5)


def own(ledger: Ledger, model: str, state: BatchState) -> Upload:
    """Return the batch of a device that is one test's own."""
    (upload,) = ledger.uploads.page(UploadFilter(label=model))
    assert upload.state is state
    return upload


def opened_overview(page: Page) -> FrameLocator:
    """Open the page by Airflow's navigation."""
    page.get_by_role("link", name="Uploads", exact=True).first.click()
    frame = page.frame_locator("iframe[title='Uploads']")
    expect(frame.get_by_role("heading", name="Overview")).to_be_visible()
    return frame


def opened(page: Page) -> FrameLocator:
    """Open the list of all uploads by Airflow's navigation."""
    frame = opened_overview(page)
    frame.get_by_role("link", name="All uploads").click()
    expect(frame.get_by_role("heading", name="All uploads")).to_be_visible()
    return frame
