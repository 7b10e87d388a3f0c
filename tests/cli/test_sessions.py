from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import Run
from tests.factories import found, set_batch_state, set_data_set_state
from tidepool_ingest.ledger import BatchState, DataSetState, Ledger, TaskOrigin
from tidepool_ingest.privacy import short_hash

USER = "0123456789"
DEVICE = "device-1"
FOLDER = f"/staging/2026-01-02/{USER}/batch-1"


@pytest.fixture
def ledger(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger with one batch verified and a newer one held, which the environment names."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    done = ledger.batches.register(found(label="2026-01-02 Dexcom G6 aaaaaaaaaa")).id
    row = ledger.data_sets.begin_opening(
        done, data_set_type="normal", deduplicator="org.example.d", expected_rows=9, origin=TaskOrigin()
    )
    set_data_set_state(ledger, row.id, DataSetState.VERIFIED, data_set_id="upid_000000000001")
    ledger.batches.set_counts(done, staged=10, accepted=9, quarantined=1, identical=0, expected_rows=9)
    set_batch_state(ledger, done, BatchState.VERIFIED)
    held = found(
        content_key="d" * 64, batch_id="batch-2", folder=f"{FOLDER}-2", label="2026-01-02 Omnipod bbbbbbbbbb"
    )
    set_batch_state(ledger, ledger.batches.register(held).id, BatchState.HELD, reason="too-many-refused")
    ledger.close()
    monkeypatch.setenv("TIDEPOOL_LEDGER", f"sqlite:///{path}")
    return path


def sessions(run: Run, *arguments: object) -> Any:
    ran = run("sessions", "--json", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return json.loads(ran.out)


def test_the_table_shows_the_newest_first(run: Run, ledger: Path) -> None:
    headings, _rule, held, done, *_files = run("sessions").lines

    assert headings.split()[:4] == ["batch", "user", "state", "data"]
    assert held.startswith("2026-01-02 Omnipod bbbbbbbbbb")
    assert held.endswith("too-many-refused")
    assert done.split()[-7:] == ["verified", "upid_000000000001", "verified", "9", "1", "-", "-"]


def test_it_says_where_the_rejected_records_are(run: Run, ledger: Path) -> None:
    path = f"/staging/_work/{found().content_key}/quarantine.ndjson"

    assert run("sessions").lines[-1].split() == ["2026-01-02", "Dexcom", "G6", "aaaaaaaaaa", path]
    assert [one["quarantine_file"] for one in sessions(run)] == [None, path]
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE batches SET purged = 'all'")
    assert "_work" not in run("sessions").out


def test_json_is_one_array(run: Run, ledger: Path) -> None:
    held, done = sessions(run)

    assert (held["state"], held["reason"], held["data_set_id"]) == ("held", "too-many-refused", None)
    assert (done["data_set_id"], done["accepted"], done["day"]) == ("upid_000000000001", 9, "2026-01-02")
    assert done["user_id"] == short_hash(USER)
    assert done["updated_at"].startswith("20")


def test_they_are_chosen_by_state_batch_and_number(run: Run, ledger: Path) -> None:
    assert [session["state"] for session in sessions(run, "--state", "held")] == ["held"]
    assert [session["state"] for session in sessions(run, "--batch", "aaaaaaaaaa")] == ["verified"]
    assert [session["state"] for session in sessions(run, "--limit", "1")] == ["held"]
    assert sessions(run, "--state", "failed") == []


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_persons_and_devices_are_shown_only_when_asked_for(
    run: Run, ledger: Path, form: tuple[str, ...]
) -> None:
    plain = run("sessions", *form).out
    full = run("sessions", "--full", *form).out

    assert short_hash(USER) in plain
    for private in (USER, DEVICE, FOLDER):
        assert private not in plain
    assert USER in full
    assert f"{FOLDER}-2" in full


def test_looking_changes_nothing(run: Run, ledger: Path) -> None:
    before = ledger.read_bytes()

    assert run("sessions").code == 0

    assert ledger.read_bytes() == before


@pytest.mark.parametrize(("form", "shown"), [((), 2), (("--json",), 1)])
def test_a_ledger_that_is_not_there_yet_is_empty(
    run: Run, tmp_path: Path, form: tuple[str, ...], shown: int
) -> None:
    ran = run("sessions", *form)

    assert (ran.code, len(ran.lines)) == (0, shown)
    assert "no ledger" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_database_without_tables_is_an_empty_ledger(run: Run, tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()

    assert run("sessions", "--json", "--ledger", "sqlite:///empty.db").out == "[]\n"


def test_a_ledger_of_another_version_is_one_line(run: Run, ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'another'")

    assert "another version" in run("sessions").refusal


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("nonsense", "address cannot be read"),
        ("mysql://root:secret@localhost/x", "SQLite or PostgreSQL"),
        ("postgresql://root:secret@127.0.0.1:1/x", "does not answer"),
        ("sqlite:///text", "not a SQLite database"),
        ("sqlite:///folder", "does not answer"),
    ],
)
def test_an_address_that_is_no_ledger_is_one_line(run: Run, tmp_path: Path, address: str, what: str) -> None:
    (tmp_path / "text").write_text("no database at all, but a text that is long enough to be read as one" * 9)
    (tmp_path / "folder").mkdir()

    error = run("sessions", "--ledger", address).told

    assert what in error
    assert "secret" not in error


@pytest.mark.parametrize(("state", "shown"), [(DataSetState.DELETED, 0), (DataSetState.ABANDONED, None)])
def test_what_is_gone_counts_as_visible_no_more(
    run: Run, ledger: Path, state: DataSetState, shown: int | None
) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE data_sets SET visible_rows = 9, state = ?", (state.value,))

    assert sessions(run)[1]["visible_rows"] == shown
    assert run("sessions").lines[3].split()[-2:] == ["-" if shown is None else "0", "-"]
