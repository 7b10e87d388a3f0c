"""Who sends a request, by its headers, as the data service reads them (service/middleware/auth.go)."""

from __future__ import annotations

import base64
import binascii

from tidepool_simulator.accounts import SERVER_SECRET
from tidepool_simulator.exchange import (
    SERVICE_SECRET_HEADER,
    SESSION_TOKEN_HEADER,
    Request,
    Response,
)
from tidepool_simulator.responses import bare_error
from tidepool_simulator.sessions import Identity, Sessions

_AUTHORIZATION_HEADER = "authorization"
_BEARER = "bearer"


class RefusedError(Exception):
    """Ends the handling of a request with a response.

    :param response: what is answered.
    """

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def identity_of(request: Request, sessions: Sessions) -> Identity | None:
    """Return who sends a request: a service by its secret, a user by a bearer or session token; else None.

    A token that is no longer valid counts as none.

    :raises RefusedError: for a header that is malformed or comes twice, and for a wrong service secret.
    """
    secret = _only(request, SERVICE_SECRET_HEADER)
    if secret is not None:
        if secret != SERVER_SECRET:
            raise _refused()
        return Identity("", is_service=True)
    authorization = _only(request, _AUTHORIZATION_HEADER)
    if authorization is not None:
        scheme, space, token = authorization.partition(" ")
        if not space:
            raise _refused()
        if scheme.lower() == _BEARER and (identity := sessions.check(token)):
            return identity
    session_token = _only(request, SESSION_TOKEN_HEADER)
    return sessions.check(session_token) if session_token else None


def _only(request: Request, name: str) -> str | None:
    values = request.header_values(name)
    if len(values) > 1:
        raise _refused()
    return values[0] if values else None


def _refused() -> RefusedError:
    response = bare_error("unauthorized")
    response.may_gzip = False  # the request has not come as far as the compression
    return RefusedError(response)


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Return the user and password of an ``Authorization: Basic`` header; None when it holds neither."""
    _, _, encoded = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon and (user or password) else None
