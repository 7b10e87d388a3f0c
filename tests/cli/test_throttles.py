from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import Run
from tidepool_ingest.ledger import ActionKind, ActionStatus, Ledger

HOST = "api.example.org"


@pytest.fixture
def ledger(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(address)
    ledger.migrate()
    monkeypatch.setenv("TIDEPOOL_LEDGER", address)
    yield ledger
    ledger.close()


def test_a_throttle_is_shown_and_lifted(ledger: Ledger, run: Run) -> None:
    assert run("ledger", "throttles").out == "No throttle is in force.\n"
    ledger.rate_limits.record(HOST, 1800.0)

    _headings, _rule, line = run("ledger", "throttles").lines
    assert line.split()[0] == HOST
    assert 1790 <= int(line.split()[1]) <= 1800
    assert "list" in run("ledger", "throttles", "--lift", "api.example.com").error
    assert run("ledger", "throttles", "--lift", HOST).out == f"Tasks may send requests to {HOST} again.\n"
    assert ledger.rate_limits.in_force() == {}
    (action,) = ledger.actions.newest()
    assert (action.kind, action.status, action.detail) == (ActionKind.LIFT, ActionStatus.DONE, f"of {HOST}")
    assert action.actor.endswith(" (command line)")


def test_an_account_without_a_name_can_lift_one(
    ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 50123")

    monkeypatch.setattr("getpass.getuser", nobody)  # as of a container's account, by `docker compose exec`
    ledger.rate_limits.record(HOST, 1800.0)

    assert run("ledger", "throttles", "--lift", HOST).out == f"Tasks may send requests to {HOST} again.\n"
    (action,) = ledger.actions.newest()
    assert action.actor == f"uid {os.getuid()} (command line)"


def test_without_a_ledger_there_is_nothing_to_lift(run: Run) -> None:
    assert "no ledger" in run("ledger", "throttles").error
