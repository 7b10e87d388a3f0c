"""What Airflow learns about this package from its entry point; the plugin itself is not imported for it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from tidepool_ingest.auth_modes import AUTH_MODES, DEFAULT_AUTH_MODE

PACKAGE = "tidepool-airflow"

ENVIRONMENTS = {
    "production": "production: people's real accounts (api.tidepool.org)",
    "integration": "integration: for trying it out (int-api.tidepool.org)",
    **{name: f"{name}: Tidepool's own tests" for name in ("qa1", "qa2", "qa3", "qa4", "qa5", "dev1")},
    "local": "local: on this machine (localhost:3000)",
}
"""Tidepool's environments, and what the form calls them."""


def _choice(names: dict[str, str], without: str) -> dict[str, Any]:
    """Return the schema of a drop-down list.

    :param names: the values, and what the form calls them.
    :param without: what the form calls no value.
    """
    return {"enum": [*names, None], "values_display": {**names, "null": without}}


def _field(label: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}


def _seconds(label: str, description: str, default: float, most: float = 600) -> dict[str, Any]:
    return {
        "label": label,
        "description": description,
        "schema": {"type": ["number", "null"], "default": default, "minimum": 1, "maximum": most},
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata: connection type, its form, extra links."""
    auth_modes = {name: f"{name}: {mode.label}" for name, mode in AUTH_MODES.items()}
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
                        "login": "client id, user name or e-mail address, as the authentication asks for",
                        "password": "client secret, password, refresh token or token",
                    },
                },
                "conn-fields": {
                    "environment": _field(
                        "Environment",
                        "Which Tidepool the data go to; the standard fields take the API host of any other.",
                        **_choice(ENVIRONMENTS, "none of these: the API host of the standard fields"),
                    ),
                    "auth_mode": _field(
                        "Authentication",
                        "Choose by what Tidepool has given you, which goes into the standard fields.",
                        **_choice(auth_modes, DEFAULT_AUTH_MODE),
                        default=DEFAULT_AUTH_MODE,
                    ),
                    "client_id": _field(
                        "OIDC client id",
                        "Only for authentication by password, where the login is the user name.",
                    ),
                    "client_secret": _field(
                        "OIDC client secret",
                        "Only where Tidepool gave one besides the password.",
                        format="password",
                    ),
                    "auth_url": _field(
                        "Sign-in URL", "Only to override what GET /info of the API host returns."
                    ),
                    "realm": _field("Realm", "Only to override what GET /info of the API host returns."),
                    "client_name": _field(
                        "Client name",
                        "Reverse DNS name of your uploader, e.g. org.example.ingest; a manifest may differ.",
                    ),
                    "client_version": _field(
                        "Client version", "Semantic version of your uploader, e.g. 1.0.0; goes with its name."
                    ),
                    "connect_timeout": _seconds("Connect timeout", "Seconds to wait for a connection.", 10),
                    "read_timeout": _seconds(
                        "Read timeout",
                        "Seconds to wait for a response; Tidepool's gateway gives up at 60.",
                        75,
                    ),
                    "longest_pause": _seconds(
                        "Longest pause",
                        "Most seconds that tasks wait when Tidepool throttles them, whatever it asks for.",
                        3600,
                        86_400,
                    ),
                    "chosen_ids": {
                        "label": "Choose data set ids",
                        "description": "So that a lost response leaves no empty data set behind. Tidepool's "
                        "documentation forbids it; its servers accept it.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
        "extra-links": [
            "tidepool_airflow.links.TidepoolUploadLink",
            "tidepool_airflow.links.TidepoolQuarantineLink",
            "tidepool_airflow.links.TidepoolDataSetLink",
        ],
    }
