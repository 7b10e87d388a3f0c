"""What one batch has brought into its feed, noted so that earlier batches leave it alone.

A part is noted once Tidepool has answered for it, and forgotten before it is sent again, when it may be there
half or not at all. What is noted is therefore there; what is there may not be noted yet, and then an earlier
batch may write over it: the chunk is sent again, for the ledger does not say that it is stored, or the
read-back finds it in another version.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidepool_ingest.ledger import DELETIONS, Lease, Ledger, origin_digest
from tidepool_ingest.upload.feeds.contents import FeedContents


class BatchWrites:
    """What one batch has written and deleted.

    :param ledger: remembers it.
    :param feed: the feed's number.
    :param batch: the batch's number.
    :param lease: the claim on the feed, under which the ledger is written.
    """

    def __init__(self, ledger: Ledger, feed: int, batch: int, lease: Lease) -> None:
        self._table = ledger.feed_writes
        self._at = (feed, batch)
        self._lease = lease
        self._noted = set(self._table.parts_of(*self._at))

    def note(self, part: int, origins: Iterable[bytes]) -> None:
        """Note a chunk that Tidepool has stored, before the ledger says that it need not be sent again.

        :param part: its index.
        :param origins: digests of the origin ids that it has written.
        """
        self._table.note(*self._at, part, origins, lease=self._lease)
        self._noted.add(part)

    def note_deletions(self, contents: FeedContents) -> None:
        """Note that Tidepool has deleted what the batch asks to be deleted."""
        self.note(DELETIONS, (origin_digest(deletion.id) for deletion in contents.deletes))

    def forget(self, parts: Iterable[int]) -> None:
        """Forget parts that are about to be sent again, or turned out not to be there.

        :param parts: indexes of chunks, or ``DELETIONS``.
        """
        if gone := self._noted.intersection(parts):
            self._table.forget(*self._at, sorted(gone), lease=self._lease)
            self._noted -= gone

    def forget_chunks(self) -> None:
        """Forget every chunk: the batch was cut into others since."""
        self.forget(self._noted - {DELETIONS})
