"""What the steps of one upload work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from upath import UPath

from tidepool_ingest.client import ClientSettings, TidepoolClient
from tidepool_ingest.ledger import BatchRow, DataSetState, Ledger, TaskOrigin
from tidepool_ingest.model.deduplicators import Deduplicator, deduplicator_named
from tidepool_ingest.options import MAX_QUARANTINED_PERCENT, RunOptions
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import default_deduplicator
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.upload.guarded_requests import Timing

CHUNKS_AT_ONCE = 4
"""Chunks of one data set that are under way at the same time, unless somebody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class UploadWishes:
    """What a run wants of the uploads of its batches.

    :param force: upload a batch again even if it is verified.
    :param allow_older: close its data set even after a newer one of its device.
    :param at_once: chunks of it that may be under way at the same time.
    :param max_refused_percent: share of refused records, by Tidepool itself too, above which it stops;
        0 to 100.
    :param asked_at: when the run was started or cleared: a forced one does not repeat what it did since.
    """

    force: bool = False
    allow_older: bool = False
    at_once: int = CHUNKS_AT_ONCE
    max_refused_percent: float = MAX_QUARANTINED_PERCENT
    asked_at: datetime | None = None

    @classmethod
    def of(cls, options: RunOptions, *, at_once: int, asked_at: datetime | None) -> UploadWishes:
        """Return what a run's parameters say.

        :param options: the parameters.
        :param at_once: chunks that the deployment allows at the same time.
        :param asked_at: when the run was started or cleared.
        """
        return cls(
            force=options.force,
            allow_older=options.allow_older,
            at_once=options.chunks_at_once(at_once),
            max_refused_percent=options.max_quarantined_percent,
            asked_at=asked_at,
        )


CONTINUOUS_SUFFIX = ".continuous"
"""Follows the connection's client name in continuous data sets that name no client of their own."""


def data_set_body(body: Mapping[str, Any], settings: ClientSettings) -> dict[str, Any]:
    """Fill in the client and the deduplicator where a body does not name them.

    The deduplicator is always named: without a name the Platform knows one for a few devices only, and
    answers 500 for all others, leaving a data set behind that nothing can find.

    :param body: what the manifest, or the caller, says of device and client.
    :param settings: the connection's client name and version.
    """
    data_set_type = body.get("dataSetType") or "normal"
    name = settings.client_name
    if name is not None and data_set_type == "continuous":
        # Tidepool finds a continuous data set by this name: a normal one must not be found by it.
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


@dataclass
class Counts:
    """What the requests of one attempt came to.

    :param sent: chunks sent and stored.
    :param resumed: chunks that an earlier attempt had sent.
    :param repairs: chunks taken back and sent again, closes asked for again, data sets given up.
    """

    sent: int = 0
    resumed: int = 0
    repairs: int = 0


@dataclass(frozen=True, kw_only=True)
class UploadJob:
    """A prepared batch, and what gets it into Tidepool.

    :param client: speaks to Tidepool.
    :param ledger: remembers each step.
    :param batch: the batch.
    :param work: its work area.
    :param prepared: its chunk plan.
    :param body: what its data set is opened with.
    :param deduplicator: the data set's.
    :param origin: the task at work, for the ledger.
    :param timing: how long steps may take.
    :param wishes: what the run wants of it.
    :param chosen_ids: whether ids of data sets are chosen here.
    :param counts: what its requests have come to.
    """

    client: TidepoolClient
    ledger: Ledger
    batch: BatchRow
    work: WorkArea
    prepared: PreparedBatch
    body: dict[str, Any] = field(repr=False)
    deduplicator: Deduplicator
    origin: TaskOrigin
    timing: Timing
    wishes: UploadWishes
    chosen_ids: bool = False
    counts: Counts = field(default_factory=Counts)


def job_of(
    client: TidepoolClient,
    ledger: Ledger,
    batch: BatchRow,
    root: UPath,
    settings: ClientSettings,
    *,
    origin: TaskOrigin | None,
    timing: Timing,
    wishes: UploadWishes,
) -> UploadJob:
    """Return the job of uploading a prepared batch.

    :param root: the staging root, in which its work area lies.
    :param settings: name the client where the manifest does not, and tell whether ids are chosen here.
    :raises BatchError: if its work area is not there.
    """
    work = WorkArea(root, batch.content_key)
    prepared = work.load()
    if prepared is None:
        raise BatchError("work-area-damaged", detail="it is not there")
    if prepared.parts:
        raise ValueError("a batch that is cut into parts is uploaded part by part")
    body = data_set_body(prepared.data_set, settings)
    return UploadJob(
        client=client,
        ledger=ledger,
        batch=batch,
        work=work,
        prepared=prepared,
        body=body,
        deduplicator=deduplicator_of(body),
        origin=origin or TaskOrigin(),
        timing=timing,
        wishes=wishes,
        chosen_ids=settings.chosen_ids,
    )


@dataclass(frozen=True)
class UploadSummary:
    """What an upload came to, in numbers and ids only.

    :param data_set_id: Tidepool's id of the data set, the session id; of several parts, the last one's.
    :param state: the data set's state in the ledger.
    :param expected_rows: rows that the accepted records make.
    :param visible_rows: rows that Tidepool shows.
    :param chunks_sent: chunks that this call sent.
    :param chunks_resumed: chunks that an earlier attempt had sent.
    :param repairs: chunks taken back and sent again, closes asked for again, data sets given up.
    :param superseded: records of a feed that a later batch had replaced or deleted.
    :param deleted: records of a feed that were deleted as the batch asked.
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
        """Return the numbers that several uploads can be summed up by."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}
