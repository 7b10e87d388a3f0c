"""The middle of an upload: the chunks of one data set are sent, several at once.

Each chunk is recorded in the ledger before it is sent, and Tidepool's answer after. A chunk in doubt is
removed by its identifiers and sent again; where the deduplicator does not let rows of an open set be removed,
the whole set has to be started over. In a continuous data set, sending it again is enough (:mod:`.feeds`).
Chunks do not depend on each other, so those of one set may arrive in any order. No more of them are read from
the work area than are being sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple, Protocol

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolRejectedError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import ChunkState, DataSetRow
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.guarded_requests import UploadStoppedError
from tidepool_ingest.upload.record_ids import RecordWithIds, with_ids
from tidepool_ingest.upload.rejections import RejectedRecords

log = logging.getLogger(__name__)

Selector = Mapping[str, Any]


class Sending:
    """Sends the chunks of one data set.

    :param leased: the batch.
    :param data_set: where its records go; it is open.
    :param refused: records that are not sent, and those that Tidepool rejects now.
    :param way: how the chunks travel; as to a normal data set when left out.
    """

    def __init__(
        self,
        leased: LeasedBatch,
        data_set: DataSetRow,
        refused: RejectedRecords,
        way: ChunkStrategy | None = None,
    ) -> None:
        self._leased = leased
        self._data_set = data_set
        self._data_set_id = str(data_set.data_set_id)
        self._refused = refused
        self._way = way or NormalChunks(leased, self._data_set_id)
        self._halted = threading.Event()
        self._requests = leased.requests.with_stop(self._halted)
        self._lock = threading.Lock()

    def send(self, chunks: Sequence[Chunk], again: Collection[int] = ()) -> None:
        """Send every chunk that the data set does not hold yet.

        Returns only when no request is in progress any more, however it ends.

        :param chunks: the plan.
        :param again: indexes of chunks to send whatever the ledger says.
        :raises StartOverError: the data set cannot be completed.
        """
        known = self._leased.ledger.data_sets.chunks_of(self._data_set.id)
        waiting: list[tuple[Chunk, bool]] = []
        for chunk in chunks:
            before = known.get(chunk.index)
            if before is not None and before.digest != chunk.digest:
                raise StartOverError("the batch was prepared differently since it was started")
            if before is None or before.state is not ChunkState.STORED or chunk.index in again:
                waiting.append((chunk, before is not None))
        resumed = len(chunks) - len(waiting)
        self._leased.counts.resumed += resumed
        if waiting:
            self._all(iter(waiting), min(self._leased.context.options.at_once, len(waiting)))
        log.info(
            "Data set %s holds %d chunks, %d of them from an earlier attempt.",
            self._data_set_id,
            len(chunks),
            resumed,
        )

    def _all(self, waiting: Iterator[tuple[Chunk, bool]], senders: int) -> None:
        with ThreadPoolExecutor(senders, thread_name_prefix="chunks") as pool:
            running = [pool.submit(self._one_after_the_other, waiting) for _ in range(senders)]
            try:
                wait(running)
            except BaseException:
                # A signal reached this thread: what is in progress ends, and nothing more is started.
                self._halted.set()
                raise
        _raise_worst(running)

    def _one_after_the_other(self, waiting: Iterator[tuple[Chunk, bool]]) -> None:
        while not self._halted.is_set():
            with self._lock:
                following = next(waiting, None)
            if following is None:
                return
            try:
                self._until_answered(*following)
            except BaseException:
                self._halted.set()
                raise

    def _until_answered(self, chunk: Chunk, in_doubt: bool) -> None:
        attempts = self._leased.context.timeouts.attempts
        for attempt in range(attempts):
            try:
                self._send(chunk, in_doubt=in_doubt)
            except TidepoolUnreachableError as error:
                if attempt + 1 == attempts:
                    raise
                in_doubt = in_doubt or error.in_doubt
                self._requests.pause(attempt, error)
            except TidepoolDataSetClosedError:
                raise StartOverError("it was closed before it was complete") from None
            except TidepoolNotFoundError:
                raise StartOverError("Tidepool does not know it any more") from None
            else:
                with self._lock:
                    self._leased.counts.sent += 1
                return

    def _send(self, chunk: Chunk, *, in_doubt: bool) -> None:
        load = self._way.load(chunk)
        self._way.begin(chunk)
        if self._way.removes_first(in_doubt=in_doubt):
            self._remove(load.selectors)
        if in_doubt:
            with self._lock:
                self._leased.counts.repairs += 1
        self._post(chunk, load.records)
        self._way.stored(chunk, load, self._refused.ordinals)
        self._leased.ledger.data_sets.chunk_stored(self._data_set.id, chunk.index, lease=self._leased.lease)

    def _begin(self, chunk: Chunk) -> None:
        self._leased.ledger.data_sets.begin_chunk(
            self._data_set.id,
            chunk.index,
            digest=chunk.digest,
            records=chunk.records,
            lease=self._leased.lease,
        )

    def _post(self, chunk: Chunk, records: Sequence[RecordWithIds]) -> None:
        """Send records; those that Tidepool rejects go to quarantine, and the others are sent again."""
        intent: Callable[[], None] | None = partial(self._begin, chunk)
        while remaining := [record for record in records if record.ordinal not in self._refused.ordinals]:
            body = b"[" + b",".join(record.line for record in remaining) + b"]"
            try:
                self._requests.write(
                    partial(self._leased.client.upload_data, self._data_set_id, body), intent
                )
            except TidepoolRejectedError as error:
                self._refused.record(remaining, error)
                intent = None
            else:
                return
        if intent is not None:
            self._begin(chunk)  # nothing of it remains to be sent

    def _remove(self, selectors: Sequence[Selector]) -> None:
        """Remove what the data set may hold of a chunk."""
        if selectors:
            self._requests.write(lambda: self._leased.client.delete_data(self._data_set_id, selectors))


class ChunkStrategy(Protocol):
    """How the chunks of one data set travel."""

    def load(self, chunk: Chunk) -> ChunkPayload:
        """Read what is sent of a chunk."""

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Tell whether a chunk's rows have to be removed before it is sent.

        :param in_doubt: it may have been sent before.
        :raises StartOverError: they have to be, and cannot.
        """

    def begin(self, chunk: Chunk) -> None:
        """Record that a chunk is about to be sent: from now on, it may be there in part or not at all."""

    def stored(self, chunk: Chunk, load: ChunkPayload, refused: AbstractSet[int]) -> None:
        """Record that Tidepool holds a chunk, before the ledger says that it need not be sent again.

        :param load: what was read of it.
        :param refused: ordinals of records that were not sent.
        """


class NormalChunks:
    """To a normal data set: each row by its ``id``, and a chunk in doubt is removed first.

    :param leased: the batch.
    :param data_set_id: the data set.
    """

    def __init__(self, leased: LeasedBatch, data_set_id: str) -> None:
        self._leased = leased
        self._data_set_id = data_set_id

    def load(self, chunk: Chunk) -> ChunkPayload:
        """Read a chunk, each record with its identifiers."""
        records = list(with_ids(self._leased.work.read_chunk(chunk), chunk, self._data_set_id))
        return ChunkPayload(records, [{"id": row_id} for record in records for row_id in record.ids])

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Remove a chunk in doubt."""
        if in_doubt and not self._leased.deduplicator.removes_from_open_set:
            raise StartOverError("a chunk is in doubt and its deduplicator cannot remove it")
        return in_doubt

    def begin(self, chunk: Chunk) -> None:
        """Record nothing: no other batch goes to this data set."""

    def stored(self, chunk: Chunk, load: ChunkPayload, refused: AbstractSet[int]) -> None:
        """Record nothing: no other batch goes to this data set."""


class ChunkPayload(NamedTuple):
    """What is sent of a chunk.

    :param records: the records.
    :param selectors: what selects every row that Tidepool makes of them.
    :param origins: in a feed, the digest of each row's origin id, with the ordinal of its record.
    """

    records: Sequence[RecordWithIds]
    selectors: Sequence[Selector]
    origins: Sequence[tuple[int, bytes]] = ()

    def __repr__(self) -> str:
        """Show how many records they are."""
        return f"ChunkPayload(records={len(self.records)})"


class StartOverError(Exception):
    """The data set cannot be completed: delete it and open a new one."""


def _raise_worst(ended: Sequence[Future[None]]) -> None:
    """Raise the worst that a sender ended with: what only a person can fix, before what a retry may fix."""
    errors = [error for sender in ended if (error := sender.exception()) is not None]
    if errors:
        raise min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    """Return the rank of an error: a sender that only stopped because of another one comes last."""
    order = (StartOverError, TidepoolUnreachableError, UploadStoppedError)
    return next((rank for rank, kind in enumerate(order, 1) if isinstance(error, kind)), 0)
