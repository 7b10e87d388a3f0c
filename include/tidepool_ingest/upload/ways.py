"""How the chunks of a data set travel: what is sent of each, and what is removed before it is sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol

from tidepool_ingest.ledger import origin_digest
from tidepool_ingest.model.deduplicators import NONE, Deduplicator
from tidepool_ingest.staging.chunk_plan import Chunk
from tidepool_ingest.upload.feeds.contents import FeedRecords
from tidepool_ingest.upload.feeds.writes import BatchWrites
from tidepool_ingest.upload.identify import Identified, identified
from tidepool_ingest.upload.job import UploadJob

Selector = Mapping[str, Any]


class StartOverError(Exception):
    """The data set cannot be brought in order where it is: delete it and begin a new one."""


class Load(NamedTuple):
    """What is sent of a chunk.

    :param records: the records.
    :param selectors: what selects every row that Tidepool makes of them.
    :param origins: in a feed, the digest of each row's origin id, with the place of its record.
    """

    records: Sequence[Identified]
    selectors: Sequence[Selector]
    origins: Sequence[tuple[int, bytes]] = ()

    def __repr__(self) -> str:
        """Show how many records they are."""
        return f"Load(records={len(self.records)})"


class Way(Protocol):
    """How the chunks of one data set travel."""

    def load(self, chunk: Chunk) -> Load:
        """Read what is sent of a chunk."""

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Tell whether a chunk's rows have to be removed before it is sent.

        :param in_doubt: it may have been sent before.
        :raises StartOverError: they have to be, and cannot.
        """

    def begin(self, chunk: Chunk) -> None:
        """Note that a chunk is about to be sent: from now on, it may be there half or not at all."""

    def stored(self, chunk: Chunk, load: Load, refused: AbstractSet[int]) -> None:
        """Note that Tidepool holds a chunk, before the ledger says that it need not be sent again.

        :param load: what was read of it.
        :param refused: places of records that were not sent.
        """


class NormalWay:
    """To a normal data set: each row by its ``id``, and a chunk in doubt is taken back.

    :param job: the batch and what gets it into Tidepool.
    :param upload_id: the data set.
    """

    def __init__(self, job: UploadJob, upload_id: str) -> None:
        self._job = job
        self._upload_id = upload_id

    def load(self, chunk: Chunk) -> Load:
        """Read a chunk, each record with its identifiers."""
        records = list(identified(self._job.work.read_chunk(chunk), chunk, self._upload_id))
        return Load(records, [{"id": one} for record in records for one in record.ids])

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Take a chunk in doubt back."""
        if in_doubt and not self._job.deduplicator.removes_from_open_set:
            raise StartOverError("a chunk is in doubt and its deduplicator cannot take it back")
        return in_doubt

    def begin(self, chunk: Chunk) -> None:
        """Note nothing: no other batch goes to this data set."""

    def stored(self, chunk: Chunk, load: Load, refused: AbstractSet[int]) -> None:
        """Note nothing: no other batch goes to this data set."""


class FeedWay:
    """To a continuous data set: each row by its ``origin.id``.

    What is sent again replaces what is there, or is dropped where the deduplicator does that. The one that
    does nothing has its rows removed first, each time, for an older version of them may be there too.

    :param records: the batch's.
    :param deduplicator: the data set's.
    :param writes: what the batch has written.
    """

    def __init__(self, records: FeedRecords, deduplicator: Deduplicator, writes: BatchWrites) -> None:
        self._records = records
        self._writes = writes
        self._removes = deduplicator is NONE

    def load(self, chunk: Chunk) -> Load:
        """Read a chunk without what later batches have replaced."""
        records = list(self._records.of(chunk))
        selectors = [{"origin": {"id": one}} for record in records for one in record.origin_ids]
        origins = [(record.ordinal, origin_digest(one)) for record in records for one in record.origin_ids]
        return Load([record.identified for record in records], selectors, origins)

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Remove what is there under a deduplicator that would keep both."""
        return self._removes

    def begin(self, chunk: Chunk) -> None:
        """Let earlier batches write over it, until it is there again."""
        self._writes.forget([chunk.index])

    def stored(self, chunk: Chunk, load: Load, refused: AbstractSet[int]) -> None:
        """Note what earlier batches have to leave alone from now on."""
        self._writes.note(chunk.index, [digest for ordinal, digest in load.origins if ordinal not in refused])
