"""A refresh token that the server rotates: shared through the ledger, encrypted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.crypto import get_fernet
from cryptography.fernet import Fernet
from sqlalchemy import text

from tests.airflow.hook.connections import BODY, CONN_ID, LIFETIME, Connect, connection, uploaded
from tests.timing import Clock, clock_of_simulated_tokens, clock_of_tokens
from tidepool_ingest.cli import main
from tidepool_ingest.ledger import Database
from tidepool_ingest.ledger.database import LedgerConfigurationError
from tidepool_simulator import Simulator


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock by which tokens end."""
    return clock_of_tokens(monkeypatch)


@pytest.fixture
def rotating() -> Iterator[Simulator]:
    with Simulator(token_lifetime=LIFETIME, rotate_refresh_tokens=True) as running:
        yield running


def kept(ledger_file: Path) -> list[Any]:
    database = Database(f"sqlite:///{ledger_file}")
    try:
        with database.reading() as reading:
            return list(reading.execute(text("SELECT connection, sealed_token FROM refresh_tokens")).all())
    finally:
        database.close()


def grants(simulator: Simulator) -> list[int | None]:
    return [request.status for request in simulator.requests if request.operation == "token"]


def test_the_next_hook_goes_on_with_the_rotated_token(
    clock: Clock, rotating: Simulator, connect: Connect, ledger_file: Path
) -> None:
    given = connection(rotating, "refresh_token")
    owner = rotating.accounts["owner"].id
    for _ in range(3):
        assert uploaded(connect(given), owner) == 3
        clock.sleep(LIFETIME)
    ((_, encrypted),) = kept(ledger_file)

    assert len(grants(rotating)) >= 4  # the sign-in, and one refresh for each hook
    assert set(grants(rotating)) == {200}
    assert given["password"] not in encrypted
    assert json.loads(get_fernet().decrypt(encrypted.encode()))["refresh"] != given["password"]


ROUNDS = 5
REQUESTS = 3

WORKER = """
import logging, sys
from tidepool_airflow.hook import TidepoolHook
logging.disable()
hook = TidepoolHook()
hook.get_conn()
print("ready", flush=True)
for _round in sys.stdin:
    for _ in range(int(sys.argv[2])):
        assert hook.client.is_open(sys.argv[1])
    print("done", flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_a_rotating_refresh_token(
    rotating: Simulator, connect: Connect, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both find out that a token has ended by being refused, in the same moment, once in each round.
    clock = clock_of_simulated_tokens(monkeypatch)
    hook = connect(connection(rotating, "refresh_token"))
    data_set_id = hook.open_data_set(rotating.accounts["owner"].id, BODY).data_set_id
    command = [sys.executable, "-c", WORKER, data_set_id, str(REQUESTS)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        for _ in range(ROUNDS):
            clock.sleep(LIFETIME)
            worker.stdin.write("go on\n")
            for _ in range(REQUESTS):
                assert hook.client.is_open(data_set_id)
            assert worker.stdout.readline() == "done\n"
        worker.stdin.close()

    assert worker.returncode == 0
    assert len(grants(rotating)) > ROUNDS
    assert set(grants(rotating)) == {200}  # a refresh with a token that is spent would be refused
    assert len(kept(ledger_file)) == 1


def test_the_button_test_does_not_spend_the_refresh_token(
    clock: Clock, rotating: Simulator, connect: Connect, ledger_file: Path
) -> None:
    # Airflow tests a connection under an id that it makes up for the moment.
    given = connection(rotating, "refresh_token")
    hook = connect(given)
    assert hook.test_connection()[0]
    clock.sleep(LIFETIME)
    assert connect(given, conn_id="made_up_for_the_moment").test_connection()[0]
    clock.sleep(LIFETIME)

    assert connect(given).test_connection()[0]
    assert hook.test_connection()[0]
    assert [conn_id for conn_id, _ in kept(ledger_file)] == [CONN_ID]


@pytest.fixture
def fernet_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Give Airflow another Fernet key."""

    def given(key: str) -> None:
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", key)
        get_fernet.cache_clear()

    yield given
    get_fernet.cache_clear()


def test_without_a_fernet_key_no_refresh_token_is_used(
    simulator: Simulator, connect: Connect, fernet_key: Callable[[str], None]
) -> None:
    fernet_key("")
    given = connection(simulator, "refresh_token")
    sent = len(simulator.requests)
    with pytest.raises(LedgerConfigurationError, match="AIRFLOW__CORE__FERNET_KEY"):
        connect(given).get_conn()
    result = connect(given).test_connection()

    assert result[0] is False
    assert "Fernet key" in result[1]
    assert len(simulator.requests) == sent


def test_the_other_auth_modes_need_no_fernet_key(
    simulator: Simulator, connect: Connect, fernet_key: Callable[[str], None]
) -> None:
    fernet_key("")

    assert uploaded(connect(connection(simulator, "client_credentials")), simulator.accounts["owner"].id) == 3


def test_another_fernet_key_than_before_is_named(
    rotating: Simulator, connect: Connect, fernet_key: Callable[[str], None]
) -> None:
    given = connection(rotating, "refresh_token")
    assert connect(given).test_connection()[0]
    fernet_key(Fernet.generate_key().decode())
    with pytest.raises(LedgerConfigurationError, match="another Fernet key"):
        connect(given).client.who_am_i()


def test_what_a_command_has_kept_with_its_own_key_is_read(
    rotating: Simulator, connect: Connect, ledger_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = connection(rotating, "refresh_token")
    connect(given)  # puts the connection into the environment, where the command finds it too
    monkeypatch.setenv("TIDEPOOL_WORK_KEYS", Fernet.generate_key().decode())
    assert main(["people", "--ledger", f"sqlite:///{ledger_file}"]) == 0

    assert connect(given).test_connection()[0]

    assert set(grants(rotating)) == {200}
    assert len(kept(ledger_file)) == 1
