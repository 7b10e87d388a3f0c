"""The middle of an upload: the chunks of one data set are sent, several at once.

Each chunk is recorded in the ledger before it is sent, and Tidepool's response after, in one transaction with
the intent to send the next one. A chunk in doubt is removed by its identifiers and sent again; where the
deduplicator does not allow rows of an open set to be removed, the whole set has to be started over. In a
continuous data set, sending it again is enough (:mod:`.feeds`). A record that makes Tidepool answer 500 each
time is found by :mod:`.isolation`. Chunks do not depend on each other, so those of one set may arrive in any
order. No more of them are read from the work area than are being sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from tidepool_ingest.client import (
    TidepoolDataSetClosedError,
    TidepoolNotFoundError,
    TidepoolRejectedError,
    TidepoolUnreachableError,
)
from tidepool_ingest.ledger import ChunkRow, ChunkState, DataSetRow
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.guarded_requests import UploadStoppedError
from tidepool_ingest.upload.isolation import FAILURES, Isolation
from tidepool_ingest.upload.record_ids import RecordWithIds, with_ids
from tidepool_ingest.upload.rejections import RejectedRecords

log = logging.getLogger(__name__)

SERVER_FAILURE: Final = 500
"""Tidepool's answer where it has failed: what was asked for may be done in part, or not at all."""

Selector = Mapping[str, Any]


class Sending:
    """Sends the chunks of one data set.

    :param leased: the batch.
    :param data_set: where its records go; it is open.
    :param rejected: records that are not sent; those that Tidepool rejects now are added.
    :param isolation: which records are suspected of making Tidepool fail.
    :param strategy: how chunks are sent; that of a normal data set by default.
    """

    def __init__(
        self,
        leased: LeasedBatch,
        data_set: DataSetRow,
        rejected: RejectedRecords,
        isolation: Isolation,
        strategy: ChunkStrategy | None = None,
    ) -> None:
        self._leased = leased
        self._data_set = data_set
        self._data_set_id = str(data_set.data_set_id)
        self._rejected = rejected
        self._isolation = isolation
        self._strategy = strategy or NormalChunks(leased, self._data_set_id)
        self._begun: dict[int, bool] = {}
        """Chunks of which the intent is recorded, not sent yet; and whether they were never sent before."""
        self._halted = threading.Event()
        self._requests = leased.requests.with_stop(self._halted)
        self._lock = threading.Lock()

    def send(
        self, chunks: Sequence[Chunk], again: Collection[int] = (), begun: Sequence[Chunk] | None = None
    ) -> None:
        """Send every chunk that the data set does not hold yet.

        Returns or raises only once no request is in progress.

        :param chunks: the plan.
        :param again: indexes of chunks to send even if the ledger says that they are stored.
        :param begun: of a data set that was just opened, the chunks of which the intent is recorded already.
        :raises StartOverError: the data set cannot be completed.
        """
        known: Mapping[int, ChunkRow] = {}
        if begun:
            self._begun.update((chunk.index, True) for chunk in begun)
        else:
            known = self._leased.ledger.data_sets.chunks_of(self._data_set.id)
        waiting: list[tuple[Chunk, bool]] = []
        for chunk in chunks:
            before = known.get(chunk.index)
            if before is not None and before.digest != chunk.digest:
                raise StartOverError("the batch has been prepared differently since it was started")
            if before is None or before.state is not ChunkState.STORED or chunk.index in again:
                waiting.append((chunk, before is not None))
        resumed = len(chunks) - len(waiting)
        unsent = sum(chunk.records for chunk, _in_doubt in waiting)
        self._leased.context.on_found(sum(chunk.records for chunk in chunks) - unsent)
        self._leased.counts.resumed += resumed
        if waiting:
            self._send_all(iter(waiting), min(self._leased.context.options.at_once, len(waiting)))
        log.info(
            "Data set %s holds %s, %d of them from an earlier attempt.",
            self._data_set_id,
            counted(len(chunks), "chunk"),
            resumed,
        )

    def _send_all(self, waiting: Iterator[tuple[Chunk, bool]], senders: int) -> None:
        try:
            with ThreadPoolExecutor(senders, thread_name_prefix="chunks") as pool:
                running = [pool.submit(self._sender, waiting) for _ in range(senders)]
                try:
                    wait(running)
                except BaseException:
                    # A signal reached this thread: requests in progress finish, and no more are started.
                    self._halted.set()
                    raise
            _raise_worst(running)
        finally:
            self._take_back()

    def _take_back(self) -> None:
        """Forget the intents of what was not sent after all: nobody need doubt, and remove, such a chunk."""
        unsent = [index for index, is_first in self._begun.items() if is_first]
        self._begun.clear()
        if unsent:
            self._leased.ledger.data_sets.forget_chunks(self._data_set.id, unsent, lease=self._leased.lease)

    def _sender(self, waiting: Iterator[tuple[Chunk, bool]]) -> None:
        try:
            following = self._next(waiting)
            while following is not None:
                chunk, in_doubt = following
                payload = self._send_until_answered(chunk, in_doubt)
                following = self._next(waiting)
                self._record(chunk, payload, following)
        except BaseException:
            self._halted.set()
            raise

    def _next(self, waiting: Iterator[tuple[Chunk, bool]]) -> tuple[Chunk, bool] | None:
        with self._lock:
            return None if self._halted.is_set() else next(waiting, None)

    def _record(self, chunk: Chunk, payload: ChunkPayload, following: tuple[Chunk, bool] | None) -> None:
        """Record that Tidepool holds a chunk, and that the next one is about to be sent.

        :param following: the next one, and whether it may have been sent before.
        """
        leased = self._leased
        with leased.ledger.database.together():
            self._strategy.stored(chunk, payload, self._rejected.ordinals)
            leased.ledger.data_sets.chunk_stored(self._data_set.id, chunk.index, lease=leased.lease)
            if following is not None:
                begin_chunks(leased, self._data_set, [following[0]])
        with self._lock:
            if following is not None:
                self._begun[following[0].index] = not following[1]
            leased.counts.sent += 1
        leased.context.on_stored(chunk.records)

    def _send_until_answered(self, chunk: Chunk, in_doubt: bool) -> ChunkPayload:
        """Send a chunk, and return what Tidepool has stored by now."""
        others = 0  # failures that tell nothing of the records
        while True:
            before = self._isolation.rounds_of(chunk.index)
            try:
                return self._send(chunk, in_doubt=in_doubt)
            except TidepoolUnreachableError as error:
                rounds = self._isolation.rounds_of(chunk.index)
                others += rounds == before
                if self._is_out_of_tries(chunk, rounds, others):
                    raise
                in_doubt = in_doubt or error.in_doubt
                self._requests.pause(max(others - 1, 0), error)
            except TidepoolDataSetClosedError:
                raise StartOverError("it was closed before it was complete") from None
            except TidepoolNotFoundError:
                raise StartOverError("Tidepool no longer knows it") from None

    def _is_out_of_tries(self, chunk: Chunk, rounds: int, others: int) -> bool:
        """Return whether sending a chunk has to be left to a later attempt."""
        attempts = self._leased.context.timeouts.attempts
        if rounds < FAILURES:
            return others + rounds >= attempts
        return others >= attempts or self._isolation.is_exhausted(chunk.index)

    def _send(self, chunk: Chunk, *, in_doubt: bool) -> ChunkPayload:
        payload = self._strategy.load(chunk)
        self._strategy.begin(chunk)
        if self._strategy.removes_first(in_doubt=in_doubt):
            self._remove(payload.selectors())
        elif in_doubt:
            # Nothing that is sent again replaces these, should Tidepool have stored one before it failed.
            failing = [record for record in payload.records if record.ordinal in self._rejected.failing]
            self._remove([{"id": row_id} for record in failing for row_id in record.ids])
        if in_doubt:
            with self._lock:
                self._leased.counts.repairs += 1
        self._post(chunk, payload.records)
        return payload

    def _begin(self, chunk: Chunk) -> None:
        """Record the intent to send a chunk, unless that was done with what came before."""
        with self._lock:
            is_begun = self._begun.pop(chunk.index, None) is not None
        if not is_begun:
            begin_chunks(self._leased, self._data_set, [chunk])

    def _post(self, chunk: Chunk, records: Sequence[RecordWithIds]) -> None:
        """Send records, in one request as long as none is suspected of making Tidepool fail."""
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                self._begin(chunk)
            begun = True

        failure: TidepoolUnreachableError | None = None
        failing: list[Sequence[RecordWithIds]] = []
        stored = 0
        sent = self._rejected.without(records)
        for piece in self._isolation.pieces(chunk.index, sent):
            try:
                stored += self._post_piece(piece, begin)
            except TidepoolUnreachableError as error:
                if error.status != SERVER_FAILURE:
                    raise
                failure = error
                failing.append(piece)
        begin()  # for a chunk of which no record remains to be sent
        if failure is not None:
            self._suspect(chunk, failing, is_sure=stored > 0)
            raise failure

    def _post_piece(self, records: Sequence[RecordWithIds], intent: Callable[[], None]) -> int:
        """Send records; those that Tidepool rejects go to quarantine, and the others are sent again.

        :return: how many Tidepool has stored.
        """
        while remaining := self._rejected.without(records):
            body = b"[" + b",".join([record.line for record in remaining]) + b"]"
            try:
                self._requests.write(
                    partial(self._leased.client.upload_data, self._data_set_id, body), intent
                )
            except TidepoolRejectedError as error:
                self._rejected.record(remaining, error)
            else:
                break
        return len(remaining)

    def _suspect(self, chunk: Chunk, failing: Sequence[Sequence[RecordWithIds]], *, is_sure: bool) -> None:
        """Note which requests of a chunk Tidepool has answered with 500, if that is about their records.

        :param is_sure: whether it has stored other records meanwhile.
        """
        if self._isolation.rounds_of(chunk.index) + 1 >= FAILURES and not is_sure and not self._takes_none():
            return
        causes = self._isolation.failed(chunk.index, failing)
        self._rejected.record_failing(
            [record for piece in failing for record in piece if record.ordinal in causes]
        )

    def _takes_none(self) -> bool:
        """Return whether the data set takes a request without records: then it fails because of them."""
        try:
            return self._requests.read(partial(self._leased.client.is_open, self._data_set_id))
        except TidepoolUnreachableError:
            return False

    def _remove(self, selectors: Sequence[Selector]) -> None:
        """Remove those rows of a chunk that the data set may hold."""
        if selectors:
            self._requests.write(lambda: self._leased.client.delete_data(self._data_set_id, selectors))


def begin_chunks(leased: LeasedBatch, data_set: DataSetRow, chunks: Iterable[Chunk]) -> None:
    """Record in the ledger that chunks are about to be sent.

    :param leased: the batch.
    :param data_set: where they go.
    :param chunks: the chunks.
    """
    for chunk in chunks:
        leased.ledger.data_sets.begin_chunk(
            data_set.id, chunk.index, digest=chunk.digest, records=chunk.records, lease=leased.lease
        )


class ChunkStrategy(Protocol):
    """How the chunks of one data set are sent."""

    def load(self, chunk: Chunk) -> ChunkPayload:
        """Read what is to be sent of a chunk."""

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Return whether a chunk's rows have to be removed before it is sent.

        :param in_doubt: whether it may have been sent before.
        :raises StartOverError: they have to be removed, and cannot be.
        """

    def begin(self, chunk: Chunk) -> None:
        """Record that a chunk is about to be sent: from then on, it may be there in part or not at all."""

    def stored(self, chunk: Chunk, payload: ChunkPayload, rejected: AbstractSet[int]) -> None:
        """Record that Tidepool holds a chunk, before the ledger says that it need not be sent again.

        :param payload: what was read of it.
        :param rejected: ordinals of records that were not sent.
        """


class NormalChunks:
    """Chunks of a normal data set: a row is identified by its ``id``, a chunk in doubt is removed first.

    :param leased: the batch.
    :param data_set_id: the data set.
    """

    def __init__(self, leased: LeasedBatch, data_set_id: str) -> None:
        self._leased = leased
        self._data_set_id = data_set_id
        leased.sent_ids.begin(data_set_id)

    def load(self, chunk: Chunk) -> ChunkPayload:
        """Read a chunk, each record with its identifiers."""
        records = with_ids(self._leased.work.read_chunk(chunk), chunk, self._data_set_id)
        self._leased.sent_ids.add(chunk, records)
        return ChunkPayload(records, lambda: [{"id": row_id} for record in records for row_id in record.ids])

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Return whether the chunk is in doubt."""
        if in_doubt and not self._leased.deduplicator.removes_from_open_set:
            raise StartOverError("a chunk is in doubt and its deduplicator cannot remove it")
        return in_doubt

    def begin(self, chunk: Chunk) -> None:
        """Record nothing: no other batch goes to this data set."""

    def stored(self, chunk: Chunk, payload: ChunkPayload, rejected: AbstractSet[int]) -> None:
        """Record nothing: no other batch goes to this data set."""


class ChunkPayload(NamedTuple):
    """What is sent of a chunk.

    :param records: the records.
    :param selectors: returns Tidepool's selectors of all rows that it makes of them.
    :param origins: in a feed, the digest of each row's origin id, with the ordinal of its record.
    """

    records: Sequence[RecordWithIds]
    selectors: Callable[[], Sequence[Selector]]
    origins: Sequence[tuple[int, bytes]] = ()

    def __repr__(self) -> str:
        """Show the number of records only."""
        return f"ChunkPayload(records={len(self.records)})"


class StartOverError(Exception):
    """The data set cannot be completed: delete it and open a new one."""


def _raise_worst(ended: Sequence[Future[None]]) -> None:
    """Raise the worst error of the senders: what only a person can fix, before what a retry may fix."""
    errors = [error for sender in ended if (error := sender.exception()) is not None]
    if errors:
        raise min(errors, key=_rank)


def _rank(error: BaseException) -> int:
    """Return the rank of an error: a sender that only stopped because of another one comes last."""
    order = (StartOverError, TidepoolUnreachableError, UploadStoppedError)
    return next((rank for rank, kind in enumerate(order, 1) if isinstance(error, kind)), 0)
