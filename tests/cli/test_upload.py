"""``tidepool-ingest upload``: the library's steps without Airflow, on the same ledger."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tests import PROJECT
from tests.factories import DAY, NONE, TRUNCATE, bolus, cbg, readings
from tests.happenings import connection, reconcile
from tests.timing import PATIENCE_SECONDS
from tests.world import QUICK, World
from tidepool_ingest import plan
from tidepool_ingest.cli import main, upload, upload_run
from tidepool_ingest.cli.run_progress import RunProgress
from tidepool_ingest.cli.summaries import RunOutcome
from tidepool_ingest.client.connections import CONNECTION_VARIABLE
from tidepool_ingest.ledger import COMMAND_LINE, ActionKind, DataSetState, Dismissal
from tidepool_ingest.options import RunOptions
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.upload import UploadContext
from tidepool_simulator.faults import Fault

TOO_MANY = [cbg(0, -5.0), *(cbg(n, -1.0) for n in range(1, 12)), *readings(8, 20)]
FEED = {"dataSetType": "continuous", "client": {"name": "org.example.feed", "version": "1.0.0"}}


@pytest.fixture(autouse=True)
def _quick(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UploadContext, "default_timeouts", replace(QUICK, slot=0.0, usual_close=0.0))
    monkeypatch.setattr(upload_run, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(upload_run, "LOOKS_AGAIN_AFTER", 0.01)
    for name in ("TIDEPOOL_LEDGER", "TIDEPOOL_STAGING_ROOT", "TIDEPOOL_WORK_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(CONNECTION_VARIABLE, connection(world))


def uploads(world: World, *more: object, path: object = None) -> int:
    return main(["upload", str(path or world.root), "--ledger", world.ledger_address, *map(str, more)])


def states(world: World) -> list[str]:
    return [row.state for row in world.ledger.batches.get_all(range(1, 50)) if row.part_of is None]


Printed = pytest.CaptureFixture[str]


# ---------------------------------------------------------------- what it takes


def test_a_root_is_uploaded_whole_and_once(world: World, capsys: Printed) -> None:
    world.stage(readings(5), "one")
    world.stage(readings(5, 3), "two", day=DAY - timedelta(days=40))
    world.stage([bolus(n, origin={"id": f"b-{n}"}) for n in range(3)], "feed", data_set=FEED)

    assert uploads(world) == 0

    printed = capsys.readouterr()
    assert "Batches: 3 verified." in printed.out
    assert "takes 3 batches" in printed.err
    assert world.user not in printed.out + printed.err
    assert len(world.visible()) == 8 + 3
    assert [(found.dag_id, found.run_id) for found in world.sets(1)] == [(COMMAND_LINE, None)]
    assert world.ledger.turns.runs() == []
    assert uploads(world) == 0
    assert "takes no batch; it leaves 3 batches done" in capsys.readouterr().err


def test_a_path_says_how_much_of_it(world: World) -> None:
    first = world.stage(readings(5), "one")
    world.stage(readings(5, 10), "two")
    world.stage(readings(5, 20), "three", day=DAY + timedelta(days=1))

    assert uploads(world, path=first) == 0
    assert states(world) == ["verified"]
    assert uploads(world, path=first.parent.parent) == 0
    assert states(world) == ["verified"] * 2
    assert uploads(world, "--look-back-days", 1) == 0
    assert states(world) == ["verified"] * 2
    assert uploads(world, "--first-day", DAY + timedelta(days=1)) == 0
    assert states(world) == ["verified"] * 3


def test_batches_of_a_device_go_up_oldest_first(world: World) -> None:
    for number in range(6):
        world.stage([bolus(0, 1.0 + number)], f"b{number}", day=DAY + timedelta(days=number))

    assert uploads(world, "--parallel-chunks", 4) == 0

    assert states(world) == ["verified"] * 6
    assert [row["normal"] for row in world.visible()] == [6.0]


def test_a_dry_run_opens_nothing(world: World, capsys: Printed) -> None:
    world.stage(readings(5))

    assert uploads(world, "--dry-run") == 0

    assert "5 rows would be new" in capsys.readouterr().out
    assert world.sets(1) == []
    assert world.ledger.turns.runs() == []


def test_a_dry_run_that_cannot_look_has_failed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.stage(readings(5))

    def unwritable(*_: object) -> None:
        raise BatchError("staging-unwritable")

    monkeypatch.setattr("tidepool_ingest.run.Run.prepare", unwritable)
    assert uploads(world, "--dry-run") == 1


def test_a_ledger_that_does_not_answer_is_that_of_the_command(world: World, capsys: Printed) -> None:
    dead = "postgresql://nobody@127.0.0.1:1/x"
    assert main(["upload", str(world.root), "--ledger", dead]) == 1
    assert "Check --ledger or $TIDEPOOL_LEDGER." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-quarantined-percent", "101"], "--max-quarantined-percent"),
        (["--users", "Jane Doe"], "--users"),
        (["--first-day", "2026-03-09", "--last-day", "2026-03-01"], "exchange them"),
        (["--connection", "missing.json"], "missing.json"),
    ],
)
def test_what_cannot_be_meant(world: World, capsys: Printed, arguments: list[str], said: str) -> None:
    assert uploads(world, *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Jane" not in error


def test_places_that_are_not_there(world: World, capsys: Printed) -> None:
    folder = world.stage(readings(2))
    for path in ("missing", folder.parent / "two", world.root / "2026-03-06", world.root / "2026-02-30"):
        assert uploads(world, path=path) == 2
    assert uploads(world, "--first-day", DAY, path=folder) == 2
    assert main(["upload", str(world.root)]) == 2
    assert "TIDEPOOL_LEDGER" in capsys.readouterr().err
    assert states(world) == []


def test_a_path_that_is_not_staged_is_not_taken_for_an_empty_root(world: World, capsys: Printed) -> None:
    folder = world.stage(readings(2))
    (world.root / "_work" / "one").mkdir(parents=True, exist_ok=True)
    file = next(folder.glob("*.ndjson*"))
    for path in (world.root.parent, world.root / "_work", file):
        assert uploads(world, path=path) == 2
        assert capsys.readouterr().err.startswith(f"tidepool-ingest: {path}: It is ")
    assert uploads(world, path="missing") == 2
    assert capsys.readouterr().err.startswith("tidepool-ingest: missing: the staging root is not there")
    assert uploads(world, "--dry-run", path=folder / "manifest.json") == 0
    assert uploads(world, "--dry-run", path=f"{folder}/../../..") == 0
    assert states(world) == ["prepared"]


def test_a_person_of_a_day_is_taken_as_validate_takes_it(world: World, capsys: Printed) -> None:
    folder = world.stage(readings(2))
    other = folder.parent.parent / "0000000001"
    shutil.copytree(folder, other / "one")

    assert uploads(world, path=folder.parent) == 0

    assert states(world) == ["verified"]
    assert uploads(world, "--users", world.user, path=folder.parent) == 2
    assert uploads(world, path=folder.parent.parent / "0000000002") == 2


def test_what_is_dismissed_while_it_is_at_work_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        world.stage(readings(5, 0 if name == "one" else 50), name)
    plan_run = plan.plan_run

    def dismissing(*args: Any, **given: Any) -> Any:
        made = plan_run(*args, **given)
        world.ledger.batches.mark_failed(made.batches[1], "file-missing")
        world.ledger.attention.dismiss(made.batches[1:], Dismissal.TEST, actor="ada")
        return made

    monkeypatch.setattr(plan, "plan_run", dismissing)

    assert uploads(world) == 0

    assert (states(world), len(world.visible())) == (["verified", "failed"], 5)
    assert world.row(2).dismissed is Dismissal.TEST
    assert world.ledger.turns.runs() == []


def test_each_run_parameter_is_an_option(capsys: Printed) -> None:
    with pytest.raises(SystemExit):
        main(["upload", "--help"])
    said = capsys.readouterr().out
    for name in RunOptions.model_fields.keys() - {"staging_root", "batches"}:  # the path says it
        assert f"--{name.replace('_', '-')}" in said
    assert upload.OTHER_WORDS.keys() <= RunOptions.model_fields.keys()


# ---------------------------------------------------------------- guards, and people


def test_what_is_held_does_not_stop_the_others(world: World, capsys: Printed) -> None:
    world.stage(TOO_MANY, "bad")
    world.stage(readings(3, 60), "good")

    assert uploads(world) == 1

    assert sorted(states(world)) == ["held", "verified"]
    out = capsys.readouterr().out
    assert "1 batch, too-many-refused: " in out
    assert uploads(world, "--max-quarantined-percent", 100) == 0


def test_where_a_batch_stopped_is_recorded_as_a_task_does(world: World) -> None:
    world.stage(TOO_MANY, "held")
    (world.stage(readings(5), "failed") / "data.ndjson").unlink()
    world.stage(readings(5, 9), "good")

    assert uploads(world) == 1

    found = {upload.folder.rsplit("/", 1)[-1]: upload for upload in world.ledger.uploads.last_changed()}
    assert found["good"].stopped_in is None
    for name in ("held", "failed"):
        stopped_in = found[name].stopped_in
        assert stopped_in is not None
        assert not stopped_in.is_task
        assert stopped_in.code == found[name].reason


def test_what_is_confirmed_stands_in_the_audit_log(world: World, capsys: Printed) -> None:
    world.stage(readings(3), data_set={"deduplicator": {"name": TRUNCATE}})
    assert uploads(world) == 1
    assert "truncate-not-allowed" in capsys.readouterr().out

    assert uploads(world, "--allow-truncate") == 0

    (action,) = world.ledger.actions.newest()
    assert (action.kind, action.detail) == (ActionKind.CONFIRM, "allow_truncate")
    assert (action.dag_id, action.run_id) == (COMMAND_LINE, None)
    assert action.actor.endswith("(command line)")


def test_a_forced_run_repeats_each_batch_once(world: World) -> None:
    world.stage(readings(3))
    assert uploads(world) == 0
    assert uploads(world, "--force") == 0

    assert world.set_states(1) == [DataSetState.VERIFIED] * 2
    assert len(world.visible()) == 3


class Terminal(io.StringIO):
    """A terminal at which somebody has typed something."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "state", "code"),
    [("what?\n1\n", "verified", 0), ("3\n", "held", 0), ("", "held", 130)],
)
def test_a_person_is_asked_at_the_terminal(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed, typed: str, state: str, code: int
) -> None:
    world.stage(TOO_MANY)
    monkeypatch.setattr(sys, "stdin", Terminal(typed))

    assert uploads(world, "--when-refused", "ask") == code

    assert states(world) == [state]
    assert "upload it without 12 rejected records?" in capsys.readouterr().err
    kinds = [(action.kind, action.dag_id) for action in world.ledger.actions.newest()]
    assert kinds == ([(ActionKind.APPROVE, COMMAND_LINE)] if typed else [])


def test_without_a_terminal_it_is_held(world: World) -> None:
    world.stage(TOO_MANY)
    assert uploads(world, "--when-refused", "ask") == 1
    assert states(world) == ["held"]


# ---------------------------------------------------------------- interrupted, and beside others


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_between_two_requests(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed, number: int
) -> None:
    world.stage(readings(6))
    real = upload_run.RunAtTerminal._upload
    # Whoever runs the tests in the background may have it ignored.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    before = signal.signal(number, usual)

    def struck(self: Any, row: Any, share: int) -> None:
        client = self.context.client
        send = client.upload_data

        def sending(data_set_id: str, body: bytes) -> None:
            send(data_set_id, body)
            os.kill(os.getpid(), number)
            assert self._stopping.wait(PATIENCE_SECONDS)

        monkeypatch.setattr(client, "upload_data", sending)
        real(self, row, share)

    with monkeypatch.context() as patched:
        patched.setattr(upload_run.RunAtTerminal, "_upload", struck)
        assert uploads(world, "--chunk-records", 2, "--parallel-chunks", 1) == 128 + number
    assert "goes on where it stopped" in capsys.readouterr().err
    (left,) = world.sets(1)
    assert [chunk.state for chunk in world.ledger.data_sets.chunks_of(left.id).values()] == ["stored"]
    assert signal.signal(number, before) is usual

    assert uploads(world) == 0
    assert [found.id for found in world.sets(1)] == [left.id]
    assert world.all_right()


class Interrupted(Terminal):
    """A terminal at which somebody answers a question with Ctrl-C."""

    def readline(self, *_: Any) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(PATIENCE_SECONDS)
        return "1\n"


def test_a_question_can_be_answered_with_an_interrupt(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    world.stage(TOO_MANY)
    monkeypatch.setattr(sys, "stdin", Interrupted())

    assert uploads(world, "--when-refused", "ask") == 130

    assert (states(world), world.ledger.actions.newest()) == (["held"], [])
    assert world.ledger.turns.runs() == []


def test_the_maintenance_goes_on_where_it_was_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    world.stage(readings(4))
    with monkeypatch.context() as patched:
        patched.setattr("tidepool_ingest.client.TidepoolClient.close_data_set", killed)
        with pytest.raises(Killed):
            uploads(world)
    assert states(world) == ["uploading"]
    world.wait_out_claims()

    reconcile(world)

    assert states(world) == ["verified"]
    assert world.all_right()


def test_what_may_pass_by_itself_is_tried_again(world: World, capsys: Printed) -> None:
    world.stage(readings(4))
    world.simulator.faults.add(Fault.refused("create", 503, times=2))

    assert uploads(world) == 0

    assert world.all_right()


def test_where_tidepool_does_not_respond_it_gives_up(world: World, capsys: Printed) -> None:
    for number in range(7):
        world.stage(readings(2, 10 * number), f"b{number}", device=f"d-{number}")
    world.simulator.faults.add(Fault.refused("create", 503, times=None))

    assert uploads(world) == 1

    printed = capsys.readouterr()
    assert "7 batches, tidepool-" in printed.out
    assert "It may have been carried out" in printed.err


def test_it_signs_in_before_anything_is_prepared(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    world.stage(readings(2))
    monkeypatch.setenv(CONNECTION_VARIABLE, connection(world).replace("practice-client-secret", "wrong"))

    assert uploads(world) == 1

    assert states(world) == ["planned"]
    assert "credentials" in capsys.readouterr().err


def command(world: World, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.cli.upload_process", "upload", str(world.root)),
            *("--ledger", world.ledger_address, "--chunk-records", "2", *more),
        ],
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.slow
def test_two_processes_one_of_them_killed_and_answers_lost(world: World) -> None:
    for number in range(6):
        data_set = {"deviceId": "d-1", "deduplicator": {"name": NONE}} if number < 3 else {"deviceId": "d-2"}
        world.stage(
            readings(9, 20 * number, deviceId=data_set["deviceId"]),
            f"b{number}",
            day=DAY + timedelta(days=number),
            data_set=data_set,
        )
    world.simulator.faults.add(
        Fault.lost_answer("post", skip=2, times=2),
        Fault.lost_answer("create", skip=1),
        Fault.lost_answer("close", skip=1),
        Fault.slow(0.02),
    )
    killed, other = command(world), command(world)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while len(world.simulator.requests) < 12:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    other.communicate(timeout=PATIENCE_SECONDS)
    for _ in range(5):  # a starved machine may be out of tries, whose pauses are a hundredth here
        again = command(world)
        said = again.communicate(timeout=PATIENCE_SECONDS)
        if again.returncode == 0:
            break

    assert again.returncode == 0, said
    assert killed.returncode == -signal.SIGKILL
    assert states(world) == ["verified"] * 6
    assert len(world.visible()) == 54
    assert world.all_right()


# ---------------------------------------------------------------- for programs, and on a terminal


def test_as_json(world: World, capsys: Printed) -> None:
    world.stage(readings(3))
    world.stage(TOO_MANY, "bad")

    assert uploads(world, "--json") == 1

    found = msgspec.json.decode(capsys.readouterr().out, type=RunOutcome)
    assert sorted((batch.state, batch.visible_rows) for batch in found.batches) == [
        ("held", 0),
        ("verified", 3),
    ]
    assert (found.not_done, len(found.causes), found.stopped_by) == (1, 1, None)
    assert uploads(world, "--json", "--dry-run", "--force") == 1
    assert json.loads(capsys.readouterr().out)["dryRun"]["compared"]["batches"] == 1


def test_the_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tidepool_ingest.cli.progress.time.monotonic", lambda: now[0])
    progress = RunProgress(12)
    assert progress.line(80) == "0 of 12 done; preparing"
    progress.preparing("a batch")
    progress._watch.add_records(12_000)
    now[0] += 5
    assert progress.line(80) == "0 of 12 done; preparing a batch, 12,000 records, 2,400 a second"
    progress.uploading({1: 4000, 2: 1000})
    progress.found(1, 0)
    progress.stored(1, 1000)
    now[0] += 2
    assert progress.line(99) == ("0 of 12 done; sending 1,000 of 5,000 records, 500 a second, 0:08 left")
    progress.found(1, 1000)  # it is sent once more, and what is there already takes no time
    assert progress.line(99) == ("0 of 12 done; sending 1,000 of 5,000 records, 500 a second, 0:08 left")
    progress.stored(1, 4000)
    progress.found(2, 0)
    progress.stored(2, 1500)
    progress.settled()
    assert progress.line(99) == "1 of 12 done; sending 5,000 of 5,000 records, verifying"
    progress.waiting("another task is working on it")
    assert progress.line(35) == "1 of 12 done; waiting, another task"


def test_what_was_sent_before_makes_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("tidepool_ingest.cli.progress.time.monotonic", lambda: now[0])
    progress = RunProgress(1)
    progress.uploading({1: 10_000})
    progress.found(1, 9000)
    now[0] += 1
    assert progress.line(99) == "0 of 1 done; sending 9,000 of 10,000 records"
    progress.stored(1, 100)
    assert progress.line(99) == "0 of 1 done; sending 9,100 of 10,000 records, 100 a second, 0:09 left"


def test_chunks_that_were_sent_before_are_told_as_found(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    world.stage(readings(6))
    world.simulator.faults.add(Fault.refused("post", 503, skip=2, times=None))
    sent = ("--chunk-records", 2, "--parallel-chunks", 1)
    assert uploads(world, *sent) == 1
    world.simulator.faults.clear()
    told: list[tuple[str, int]] = []
    for name in ("found", "stored"):
        monkeypatch.setattr(RunProgress, name, lambda _, _batch, many, name=name: told.append((name, many)))

    assert uploads(world, *sent) == 0

    assert told == [("found", 4), ("stored", 2)]


def test_a_refresh_token_needs_a_key(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Printed) -> None:
    world.stage(readings(3))
    fields = {"host": world.simulator.base_url, "login": "tidepool-practice", "password": "token"}
    text = json.dumps(fields | {"extra": {"auth_mode": "refresh_token"}})
    monkeypatch.setenv(CONNECTION_VARIABLE, text)

    assert uploads(world) == 2

    assert "TIDEPOOL_WORK_KEYS" in capsys.readouterr().err
    assert states(world) == []
