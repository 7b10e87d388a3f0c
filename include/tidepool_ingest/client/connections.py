"""A connection to Tidepool as Airflow has it, wherever it comes from: its fields as settings of the client.

Airflow's own connections are given as they are. A command has none: it reads the same JSON that Airflow
takes, from the environment variable that Airflow reads too, or from a file that nobody else may read. No
secret is ever an argument, which every user of the machine could see.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tidepool_ingest.auth_modes import AUTH_MODES, DEFAULT_AUTH_MODE
from tidepool_ingest.client.environments import environment
from tidepool_ingest.client.errors import TidepoolConfigurationError
from tidepool_ingest.client.settings import ClientSettings
from tidepool_ingest.privacy import OTHERS

CONNECTION_VARIABLE = "AIRFLOW_CONN_TIDEPOOL_DEFAULT"
"""Environment variable from which Airflow takes the connection ``tidepool_default``."""

OWN_CONNECTIONS = (None, "tidepool_default")
"""Connections that the manifest of a batch may name where a command works on it."""


class ConnectionFields(Protocol):
    """What is read of a connection."""

    @property
    def conn_id(self) -> str:
        """Its id."""

    @property
    def host(self) -> str | None:
        """Host of the API, if it is not that of a named environment."""

    @property
    def schema(self) -> str | None:
        """``http`` or ``https``."""

    @property
    def port(self) -> int | None:
        """Port of the API."""

    @property
    def login(self) -> str | None:
        """What the auth mode takes from this field."""

    @property
    def password(self) -> str | None:
        """What the auth mode takes from this field."""

    @property
    def extra_dejson(self) -> dict[str, Any]:
        """The further fields."""


@dataclass(frozen=True)
class JsonConnection:
    """A connection that was read from JSON."""

    conn_id: str
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    login: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    extra_dejson: dict[str, Any] = field(default_factory=dict, repr=False)


def settings_from_environment() -> ClientSettings:
    """Return the settings that Airflow's environment variable for ``tidepool_default`` holds.

    :raises TidepoolConfigurationError: it is not set, or cannot be used.
    """
    text = os.environ.get(CONNECTION_VARIABLE)
    if not text:
        raise TidepoolConfigurationError(
            "find the Tidepool connection",
            reason=f"{CONNECTION_VARIABLE} is not set",
            remedy="Set it to the connection as JSON, or give --connection FILE.",
        )
    return client_settings(_parsed(text, CONNECTION_VARIABLE))


def settings_from_file(path: str) -> ClientSettings:
    """Return the settings that a file holds, as the same JSON.

    :param path: a file that only its owner may read.
    :raises TidepoolConfigurationError: others may read it, or it cannot be used.
    :raises OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_mode & OTHERS:
            raise TidepoolConfigurationError(
                "use the connection file",
                reason="others may read it, or it is not a regular file",
                remedy="Let only its owner read it (chmod 600). If others have read it, change the secrets.",
            )
        return client_settings(_parsed(file.read(), "the connection file"))


def _parsed(text: str | bytes, where: str) -> JsonConnection:
    try:
        fields = json.loads(text)
        extra = fields.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        texts = {name: fields.get(name) or None for name in ("host", "schema", "login", "password")}
        port = int(fields["port"]) if fields.get("port") else None
        usable = isinstance(extra, dict) and all(
            value is None or isinstance(value, str) for value in texts.values()
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        usable = False
    if not usable:
        # Without a word of what it holds: most of that is secret.
        raise TidepoolConfigurationError(
            "use the Tidepool connection",
            reason=f"{where} does not hold a connection as JSON",
            remedy='Write it as Airflow does: {"conn_type": "tidepool", "login": …, "extra": {…}}.',
        )
    return JsonConnection("tidepool_default", port=port, extra_dejson=extra, **texts)


EXTRAS = frozenset(
    {
        "environment",
        "auth_mode",
        "client_id",
        "client_secret",
        "auth_url",
        "realm",
        "client_name",
        "client_version",
        "connect_timeout",
        "read_timeout",
        "longest_pause",
        "chosen_ids",
    }
)
"""Fields of the connection form in addition to host, login and password."""

IN_SECONDS = ("connect_timeout", "read_timeout", "longest_pause")
"""Settings in seconds, which a connection given as a URI holds as text."""


def client_settings(connection: ConnectionFields) -> ClientSettings:
    """Return an Airflow connection's fields as settings of the client.

    :param connection: a connection of type ``tidepool``, Airflow's own or one that was read from JSON.
    :raises TidepoolConfigurationError: naming the fields to correct as the form does.
    """
    extra = {name: value for name, value in _extra(connection).items() if value not in (None, "")}
    if unknown := extra.keys() - EXTRAS:
        # Their names are left out: somebody may have put a secret in the place of one.
        raise _configuration_error(
            connection,
            f"its extra holds {len(unknown)} unknown fields",
            ("extra",),
            f"Known are {', '.join(sorted(EXTRAS))}.",
        )
    mode = str(extra.get("auth_mode", DEFAULT_AUTH_MODE))
    form_fields = AUTH_MODES[mode].form_fields if mode in AUTH_MODES else {}
    values = {**extra, "environment": _server(connection, extra), "auth_mode": mode}
    for setting, name in form_fields.items():
        values[setting] = getattr(connection, name) or extra.get(setting, "")
    for name in IN_SECONDS:
        if name in values:
            values[name] = _seconds(connection, name, values[name])
    if "chosen_ids" in values:
        values["chosen_ids"] = _boolean(connection, "chosen_ids", values["chosen_ids"])
    try:
        return ClientSettings.of(values)
    except TidepoolConfigurationError as problem:
        reason, fields = problem.reason, problem.fields
    locations = ", ".join(
        f"`{name}` in the field {form_fields[name].capitalize()}" for name in fields if name in form_fields
    )
    raise _configuration_error(
        connection,
        reason,
        tuple(form_fields.get(name, name) for name in fields),
        f"With this auth mode it holds {locations}." if locations else "",
    )


def _extra(connection: ConnectionFields) -> Mapping[str, Any]:
    """Return the further fields, without a word of what stands there if it is something else."""
    try:
        extra: Any = connection.extra_dejson
        if not extra:
            # Airflow takes text that is no JSON for no fields at all.
            extra = json.loads(getattr(connection, "extra", None) or "{}")
    except (ValueError, TypeError, AttributeError, RecursionError):
        extra = None
    if isinstance(extra, Mapping):
        return extra
    raise _configuration_error(
        connection,
        "its extra is no JSON object",
        ("extra",),
        'Write it as {"auth_mode": …, …}, or leave it empty.',
    )


def _server(connection: ConnectionFields, extra: Mapping[str, Any]) -> str:
    """Return the environment's name or the API host, whichever the connection gives."""
    named, host = str(extra.get("environment", "")), _host(connection)
    if not host:
        environment(named)
        return named
    found = environment(host, field="host")
    if named and environment(named) != found:
        # Choosing integration in the list must never send data to a production host in the other field.
        raise _configuration_error(
            connection,
            "its environment and its API host name two different servers",
            ("environment", "host"),
            "Leave one of them empty.",
        )
    return host


def _host(connection: ConnectionFields) -> str:
    if not connection.host:
        return ""
    scheme = f"{connection.schema}://" if connection.schema and "://" not in connection.host else ""
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}{connection.host}{port}"


def _seconds(connection: ConnectionFields, name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        reason = f"`{name}` is not a number of seconds"
    raise _configuration_error(connection, reason, (name,), "")


def _boolean(connection: ConnectionFields, name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise _configuration_error(connection, f"`{name}` is neither true nor false", (name,), "")


def _configuration_error(
    connection: ConnectionFields, reason: str, fields: tuple[str, ...], remedy: str
) -> TidepoolConfigurationError:
    return TidepoolConfigurationError(
        f"use the Tidepool connection `{connection.conn_id}`", reason=reason, fields=fields, remedy=remedy
    )
