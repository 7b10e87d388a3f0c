"""Pages that are kept up to date: what moves, what became of a request, and the answer if nothing changed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from fastapi import Request, Response, status
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from tidepool_airflow.known_dags import USUAL_KINDS, known_dags
from tidepool_airflow.uploads_page.html import ACTION_WORDS, STATE_WORDS, html
from tidepool_ingest.ledger import (
    SUPERSEDED_STATES,
    ActionKind,
    ActionRow,
    ActionStatus,
    BatchRow,
    BatchState,
    Ledger,
    Upload,
    lease_of_batch,
)
from tidepool_ingest.reports.help import remedy_of

SECONDS_TO_LOOK: Final = 2
"""Seconds after which a page may look again while something moves."""

SECONDS_TO_LOOK_OVER: Final = 10
"""The same for the overview, which costs more than a list, and of which a run changes one day at a time."""

RECENT: Final = timedelta(minutes=10)
"""For how long a page says what became of a request that is done."""

LONGEST: Final = timedelta(days=2)
"""After so long nobody waits for what became of a request."""

AT_WORK: Final = (DagRunState.QUEUED, DagRunState.RUNNING)

SETTLED: Final = (BatchState.VERIFIED, BatchState.NOTHING_ACCEPTED, *SUPERSEDED_STATES, BatchState.WITHDRAWN)
"""States that a run leaves as they are, unless somebody has requested something else of it."""

DONE_WORDS: Final[Mapping[ActionKind, str]] = {
    ActionKind.CHECK: "Verified again",
    ActionKind.WITHDRAW: "Undone",
}

# How long ago something was changes by itself, and each page has a token of its own.
_OF_THE_MOMENT = re.compile(r'(?<=<time )[^>]*>[^<]*|data-token="[^"]*"')
_LONG_NUMBER = re.compile(r"\b\d{4,}\b")


def answer(request: Request, template: str, *, live: int | None, **values: Any) -> Response:
    """Return a page that is kept up to date, or nothing but 304 if it is as its reader has it.

    :param request: names the version that the reader has, if it asks for what is new.
    :param template: the page.
    :param live: after how many seconds the page may look again; nothing if it need not.
    :param values: of the template.
    """
    content = html(template, live=live, **values)
    lasting = _OF_THE_MOMENT.sub(_without_moment, content)
    version = f'W/"{blake2b(lasting.encode(), digest_size=16).hexdigest()}"'
    if request.headers.get("if-none-match") == version:
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": version})
    return HTMLResponse(content, headers={"ETag": version})


def _without_moment(found: re.Match[str]) -> str:
    """Return a time without how long ago it was, and a token as nothing."""
    moment = re.search(r'datetime="([^"]*)"', found[0])
    return moment[1] if moment and "data-freshness" not in found[0] else ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of something that a person requested.

    :param text: in one line.
    :param kind: how it is coloured, named as the states of batches; empty while its run has yet to end.
    :param action: the request.
    :param remedy: what to do if it failed.
    :param moves: whether waiting for its run makes sense.
    """

    text: str
    kind: str
    action: ActionRow
    remedy: str = ""
    moves: bool = False


def outcomes(ledger: Ledger, actions: Iterable[ActionRow], *, limit: int = 50) -> list[Outcome]:
    """Return what became of the newest requests that a run carries out: those in progress or just done.

    :param ledger: knows the batches.
    :param actions: newest first.
    :param limit: how many requests are looked at, at most.
    """
    asked = [action for action in actions if action.run_id and action.batch and action.kind in _BY_RUNS]
    found, runs = [], _Runs()
    for action in asked[:limit]:
        if action.created_at < datetime.now(UTC) - LONGEST:
            break
        run = runs[str(action.dag_id), str(action.run_id)]
        ended = action.ended_at if action.kind is not ActionKind.RETRY else run.ended if run else None
        if ended is None or datetime.now(UTC) - ended < RECENT:
            outcome = _outcome(ledger.batches.get(int(action.batch or 0)), action, run)
            if outcome is not None:
                found.append(outcome)
    return found


_BY_RUNS = (ActionKind.CHECK, ActionKind.WITHDRAW, ActionKind.RETRY)


@dataclass(frozen=True)
class _Run:
    state: str
    ended: datetime | None
    is_paused: bool


class _Runs(dict[tuple[str, str], "_Run | None"]):
    """Airflow's runs by DAG and id, each asked for once."""

    def __missing__(self, key: tuple[str, str]) -> _Run | None:
        query = (
            select(DagRun.state, DagRun.end_date, DagModel.is_paused)
            .join(DagModel, DagModel.dag_id == DagRun.dag_id)
            .where(DagRun.dag_id == key[0], DagRun.run_id == key[1])
        )
        with create_session() as session:
            row = session.execute(query).one_or_none()
        self[key] = None if row is None else _Run(str(row[0]), row[1], bool(row[2]))
        return self[key]


def _outcome(row: BatchRow, action: ActionRow, run: _Run | None) -> Outcome | None:
    words = ACTION_WORDS[action.kind]
    if run is not None and run.state in AT_WORK and not _is_finished(action):
        if run.is_paused:
            return Outcome(text=f"{words}: the DAG is paused; switch it on.", kind="", action=action)
        stands = "is in progress" if run.state == DagRunState.RUNNING else "waits for its run to start"
        return Outcome(text=f"{words} {stands}.", kind="", action=action, moves=True)
    if action.kind is ActionKind.RETRY:
        return _outcome_of_retry(row, action, run)
    if action.status is ActionStatus.DONE:
        said = DONE_WORDS[action.kind] if (action.detail or "")[:1].isdigit() else words
        detail = _LONG_NUMBER.sub(lambda number: f"{int(number[0]):,}", action.detail or "done")
        return Outcome(text=f"{said}: {detail}.", kind="verified", action=action)
    if action.status is ActionStatus.FAILED:
        fault = remedy_of(action.reason)
        text = f"{words} failed: {fault.sentence} ({action.reason})."
        return Outcome(text=text, kind="failed", action=action, remedy=fault.remedy)
    if run is None:  # Airflow keeps nothing of it any more.
        return None
    text = f"{words} failed: its run ended before it was done."
    return Outcome(
        text=text, kind="failed", action=action, remedy="The run's log says why; request it again."
    )


def _is_finished(action: ActionRow) -> bool:
    """Return whether the ledger has the result: of a retry, that is the state that its run leaves."""
    return action.kind is not ActionKind.RETRY and action.status is not ActionStatus.ASKED


def _outcome_of_retry(row: BatchRow, action: ActionRow, run: _Run | None) -> Outcome | None:
    if action.status is ActionStatus.FAILED:  # it could not be started, which the page has said already
        return None
    if run is None:
        return None
    state = STATE_WORDS[row.state].lower()
    if row.state is BatchState.VERIFIED:
        return Outcome(text=f"Retry: {state}.", kind="verified", action=action)
    if row.state is BatchState.OVERWRITTEN and run.state == DagRunState.SUCCESS:
        # It was corrected: the run has taken what lies in its folder now, which has a page of its own.
        return Outcome(text="Retry: the batch in its place was taken.", kind="verified", action=action)
    again = " again" if was(row.state) in (action.detail or "") else ""
    why = f" ({row.reason})" if row.reason else ""
    ended = "" if run.state == DagRunState.SUCCESS or row.reason else " Its run failed."
    kind = row.state if row.state in (BatchState.HELD, BatchState.FAILED) else "failed" if ended else "held"
    return Outcome(text=f"Retry: {state}{again}{why}.{ended}", kind=kind, action=action)


def was(state: BatchState) -> str:
    """Return how the audit log says in which state a batch was when it was retried."""
    return f"it was {state}"


def next_look(
    ledger: Ledger,
    *,
    upload: Upload | None = None,
    found: Collection[Outcome] = (),
    seconds: int = SECONDS_TO_LOOK,
) -> int | None:
    """Return after how many seconds a page should look again; nothing if nothing that it shows moves.

    :param ledger: knows what tasks work on.
    :param upload: the one that the page shows; without one, it shows many.
    :param found: what became of requests that it shows.
    :param seconds: what is returned if something moves.
    """
    if any(outcome.moves for outcome in found):
        return seconds
    if upload is not None and upload.state in SETTLED:
        return seconds if ledger.leases.alive([lease_of_batch(upload.batch)]) else None
    return seconds if _is_a_run_at_work(ledger) or ledger.leases.is_work_in_progress() else None


def _is_a_run_at_work(ledger: Ledger) -> bool:
    dag_ids = {*USUAL_KINDS, *(dag.dag_id for dag in known_dags()), *ledger.uploads.dags()}
    # A run of a paused DAG does not begin, however long one waits.
    query = (
        select(DagRun.id)
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(DagRun.dag_id.in_(dag_ids), DagRun.state.in_(AT_WORK), DagModel.is_paused.is_(False))
        .limit(1)
    )
    with create_session() as session:
        return session.scalar(query) is not None
