"""The writes of the store: one transaction each, which a fault may cut or hold (:mod:`.partial_writes`)."""

from __future__ import annotations

import json
import math
from typing import Any

from tidepool_simulator.database import Database
from tidepool_simulator.instants import now_milliseconds
from tidepool_simulator.partial_writes import CutError, next_share
from tidepool_simulator.records import DataSet, Selection

OF_SET = "+user_id = :user AND upload_id = :upload"
"""The plus keeps SQLite from going through all that the user has, instead of what the data set has."""


class MissingDeviceError(Exception):
    """A deduplicator needs the device id of a data set that has none."""


class TooManyHashesError(Exception):
    """The database cannot list the hashes of a data set in one answer."""


class UnstorableError(Exception):
    """A document cannot be stored: the database has no way to write one of its field names."""


def check_storable(document: Any) -> None:
    """Make sure that a document can be stored: BSON ends each field name with U+0000.

    :raises UnstorableError: one of its names, at any depth, holds that character.
    """
    below = [document]
    while below:
        value = below.pop()
        if isinstance(value, dict):
            if any("\0" in name for name in value):
                raise UnstorableError
            below += value.values()
        elif isinstance(value, list):
            below += value


class Writes:
    """What the writes to both tables have in common.

    :param database: where they go.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def _update(self, change: str, where: str, names: dict[str, Any]) -> None:
        self._step(f"UPDATE data SET {change}, revision = revision + 1", "data", where, names)

    def _delete(self, table: str, where: str, names: dict[str, Any]) -> None:
        self._step(f"DELETE FROM {table}", table, where, names)

    def _step(self, what: str, table: str, where: str, names: dict[str, Any]) -> None:
        """Do one write, or the share of it that a fault leaves."""
        share = next_share()
        names = names | {"now": now_milliseconds()}
        with self._database.transaction() as connection:
            if share < 1:
                # Chosen before the change: afterwards the condition may no longer hold for what was changed.
                rows = connection.execute(
                    f"SELECT seq FROM {table} WHERE {where} ORDER BY seq", names
                ).fetchall()
                chosen = [row[0] for row in rows[: math.floor(len(rows) * share)]]
                where, names = (
                    "seq IN (SELECT value FROM json_each(:chosen))",
                    names | {"chosen": json.dumps(chosen)},
                )
            connection.execute(f"{what} WHERE {where}", names)
        if share < 1:
            raise CutError


def whole_step() -> None:
    """Begin a write to one row: it is done or not, there is no part of it."""
    if next_share() < 1:
        raise CutError


def names_of(data_set: DataSet, selection: Selection | None = None) -> dict[str, Any]:
    """Return the values that the conditions of a write name."""
    names: dict[str, Any] = {
        "user": data_set.user_id,
        "upload": data_set.upload_id,
        "device": data_set.device_id,
    }
    if selection is not None:
        names["values"] = json.dumps(selection.values)
    return names


def selected(selection: Selection) -> str:
    """Return the condition that data are among the selected."""
    if selection.column not in ("id", "hash", "origin_id"):
        raise ValueError(f"data are not selected by {selection.column}")
    return f"{selection.column} IN (SELECT value FROM json_each(:values))"
