"""A run at the command line: the steps that Airflow's tasks take, in one process, until all is settled.

What Airflow does around the steps is done here: batches that wait or may succeed later are tried again, a
person is asked at the terminal, and the turns of the batches last as long as this process works on them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from typing import Final

from upath import UPath

from tidepool_ingest.cli.progress import clock
from tidepool_ingest.cli.run_progress import RunProgress
from tidepool_ingest.cli.tidepool import CommandConnection
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import Decision, apply_decision
from tidepool_ingest.ledger import BatchRow, BatchState, StoppedIn
from tidepool_ingest.packs import PackStoppedError, PackWork, by_device, packs_of
from tidepool_ingest.prepare.summary import PrepareSummary
from tidepool_ingest.reports.dry_run import DryRunTotals
from tidepool_ingest.run import Run
from tidepool_ingest.upload import UploadContext
from tidepool_ingest.upload.guarded_requests import UploadStoppedError

log = logging.getLogger(__name__)

BATCHES_AT_A_TIME: Final = 100
"""Batches that are prepared before the first of them is uploaded; more where one device has more."""

TURN_SECONDS: Final = 300.0
"""How long newer batches wait for those of a process that was killed: about as long as for its leases."""

PROLONGED_EVERY: Final = 60.0

TRIES_AGAIN: Final = 3
"""How often a batch is tried again that failed of what may pass by itself, as by default in Airflow."""

PAUSE_SECONDS = 15.0
"""Before it is tried again for the first time; doubled each time."""

LONGEST_PAUSE: Final = 300.0

LOOKS_AGAIN_AFTER = 15.0
"""Seconds after which it is seen whether what a batch waits for has ended, if that may take longer."""

WAITS_SECONDS = 3600.0
"""As long as a batch waits for others before it is left to another run."""

Ask = Callable[[BatchRow, PrepareSummary], Decision]
"""Asks a person whether a batch with too many rejected records is uploaded."""


@dataclass
class RunAtTerminal:
    """Works through the batches of a run.

    :param run: the run.
    :param root: the staging root.
    :param connection: the connection to Tidepool.
    :param context: what operations on its batches work with.
    :param at_once: how many chunks may be sent at the same time.
    :param progress: is told how far it has come.
    :param ask: asks a person, if there is one.
    :ivar compared: of a dry run, the batches beside what Tidepool shows.
    :ivar failures: by which errors batches were given up in this run, by the batch's number.
    :ivar stopped_by: the error that ended it early, because it is about no batch in particular.
    """

    run: Run
    root: UPath
    connection: CommandConnection
    context: UploadContext
    at_once: int
    progress: RunProgress
    ask: Ask | None = None
    compared: DryRunTotals = field(default_factory=DryRunTotals)
    failures: dict[int, IngestError] = field(default_factory=dict)
    stopped_by: IngestError | None = None

    def __post_init__(self) -> None:
        self.is_uploading = False
        """Whether requests may be in progress that change something."""
        self._stopping = threading.Event()
        self._pack: PackWork | None = None
        self._common_causes = 0
        self._open: dict[int, BatchRow] = {}
        self._due: dict[int, float] = {}
        self._tries: dict[int, int] = {}
        self._waits_since: dict[int, float] = {}

    # ---------------------------------------------------------------- the whole

    def work_through(self, rows: Sequence[BatchRow]) -> None:
        """Prepare, upload and verify batches, until this run has nothing more to do with any of them.

        :param rows: the batches that the plan takes, in its order.
        :raises UploadStoppedError: it was told to stop.
        """
        normal = {row.id: None for row in rows if row.data_set_type == "normal"}
        self.run.plan_turns(normal, seconds=TURN_SECONDS)
        try:
            with self._prolonging():
                for numbers in packs_of(rows, alone=0, size=BATCHES_AT_A_TIME):
                    pack = set(numbers)
                    self._settle_all([row for row in rows if row.id in pack])
                    if self.stopped_by is not None:
                        return
        finally:
            # What is not done, no process works on any more.
            self.run.ledger.turns.end_run(*self.run.turns_of)

    def why_not_done(self, batch: int) -> str | None:
        """Return the code of what has kept this run from a batch, if that is known.

        The ledger has a reason of what stopped for good, but not of what another try may complete.

        :param batch: the batch's number.
        """
        error = self.failures.get(batch, self.stopped_by)
        return None if error is None else error.code

    def stop(self) -> None:
        """End before the next request, and start no further batch; safe to call from a signal handler."""
        self._stopping.set()
        if self._pack is not None:
            self._pack.stop()

    def _settle_all(self, rows: Sequence[BatchRow]) -> None:
        self._open = {row.id: row for row in rows}
        while self._open and self.stopped_by is None:
            due = list(self._due_now())
            if due:
                self._round(due)
            elif not self._stopping.wait(self._seconds_until_due()):
                continue
            if self._stopping.is_set():
                raise UploadStoppedError

    def _due_now(self) -> Iterator[BatchRow]:
        """Yield the batches to work on now: of a device, none before an older one that has to wait."""
        now = time.monotonic()
        for device in by_device(list(self._open.values())):
            yield from takewhile(lambda row: self._due.get(row.id, now) <= now, device)

    def _seconds_until_due(self) -> float:
        first = [self._due.get(device[0].id, 0.0) for device in by_device(list(self._open.values()))]
        return max(0.05, min(first) - time.monotonic())

    def _round(self, rows: Sequence[BatchRow]) -> None:
        ready: list[BatchRow] = []

        def prepare(row: BatchRow, _share: int) -> None:
            self.progress.preparing(row.label)
            if self._prepare(row):
                ready.append(self.run.ledger.batches.get(row.id))

        self._each(rows, prepare, at_once=1, is_last=False)
        if not ready or self.stopped_by is not None:
            return
        if self.run.options.dry_run:
            self._each(ready, self._compare, at_once=1, is_last=True)
        else:
            self.progress.uploading({row.id: row.accepted or 0 for row in ready})
            self.is_uploading = True
            try:
                self._each(ready, self._upload, at_once=self.at_once, is_last=True)
            finally:
                self.is_uploading = False

    def _each(
        self,
        rows: Sequence[BatchRow],
        step: Callable[[BatchRow, int], None],
        *,
        at_once: int,
        is_last: bool,
    ) -> None:
        """Take a step with each batch; see :class:`~tidepool_ingest.packs.PackWork`."""

        def take(row: BatchRow, share: int) -> None:
            row = self.run.ledger.batches.get(row.id)
            try:
                with self.run.turn(row.id, is_last=is_last):
                    if self.run.why_left(row) is not None:
                        self.run.end_turn(row.id)
                        self._settle(row)
                    else:
                        step(row, share)
            except IngestError as error:
                with suppress(IngestError):  # what is said is the first error, not the second
                    self.run.ledger.stops.record(row.id, StoppedIn(), error)
                self._note(row, error)
                raise
            if is_last:
                self._settle(row)

        self._pack = PackWork(rows, at_once=at_once)
        if self._stopping.is_set():
            self._pack.stop()
        try:
            self._pack.run(take)
        except PackStoppedError:
            raise UploadStoppedError from None
        except IngestError as error:
            # Batch after batch has failed of it. What may pass by itself is waited for, with every batch.
            self._common_causes += 1
            if error.disposition is not Disposition.RETRIABLE or self._common_causes > TRIES_AGAIN:
                self.stopped_by = error
        finally:
            self._pack = None

    # ---------------------------------------------------------------- the steps of a batch

    def _prepare(self, row: BatchRow) -> bool:
        """Prepare a batch, and return whether it is to be uploaded."""
        summary = self.run.prepare(self.root, row, self.connection.api_host_of)
        row = self.run.ledger.batches.get(row.id)
        if summary.asks and self._asked(row, summary) is Decision.DECLINE:
            self.run.end_turn(row.id)
            self._settle(row)
            return False
        if row.state is BatchState.NOTHING_ACCEPTED:
            self.run.end_turn(row.id)
            self._settle(row)
            return False
        return row.id in self._open

    def _asked(self, row: BatchRow, summary: PrepareSummary) -> Decision:
        """Return what a person has decided about a batch, who is asked if nobody was before."""
        decision = self.run.decision(row)
        if decision is None:
            if self.ask is None:
                raise ValueError("nobody can be asked: the run must not have asked for it")
            with self.progress.paused():
                decision = self.ask(row, summary)
        apply_decision(self.run.ledger, row, decision)
        return decision

    def _upload(self, row: BatchRow, share: int) -> None:
        told = self.progress
        context = replace(
            self.context, on_found=partial(told.found, row.id), on_stored=partial(told.stored, row.id)
        )
        self.run.upload(context, row, share, stopping=self._stopping)

    def _compare(self, row: BatchRow, _share: int) -> None:
        self.compared.compare(row, lambda: self.context)

    # ---------------------------------------------------------------- what becomes of it

    def _settle(self, row: BatchRow) -> None:
        if self._open.pop(row.id, None) is not None:
            self.progress.settled()

    def _note(self, row: BatchRow, error: IngestError) -> None:
        """Note when a batch is tried again; settle it if that is not in this run."""
        now = time.monotonic()
        if isinstance(error, UploadStoppedError):
            return
        if error.waits:
            since = self._waits_since.setdefault(row.id, now)
            if now - since <= WAITS_SECONDS:
                self._due[row.id] = now + min(max(error.retry_after or 0.0, 1.0), LOOKS_AGAIN_AFTER)
                left = (
                    f" ({clock(error.retry_after or 0.0)} left at most)" if error.code == "lease-held" else ""
                )
                self.progress.waiting(f"{error.sentence}{left}")
                return
        elif error.disposition is Disposition.RETRIABLE and self._tries.get(row.id, 0) < TRIES_AGAIN:
            again = PAUSE_SECONDS * 2 ** self._tries.get(row.id, 0)
            self._tries[row.id] = self._tries.get(row.id, 0) + 1
            self._due[row.id] = now + min(max(error.retry_after or 0.0, again), LONGEST_PAUSE)
            self.progress.waiting(f"to try again: {error.sentence}")
            return
        self.failures[row.id] = error
        self.run.end_turn(row.id)
        self._settle(row)
        log.warning("%s: %s", row.label, error)

    @contextmanager
    def _prolonging(self) -> Iterator[None]:
        """Let the turns of the run last as long as this process works on it."""
        over = threading.Event()

        def prolong() -> None:
            while not over.wait(PROLONGED_EVERY):
                with suppress(IngestError):  # a ledger that does not respond is noticed elsewhere
                    self.run.ledger.turns.prolong(*self.run.turns_of, seconds=TURN_SECONDS)

        thread = threading.Thread(target=prolong, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
