"""Retention: which rows the ledger deletes in time, and which work areas can be purged. Batches are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Column, ColumnElement, ForeignKey, Table, delete, func, select, tuple_, update

from tidepool_ingest.ledger.batches import Batches, BatchRow, batch_row
from tidepool_ingest.ledger.caches import path_key
from tidepool_ingest.ledger.database import Database, batched, distinct
from tidepool_ingest.ledger.feeds import lease_of_feed
from tidepool_ingest.ledger.leases import Lease
from tidepool_ingest.ledger.schema import (
    batches,
    chunks,
    data_sets,
    feeds,
    file_digests,
    leases,
    manifests,
    metadata,
    rejections,
)
from tidepool_ingest.ledger.states import DEAD_STATES, BatchState, Purged
from tidepool_ingest.ledger.whole_batches import IS_WHOLE

FINISHED_STATES = (
    BatchState.VERIFIED,
    BatchState.NOTHING_ACCEPTED,
    BatchState.REPLACED,
    BatchState.WITHDRAWN,
    BatchState.OVERWRITTEN,
    BatchState.GONE,
)
"""States of a batch for which nothing remains to be done."""

NEVER_SHOWN_AGAIN = (
    BatchState.REPLACED,
    BatchState.WITHDRAWN,
    BatchState.OVERWRITTEN,
    BatchState.GONE,
)
"""Those of which Tidepool shows nothing: its rejections come again if that changes."""

ROWS_PER_BATCH = 2_000
"""Rows deleted per transaction."""

PageEnd = tuple[datetime, int]
"""The end of a page of batches: when the last one was changed, and its number."""


class Retention:
    """Queries and deletions for what is no longer needed.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---------------------------------------------------------------- work areas

    def finished(
        self, root: str, purged: Purged | None, before: datetime, *, after: PageEnd | None, limit: int
    ) -> list[BatchRow]:
        """Return finished batches that have not changed recently, longest ago first.

        Parts go with their whole batch.

        :param root: only batches below this address.
        :param purged: what was already purged of their work areas.
        :param before: only those that last changed before this moment.
        :param after: the end of the previous page.
        :param limit: how many at most.
        """
        query = select(batches).where(
            batches.c.purged.is_(None) if purged is None else batches.c.purged == purged,
            batches.c.updated_at < before,
            batches.c.state.in_(FINISHED_STATES),
            batches.c.folder.startswith(root, autoescape=True),
            IS_WHOLE,
        )
        if after is not None:
            query = query.where(tuple_(batches.c.updated_at, batches.c.id) > tuple_(*after))
        with self._database.reading() as connection:
            ordered = query.order_by(batches.c.updated_at, batches.c.id).limit(limit)
            return [batch_row(row) for row in connection.execute(ordered)]

    def to_be_retracted(self) -> frozenset[int]:
        """Return the batches of feeds that others have yet to retract.

        Their work areas may be all that says what is to be deleted.
        """
        query = select(batches.c.replaces).where(
            IS_WHOLE,
            batches.c.state.in_([state for state in BatchState if state not in FINISHED_STATES]),
            batches.c.data_set_type == "continuous",
            batches.c.replaces.is_not(None),
        )
        with self._database.reading() as connection:
            return frozenset(connection.scalars(query))

    def of_contents(self, root: str, content_keys: Sequence[str]) -> dict[str, list[BatchRow]]:
        """Return all batches with these contents, at whatever API host, by content key.

        :param root: only batches below this address.
        :param content_keys: the contents.
        """
        found: dict[str, list[BatchRow]] = defaultdict(list)
        with self._database.reading() as connection:
            for host in distinct(connection, batches.c.api_host):
                for batch_of_ids in batched(content_keys):
                    query = select(batches).where(
                        batches.c.api_host == host,
                        batches.c.content_key.in_(batch_of_ids),
                        batches.c.folder.startswith(root, autoescape=True),
                    )
                    for row in connection.execute(query):
                        found[row.content_key].append(batch_row(row))
        return found

    def mark_purged(self, rows: Sequence[BatchRow], purged: Purged, before: datetime) -> bool:
        """Record what is purged of a work area, unless a batch of it has changed meanwhile.

        :param rows: all batches of the area's content, as they were found.
        :param purged: what is purged.
        :param before: the moment before which they last changed.
        :return: whether it was recorded; nothing is written otherwise.
        """
        numbers = [row.id for row in rows]
        unchanged = (
            batches.c.id.in_(numbers),
            batches.c.updated_at < before,
            batches.c.state.in_(FINISHED_STATES),
        )
        query = select(batches.c.id).where(*unchanged).order_by(batches.c.id).with_for_update()
        with self._database.writing() as connection:
            if len(connection.scalars(query).all()) != len(numbers):
                return False
            connection.execute(update(batches).where(batches.c.id.in_(numbers)).values(purged=purged))
        return True

    # ---------------------------------------------------------------- rows

    def forget(self, before: datetime, *, dry_run: bool = False) -> dict[str, int]:
        """Delete rows that can be read again or are no longer of use; return how many of each table.

        Digests and manifests are read again if they are ever needed. Chunks of dead data sets, and
        rejections of batches that Tidepool does not show, are no longer of use.

        :param before: only rows that have not been seen or changed since.
        :param dry_run: only count.
        """
        dead = select(data_sets.c.id).where(
            data_sets.c.state.in_(DEAD_STATES), data_sets.c.updated_at < before
        )
        hidden = select(batches.c.id).where(
            batches.c.state.in_(NEVER_SHOWN_AGAIN), batches.c.updated_at < before
        )
        day: date = before.date()
        return {
            "file_digests": self._forget(
                file_digests, [file_digests.c.path_key], file_digests.c.updated_at < before, dry_run
            ),
            "manifests": self._forget(manifests, [manifests.c.path_key], manifests.c.met_on < day, dry_run),
            "chunks": self._forget(
                chunks, [chunks.c.data_set, chunks.c.chunk_index], chunks.c.data_set.in_(dead), dry_run
            ),
            "rejections": self._forget(
                rejections,
                [rejections.c.batch, rejections.c.ordinal],
                rejections.c.batch.in_(hidden),
                dry_run,
            ),
        }

    def _forget(
        self, table: Table, key: Sequence[Column[object]], condition: ColumnElement[bool], dry_run: bool
    ) -> int:
        if dry_run:
            with self._database.reading() as connection:
                return connection.scalar(select(func.count()).select_from(table).where(condition)) or 0
        gone = 0
        while True:
            selected = select(*key).where(condition).limit(ROWS_PER_BATCH)
            with self._database.writing() as connection:
                removed = connection.execute(delete(table).where(tuple_(*key).in_(selected))).rowcount
            gone += removed
            if removed < ROWS_PER_BATCH:
                return gone


class RemainingDataSet(NamedTuple):
    """A data set that Tidepool still has.

    :param state: as the ledger knew it; ``continuous`` for that of a feed.
    """

    api_host: str
    data_set_id: str
    state: str


class Person:
    """What the ledger knows of one person.

    :param database: the ledger's database.
    :param user_id: Tidepool's id of the person.
    """

    def __init__(self, database: Database, user_id: str) -> None:
        self._database = database
        self._user_id = user_id

    def batches(self) -> list[BatchRow]:
        """Return the person's batches, by number."""
        query = select(batches.c.id).where(batches.c.user_id == self._user_id).order_by(batches.c.id)
        with self._database.reading() as connection:
            numbers = list(connection.scalars(query))
        return Batches(self._database).get_all(numbers)

    def remaining_data_sets(self) -> list[RemainingDataSet]:
        """Return the data sets that Tidepool may have of the person, each once."""
        of_batches = (
            select(batches.c.api_host, data_sets.c.data_set_id, data_sets.c.state)
            .join(batches, batches.c.id == data_sets.c.batch)
            .where(
                batches.c.user_id == self._user_id,
                data_sets.c.data_set_id.is_not(None),
                data_sets.c.state.not_in(DEAD_STATES),
            )
            .order_by(data_sets.c.id)
        )
        of_feeds = select(feeds.c.api_host, feeds.c.data_set_id).where(
            feeds.c.user_id == self._user_id, feeds.c.data_set_id.is_not(None)
        )
        with self._database.reading() as connection:
            found = {
                (row.api_host, row.data_set_id): str(row.state) for row in connection.execute(of_batches)
            }
            found |= {(row.api_host, row.data_set_id): "continuous" for row in connection.execute(of_feeds)}
        return [RemainingDataSet(*key, state) for key, state in found.items()]

    def feed_leases(self) -> list[str]:
        """Return the names of the leases on the person's feeds."""
        query = select(feeds.c.api_host, feeds.c.client_name).where(feeds.c.user_id == self._user_id)
        with self._database.reading() as connection:
            return [lease_of_feed(host, self._user_id, name) for host, name in connection.execute(query)]

    def erase_batch(self, batch: int, lease: Lease) -> None:
        """Delete one batch with everything that refers to it; actions stay, without the batch.

        :param batch: the batch's number.
        :param lease: the lease on it.
        """
        with lease.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                for key in table.foreign_keys:
                    condition = _belongs_to(key, batch)
                    if condition is not None:
                        connection.execute(
                            update(table).where(condition).values({key.parent.name: None})
                            if key.parent.nullable
                            else delete(table).where(condition)
                        )
            connection.execute(delete(batches).where(batches.c.id == batch))

    def erase_feeds(self) -> None:
        """Delete the person's feeds."""
        with self._database.writing() as connection:
            connection.execute(delete(feeds).where(feeds.c.user_id == self._user_id))

    def erase_leases(self, names: Sequence[str]) -> None:
        """Delete leases whose holders no longer exist."""
        with self._database.writing() as connection:
            for batch_of_ids in batched(names):
                connection.execute(delete(leases).where(leases.c.name.in_(batch_of_ids)))

    def erase_manifests(self) -> None:
        """Delete what was read from the person's manifests."""
        with self._database.writing() as connection:
            connection.execute(delete(manifests).where(manifests.c.user_id == self._user_id))

    def erase_digests(self, addresses: Sequence[str]) -> None:
        """Delete the digests of files.

        :param addresses: the files' addresses, as they were read.
        """
        keys = [path_key(address) for address in addresses]
        with self._database.writing() as connection:
            for batch_of_ids in batched(keys):
                connection.execute(delete(file_digests).where(file_digests.c.path_key.in_(batch_of_ids)))


def _belongs_to(key: ForeignKey, batch: int) -> ColumnElement[bool] | None:
    """Return the condition that rows of a foreign key's table belong to a batch; ``None`` for others."""
    if key.column is batches.c.id:
        return key.parent == batch
    if key.column is data_sets.c.id:
        return key.parent.in_(select(data_sets.c.id).where(data_sets.c.batch == batch))
    return None
