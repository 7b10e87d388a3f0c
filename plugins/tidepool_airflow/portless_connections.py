"""The button Test for a connection without a port, which Airflow 3.3.2 refuses.

Its UI sends port 0 for none, and its API takes that for another destination than the stored one: 400, "The
host or port to test differs". Fixed in Airflow by https://github.com/apache/airflow/pull/73298; until then
this takes the port out of such a request.
"""

from __future__ import annotations

import json

from tidepool_airflow.request_bodies import Application, Message, Receive, Send, giving, whole_body

PATH = "/api/v2/connections/test"
CONN_TYPE = "tidepool"


class PortlessConnectionTest:
    """Middleware of Airflow's API server: drops port 0 from tests of Tidepool connections, and nothing else.

    :param app: what answers the requests.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(PATH):
            body = without_port_0(await whole_body(receive))
            headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            await self._app({**scope, "headers": headers}, giving(body, receive), send)
        else:
            await self._app(scope, receive, send)


def without_port_0(body: bytes) -> bytes:
    """Return the body of a request to test a connection, without its port if that is none."""
    try:
        asked = json.loads(body)
    except ValueError:
        return body
    if not isinstance(asked, dict) or asked.get("conn_type") != CONN_TYPE or asked.get("port") != 0:
        return body
    return json.dumps({name: value for name, value in asked.items() if name != "port"}).encode()
