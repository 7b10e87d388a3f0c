"""Packs of batches: which batches share a task, and how a task works through its pack.

A task costs Airflow a second of a processor or more, a small batch a tenth of it. So where there are many,
they share tasks: several batches are processed at the same time, and none holds up another one.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from tidepool_ingest.client.errors import TidepoolAuthenticationError, TidepoolConfigurationError
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.ledger.database import LedgerConfigurationError
from tidepool_ingest.options import BATCHES_A_PACK, BATCHES_ALONE
from tidepool_ingest.texts import counted

log = logging.getLogger(__name__)

MAX_PACKS = 1_000
"""Packs per run. Source: Airflow refuses more than 1,024 mapped tasks (``max_map_length``)."""

SMALLEST_PACK = 50
"""Batches that are worth a task: fewer share one only where there are no more, or where nobody wants more."""

FAILURES_IN_A_ROW = 5
"""This many batches of one connection failing with the same cause, one after the other, show that it is not
theirs."""

SETTINGS = (LedgerConfigurationError, TidepoolAuthenticationError, TidepoolConfigurationError)
"""Errors about the deployment, as are those that may pass by themselves; all others are a batch's own."""

Device = tuple[str, str, str | None]


def device_of(batch: BatchRow) -> Device:
    """Return what batches have in common whose order matters: host, user, and device or feed."""
    return batch.api_host, batch.user_id, None if batch.data_set_type == "continuous" else batch.device_id


def by_device(batches: Iterable[BatchRow]) -> list[list[BatchRow]]:
    """Put the batches of each device together, in the order in which they come."""
    found: dict[Device, list[BatchRow]] = {}
    for batch in batches:
        found.setdefault(device_of(batch), []).append(batch)
    return list(found.values())


def packs_of(
    batches: Sequence[BatchRow], *, alone: int = BATCHES_ALONE, size: int = BATCHES_A_PACK, at_once: int = 1
) -> list[list[int]]:
    """Divide batches among tasks: few, since each has its price, but enough to let all work that may.

    The batches of one device stay in one pack: it processes them in their order, so that no newer one is
    closed before an older one. They are where the middle one of them would be, so that there are no more
    packs than if each were of a device of its own.

    :param batches: in the order in which they should be uploaded.
    :param alone: up to this number, each batch is a pack of its own.
    :param size: batches per pack, at most; more where the batches of a device would be parted, or where there
        would be too many packs.
    :param at_once: how many tasks may work at the same time.
    :return: the ledger's numbers of each pack's batches.
    """
    if len(batches) <= alone:
        return [[batch.id] for batch in batches]
    size = min(size, max(SMALLEST_PACK, -(-len(batches) // max(1, at_once))))
    size = max(size, -(-len(batches) // MAX_PACKS))
    packs: list[list[int]] = []
    place, before = -1, 0
    for group in by_device(batches):
        # If a pack ended before a device that exceeds it, a small one would remain, to be started last.
        middle = (before + len(group) // 2) // size
        if middle != place:
            packs.append([])
            place = middle
        packs[-1] += [batch.id for batch in group]
        before += len(group)
    return packs


def label_of_pack(batches: Sequence[BatchRow]) -> str:
    """Return a pack's name in logs and pages: its only batch's label, or how many there are of which days."""
    if len(batches) == 1:
        return batches[0].label
    days = sorted({batch.day for batch in batches})
    when = str(days[0]) if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{len(batches)} batches of {when}"


class PackStoppedError(IngestError):
    """A pack was told to stop: its task is being ended."""

    disposition: Disposition = Disposition.RETRIABLE
    code = "pack-stopped"
    sentence = "the task was told to stop, and stopped between two requests"
    remedy = "Nothing is lost: the next try, or clearing the task, goes on from the ledger."


@dataclass
class PackOutcome:
    """What became of a pack.

    :param done: numbers of the batches that were processed.
    :param failed: how many were set aside, by the code of the cause.
    :param waiting: errors that say what others wait for; the pack is to be worked on once more.
    """

    done: list[int] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    waiting: list[IngestError] = field(default_factory=list)


class PackWork:
    """Processes a pack. A batch that fails is set aside, and so are those that wait for it; the others go on.

    One that has to wait for another task is neither done nor set aside.

    The batches that wait for one are the later ones of its device, if another try may help: they must not
    overtake it. Where batch after batch fails of a cause that is not its own, no further one of the same
    connection is tried, and the pack fails with that cause at its end.

    :param batches: the pack.
    :param at_once: how many requests, or whatever else the batches share, may be in progress at once.
    :param failing: raise the first error of a batch instead of setting the batch aside.
    """

    def __init__(self, batches: Sequence[BatchRow], *, at_once: int = 1, failing: bool = False) -> None:
        self._devices = by_device(batches)
        self._workers = max(1, min(at_once, len(self._devices)))
        self._share = max(1, at_once // self._workers)
        self._failing = failing
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._halted = threading.Event()
        self._in_a_row: dict[str | None, tuple[str, int]] = {}
        self._common_causes: dict[str | None, IngestError] = {}
        self.outcome = PackOutcome()

    def run(self, work: Callable[[BatchRow, int], None]) -> PackOutcome:
        """Process the pack.

        Returns or raises only once nothing is in progress.

        :param work: does what has to be done for one batch, with its share of ``at_once``; called from
            several threads, or from this one if nothing can be done at the same time.
        :raises IngestError: what made batch after batch fail, or the only one.
        :raises PackStoppedError: it was told to stop.
        """
        waiting = iter(self._devices)
        if self._workers == 1:
            self._worker(waiting, work)
        else:
            self._run_workers(waiting, work)
        if self._stopping.is_set():
            raise PackStoppedError
        if self._common_causes:
            raise next(iter(self._common_causes.values()))
        return self.outcome

    def stop(self) -> None:
        """Start no further batch; quick, and safe to call from a signal handler."""
        self._stopping.set()
        self._halted.set()

    def _run_workers(self, waiting: Iterator[list[BatchRow]], work: Callable[[BatchRow, int], None]) -> None:
        with ThreadPoolExecutor(self._workers, thread_name_prefix="pack") as pool:
            workers = [pool.submit(self._worker, waiting, work) for _ in range(self._workers)]
            try:
                wait(workers)
            except BaseException:
                self._halted.set()
                raise
        for worker in workers:
            worker.result()

    def _worker(self, waiting: Iterator[list[BatchRow]], work: Callable[[BatchRow, int], None]) -> None:
        while not self._halted.is_set():
            with self._lock:
                device = next(waiting, None)
            if device is None:
                return
            try:
                self._process(device, work)
            except BaseException:
                self._halted.set()
                raise

    def _process(self, device: Sequence[BatchRow], work: Callable[[BatchRow, int], None]) -> None:
        for index, batch in enumerate(device):
            if self._halted.is_set() or batch.connection in self._common_causes:
                return
            try:
                work(batch, self._share)
            except IngestError as error:
                if self._failing:
                    raise
                if error.waits:
                    self._record_wait(batch, error)
                else:
                    self._record_failure(batch, error)
                if error.disposition is Disposition.RETRIABLE:
                    if index + 1 < len(device):
                        later = counted(len(device) - index - 1, "later batch")
                        log.info("%s: %s of its device left for after it.", batch.label, later)
                    return
            else:
                with self._lock:
                    self._in_a_row.pop(batch.connection, None)
                    self.outcome.done.append(batch.id)

    def _record_wait(self, batch: BatchRow, error: IngestError) -> None:
        log.info("%s waits: %s", batch.label, error)
        with self._lock:
            self.outcome.waiting.append(error)

    def _record_failure(self, batch: BatchRow, error: IngestError) -> None:
        log.info("%s is set aside for a task of its own: %s", batch.label, error)
        with self._lock:
            self.outcome.failed[error.code] += 1
            if error.disposition is not Disposition.RETRIABLE and not isinstance(error, SETTINGS):
                return
            code, before = self._in_a_row.get(batch.connection, (error.code, 0))
            in_a_row = before + 1 if code == error.code else 1
            self._in_a_row[batch.connection] = error.code, in_a_row
            if in_a_row >= FAILURES_IN_A_ROW:
                self._common_causes.setdefault(batch.connection, error)
