"""``tidepool-ingest people``: ids of those for whom the account may upload, and of those who are missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.fernet import Fernet

from tests.cli.commands import Run
from tests.factories import refresh_token
from tidepool_ingest.cli.summaries import PeopleFound
from tidepool_ingest.client.connections import CONNECTION_VARIABLE
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, PUBLIC_CLIENT_ID, Simulator
from tidepool_simulator.faults import Fault

GRANTED, MISSING = "5a3c0d0001", "5a3c0d0009"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator(rotate_refresh_tokens=True) as running:
        running.accounts.add_user("Jane Canary", user_id=GRANTED)
        running.accounts.add_user("John Canary", user_id=MISSING)
        for account in ("service", "uploader"):
            running.accounts.grant(account, of="Jane Canary")
        running.accounts.grant("service", of="John Canary", permissions=["view"])
        yield running


def connected(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, mode: str, **fields: Any) -> None:
    values = {"host": simulator.base_url, **fields, "extra": {"auth_mode": mode}}
    monkeypatch.setenv(CONNECTION_VARIABLE, json.dumps(values))


@pytest.fixture
def _connected(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(simulator, monkeypatch, "client_credentials", login=CLIENT_ID, password=CLIENT_SECRET)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "staging"
    for user in (GRANTED, MISSING):
        folder = root / "2026-03-05" / user / "one"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    return root


@pytest.mark.usefixtures("_connected")
def test_who_has_granted_it_and_who_has_not(run: Run, root: Path) -> None:
    alone = run("people")
    assert (alone.code, alone.err) == (0, "")
    assert GRANTED in alone.out
    assert MISSING not in alone.out

    beside = run("people", root)
    assert beside.code == 1
    said = {line.split()[0]: line.split()[1:] for line in beside.lines[2:]}
    assert said[GRANTED] == ["yes:", "granted", "yes"]
    assert said[MISSING] == ["no:", "not", "granted", "yes"]
    assert "Canary" not in beside.out  # no name of a profile


def test_a_connection_at_home(
    run: Run, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(simulator, monkeypatch, "client_credentials", login=CLIENT_ID, password=CLIENT_SECRET)
    file = tmp_path / "connection.json"
    file.touch(0o600)
    file.write_text(os.environ[CONNECTION_VARIABLE])
    monkeypatch.delenv(CONNECTION_VARIABLE)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert run("people", "--connection=~/connection.json").code == 0
    file.chmod(0o644)
    assert run("people", "--connection=~/connection.json").error.startswith(
        "tidepool-ingest: ~/connection.json: Could not use the connection file"
    )


@pytest.mark.usefixtures("_connected")
def test_as_json(run: Run, root: Path, simulator: Simulator) -> None:
    found = msgspec.json.decode(run("people", root, "--json").out, type=PeopleFound)

    assert (found.staged, found.missing) == ((GRANTED, MISSING), (MISSING,))
    assert GRANTED in found.granted
    assert found.account == simulator.accounts["service"].id


@pytest.mark.usefixtures("_connected")
def test_no_log_names_them(run: Run, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    run("people", root)
    assert GRANTED not in caplog.text
    assert MISSING not in caplog.text


@pytest.mark.usefixtures("_connected")
def test_where_nothing_can_be_found_out(run: Run, simulator: Simulator) -> None:
    simulator.faults.add(Fault.refused("associated-users", 503, times=None))
    try:
        assert run("people").code == 1
    finally:
        simulator.faults.clear()
    assert run("people", "/missing").code == 2


def test_a_refresh_token_is_kept_with_a_key_only(
    run: Run, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = refresh_token(simulator)
    connected(simulator, monkeypatch, "refresh_token", login=PUBLIC_CLIENT_ID, password=token)
    monkeypatch.delenv("TIDEPOOL_WORK_KEYS", raising=False)
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    assert "TIDEPOOL_WORK_KEYS" in run("people", "--ledger", ledger).error

    monkeypatch.setenv("TIDEPOOL_WORK_KEYS", Fernet.generate_key().decode())
    assert "--ledger" in run("people").error
    for _ in range(2):  # the server takes each refresh token once
        found = run("people", "--ledger", ledger)
        assert (found.code, GRANTED in found.out) == (0, True)
    assert token.encode() not in (tmp_path / "ledger.db").read_bytes()

    monkeypatch.setenv("TIDEPOOL_WORK_KEYS", Fernet.generate_key().decode())
    assert "TIDEPOOL_WORK_KEYS" in run("people", "--ledger", ledger).error
