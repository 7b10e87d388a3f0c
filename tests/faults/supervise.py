"""Play one schedule: start its tasks as Airflow would, heal the world, run again until all is done, check."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from tests.faults.catalogue import KILLS, OF_LEDGERS, OVERTAKEN, Local, Proxied
from tests.faults.children import ended, start, stop
from tests.faults.place import (
    WHOLE_DELETED,
    Place,
    Tidepool,
    back_up,
    copy_staging,
    lay_out,
    replace_ledger,
    second_place,
    simulated,
    stage,
)
from tests.faults.schedule import LocalFault, Schedule
from tests.faults.verdict import Verdict, judge
from tests.faults.worker import Task, end_turns, maintain, work, work_alone
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.prepare.step import rebuild_work_area
from tidepool_ingest.staging.work_area import WorkArea

TRIES = 8
"""Tries of a task in one run, as Airflow's ``retries`` allow."""

LONGEST_PAUSE = 3.0
"""Seconds until a task is tried again, whatever wait an error asks for."""

RUNS_WITH_FAULTS = 3
RUNS_TO_HEAL = 6
TASK_SECONDS = 120.0
"""Seconds after which a task is taken for stuck, which counts as a failure of the schedule."""

LONGEST_WAIT_SECONDS = 60.0
"""Seconds for which tasks may only wait for others, before they fail for this run, as in Airflow."""


@dataclass
class Outcome:
    """The result of a schedule.

    :param struck: how often each kind of fault struck.
    :param kills: how many of them were SIGKILLs.
    :param closed_again: closes requested again.
    :param starts: tasks started while faults were installed.
    :param runs: runs of the job.
    :param wrong: what else is not as it should be.
    """

    number: int
    verdict: Verdict = field(default_factory=Verdict)
    struck: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    closed_again: int = 0
    starts: int = 0
    runs: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def repairs(self) -> int:
        """Return the chunks sent again, the data sets redone and the closes requested again."""
        return self.closed_again + self.verdict.sent_again + self.verdict.given_up

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return self.verdict.ok and not self.wrong


def play(schedule: Schedule, folder: Path, empty_ledger: Path, uploader: str = "ours") -> Outcome:
    """Play a schedule in a folder of its own.

    :param empty_ledger: a migrated SQLite file to copy.
    :param uploader: ``ours`` or ``plain``.
    """
    began = time.monotonic()
    outcome = Outcome(schedule.number)
    place = Place(folder)
    lay_out(place, empty_ledger)
    # A plain client loses a whole batch to one rejected record; here it is compared by faults alone.
    with simulated(place, schedule, stricter=uploader == "ours") as (place, tidepool):
        player = _Player(schedule, place, tidepool, uploader, outcome, empty_ledger)
        player.play()
        outcome.struck.update(tidepool.counts())
    journal = place.journal.counts()
    outcome.struck.update({kind: journal[kind] for kind in map(str, (*Local, *Proxied)) if journal[kind]})
    outcome.kills = sum(outcome.struck[str(kind)] for kind in KILLS)
    if uploader == "ours":
        look_at_quarantines(place)
    # Of two data sets for one content, one is rightly deleted, whole as it is.
    if journal[WHOLE_DELETED] and not any(outcome.struck[str(kind)] for kind in OF_LEDGERS):
        outcome.wrong.append(WHOLE_DELETED)
    outcome.verdict = judge(place, schedule, ours=uploader == "ours", second=player.second)
    if outcome.verdict.isolated:
        outcome.struck[str(Local.POISON)] = outcome.verdict.isolated
    outcome.closed_again = sum(count - 1 for line, count in journal.items() if line.startswith("close "))
    outcome.seconds = time.monotonic() - began
    return outcome


def look_at_quarantines(place: Place) -> None:
    """Open each batch's quarantine as the uploads page does, which makes a damaged one again."""
    with (
        closing(Ledger(f"sqlite:///{place.ledger}")) as ledger,
        closing(sqlite3.connect(place.ledger)) as rows,
    ):
        for (number,) in rows.execute("SELECT id FROM batches WHERE part_of IS NULL").fetchall():
            row = ledger.batches.get(number)
            if not WorkArea(UPath(place.staging), row.content_key).is_quarantine_intact():
                rebuild_work_area(UPath(place.staging), row, ledger, record_failure=False)


@dataclass
class _Waiting:
    batch: int | None
    try_number: int = 1
    ready_at: float = 0.0


class _Player:
    def __init__(
        self,
        schedule: Schedule,
        place: Place,
        tidepool: Tidepool,
        uploader: str,
        outcome: Outcome,
        empty_ledger: Path,
    ) -> None:
        self._schedule = schedule
        self._place = place
        self._tidepool = tidepool
        self._uploader = uploader
        self._outcome = outcome
        self._faulty = False
        self._batches: list[int] = []
        self._chance = random.Random(f"starts {schedule.seed} {schedule.number}")
        self._empty_ledger = empty_ledger
        self._ours = uploader == "ours"
        self._backups: list[Path] = []
        self._struck: set[LocalFault] = set()
        self._second_pid: int | None = None
        self._advanced_at = 0.0
        self.second: Place | None = None

    def play(self) -> None:
        if self._stage(0) and not self._run():
            self._outcome.wrong.append("the batch of earlier was not uploaded")
        self._with_faults()
        self._tidepool.clear()
        self._wait_for_second()
        self._tidepool.settle()
        for _ in range(RUNS_TO_HEAL):
            if self._healed():
                break
        else:
            self._outcome.wrong.append("the job did not get done in a healed world")
        self._tidepool.settle()
        if self._schedule.kind == "backlog":
            self._maintain()
            if self._has_changed() and not (
                self._tasks([None], "force") and self._tasks(self._batches, "force")
            ):
                self._outcome.wrong.append("a forced run did not get done")

    def _maintain(self) -> None:
        """Let what held batches have left behind be removed, as every hour."""
        output = self._place.logs / "maintenance.out"
        output.touch()
        pid = start(partial(maintain, self._place), output)
        deadline = time.monotonic() + TASK_SECONDS
        while (code := ended(pid)) is None:
            if time.monotonic() > deadline:
                stop(pid)
                code = 1
                break
            time.sleep(0.02)
        if code:
            self._outcome.wrong.append("the maintenance did not end well")

    def _has_changed(self) -> bool:
        """Return whether a batch that was verified is no longer shown as it was, so that a person forces all.

        Tidepool may not show again what a data set that is closed by half and then deleted had superseded.
        """
        with closing(sqlite3.connect(self._place.ledger)) as ledger:
            query = "SELECT count(*) FROM batches WHERE reason = 'changed-since-verified'"
            return bool(ledger.execute(query).fetchone()[0])

    def _healed(self) -> bool:
        """Run everything once more; return whether nothing is left to do, for any deployment."""
        done = self._run()
        if not self._struck:
            return done
        done = self._decide() and done
        if self.second is not None:
            self._start_second(self.second)
            done = self._wait_for_second() and done
        return done and (self._schedule.kind == "continuous" or self._verify_again())

    # ------------------------------------------------------------------------------------ ledgers

    def _ledger_is_replaced(self, running: Iterable[int]) -> bool:
        """Do what strikes a ledger now; return whether it is another one from now on."""
        due = [fault for fault in self._schedule.local if fault.kind in OF_LEDGERS]
        if not (due and self._faulty and self._ours):
            return False
        # Once for each start: this is called as often as the supervisor looks at its tasks.
        if (
            any(fault.kind is Local.LEDGER_RESTORED for fault in due)
            and len(self._backups) <= self._outcome.starts
        ):
            self._backups.append(self._place.folder / f"backup-{len(self._backups)}.db")
            back_up(self._place.ledger, self._backups[-1])
        for fault in due:
            if fault.start > self._outcome.starts or fault in self._struck:
                continue
            self._struck.add(fault)
            self._place.journal.append(str(fault.kind))
            if fault.kind is Local.SECOND_DEPLOYMENT:
                if self.second is None:
                    self.second = second_place(self._place, self._empty_ledger)
                    self._start_second(self.second)
                continue
            for pid in running:
                stop(pid)
            self._tidepool.settle()
            is_lost = fault.kind is Local.LEDGER_LOST
            replace_ledger(
                self._place, self._empty_ledger if is_lost else self._backups[fault.at % len(self._backups)]
            )
            return True
        return False

    def _start_second(self, second: Place) -> None:
        copy_staging(self._place, second)
        number = len(list(second.logs.glob("*.out")))
        task = self._task(number, None)
        self._second_pid = start(partial(work_alone, second, task), second.logs / f"{number:02}.out")
        (second.logs / f"{number:02}.out").touch()

    def _wait_for_second(self) -> bool:
        """Wait until the run of the other deployment has ended; return whether nothing was left to do."""
        pid, deadline = self._second_pid, time.monotonic() + 3 * TASK_SECONDS
        if pid is None or self.second is None:
            return True
        self._second_pid = None
        while (code := ended(pid)) is None:
            if time.monotonic() > deadline:
                stop(pid)
                self._outcome.wrong.append("the other deployment was stuck")
                return False
            time.sleep(0.02)
        if code:
            self._outcome.wrong.append(f"the other deployment ended with {code}")
        results = sorted(self.second.results.iterdir())
        return bool(results) and json.loads(results[-1].read_text())["end"] == "done"

    def _decide(self) -> bool:
        """Do what a person does about what is held because Tidepool shows something else of it."""
        with closing(sqlite3.connect(self._place.ledger)) as ledger:
            held = ledger.execute(
                "SELECT id FROM batches WHERE part_of IS NULL AND reason = 'found-differs'"
            ).fetchall()
        done = True
        for (number,) in held:
            done = self._tasks([number], "undo") and self._tasks([number], "force") and done
        return done

    def _verify_again(self) -> bool:
        """Verify every batch of each deployment again, as the maintenance does."""
        done = True
        for place in (self._place, *([] if self.second is None else [self.second])):
            with closing(sqlite3.connect(place.ledger)) as ledger:
                numbers = ledger.execute("SELECT id FROM batches WHERE part_of IS NULL").fetchall()
            for (number,) in numbers:
                done = self._act(place, number, "verify") and done
        return done

    def _act(self, place: Place, number: int, action: str) -> bool:
        if place == self._place:
            return self._tasks([number], action)
        task = self._task(len(list(place.logs.glob("*.out"))), number, action=action)
        output = place.logs / f"{task.number:02}.out"
        output.touch()
        pid = start(partial(work, place, task, []), output)
        while ended(pid) is None:
            time.sleep(0.02)
        path = place.results / f"{task.number:02}.json"
        return path.exists() and json.loads(path.read_text())["end"] == "done"

    def _with_faults(self) -> None:
        self._tidepool.install(self._schedule.remote)
        self._place.striking.touch()
        self._faulty = True
        self._outcome.starts = 0
        for run in range(RUNS_WITH_FAULTS):
            self._stage(run + 1)
            done = self._run()
            if run == 0:
                self._clear()
            if done and not self._tidepool.waiting() and run + 1 >= self._last_wave:
                break
        self._faulty = False
        self._place.striking.unlink()

    @property
    def _last_wave(self) -> int:
        return max(batch.wave for batch in self._schedule.batches)

    def _stage(self, wave: int) -> int:
        """Write the batches that are staged before a run, and return how many."""
        batches = [batch for batch in self._schedule.batches if batch.wave == wave]
        for batch in batches:
            stage(self._place, batch, f"{self._schedule.seed} {self._schedule.number}")
        return len(batches)

    def _clear(self) -> None:
        """Do again what the faults say that somebody cleared in the UI."""
        for fault in self._schedule.local:
            if fault.kind is Local.CLEAR_RUN:
                self._place.journal.append(str(fault.kind))
                self._run()
            elif fault.kind is Local.CLEAR_TASK and self._batches:
                self._place.journal.append(str(fault.kind))
                self._tasks([self._batches[fault.at % len(self._batches)]])

    def _run(self) -> bool:
        """Plan, then work on every batch; return whether nothing is left to do."""
        self._outcome.runs += 1
        self._batches = []
        if not self._tasks([None]):
            return False
        return self._tasks(self._batches)

    def _tasks(self, batches: Sequence[int | None], action: str = "") -> bool:
        waiting = [_Waiting(batch) for batch in batches]
        running: dict[int, tuple[_Waiting, Task, float]] = {}
        all_done = True
        if self._schedule.kind == "backlog":
            # The runs of others have ended, perhaps with a ledger, or they came back with a restored one.
            end_turns(self._place, besides=batches)
        self._advanced_at = time.monotonic()
        while waiting or running:
            now = time.monotonic()
            if self._ledger_is_replaced(running) or self._only_wait(running):
                return False
            self._start_ready(waiting, running, action, now)
            for pid in list(running):
                waiting_task, task, began = running[pid]
                code = ended(pid)
                if code is None:
                    if now - began > TASK_SECONDS:
                        stop(pid)
                        del running[pid]
                        self._outcome.wrong.append("a task was stuck")
                        all_done = False
                    continue
                del running[pid]
                again = self._after(waiting_task, task, code)
                if again is None:
                    continue
                if again.try_number > TRIES or again.ready_at < 0:
                    all_done = False
                    self._end_turn(again.batch)
                else:
                    waiting.append(again)
            time.sleep(0.005)
        return all_done

    def _only_wait(self, running: Iterable[int]) -> bool:
        """Stop the tasks of a run that have done nothing but wait for too long; the next run goes on."""
        if time.monotonic() - self._advanced_at <= LONGEST_WAIT_SECONDS:
            return False
        for pid in running:
            stop(pid)
        return True

    def _start_ready(
        self,
        waiting: list[_Waiting],
        running: dict[int, tuple[_Waiting, Task, float]],
        action: str,
        now: float,
    ) -> None:
        """Start what is due: one task after the other, or all of a run."""
        if running and not self._schedule.at_once:
            return
        for waiting_task in [waiting_task for waiting_task in waiting if waiting_task.ready_at <= now]:
            waiting.remove(waiting_task)
            running |= self._start(waiting_task, action)
            if not self._schedule.at_once:
                break

    def _task(self, number: int, batch: int | None, try_number: int = 1, action: str = "") -> Task:
        return Task(
            number,
            f"run-{self._outcome.runs}",
            self._schedule.chunk_records,
            batch,
            try_number,
            self._uploader,
            self._schedule.chunks_at_once,
            self._schedule.kind,
            self._schedule.part_records if self._ours else None,
            action,
        )

    def _start(self, waiting_task: _Waiting, action: str = "") -> dict[int, tuple[_Waiting, Task, float]]:
        faults = [
            fault for fault in self._schedule.local if self._faulty and fault.start == self._outcome.starts
        ]
        kinds = {fault.kind for fault in faults} if waiting_task.batch is not None else set()
        if Local.TWICE in kinds:
            self._place.journal.append(str(Local.TWICE))
        # Airflow takes a stalled worker for dead and starts its task again, while the first still runs.
        copies = 2 if kinds & OVERTAKEN else 1
        started = {}
        for copy in range(copies):
            number = len(list(self._place.results.parent.glob("logs/*.out")))
            task = self._task(number, waiting_task.batch, waiting_task.try_number, action)
            output = self._place.logs / f"{task.number:02}.out"
            output.touch()
            struck = faults if copy == 0 else []
            pid = start(partial(work, self._place, task, struck), output)
            started[pid] = (waiting_task, task, time.monotonic())
        self._outcome.starts += 1
        return started

    def _after(self, waiting_task: _Waiting, task: Task, code: int) -> _Waiting | None:
        """Decide as Airflow does what follows the end of a task: None if it is done."""
        path = self._place.results / f"{task.number:02}.json"
        result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"end": "lost"}
        if code and code not in (-9, 143):
            self._outcome.wrong.append(f"task {task.number} ended with {code}")
        if result["end"] != "wait":
            self._advanced_at = time.monotonic()
        if result["end"] == "done":
            if task.batch is None:
                self._batches = result["batches"]
                if self._schedule.kind == "backlog":
                    # Airflow may start them in any order.
                    self._chance.shuffle(self._batches)
            self._end_turn(task.batch)
            return None
        if result["end"] == "failed" and result["code"] == "older-than-uploaded":
            # Only a person can say that its values may win.
            self._end_turn(task.batch)
            return None
        pause = 0.02
        if result["end"] in ("retry", "wait"):
            pause = min(LONGEST_PAUSE, max(0.05, result["after"] or 0.0))
        ready_at = -1.0 if result["end"] == "failed" else time.monotonic() + pause
        lost = result["end"] != "wait"
        return _Waiting(waiting_task.batch, waiting_task.try_number + lost, ready_at)

    def _end_turn(self, batch: int | None) -> None:
        """Let newer batches go on: as the operators do at the end of a task, or when Airflow gave it up."""
        if self._schedule.kind == "backlog" and batch is not None:
            end_turns(self._place, batch)
