"""The SQLite file (or memory) behind the simulator, and the tables in it.

An independent checker may read the file with plain ``sqlite3`` at any time, also while the simulator runs.
All times are milliseconds since 1970.

``data_sets``, one row a data set (Tidepool's collection ``deviceDataSets``):

- ``seq``: order of creation
- ``upload_id``: the data set id of the API, unique
- ``id``: id of the upload record; equals ``upload_id`` unless the client chose otherwise
- ``user_id``: whose data
- ``by_user``: who created it
- ``device_id``: of the set; NULL when the create body had none
- ``client_name``: ``client.name``; NULL when there is none
- ``data_set_type``: ``normal`` or ``continuous``
- ``deduplicator``: canonical name; NULL for a row left behind by a failed create
- ``state``: ``open`` or ``closed``
- ``active``: 1 when lists and the read-back show it
- ``created_time``
- ``deleted_time``: NULL while not deleted
- ``time_ms``: its ``time``
- ``revision``: updates since creation
- ``document``: the JSON object that the API returns

``data``, one row a stored datum (Tidepool's collection ``deviceData``):

- ``seq``: order of storage
- ``upload_id``, ``user_id``: the data set it is in, and whose it is
- ``id``, ``type``, ``sub_type``, ``source``: as stored
- ``time_ms``: its ``time``
- ``device_id``: of the datum; NULL when it has none
- ``origin_id``, ``origin_time``: ``origin.id`` and ``origin.time`` as sent
- ``hash``: identity hash of the deduplicators that make one
- ``maker``: ``origin.payload.device.manufacturer``
- ``active``: 1 when the read-back shows it; visible data are the active ones
- ``archived_by``: upload id of the newer data set that hid it
- ``archived_time``: when it was hidden
- ``deleted_time``: when it was marked for destruction
- ``revision``: updates since it was stored
- ``document``: the datum as the read-back shows it, but for ``_deduplicator``, ``revision`` and ``uploadId``

``sessions`` holds the logins, ``settings`` what must outlive a restart (the key that signs tokens).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidepool_ingest.privacy import keep_private

_SCHEMA = """
CREATE TABLE IF NOT EXISTS data_sets (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    by_user TEXT,
    device_id TEXT,
    client_name TEXT,
    data_set_type TEXT NOT NULL,
    deduplicator TEXT,
    state TEXT NOT NULL,
    active INTEGER NOT NULL,
    created_time INTEGER NOT NULL,
    deleted_time INTEGER,
    time_ms INTEGER,
    revision INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS data_sets_of_user ON data_sets (user_id, active);
CREATE TABLE IF NOT EXISTS data (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    upload_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    id TEXT NOT NULL,
    type TEXT NOT NULL,
    sub_type TEXT,
    time_ms INTEGER NOT NULL,
    device_id TEXT,
    origin_id TEXT,
    origin_time TEXT,
    hash TEXT,
    source TEXT,
    maker TEXT,
    active INTEGER NOT NULL,
    archived_by TEXT,
    archived_time INTEGER,
    deleted_time INTEGER,
    revision INTEGER NOT NULL,
    document TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS data_of_set ON data (upload_id, id);
CREATE INDEX IF NOT EXISTS data_of_origin ON data (upload_id, origin_id) WHERE origin_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS data_of_device ON data (user_id, device_id, hash);
CREATE INDEX IF NOT EXISTS data_archived ON data (archived_by) WHERE archived_by IS NOT NULL;
CREATE INDEX IF NOT EXISTS data_of_maker ON data (user_id, maker) WHERE maker IS NOT NULL;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    refresh_id TEXT,
    closed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Database:
    """One SQLite connection shared by all threads, a transaction at a time.

    :param path: the file; None keeps everything in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.RLock()
        if path is not None:
            # Somebody may practise with data of their own.
            keep_private(path)
        self._connection = sqlite3.connect(
            ":memory:" if path is None else path, check_same_thread=False, isolation_level=None, timeout=30
        )
        # A write-ahead log lets a checker read the file while the simulator writes to it.
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for one transaction: committed at the end, rolled back by an exception."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection for reading."""
        with self._lock:
            yield self._connection

    def setting(self, name: str, default: str) -> str:
        """Return a setting, stored with the default when it is new."""
        with self.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO settings (name, value) VALUES (?, ?)", (name, default))
            value: str = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()[
                0
            ]
            return value

    def close(self) -> None:
        """Close the connection; the file is complete then."""
        with self._lock:
            self._connection.close()
