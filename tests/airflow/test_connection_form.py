"""The connection form: what Airflow's UI shows is what the hook reads and the client takes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.sdk import Connection

from tests import PROJECT
from tidepool_airflow import provider_info
from tidepool_airflow.hook import TidepoolHook
from tidepool_airflow.provider_info import PACKAGE, get_provider_info
from tidepool_ingest.auth_modes import AUTH_MODES, DEFAULT_AUTH_MODE, AuthMode
from tidepool_ingest.client import (
    ENVIRONMENTS,
    ClientSettings,
    FixedToken,
    TidepoolConfigurationError,
    auth,
    connect,
    host_of,
)
from tidepool_ingest.client.connections import EXTRAS, client_settings

(CONNECTION_TYPE,) = get_provider_info()["connection-types"]
FIELDS: dict[str, Any] = CONNECTION_TYPE["conn-fields"]


def offered() -> dict[str, Any]:
    """Return the fields of the form as they are now."""
    (connection_type,) = get_provider_info()["connection-types"]
    fields: dict[str, Any] = connection_type["conn-fields"]
    return fields


def test_airflow_finds_the_provider() -> None:
    (found,) = [
        each
        for each in entry_points(group="apache_airflow_provider")
        if each.dist and each.dist.name == PACKAGE
    ]

    assert found.load()() == get_provider_info()


def test_the_form_is_read_without_the_client() -> None:
    # Airflow reads it in whichever of its processes starts.
    code = (
        "import sys; from tidepool_airflow.provider_info import get_provider_info; get_provider_info();"
        "print(*sorted(name for name in sys.modules if name.startswith(('tidepool_ingest', 'requests'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["tidepool_ingest", "tidepool_ingest.auth_modes"]


def test_the_metadata_are_as_airflow_asks_for() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())

    jsonschema.validate(get_provider_info(), schema)


def test_the_form_that_airflow_serves() -> None:
    (form,) = [each for each in HookMetaService.hook_meta_data() if each.connection_type == "tidepool"]
    standard = form.standard_fields

    assert form.hook_name == "Tidepool"
    assert form.hook_class_name == f"{TidepoolHook.__module__}.{TidepoolHook.__name__}"
    assert form.extra_fields is not None
    assert set(form.extra_fields) == EXTRAS
    assert standard is not None
    assert [field.title for field in (standard.host, standard.login, standard.password) if field] == [
        "API host",
        "Client id or user name",
        "Client secret, password or token",
    ]
    assert all(field is not None and field.hidden for field in (standard.port, standard.url_schema))


def test_the_hook_says_the_same_as_the_metadata() -> None:
    assert CONNECTION_TYPE["connection-type"] == TidepoolHook.conn_type
    assert CONNECTION_TYPE["hook-name"] == TidepoolHook.hook_name
    assert isinstance(Connection(conn_id="x", conn_type="tidepool").get_hook(), TidepoolHook)


def test_every_field_of_the_form_is_read_and_every_one_read_is_in_the_form() -> None:
    assert set(FIELDS) == EXTRAS
    in_own_fields = {setting for mode in AUTH_MODES.values() for setting in mode.form_fields}

    # `trace_session` ties one run's requests together, so it is nothing that a connection could hold.
    assert EXTRAS | in_own_fields == set(ClientSettings.model_fields) - {"trace_session"}


def test_the_form_knows_every_auth_mode_and_environment() -> None:
    assert FIELDS["auth_mode"]["schema"]["enum"] == [*AUTH_MODES, None]
    assert list(ENVIRONMENTS) == list(provider_info.ENVIRONMENTS)
    assert FIELDS["environment"]["schema"]["enum"] == [*ENVIRONMENTS, None]


@pytest.mark.parametrize("name", ["auth_mode", "environment"])
def test_every_choice_has_a_name_that_says_what_it_is(name: str) -> None:
    schema = FIELDS[name]["schema"]
    displayed = schema["values_display"]

    assert list(displayed) == [value or "null" for value in schema["enum"]]
    assert all(displayed[value].startswith(f"{value}: ") for value in schema["enum"] if value)


def test_the_hosts_that_the_form_names_are_those_of_the_environments() -> None:
    named = {
        name: found[1]
        for name, label in provider_info.ENVIRONMENTS.items()
        if (found := re.search(r"\((\S+)\)$", label))
    }

    assert named.keys() >= {"production", "integration", "local"}
    assert named == {name: host_of(ENVIRONMENTS[name].api) for name in named}


@pytest.mark.parametrize("mode", AUTH_MODES)
def test_what_an_auth_mode_needs_has_a_place_in_the_form(mode: str) -> None:
    assert set(AUTH_MODES[mode].needs) <= set(AUTH_MODES[mode].form_fields) | EXTRAS


def test_the_readme_lists_the_auth_modes() -> None:
    text = (PROJECT / "README.md").read_text()
    table = text[text.index("| `auth_mode` |") :].split("\n\n", maxsplit=1)[0].splitlines()[2:]

    assert [line.split("`")[1] for line in table] == list(AUTH_MODES)


def test_a_new_auth_mode_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = AuthMode(
        label="a device code as the password",
        needs=("client_id", "token"),
        form_fields={"token": "password"},
        factory="device_code_tokens",
    )
    monkeypatch.setitem(AUTH_MODES, "device_code", row)

    def device_code_tokens(given: auth.SignIn) -> FixedToken:
        return FixedToken(f"made-from-{given.settings.token.get_secret_value()}")

    monkeypatch.setattr(auth, "device_code_tokens", device_code_tokens, raising=False)

    displayed = offered()["auth_mode"]["schema"]
    assert displayed["values_display"]["device_code"] == "device_code: a device code as the password"
    assert displayed["enum"] == [*AUTH_MODES, None]
    with pytest.raises(TidepoolConfigurationError) as caught:
        settings({"auth_mode": "device_code"})
    assert caught.value.fields == ("client_id",)
    made = settings({"auth_mode": "device_code", "client_id": "ours"})
    masked: list[str] = []
    connect(made, on_token=masked.append)
    assert masked == ["made-from-a-secret"]


def test_the_defaults_of_the_form_are_those_of_the_client() -> None:
    assert FIELDS["auth_mode"]["schema"]["default"] == DEFAULT_AUTH_MODE
    for name in ("connect_timeout", "read_timeout"):
        schema = FIELDS[name]["schema"]
        assert schema["default"] == ClientSettings.model_fields[name].default
        for edge in (schema["minimum"], schema["maximum"]):
            assert getattr(settings({name: edge}), name) == edge


def settings(extra: dict[str, Any], **fields: Any) -> ClientSettings:
    given = {"conn_type": "tidepool", "login": "id", "password": "a-secret", **fields}
    form = {**dict.fromkeys(EXTRAS), "environment": "integration", **extra}
    return client_settings(Connection.from_json(json.dumps({**given, "extra": form}), conn_id="x"))


def test_fields_that_are_left_alone_are_taken_as_left_out() -> None:
    taken = settings({})

    assert taken.environment == "integration"
    assert taken.auth_mode == DEFAULT_AUTH_MODE
    assert (taken.client_name, taken.client_version, taken.auth_url) == (None, None, "")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_of_the_list_can_be_chosen(environment: str) -> None:
    assert settings({"environment": environment}).environment == environment


def test_secrets_are_hidden_in_the_form_and_by_their_names() -> None:
    from airflow.sdk.log import redact

    assert FIELDS["client_secret"]["schema"]["format"] == "password"
    displayed = redact({"client_secret": "a-canary", "realm": "tidepool"})
    assert "a-canary" not in str(displayed)
    assert "tidepool" in str(displayed)
