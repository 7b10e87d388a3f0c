from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from upath import UPath

from tests.cli.commands import Run
from tests.factories import found, set_batch_state
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.staging.work_area import WorkArea


@pytest.fixture
def area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The work area of a batch that was verified 100 days ago."""
    root = tmp_path / "staging"
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(address)
    ledger.migrate()
    row = ledger.batches.register(found(folder=str(root / "2026-01-02" / "0123456789" / "batch-1")))
    set_batch_state(ledger, row.id, BatchState.VERIFIED)
    with ledger.database.writing() as connection:
        connection.execute(update(batches).values(updated_at=datetime.now(UTC) - timedelta(days=100)))
    ledger.close()
    work = WorkArea(UPath(root), row.content_key)
    work.begin()
    work.accepted_path.write_bytes(b"{}\n")
    monkeypatch.setenv("TIDEPOOL_LEDGER", address)
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(root))
    return Path(work.path.path)


def test_a_dry_run_counts_and_removes_nothing(run: Run, area: Path) -> None:
    ran = run("cleanup", "--dry-run")

    assert (ran.code, ran.err) == (0, "")
    assert ran.out.split("\n")[2].split() == ["1", "whole", "work", "areas"]
    assert ran.out.endswith("Nothing was removed.\n")
    assert (area / "accepted.ndjson").exists()


def test_what_is_over_goes(run: Run, area: Path) -> None:
    assert run("cleanup").out.endswith("Removed.\n")
    assert not area.exists()
    assert run("cleanup").out == "Nothing was removed.\n"


def test_the_environment_says_how_long_things_are_kept(
    run: Run, area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEPOOL_KEEP_WORK_DAYS", "200")
    assert run("cleanup").out == "Nothing was removed.\n"
    for wrong in ("some", "-5", "36501"):
        monkeypatch.setenv("TIDEPOOL_KEEP_WORK_DAYS", wrong)
        error = run("cleanup").error
        assert "give a whole number of days up to 36500" in error
        assert "TIDEPOOL_KEEP_WORK_DAYS holds" in error
    assert run("cleanup", "--keep-work-days", "0").out == "Nothing was removed.\n"
    assert area.exists()


def test_without_a_ledger_it_says_what_to_give(run: Run, tmp_path: Path) -> None:
    error = run("cleanup", "--root", str(tmp_path), "--ledger", f"sqlite:///{tmp_path / 'none.db'}").error

    assert "Give --ledger" in error
