from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.cli.commands import Run
from tests.factories import found
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.privacy import short_hash

USER, DEVICE = "0123456789", "device-1"
TODAY = date(2026, 3, 31)


@pytest.fixture
def ledger(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger in which one device stopped sending nine days ago."""
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(address)
    ledger.migrate()
    for ago in range(9, 20):
        last = TODAY - timedelta(days=ago)
        name = f"batch-{ago}"
        batch = found(content_key=name.ljust(64, "x"), batch_id=name, folder=f"/{name}", day=last)
        ledger.batch_days.replace_for_batch(ledger.batches.register(batch).id, {last: {"cbg": 1}})
    ledger.close()
    monkeypatch.setenv("TIDEPOOL_LEDGER", address)


@pytest.mark.usefixtures("ledger")
def test_the_table_names_nobody(run: Run) -> None:
    _headings, _rule, line = run("inactive", "--today", TODAY).lines

    assert line.split() == ["Dexcom", "G6", short_hash(DEVICE), short_hash(USER), "2026-03-22", "9", "1"]
    assert len(run("inactive", "--today", TODAY - timedelta(days=7)).lines) == 2


@pytest.mark.usefixtures("ledger")
def test_ids_are_shown_when_asked_for(run: Run) -> None:
    ran = run("inactive", "--today", TODAY, "--full", "--json")

    (one,) = json.loads(ran.out)
    assert (one["device"], one["user"], one["silent days"]) == (DEVICE, USER, 9)


def test_without_a_ledger_there_is_none(run: Run) -> None:
    ran = run("inactive", "--json")

    assert (ran.code, ran.out) == (0, "[]\n")
    assert "no ledger" in ran.err
