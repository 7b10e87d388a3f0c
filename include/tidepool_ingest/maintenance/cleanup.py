"""Cleanup: the work areas of finished batches are emptied, and ledger data that can be read again are purged.

This is safe while tasks run: it takes the leases on the batches, and records in the ledger what will be
removed before removing it, on the condition that the batches have not changed for long. `prepare` changes its
batch before it looks at a work area, so that one of the two always knows of the other. Staged data stay as
they are, and so does a work area that no batch of this ledger has: another deployment may share the root.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from upath import UPath

from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import BatchRow, Ledger, Purged, lease_of_batch
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_ingest.ledger.retention import FINISHED_STATES, PageEnd
from tidepool_ingest.options import QUARANTINE_DAYS, WORK_DAYS
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import (
    IN_WORK_AREA,
    entries_of,
    entries_of_root,
    local_path,
    modified_at,
    reading,
    remove_partial_files,
)
from tidepool_ingest.staging.work_area import WORK_FOLDER, WorkArea

log = logging.getLogger(__name__)

FORGET_DAYS = 400
"""How long the ledger keeps what can be read again: longer than until a yearly run over old days."""

LEASE_SECONDS = 300.0
"""How long a lease lasts if this process dies: longer than emptying a work area takes."""

AREAS_PER_RUN = 2_000
"""How many work areas one run empties."""

PAGE = 500
PAGES = 20
"""How many batches are read at once, and how often: those that cannot be cleaned up must not block others."""

WRITTEN_FOR = timedelta(days=2)
"""A temporary file that has not been written to for this long has no writer any more."""

LOOKED_AT_FOR = timedelta(days=30)
"""How long after its last change a work area is searched for such files, since there are many areas."""


@dataclass(frozen=True)
class RetentionPolicy:
    """How many days records of finished batches are kept; 0 for ever.

    :param work_days: the accepted records.
    :param quarantine_days: the rejected records.
    """

    work_days: int = WORK_DAYS
    quarantine_days: int = QUARANTINE_DAYS

    def accepted_before(self, now: datetime) -> datetime | None:
        """Return before when a batch must have finished for its accepted records to go, if any may."""
        return now - timedelta(days=self.work_days) if self.work_days else None

    def rejected_before(self, now: datetime) -> datetime | None:
        """Return the same for rejected records, which never go before the accepted ones."""
        if not (self.work_days and self.quarantine_days):
            return None
        return now - timedelta(days=max(self.quarantine_days, self.work_days))


@dataclass
class CleanupSummary:
    """What was removed, in numbers.

    :param accepted: work areas without their accepted records, whose rejected ones wait for a person.
    :param areas: whole work areas.
    :param parts: half-written files of killed writers.
    :param rows: rows of the ledger by table.
    :param busy: work areas skipped because a task is processing one of their batches.
    :param later: 1 if storage did not answer; the next run does the rest.
    """

    accepted: int = 0
    areas: int = 0
    parts: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    busy: int = 0
    later: int = 0

    def summary(self) -> dict[str, int]:
        """Return the numbers that are not 0, for a log line and XCom."""
        counted = asdict(self)
        rows = counted.pop("rows")
        return {name: number for name, number in (counted | rows).items() if number}


class Cleanup:
    """Removes what is no longer needed.

    :param root: the staging root.
    :param ledger: knows which batches are finished.
    :param policy: how long their records are kept.
    :param dry_run: only count.
    :param stopping: set when it has to stop.
    """

    def __init__(
        self,
        root: UPath,
        ledger: Ledger,
        policy: RetentionPolicy,
        *,
        dry_run: bool = False,
        stopping: threading.Event | None = None,
    ) -> None:
        self._root = root
        self._ledger = ledger
        self._policy = policy
        self._dry_run = dry_run
        self._stopping = stopping or threading.Event()
        self._counts = CleanupSummary()

    def run(self) -> CleanupSummary:
        """Remove what may go now, as much as one run does.

        :raises BatchError: ``staging-root-missing``: areas that cannot be seen would be recorded as removed.
        :raises LedgerUnavailableError: if the ledger does not answer.
        """
        now = self._ledger.database.now()
        try:
            entries_of_root(self._root)
            if (before := self._policy.accepted_before(now)) is not None:
                self._clean_up(None, before)
            if (before := self._policy.rejected_before(now)) is not None:
                self._clean_up(Purged.ACCEPTED, before)
            self._counts.parts = remove_stale_temp_files(self._root, now, dry_run=self._dry_run)
        except BatchError as error:
            if error.disposition is not Disposition.RETRIABLE:
                raise
            self._counts.later = 1
            log.info("The next run cleans up the rest: %s", error)
        forget_before = now - timedelta(days=FORGET_DAYS)
        self._counts.rows = self._ledger.retention.forget(forget_before, dry_run=self._dry_run)
        return self._counts

    def _clean_up(self, purged: Purged | None, before: datetime) -> None:
        """Empty the work areas of batches that finished before some time, oldest first."""
        retention, root = self._ledger.retention, str(self._root).rstrip("/") + "/"
        after: PageEnd | None = None
        needed = retention.to_be_retracted()
        for _page in range(PAGES):
            rows = retention.finished(root, purged, before, after=after, limit=PAGE)
            if not rows:
                return
            after = rows[-1].updated_at, rows[-1].id
            contents = retention.of_contents(root, list(dict.fromkeys(row.content_key for row in rows)))
            for key, sharing in contents.items():
                if not needed.isdisjoint(row.id for row in sharing):
                    continue
                if self._stopping.is_set() or self._counts.accepted + self._counts.areas >= AREAS_PER_RUN:
                    return
                if all(row.state in FINISHED_STATES and row.updated_at < before for row in sharing):
                    self._try_one(WorkArea(self._root, key), sharing, purged, before)

    def _try_one(self, area: WorkArea, rows: list[BatchRow], purged: Purged | None, before: datetime) -> None:
        try:
            self._clean_one(area, rows, purged, before)
        except BatchError as error:
            if error.disposition is Disposition.RETRIABLE:
                raise
            log.warning("The work area of %s stays: %s", rows[0].label, error)

    def _clean_one(
        self, area: WorkArea, rows: list[BatchRow], purged: Purged | None, before: datetime
    ) -> None:
        prepared_at = modified_at(area.plan_path)
        if prepared_at is not None and prepared_at >= before:
            return  # not by this ledger, whose batch would have changed: another deployment uses this area
        if self._dry_run:
            self._count(stays=purged is None and area.has_rejected_records())
            return
        try:
            with ExitStack() as leases:
                parts = [part.id for row in rows for part in self._ledger.parts.of_batch(row.id)]
                for number in (*(row.id for row in rows), *parts):
                    name = lease_of_batch(number)
                    leases.enter_context(self._ledger.leases.held(name, seconds=LEASE_SECONDS))
                self._remove(area, rows, purged, before)
        except LeaseHeldError:
            self._counts.busy += 1

    def _remove(self, area: WorkArea, rows: list[BatchRow], purged: Purged | None, before: datetime) -> None:
        if not self._ledger.retention.mark_purged(rows, Purged.ACCEPTED, before):
            self._counts.busy += 1
            return
        area.drop_accepted()
        stays = purged is None and area.has_rejected_records()
        if not stays:
            area.discard()
            self._ledger.retention.mark_purged(rows, Purged.ALL, before)
        self._count(stays=stays)

    def _count(self, *, stays: bool) -> None:
        if stays:
            self._counts.accepted += 1
        else:
            self._counts.areas += 1


def remove_stale_temp_files(root: UPath, now: datetime, *, dry_run: bool = False) -> int:
    """Remove half-written files of killed writers from work areas on a local disk; return how many.

    :param root: the staging root.
    :param now: the current time.
    :param dry_run: only count.
    """
    work = root / WORK_FOLDER
    if local_path(work) is None:
        return 0
    before, since = (now - WRITTEN_FOR).timestamp(), (now - LOOKED_AT_FOR).timestamp()
    with reading():
        try:
            entries = entries_of(work, IN_WORK_AREA - 2)
        except FileNotFoundError:
            return 0
    return sum(
        remove_partial_files(work / name, before, dry_run=dry_run)
        for name, entry in entries.items()
        if entry["type"] == "directory" and entry["mtime"] >= since
    )
