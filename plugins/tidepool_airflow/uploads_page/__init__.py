"""The page "Tidepool uploads" in Airflow's navigation: an application mounted in the API server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class UploadsPage:
    """The application, created at the first request: every task loads the plugin and needs none of this."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as an ASGI application."""
        await _application()(scope, receive, send)


@cache
def _application() -> FastAPI:
    from tidepool_airflow.uploads_page.application import application

    return application()
