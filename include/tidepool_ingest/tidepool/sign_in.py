"""Tidepool's sign-in server (OIDC): where it is, and asking it for a token."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from tidepool_ingest.tidepool.answers import Call, Purpose
from tidepool_ingest.tidepool.backoff import BackOff
from tidepool_ingest.tidepool.environments import Environment, checked_base
from tidepool_ingest.tidepool.errors import (
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolUnexpectedAnswerError,
)
from tidepool_ingest.tidepool.exchange import Timeouts, unusable_answer
from tidepool_ingest.tidepool.tokens import Token, checked_token, lifetime_of, subject_of
from tidepool_ingest.tidepool.transport import Transport

SIGN_IN_TIMEOUTS = Timeouts(connect=4.0, read=8.0, total=4.0)
"""Short: a refresh is made under a lock that counts as abandoned after 60 s."""


class SignInServer:
    """The server that gives tokens for one environment, found on first use.

    :param transport: sends the requests.
    :param environment: the environment; its API is asked where its sign-in server is (``GET /info``).
    :param auth_url: base URL of the sign-in server, if it is given rather than asked for.
    :param realm: its realm, given together with ``auth_url``.
    :param backoff: patience with requests for a token.
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
            auth_url, realm = (self._auth_url, self._realm) if self._auth_url else self._told_by_api()
            self._token_url = self._told_by_realm(auth_url, realm)
        return self._token_url

    def grant(self, form: Mapping[str, str], *, backoff: BackOff | None = None) -> Token:
        """Return the token that a form earns.

        :param form: the grant's fields; never logged.
        :param backoff: another patience than usual.
        :raises TidepoolAuthenticationError: the server does not accept the credentials.
        """
        call = Call(
            f"get a token ({form['grant_type'].replace('_', ' ')})",
            Purpose.SIGN_IN,
            "POST",
            self.find(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        issued = time.monotonic()
        answer = (backoff or self._backoff)(lambda: self._transport.exchange(call))
        told = answer.json()
        value = checked_token(told.get("access_token")) if isinstance(told, dict) else None
        if value is None:
            raise unusable_answer(
                call, "the answer holds no usable token", status=answer.status, trace_id=answer.trace_id
            )
        return Token(
            value,
            lifetime=lifetime_of(value, told.get("expires_in")),
            issued=issued,
            refresh=checked_token(told.get("refresh_token")),
            user_id=subject_of(value),
        )

    def _told_by_api(self) -> tuple[str, str]:
        told: Any = None
        try:
            told = self._document("find the sign-in server", f"{self._environment.api}/info")
        except (TidepoolNotFoundError, TidepoolUnexpectedAnswerError):
            if not self._environment.auth:
                raise
        auth = told.get("auth") if isinstance(told, dict) else None
        if isinstance(auth, dict) and isinstance(auth.get("url"), str) and isinstance(auth.get("realm"), str):
            return checked_base(auth["url"], field="auth_url"), auth["realm"]
        if self._environment.auth:
            return self._environment.auth, self._environment.realm
        raise TidepoolConfigurationError(
            "find the sign-in server",
            reason="this API host does not tell where it is",
            fields=("auth_url", "realm"),
            remedy="Set `auth_url` and `realm` in the Tidepool connection, or choose another auth mode.",
        )

    def _told_by_realm(self, auth_url: str, realm: str) -> str:
        issuer = f"{auth_url}/realms/{quote(realm, safe='')}"
        told = self._document("find the token endpoint", f"{issuer}/.well-known/openid-configuration")
        endpoint = told.get("token_endpoint") if isinstance(told, dict) else None
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
                remedy="Set `auth_url` in the Tidepool connection to the host that gives the tokens.",
            )
        return url

    def _document(self, operation: str, url: str) -> Any:
        call = Call(operation, Purpose.READ, "GET", url)
        answer = self._backoff(lambda: self._transport.exchange(call))
        told = answer.json()
        if told is None:
            raise _no_document(call, answer.status, answer.trace_id)
        return told


def _no_document(call: Call, status: int, trace_id: str) -> TidepoolError:
    return unusable_answer(call, "the answer is no JSON", status=status, trace_id=trace_id)
