"""Templates, their words, and the links between pages."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tidepool_airflow.known_dags import KnownDag, known_dags
from tidepool_airflow.links import BATCH_GROUP, DAG_OF_TYPE, PREFIX
from tidepool_airflow.settings import OUR_TAG
from tidepool_airflow.uploads_page.chart import BAR, HEIGHT, zones_in_words
from tidepool_ingest.codes import explained
from tidepool_ingest.errors import MendPlace
from tidepool_ingest.guards import answer_of
from tidepool_ingest.ledger import ActionKind, BatchState, Dismissal, StoppedIn, Tie
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.help import remedy_of

STATE_WORDS = {
    BatchState.PLANNED: "Planned",
    BatchState.PREPARED: "Prepared",
    BatchState.UPLOADING: "Uploading",
    BatchState.VERIFIED: "Verified",
    BatchState.NOTHING_ACCEPTED: "Nothing accepted",
    BatchState.HELD: "Held",
    BatchState.FAILED: "Failed",
    BatchState.REPLACED: "Replaced by another",
    BatchState.WITHDRAWN: "Undone",
    BatchState.OVERWRITTEN: "Overwritten in staging",
    BatchState.GONE: "Removed from staging",
}

ACTION_WORDS = {
    ActionKind.CHECK: "Verify again",
    ActionKind.RETRY: "Retry",
    ActionKind.WITHDRAW: "Undo",
    ActionKind.QUARANTINE: "Opened the quarantine file",
    ActionKind.FOLDER: "Saw folder and file names",
    ActionKind.CONFIRM: "Confirmed for a run",
    ActionKind.APPROVE: "Decided about rejected records",
    ActionKind.ERASE: "Erased a person",
    ActionKind.DISMISS: "Dismiss",
    ActionKind.REOPEN: "Reopen",
    ActionKind.LIFT: "Lifted a throttle",
}

CHOSEN_ACTIONS = (
    ActionKind.RETRY,
    ActionKind.CHECK,
    ActionKind.DISMISS,
    ActionKind.REOPEN,
    ActionKind.WITHDRAW,
)
"""What can be requested of several uploads at once, in the order of the buttons."""

DISMISSAL_WORDS = {
    Dismissal.NOT_WANTED: "Its records are not to be in Tidepool",
    Dismissal.NOT_CORRECTED: "It cannot or will not be corrected",
    Dismissal.STAGED_BY_MISTAKE: "It should not have been staged",
    Dismissal.BROUGHT_ANOTHER_WAY: "Its records have reached Tidepool another way",
    Dismissal.TEST: "It is of a test",
}

MEND_WORDS = {
    MendPlace.MANIFEST: "In manifest.json",
    MendPlace.FILE: "In manifest.json, at the file",
    MendPlace.STAGE: "Or, staged again, with tidepool-ingest stage …",
    MendPlace.RUN: "Parameters of a run of its day",
}
"""Where something belongs that lets a batch go on."""

NOTHING = "\N{EN DASH}"

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


class Links:
    """URLs within the page and within Airflow, as this request's browser reaches them.

    :param request: a request to the page's application, which knows the path that it is mounted at.
    """

    def __init__(self, request: Request) -> None:
        self.page = str(request.scope.get("root_path", "")).rstrip("/")
        self.airflow = self.page.removesuffix(PREFIX)

    def overview(self, query: dict[str, str] | None = None, name: str = "") -> str:
        """Return the URL of the overview, or of its file.

        :param query: what it shows.
        :param name: ``overview.csv`` for the file.
        """
        return f"{self.page}/{name}" + (f"?{urlencode(query)}" if query else "")

    def list(self, query: dict[str, str] | None = None) -> str:
        """Return the URL of the list."""
        return f"{self.page}/list" + (f"?{urlencode(query)}" if query else "")

    def audit_log(self, query: dict[str, str] | None = None) -> str:
        """Return the URL of the audit log."""
        return f"{self.page}/audit-log" + (f"?{urlencode(query)}" if query else "")

    def inactive(self) -> str:
        """Return the URL of the inactive devices."""
        return f"{self.page}/inactive"

    def lift(self, api_host: str) -> str:
        """Return the URL by which the throttle of an API host is lifted."""
        return f"{self.page}/throttles/{quote(api_host, safe='')}/lift"

    def chosen(self, what: str, batch: int | None = None) -> str:
        """Return the URL by which an action is requested of uploads that are chosen."""
        return f"{self.page}/chosen/{what}" + (f"?batch={batch}" if batch else "")

    def upload(self, batch: int, part: str = "") -> str:
        """Return the URL of one upload, or of something below it."""
        return f"{self.page}/{batch}{part}"

    def asset(self, name: str) -> str:
        """Return the URL of a file that the page loads."""
        return f"{self.page}/static/{name}"

    def runs(self, data_set_type: str) -> str:
        """Return the URL of the runs in Airflow that upload batches for a type of data set."""
        found = [dag.dag_id for dag in self._dags if dag.kind == data_set_type]
        usual = DAG_OF_TYPE[data_set_type]
        if len(found) > 1:  # nobody knows yet which of them takes it
            return f"{self.airflow}/dags?tags={OUR_TAG}"
        return f"{self.airflow}/dags/{quote(found[0] if found else usual, safe='')}/runs"

    @cached_property
    def _dags(self) -> tuple[KnownDag, ...]:
        return tuple(known_dags())

    def run(self, dag_id: str, run_id: str, map_index: int | None = None) -> str:
        """Return the URL of a run in Airflow, or of the task in it that uploaded a batch."""
        run = f"{self.airflow}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"
        if map_index is None or map_index < 0 or not self._uploads(dag_id):
            return run
        return f"{run}/tasks/{BATCH_GROUP}.upload/mapped/{map_index}"

    def _uploads(self, dag_id: str) -> bool:
        known = {dag.dag_id for dag in self._dags if dag.kind in DAG_OF_TYPE}
        return dag_id in DAG_OF_TYPE.values() or dag_id in known

    def task(self, stopped_in: StoppedIn) -> str:
        """Return the URL of the task instance in Airflow in which a batch stopped: it shows that try's log.

        :param stopped_in: one that is a task.
        """
        return f"{self._instance(stopped_in)}?try_number={stopped_in.try_number or 1}"

    def question(self, stopped_in: StoppedIn) -> str:
        """Return the URL in Airflow at which the question is answered that a task waits with."""
        return f"{self._instance(stopped_in)}/required_actions"

    def _instance(self, stopped_in: StoppedIn) -> str:
        run = self.run(str(stopped_in.dag_id), str(stopped_in.run_id))
        task = f"{run}/tasks/{quote(str(stopped_in.task_id), safe='')}"
        is_mapped = stopped_in.map_index is not None and stopped_in.map_index >= 0
        return f"{task}/mapped/{stopped_in.map_index}" if is_mapped else task


def html(template: str, **values: Any) -> str:
    """Return a page; every value in it is escaped."""
    return _environment().get_template(template).render(now=datetime.now(UTC), **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tidepool_airflow.uploads_page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=lambda value: NOTHING if value is None else f"{value:,}",
        moment=lambda value: f"{value:%Y-%m-%d %H:%M:%S} UTC",
        clock=lambda value: f"{value:%H:%M:%S} UTC",
        ago=ago,
        several=lambda count, noun: f"{count:,} {noun}" + ("" if count == 1 else "s"),
        short_hash=short_hash,
        answer=detail_in_words,
        what=lambda what: ACTION_WORDS[what],
        zones=zones_in_words,
        device=device_in_words,
        names=lambda text: json.loads(text or "[]"),
        breakable=breakable,
    )
    environment.globals.update(
        state_words=STATE_WORDS,
        remedy_of=remedy_of,
        mend_words=MEND_WORDS,
        dismissal_words=DISMISSAL_WORDS,
        explained=explained,
        ActionKind=ActionKind,
        chosen_actions=CHOSEN_ACTIONS,
        Tie=Tie,
        bar_width=BAR,
        bar_height=HEIGHT,
    )
    return environment


def ago(moment: datetime, now: datetime) -> str:
    """Return in a single unit how long ago something was."""
    seconds = (now - moment).total_seconds()
    for size, unit in UNITS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return "just now"


def breakable(name: str) -> Markup:
    """Return a name that a narrow column breaks between its words, not within one."""
    return Markup("_<wbr>").join(name.split("_"))


def detail_in_words(detail: str) -> str:
    """Return what the audit log says of an action: in words, where the ledger keeps a value."""
    return DISMISSAL_WORDS[Dismissal(detail)] if detail in list(Dismissal) else answer_of(detail)


def device_in_words(device: str | None) -> str:
    """Return who made a device, and its model.

    :param device: as the ledger has it.
    """
    said = json.loads(device or "{}")
    model = said.get("model", "")
    makers = [maker for maker in said.get("manufacturers", []) if maker.casefold() not in model.casefold()]
    return " ".join([*makers, model]).strip()
