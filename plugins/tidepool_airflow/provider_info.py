"""What Airflow learns about this package from its entry point, without importing the rest of it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

PACKAGE = "tidepool-airflow"

AUTH_MODES = ("client_credentials", "refresh_token", "password", "login", "token")

ENVIRONMENT_NAMES = ("production", "integration", "qa1", "qa2", "qa3", "qa4", "qa5", "dev1", "local")


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _seconds(label: str, description: str, default: float) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["number", "null"], "default": default, "minimum": 1, "maximum": 600},
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata: connection type, its form, extra links."""
    return {
        "package-name": PACKAGE,
        "name": "Tidepool",
        "description": "Moves diabetes device data from staging storage into the Tidepool Platform.",
        "versions": [version(PACKAGE)],
        "connection-types": [
            {
                "connection-type": "tidepool",
                "hook-class-name": "tidepool_airflow.hook.TidepoolHook",
                "hook-name": "Tidepool",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {
                        "host": "API host",
                        "login": "Client id or user name",
                        "password": "Client secret, password or token",
                    },
                    "placeholders": {
                        "host": "only for an environment that is not in the list, e.g. https://api.tidepool.org",
                        "login": "client id, or user name for password and legacy login",
                    },
                },
                "conn-fields": {
                    "environment": _field(
                        "Environment",
                        "Where Tidepool is; leave empty to use the API host above.",
                        enum=[*ENVIRONMENT_NAMES, None],
                    ),
                    "auth_mode": _field(
                        "Authentication",
                        "How a token is obtained: what Tidepool has given you decides.",
                        enum=[*AUTH_MODES, None],
                        default="client_credentials",
                    ),
                    "client_id": _field(
                        "OIDC client id", "Only for password mode, where the login is the user name."
                    ),
                    "client_secret": _field(
                        "OIDC client secret",
                        "Only where Tidepool gave one besides the password.",
                        format="password",
                    ),
                    "auth_url": _field(
                        "Sign-in URL", "Only to override what GET /info of the API host tells."
                    ),
                    "realm": _field("Realm", "Only to override what GET /info of the API host tells."),
                    "client_name": _field(
                        "Client name",
                        "Reverse DNS name of your uploader, e.g. org.example.ingest.",
                    ),
                    "client_version": _field(
                        "Client version", "Semantic version of your uploader, e.g. 1.0.0."
                    ),
                    "connect_timeout": _seconds("Connect timeout", "Seconds to wait for a connection.", 10),
                    "read_timeout": _seconds(
                        "Read timeout",
                        "Seconds to wait for an answer; Tidepool's gateway gives up at 60.",
                        75,
                    ),
                },
            }
        ],
        "extra-links": ["tidepool_airflow.links.TidepoolDataSetLink"],
    }
