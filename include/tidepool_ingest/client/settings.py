"""A client made from plain values, as an Airflow connection or a command line holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from tidepool_ingest.auth_modes import AUTH_MODES
from tidepool_ingest.client.errors import TidepoolConfigurationError

REVERSE_DNS = r"^[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9][A-Za-z0-9-]*)+$"
"""As ``org.example.ingest``: how Tidepool asks programs to name themselves."""

NUMBER = r"(0|[1-9]\d*)"
TAGS = r"[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*"
SEMANTIC_VERSION = rf"^{NUMBER}\.{NUMBER}\.{NUMBER}(-{TAGS})?(\+{TAGS})?$"
"""As ``1.2.3`` (semver.org)."""

Seconds = Annotated[float, Field(gt=0, le=3600)]


class ClientSettings(BaseModel):
    """What a client needs to know. Unknown settings are rejected; secrets show as asterisks.

    :param environment: ``production``, ``integration``, ``qa1`` …, ``dev1``, ``local``, or an API host.
    :param auth_mode: how a token is obtained: a key of :data:`~tidepool_ingest.auth_modes.AUTH_MODES`.
    :param client_id: the OIDC client's id.
    :param client_secret: its secret, if it has one.
    :param username: the account's e-mail address.
    :param password: its password.
    :param refresh_token: the refresh token that was issued at sign-in.
    :param token: a token that was issued elsewhere.
    :param auth_url: base URL of the sign-in server, if it is not to be looked up from the API.
    :param realm: its realm, given together with ``auth_url``.
    :param connect_timeout: seconds to wait for a connection.
    :param read_timeout: seconds to wait for the first piece of a response, and between two pieces.
    :param longest_pause: most seconds to wait when Tidepool throttles us, whatever it asks for.
    :param client_name: reverse DNS name of the uploading program, for the data sets it creates.
    :param client_version: its semantic version.
    :param chosen_ids: choose the ids of data sets, so that a creation in doubt can be found. Tidepool's
        documentation forbids an id in the body; its servers accept one.
    :param trace_session: ties the requests of one run together in Tidepool's logs; nothing about a person.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    environment: str
    auth_mode: str
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    refresh_token: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    auth_url: str = ""
    realm: str = ""
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 75.0
    longest_pause: Annotated[float, Field(gt=0, le=86_400)] = 3600.0
    client_name: Annotated[str, Field(pattern=REVERSE_DNS)] | None = None
    client_version: Annotated[str, Field(pattern=SEMANTIC_VERSION)] | None = None
    chosen_ids: bool = False
    trace_session: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")] | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """Return settings made from plain values.

        :param values: settings by name; secrets as plain text.
        :raises TidepoolConfigurationError: names the settings to correct.
        """
        try:
            return cls.model_validate(dict(values), strict=True)
        except ValidationError as problem:
            found = [
                (error["loc"], error["type"], error["msg"]) for error in problem.errors(include_input=False)
            ]
        raise _configuration_error(found)

    @field_validator("auth_mode")
    @classmethod
    def _known(cls, mode: str) -> str:
        if mode not in AUTH_MODES:
            raise ValueError(f"auth_mode: it is none of {', '.join(AUTH_MODES)}")
        return mode

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in AUTH_MODES[self.auth_mode].needs:
            if not _plain(getattr(self, name)):
                raise ValueError(f"{name}: the auth mode `{self.auth_mode}` needs it")
        if bool(self.auth_url) != bool(self.realm):
            missing = "realm" if self.auth_url else "auth_url"
            raise ValueError(f"{missing}: auth_url and realm are given together or not at all")
        for name in ("token", "refresh_token"):
            if re.search(r"[^!-~]", _plain(getattr(self, name))):
                raise ValueError(f"{name}: it contains spaces or other characters that no token has")
        return self


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _configuration_error(found: list[tuple[tuple[int | str, ...], str, str]]) -> TidepoolConfigurationError:
    fields: list[str] = []
    reasons: list[str] = []
    for location, kind, message in found:
        name, reason = str(location[0]) if location else "", message
        if kind == "extra_forbidden":
            # An unknown key may be a secret that was put in the wrong place.
            name, reason = (
                "",
                f"there is an unknown setting; known are {', '.join(ClientSettings.model_fields)}",
            )
        elif kind == "value_error":
            name, _, reason = message.removeprefix("Value error, ").partition(": ")
        fields += [name] if name and name not in fields else []
        reasons.append(f"`{name}`: {reason}" if name else reason)
    return TidepoolConfigurationError(
        "use the settings of the Tidepool connection", reason="; ".join(dict.fromkeys(reasons)), fields=fields
    )
