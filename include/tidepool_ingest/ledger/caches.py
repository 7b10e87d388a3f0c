"""Caches of what was read before and need not be read again: manifests and digests of files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, insert, select, update

from tidepool_ingest.ledger.database import (
    Database,
    InsertOf,
    batched,
    for_each_dialect,
    now_of,
    retry_on_conflict,
)
from tidepool_ingest.ledger.schema import NOW, file_digests, manifests

SEEN_AGAIN_AFTER = timedelta(days=7)
"""After how long the day on which a manifest was last seen is written again: not by each run."""

MAX_CONFLICTS = 20
"""Retries on a conflict with other runs that save some of the same manifests."""


@dataclass(frozen=True, kw_only=True)
class ReadManifest:
    """What was read from a manifest.

    :param fingerprint: changes when any file of the batch folder does; 64 hex digits.
    """

    fingerprint: str
    user_id: str = field(repr=False)
    content_key: str
    label: str
    connection: str | None = None
    device_id: str | None = field(default=None, repr=False)
    data_set_type: str = "normal"
    staged_at: datetime | None = None


class Manifests:
    """The table of manifests.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, fingerprints: Mapping[str, str]) -> dict[str, ReadManifest]:
        """Return what was read from the manifests of unchanged batch folders, by address.

        :param fingerprints: the fingerprint of each folder as it is now, by the folder's address.
        """
        addresses = {path_key(address): address for address in fingerprints}
        found: dict[str, ReadManifest] = {}
        seen_long_ago = []
        with self._database.reading() as connection:
            today = now_of(connection).date()
            for batch_of_ids in batched(list(addresses)):
                for row in connection.execute(
                    select(manifests).where(manifests.c.path_key.in_(batch_of_ids))
                ):
                    values = dict(row._mapping)
                    address, met_on = addresses[values.pop("path_key")], values.pop("met_on")
                    if values["fingerprint"] == fingerprints[address]:
                        found[address] = ReadManifest(**values)
                        if met_on <= today - SEEN_AGAIN_AFTER:
                            seen_long_ago.append(row.path_key)
        self._mark_seen(seen_long_ago, today)
        return found

    def save(self, read: Mapping[str, ReadManifest]) -> None:
        """Save what was read from manifests, in place of what was known about their folders.

        :param read: what was read from each, by the batch folder's address.
        """
        today = self._database.now().date()
        rows = {
            path_key(address): {**vars(manifest), "met_on": today}
            for address, manifest in sorted(read.items())
        }
        for batch_of_ids in batched(list(rows)):
            write = partial(self._save, {key: rows[key] for key in batch_of_ids})
            retry_on_conflict(write, MAX_CONFLICTS)

    def _save(self, rows: Mapping[str, dict[str, Any]]) -> None:
        with self._database.writing() as connection:
            there = _locked(connection, list(rows))
            changed = [{"key": key, **values} for key, values in rows.items() if key in there]
            new = [{"path_key": key, **values} for key, values in rows.items() if key not in there]
            if changed:
                connection.execute(update(manifests).where(manifests.c.path_key == bindparam("key")), changed)
            if new:
                connection.execute(insert(manifests), new)

    def _mark_seen(self, keys: Sequence[str], today: date) -> None:
        for batch_of_ids in batched(keys):
            with self._database.writing() as connection:
                there = _locked(connection, batch_of_ids)
                met = update(manifests).where(manifests.c.path_key.in_(there)).values(met_on=today)
                connection.execute(met)


def _locked(connection: Connection, keys: Sequence[str]) -> set[str]:
    """Return which of these exist, locked in the same order by all runs, which rules out deadlocks."""
    query = select(manifests.c.path_key).where(manifests.c.path_key.in_(keys))
    return set(connection.scalars(query.order_by(manifests.c.path_key).with_for_update()))


def path_key(address: str) -> str:
    """Return what stands for the address of a file or folder, which names a person."""
    return hashlib.sha256(address.encode(errors="surrogatepass")).hexdigest()


class FileDigests:
    """The table of file digests.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def digest_of(self, address: str, fingerprint: str, compute: Callable[[], str]) -> str:
        """Return a file's sha256, computed only if the file is new or has changed.

        :param address: the file's address; only its hash is stored.
        :param fingerprint: changes when the file does: its size and modification time, or an etag.
        :param compute: reads the file and returns its sha256 in hex.
        """
        key = path_key(address)
        with self._database.reading() as connection:
            known: str | None = connection.scalar(_DIGEST, {"key": key, "its_fingerprint": fingerprint})
        if known is not None:
            return known
        digest = compute()
        read = {"path_key": key, "fingerprint": fingerprint, "sha256": digest}
        with self._database.writing() as connection:
            connection.execute(_SAVE_DIGEST[connection.dialect.name], read)
        return digest


_DIGEST = select(file_digests.c.sha256).where(
    file_digests.c.path_key == bindparam("key"), file_digests.c.fingerprint == bindparam("its_fingerprint")
)


def _save_digest(insert: InsertOf) -> Executable:
    """Return the statement that saves the digest of a file, in place of what was known about it."""
    new = insert(file_digests).values(updated_at=NOW)
    changed = {name: new.excluded[name] for name in ("fingerprint", "sha256", "updated_at")}
    return new.on_conflict_do_update(index_elements=[file_digests.c.path_key], set_=changed)


_SAVE_DIGEST = for_each_dialect(_save_digest)
