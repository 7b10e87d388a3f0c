"""The button Test of the connection form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.sdk import Connection

from tests.airflow.hook.connections import CANARY, MODES, Connect, connection
from tidepool_ingest.privacy import short_hash
from tidepool_simulator import Simulator


@pytest.mark.parametrize("mode", MODES)
def test_the_button_test_says_whose_account_it_is(simulator: Simulator, connect: Connect, mode: str) -> None:
    account = simulator.accounts["service" if mode == "client_credentials" else "uploader"]
    sent = len(simulator.requests)
    worked, message = connect(connection(simulator, mode)).test_connection()

    assert worked, message
    assert short_hash(account.id) in message
    assert account.id not in message
    assert "granted it uploading: 1 " in message
    assert "associated-users" in [request.operation for request in simulator.requests[sent:]]


def test_the_button_test_counts_only_who_granted_uploading(connect: Connect) -> None:
    with Simulator() as simulator:
        for number in range(3):
            simulator.accounts.add_user(f"viewed-{number}")
            simulator.accounts.grant("uploader", of=f"viewed-{number}", permissions=["view"])
        _, message = connect(connection(simulator, "token")).test_connection()

    assert "granted it uploading: 1 " in message


@pytest.mark.parametrize("mode", MODES)
def test_the_button_test_with_wrong_credentials(simulator: Simulator, connect: Connect, mode: str) -> None:
    given = connection(simulator, mode) | {"password": CANARY}
    worked, message = connect(given).test_connection()

    assert not worked
    assert "Could not" in message
    assert CANARY not in message


def test_the_button_test_as_airflow_presses_it(simulator: Simulator, ledger_file: Path) -> None:
    given = Connection.from_json(json.dumps(connection(simulator, "login")), conn_id="never_saved")
    worked, message = given.test_connection()

    assert worked, message
