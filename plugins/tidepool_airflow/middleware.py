"""Middleware of Airflow's API server: two checks and corrections of requests before Airflow sees them.

Mistakes in the parameters of a run. Airflow validates each parameter by itself. It accepts two that do not
fit together, as days in the wrong order, and names that are no parameters; the run would then fail in its
first task. Here the same check comes first, in the form and over the API.

The button Test of a connection without a port, which Airflow 3.3.2 rejects. Its UI sends port 0 for none, and
its API takes that for another destination than the stored one: 400, "The host or port to test differs". Fixed
in Airflow by https://github.com/apache/airflow/pull/73298; until then the port is taken out of such requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tidepool_airflow.links import DAG_OF_TYPE, RECONCILE_DAG

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


async def whole_body(receive: Receive) -> bytes:
    """Return the body of a request, read to its end."""
    parts = []
    more_body = True
    while more_body:
        message = await receive()
        parts.append(message.get("body", b""))
        more_body = message.get("more_body", False)
    return b"".join(parts)


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that yields a body that was read already, and then whatever else comes."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


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
        body = await whole_body(receive)
        mistake = mistake_in(match["dag_id"], body)
        if mistake is None:
            await self._app(scope, replaying(body, receive), send)
        else:
            from fastapi.responses import JSONResponse

            await JSONResponse({"detail": mistake}, status_code=400)(scope, receive, send)


def mistake_in(dag_id: str | None, body: bytes) -> str | None:
    """Return what is wrong with the parameters of a run that is requested, ``None`` if nothing is.

    :param dag_id: the DAG that the address names; a backfill names it in its body.
    :param body: of the request; a malformed one is left to Airflow.
    """
    try:
        payload = json.loads(body)
    except ValueError:
        return None
    if not isinstance(payload, dict):
        return None
    conf = payload.get("conf") if dag_id else payload.get("dag_run_conf")
    return _mistake(dag_id or payload.get("dag_id"), conf) if isinstance(conf, dict) else None


def _mistake(dag_id: Any, conf: dict[str, Any]) -> str | None:
    from tidepool_ingest.options import OptionsError, ReconcileOptions, RunOptions

    options: type[RunOptions | ReconcileOptions]
    if dag_id in DAG_OF_TYPE.values():
        options = RunOptions
    elif dag_id == RECONCILE_DAG:
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
            body = without_port_0(await whole_body(receive))
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            await self._app({**scope, "headers": headers}, replaying(body, receive), send)
        else:
            await self._app(scope, receive, send)


def without_port_0(body: bytes) -> bytes:
    """Return the body of a request to test a connection, without its port if that is 0."""
    try:
        payload = json.loads(body)
    except ValueError:
        return body
    if not isinstance(payload, dict) or payload.get("conn_type") != CONN_TYPE or payload.get("port") != 0:
        return body
    return json.dumps({name: value for name, value in payload.items() if name != "port"}).encode()
