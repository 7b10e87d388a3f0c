"""Play one schedule: start its tasks as Airflow would, heal the world, run again until all is done, check."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from upath import UPath

from tests.faults.catalogue import KILLS, OVERTAKEN, Local, Proxied
from tests.faults.children import ended, start, stop
from tests.faults.place import WHOLE_DELETED, Place, Tidepool, lay_out, simulated, stage
from tests.faults.schedule import Schedule
from tests.faults.verdict import Verdict, judge
from tests.faults.worker import Task, work
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.prepare import remake_work_area
from tidepool_ingest.staging.work_area import WorkArea

TRIES = 8
"""Tries of a task in one run, as Airflow's ``retries`` allow."""

LONGEST_PAUSE = 3.0
"""Seconds until a task is tried again, whatever wait an error asks for."""

RUNS_WITH_FAULTS = 3
RUNS_TO_HEAL = 6
TASK_SECONDS = 40.0
"""Seconds after which a task is taken for stuck, which counts as a failure of the schedule."""


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
        _Player(schedule, place, tidepool, uploader, outcome).play()
        outcome.struck.update(tidepool.counts())
    journal = place.journal.counts()
    outcome.struck.update({kind: journal[kind] for kind in map(str, (*Local, *Proxied)) if journal[kind]})
    outcome.kills = sum(outcome.struck[str(kind)] for kind in KILLS)
    if uploader == "ours":
        look_at_quarantines(place)
    if journal[WHOLE_DELETED]:
        outcome.wrong.append(WHOLE_DELETED)
    outcome.verdict = judge(place, schedule, ours=uploader == "ours")
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
                remake_work_area(UPath(place.staging), row, ledger, record_failure=False)


@dataclass
class _Waiting:
    batch: int | None
    try_number: int = 1
    ready_at: float = 0.0


class _Player:
    def __init__(
        self, schedule: Schedule, place: Place, tidepool: Tidepool, uploader: str, outcome: Outcome
    ) -> None:
        self._schedule = schedule
        self._place = place
        self._tidepool = tidepool
        self._uploader = uploader
        self._outcome = outcome
        self._faulty = False
        self._batches: list[int] = []
        self._chance = random.Random(f"starts {schedule.seed} {schedule.number}")

    def play(self) -> None:
        if self._stage(0) and not self._run():
            self._outcome.wrong.append("the batch of earlier was not uploaded")
        self._with_faults()
        self._tidepool.clear()
        self._tidepool.settle()
        for _ in range(RUNS_TO_HEAL):
            if self._run():
                break
        else:
            self._outcome.wrong.append("the job did not get done in a healed world")
        self._tidepool.settle()

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

    def _tasks(self, batches: Sequence[int | None]) -> bool:
        waiting = [_Waiting(batch) for batch in batches]
        running: dict[int, tuple[_Waiting, Task, float]] = {}
        all_done = True
        while waiting or running:
            now = time.monotonic()
            if not running or self._schedule.at_once:
                for waiting_task in [
                    waiting_task for waiting_task in waiting if waiting_task.ready_at <= now
                ]:
                    waiting.remove(waiting_task)
                    running |= self._start(waiting_task)
                    if not self._schedule.at_once:
                        break
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

    def _start(self, waiting_task: _Waiting) -> dict[int, tuple[_Waiting, Task, float]]:
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
            task = Task(
                len(list(self._place.results.parent.glob("logs/*.out"))),
                f"run-{self._outcome.runs}",
                self._schedule.chunk_records,
                waiting_task.batch,
                waiting_task.try_number,
                self._uploader,
                self._schedule.chunks_at_once,
                self._schedule.kind,
                self._schedule.part_records if self._uploader == "ours" else None,
            )
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
            with closing(Ledger(f"sqlite:///{self._place.ledger}")) as ledger:
                ledger.turns.end(batch, "dag", f"run-{self._outcome.runs}")
