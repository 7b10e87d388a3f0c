"""Feeds: what one program uploads for one user, and the one continuous data set that it goes to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tidepool_ingest.ledger.batches import ORDER_COLUMNS, BatchRow, order_key_of
from tidepool_ingest.ledger.database import Database, batched
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import NOW, batches, feed_writes, feeds
from tidepool_ingest.privacy import short_hash


def lease_of_feed(api_host: str, user_id: str, client_name: str) -> str:
    """Return the name of the lease that is needed to write to a feed.

    :param client_name: the program's name, as its data sets carry it.
    """
    return f"feed:{short_hash(f'{api_host} {user_id} {client_name}')}"


@dataclass(frozen=True, kw_only=True)
class FeedRow:
    """One row of the table ``feeds``.

    :param client_name: the program's name, as its data sets carry it.
    :param data_set_type: ``normal`` or ``continuous``: a name is used for one of them only.
    :param data_set_id: the continuous data set, once it has been found or opened.
    """

    id: int
    api_host: str
    user_id: str = field(repr=False)
    client_name: str
    data_set_type: str
    deduplicator: str | None
    data_set_id: str | None
    pinned_at: datetime | None
    created_at: datetime


class Feeds:
    """The table of feeds.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, api_host: str, user_id: str, client_name: str, data_set_type: str) -> FeedRow:
        """Register which type of data set a program's name is used for with a user; the first one decides.

        :param data_set_type: ``normal`` or ``continuous``.
        :return: the feed, of the other type if the name was already registered for that.
        """
        known = self.find(api_host, user_id, client_name)
        if known is not None:
            return known
        values = {
            "api_host": api_host,
            "user_id": user_id,
            "client_name": client_name,
            "data_set_type": data_set_type,
            "created_at": NOW,
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(feeds).values(values))
        except IntegrityError:
            pass  # another task registered it at the same moment
        registered = self.find(api_host, user_id, client_name)
        assert registered is not None
        return registered

    def find(self, api_host: str, user_id: str, client_name: str) -> FeedRow | None:
        """Return the feed of a program and a user, if there is one."""
        query = select(feeds).where(
            feeds.c.api_host == api_host, feeds.c.user_id == user_id, feeds.c.client_name == client_name
        )
        return self._one(query)

    def pinned(self, data_set_id: str) -> FeedRow | None:
        """Return the feed that goes to a data set, if one does."""
        return self._one(select(feeds).where(feeds.c.data_set_id == data_set_id))

    def pin(self, feed: int, data_set_id: str, deduplicator: str, *, lease: Lease | None = None) -> None:
        """Record the data set that a feed goes to from now on.

        :param feed: the feed's number.
        :param deduplicator: the data set's.
        :param lease: the lease under which this is written.
        """
        values = {"data_set_id": data_set_id, "deduplicator": deduplicator, "pinned_at": NOW}
        with writing_under(self._database, lease) as connection:
            connection.execute(update(feeds).where(feeds.c.id == feed).values(values))

    def _one(self, query: Any) -> FeedRow | None:
        with self._database.reading() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else FeedRow(**row._mapping)


DELETIONS = -1
"""Stands for a batch's deletions, in place of a chunk's index."""

DIGEST_BYTES = 8
"""Bytes that stand for one origin id."""


def origin_digest(origin_id: str) -> bytes:
    """Return what stands for an origin id in the ledger."""
    return blake2b(origin_id.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


class FeedWrites:
    """The table of what batches have written; see :class:`Feeds` for the feeds.

    It holds only what Tidepool has confirmed, chunk by chunk: what a batch only intended to write holds no
    other batch back. Batches of a feed are ordered as those of a device are.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace_for_chunk(
        self, feed: int, batch: int, chunk_index: int, origins: Iterable[bytes], *, lease: Lease | None = None
    ) -> None:
        """Record what a batch has just written or deleted, replacing what was recorded of that chunk.

        :param feed: the feed's number.
        :param batch: the batch's number.
        :param chunk_index: index of the chunk, or ``DELETIONS``.
        :param origins: digests of ``DIGEST_BYTES`` bytes each.
        :param lease: the lease under which this is written, here and below.
        """
        values = {"feed": feed, "batch": batch, "chunk_index": chunk_index, "origins": b"".join(origins)}
        with writing_under(self._database, lease) as connection:
            connection.execute(delete(feed_writes).where(*_key(feed, batch, [chunk_index])))
            connection.execute(insert(feed_writes).values(**values, created_at=NOW))

    def chunks_of(self, feed: int, batch: int) -> list[int]:
        """Return what is recorded of a batch: indexes of chunks, and ``DELETIONS``."""
        query = select(feed_writes.c.chunk_index).where(
            feed_writes.c.feed == feed, feed_writes.c.batch == batch
        )
        with self._database.reading() as connection:
            return list(connection.scalars(query))

    def forget(
        self, feed: int, batch: int, chunk_indexes: Sequence[int], *, lease: Lease | None = None
    ) -> None:
        """Delete what was recorded of chunks of a batch.

        :param chunk_indexes: indexes of chunks, or ``DELETIONS``.
        """
        with writing_under(self._database, lease) as connection:
            for batch_of_ids in batched(chunk_indexes):
                connection.execute(delete(feed_writes).where(*_key(feed, batch, batch_of_ids)))

    def later_than(self, feed: int, batch: BatchRow) -> frozenset[bytes]:
        """Return the digests of everything that a feed's later batches have written, as ordered in staging.

        :param feed: the feed's number.
        :param batch: the batch; it need not have written anything itself.
        """
        query = (
            select(batches.c.id, *ORDER_COLUMNS)
            .select_from(feed_writes.join(batches, feed_writes.c.batch == batches.c.id))
            .where(feed_writes.c.feed == feed, batches.c.day >= batch.day, batches.c.id != batch.id)
            .distinct()
        )
        found: set[bytes] = set()
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
            later = [row.id for row in rows if (*order_key_of(row), row.id) > (*batch.order_key, batch.id)]
            for batch_of_ids in batched(later):
                wanted = select(feed_writes.c.origins).where(
                    feed_writes.c.feed == feed, feed_writes.c.batch.in_(batch_of_ids)
                )
                for digests in connection.scalars(wanted):
                    found.update(_split(digests))
        return frozenset(found)


def _key(feed: int, batch: int, chunk_indexes: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    return (
        feed_writes.c.feed == feed,
        feed_writes.c.batch == batch,
        feed_writes.c.chunk_index.in_(chunk_indexes),
    )


def _split(digests: bytes) -> Iterable[bytes]:
    return (digests[start : start + DIGEST_BYTES] for start in range(0, len(digests), DIGEST_BYTES))
