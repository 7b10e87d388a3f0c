"""One task of a run, in a process of its own: the plan, or one batch from prepare to verified."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from upath import UPath

from tests.faults.catalogue import VISIBLE_WAIT
from tests.faults.gremlins import Gremlins
from tests.faults.place import DAY, WHOLE_DELETED, Place
from tests.faults.plain_uploader import plain_upload
from tests.faults.schedule import LocalFault
from tidepool_ingest.client import BackOff, ClientSettings, TidepoolClient, auth, connect, host_of
from tidepool_ingest.client.transport import HttpTimeouts
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow, Ledger, TaskOrigin, client_state, database
from tidepool_ingest.maintenance.reconcile import Reconciliation
from tidepool_ingest.options import PART_RECORDS, ReconcileOptions, RunOptions
from tidepool_ingest.plan import plan_run
from tidepool_ingest.prepare.step import prepare_batch, rebuild_work_area
from tidepool_ingest.upload import (
    UploadContext,
    UploadOptions,
    UploadSummary,
    reverify,
    upload_batch,
    withdraw_batch,
)
from tidepool_ingest.upload.guarded_requests import Timeouts
from tidepool_ingest.window import Window
from tidepool_simulator.accounts import CLIENT_ID, CLIENT_SECRET

READ_SECONDS = 0.6
"""Seconds after which a hanging request is given up."""

QUICK: dict[tuple[Any, str], Any] = {
    (auth, "SIGN_IN_TIMEOUTS"): HttpTimeouts(READ_SECONDS, READ_SECONDS, 3.0),
    (database, "SQLITE_WAIT_SECONDS"): 0.4,
    (client_state, "FIRST_PAUSE_SECONDS"): 0.05,
    (client_state, "FREE_SECONDS"): 0.01,
}
"""Constants that a schedule shortens, about a hundredfold; their order of size stays."""

TIMING = Timeouts(
    request=1.2,
    begin=0.6,
    read_back=1.2,
    read_rows=50,
    doubt=0.9,
    lease=2.4,
    listing=0.01,
    close_turn=6.0,
    slot=0.1,
    usual_close=0.1,
    pause=0.02,
    patience=1.0,
    visible_wait=VISIBLE_WAIT,
    visible_poll=0.05,
)
"""The same for the steps of an upload."""

TRIES_ALONE = 8
"""Tries of each step of another deployment in one run."""

UPLOADERS: dict[tuple[str, str], Callable[[UploadContext, BatchRow], UploadSummary]] = {
    ("ours", "normal"): upload_batch,
    ("ours", "continuous"): upload_batch,
    ("ours", "backlog"): upload_batch,
    ("plain", "normal"): plain_upload,
}
"""How a prepared batch is uploaded, by whom and to which kind of data set."""


@dataclass(frozen=True)
class Task:
    """What a worker is to do.

    :param number: which start it is, from 0.
    :param run: the run's id.
    :param chunk_records: records a request.
    :param batch: the ledger's number of a batch; None for the plan.
    :param try_number: from 1.
    :param uploader: ``ours`` or ``plain``.
    :param at_once: chunks that may be in progress at the same time.
    :param kind: ``normal`` or ``continuous`` data sets.
    :param part_records: records a data set, if not as usual.
    :param action: something else than planning and uploading: ``force``, ``undo`` or ``verify``.
    """

    number: int
    run: str
    chunk_records: int
    batch: int | None = None
    try_number: int = 1
    uploader: str = "ours"
    at_once: int = 1
    kind: str = "normal"
    part_records: int | None = None
    action: str = ""


def work(place: Place, task: Task, faults: Sequence[LocalFault]) -> None:
    """Do a task and leave its outcome behind, as Airflow's worker would tell it.

    :param faults: what goes wrong in it.
    """
    _begin(place, f"{task.number:02}")
    Gremlins(faults, place.journal, place.ledger, place.areas_of(task.batch)).move_in()
    outcome: dict[str, Any]
    try:
        outcome = _done(place, task)
    except IngestError as error:
        logging.getLogger(__name__).exception("The task failed.")
        retriable = error.disposition is Disposition.RETRIABLE
        end = "wait" if error.waits else "retry" if retriable else "failed"
        outcome = {"end": end, "code": error.code, "after": error.retry_after}
    path = place.results / f"{task.number:02}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps(outcome))
    part.replace(path)


def work_alone(place: Place, task: Task) -> None:
    """Do a whole run of another deployment, one batch after the other, each until it is done or fails.

    :param task: the plan.
    """
    _begin(place, f"{task.number:02}")
    end_turns(place)
    plan, tries = _until_done(place, task), 0
    for batch in plan.get("batches", []):
        if _until_done(place, replace(task, batch=batch)).get("end") != "done":
            tries += 1
        end_turns(place, batch)
    path = place.results / f"{task.number:02}.json"
    path.write_text(json.dumps({"end": "failed" if tries or "batches" not in plan else "done"}))


def _until_done(place: Place, task: Task) -> dict[str, Any]:
    for try_number in range(1, TRIES_ALONE + 1):
        try:
            return _done(place, replace(task, try_number=try_number))
        except IngestError as error:
            logging.getLogger(__name__).exception("The task failed.")
            if error.disposition is not Disposition.RETRIABLE:
                break
            time.sleep(min(1.0, getattr(error, "retry_after", None) or 0.05))
    return {}


def end_turns(place: Place, *ended: int, besides: Sequence[int | None] = ()) -> None:
    """Let newer batches go on, as the operators do once no task will work on a batch any more.

    :param ended: numbers of such batches; without any, those of all.
    :param besides: then, those that tasks will still work on.
    """
    with (
        closing(Ledger(f"sqlite:///{place.ledger}")) as ledger,
        closing(sqlite3.connect(place.ledger)) as rows,
    ):
        for batch, dag_id, run_id in rows.execute("SELECT batch, dag_id, run_id FROM turns").fetchall():
            if batch in ended or not (ended or batch in besides):
                ledger.turns.end(batch, dag_id, run_id)


def maintain(place: Place) -> None:
    """Do what the maintenance job does: delete what a batch left behind that is held by now.

    It also verifies again what such a data set may have superseded before it was deleted.
    """
    _begin(place, "maintenance")
    ledger, settings = Ledger(f"sqlite:///{place.ledger}"), _settings(place)
    host, root = host_of(place.base_url), UPath(place.staging)
    with _client(place, settings) as client:
        context = UploadContext(client=client, ledger=ledger, settings=settings, root=root, timeouts=TIMING)
        Reconciliation(
            root,
            ledger,
            options=ReconcileOptions(older_than_minutes=0, check_batches=20),
            context_of=lambda connection: context,
            api_host_of=lambda connection: host,
        ).run()


def _begin(place: Place, name: str) -> None:
    for (module, constant), value in QUICK.items():
        if not hasattr(module, constant):
            raise AttributeError(f"{module.__name__} has no {constant} any more: correct QUICK")
        setattr(module, constant, value)
    if place.proxy:
        for name in ("no_proxy", "NO_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "CURL_CA_BUNDLE"):
            os.environ.pop(name, None)
        os.environ |= {"HTTPS_PROXY": place.proxy, "REQUESTS_CA_BUNDLE": str(place.authority)}
    _log_to(place.logs / f"{name}.log")


def _done(place: Place, task: Task) -> dict[str, Any]:
    root = UPath(place.staging)
    options = RunOptions(
        chunk_records=task.chunk_records,
        part_records=task.part_records or PART_RECORDS,
        max_quarantined_percent=50,
        allow_truncate=True,
        force=task.action == "force",
        allow_doubling=task.action == "force",
    )
    ledger = Ledger(f"sqlite:///{place.ledger}")
    host = host_of(place.base_url)
    if task.batch is None:
        plan = plan_run(
            root,
            Window(DAY, DAY + timedelta(days=9)),
            ledger=ledger,
            options=options,
            api_host_of=lambda connection: host,
            data_set_type="continuous" if task.kind == "continuous" else "normal",
        )
        if task.kind == "backlog":
            ledger.turns.plan("dag", task.run, dict.fromkeys(plan.batches))
        return {"end": "done", "batches": plan.batches, "summary": plan.summary()}
    row = ledger.batches.get(task.batch)
    if task.action == "undo":
        settings = _settings(place)
        with _client(place, settings) as client:
            context = UploadContext(client=client, ledger=ledger, settings=settings, timeouts=TIMING)
            return {"end": "done", "deleted": withdraw_batch(context, row)}
    prepared = prepare_batch(root, row, ledger=ledger, options=options, api_host_of=lambda connection: host)
    if not (prepared.accepted or prepared.deletes or prepared.retracts is not None):
        return {"end": "done", "summary": prepared.model_dump(mode="json")}
    settings = _settings(place)
    with _client(place, settings) as client:
        context = UploadContext(
            client=client,
            ledger=ledger,
            settings=settings,
            root=root,
            options=UploadOptions.from_run(options, at_once=task.at_once, asked_at=None),
            origin=TaskOrigin(dag_id="dag", run_id=task.run, map_index=0, try_number=task.try_number),
            timeouts=TIMING,
            rebuild=rebuild_work_area,
        )
        if task.action == "verify":
            reverify(context, ledger.batches.get(task.batch))
            return {"end": "done"}
        summary = UPLOADERS[task.uploader, task.kind](context, ledger.batches.get(task.batch))
    return {"end": "done", "summary": {**prepared.model_dump(mode="json"), **vars(summary)}}


def _settings(place: Place) -> ClientSettings:
    return ClientSettings.of(
        {
            "environment": place.base_url,
            "auth_mode": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "connect_timeout": 2.0,
            "read_timeout": READ_SECONDS,
        }
    )


def _client(place: Place, settings: ClientSettings) -> TidepoolClient:
    client = connect(settings, backoff=BackOff(attempts=3, first=0.02, longest=0.3, patience=2.0))
    client._read_back_timeouts = HttpTimeouts(2.0, READ_SECONDS, 5.0)
    close = client.close_data_set

    def recorded(data_set_id: str) -> None:
        place.journal.append(f"close {data_set_id}")
        close(data_set_id)

    delete = client.delete_data_set

    def deleted(data_set_id: str) -> None:
        if place.is_whole(data_set_id):
            place.journal.append(WHOLE_DELETED)
        delete(data_set_id)

    client.close_data_set = recorded  # type: ignore[method-assign]
    client.delete_data_set = deleted  # type: ignore[method-assign]
    return client


def _log_to(path: Path) -> None:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
