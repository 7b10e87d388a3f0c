"""User and password in a header, as the logins take them."""

from __future__ import annotations

import base64
import binascii


def basic_credentials(header: str) -> tuple[str, str] | None:
    """Return the user and password of an ``Authorization: Basic`` header; None when it holds neither."""
    _, _, encoded = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if colon and (user or password) else None
