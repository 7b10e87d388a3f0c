"""Which origin ids each batch of a feed writes or deletes, so that an older batch never overtakes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b

from sqlalchemy import insert, select, update

from tidepool_ingest.ledger.batches import BatchRow
from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import batches, feed_writes

DIGEST_BYTES = 8
"""Bytes that stand for one origin id."""

BATCHES_A_QUERY = 500
"""Batches whose digests are asked for at once."""


def origin_digest(origin_id: str) -> bytes:
    """Return what stands for an origin id in the ledger."""
    return blake2b(origin_id.encode(errors="surrogatepass"), digest_size=DIGEST_BYTES).digest()


class FeedWrites:
    """The table of what batches write; see :class:`Feeds` for the feeds.

    Batches of a feed are ordered as they lie in staging: by day, then by batch id.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(
        self, feed: int, batch: int, origins: Iterable[bytes], *, superseded: int, lease: Lease | None = None
    ) -> None:
        """Note what a batch is about to write or delete.

        :param feed: the feed's number.
        :param batch: the batch's number.
        :param origins: digests of ``DIGEST_BYTES`` bytes each.
        :param superseded: records that are left out, for a later batch has replaced them.
        :param lease: the claim under which this is written.
        """
        at = (feed_writes.c.feed == feed, feed_writes.c.batch == batch)
        values = {"origins": b"".join(origins), "superseded": superseded}
        with writing_under(self._database, lease) as connection:
            if not connection.execute(update(feed_writes).where(*at).values(values)).rowcount:
                connection.execute(
                    insert(feed_writes).values(feed=feed, batch=batch, created_at=datetime.now(UTC), **values)
                )

    def later_than(self, feed: int, batch: BatchRow) -> frozenset[bytes]:
        """Return the digests of all that batches of a feed have written that come after one in staging.

        :param feed: the feed's number.
        :param batch: the batch; it need not have written anything itself.
        """
        asked = (
            select(batches.c.id, batches.c.day, batches.c.batch_id)
            .select_from(feed_writes.join(batches, feed_writes.c.batch == batches.c.id))
            .where(feed_writes.c.feed == feed, batches.c.day >= batch.day, batches.c.id != batch.id)
        )
        place = (batch.day, batch.batch_id, batch.id)
        found: set[bytes] = set()
        with self._database.reading() as connection:
            # Compared here and not by the database, whose order of texts is a matter of its language.
            rows = connection.execute(asked).all()
            later = [row.id for row in rows if (row.day, row.batch_id, row.id) > place]
            for start in range(0, len(later), BATCHES_A_QUERY):
                part = later[start : start + BATCHES_A_QUERY]
                wanted = select(feed_writes.c.origins).where(
                    feed_writes.c.feed == feed, feed_writes.c.batch.in_(part)
                )
                for digests in connection.scalars(wanted):
                    found.update(_cut(digests))
        return frozenset(found)

    def superseded_of(self, numbers: Sequence[int]) -> dict[int, int]:
        """Return how many records of these batches were left out for a later batch, by batch."""
        asked = select(feed_writes.c.batch, feed_writes.c.superseded).where(feed_writes.c.batch.in_(numbers))
        with self._database.reading() as connection:
            return {row.batch: row.superseded for row in connection.execute(asked)}


def _cut(digests: bytes) -> Iterable[bytes]:
    return (digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES))
