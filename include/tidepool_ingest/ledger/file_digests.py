"""Digests of staged files whose manifest names none, so that each file is read for it only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import insert, select, update

from tidepool_ingest.ledger.database import Database, once_more_if_met
from tidepool_ingest.ledger.schema import file_digests


class FileDigests:
    """The table of file digests.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def digest_of(self, address: str, fingerprint: str, compute: Callable[[], str]) -> str:
        """Return a file's sha256, computed only if the file is new or has changed.

        :param address: where the file lies; only its hash is kept.
        :param fingerprint: what changes when the file does: its size and modification time, or an etag.
        :param compute: reads the file and returns its sha256 in hex.
        """
        key = hashlib.sha256(address.encode()).hexdigest()
        asked = select(file_digests.c.sha256).where(
            file_digests.c.path_key == key, file_digests.c.fingerprint == fingerprint
        )
        with self._database.reading() as connection:
            known: str | None = connection.scalar(asked)
        if known is not None:
            return known
        digest = compute()
        once_more_if_met(lambda: self._note(key, fingerprint, digest))
        return digest

    def _note(self, key: str, fingerprint: str, digest: str) -> None:
        values = {"fingerprint": fingerprint, "sha256": digest, "updated_at": datetime.now(UTC)}
        with self._database.writing() as connection:
            changed = update(file_digests).where(file_digests.c.path_key == key).values(values)
            if not connection.execute(changed).rowcount:
                connection.execute(insert(file_digests).values(path_key=key, **values))
