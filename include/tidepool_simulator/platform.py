"""All services behind one address, as the gateway shows them."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from tidepool_simulator.account_services import AccountServices
from tidepool_simulator.accounts import Accounts
from tidepool_simulator.data_service import DataService
from tidepool_simulator.database import Database
from tidepool_simulator.exchange import Request, Response, Router
from tidepool_simulator.login_service import LoginService
from tidepool_simulator.oidc_service import OidcService
from tidepool_simulator.reading_service import LateRows, ReadingService
from tidepool_simulator.responses import (
    bare_error,
    handler_error,
    login_error,
    reading_error,
    token_error,
    view_forbidden,
)
from tidepool_simulator.rules import Rules
from tidepool_simulator.sessions import Sessions
from tidepool_simulator.store import Store

_PREFIX = "/dataservices/"
"""The gateway takes it off."""
_BARE_CODES = {401: "unauthenticated", 403: "unauthorized", 429: "too-many-requests"}


@dataclass(frozen=True)
class Located:
    """What a request is about.

    :param path: without the gateway's prefix.
    :param operation: its name for faults.
    :param route: the pattern of its route, for the list of requests; it holds no id.
    :param user: whose data it is about, as the path says; None when it does not.
    :param data_set: upload id of the data set it is about.
    """

    path: str
    operation: str
    route: str
    user: str | None = None
    data_set: str | None = None


class Platform:
    """Route a request to its service and answer it."""

    def __init__(
        self, database: Database, store: Store, accounts: Accounts, sessions: Sessions, rules: Rules
    ) -> None:
        self._store = store
        self.late = LateRows(database)
        self._data = DataService(self._store, accounts, sessions, rules)
        self._others = Router([
            *LoginService(accounts, sessions).routes(),
            *OidcService(accounts, sessions).routes(),
            *ReadingService(database, accounts, sessions, self.late).routes(),
            *AccountServices(accounts, sessions).routes(),
        ])  # fmt: skip

    def locate(self, request: Request) -> Located:
        """Return what a request is about, without answering it."""
        path = "/" + request.path.removeprefix(_PREFIX) if request.path.startswith(_PREFIX) else request.path
        match = (self._data.router if _is_data_service(path) else self._others).match(request.method, path)
        if match.route is None:
            return Located(path, "unknown", "")
        user = data_set = None
        if "{data_set}" in match.route.pattern:
            data_set = match.values[0]
        elif "{user}" in match.route.pattern:
            user = match.values[0]
        return Located(path, match.route.operation, match.route.pattern, user, data_set)

    def user_of(self, located: Located) -> str | None:
        """Return whose data a request is about, looked up by its data set when the path does not say."""
        if located.data_set is None:
            return located.user
        data_set = self._store.data_set(located.data_set)
        return None if data_set is None else data_set.user_id

    def respond(self, request: Request, located: Located) -> Response:
        """Answer a request."""
        if _is_data_service(located.path):
            return self._data.respond(request, located.path)
        match = self._others.match(request.method, located.path)
        if match.route is None:
            return Response(405 if match.known_path else 404, may_gzip=False)
        return match.route.handler(request, *match.values)


def status_response(request: Request, path: str, status: int) -> Response | None:
    """Return how the service of a path itself reports a status; None if only the gateway would."""
    if _is_data_service(path):
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            return handler_error(request, "internal-server-failure")
        return bare_error(_BARE_CODES[status]) if status in _BARE_CODES else None
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.INTERNAL_SERVER_ERROR):
        return None
    unauthorized = status == HTTPStatus.UNAUTHORIZED
    if path.startswith("/realms/"):
        return token_error(status, "invalid_client" if unauthorized else "unknown_error", "simulated fault")
    if path.startswith("/data/"):
        # A token that is good no more is a 403 here, whatever the other services say.
        return (
            view_forbidden()
            if unauthorized
            else reading_error(500, "data_store_error", "internal server error")
        )
    return login_error(
        status, "No x-tidepool-session-token was found" if unauthorized else "Error generating the token"
    )


def _is_data_service(path: str) -> bool:
    return path.startswith("/v1/")
