"""Logins and their tokens: access tokens that expire, refresh tokens that may rotate.

Access and refresh tokens are signed JSON Web Tokens as Keycloak makes them; the legacy login wraps both into
``kc:<access>:<refresh>``. A session outlives a restart of the simulator when the store is a file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

from tidepool_simulator.database import Database

DEFAULT_TOKEN_LIFETIME = 600.0
"""Seconds; the documentation says "up to 10 minutes"."""
REFRESH_LIFETIME = 28_800.0
"""Seconds; the development realm's idle limit of a session."""
LEGACY_PREFIX = "kc"
_ALGORITHM = {"alg": "HS256", "typ": "JWT"}
_ACCESS, _REFRESH = "Bearer", "Refresh"


@dataclass(frozen=True)
class Identity:
    """Whom a token speaks for.

    :param user_id: empty for a service.
    :param is_service: a server's token, which bypasses permissions.
    :param expires: seconds since 1970.
    """

    user_id: str
    session_id: str = ""
    is_service: bool = False
    expires: float = 0.0


@dataclass(frozen=True)
class Tokens:
    """What a login or refresh returns."""

    access: str
    refresh: str
    expires_in: float
    refresh_expires_in: float
    session_id: str

    @property
    def legacy(self) -> str:
        """Both as one string, the session token of the legacy login."""
        return f"{LEGACY_PREFIX}:{self.access}:{self.refresh}"


class RefreshRefusedError(Exception):
    """A refresh token that is malformed, has expired, was used before or whose session is closed."""


class Sessions:
    """Open, check, refresh and close sessions.

    :param database: keeps the sessions and the signing key.
    :param lifetime: seconds an access token lives.
    :param rotate: whether a refresh token is good for one use only.
    """

    def __init__(
        self, database: Database, *, lifetime: float = DEFAULT_TOKEN_LIFETIME, rotate: bool = False
    ) -> None:
        self._database = database
        self._key = bytes.fromhex(database.setting("token key", secrets.token_hex(32)))
        self.lifetime = lifetime
        self.rotate = rotate

    def open(self, user_id: str, client_id: str, *, lifetime: float | None = None) -> Tokens:
        """Start a session of a user."""
        session_id, refresh_id = secrets.token_hex(16), secrets.token_hex(16)
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT INTO sessions (id, refresh_id) VALUES (?, ?)", (session_id, refresh_id)
            )
        return self._tokens(user_id, client_id, session_id, refresh_id, lifetime)

    def refresh(self, token: str, client_id: str | None = None) -> Tokens:
        """Return new tokens for a refresh token.

        :param client_id: must be the client the token was made for; None takes any (the legacy refresh).
        :raises RefreshRefusedError: when the token is good no more.
        """
        claims = self._claims(token, _REFRESH)
        if claims is None or (client_id is not None and claims["azp"] != client_id):
            raise RefreshRefusedError("Invalid refresh token")
        refresh_id = secrets.token_hex(16)
        with self._database.transaction() as connection:
            row = connection.execute(
                "SELECT refresh_id, closed FROM sessions WHERE id = ?", (claims["sid"],)
            ).fetchone()
            if row is None or row[1]:
                raise RefreshRefusedError("Session not active")
            if self.rotate and row[0] != claims["jti"]:
                raise RefreshRefusedError("Maximum allowed refresh token reuse exceeded")
            connection.execute("UPDATE sessions SET refresh_id = ? WHERE id = ?", (refresh_id, claims["sid"]))
        return self._tokens(claims["sub"], claims["azp"], claims["sid"], refresh_id, None)

    def issue(self, user_id: str, client_id: str, *, lifetime: float | None = None) -> str:
        """Make an access token that belongs to no session (client credentials, practice tokens)."""
        return self._signed(_ACCESS, user_id, client_id, "", secrets.token_hex(8), lifetime or self.lifetime)

    def issue_service(self, name: str) -> str:
        """Make the token of a server."""
        return self._signed(_ACCESS, "", name, "", secrets.token_hex(8), self.lifetime)

    def check(self, token: str) -> Identity | None:
        """Return whom a session or access token speaks for; None if it is no longer valid."""
        parts = token.split(":")
        if len(parts) == 3 and parts[0] == LEGACY_PREFIX:
            token = parts[1]
        claims = self._claims(token, _ACCESS)
        if claims is None or self._is_closed(claims["sid"]):
            return None
        return Identity(claims["sub"], claims["sid"], is_service=not claims["sub"], expires=claims["exp"])

    def close(self, token: str) -> None:
        """End the session of a session, access or refresh token; anything else is ignored."""
        candidates = token.split(":")[1:] if token.startswith(f"{LEGACY_PREFIX}:") else [token]
        for candidate in candidates:
            claims = self._claims(candidate, _REFRESH) or self._claims(candidate, _ACCESS)
            if claims is not None:
                with self._database.transaction() as connection:
                    connection.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (claims["sid"],))

    def close_all(self) -> None:
        """End every session, as when an operator logs everybody out. Tokens without a session live on."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE sessions SET closed = 1")

    def _is_closed(self, session_id: str) -> bool:
        if not session_id:
            return False
        with self._database.reading() as connection:
            row = connection.execute("SELECT closed FROM sessions WHERE id = ?", (session_id,)).fetchone()
        return row is None or bool(row[0])

    def _tokens(
        self, user_id: str, client_id: str, session_id: str, refresh_id: str, lifetime: float | None
    ) -> Tokens:
        lifetime = self.lifetime if lifetime is None else lifetime
        return Tokens(
            access=self._signed(_ACCESS, user_id, client_id, session_id, secrets.token_hex(8), lifetime),
            refresh=self._signed(_REFRESH, user_id, client_id, session_id, refresh_id, REFRESH_LIFETIME),
            expires_in=lifetime,
            refresh_expires_in=REFRESH_LIFETIME,
            session_id=session_id,
        )

    def _signed(
        self, kind: str, user_id: str, client_id: str, session_id: str, token_id: str, lifetime: float
    ) -> str:
        now = time.time()
        claims = {"exp": now + lifetime, "iat": int(now), "jti": token_id, "sub": user_id, "azp": client_id,
                  "sid": session_id, "typ": kind}  # fmt: skip
        text = f"{_encoded(_ALGORITHM)}.{_encoded(claims)}"
        return f"{text}.{self._signature(text)}"

    def _signature(self, text: str) -> str:
        return _base64(hmac.digest(self._key, text.encode(), hashlib.sha256))

    def _claims(self, token: str, kind: str) -> dict[str, Any] | None:
        text, _, signature = token.rpartition(".")
        if not hmac.compare_digest(
            self._signature(text).encode(), signature.encode("utf-8", "surrogatepass")
        ):
            return None
        # The signature is ours, so what it signs is a token of ours.
        body = text.partition(".")[2]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims if claims["typ"] == kind and claims["exp"] > time.time() else None


def _encoded(value: Any) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
