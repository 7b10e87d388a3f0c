"""Tokens: where they come from, how long they live, how threads and processes share them."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard

from tidepool_ingest.client.errors import (
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolConfigurationError,
    TidepoolUnreachableError,
)

log = logging.getLogger(__name__)

SESSION_TOKEN_HEADER = "X-Tidepool-Session-Token"
"""The one header that every service reads, the read-back included; an OIDC access token goes in as it is."""

LEGACY_PREFIX = "kc:"
"""Today's login answers ``kc:<access token>:<refresh token>``."""

REFRESH_AHEAD_SECONDS = 30.0
"""How long before its end a token is replaced, so that it outlives the request that carries it."""

REFRESH_AHEAD_SHARE = 0.2
"""The same for short-lived tokens, as a share of their life."""

ASSUMED_LIFETIME_SECONDS = 120.0
"""For a token that does not state it: below the shortest lifetime that Tidepool gives (180 s)."""

TOKEN_PATTERN = re.compile(r"[!-~]+")
"""What may be sent in a header."""

TokenWatcher = Callable[[str], None]
"""Called with every new secret before it is used, so that it can be masked in logs."""


class TokenSource(Protocol):
    """Provides tokens for requests. Every method may be called from several threads at once."""

    def watch(self, watcher: TokenWatcher) -> None:
        """Call ``watcher`` with every secret: the existing ones, and each new one before its use."""

    def token(self) -> str:
        """Return a token that is valid for a request now.

        :raises TidepoolError: there is none.
        """

    def renew(self, rejected: str) -> str:
        """Return a token other than the one that Tidepool has rejected.

        :param rejected: the token of the rejected request; if it has been replaced already, nothing is sent.
        :raises TidepoolAuthenticationError: there is no other.
        """

    def user_id(self) -> str | None:
        """Return the id of the user that the token belongs to, ``None`` if only the server knows."""


class RefreshTokenStore(Protocol):
    """Shares one connection's rotating refresh token between processes.

    What it stores is text of ours, opaque to it and secret as a whole.
    """

    def lock(self) -> AbstractContextManager[float]:
        """Keep out every other process and thread until the context ends.

        :return: for how many seconds that is certain: a process that stalls for longer may be overtaken.
        """

    def load(self) -> tuple[str, float] | None:
        """Return what was saved last, ``None`` if nothing was since the connection was last changed.

        :return: the text, and how many seconds ago it was saved, by a clock that all processes share.
        """

    def save(self, token: str) -> bool:
        """Store a text in place of what was loaded; when this returns, any process that loads gets it.

        :return: false, and nothing was stored, if this process was overtaken and another one has saved since.
        """


class MemoryRefreshTokenStore:
    """A store for one process, for the command line and for tests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._saved: tuple[str, float] | None = None

    @contextmanager
    def lock(self) -> Iterator[float]:
        """Keep out the other threads."""
        with self._lock:
            yield math.inf

    def load(self) -> tuple[str, float] | None:
        """Return what was saved last, and how many seconds ago."""
        return None if self._saved is None else (self._saved[0], time.monotonic() - self._saved[1])

    def save(self, token: str) -> bool:
        """Store a text."""
        self._saved = token, time.monotonic()
        return True


@dataclass(frozen=True)
class Token:
    """One token with what is known about it.

    :param value: what goes into the header.
    :param lifetime: seconds from ``issued`` for which it is valid.
    :param issued: when it was requested, on the clock of :func:`time.monotonic`.
    :param refresh: what the next one is requested with, if anything.
    :param user_id: whom it belongs to, if known.
    """

    value: str = field(repr=False)
    lifetime: float
    issued: float
    refresh: str | None = field(default=None, repr=False)
    user_id: str | None = field(default=None, repr=False)

    def remaining_seconds(self) -> float:
        """Return for how long it is still valid."""
        return self.issued + self.lifetime - time.monotonic()

    def due(self) -> bool:
        """Return whether it is time to replace it."""
        return self.remaining_seconds() < min(REFRESH_AHEAD_SECONDS, self.lifetime * REFRESH_AHEAD_SHARE)

    def secrets(self) -> list[str]:
        """Return everything in it that must be masked, parts of a legacy token included."""
        parts = self.value.split(":")[1:] if self.value.startswith(LEGACY_PREFIX) else []
        return [secret for secret in (self.value, *parts, self.refresh) if secret]


class RenewingTokens(ABC):
    """Base of the sources that use a server: one token for all threads, replaced ahead of its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._current: Token | None = None
        self._watchers: list[TokenWatcher] = []

    @abstractmethod
    def obtain(self, rejected: str | None) -> Token:
        """Request a token; only one thread at a time calls this.

        :param rejected: the token that Tidepool has just rejected, which must not be returned.
        """

    def known_secrets(self) -> list[str]:
        """Return the secrets that were configured, for the watchers."""
        return []

    def watch(self, watcher: TokenWatcher) -> None:
        """Call ``watcher`` with every secret."""
        with self._lock:
            self._watchers.append(watcher)
            current = self._current.secrets() if self._current else []
            # An empty text is no secret: whoever masks it masks everything.
            for secret in filter(None, (*self.known_secrets(), *current)):
                watcher(secret)

    def token(self) -> str:
        """Return a token that is valid for a request now."""
        with self._lock:
            if self._current is None:
                return self._replace(None)
            if not self._current.due():
                return self._current.value
            try:
                return self._replace(None)
            except (TidepoolBusyError, TidepoolUnreachableError) as problem:
                if self._current.remaining_seconds() <= 0:
                    raise
                # The old one is still valid for a while; the sign-in server may be back before it expires.
                log.info("%s: %s; the current token stays in use", problem.operation, problem.reason)
                return self._current.value

    def renew(self, rejected: str) -> str:
        """Return a token other than the rejected one."""
        with self._lock:
            if self._current is not None and self._current.value != rejected:
                return self._current.value
            return self._replace(rejected)

    def user_id(self) -> str | None:
        """Return whom the token belongs to."""
        self.token()
        with self._lock:
            return self._current.user_id if self._current else None

    def announce(self, *secrets: str | None) -> None:
        """Pass new secrets to the watchers; to be called before they are used or stored."""
        for watcher in self._watchers:
            for secret in filter(None, secrets):
                watcher(secret)

    def _replace(self, rejected: str | None) -> str:
        obtained = self.obtain(rejected)
        self.announce(*obtained.secrets())
        self._current = obtained
        return obtained.value


class FixedToken:
    """A token that was issued elsewhere; when it expires, work stops.

    :param token: a session token or an OIDC access token.
    :raises TidepoolConfigurationError: it cannot be sent in a header.
    """

    def __init__(self, token: str) -> None:
        if checked_token(token) is None:
            raise TidepoolConfigurationError(
                "use the fixed token",
                reason="it is empty, or contains characters that no token has",
                fields=("token",),
            )
        self._token = token

    def watch(self, watcher: TokenWatcher) -> None:
        """Call ``watcher`` with the token."""
        for secret in Token(self._token, 0.0, 0.0).secrets():
            watcher(secret)

    def token(self) -> str:
        """Return the token."""
        return self._token

    def renew(self, rejected: str) -> str:
        """Raise: there is no other token."""
        raise TidepoolAuthenticationError(
            "renew the token",
            reason="Tidepool no longer accepts the fixed token, and there is no way to renew it",
            remedy="Put a fresh token into the Tidepool connection, or choose an auth mode that renews it.",
        )

    def user_id(self) -> str | None:
        """Return the subject of the token, if it can be read."""
        return subject_of(self._token)


def checked_token(value: object) -> str | None:
    """Return a token from a response, ``None`` if it cannot be sent in a header."""
    return value if isinstance(value, str) and TOKEN_PATTERN.fullmatch(value) else None


def claims_of(token: str) -> dict[str, Any]:
    """Return what a token says about itself, empty if it is not a readable JWT.

    Its signature is not checked: Tidepool does that; here it only determines when to renew.

    :param token: a JWT, or a legacy token that holds one.
    """
    access = token.split(":")[1] if token.startswith(LEGACY_PREFIX) else token
    parts = access.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def subject_of(token: str) -> str | None:
    """Return the user id that a token names as its subject."""
    subject = claims_of(token).get("sub")
    return subject if isinstance(subject, str) and subject else None


def lifetime_of(token: str, expires_in: object = None) -> float:
    """Return for how many seconds a new token is valid.

    :param token: the token; its claims count if the response does not say.
    :param expires_in: what the response says.
    """
    if _is_seconds(expires_in):
        return float(expires_in)
    claims = claims_of(token)
    end, start = claims.get("exp"), claims.get("iat")
    if not _is_seconds(end):
        return ASSUMED_LIFETIME_SECONDS
    # The difference does not depend on our clock agreeing with the server's.
    return max(0.0, float(end) - (float(start) if _is_seconds(start) else time.time()))


def _is_seconds(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e11
