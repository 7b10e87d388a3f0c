"""The fields of an Airflow connection of type ``tidepool``, read as the client takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidepool_ingest.tidepool import ClientSettings, environment
from tidepool_ingest.tidepool.errors import TidepoolConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Connection

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
        "chosen_ids",
    }
)
"""Fields of the connection form besides host, login and password."""

DEFAULT_AUTH_MODE = "client_credentials"

OWN_FIELDS: Mapping[str, Mapping[str, str]] = {
    "client_credentials": {"client_id": "login", "client_secret": "password"},
    "refresh_token": {"client_id": "login", "refresh_token": "password"},
    "password": {"username": "login", "password": "password"},
    "login": {"username": "login", "password": "password"},
    "token": {"token": "password"},
}
"""Which settings each auth mode takes from the form's fields login and password."""

TIMEOUTS = ("connect_timeout", "read_timeout")
"""Settings in seconds, which a connection given as a URI holds as text."""


def client_settings(connection: Connection) -> ClientSettings:
    """Return an Airflow connection's fields as the client takes them.

    :param connection: a connection of type ``tidepool``.
    :raises TidepoolConfigurationError: naming the fields to correct, as the form calls them.
    """
    extra = {name: value for name, value in connection.extra_dejson.items() if value not in (None, "")}
    if unknown := extra.keys() - EXTRAS:
        # Their names are left out: somebody may have put a secret in the place of one.
        raise _to_correct(
            connection,
            f"its extra holds {len(unknown)} unknown fields",
            ("extra",),
            f"Known are {', '.join(sorted(EXTRAS))}.",
        )
    mode = str(extra.get("auth_mode", DEFAULT_AUTH_MODE))
    own = OWN_FIELDS.get(mode, {})
    values = {**extra, "environment": _where(connection, extra), "auth_mode": mode}
    for setting, field in own.items():
        values[setting] = getattr(connection, field) or extra.get(setting, "")
    for name in TIMEOUTS:
        if name in values:
            values[name] = _seconds(connection, name, values[name])
    if "chosen_ids" in values:
        values["chosen_ids"] = _truth(connection, "chosen_ids", values["chosen_ids"])
    try:
        return ClientSettings.of(values)
    except TidepoolConfigurationError as problem:
        reason, fields = problem.reason, problem.fields
    places = ", ".join(f"`{name}` in the field {own[name].capitalize()}" for name in fields if name in own)
    raise _to_correct(
        connection,
        reason,
        tuple(own.get(name, name) for name in fields),
        f"With this auth mode it holds {places}." if places else "",
    )


def _where(connection: Connection, extra: Mapping[str, Any]) -> str:
    """Return the environment's name or the API host, whichever the connection gives."""
    named, host = str(extra.get("environment", "")), _host(connection)
    if not host:
        environment(named)
        return named
    found = environment(host, field="host")
    if named and environment(named) != found:
        # Choosing integration in the list must never send data to a production host left in the other field.
        raise _to_correct(
            connection,
            "its environment and its API host are two different ones",
            ("environment", "host"),
            "Leave one of them empty.",
        )
    return host


def _host(connection: Connection) -> str:
    if not connection.host:
        return ""
    scheme = f"{connection.schema}://" if connection.schema and "://" not in connection.host else ""
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}{connection.host}{port}"


def _seconds(connection: Connection, name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        reason = f"`{name}` is not a number of seconds"
    raise _to_correct(connection, reason, (name,), "")


def _truth(connection: Connection, name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise _to_correct(connection, f"`{name}` is neither true nor false", (name,), "")


def _to_correct(
    connection: Connection, reason: str, fields: tuple[str, ...], remedy: str
) -> TidepoolConfigurationError:
    return TidepoolConfigurationError(
        f"use the Tidepool connection `{connection.conn_id}`", reason=reason, fields=fields, remedy=remedy
    )
