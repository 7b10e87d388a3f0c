"""What the ledger forgets in time, and which work areas nobody needs any more. A batch it never forgets."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Column, ColumnElement, ForeignKey, Table, delete, func, select, tuple_, update

from tidepool_ingest.ledger.batches import IS_WHOLE, Batches, BatchRow, batch_row
from tidepool_ingest.ledger.database import Database, distinct, portions
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
    refusals,
)
from tidepool_ingest.ledger.states import GIVEN_UP, BatchState, Tidied

OVER = (
    BatchState.VERIFIED,
    BatchState.NOTHING_ACCEPTED,
    BatchState.CORRECTED,
    BatchState.WITHDRAWN,
    BatchState.REPLACED,
)
"""States of a batch that nothing is left to do for."""

NEVER_SHOWN_AGAIN = (BatchState.CORRECTED, BatchState.WITHDRAWN, BatchState.REPLACED)
"""Those of them of which nothing is to be seen at Tidepool: it is asked anew if that changes."""

ROWS_AT_ONCE = 2_000
"""Rows taken out in one transaction."""

Mark = tuple[datetime, int]
"""Where a page of batches ended: when the last one was noted, and its number."""


class Retention:
    """What is over, and for how long.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---------------------------------------------------------------- work areas

    def over(
        self, root: str, tidied: Tidied | None, before: datetime, *, after: Mark | None, limit: int
    ) -> list[BatchRow]:
        """Return batches that nothing was noted of for long because they are over, longest first.

        Parts go with the batch that they are cut from.

        :param root: only batches below this address.
        :param tidied: what was taken out of their work areas.
        :param before: the moment in question.
        :param after: where the page before ended.
        :param limit: how many at most.
        """
        asked = select(batches).where(
            batches.c.tidied.is_(None) if tidied is None else batches.c.tidied == tidied,
            batches.c.updated_at < before,
            batches.c.state.in_(OVER),
            batches.c.folder.startswith(root, autoescape=True),
            IS_WHOLE,
        )
        if after is not None:
            asked = asked.where(tuple_(batches.c.updated_at, batches.c.id) > tuple_(*after))
        with self._database.reading() as connection:
            ordered = asked.order_by(batches.c.updated_at, batches.c.id).limit(limit)
            return [batch_row(row) for row in connection.execute(ordered)]

    def of_contents(self, root: str, content_keys: Sequence[str]) -> dict[str, list[BatchRow]]:
        """Return all batches of some contents, whatever Tidepool they go to, by content key.

        :param root: only batches below this address.
        :param content_keys: the contents.
        """
        found: dict[str, list[BatchRow]] = defaultdict(list)
        with self._database.reading() as connection:
            for host in distinct(connection, batches.c.api_host):
                for some in portions(content_keys):
                    asked = select(batches).where(
                        batches.c.api_host == host,
                        batches.c.content_key.in_(some),
                        batches.c.folder.startswith(root, autoescape=True),
                    )
                    for row in connection.execute(asked):
                        found[row.content_key].append(batch_row(row))
        return found

    def note_tidied(self, rows: Sequence[BatchRow], tidied: Tidied, before: datetime) -> bool:
        """Note what is taken out of a work area, unless something was noted of a batch of it meanwhile.

        :param rows: all batches of the area's content, as they were found.
        :param tidied: what is taken out.
        :param before: the moment before which something was last noted of them.
        :return: whether it was noted; nothing was otherwise.
        """
        numbers = [row.id for row in rows]
        still = (batches.c.id.in_(numbers), batches.c.updated_at < before, batches.c.state.in_(OVER))
        asked = select(batches.c.id).where(*still).order_by(batches.c.id).with_for_update()
        with self._database.writing() as connection:
            if len(connection.scalars(asked).all()) != len(numbers):
                return False
            connection.execute(update(batches).where(batches.c.id.in_(numbers)).values(tidied=tidied))
        return True

    # ---------------------------------------------------------------- rows

    def forget(self, before: datetime, *, dry_run: bool = False) -> dict[str, int]:
        """Take out what can be made anew or is of no use any more; return how many rows of which kind.

        Digests and manifests are read again if they are ever needed. Chunks of data sets that were given up,
        and what Tidepool refused of batches that it does not show, tell nothing any more.

        :param before: what nobody has met or noted anything of since.
        :param dry_run: only count.
        """
        given_up = select(data_sets.c.id).where(
            data_sets.c.state.in_(GIVEN_UP), data_sets.c.updated_at < before
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
                chunks, [chunks.c.data_set, chunks.c.chunk_index], chunks.c.data_set.in_(given_up), dry_run
            ),
            "refusals": self._forget(
                refusals, [refusals.c.batch, refusals.c.ordinal], refusals.c.batch.in_(hidden), dry_run
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
            some = select(*key).where(condition).limit(ROWS_AT_ONCE)
            with self._database.writing() as connection:
                removed = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
            gone += removed
            if removed < ROWS_AT_ONCE:
                return gone


class DataSetLeft(NamedTuple):
    """A data set that Tidepool still has.

    :param state: as the ledger knew it; ``continuous`` for that of a feed.
    """

    api_host: str
    upload_id: str
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
        asked = select(batches.c.id).where(batches.c.user_id == self._user_id).order_by(batches.c.id)
        with self._database.reading() as connection:
            numbers = list(connection.scalars(asked))
        return Batches(self._database).get_all(numbers)

    def data_sets_left(self) -> list[DataSetLeft]:
        """Return the data sets that Tidepool may have of the person, each once."""
        of_batches = (
            select(batches.c.api_host, data_sets.c.upload_id, data_sets.c.state)
            .join(batches, batches.c.id == data_sets.c.batch)
            .where(
                batches.c.user_id == self._user_id,
                data_sets.c.upload_id.is_not(None),
                data_sets.c.state.not_in(GIVEN_UP),
            )
            .order_by(data_sets.c.id)
        )
        of_feeds = select(feeds.c.api_host, feeds.c.upload_id).where(
            feeds.c.user_id == self._user_id, feeds.c.upload_id.is_not(None)
        )
        with self._database.reading() as connection:
            found = {(row.api_host, row.upload_id): str(row.state) for row in connection.execute(of_batches)}
            found |= {(row.api_host, row.upload_id): "continuous" for row in connection.execute(of_feeds)}
        return [DataSetLeft(*key, state) for key, state in found.items()]

    def feed_leases(self) -> list[str]:
        """Return the names of the claims under which the person's feeds are written to."""
        asked = select(feeds.c.api_host, feeds.c.client_name).where(feeds.c.user_id == self._user_id)
        with self._database.reading() as connection:
            return [lease_of_feed(host, self._user_id, name) for host, name in connection.execute(asked)]

    def erase_batch(self, batch: int, lease: Lease) -> None:
        """Take one batch out with all that hangs on it; what people asked for stays, without the batch.

        :param batch: the batch's number.
        :param lease: the claim on it.
        """
        with lease.writing() as connection:
            for table in reversed(metadata.sorted_tables):
                for key in table.foreign_keys:
                    condition = _hangs_on(key, batch)
                    if condition is not None:
                        connection.execute(
                            update(table).where(condition).values({key.parent.name: None})
                            if key.parent.nullable
                            else delete(table).where(condition)
                        )
            connection.execute(delete(batches).where(batches.c.id == batch))

    def erase_feeds(self) -> None:
        """Take the person's feeds out."""
        with self._database.writing() as connection:
            connection.execute(delete(feeds).where(feeds.c.user_id == self._user_id))

    def erase_leases(self, names: Sequence[str]) -> None:
        """Take claims out whose holders are gone."""
        with self._database.writing() as connection:
            for some in portions(names):
                connection.execute(delete(leases).where(leases.c.name.in_(some)))

    def erase_manifests(self) -> None:
        """Take out what reading the person's manifests gave."""
        with self._database.writing() as connection:
            connection.execute(delete(manifests).where(manifests.c.user_id == self._user_id))

    def erase_digests(self, addresses: Sequence[str]) -> None:
        """Take the digests of files out.

        :param addresses: where the files lie, as they were read.
        """
        keys = [hashlib.sha256(address.encode()).hexdigest() for address in addresses]
        with self._database.writing() as connection:
            for some in portions(keys):
                connection.execute(delete(file_digests).where(file_digests.c.path_key.in_(some)))


def _hangs_on(key: ForeignKey, batch: int) -> ColumnElement[bool] | None:
    """Return which rows of a foreign key's table belong to a batch, ``None`` if it leads elsewhere."""
    if key.column is batches.c.id:
        return key.parent == batch
    if key.column is data_sets.c.id:
        return key.parent.in_(select(data_sets.c.id).where(data_sets.c.batch == batch))
    return None
