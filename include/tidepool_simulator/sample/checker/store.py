"""Read the simulator's store: plain SQL on its SQLite file, whose tables are documented there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tidepool_simulator.sample.checker.content import Row, row_of
from tidepool_simulator.sample.checker.nested import loads


@dataclass(frozen=True)
class StoredRow:
    """A stored datum.

    :param visible: whether the read-back shows it.
    :param archived_by: upload id of the newer data set that hid it; None when none did.
    """

    row: Row
    visible: bool
    archived_by: str | None


@dataclass(frozen=True)
class StoredSet:
    """A data set and its rows, as they lie in the store.

    :param device_id: of the set; None when it was created without.
    :param client_name: the program that made it; None when it names none.
    :param continuous: whether it is a continuous set, which stays open and is visible all the same.
    :param rows: what it holds; rows marked for destruction are left out.
    """

    upload_id: str
    user_id: str
    device_id: str | None
    client_name: str | None
    continuous: bool
    closed: bool
    active: bool
    deleted: bool
    rows: tuple[StoredRow, ...]

    @property
    def visible(self) -> int:
        """Return how many of its rows the read-back shows."""
        return sum(stored.visible for stored in self.rows)

    @property
    def hidden(self) -> int:
        """Return how many of its rows nobody sees though no newer data set hid them."""
        return sum(not stored.visible and stored.archived_by is None for stored in self.rows)


def read_store(path: Path) -> list[StoredSet]:
    """Return the data sets of a store in order of creation, with their rows.

    :raises FileNotFoundError: if there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no simulator store at {path}")
    # Never writes, and sees what a running simulator has committed.
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        rows: dict[str, list[StoredRow]] = {}
        for upload_id, active, archived_by, document in connection.execute(
            "SELECT upload_id, active, archived_by, document FROM data"
            " WHERE deleted_time IS NULL ORDER BY seq"
        ):
            stored = StoredRow(row_of(loads(document)), bool(active), archived_by)
            rows.setdefault(upload_id, []).append(stored)
        return [
            StoredSet(
                upload_id=upload_id,
                user_id=user_id,
                device_id=device_id,
                client_name=client_name,
                continuous=kind == "continuous",
                closed=state == "closed",
                active=bool(active),
                deleted=deleted_time is not None,
                rows=tuple(rows.get(upload_id, ())),
            )
            for upload_id, user_id, device_id, client_name, kind, state, active, deleted_time in (
                connection.execute(
                    "SELECT upload_id, user_id, device_id, client_name, data_set_type, state, active,"
                    " deleted_time FROM data_sets ORDER BY seq"
                )
            )
        ]
