"""What a batch of a feed sends, given what later batches of the feed have sent already.

Batches of a feed may come in any order: a failed one is corrected, months of history are backfilled. What a
batch that comes later in staging has written or deleted is not touched by an earlier one any more.

So what a batch writes is recorded, chunk by chunk, once Tidepool has answered for it, and removed from the
record before it is sent again, when it may be there in part or not at all. What is recorded is therefore
there; what is there may not be recorded yet, and then an earlier batch may write over it: the chunk is sent
again, for the ledger does not say that it is stored, or the read-back finds it in another version.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

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

    Each row carries an ``id`` made from the batch and the record's place, unless it was staged with one: by
    it, what is visible is distinguished from another version of the same record.

    :param leased: the batch.
    :param later: digests of the origin ids that later batches have written or deleted.
    :param looks_inside: whether what each row says has to be known.
    """

    def __init__(self, leased: LeasedBatch, later: frozenset[bytes], *, looks_inside: bool) -> None:
        self._work = leased.work
        self._prepared = leased.prepared
        self._later = later
        self._looks_inside = looks_inside
        self._firsts = [chunk.first_record for chunk in leased.prepared.chunks]

    def of(self, chunk: Chunk) -> Iterator[SentRecord]:
        """Yield what remains to be sent of a chunk."""
        for ordinal, line, datum in self._read(chunk):
            kept = self._without_superseded(line, datum)
            if kept is not None:
                yield SentRecord(ordinal, *kept)

    def contents(self) -> FeedPayload:
        """Read the whole batch."""
        contents = FeedPayload()
        for chunk in self._prepared.chunks:
            for ordinal, line, datum in self._read(chunk):
                kept = self._without_superseded(line, datum)
                if kept is None:
                    contents.superseded += 1
                    continue
                contents.rows.update(self._rows_of(ordinal, kept[1]))
                contents.moments += (
                    instant.moment
                    for part in parts_of(kept[1])
                    if (instant := parse_instant(str(part["time"])))
                )
        for deletion in self._prepared.deletes:
            if origin_digest(deletion.id) not in self._later:
                contents.deletes.append(deletion)
        return contents

    def chunk_of(self, ordinal: int) -> Chunk:
        """Return the chunk that a record travels in."""
        return self._prepared.chunks[bisect_right(self._firsts, ordinal) - 1]

    def _read(self, chunk: Chunk) -> Iterator[tuple[int, bytes, dict[str, Any]]]:
        for record in with_ids(self._work.read_chunk(chunk), chunk, self._prepared.content_key):
            yield record.ordinal, record.line, json.loads(record.line)

    def _without_superseded(self, line: bytes, datum: dict[str, Any]) -> tuple[bytes, dict[str, Any]] | None:
        """Return a record without what a later batch has replaced of it; ``None`` if that is the whole."""
        if not self._later:
            return line, datum
        if self._is_superseded(datum):
            return None
        for part in embedded_data(datum):
            if self._is_superseded(datum[part]):
                line = _without_member(line, part)
                datum = {name: value for name, value in datum.items() if name != part}
        return line, datum

    def _rows_of(self, ordinal: int, datum: Mapping[str, Any]) -> Iterator[tuple[str, ExpectedRow]]:
        names = ("", *embedded_data(datum))
        parts = parts_of(datum)
        own = [
            str(part["id"]) != datum_id(self._prepared.content_key, ordinal, name)
            for part, name in zip(parts, names, strict=True)
        ]
        stored: Sequence[Mapping[str, Any] | None] = [None] * len(parts)
        if self._looks_inside or any(own):
            stored = stored_form(datum)
        for part, has_own_id, row in zip(parts, own, stored, strict=True):
            expected = ExpectedRow(ordinal, str(part["type"]), str(part["id"]), has_own_id, row)
            yield str(origin_id_of(part)), expected

    def _is_superseded(self, datum: Mapping[str, Any]) -> bool:
        return origin_digest(str(origin_id_of(datum))) in self._later


def _without_member(line: bytes, name: str) -> bytes:
    found = members(line) or []
    while (index := next((at for at, member in enumerate(found) if member.name == name), None)) is not None:
        line = spliced(line, [cut_member(found, index, index > 0)])
        found = members(line) or []
    return line


@dataclass
class FeedPayload:
    """What a batch sends, and what Tidepool is to show of it.

    :param rows: by origin id, what is to be visible.
    :param deletes: the deletions that still count.
    :param moments: when the records are.
    :param superseded: records that a later batch has replaced or deleted.
    :param may_be_older: origin ids of which the data set may keep the version that it has, as its
        deduplicator does.
    """

    rows: dict[str, ExpectedRow] = field(default_factory=dict, repr=False)
    deletes: list[Deletion] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list, repr=False)
    superseded: int = 0
    may_be_older: set[str] = field(default_factory=set, repr=False)

    def leave_out(self, ordinals: AbstractSet[int]) -> None:
        """Expect nothing of some records: they are not sent.

        :param ordinals: their places among the accepted ones.
        """
        if ordinals:
            self.rows = {origin: row for origin, row in self.rows.items() if row.ordinal not in ordinals}


@dataclass(frozen=True)
class ExpectedRow:
    """One row that Tidepool is to show.

    :param ordinal: the record it comes from.
    :param type: its type.
    :param id: its ``id``, which identifies its version unless it was staged with one.
    :param has_own_id: its ``id`` was staged with it, and so does not identify its version.
    :param stored: what it says as Tidepool stores it, where that has to be looked at.
    """

    ordinal: int
    type: str
    id: str = field(repr=False)
    has_own_id: bool = False
    stored: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class SentRecord:
    """One record of a feed as it is sent.

    :param ordinal: its place among the batch's accepted records, from 0.
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
        """Its origin id, then those of the data embedded in it."""
        return tuple(str(origin_id_of(part)) for part in parts_of(self.datum))


class FeedWriteLog:
    """The ledger's record of what one batch has written and deleted.

    :param leased: the batch.
    :param feed: the feed's number.
    """

    def __init__(self, leased: LeasedBatch, feed: int) -> None:
        self._table = leased.ledger.feed_writes
        self._at = (feed, leased.batch.id)
        self._lease = leased.lease
        self._recorded = set(self._table.chunks_of(*self._at))

    def record(self, chunk_index: int, origins: Iterable[bytes]) -> None:
        """Record a chunk that Tidepool has stored, before the ledger says that it need not be sent again.

        :param chunk_index: its index.
        :param origins: digests of the origin ids that it has written.
        """
        self._table.replace_for_chunk(*self._at, chunk_index, origins, lease=self._lease)
        self._recorded.add(chunk_index)

    def record_deletions(self, contents: FeedPayload) -> None:
        """Record that Tidepool has deleted what the batch asks to be deleted."""
        self.record(DELETIONS, (origin_digest(deletion.id) for deletion in contents.deletes))

    def forget(self, parts: Iterable[int]) -> None:
        """Remove chunks from the record that are about to be sent again, or turned out not to be there.

        :param parts: indexes of chunks, or ``DELETIONS``.
        """
        if gone := self._recorded.intersection(parts):
            self._table.forget(*self._at, sorted(gone), lease=self._lease)
            self._recorded -= gone

    def forget_chunks(self) -> None:
        """Remove every chunk from the record: the batch was cut into others since."""
        self.forget(self._recorded - {DELETIONS})
