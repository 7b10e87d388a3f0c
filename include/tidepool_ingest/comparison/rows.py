"""Rows of a batch beside those that Tidepool shows, in memory that is bounded however many they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, Self

MEMORY_KIB: Final = 16 * 1024
"""What the table may hold in memory; the rest lies in a file without a name, which nobody else can open."""

_TABLES: Final = """
CREATE TABLE own (type TEXT, identity INTEGER, content INTEGER);
CREATE TABLE shown (type TEXT, identity INTEGER, content INTEGER, hidden INTEGER);
"""

_BECOMES: Final = """
SELECT type, CASE
  WHEN NOT EXISTS (SELECT 1 FROM shown WHERE shown.identity = own.identity) THEN 'new'
  WHEN EXISTS (SELECT 1 FROM shown WHERE shown.identity = own.identity AND shown.content = own.content)
    THEN 'same'
  ELSE 'other' END AS becomes, count(*)
FROM own GROUP BY type, becomes
"""


class Rows:
    """Digests of rows, and no more of them than types; to be used in a ``with`` statement.

    First every row of the batch is added, then what Tidepool shows is held against them.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{MEMORY_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._database.close()

    def add_own(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add rows of the batch: type, identity and content of each."""
        self._database.executemany("INSERT INTO own VALUES (?, ?, ?)", rows)

    def begin_showing(self) -> None:
        """End the batch's rows: what Tidepool shows can be held against them now."""
        self._database.execute("CREATE INDEX own_identity ON own (identity)")
        self._database.execute("CREATE INDEX shown_identity ON shown (identity)")

    def has(self, identity: int) -> bool:
        """Tell whether a row of the batch has an identity."""
        asked = "SELECT 1 FROM own WHERE identity = ? LIMIT 1"
        return self._database.execute(asked, (identity,)).fetchone() is not None

    def add_shown(self, kind: str, identity: int, content: int, *, hidden: bool) -> None:
        """Add a row that Tidepool shows of an identity that the batch has.

        :param hidden: whether the close of the batch's data set would hide it.
        """
        self._database.execute("INSERT INTO shown VALUES (?, ?, ?, ?)", (kind, identity, content, hidden))

    def becomes(self) -> dict[str, dict[str, int]]:
        """Return how many rows of the batch are ``new``, or there with the ``same`` or ``other`` content."""
        found: dict[str, dict[str, int]] = {}
        for kind, becomes, count in self._database.execute(_BECOMES):
            found.setdefault(becomes, {})[kind] = count
        return found

    def hidden(self) -> dict[str, int]:
        """Return how many of the rows that Tidepool shows would be hidden, by type."""
        asked = "SELECT type, count(*) FROM shown WHERE hidden GROUP BY type"
        return dict(self._database.execute(asked).fetchall())
