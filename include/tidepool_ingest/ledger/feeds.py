"""Feeds: what one program uploads for one user, and the one continuous data set that it goes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import feeds
from tidepool_ingest.privacy import short_hash


def lease_of_feed(api_host: str, user_id: str, client_name: str) -> str:
    """Return the name of the claim under which a feed is written to.

    :param client_name: the program's name, as its data sets carry it.
    """
    return f"feed:{short_hash(f'{api_host} {user_id} {client_name}')}"


@dataclass(frozen=True, kw_only=True)
class FeedRow:
    """One row of the table ``feeds``.

    :param client_name: the program's name, as its data sets carry it.
    :param data_set_type: ``normal`` or ``continuous``: a name is for one of them only.
    :param upload_id: the continuous data set, once it is found or opened.
    """

    id: int
    api_host: str
    user_id: str = field(repr=False)
    client_name: str
    data_set_type: str
    deduplicator: str | None
    upload_id: str | None
    pinned_at: datetime | None
    created_at: datetime


class Feeds:
    """The table of feeds.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, api_host: str, user_id: str, client_name: str, data_set_type: str) -> FeedRow:
        """Note what a program's name is used for with a user; the first to come decides.

        :param data_set_type: ``normal`` or ``continuous``.
        :return: the feed, whose type is another one if the name was claimed for that before.
        """
        known = self.of(api_host, user_id, client_name)
        if known is not None:
            return known
        values = {
            "api_host": api_host,
            "user_id": user_id,
            "client_name": client_name,
            "data_set_type": data_set_type,
            "created_at": datetime.now(UTC),
        }
        try:
            with self._database.writing() as connection:
                connection.execute(insert(feeds).values(values))
        except IntegrityError:
            pass  # another task claimed it in the same instant
        claimed = self.of(api_host, user_id, client_name)
        assert claimed is not None
        return claimed

    def of(self, api_host: str, user_id: str, client_name: str) -> FeedRow | None:
        """Return the feed of a program and a user, if there is one."""
        asked = select(feeds).where(
            feeds.c.api_host == api_host, feeds.c.user_id == user_id, feeds.c.client_name == client_name
        )
        return self._one(asked)

    def pinned(self, upload_id: str) -> FeedRow | None:
        """Return the feed that goes to a data set, if one does."""
        return self._one(select(feeds).where(feeds.c.upload_id == upload_id))

    def pin(self, feed: int, upload_id: str, deduplicator: str, *, lease: Lease | None = None) -> None:
        """Note the data set that a feed goes to from now on.

        :param feed: the feed's number.
        :param deduplicator: the data set's.
        :param lease: the claim under which this is written.
        """
        values = {"upload_id": upload_id, "deduplicator": deduplicator, "pinned_at": datetime.now(UTC)}
        with writing_under(self._database, lease) as connection:
            connection.execute(update(feeds).where(feeds.c.id == feed).values(values))

    def _one(self, asked: Any) -> FeedRow | None:
        with self._database.reading() as connection:
            row = connection.execute(asked).one_or_none()
        return None if row is None else FeedRow(**row._mapping)
