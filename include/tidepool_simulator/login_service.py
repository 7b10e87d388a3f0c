"""Logins and users: the service behind ``/auth`` (tidepool-org/shoreline)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Any

from tidepool_simulator.accounts import (
    CUSTODIAN_PERMISSION,
    CUSTODIAN_PERMISSIONS,
    OWNER_PERMISSION,
    PUBLIC_CLIENT_ID,
    SERVER_NAME,
    SERVER_SECRET,
    Account,
    AccountError,
    Accounts,
)
from tidepool_simulator.authentication import basic_credentials
from tidepool_simulator.exchange import SESSION_TOKEN_HEADER, Request, Response, Route
from tidepool_simulator.responses import login_error
from tidepool_simulator.sessions import Identity, RefreshRefusedError, Sessions


class LoginService:
    """The legacy login, its refresh and its users. Errors are ``{"code": …, "reason": …}``."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """Return the routes of the service."""
        return [
            Route("POST", "/auth/login", "login", self._login),
            Route("GET", "/auth/login", "refresh", self._refresh),
            Route("POST", "/auth/logout", "logout", self._logout),
            Route("GET", "/auth/token", "check-token", self._check_token),
            Route("GET", "/auth/token/{token}", "check-token", self._check_other_token),
            Route("POST", "/auth/serverlogin", "server-login", self._server_login),
            Route("GET", "/auth/user", "user", self._user),
            Route("GET", "/auth/user/{user}", "user", self._user),
            Route("POST", "/auth/user/{user}/user", "create-user", self._create_custodial),
        ]

    def _login(self, request: Request) -> Response:
        given = basic_credentials(request.header("authorization"))
        if given is None:
            return login_error(400, "Missing id and/or password")
        account = self._accounts.by_login(given[0])
        if account is None or account.custodial or not secrets.compare_digest(account.password, given[1]):
            return login_error(401, "No user matched the given details")
        if not account.email_verified:
            return login_error(403, "The user hasn't verified this account yet")
        tokens = self._sessions.open(account.id, PUBLIC_CLIENT_ID)
        return _with_session_token(Response.of_json(200, _user_json(account)), tokens.legacy)

    def _refresh(self, request: Request) -> Response:
        parts = request.header(SESSION_TOKEN_HEADER).split(":")
        if len(parts) != 3:
            return Response(401)
        try:
            tokens = self._sessions.refresh(parts[2])
        except RefreshRefusedError:
            return login_error(401, "No x-tidepool-session-token was found")
        identity = self._sessions.check(tokens.access)
        return _with_session_token(Response.of_json(200, _token_json(identity)), tokens.legacy)

    def _logout(self, request: Request) -> Response:
        self._sessions.close(request.header(SESSION_TOKEN_HEADER))
        return Response(200)

    def _check_token(self, request: Request) -> Response:
        identity = self._sessions.check(request.header(SESSION_TOKEN_HEADER))
        return _no_token() if identity is None else Response.of_json(200, _token_json(identity))

    def _check_other_token(self, request: Request, token: str) -> Response:
        asking = self._sessions.check(request.header(SESSION_TOKEN_HEADER))
        identity = self._sessions.check(token)
        if asking is None or not asking.is_service or identity is None:
            return _no_token()
        return Response.of_json(200, _token_json(identity))

    def _server_login(self, request: Request) -> Response:
        name, secret = request.header("x-tidepool-server-name"), request.header("x-tidepool-server-secret")
        if not name or not secret:
            return login_error(400, "Missing id and/or password")
        if (name, secret) != (SERVER_NAME, SERVER_SECRET):
            return login_error(401, "Wrong password")
        token = self._sessions.issue_service(name)
        return _with_session_token(Response.of_json(200, _token_json(self._sessions.check(token))), token)

    def _user(self, request: Request, wanted: str = "") -> Response:
        identity = self._sessions.check(request.header(SESSION_TOKEN_HEADER))
        if identity is None:
            return login_error(401, "Not authorized for requested operation")
        account = self._accounts.by_login(wanted or identity.user_id)
        if account is None:
            return login_error(404, "User not found")
        held = self._accounts.permissions(identity.user_id, account.id)
        if not identity.is_service and not held & {OWNER_PERMISSION, CUSTODIAN_PERMISSION}:
            return login_error(401, "Not authorized for requested operation")
        return Response.of_json(200, _user_json(account))

    def _create_custodial(self, request: Request, custodian_id: str) -> Response:
        identity = self._sessions.check(request.header(SESSION_TOKEN_HEADER))
        custodian = self._accounts.by_id(custodian_id)
        if identity is None or custodian is None or identity.user_id not in ("", custodian_id):
            return login_error(401, "Not authorized for requested operation")
        details = _json_object(request.body)
        if details is None:
            return login_error(400, "Invalid user details were given")
        name = f"custodial-{secrets.token_hex(5)}"
        try:
            account = self._accounts.add_user(
                name, user_id=secrets.token_hex(5), username=details.get("username") or None, custodial=True
            )
        except AccountError:
            return login_error(409, "User already exists")
        self._accounts.grant(custodian.name, of=name, permissions=CUSTODIAN_PERMISSIONS)
        return Response.of_json(201, _user_json(account))


def _with_session_token(response: Response, token: str) -> Response:
    response.headers.append((SESSION_TOKEN_HEADER, token))
    return response


def _no_token() -> Response:
    return login_error(401, "No x-tidepool-session-token was found")


def _user_json(account: Account) -> dict[str, Any]:
    return {
        "userid": account.id,
        "username": account.username,
        "emails": [account.username],
        "emailVerified": account.email_verified,
        "termsAccepted": "2024-01-01T00:00:00+00:00",
    }


def _token_json(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        raise ValueError("a token just made is a good one")
    return {"isserver": identity.is_service, "userid": identity.user_id, "expires_at": int(identity.expires)}


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
