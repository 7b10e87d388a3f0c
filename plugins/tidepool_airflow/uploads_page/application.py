"""The page's routes: who may request what, which template answers, and how a requested action is started."""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Annotated, Any

from airflow.api.common.trigger_dag import trigger_dag
from airflow.models.dag import DagModel
from airflow.sdk.exceptions import AirflowException
from airflow.utils.types import DagRunTriggeredByType
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response, status
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError

from tidepool_airflow.links import ACTION_DAG, DAG_OF_TYPE
from tidepool_airflow.settings import ledger_address, root_of_batch, staging_root
from tidepool_airflow.uploads_page.access import (
    User,
    may_act,
    require_actor,
    require_own_page,
    require_reader,
    token_of,
)
from tidepool_airflow.uploads_page.chart import charts, heat_map
from tidepool_airflow.uploads_page.html import Links, html
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import (
    ActionKind,
    ActionStatus,
    BatchRow,
    BatchState,
    Ledger,
    Purged,
    Rejection,
    Upload,
    UploadFilter,
)
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.help import available_actions
from tidepool_ingest.texts import problem_of

log = logging.getLogger(__name__)

PAGE_ROWS = 50
STATIC = FilePath(__file__).parent / "static"
ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "theme.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "icon-dark.svg": "image/svg+xml",
}
"""The files that the page loads, with their types; nothing comes from anywhere else."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def current_ledger() -> Ledger:
    """Return the ledger that the connection ``tidepool_ledger`` names now.

    :raises LedgerConfigurationError: if its address cannot be used.
    :raises LedgerUnavailableError: if it does not answer.
    """
    return _opened(ledger_address())


@lru_cache(maxsize=2)
def _opened(address: str) -> Ledger:
    ledger = Ledger(address)
    ledger.migrate()
    return ledger


CurrentLedger = Annotated[Ledger, Depends(current_ledger)]
Batch = Annotated[int, Path(ge=1, le=2**62)]


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _that_can_be_kept(text: str) -> str:
    """Refuse what no row can hold, and PostgreSQL does not even look for."""
    if problem := problem_of(text):
        raise ValueError(f"it holds {problem}")
    return text


EMPTY_IS_NONE = BeforeValidator(_none_if_empty)
Text = Annotated[
    Annotated[str, Field(max_length=250), AfterValidator(_that_can_be_kept)] | None, EMPTY_IS_NONE
]
Number = Annotated[Annotated[int, Field(ge=1, le=2**62)] | None, EMPTY_IS_NONE]


class ListQuery(BaseModel):
    """What the list's form filters by; an empty field does not matter."""

    model_config = ConfigDict(extra="ignore")

    state: Annotated[BatchState | None, EMPTY_IS_NONE] = None
    first_day: Annotated[date | None, EMPTY_IS_NONE] = None
    last_day: Annotated[date | None, EMPTY_IS_NONE] = None
    label: Text = None
    dag: Text = None
    type: Text = None
    waiting: bool = False
    before: Number = None
    after: Number = None

    def filter(self) -> UploadFilter:
        """Return it as the ledger takes it."""
        return UploadFilter(
            state=self.state,
            first_day=self.first_day,
            last_day=self.last_day,
            label=self.label.strip() if self.label else None,
            dag_id=self.dag,
            data_set_type=self.type,
            waiting=self.waiting,
        )

    def link(self, **changed: Any) -> dict[str, str]:
        """Return it as the query of a link, with some fields changed."""
        values = self.model_dump(mode="json", exclude_none=True, exclude={"before", "after"}) | changed
        return {name: str(value) for name, value in values.items() if value not in (None, False, "")}


def application() -> FastAPI:
    """Return the page's application. Anybody who is not signed in to Airflow gets 401 from every route."""
    page = FastAPI(
        title="Tidepool uploads",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(require_reader)],
    )
    page.add_api_route("/", show_list, response_class=HTMLResponse)
    page.add_api_route("/inactive", show_inactive, response_class=HTMLResponse)
    page.add_api_route("/audit-log", show_audit_log, response_class=HTMLResponse)
    page.add_api_route("/static/{name}", show_asset, response_class=FileResponse)
    page.add_api_route("/{batch}", show_upload, response_class=HTMLResponse)
    page.add_api_route(
        "/{batch}/quarantine.ndjson",
        open_quarantine,
        response_class=StreamingResponse,
        dependencies=[Depends(require_actor)],
    )
    page.add_api_route(
        "/throttles/{api_host}/lift",
        lift_throttle,
        methods=["POST"],
        dependencies=[Depends(require_actor), Depends(require_own_page)],
    )
    page.add_api_route(
        "/{batch}/{what}",
        act,
        methods=["POST"],
        dependencies=[Depends(require_actor), Depends(require_own_page)],
    )
    page.middleware("http")(_with_headers)
    page.exception_handler(IngestError)(_show_error)
    return page


async def _with_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


def _show_error(request: Request, error: Exception) -> HTMLResponse:
    """Show what is wrong: the library's errors hold nothing that must not be shown."""
    assert isinstance(error, IngestError)
    content = html("error.html", links=Links(request), error=error, moment=datetime.now(UTC))
    return HTMLResponse(content, status_code=status.HTTP_503_SERVICE_UNAVAILABLE)


# ---------------------------------------------------------------- pages


def show_list(
    request: Request, user: User, ledger: CurrentLedger, query: Annotated[ListQuery, Query()]
) -> str:
    """Show a page of uploads."""
    found = ledger.uploads.page(query.filter(), before=query.before, after=query.after, limit=PAGE_ROWS + 1)
    # One upload more than is shown: it says whether there is another page, on whose side it lies.
    has_more = len(found) > PAGE_ROWS
    uploads = found[1:] if has_more and query.after is not None else found[:PAGE_ROWS]
    newer = has_more if query.after is not None else query.before is not None
    older = bool(uploads) if query.after is not None else has_more
    by_state = ledger.uploads.by_state()
    acts = may_act(user)
    return html(
        "list.html",
        links=Links(request),
        query=query,
        uploads=uploads,
        newer=query.link(after=uploads[0].batch) if uploads and newer else None,
        older=query.link(before=uploads[-1].batch) if older and uploads else None,
        by_state=by_state,
        total=sum(by_state.values()),
        waiting=ledger.uploads.waiting(),
        dags=ledger.uploads.dags(),
        throttles=ledger.rate_limits.in_force(),
        acts=acts,
        token=token_of(user) if acts else "",
    )


def show_upload(request: Request, user: User, ledger: CurrentLedger, batch: Batch) -> str:
    """Show one upload."""
    upload, row = _upload(ledger, batch), ledger.batches.get(batch)
    whole = row if row.part_of is None else ledger.batches.get(row.part_of)
    data_sets = ledger.data_sets.of_batch(batch)
    in_parts = ledger.uploads.of_parts(batch) if upload.parts else []
    rejections = [
        rejection
        for number in ([part.batch for part in in_parts] or [batch])
        for rejection in ledger.rejections.of_batch(number).values()
    ]
    acts = may_act(user)
    return html(
        "upload.html",
        links=Links(request),
        upload=upload,
        row=row,
        in_parts=in_parts,
        data_sets=data_sets[::-1],
        chunks={
            data_set.id: list(ledger.data_sets.chunks_of(data_set.id).values()) for data_set in data_sets
        },
        whole=whole,
        heat_map=heat_map(ledger.batch_days.hours_of_batch(batch), whole.zones),
        charts=charts(ledger.batch_days.of_batch(batch), ledger.devices.days_of_others(row)),
        reasons=ledger.quarantine_reasons.of_batch(batch),
        skipped=_skipped(row),
        rejected_by_tidepool=_counted(rejections),
        actions=ledger.actions.of_batch(batch),
        waiting=ledger.uploads.waiting(),
        offered=available_actions(upload) if acts else (),
        acts=acts,
        token=token_of(user) if acts else "",
    )


def show_inactive(request: Request, ledger: CurrentLedger) -> str:
    """Show the devices that have stopped sending."""
    from tidepool_ingest.reports.inactive_devices import inactive_devices

    return html(
        "inactive.html",
        links=Links(request),
        devices=inactive_devices(ledger, datetime.now(UTC).date()),
        waiting=ledger.uploads.waiting(),
    )


def show_audit_log(
    request: Request, ledger: CurrentLedger, before: Annotated[int | None, Query(ge=1, le=2**62)] = None
) -> str:
    """Show what people requested, confirmed and opened."""
    actions = ledger.actions.newest(before=before, limit=PAGE_ROWS + 1)
    visible = actions[:PAGE_ROWS]
    return html(
        "audit_log.html",
        links=Links(request),
        actions=visible,
        older={"before": str(visible[-1].id)} if len(actions) > PAGE_ROWS else None,
        newer={} if before is not None else None,
        waiting=ledger.uploads.waiting(),
    )


def show_asset(name: str) -> FileResponse:
    """Send one of the files that the page loads."""
    if name not in ASSETS:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    return FileResponse(STATIC / name, media_type=ASSETS[name])


def open_quarantine(user: User, ledger: CurrentLedger, batch: Batch) -> StreamingResponse:
    """Send the file with the rejected records, and record who opened it."""
    from tidepool_ingest.prepare.step import rebuild_work_area
    from tidepool_ingest.staging.encryption import decrypted
    from tidepool_ingest.staging.work_area import WorkArea

    _upload(ledger, batch)
    row = ledger.batches.get(batch)
    if row.part_of is not None:
        row = ledger.batches.get(row.part_of)  # one file for all parts
    if row.purged is Purged.ALL:
        raise HTTPException(
            status.HTTP_410_GONE,
            "The quarantine file has been removed, as it is some time after its batch is done. "
            "Running the batch's day with `force` writes it again.",
        )
    root = root_of_batch(row.folder)
    area = WorkArea(root, row.content_key)
    if not area.is_quarantine_intact():
        rebuild_work_area(root, row, ledger, record_failure=False)
    blocks = decrypted(area.quarantine_blocks())
    first = next(blocks, b"")  # a missing file is reported before anything is sent
    ledger.actions.record(user.get_name(), ActionKind.QUARANTINE, batch=row.id, status=ActionStatus.DONE)

    def whole() -> Iterator[bytes]:
        yield first
        yield from blocks

    name = f"quarantine-{row.day}-{row.label.split()[-1]}.ndjson"
    return StreamingResponse(
        whole(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _skipped(row: BatchRow) -> dict[str, int]:
    """Return how many rows of a batch's files are no reading; nothing if its storage cannot say."""
    from tidepool_ingest.reports.run import skipped_rows

    if row.part_of is not None or not row.staged or row.purged is Purged.ALL:
        return {}
    try:
        return skipped_rows(root_of_batch(row.folder), row)
    except IngestError:
        return {}


def _counted(rejections: Iterable[Rejection]) -> list[tuple[str, str, int]]:
    """Return how many records of each type Tidepool itself rejected for each reason."""
    counted = Counter(
        (rejection.type, code)
        for rejection in rejections
        for code in {code for code, _at in rejection.problems}
    )
    return [(kind, code, records) for (kind, code), records in sorted(counted.items())]


def _upload(ledger: Ledger, batch: int) -> Upload:
    upload = ledger.uploads.get(batch)
    if upload is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "The ledger has no upload with this number.")
    return upload


# ---------------------------------------------------------------- actions


def act(request: Request, user: User, ledger: CurrentLedger, batch: Batch, what: ActionKind) -> JSONResponse:
    """Start what somebody requested, and return where it can be followed."""
    upload = _upload(ledger, batch)
    if what not in available_actions(upload):
        raise HTTPException(
            status.HTTP_409_CONFLICT, f"The upload is {upload.state} now. Load the page again."
        )
    try:
        dag_id, run_id = trigger_action(ledger, ledger.batches.get(batch), what, user.get_name())
    except NotStartedError as error:
        raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from error
    run = Links(request).run(dag_id, run_id)
    return JSONResponse({"run": run}, status_code=status.HTTP_202_ACCEPTED)


def lift_throttle(
    user: User, ledger: CurrentLedger, api_host: Annotated[str, Path(max_length=255, pattern=r"^[!-~]+$")]
) -> JSONResponse:
    """Let tasks send requests to an API host again, and record who wanted that."""
    if not ledger.rate_limits.lift(api_host):
        raise HTTPException(
            status.HTTP_409_CONFLICT, "No throttle of this host is in force any more. Load the page again."
        )
    ledger.actions.record(user.get_name(), ActionKind.LIFT, detail=f"of {api_host}", status=ActionStatus.DONE)
    return JSONResponse({"message": "Tasks may send requests again."})


class NotStartedError(IngestError):
    """Airflow does not start the run that somebody requested."""

    code = "not-started"
    sentence = "Airflow could not start its run"
    remedy = "The API server's log says why; request it again once that is solved."


def trigger_action(ledger: Ledger, batch: BatchRow, kind: ActionKind, actor: str) -> tuple[str, str]:
    """Start the run that carries out what somebody requested, and return its DAG and id.

    :param ledger: records the request in the audit log.
    :param batch: the batch that it is about.
    :param kind: ``CHECK``, ``WITHDRAW`` or ``RETRY``.
    :param actor: Airflow's name for the person.
    :raises NotStartedError: if the DAG does not exist or is paused, or the run cannot be created.
    :raises SettingsError: if the staging root of this deployment is not known.
    """
    dag_id = DAG_OF_TYPE[batch.data_set_type] if kind is ActionKind.RETRY else ACTION_DAG
    _require_running(dag_id)
    # Before anything is recorded: the settings may be wrong.
    conf = _conf(batch) if kind is ActionKind.RETRY else {}
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    run_id = f"{kind}__{moment}__{secrets.token_hex(4)}"
    action = ledger.actions.record(actor, kind, batch=batch.id, dag_id=dag_id, run_id=run_id)
    try:
        trigger_dag(
            dag_id,
            run_id=run_id,
            conf=conf or {"action": action},
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=actor,
        )
    except (AirflowException, SQLAlchemyError, ValueError) as error:
        ledger.actions.finish(action, ActionStatus.FAILED, reason=NotStartedError.code)
        log.exception("The run %s of %s cannot be started.", run_id, dag_id)
        raise NotStartedError(f"Airflow cannot start a run of {dag_id} ({type(error).__name__}).") from error
    if kind is ActionKind.RETRY:
        ledger.actions.finish(action, ActionStatus.DONE, detail="see the run for its result")
    return dag_id, run_id


def _conf(batch: BatchRow) -> dict[str, Any]:
    """Return the parameters of a run that retries a batch."""
    conf = {"first_day": batch.day.isoformat(), "users": [short_hash(batch.user_id)]}
    root, own = str(root_of_batch(batch.folder)), str(staging_root())
    return conf if root == own else {**conf, "staging_root": root}


def _require_running(dag_id: str) -> None:
    dag = DagModel.get_current(dag_id)
    if dag is None:
        raise NotStartedError(f"Airflow has no DAG {dag_id}.", remedy="Put its file into the DAG folder.")
    if dag.is_paused:
        raise NotStartedError(f"The DAG {dag_id} is paused.", remedy="Switch it on, then request this again.")
