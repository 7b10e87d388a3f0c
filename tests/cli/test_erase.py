from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import USER, Run
from tests.factories import found, set_data_set_state
from tidepool_ingest.ledger import DataSetState, Ledger, TaskOrigin
from tidepool_ingest.privacy import short_hash

SET = "upid_000000000001"


@pytest.fixture
def staged(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One staged batch whose data set is verified, and its folder."""
    root = tmp_path / "staging"
    folder = root / "2026-01-02" / USER / "batch-1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(address)
    ledger.migrate()
    batch = ledger.batches.register(found(folder=str(folder))).id
    row = ledger.data_sets.begin_opening(
        batch, data_set_type="normal", deduplicator="org.example.d", expected_rows=9, origin=TaskOrigin()
    )
    set_data_set_state(ledger, row.id, DataSetState.VERIFIED, data_set_id=SET)
    ledger.close()
    monkeypatch.setenv("TIDEPOOL_LEDGER", address)
    monkeypatch.setenv("TIDEPOOL_STAGING_ROOT", str(root))
    return folder


def test_without_yes_it_only_tells(run: Run, staged: Path) -> None:
    ran = run("erase", "--user", USER)

    assert (ran.code, ran.err) == (0, "")
    assert f"Found for user {short_hash(USER)}: 1 staged folders, 1 batches" in ran.out
    assert f"{SET}  verified" in ran.out
    assert "Nothing was removed" in ran.out
    assert USER not in ran.out
    assert staged.exists()


def test_with_yes_it_removes_and_lists_what_is_left(run: Run, staged: Path) -> None:
    ran = run("erase", "--user", USER, "--yes")

    assert (ran.code, ran.err) == (0, "")
    assert f"Removed for user {short_hash(USER)}: 1 staged folders, 1 batches" in ran.out
    assert f"{SET}  verified" in ran.out
    assert not staged.parent.exists()
    assert run("sessions", "--json").out == "[]\n"
    assert run("erase", "--user", USER).out == f"Nothing is known of user {short_hash(USER)}.\n"


def test_a_slip_in_the_id_is_one_line_that_does_not_repeat_it(run: Run, staged: Path) -> None:
    error = run("erase", "--user", "0123456789x").error

    assert "ten hex digits" in error
    assert "0123456789x" not in error


@pytest.mark.usefixtures("staged")
def test_a_root_that_is_not_there_is_one_line(run: Run, tmp_path: Path) -> None:
    assert "staging" in run("erase", "--user", USER, "--yes", "--root", tmp_path / "nowhere").error


def test_without_a_ledger_nothing_is_removed(run: Run, staged: Path, tmp_path: Path) -> None:
    error = run("erase", "--user", USER, "--yes", "--ledger", f"sqlite:///{tmp_path / 'none.db'}").error

    assert "no ledger" in error
    assert staged.exists()
