"""A lost ledger is filled again from staging and Tidepool, with no secret on the command line."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.factories import NONE, cbg, readings
from tests.happenings import Elsewhere, body, connection, live, rebuilt, uploaded
from tests.world import World
from tidepool_ingest.cli import main
from tidepool_ingest.client.connections import CONNECTION_VARIABLE
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.maintenance.rebuild import FEEDS, FOUND, IN_PART, KNOWN, NOT_THERE, UNDONE
from tidepool_ingest.upload import withdraw_batch
from tidepool_simulator.accounts import CLIENT_SECRET


def states(world: World) -> list[BatchState]:
    rows = world.ledger.batches.get_all(range(1, 20))
    return [row.state for row in rows if row.part_of is None]


def test_each_batch_is_found_or_left_to_the_next_run(world: World, elsewhere: Elsewhere) -> None:
    world.stage(readings(3), "one", data_set=body(NONE))
    world.stage(readings(9, 10), "two", data_set=body(NONE))
    assert world.run(part_records=4).codes == []
    world.stage(readings(2, 30), "three", data_set=body(NONE))
    world.stage([cbg(50, -5.0)], "four", data_set=body(NONE))
    second, there = elsewhere(), live(world)

    assert rebuilt(second, part_records=4) == {FOUND: 2, NOT_THERE: 2}

    assert live(world) == there
    assert sorted(states(second)) == ["prepared", "prepared", "verified", "verified"]
    assert rebuilt(second, part_records=4) == {NOT_THERE: 2}
    outcome = second.run(run="run-2", part_records=4)
    assert (outcome.plan.done, outcome.codes) == (2, ["too-many-refused"])
    assert len(world.visible()) == 14


def test_what_was_undone_or_replaced_stays_so(world: World, elsewhere: Elsewhere) -> None:
    world.stage([cbg(0, 5.0)], "b-wrong", data_set=body(NONE))
    world.stage([cbg(9, 5.0)], "c-undone", data_set=body(NONE))
    undone = next(n for n in world.run().uploaded if world.row(n).batch_id == "c-undone")
    withdraw_batch(world.context(), world.row(undone))
    world.stage([cbg(0, 5.5)], "a-right", data_set=body(NONE), replaces="b-wrong")
    uploaded(world, run="run-2")
    second = elsewhere()

    assert rebuilt(second) == {UNDONE: 2, FOUND: 1}

    assert sorted(states(second)) == ["replaced", "verified", "withdrawn"]
    assert [row["value"] for row in world.visible()] == [5.5]
    assert second.run().plan.batches == []


def test_one_that_is_there_in_part_is_completed(world: World, elsewhere: Elsewhere) -> None:
    number = world.ready(readings(9), data_set=body(NONE), part_records=3)
    world.upload(number)
    world.client.delete_data_set(live(world)[-1])
    second = elsewhere()

    assert rebuilt(second, part_records=3) == {IN_PART: 1}
    assert rebuilt(second, part_records=3) == {KNOWN: 1}

    assert second.run(part_records=3).codes == []
    assert len(world.visible()) == 9


def test_what_differs_is_held_and_the_others_go_on(world: World, elsewhere: Elsewhere) -> None:
    world.stage(readings(6), "one", data_set=body(NONE))
    world.stage(readings(3, 10), "two", data_set=body(NONE))
    assert world.run(part_records=3).codes == []

    assert rebuilt(elsewhere(), part_records=6) == {"parts-differ": 1, FOUND: 1}


def test_feeds_are_left_to_the_next_run(world: World) -> None:
    data_set = {"dataSetType": "continuous", "client": {"name": "org.example.feed", "version": "1.0.0"}}
    world.stage(readings(3), data_set=data_set)

    assert rebuilt(world) == {FEEDS: 1}


# ---------------------------------------------------------------- by hand


def rebuild_by_hand(world: World, ledger: Path, *more: str) -> int:
    words = ["ledger", "rebuild", "--root", str(world.root), "--ledger", f"sqlite:///{ledger}", *more]
    return main(words)


def test_by_hand(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.stage(readings(3), data_set=body(NONE))
    uploaded(world)
    monkeypatch.setenv(CONNECTION_VARIABLE, connection(world))

    assert rebuild_by_hand(world, tmp_path / "new.db") == 0

    assert "1  found at Tidepool" in capsys.readouterr().out
    ledger = Ledger(f"sqlite:///{tmp_path / 'new.db'}")
    assert ledger.batches.get(1).state is BatchState.VERIFIED
    ledger.close()


def test_parts_that_tidepool_could_not_close_are_refused(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rebuild_by_hand(world, tmp_path / "new.db", "--part-records", "250001")

    assert "give at most 250000" in capsys.readouterr().err


def test_by_a_file_that_nobody_else_may_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(CONNECTION_VARIABLE, raising=False)
    file = tmp_path / "connection.json"
    file.write_text(connection(world))
    for rights in (stat.S_IRGRP, stat.S_IROTH, stat.S_IWOTH):
        file.chmod(0o600 | rights)
        assert rebuild_by_hand(world, tmp_path / "new.db", "--connection", str(file)) == 2
        error = capsys.readouterr().err
        assert "others may read it" in error
        assert CLIENT_SECRET not in error
    file.chmod(0o600)

    assert rebuild_by_hand(world, tmp_path / "new.db", "--connection", str(file)) == 0
    assert "no ready batch" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tidepool://user:Secret@host",
        '["Secret"]',
        '{"login": 7}',
        '{"extra": "Secret"}',
        '{"port": "x"}',
        '{"port": Infinity}',
        pytest.param('{"extra": ' + "[" * 100_000, id="nested too deep"),
    ],
)
def test_what_is_no_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setenv(CONNECTION_VARIABLE, text)

    assert rebuild_by_hand(world, world.folder / "new.db") == 2

    error = capsys.readouterr().err
    assert CONNECTION_VARIABLE in error
    assert "Secret" not in error
    assert not (world.folder / "new.db").exists()


def test_a_refresh_token_stays_with_the_tasks(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {"host": world.simulator.base_url, "login": "id", "password": "token"}
    text = json.dumps({**fields, "extra": {"auth_mode": "refresh_token"}})
    monkeypatch.setenv(CONNECTION_VARIABLE, text)

    assert rebuild_by_hand(world, world.folder / "new.db") == 2
    assert "TIDEPOOL_WORK_KEYS" in capsys.readouterr().err
