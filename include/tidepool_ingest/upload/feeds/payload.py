"""What a batch of a feed sends, given what later batches of the feed have already sent.

Batches of a feed may come in any order: a failed one is corrected, months of history are backfilled. Once a
batch that is later in staging has written or deleted something, an earlier one leaves it alone.

So what a batch writes is logged, chunk by chunk, once Tidepool has confirmed it, and removed from the log
before it is sent again, when it may be there in part or not at all. What is logged is therefore there; what
is there may not be logged yet, and then an earlier batch may overwrite it: the chunk is sent again, because
the ledger does not say that it is stored, or because the read-back finds another version of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from tidepool_ingest.deep_json import loads
from tidepool_ingest.ledger import DELETIONS, origin_digest
from tidepool_ingest.model import embedded_data, stored_form
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import origin_id_of, parts_of
from tidepool_ingest.staging.manifest import Deletion
from tidepool_ingest.staging.splice import cut_member, members, spliced
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.record_ids import RecordWithIds, datum_id, with_ids

Moment = tuple[int, int]
"""Seconds and nanoseconds, as :attr:`tidepool_ingest.model.gotime.Instant.moment`."""


class FeedRecords:
    """Reads the records of a batch as they are sent to a continuous data set.

    Each row carries an ``id`` derived from the batch and the record's ordinal, unless it was staged with one:
    it distinguishes what is visible from another version of the same record.

    :param leased: the batch.
    :param later: digests of the origin ids that later batches have written or deleted.
    :param with_stored_form: whether the stored form of each row is needed.
    """

    def __init__(self, leased: LeasedBatch, later: frozenset[bytes], *, with_stored_form: bool) -> None:
        self._work = leased.work
        self._prepared = leased.prepared
        self._later = later
        self._with_stored_form = with_stored_form
        self._firsts = [chunk.first_record for chunk in leased.prepared.chunks]

    def read_chunk(self, chunk: Chunk) -> Iterator[SentRecord]:
        """Yield what remains to be sent of a chunk."""
        for ordinal, line, datum in self._read(chunk):
            kept = self._without_superseded(line, datum)
            if kept is not None:
                yield SentRecord(ordinal, *kept)

    def payload(self) -> FeedPayload:
        """Read the whole batch."""
        payload = FeedPayload()
        for chunk in self._prepared.chunks:
            for ordinal, line, datum in self._read(chunk):
                kept = self._without_superseded(line, datum)
                if kept is None:
                    payload.superseded += 1
                    continue
                payload.rows.update(self._rows_of(ordinal, kept[1]))
                payload.moments += (
                    instant.moment
                    for part in parts_of(kept[1])
                    if (instant := parse_instant(str(part["time"])))
                )
        for deletion in self._prepared.deletes:
            if origin_digest(deletion.id) not in self._later:
                payload.deletes.append(deletion)
        return payload

    def chunk_of(self, ordinal: int) -> Chunk:
        """Return the chunk that a record is sent in."""
        return self._prepared.chunks[bisect_right(self._firsts, ordinal) - 1]

    def _read(self, chunk: Chunk) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        for record in with_ids(self._work.read_chunk(chunk), chunk, self._prepared.content_key):
            yield record.ordinal, record.line, loads(record.line)

    def _without_superseded(self, line: bytes, datum: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
        """Return a record without what a later batch has replaced of it; ``None`` if nothing remains."""
        if not self._later:
            return line, datum
        if self._is_superseded(datum):
            return None
        for field_name in embedded_data(datum):
            if self._is_superseded(datum[field_name]):
                line = _without_member(line, field_name)
                datum = {name: value for name, value in datum.items() if name != field_name}
        return line, datum

    def _rows_of(self, ordinal: int, datum: Mapping[str, Any]) -> Iterator[tuple[str, ExpectedRow]]:
        names = ("", *embedded_data(datum))
        parts = parts_of(datum)
        has_own_id = [
            str(part["id"]) != datum_id(self._prepared.content_key, ordinal, name)
            for part, name in zip(parts, names, strict=True)
        ]
        stored: Sequence[Mapping[str, Any] | None] = [None] * len(parts)
        if self._with_stored_form or any(has_own_id):
            stored = stored_form(datum)
        for part, own_id, row in zip(parts, has_own_id, stored, strict=True):
            expected = ExpectedRow(ordinal, str(part["type"]), str(part["id"]), own_id, row)
            yield str(origin_id_of(part)), expected

    def _is_superseded(self, datum: Mapping[str, Any]) -> bool:
        return origin_digest(str(origin_id_of(datum))) in self._later


def _without_member(line: bytes, name: str) -> bytes:
    found = members(line) or []
    while (index := next((i for i, member in enumerate(found) if member.name == name), None)) is not None:
        line = spliced(line, [cut_member(found, index, index > 0)])
        found = members(line) or []
    return line


@dataclass
class FeedPayload:
    """What a batch sends, and what Tidepool should show of it.

    :param rows: the rows that should be visible, by origin id.
    :param deletes: the deletions that still apply.
    :param moments: the times of the records.
    :param superseded: how many records a later batch has replaced or deleted.
    :param may_be_older: origin ids of which the data set may keep the version that it has, as its
        deduplicator does.
    """

    rows: dict[str, ExpectedRow] = field(default_factory=dict, repr=False)
    deletes: list[Deletion] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list, repr=False)
    superseded: int = 0
    may_be_older: set[str] = field(default_factory=set, repr=False)

    def leave_out(self, ordinals: AbstractSet[int]) -> None:
        """Expect no rows of records that are not sent.

        :param ordinals: their ordinals among the accepted ones.
        """
        if ordinals:
            self.rows = {origin: row for origin, row in self.rows.items() if row.ordinal not in ordinals}


@dataclass(frozen=True)
class ExpectedRow:
    """One row that Tidepool should show.

    :param ordinal: the record it comes from.
    :param type: its type.
    :param id: its ``id``, which identifies its version unless it was staged with one.
    :param has_own_id: whether its ``id`` was staged with it, and so does not identify its version.
    :param stored: its content as Tidepool stores it, where that is compared.
    """

    ordinal: int
    type: str
    id: str = field(repr=False)
    has_own_id: bool = False
    stored: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SentRecord:
    """One record of a feed as it is sent.

    :param ordinal: its ordinal among the batch's accepted records, from 0.
    :param line: its text.
    :param datum: the same, decoded.
    """

    ordinal: int
    line: bytes = field(repr=False)
    datum: Mapping[str, Any] = field(repr=False)

    @property
    def identified(self) -> RecordWithIds:
        """The record with the ``id`` of each row that Tidepool makes of it."""
        ids = tuple(str(part["id"]) for part in parts_of(self.datum))
        return RecordWithIds(self.ordinal, self.line, ids)

    @property
    def origin_ids(self) -> tuple[str, ...]:
        """Its origin id, then those of its embedded data."""
        return tuple(str(origin_id_of(part)) for part in parts_of(self.datum))


class FeedWriteLog:
    """The ledger's log of what one batch has written and deleted.

    :param leased: the batch.
    :param feed: the feed's number.
    """

    def __init__(self, leased: LeasedBatch, feed: int) -> None:
        self._table = leased.ledger.feed_writes
        self._key = (feed, leased.batch.id)
        self._lease = leased.lease
        self._recorded = set(self._table.chunks_of(*self._key))

    def record(self, chunk_index: int, origins: Iterable[bytes]) -> None:
        """Record a chunk that Tidepool has stored, before the ledger says that it need not be sent again.

        :param chunk_index: its index.
        :param origins: digests of the origin ids that it has written.
        """
        self._table.replace_for_chunk(*self._key, chunk_index, origins, lease=self._lease)
        self._recorded.add(chunk_index)

    def record_deletions(self, payload: FeedPayload) -> None:
        """Record that Tidepool has carried out the batch's deletions."""
        self.record(DELETIONS, (origin_digest(deletion.id) for deletion in payload.deletes))

    def forget(self, chunk_indexes: Iterable[int]) -> None:
        """Remove chunks from the log that are about to be sent again, or turned out not to be there.

        :param chunk_indexes: indexes of chunks, or ``DELETIONS``.
        """
        if gone := self._recorded.intersection(chunk_indexes):
            self._table.forget(*self._key, sorted(gone), lease=self._lease)
            self._recorded -= gone

    def forget_chunks(self) -> None:
        """Remove every chunk from the log: the batch has been cut into other chunks since."""
        self.forget(self._recorded - {DELETIONS})
