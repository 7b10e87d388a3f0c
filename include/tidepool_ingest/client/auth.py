"""Where tokens come from: a source for each auth mode, and the OIDC server that most of them use.

A new mode takes a row in :data:`tidepool_ingest.auth_modes.AUTH_MODES`, and here its source and a function
that makes it.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from tidepool_ingest.auth_modes import AUTH_MODES
from tidepool_ingest.client.backoff import BackOff
from tidepool_ingest.client.environments import Environment, checked_base
from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.exchange import start_deadline
from tidepool_ingest.client.responses import Purpose, Request, Response
from tidepool_ingest.client.settings import ClientSettings
from tidepool_ingest.client.tokens import (
    SESSION_TOKEN_HEADER,
    FixedToken,
    RefreshTokenStore,
    RenewingTokens,
    Token,
    TokenSource,
    checked_token,
    lifetime_of,
    subject_of,
)
from tidepool_ingest.client.transport import (
    HttpTimeouts,
    Transport,
    unusable_response,
)

if TYPE_CHECKING:
    import requests


SIGN_IN_TIMEOUTS = HttpTimeouts(connect=4.0, read=8.0, total=12.0)
"""Short: a refresh happens under a lock that counts as abandoned after 60 s."""


@dataclass(frozen=True)
class SignIn:
    """What a token source is made from.

    :param settings: the credentials.
    :param environment: where the API is, and its sign-in server if that is known.
    :param session: carries the requests.
    :param backoff: retries of requests for a token.
    :param store: shares a rotating refresh token between processes.
    """

    settings: ClientSettings
    environment: Environment
    session: requests.Session
    backoff: BackOff
    store: RefreshTokenStore

    def transport(self) -> Transport:
        """Return the transport for requests for a token."""
        return Transport(
            self.session,
            SIGN_IN_TIMEOUTS,
            trace_session=self.settings.trace_session,
            longest_pause=self.settings.longest_pause,
        )

    def server(self) -> OidcProvider:
        """Return the OIDC server of the environment."""
        auth_url, realm = self.settings.auth_url, self.settings.realm
        return OidcProvider(
            self.transport(), self.environment, auth_url=auth_url, realm=realm, backoff=self.backoff
        )

    def client(self) -> OidcClient:
        """Return how the program identifies itself to that server."""
        return OidcClient(self.settings.client_id, self.settings.client_secret.get_secret_value())


def client_credentials_tokens(sign_in: SignIn) -> TokenSource:
    """Return the source of the mode ``client_credentials``."""
    return ClientCredentialsTokens(sign_in.server(), sign_in.client())


def refresh_tokens(sign_in: SignIn) -> TokenSource:
    """Return the source of the mode ``refresh_token``."""
    first = sign_in.settings.refresh_token.get_secret_value()
    return RefreshTokens(sign_in.server(), sign_in.client(), refresh_token=first, store=sign_in.store)


def password_tokens(sign_in: SignIn) -> TokenSource:
    """Return the source of the mode ``password``."""
    password = sign_in.settings.password.get_secret_value()
    return PasswordTokens(
        sign_in.server(), sign_in.client(), username=sign_in.settings.username, password=password
    )


def legacy_login_tokens(sign_in: SignIn) -> TokenSource:
    """Return the source of the mode ``login``."""
    return LegacyLoginTokens(
        sign_in.transport(),
        sign_in.environment.api,
        username=sign_in.settings.username,
        password=sign_in.settings.password.get_secret_value(),
        backoff=sign_in.backoff,
    )


def fixed_token(sign_in: SignIn) -> TokenSource:
    """Return the source of the mode ``token``."""
    return FixedToken(sign_in.settings.token.get_secret_value())


def token_source(sign_in: SignIn) -> TokenSource:
    """Return the source of the auth mode that the settings name."""
    factory: Callable[[SignIn], TokenSource] = globals()[AUTH_MODES[sign_in.settings.auth_mode].factory]
    return factory(sign_in)


@dataclass(frozen=True)
class OidcClient:
    """How a program identifies itself to the sign-in server.

    :param client_id: the id that Tidepool has registered.
    :param client_secret: its secret; public clients have none.
    """

    client_id: str
    client_secret: str = field(default="", repr=False)

    def form(self, grant_type: str, **fields: str) -> dict[str, str]:
        """Return the fields of a request for a token."""
        secret = {"client_secret": self.client_secret} if self.client_secret else {}
        return {"grant_type": grant_type, "client_id": self.client_id, **secret, **fields}


class OidcProvider:
    """The server that issues tokens for one environment, found on first use.

    :param transport: sends the requests.
    :param environment: the environment; its API says where its sign-in server is (``GET /info``).
    :param auth_url: base URL of the sign-in server, if it is configured rather than looked up.
    :param realm: its realm, given together with ``auth_url``.
    :param backoff: retries of requests for a token.
    """

    def __init__(
        self,
        transport: Transport,
        environment: Environment,
        *,
        auth_url: str = "",
        realm: str = "",
        backoff: BackOff | None = None,
    ) -> None:
        self._transport = transport
        self._environment = environment
        self._auth_url = checked_base(auth_url, field="auth_url") if auth_url else ""
        self._realm = realm
        self._backoff = backoff or BackOff()
        self._token_url = ""

    def find(self) -> str:
        """Return the token endpoint's URL.

        :raises TidepoolConfigurationError: the servers name one to which no credentials may be sent.
        """
        if not self._token_url:
            auth_url, realm = (self._auth_url, self._realm) if self._auth_url else self._issuer_from_api()
            self._token_url = self._endpoint_from_issuer(auth_url, realm)
        return self._token_url

    def grant(
        self, form: Mapping[str, str], *, backoff: BackOff | None = None, bounded: bool = False
    ) -> Token:
        """Return the token that the server issues for a form.

        :param form: the grant's fields; never logged.
        :param backoff: retries that differ from the usual ones.
        :param bounded: see :class:`Request`.
        :raises TidepoolAuthenticationError: the server does not accept the credentials.
        """
        request = Request(
            f"get a token ({form['grant_type'].replace('_', ' ')})",
            Purpose.SIGN_IN,
            "POST",
            self.find(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
            bounded=bounded,
        )
        issued = time.monotonic()
        response = (backoff or self._backoff)(lambda: self._transport.request(request))
        payload = response.json()
        value = checked_token(payload.get("access_token")) if isinstance(payload, dict) else None
        if value is None:
            raise unusable_response(
                request,
                "the response contains no usable token",
                status=response.status,
                trace_id=response.trace_id,
            )
        return Token(
            value,
            lifetime=lifetime_of(value, payload.get("expires_in")),
            issued=issued,
            refresh=checked_token(payload.get("refresh_token")),
            user_id=subject_of(value),
        )

    def _issuer_from_api(self) -> tuple[str, str]:
        payload: Any = None
        try:
            payload = self._document("find the sign-in server", f"{self._environment.api}/info")
        except (TidepoolNotFoundError, TidepoolUnexpectedAnswerError):
            if not self._environment.auth:
                raise
        auth = payload.get("auth") if isinstance(payload, dict) else None
        if isinstance(auth, dict) and isinstance(auth.get("url"), str) and isinstance(auth.get("realm"), str):
            return checked_base(auth["url"], field="auth_url"), auth["realm"]
        if self._environment.auth:
            return self._environment.auth, self._environment.realm
        raise TidepoolConfigurationError(
            "find the sign-in server",
            reason="this API host does not say where it is",
            fields=("auth_url", "realm"),
            remedy="Set `auth_url` and `realm` in the Tidepool connection, or choose another auth mode.",
        )

    def _endpoint_from_issuer(self, auth_url: str, realm: str) -> str:
        issuer = f"{auth_url}/realms/{quote(realm, safe='')}"
        payload = self._document("find the token endpoint", f"{issuer}/.well-known/openid-configuration")
        endpoint = payload.get("token_endpoint") if isinstance(payload, dict) else None
        if not isinstance(endpoint, str):
            raise TidepoolUnexpectedAnswerError(
                "find the token endpoint",
                reason="the sign-in server does not name it",
                place=urlsplit(issuer).netloc,
                remedy="Check `auth_url` and `realm` in the Tidepool connection.",
            )
        url = checked_base(endpoint, field="auth_url")
        if urlsplit(url)[:2] != urlsplit(checked_base(auth_url, field="auth_url"))[:2]:
            raise TidepoolConfigurationError(
                "find the token endpoint",
                reason="the sign-in server names one on another host, to which no credentials are sent",
                place=urlsplit(issuer).netloc,
                fields=("auth_url",),
                remedy="Set `auth_url` in the Tidepool connection to the host that issues the tokens.",
            )
        return url

    def _document(self, operation: str, url: str) -> Any:
        request = Request(operation, Purpose.READ, "GET", url)
        response = self._backoff(lambda: self._transport.request(request))
        payload = response.json()
        if payload is None:
            raise _no_document(request, response.status, response.trace_id)
        return payload


def _no_document(request: Request, status: int, trace_id: str) -> TidepoolError:
    return unusable_response(request, "the response is not JSON", status=status, trace_id=trace_id)


class ClientCredentialsTokens(RenewingTokens):
    """OIDC client credentials: a service with an account of its own, the way meant for back ends.

    :param server: the sign-in server.
    :param client: id and secret.
    """

    def __init__(self, server: OidcProvider, client: OidcClient) -> None:
        super().__init__()
        self._server = server
        self._client = client

    def known_secrets(self) -> list[str]:
        """Return the client's secret."""
        return [self._client.client_secret]

    def obtain(self, rejected: str | None) -> Token:
        """Request a new token."""
        return self._server.grant(self._client.form("client_credentials"))


class PasswordTokens(RenewingTokens):
    """OIDC password grant, which Tidepool allows to trusted partners only.

    :param server: the sign-in server.
    :param client: id, and secret if it has one.
    :param username: the account's e-mail address.
    :param password: its password.
    """

    def __init__(self, server: OidcProvider, client: OidcClient, *, username: str, password: str) -> None:
        super().__init__()
        self._server = server
        self._client = client
        self._username = username
        self._password = password
        self._refresh: str | None = None

    def known_secrets(self) -> list[str]:
        """Return password and client secret."""
        return [self._password, self._client.client_secret]

    def obtain(self, rejected: str | None) -> Token:
        """Refresh if that still works, else sign in anew."""
        token = self._refreshed() or self._server.grant(
            self._client.form("password", username=self._username, password=self._password)
        )
        self._refresh = token.refresh
        return token

    def _refreshed(self) -> Token | None:
        if self._refresh is None:
            return None
        try:
            return self._server.grant(self._client.form("refresh_token", refresh_token=self._refresh))
        except TidepoolAuthenticationError:
            # The session has ended; the password opens a new one.
            return None


UNDER_LOCK = BackOff(attempts=2, longest=2.0)
"""Retries of a refresh while other processes wait for it."""

REFRESH_TAKES_SECONDS = 20.0
"""No refresh is started within this time before the lock may be lost: one takes up to 12 s."""

LOOKS = 2
"""How often the newest token is looked up: once more if this process was overtaken."""

REJECTED_GRANT = "invalid_grant"
"""Keycloak's code when it is the refresh token, and not the client, that is not accepted."""


class RefreshTokens(RenewingTokens):
    """OIDC refresh token: somebody signed in once, and each refresh may replace the refresh token.

    A replaced one is worthless, so all processes of a connection share the newest through a store: lock it,
    check whether another process has just refreshed, refresh, save, and only then use the result.

    :param server: the sign-in server.
    :param client: id, and secret if it has one.
    :param refresh_token: the token of the connection, used until the store holds a newer one.
    :param store: shares the newest with other processes.
    :param backoff: retries of the refresh while the lock is held.
    """

    def __init__(
        self,
        server: OidcProvider,
        client: OidcClient,
        *,
        refresh_token: str,
        store: RefreshTokenStore,
        backoff: BackOff = UNDER_LOCK,
    ) -> None:
        super().__init__()
        self._server = server
        self._client = client
        self._first = refresh_token
        self._store = store
        self._backoff = backoff

    def known_secrets(self) -> list[str]:
        """Return the connection's refresh token and the client's secret."""
        return [self._first, self._client.client_secret]

    def obtain(self, rejected: str | None) -> Token:
        """Use what another process obtained, or refresh for all of them."""
        self._server.find()  # before taking the lock: others should not wait for this
        for _ in range(LOOKS):
            with self._store.lock() as seconds, start_deadline(seconds - REFRESH_TAKES_SECONDS, seconds):
                token = self._shared_or_refreshed(rejected)
            if token is not None:
                return token
        raise TidepoolUnreachableError(
            "refresh the token", reason="other processes kept refreshing it at the same time"
        )

    def _shared_or_refreshed(self, rejected: str | None) -> Token | None:
        """Return the newest token; ``None`` if another process has saved a newer one meanwhile."""
        stored = _StoredToken.parse(self._store.load()) or _StoredToken(self._first)
        self.announce(stored.refresh, stored.access)
        shared = stored.token()
        if shared is not None and shared.value != rejected and not shared.due():
            return shared
        form = self._client.form("refresh_token", refresh_token=stored.refresh)
        try:
            token = self._granted(form)
        except TidepoolAuthenticationError:
            newer = _StoredToken.parse(self._store.load())
            if newer is None or newer.refresh == stored.refresh:
                raise
            return None
        newest = token.refresh or stored.refresh
        self.announce(*token.secrets())
        is_saved = self._store.save(_StoredToken(newest, token.value, token.remaining_seconds()).text())
        return token if is_saved else None

    def _granted(self, form: dict[str, str]) -> Token:
        try:
            return self._server.grant(form, backoff=self._backoff, bounded=True)
        except TidepoolAuthenticationError as error:
            if REJECTED_GRANT not in error.codes:
                raise
            raise TidepoolAuthenticationError(
                error.operation,
                reason="the refresh token is no longer accepted",
                place=error.place,
                status=error.status,
                codes=error.codes,
                trace_id=error.trace_id,
                remedy="Sign in again (with the scope offline_access), and put the new refresh token into "
                "the Tidepool connection.",
            ) from error


@dataclass(frozen=True)
class _StoredToken:
    """What the processes of one connection share, as one secret text.

    :param refresh: the newest refresh token.
    :param access: the access token that came with it.
    :param lifetime: seconds for which the access token was valid when it was saved.
    :param age: seconds since then.
    """

    refresh: str = field(repr=False)
    access: str | None = field(default=None, repr=False)
    lifetime: float = 0.0
    age: float = 0.0

    @classmethod
    def parse(cls, saved: tuple[str, float] | None) -> _StoredToken | None:
        if saved is None or not saved[0]:
            return None
        text, age = saved
        try:
            stored: Any = json.loads(text)
        except ValueError:
            stored = None
        if not isinstance(stored, dict):
            return cls(text)  # a bare refresh token
        return cls(stored["refresh"], stored["access"], stored["lifetime"], age)

    def text(self) -> str:
        return json.dumps({"refresh": self.refresh, "access": self.access, "lifetime": self.lifetime})

    def token(self) -> Token | None:
        if self.access is None:
            return None
        issued = time.monotonic() - self.age
        return Token(self.access, self.lifetime, issued, self.refresh, subject_of(self.access))


class LegacyLoginTokens(RenewingTokens):
    """The Platform's own login with e-mail and password, which Tidepool calls deprecated.

    :param transport: sends the requests.
    :param api: base URL of the API.
    :param username: the account's e-mail address.
    :param password: its password.
    :param backoff: retries of the login.
    """

    def __init__(
        self, transport: Transport, api: str, *, username: str, password: str, backoff: BackOff | None = None
    ) -> None:
        super().__init__()
        self._transport = transport
        self._url = f"{api}/auth/login"
        self._username = username
        self._password = password
        self._backoff = backoff or BackOff()
        self._last: Token | None = None

    def known_secrets(self) -> list[str]:
        """Return the password, and the header that it is sent in."""
        return [self._password, self._basic()]

    def obtain(self, rejected: str | None) -> Token:
        """Replace the last token if that still works, else log in anew."""
        self._last = self._replaced() or self._logged_in()
        return self._last

    def _replaced(self) -> Token | None:
        if self._last is None:
            return None
        request = Request("replace the session token", Purpose.SIGN_IN, "GET", self._url)
        try:
            return self._requested(request, {SESSION_TOKEN_HEADER: self._last.value})
        except TidepoolAuthenticationError:
            # It has expired; the password opens a new session.
            return None

    def _logged_in(self) -> Token:
        request = Request("log in", Purpose.SIGN_IN, "POST", self._url)
        return self._requested(request, {"Authorization": f"Basic {self._basic()}"})

    def _basic(self) -> str:
        return base64.b64encode(f"{self._username}:{self._password}".encode()).decode()

    def _requested(self, request: Request, headers: dict[str, str]) -> Token:
        issued = time.monotonic()
        response: Response = self._backoff(lambda: self._transport.request(request, headers=headers))
        value = checked_token(response.headers.get(SESSION_TOKEN_HEADER))
        if value is None:
            raise unusable_response(
                request,
                "the response contains no usable token",
                status=response.status,
                trace_id=response.trace_id,
            )
        payload = response.json()
        user_id = payload.get("userid") if isinstance(payload, dict) else None
        known = user_id if isinstance(user_id, str) and user_id else subject_of(value)
        return Token(value, lifetime_of(value), issued, user_id=known)
