"""Which origin ids each batch of a feed has written or deleted, so that an older batch never overtakes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from sqlalchemy import ColumnElement, delete, insert, select

from tidepool_ingest.ledger.batch_rows import BatchRow
from tidepool_ingest.ledger.database import Database, portions
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import batches, feed_writes

DELETIONS = -1
"""Stands for a batch's deletions, in the place of a chunk's index."""

DIGEST_BYTES = 8
"""Bytes that stand for one origin id."""


def origin_digest(origin_id: str) -> bytes:
    """Return what stands for an origin id in the ledger."""
    return blake2b(origin_id.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


class FeedWrites:
    """The table of what batches have written; see :class:`Feeds` for the feeds.

    Only what Tidepool has answered for stands in it, chunk by chunk: what a batch only meant to write holds
    nobody back. Batches of a feed are ordered as they lie in staging: by day, then by batch id.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self, feed: int, batch: int, part: int, origins: Iterable[bytes], *, lease: Lease | None = None
    ) -> None:
        """Note what a batch has just written or deleted, in place of what was noted of that part before.

        :param feed: the feed's number.
        :param batch: the batch's number.
        :param part: index of the chunk, or ``DELETIONS``.
        :param origins: digests of ``DIGEST_BYTES`` bytes each.
        :param lease: the claim under which this is written, here and below.
        """
        values = {"feed": feed, "batch": batch, "part": part, "origins": b"".join(origins)}
        with writing_under(self._database, lease) as connection:
            connection.execute(delete(feed_writes).where(*_at(feed, batch, [part])))
            connection.execute(insert(feed_writes).values(**values, created_at=datetime.now(UTC)))

    def parts_of(self, feed: int, batch: int) -> list[int]:
        """Return the parts that are noted of a batch: indexes of chunks, and ``DELETIONS``."""
        asked = select(feed_writes.c.part).where(feed_writes.c.feed == feed, feed_writes.c.batch == batch)
        with self._database.reading() as connection:
            return list(connection.scalars(asked))

    def forget(self, feed: int, batch: int, parts: Sequence[int], *, lease: Lease | None = None) -> None:
        """Forget what was noted of some parts of a batch.

        :param parts: indexes of chunks, or ``DELETIONS``.
        """
        with writing_under(self._database, lease) as connection:
            for some in portions(parts):
                connection.execute(delete(feed_writes).where(*_at(feed, batch, some)))

    def later_than(self, feed: int, batch: BatchRow) -> frozenset[bytes]:
        """Return the digests of all that batches of a feed have written that come after one in staging.

        :param feed: the feed's number.
        :param batch: the batch; it need not have written anything itself.
        """
        asked = (
            select(batches.c.id, batches.c.day, batches.c.batch_id)
            .select_from(feed_writes.join(batches, feed_writes.c.batch == batches.c.id))
            .where(feed_writes.c.feed == feed, batches.c.day >= batch.day, batches.c.id != batch.id)
            .distinct()
        )
        place = (batch.day, batch.batch_id, batch.id)
        found: set[bytes] = set()
        with self._database.reading() as connection:
            # Compared here and not by the database, whose order of texts is a matter of its language.
            rows = connection.execute(asked).all()
            later = [row.id for row in rows if (row.day, row.batch_id, row.id) > place]
            for some in portions(later):
                wanted = select(feed_writes.c.origins).where(
                    feed_writes.c.feed == feed, feed_writes.c.batch.in_(some)
                )
                for digests in connection.scalars(wanted):
                    found.update(_cut(digests))
        return frozenset(found)


def _at(feed: int, batch: int, parts: Sequence[int]) -> tuple[ColumnElement[bool], ...]:
    return feed_writes.c.feed == feed, feed_writes.c.batch == batch, feed_writes.c.part.in_(parts)


def _cut(digests: bytes) -> Iterable[bytes]:
    return (digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES))
