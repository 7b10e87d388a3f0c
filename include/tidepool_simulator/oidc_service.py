"""The OIDC server beside the Platform (Keycloak): discovery and the token endpoint of one realm."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from tidepool_simulator.accounts import Accounts, Client
from tidepool_simulator.authentication import basic_credentials
from tidepool_simulator.exchange import Request, Response, Route
from tidepool_simulator.responses import token_error
from tidepool_simulator.sessions import RefreshRefusedError, Sessions, Tokens

REALM = "simulator"
_OIDC = f"/realms/{REALM}/protocol/openid-connect"


class OidcService:
    """The OIDC endpoints of one realm: client credentials, password and refresh token."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self._accounts = accounts
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """Return the routes of the service."""
        return [
            Route("GET", f"/realms/{REALM}/.well-known/openid-configuration", "discovery", self._discovery),
            Route("POST", f"{_OIDC}/token", "token", self._token),
            Route("GET", f"{_OIDC}/userinfo", "userinfo", self._userinfo),
            Route("POST", f"{_OIDC}/logout", "logout", self._logout),
        ]

    def _discovery(self, request: Request) -> Response:
        endpoint = f"{request.base_url}{_OIDC}"
        return Response.of_json(200, {
            "issuer": f"{request.base_url}/realms/{REALM}",
            "authorization_endpoint": f"{endpoint}/auth",
            "token_endpoint": f"{endpoint}/token",
            "userinfo_endpoint": f"{endpoint}/userinfo",
            "end_session_endpoint": f"{endpoint}/logout",
            "grant_types_supported": ["client_credentials", "password", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        })  # fmt: skip

    def _token(self, request: Request) -> Response:
        client = self._client(request)
        if client is None:
            return token_error(401, "invalid_client", "Invalid client or Invalid client credentials")
        grant = request.form.get("grant_type")
        if grant == "client_credentials":
            return self._client_credentials(client)
        if grant == "password":
            return self._password(request, client)
        if grant == "refresh_token":
            return self._refresh(request, client)
        if grant is None:
            return token_error(400, "invalid_request", "Missing form parameter: grant_type")
        return token_error(400, "unsupported_grant_type", "Unsupported grant_type")

    def _client(self, request: Request) -> Client | None:
        """Return the client of a request, by HTTP Basic or form fields, if its secret is right."""
        client_id, secret = basic_credentials(request.header("authorization")) or (
            request.form.get("client_id", ""),
            request.form.get("client_secret", ""),
        )
        client = self._accounts.client(client_id)
        if client is None or (
            client.secret is not None and not secrets.compare_digest(client.secret, secret)
        ):
            return None
        return client

    def _client_credentials(self, client: Client) -> Response:
        if client.secret is None or client.user_id is None:
            return token_error(401, "unauthorized_client", "Client not enabled to retrieve service account")
        # No refresh token for this grant (RFC 6749, section 4.4.3): the client asks again.
        return Response.of_json(200, {
            "access_token": self._sessions.issue(client.user_id, client.id),
            "expires_in": _whole(self._sessions.lifetime),
            "refresh_expires_in": 0,
            "token_type": "Bearer",
            "not-before-policy": 0,
            "scope": "email profile",
        })  # fmt: skip

    def _password(self, request: Request, client: Client) -> Response:
        account = self._accounts.by_login(request.form.get("username", ""))
        password = request.form.get("password", "")
        if account is None or account.custodial or not secrets.compare_digest(account.password, password):
            return token_error(401, "invalid_grant", "Invalid user credentials")
        if not account.email_verified:
            return token_error(400, "invalid_grant", "Account is not fully set up")
        return _tokens_response(self._sessions.open(account.id, client.id))

    def _refresh(self, request: Request, client: Client) -> Response:
        try:
            return _tokens_response(self._sessions.refresh(request.form.get("refresh_token", ""), client.id))
        except RefreshRefusedError as error:
            return token_error(400, "invalid_grant", str(error))

    def _userinfo(self, request: Request) -> Response:
        scheme, _, token = request.header("authorization").partition(" ")
        identity = self._sessions.check(token) if scheme.lower() == "bearer" else None
        account = self._accounts.by_id(identity.user_id) if identity else None
        if account is None:
            return token_error(401, "invalid_token", "Token verification failed")
        return Response.of_json(200, {
            "sub": account.id,
            "email": account.username,
            "email_verified": account.email_verified,
            "preferred_username": account.username,
        })  # fmt: skip

    def _logout(self, request: Request) -> Response:
        if self._client(request) is None:
            return token_error(401, "invalid_client", "Invalid client or Invalid client credentials")
        self._sessions.close(request.form.get("refresh_token", ""))
        return Response(204)


def _tokens_response(tokens: Tokens) -> Response:
    return Response.of_json(200, {
        "access_token": tokens.access,
        "expires_in": _whole(tokens.expires_in),
        "refresh_expires_in": _whole(tokens.refresh_expires_in),
        "refresh_token": tokens.refresh,
        "token_type": "Bearer",
        "not-before-policy": 0,
        "session_state": tokens.session_id,
        "scope": "email profile",
    })  # fmt: skip


def _whole(seconds: float) -> float:
    """Write whole seconds as an integer, as the OIDC server does; practice lifetimes may be shorter."""
    return int(seconds) if seconds == int(seconds) else seconds
