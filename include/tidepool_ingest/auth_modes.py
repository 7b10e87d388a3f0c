"""The ways to get a token: one row each, from which the client, the hook and the connection form take it.

Imports nothing: Airflow reads the form whenever a process of it starts. The sources of tokens are in
:mod:`tidepool_ingest.client.auth`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_AUTH_MODE = "client_credentials"


@dataclass(frozen=True)
class AuthMode:
    """One way to get a token.

    :param label: what it takes, as a form says it.
    :param needs: settings that it requires.
    :param form_fields: which settings come from the standard fields ``login`` and ``password`` of a
        connection form.
    :param factory: the function of :mod:`tidepool_ingest.client.auth` that creates its token source.
    :param shares_refresh_token: whether its source needs a store that all processes of a connection share.
    """

    label: str
    needs: tuple[str, ...]
    form_fields: Mapping[str, str]
    factory: str
    shares_refresh_token: bool = False


AUTH_MODES: dict[str, AuthMode] = {
    DEFAULT_AUTH_MODE: AuthMode(
        label="client id and client secret",
        needs=("client_id", "client_secret"),
        form_fields={"client_id": "login", "client_secret": "password"},
        factory="client_credentials_tokens",
    ),
    "refresh_token": AuthMode(
        label="client id, and a refresh token as the password",
        needs=("client_id", "refresh_token"),
        form_fields={"client_id": "login", "refresh_token": "password"},
        factory="refresh_tokens",
        shares_refresh_token=True,
    ),
    "password": AuthMode(
        label="user name and password, and the OIDC client id below",
        needs=("client_id", "username", "password"),
        form_fields={"username": "login", "password": "password"},
        factory="password_tokens",
    ),
    "login": AuthMode(
        label="e-mail address and password (Tidepool's older login)",
        needs=("username", "password"),
        form_fields={"username": "login", "password": "password"},
        factory="legacy_login_tokens",
    ),
    "token": AuthMode(
        label="a session or access token as the password",
        needs=("token",),
        form_fields={"token": "password"},
        factory="fixed_token",
    ),
}
"""The ways to get a token, by the value of the setting ``auth_mode``; the first is the default."""
