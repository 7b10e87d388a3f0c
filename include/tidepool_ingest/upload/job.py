"""What the steps of one upload work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from tidepool_ingest.ledger import BatchRow, Ledger, TaskOrigin
from tidepool_ingest.model.deduplicators import Deduplicator
from tidepool_ingest.staging.chunk_plan import PreparedBatch
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.tidepool import ClientSettings, TidepoolClient
from tidepool_ingest.upload.body import data_set_body, deduplicator_of
from tidepool_ingest.upload.timing import Timing
from tidepool_ingest.upload.wishes import UploadWishes


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
