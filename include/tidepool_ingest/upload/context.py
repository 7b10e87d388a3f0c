"""What uploads work with: the context that every operation is given, and the batch that it works on.

Whoever starts an operation creates one :class:`UploadContext` and passes it on together with the batch:
``upload_batch(context, batch)``. The operation acquires the batch's lease, and from then on its steps share
one :class:`LeasedBatch`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from upath import UPath

from tidepool_ingest.client import ClientSettings, TidepoolClient, environment, host_of
from tidepool_ingest.guards import Mark
from tidepool_ingest.ledger import BatchRow, BatchState, DataSetState, Lease, Ledger, TaskOrigin
from tidepool_ingest.model.deduplicators import Deduplicator, deduplicator_named
from tidepool_ingest.options import RunOptions
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import default_deduplicator
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.upload.guarded_requests import GuardedRequests, Throttle, Timeouts, UploadStoppedError
from tidepool_ingest.upload.record_ids import SentIds

Result = TypeVar("Result")

RebuildWorkArea = Callable[[UPath, BatchRow, Ledger, RejectionLimit], None]
"""Rebuilds a damaged work area, given the staging root, the batch or part, the ledger, and how many records
may be rejected of a batch of which nothing was sent.

Injected, because it is the work of the step before: :func:`tidepool_ingest.prepare.rebuild_work_area`."""

REBUILDS = 3
"""How often an operation rebuilds a damaged work area before it leaves that to the next try."""

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 4
"""Chunks of one data set that are sent at the same time by default."""


@dataclass(frozen=True, kw_only=True)
class UploadOptions:
    """What a run's parameters mean for the upload of each of its batches.

    :param force: upload the batch again even if it is verified.
    :param allow_older: close its data set even after a newer one of its device.
    :param allow_doubling: upload it again even if its records then show twice.
    :param at_once: how many of its chunks may be sent at the same time.
    :param rejection_limit: how many of the batch's records may be rejected, including those that Tidepool
        itself rejects, before the upload stops.
    :param asked_at: when the run was started or cleared: a forced run does not repeat what it has done since.
    """

    force: bool = False
    allow_older: bool = False
    allow_doubling: bool = False
    at_once: int = CHUNKS_AT_ONCE
    rejection_limit: RejectionLimit = field(default_factory=RejectionLimit)
    asked_at: datetime | None = None

    @classmethod
    def from_run(cls, options: RunOptions, *, at_once: int, asked_at: datetime | None) -> UploadOptions:
        """Return the options that a run's parameters set.

        :param options: the parameters.
        :param at_once: how many chunks the deployment allows at the same time.
        :param asked_at: when the run was started or cleared.
        """
        return cls(
            force=options.force,
            allow_older=options.allow_older,
            allow_doubling=options.allow_doubling,
            at_once=options.chunks_at_once(at_once),
            rejection_limit=options.rejection_limit,
            asked_at=asked_at,
        )


def _ignore(_told: object) -> None:
    """Do nothing with what is told."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UploadContext:
    """What every operation on a batch works with; its caller creates it, once.

    :param client: sends requests to Tidepool; several threads share it.
    :param ledger: records each step.
    :param settings: the connection's: they name the client where a manifest does not, and say whether we
        choose the ids of data sets.
    :param root: the staging root, which contains the work areas; ``None`` for what needs no work area.
    :param options: what the run asks for.
    :param origin: the Airflow task, for the ledger.
    :param on_open: called with a data set's id as soon as it is known.
    :param on_found: called when the sending of a data set begins, or begins once more, with the number of
        records that Tidepool holds of it already.
    :param on_stored: called with a number of records whenever Tidepool has stored so many more; from several
        threads.
    :param timeouts: how long steps may take.
    :param stopping: set when the operation has to end before its next request; see :meth:`stop`.
    :param rebuild: rebuilds a damaged work area; without it, the operation fails.
    """

    default_timeouts: ClassVar[Timeouts] = Timeouts()
    """The timeouts of a context that is created without any."""

    client: TidepoolClient
    ledger: Ledger
    settings: ClientSettings
    root: UPath | None = None
    options: UploadOptions = field(default_factory=UploadOptions)
    origin: TaskOrigin = field(default_factory=TaskOrigin)
    on_open: Callable[[str], None] = _ignore
    on_found: Callable[[int], None] = _ignore
    on_stored: Callable[[int], None] = _ignore
    timeouts: Timeouts = field(default_factory=lambda: UploadContext.default_timeouts)
    stopping: threading.Event = field(default_factory=threading.Event)
    rebuild: RebuildWorkArea | None = None

    def guard(self, *leases: Lease) -> GuardedRequests:
        """Return the guard that all requests of one operation go through.

        :param leases: those that have to outlive each request.
        """
        throttle = Throttle(self.ledger.rate_limits, self._api_host, self.timeouts.patience)
        return GuardedRequests(self.timeouts, throttle, leases, (self.stopping,))

    @cached_property
    def _api_host(self) -> str:
        return host_of(environment(self.settings.environment).api)

    def hold(
        self, name: str, *, wait: float = 0.0, begin: Callable[[Lease], None] | None = None
    ) -> AbstractContextManager[Lease]:
        """Hold a lease for the length of a ``with`` block.

        :param name: of the lease.
        :param wait: how many seconds to wait for another holder.
        :param begin: see :meth:`~tidepool_ingest.ledger.leases.Leases.held`.
        :raises LeaseHeldError: if another task still holds it after that.
        """
        return self.ledger.leases.held(name, seconds=self.timeouts.lease, wait=wait, begin=begin)

    def work_area(self, batch: BatchRow) -> WorkArea:
        """Return the work area of a batch.

        :raises ValueError: the context was created without a staging root.
        """
        if self.root is None:
            raise ValueError("this operation needs the staging root")
        return WorkArea(self.root, batch.content_key)

    def prepared(self, batch: BatchRow) -> PreparedBatch:
        """Return the chunk plan of a batch.

        :raises BatchError: its work area is missing.
        """
        prepared = self.work_area(batch).load()
        if prepared is None:
            raise BatchError("work-area-damaged", detail="it is not there")
        if prepared.parts:
            raise ValueError("a batch that is cut into parts is uploaded part by part")
        return prepared

    def with_work_area(self, batch: BatchRow, operation: Callable[[], Result]) -> Result:
        """Carry out an operation; if the work area turns out to be damaged, rebuild it and go on.

        The operation is called again from its start, and resumes from the ledger.

        :param batch: the batch, or a part of one.
        :raises BatchError: what rebuilding it raises, or ``work-area-damaged`` if it was damaged each time.
        """
        for _ in range(REBUILDS):
            try:
                return operation()
            except BatchError as error:
                # What was never prepared has passed no guard.
                is_prepared = self.ledger.batches.get(batch.id).state is not BatchState.PLANNED
                if error.code != "work-area-damaged" or not is_prepared:
                    raise
                if self.rebuild is None or self.root is None:
                    raise
                log.info("%s: %s It is rebuilt from staging.", batch.label, error.what)
            self.check_not_stopped()
            self.rebuild(self.root, batch, self.ledger, self.options.rejection_limit)
        return operation()

    def stop(self) -> None:
        """End the operation before its next request; quick, and safe to call from a signal handler."""
        self.stopping.set()

    def check_not_stopped(self) -> None:
        """Make sure that the operation was not told to stop.

        :raises UploadStoppedError: it was.
        """
        if self.stopping.is_set():
            raise UploadStoppedError


@dataclass
class Counts:
    """What the requests of one attempt achieved.

    :param sent: chunks sent and stored.
    :param resumed: chunks that an earlier attempt had sent.
    :param repairs: chunks removed and sent again, closes requested again, data sets discarded.
    """

    sent: int = 0
    resumed: int = 0
    repairs: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class LeasedBatch:
    """A prepared batch, and the lease under which its steps are taken.

    :param context: what the operation works with.
    :param batch: the batch.
    :param work: its work area.
    :param prepared: its chunk plan.
    :param body: the body of the request that opens its data set.
    :param deduplicator: the data set's.
    :param lease: the one that fences writes to the ledger: a normal batch's own, or that of the feed.
    :param requests: guards the requests, under this lease and perhaps more.
    :param counts: what the requests have achieved so far.
    :param sent_ids: the identifiers of what was read in order to be sent.
    """

    context: UploadContext
    batch: BatchRow
    work: WorkArea
    prepared: PreparedBatch
    body: dict[str, Any] = field(repr=False)
    deduplicator: Deduplicator
    lease: Lease
    requests: GuardedRequests
    counts: Counts = field(default_factory=Counts)
    sent_ids: SentIds = field(default_factory=SentIds, repr=False)

    @classmethod
    def of(
        cls, context: UploadContext, batch: BatchRow, prepared: PreparedBatch, lease: Lease, *others: Lease
    ) -> LeasedBatch:
        """Return a batch whose lease is held.

        :param prepared: its chunk plan.
        :param others: further leases that have to last as long: for a part, that of the whole batch.
        """
        body = data_set_body(prepared.data_set, context.settings)
        return cls(
            context=context,
            batch=batch,
            work=context.work_area(batch),
            prepared=prepared,
            body=body,
            deduplicator=deduplicator_of(body),
            lease=lease,
            requests=context.guard(lease, *others),
        )

    @property
    def client(self) -> TidepoolClient:
        """The client of the context."""
        return self.context.client

    @property
    def ledger(self) -> Ledger:
        """The ledger of the context."""
        return self.context.ledger

    @property
    def mark(self) -> Mark:
        """The mark of its first upload."""
        key, whole = self.batch.content_key, self.prepared.whole
        mark = Mark.of(key) if whole is None else Mark.of(whole.content_key, key)
        return replace(mark, converters=self.prepared.converters)

    def with_requests(self, requests: GuardedRequests) -> LeasedBatch:
        """Return the same batch with another guard, under more leases.

        :param requests: guards its requests.
        """
        return replace(self, requests=requests)


@dataclass(frozen=True)
class UploadSummary:
    """The outcome of an upload, in numbers and ids only.

    :param data_set_id: Tidepool's id of the data set; of several parts, that of the last.
    :param state: the data set's state in the ledger.
    :param expected_rows: rows that the accepted records make.
    :param visible_rows: rows that Tidepool shows.
    :param chunks_sent: chunks that this attempt sent.
    :param chunks_resumed: chunks that an earlier attempt had sent.
    :param repairs: chunks removed and sent again, closes requested again, data sets discarded.
    :param superseded: records of a feed that a later batch had replaced or deleted.
    :param deleted: records of a feed that were deleted at the batch's request.
    :param size: bytes of the accepted records.
    """

    data_set_id: str
    state: DataSetState
    expected_rows: int
    visible_rows: int
    chunks_sent: int = 0
    chunks_resumed: int = 0
    repairs: int = 0
    superseded: int = 0
    deleted: int = 0
    size: int = 0

    def counts(self) -> dict[str, int]:
        """Return the numbers, which can be added up over several uploads."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}


CONTINUOUS_SUFFIX = ".continuous"
"""Suffix of the connection's client name in continuous data sets that name no client of their own."""


def data_set_body(body: Mapping[str, Any], settings: ClientSettings) -> dict[str, Any]:
    """Fill in the client and the deduplicator where a body does not name them.

    The deduplicator is always named: without a name, the Platform has one for a few devices only, and
    answers 500 for all others, leaving behind a data set that nothing can find.

    :param body: what the manifest, or the caller, says about device and client.
    :param settings: the connection's client name and version.
    """
    data_set_type = body.get("dataSetType") or "normal"
    name = settings.client_name
    if name is not None and data_set_type == "continuous":
        # Continuous data sets are looked up by this name, which must not find a normal one.
        name += CONTINUOUS_SUFFIX
    client = {"name": name, "version": settings.client_version, **(body.get("client") or {})}
    named = {key: value for key, value in client.items() if value is not None}
    deduplicator = body.get("deduplicator") or {"name": default_deduplicator(data_set_type)}
    return {
        "dataSetType": data_set_type,
        **body,
        "deduplicator": deduplicator,
        **({"client": named} if named else {}),
    }


def deduplicator_of(body: Mapping[str, Any]) -> Deduplicator:
    """Return the rules of the deduplicator that a filled-in body names.

    :raises ValueError: for one that the Platform does not know.
    """
    known = deduplicator_named(str(body["deduplicator"]["name"]))
    if known is None:
        raise ValueError("The data set names a deduplicator that Tidepool does not know.")
    return known
