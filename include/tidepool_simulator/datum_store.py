"""The table of data (data/store/mongo/mongo_datum.go of the Platform)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tidepool_simulator.database import Database
from tidepool_simulator.partial_writes import CutError, next_share
from tidepool_simulator.records import DATUM_COLUMNS, DataSet, Datum, Existing, Selection
from tidepool_simulator.writes import (
    OF_SET,
    MissingDeviceError,
    TooManyHashesError,
    UnstorableError,
    Writes,
    check_storable,
    names_of,
    selected,
)

ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one document of the database: what a query for distinct values answers is one."""

_HASH_BYTES = 44
"""Characters of an identity hash: SHA-256 in base64."""


def fits_into_answer(hashes: int, answer_bytes: int) -> bool:
    """Return whether a list of different hashes fits into an answer of the database.

    BSON has of each element a type, its index in decimal, NUL, the length, and the text with NUL.
    """
    digits: int = hashes + sum(max(hashes - 10**power, 0) for power in range(1, len(str(hashes))))
    return digits + hashes * (1 + 1 + 4 + _HASH_BYTES + 1) <= answer_bytes


class DatumStore(Writes):
    """Insert, show, hide and remove data.

    :param database: where they are kept.
    :param undo_loses: let deleting a data set that is superseded in part bring back only some of what it hid.
        The Platform decodes the standings of its data into one structure that keeps what the next one lacks;
        in which order they come is up to its database, so that this happens or does not.
    """

    def __init__(self, database: Database, *, undo_loses: bool = False) -> None:
        super().__init__(database)
        self.undo_loses = undo_loses
        self.answer_bytes_max = ANSWER_BYTES_MAX

    def insert(self, data_set: DataSet, data: Sequence[Datum]) -> None:
        """Insert data, in order. Not atomic: a fault may leave the first part of them.

        :raises UnstorableError: the database cannot take one of them, so that it takes none.
        """
        if not data:
            return
        for datum in data:
            check_storable(datum.stored)
            if datum.breaks_storage:
                raise UnstorableError
        rows = [datum.row(data_set) for datum in data]
        share = next_share()
        if share < 1:
            rows = rows[: math.floor(len(rows) * share)]
        marks = ", ".join("?" * len(DATUM_COLUMNS))
        with self._database.transaction() as connection:
            connection.executemany(f"INSERT INTO data ({', '.join(DATUM_COLUMNS)}) VALUES ({marks})", rows)
        if share < 1:
            raise CutError

    def existing(self, data_set: DataSet, selection: Selection) -> list[Existing]:
        """Return what is visible of a selection."""
        where = f"{OF_SET} AND active = 1 AND deleted_time IS NULL AND {selected(selection)}"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT hash, origin_id, origin_time FROM data WHERE {where} ORDER BY seq",
                names_of(data_set, selection),
            ).fetchall()
        return [Existing(*row) for row in rows]

    def activate(self, data_set: DataSet) -> None:
        """Make all data of a set visible that are not."""
        self._update(
            "active = 1, archived_by = NULL, archived_time = NULL",
            f"{OF_SET} AND active = 0 AND deleted_time IS NULL",
            names_of(data_set),
        )

    def archive(self, data_set: DataSet, selection: Selection) -> None:
        """Hide what is visible of a selection."""
        self._update(
            "active = 0, archived_time = :now, archived_by = NULL",
            f"{OF_SET} AND active = 1 AND deleted_time IS NULL AND {selected(selection)}",
            names_of(data_set, selection),
        )

    def mark_deleted(self, data_set: DataSet, selection: Selection) -> None:
        """Mark a selection for destruction, which hides it."""
        self._update(
            "active = 0, archived_time = :now, deleted_time = :now, archived_by = NULL",
            f"{OF_SET} AND deleted_time IS NULL AND {selected(selection)}",
            names_of(data_set, selection),
        )

    def destroy_marked(self, data_set: DataSet, selection: Selection) -> None:
        """Remove what is marked of a selection."""
        where = f"{OF_SET} AND deleted_time IS NOT NULL AND {selected(selection)}"
        self._delete("data", where, names_of(data_set, selection))

    def destroy(self, data_set: DataSet, selection: Selection) -> None:
        """Remove a selection."""
        self._delete("data", f"{OF_SET} AND {selected(selection)}", names_of(data_set, selection))

    def archive_older(self, data_set: DataSet) -> None:
        """Hide every visible datum of the set's device that shares its hash with one of the set.

        :raises MissingDeviceError: when the set has no device id.
        :raises TooManyHashesError: when it has too many different hashes.
        """
        if not data_set.device_id:
            raise MissingDeviceError
        self._check_hashes(data_set)
        self._update(
            "active = 0, archived_by = :upload, archived_time = :now",
            "user_id = :user AND device_id = :device AND active = 1 AND hash IN"
            f" (SELECT hash FROM data WHERE {OF_SET} AND hash IS NOT NULL)",
            names_of(data_set),
        )

    def unarchive_older(self, data_set: DataSet) -> None:
        """Give what a set has hidden the visibility of its own data: visible, or hidden by a newer set.

        One write for each standing that the set's data have.

        :raises MissingDeviceError: when the set has no device id.
        :raises TooManyHashesError: when it has too many different hashes.
        """
        if not data_set.device_id:
            raise MissingDeviceError
        self._check_hashes(data_set)
        with self._database.reading() as connection:
            standings = connection.execute(
                "SELECT active, archived_by, archived_time, json_group_array(hash)"
                " FROM data WHERE upload_id = ? GROUP BY active, archived_by, archived_time",
                (data_set.upload_id,),
            ).fetchall()
        kept: tuple[str | None, int | None] = (None, None)
        for active, archived_by, archived_time, hashes in sorted(standings, key=self._standing_order):
            if self.undo_loses:
                archived_by, archived_time = archived_by or kept[0], archived_time or kept[1]
                kept = archived_by, archived_time
            if bool(active) != (archived_by is None) or bool(active) != (archived_time is None):
                continue  # neither visible nor hidden by a newer set: an open set, which hides nothing
            self._update(
                "active = :active, archived_by = :by, archived_time = :then",
                "user_id = :user AND device_id = :device AND archived_by = :upload"
                " AND hash IN (SELECT value FROM json_each(:hashes))",
                names_of(data_set)
                | {"active": active, "by": archived_by, "then": archived_time, "hashes": hashes},
            )

    def _check_hashes(self, data_set: DataSet) -> None:
        """Make sure that the different hashes of a set fit into one answer of the database.

        :raises TooManyHashesError: when they do not, above some 296,000.
        """
        with self._database.reading() as connection:
            (count,) = connection.execute(
                f"SELECT COUNT(DISTINCT hash) FROM data WHERE {OF_SET}", names_of(data_set)
            ).fetchone()
        if not fits_into_answer(count, self.answer_bytes_max):
            raise TooManyHashesError

    def _standing_order(self, standing: tuple[Any, ...]) -> bool:
        """Put visible data first, or last if they are to be lost."""
        return bool(standing[0]) == self.undo_loses
