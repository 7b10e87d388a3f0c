"""What a client asks of the smaller services around: where to log in, and for whom one may upload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidepool_simulator.accounts import Accounts
from tidepool_simulator.exchange import SESSION_TOKEN_HEADER, Request, Response, Route
from tidepool_simulator.oidc_service import REALM
from tidepool_simulator.responses import login_error
from tidepool_simulator.sessions import Sessions

_UPLOADER_MINIMUM = "2.53.0"


class AccountServices:
    """``GET /info`` and ``GET /metadata/users/{user}/users``."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """Return the routes of the services."""
        return [
            Route("GET", "/info", "info", self._info),
            Route("GET", "/metadata/users/{user}/users", "associated-users", self._associated_users),
        ]

    def _info(self, request: Request) -> Response:
        return Response.of_json(200, {
            "auth": {"url": request.base_url, "realm": REALM},
            "versions": {"uploaderMinimum": _UPLOADER_MINIMUM},
        })  # fmt: skip

    def _associated_users(self, request: Request, user_id: str) -> Response:
        identity = self._sessions.check(request.header(SESSION_TOKEN_HEADER))
        if identity is None:
            return login_error(401, "Unauthorized")
        if not identity.is_service and identity.user_id != user_id:
            return login_error(403, "Forbidden")
        return Response.of_json(200, list(self._users(user_id)))

    def _users(self, user_id: str) -> Sequence[dict[str, Any]]:
        trustors, trustees = self._accounts.trustors(user_id), self._accounts.trustees(user_id)
        users = []
        for account in self._accounts:
            if account.id in trustors or account.id in trustees:
                user: dict[str, Any] = {
                    "userid": account.id,
                    "username": account.username,
                    "emailVerified": account.email_verified,
                    "profile": {"fullName": account.name},
                }
                for name, held in (("trustorPermissions", trustors), ("trusteePermissions", trustees)):
                    if account.id in held:
                        user[name] = {permission: {} for permission in sorted(held[account.id])}
                users.append(user)
        return users
