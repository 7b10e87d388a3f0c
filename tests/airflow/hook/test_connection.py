"""What a connection may hold, and the message for one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from tests.airflow.hook.connections import CANARY, CONN_ID, Connect, connection
from tidepool_airflow.hook import TidepoolHook
from tidepool_airflow.settings import ledger_address, open_ledger
from tidepool_ingest.client import TidepoolConfigurationError
from tidepool_ingest.ledger.database import LedgerConfigurationError
from tidepool_simulator import Simulator


def refused(hook: TidepoolHook) -> TidepoolConfigurationError:
    with pytest.raises(TidepoolConfigurationError) as caught:
        hook.get_conn()
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__cause__)
    return caught.value


def test_a_hook_is_made_without_looking_for_its_connection() -> None:
    assert TidepoolHook("not_there").tidepool_conn_id == "not_there"


def test_a_connection_that_is_not_there(ledger_file: Path) -> None:
    error = refused(TidepoolHook("not_there"))

    assert "`not_there`" in str(error)
    assert "Create it" in error.remedy


NO_OBJECTS = {
    "a list": [CANARY],
    "a list as text": json.dumps([CANARY]),
    "an empty list": "[]",
    "a number": 5,
    "a text": json.dumps(CANARY),
    "no JSON": f"{{{CANARY}",
    "null": "null",
}


@pytest.mark.parametrize("extra", NO_OBJECTS.values(), ids=NO_OBJECTS)
def test_an_extra_that_is_no_json_object(simulator: Simulator, connect: Connect, extra: object) -> None:
    given = {**connection(simulator, "token"), "extra": extra}
    error = refused(connect(given))

    assert error.fields == ("extra",)
    assert "its extra is no JSON object" in error.what
    assert f"`{CONN_ID}`" in error.what
    # The button Test of the form, which Airflow presses so.
    worked, message = Connection.from_json(json.dumps(given), conn_id="never_saved").test_connection()
    assert not worked
    assert "its extra is no JSON object" in message


def test_an_extra_that_is_nested_too_deeply(simulator: Simulator) -> None:
    given = {**connection(simulator, "token"), "extra": '{"a":' * 2_000}
    worked, message = Connection.from_json(json.dumps(given), conn_id="never_saved").test_connection()

    assert not worked
    assert "its extra is no JSON object" in message


def test_a_connection_that_airflow_cannot_read(connect: Connect) -> None:
    error = refused(connect({"conn_type": "tidepool", CANARY: CANARY}))

    assert "Airflow passes over what it cannot read" in error.remedy


@pytest.mark.parametrize("given", [{CANARY: CANARY}, {"password": 5}, {"host": ["h"]}])
def test_a_ledger_that_airflow_cannot_read_is_not_replaced_by_another_one(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    written = json.dumps({"conn_type": "postgres", "host": "h", "schema": "ledger", **given})
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", written)
    with pytest.raises(LedgerConfigurationError, match="AIRFLOW_CONN_TIDEPOOL_LEDGER") as caught:
        ledger_address()

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("extra", [[CANARY], CANARY, f"{{{CANARY}", {"options": {"a": CANARY}}])
def test_a_ledger_with_an_extra_that_is_no_object(monkeypatch: pytest.MonkeyPatch, extra: object) -> None:
    written = json.dumps({"conn_type": "postgres", "host": "h", "schema": "ledger", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_LEDGER", written)
    with pytest.raises(LedgerConfigurationError, match="an extra that is no JSON object") as caught:
        open_ledger()

    assert CANARY not in str(caught.value)


def test_an_unknown_extra_field(simulator: Simulator, connect: Connect) -> None:
    error = refused(connect(connection(simulator, "token", **{CANARY: CANARY})))

    assert error.fields == ("extra",)
    assert "unknown" in error.what
    assert "auth_mode" in error.remedy


@pytest.mark.parametrize(
    ("mode", "left_out", "field"),
    [
        ("client_credentials", "login", "login"),
        ("client_credentials", "password", "password"),
        ("refresh_token", "login", "login"),
        ("refresh_token", "password", "password"),
        ("password", "login", "login"),
        ("password", "password", "password"),
        ("password", "client_id", "client_id"),
        ("login", "login", "login"),
        ("login", "password", "password"),
        ("token", "password", "password"),
    ],
)
def test_a_missing_field_is_named_as_in_the_form(
    simulator: Simulator, connect: Connect, mode: str, left_out: str, field: str
) -> None:
    given = connection(simulator, mode)
    if left_out in given:
        given[left_out] = ""
    else:
        del given["extra"][left_out]
    error = refused(connect(given))

    assert error.fields == (field,)
    assert field in str(error).lower()
    assert f"`{CONN_ID}`" in error.what


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"auth_mode": CANARY}, "auth_mode"),
        ({"client_name": f"{CANARY} with blanks"}, "client_name"),
        ({"client_version": "1.0"}, "client_version"),
        ({"connect_timeout": CANARY}, "connect_timeout"),
        ({"connect_timeout": "0"}, "connect_timeout"),
        ({"read_timeout": "nan"}, "read_timeout"),
        ({"read_timeout": [CANARY]}, "read_timeout"),
        ({"realm": "tidepool"}, "auth_url"),
        ({"chosen_ids": CANARY}, "chosen_ids"),
        ({"chosen_ids": 1}, "chosen_ids"),
    ],
)
def test_a_field_with_an_unusable_value_is_named(
    simulator: Simulator, connect: Connect, extra: dict[str, Any], field: str
) -> None:
    given = connection(simulator, "client_credentials")
    given["extra"] |= extra

    assert refused(connect(given)).fields == (field,)


@pytest.mark.parametrize(
    ("extra", "chosen"),
    [
        ({}, False),
        ({"chosen_ids": None}, False),
        ({"chosen_ids": True}, True),
        ({"chosen_ids": "true"}, True),
        ({"chosen_ids": "False"}, False),
    ],
)
def test_ids_of_data_sets_are_chosen_only_if_the_connection_says_so(
    simulator: Simulator, connect: Connect, extra: dict[str, Any], chosen: bool
) -> None:
    given = connection(simulator, "client_credentials")
    given["extra"] |= extra

    assert connect(given).settings.chosen_ids is chosen


@pytest.mark.parametrize(
    "host", ["http://api.tidepool.org", "http://192.0.2.1:8000", "http://127.0.0.1.nip.io"]
)
def test_plain_http_reaches_this_machine_only(simulator: Simulator, connect: Connect, host: str) -> None:
    error = refused(connect(connection(simulator, "token") | {"host": host}))

    assert error.fields == ("host",)
    assert "plain http" in error.what


def test_plain_http_by_the_field_schema(simulator: Simulator, connect: Connect) -> None:
    given = connection(simulator, "token") | {"host": "api.tidepool.org", "schema": "http"}

    assert "plain http" in refused(connect(given)).what


@pytest.mark.parametrize("name", ["", "staging"])
def test_neither_a_known_environment_nor_a_host(simulator: Simulator, connect: Connect, name: str) -> None:
    error = refused(connect(connection(simulator, "token", environment=name) | {"host": ""}))

    assert error.fields == ("environment",)
    assert "integration" in error.remedy


def test_environment_and_host_must_not_disagree(simulator: Simulator, connect: Connect) -> None:
    given = connection(simulator, "token", environment="integration") | {"host": "api.tidepool.org"}

    assert set(refused(connect(given)).fields) == {"environment", "host"}


@pytest.mark.parametrize(
    ("environment", "host"),
    [("production", ""), ("", "api.tidepool.org"), ("production", "https://api.tidepool.org/")],
)
def test_environment_or_host_or_both_alike(
    simulator: Simulator, connect: Connect, environment: str, host: str
) -> None:
    hook = connect(connection(simulator, "token", environment=environment) | {"host": host})

    assert hook.api_host == "api.tidepool.org"
    assert hook.data_set_url("upid_1") == "https://api.tidepool.org/v1/data_sets/upid_1"
