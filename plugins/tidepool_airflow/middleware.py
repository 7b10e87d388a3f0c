"""Middleware of Airflow's API server: two checks and corrections of requests before Airflow sees them.

Mistakes in the parameters of a run. Airflow validates each parameter by itself. It accepts two that do not
fit together, as days in the wrong order, and names that are no parameters; the run would then fail in its
first task. Here the same check comes first, in the form and over the API, for those whom Airflow would let
start the run; everybody else gets Airflow's own answer.

The button Test of a connection without a port, which Airflow 3.3.2 rejects. Its UI sends port 0 for none, and
its API takes that for another destination than the stored one: 400, "The host or port to test differs". Fixed
in Airflow by https://github.com/apache/airflow/pull/73298; until then the port is taken out of such requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidepool_airflow.known_dags import RECONCILE, kind_of
from tidepool_airflow.links import DAG_OF_TYPE

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


MAX_BODY_BYTES = 1024 * 1024
"""Longest body that is looked at, far more than any form sends; longer ones pass as they come."""


async def read_body(receive: Receive) -> tuple[bytes | None, list[Message]]:
    """Return the body of a request, and the messages that it came in.

    :param receive: gives the messages.
    :return: no body if it is too long, or the client has gone: then not all messages may have been read.
    """
    messages: list[Message] = []
    size, more = 0, True
    while more:
        messages.append(message := await receive())
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or size > MAX_BODY_BYTES:
            return None, messages
        more = message.get("more_body", False)
    return b"".join(each.get("body", b"") for each in messages), messages


def replaying(messages: list[Message], receive: Receive) -> Receive:
    """Return a ``receive`` that yields messages that were read already, and then whatever else comes."""
    read = iter(messages)

    async def replay() -> Message:
        message = next(read, None)
        return await receive() if message is None else message

    return replay


def json_object(body: bytes | None) -> dict[str, Any] | None:
    """Return the JSON object that a body holds; anything else is left to Airflow."""
    try:
        payload = json.loads(body or b"")
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


RUN_PATHS = re.compile(r"/api/v2/(?:dags/(?P<dag_id>[^/]+)/dagRuns|backfills(?:/dry_run)?)$")
"""Where runs are requested."""


class RunParamsMiddleware:
    """Middleware: answers a request for a run whose parameters cannot be used with what to change.

    :param app: what answers all other requests.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with the mistake."""
        match = (
            RUN_PATHS.search(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        )
        if match is None:
            await self._app(scope, receive, send)
            return
        from fastapi.concurrency import run_in_threadpool

        body, messages = await read_body(receive)
        # Elsewhere than requests are received: it may ask Airflow's database what the DAG is for.
        dag_id, mistake = await run_in_threadpool(mistake_in, match["dag_id"], body)
        if mistake is None or not await _may_start(scope, dag_id):
            await self._app(scope, replaying(messages, receive), send)
        else:
            from fastapi.responses import JSONResponse

            await JSONResponse({"detail": mistake}, status_code=400)(scope, receive, send)


async def _may_start(scope: Message, dag_id: str) -> bool:
    """Return whether the sender of a request may start such runs; nobody else learns what is wrong."""
    from fastapi import Request

    from tidepool_airflow.uploads_page import access

    return await access.may_start(Request(scope), dag_id)


def mistake_in(dag_id: str | None, body: bytes | None) -> tuple[str, str | None]:
    """Return the DAG of a run that is requested, and what is wrong with its parameters, if anything is.

    :param dag_id: the DAG that the address names; a backfill names it in its body.
    :param body: of the request; a malformed one is left to Airflow.
    """
    payload = json_object(body) or {}
    conf = payload.get("conf") if dag_id else payload.get("dag_run_conf")
    named = dag_id or payload.get("dag_id")
    return str(named), _mistake(named, conf) if isinstance(conf, dict) else None


def _mistake(dag_id: Any, conf: dict[str, Any]) -> str | None:
    from tidepool_ingest.options import OptionsError, ReconcileOptions, RunOptions

    options: type[RunOptions | ReconcileOptions]
    kind = kind_of(dag_id)
    if kind in DAG_OF_TYPE:
        options = RunOptions
    elif kind == RECONCILE:
        options = ReconcileOptions
    else:
        return None
    try:
        options.of_params(conf)
    except OptionsError as error:
        if not error.wrong:
            return str(error)
        # The form shows titles, the API takes names.
        titles = {name: f"{field.title} ({name})" for name, field in options.model_fields.items()}
        mistakes = "; ".join(f"{titles.get(name, name)}: {what}" for name, what in error.wrong.items())
        return f"{mistakes[:1].upper()}{mistakes[1:]}. {error.remedy}"
    return None


CONNECTION_TEST_PATH = "/api/v2/connections/test"
CONN_TYPE = "tidepool"


class ConnectionTestWorkaround:
    """Middleware: drops port 0 from tests of Tidepool connections, and nothing else.

    :param app: what answers the requests.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if (
            scope["type"] == "http"
            and scope["method"] == "POST"
            and scope["path"].endswith(CONNECTION_TEST_PATH)
        ):
            body, messages = await read_body(receive)
            changed = without_port_0(body)
            if changed is None:
                await self._app(scope, replaying(messages, receive), send)
                return
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            headers.append((b"content-length", str(len(changed)).encode()))
            whole = {"type": "http.request", "body": changed, "more_body": False}
            await self._app({**scope, "headers": headers}, replaying([whole], receive), send)
        else:
            await self._app(scope, receive, send)


def without_port_0(body: bytes | None) -> bytes | None:
    """Return the body of a request to test a connection without its port if that is 0, else ``None``."""
    payload = json_object(body)
    if payload is None or payload.get("conn_type") != CONN_TYPE or payload.get("port") != 0:
        return None
    try:
        return json.dumps({name: value for name, value in payload.items() if name != "port"}).encode()
    except RecursionError:
        return None
