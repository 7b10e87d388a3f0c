"""The page's routes: who may request what, and which template answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.responses import FileResponse, HTMLResponse, StreamingResponse

from tidepool_airflow.settings import root_of_batch
from tidepool_airflow.uploads_page.access import (
    User,
    may_act,
    require_actor,
    require_own_page,
    require_reader,
    token_of,
)
from tidepool_airflow.uploads_page.actions import (
    MAX_CHOSEN,
    act,
    act_on_chosen,
    lift_throttle,
    open_quarantine,
)
from tidepool_airflow.uploads_page.causes import questions_waiting, show_folder
from tidepool_airflow.uploads_page.chart import charts, heat_map
from tidepool_airflow.uploads_page.html import Links, html
from tidepool_airflow.uploads_page.live import SECONDS_TO_LOOK_OVER, answer, next_look, outcomes
from tidepool_airflow.uploads_page.overview import OverviewQuery, csv_lines, looked_over
from tidepool_airflow.uploads_page.received import Batch, CurrentLedger, ListQuery, requested_upload
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger import (
    BatchRow,
    Purged,
    Rejection,
)
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.reports.help import available_actions

PAGE_ROWS = MAX_CHOSEN
STATIC = FilePath(__file__).parent / "static"
ASSETS = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "patch.js": "text/javascript",
    "folder.js": "text/javascript",
    "theme.js": "text/javascript",
    "choose.js": "text/javascript",
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


def application() -> FastAPI:
    """Return the page's application. Anybody who is not signed in to Airflow gets 401 from every route."""
    page = FastAPI(
        title="Tidepool uploads",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(require_reader)],
    )
    page.add_api_route("/", show_overview, response_class=HTMLResponse)
    page.add_api_route("/overview.csv", send_overview, response_class=StreamingResponse)
    page.add_api_route("/list", show_list, response_class=HTMLResponse)
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
        "/{batch}/folder",
        show_folder,
        methods=["POST"],
        dependencies=[Depends(require_actor), Depends(require_own_page)],
    )
    page.add_api_route(
        "/throttles/{api_host}/lift",
        lift_throttle,
        methods=["POST"],
        dependencies=[Depends(require_actor), Depends(require_own_page)],
    )
    page.add_api_route(
        "/chosen/{what}",
        act_on_chosen,
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


def show_overview(
    request: Request, ledger: CurrentLedger, query: Annotated[OverviewQuery, Query()]
) -> Response:
    """Show devices against days."""
    links = Links(request)
    # The page's thousands of objects go with it. The collector would take them for lasting ones, and at each
    # third page go through all that Airflow holds, which takes as long as the page.
    with collector_paused():
        return answer(
            request,
            "overview.html",
            live=next_look(ledger, seconds=SECONDS_TO_LOOK_OVER),
            links=links,
            query=query,
            **looked_over(ledger, query, links),
        )


def send_overview(ledger: CurrentLedger, query: Annotated[OverviewQuery, Query()]) -> StreamingResponse:
    """Send all devices that match against days, as a file for a spreadsheet."""
    overview = query.overview(ledger)
    name = f"overview-{overview.first}-{overview.last}.csv"
    return StreamingResponse(
        csv_lines(overview),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def show_list(
    request: Request, user: User, ledger: CurrentLedger, query: Annotated[ListQuery, Query()]
) -> Response:
    """Show a page of uploads."""
    found = ledger.uploads.page(query.filter(), before=query.before, after=query.after, limit=PAGE_ROWS + 1)
    # One upload more than is shown: it says whether there is another page, on whose side it lies.
    has_more = len(found) > PAGE_ROWS
    uploads = found[1:] if has_more and query.after is not None else found[:PAGE_ROWS]
    newer = has_more if query.after is not None else query.before is not None
    older = bool(uploads) if query.after is not None else has_more
    by_state = ledger.uploads.by_state()
    acts = may_act(user)
    own = [action for action in ledger.actions.newest(limit=PAGE_ROWS) if action.actor == user.get_name()]
    found_outcomes = outcomes(ledger, own)
    return answer(
        request,
        "list.html",
        live=next_look(ledger, found=found_outcomes),
        outcomes=found_outcomes,
        links=Links(request),
        query=query,
        uploads=uploads,
        questions=questions_waiting(uploads),
        newer=query.link(after=uploads[0].batch) if uploads and newer else None,
        older=query.link(before=uploads[-1].batch) if older and uploads else None,
        by_state=by_state,
        total=sum(by_state.values()),
        waiting=ledger.uploads.waiting(),
        dags=ledger.uploads.dags(),
        throttles=ledger.rate_limits.in_force(),
        offered={upload.batch: available_actions(upload) for upload in uploads} if acts else {},
        acts=acts,
        token=token_of(user) if acts else "",
    )


def show_upload(request: Request, user: User, ledger: CurrentLedger, batch: Batch) -> Response:
    """Show one upload."""
    upload, row = requested_upload(ledger, batch), ledger.batches.get(batch)
    whole = row if row.part_of is None else ledger.batches.get(row.part_of)
    data_sets = ledger.data_sets.of_batch(batch)
    in_parts = ledger.uploads.of_parts(batch) if upload.parts else []
    rejections = [
        rejection
        for number in ([part.batch for part in in_parts] or [batch])
        for rejection in ledger.rejections.of_batch(number).values()
    ]
    acts = may_act(user)
    actions = ledger.actions.of_batch(batch)
    newest_outcome = outcomes(ledger, actions, limit=1)
    staged = upload if row.part_of is None else requested_upload(ledger, whole.id)
    return answer(
        request,
        "upload.html",
        live=next_look(ledger, upload=upload, found=newest_outcome),
        outcomes=newest_outcome,
        links=Links(request),
        upload=upload,
        row=row,
        stopped_in=upload.stopped_in or staged.stopped_in,
        question=questions_waiting([staged]).get(staged.batch),
        related=ledger.corrections.of(whole),
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
        actions=actions,
        waiting=ledger.uploads.waiting(),
        offered=available_actions(upload) if acts else (),
        acts=acts,
        token=token_of(user) if acts else "",
    )


def show_inactive(request: Request, ledger: CurrentLedger) -> Response:
    """Show the devices that have stopped sending."""
    from tidepool_ingest.reports.inactive_devices import inactive_devices

    return answer(
        request,
        "inactive.html",
        live=None,
        links=Links(request),
        devices=inactive_devices(ledger, datetime.now(UTC).date()),
        waiting=ledger.uploads.waiting(),
    )


def show_audit_log(
    request: Request, ledger: CurrentLedger, before: Annotated[int | None, Query(ge=1, le=2**62)] = None
) -> Response:
    """Show what people requested, confirmed and opened."""
    actions = ledger.actions.newest(before=before, limit=PAGE_ROWS + 1)
    visible = actions[:PAGE_ROWS]
    return answer(
        request,
        "audit_log.html",
        live=next_look(ledger),
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
