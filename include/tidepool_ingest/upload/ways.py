"""How the chunks of a data set travel: what is sent of each, and what is removed before it is sent again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tidepool_ingest.model.deduplicators import NONE, Deduplicator
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.feeds.contents import FeedRecords
from tidepool_ingest.upload.identify import Identified, identified
from tidepool_ingest.upload.job import UploadJob

Selector = Mapping[str, Any]


class StartOverError(Exception):
    """The data set cannot be brought in order where it is: delete it and begin a new one."""


class Load(NamedTuple):
    """What is sent of a chunk.

    :param records: the records.
    :param selectors: what selects every row that Tidepool makes of them.
    """

    records: Sequence[Identified]
    selectors: Sequence[Selector]


class Way(Protocol):
    """How the chunks of one data set travel."""

    def load(self, chunk: Chunk) -> Load:
        """Read what is sent of a chunk."""

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Tell whether a chunk's rows have to be removed before it is sent.

        :param in_doubt: it may have been sent before.
        :raises StartOverError: they have to be, and cannot.
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


class FeedWay:
    """To a continuous data set: each row by its ``origin.id``.

    What is sent again replaces what is there, or is dropped where the deduplicator does that. The one that
    does nothing has its rows removed first, each time, for an older version of them may be there too.

    :param records: the batch's.
    :param deduplicator: the data set's.
    """

    def __init__(self, records: FeedRecords, deduplicator: Deduplicator) -> None:
        self._records = records
        self._removes = deduplicator is NONE

    def load(self, chunk: Chunk) -> Load:
        """Read a chunk without what later batches have replaced."""
        records = list(self._records.of(chunk))
        selectors = [{"origin": {"id": one}} for record in records for one in record.origin_ids]
        return Load([record.identified for record in records], selectors)

    def removes_first(self, *, in_doubt: bool) -> bool:
        """Remove what is there under a deduplicator that would keep both."""
        return self._removes
