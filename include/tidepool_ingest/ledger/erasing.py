"""What the ledger knows of one person, and how it is taken out for good."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, ForeignKey, delete, select, update

from tidepool_ingest.ledger.batch_rows import BatchRow
from tidepool_ingest.ledger.batches import Batches
from tidepool_ingest.ledger.database import Database, portions
from tidepool_ingest.ledger.feeds import lease_of_feed
from tidepool_ingest.ledger.leases import Lease
from tidepool_ingest.ledger.schema import batches, data_sets, feeds, file_digests, leases, manifests, metadata
from tidepool_ingest.ledger.states import GIVEN_UP


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
