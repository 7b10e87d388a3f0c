"""The table of data sets (data/store/mongo/mongo_data_set.go of the Platform)."""

from __future__ import annotations

import sqlite3
from typing import Any

from tidepool_simulator.deep_json import dumps, loads
from tidepool_simulator.instants import now_milliseconds, now_text, utc_text
from tidepool_simulator.records import DataSet
from tidepool_simulator.writes import Writes, check_storable, whole_step

_COLUMNS = "upload_id, user_id, document, state, active, created_time, deleted_time, time_ms, revision"


class AlreadyExistsError(Exception):
    """The upload id is taken."""


class DataSetStore(Writes):
    """Create, find and change data sets."""

    def create_data_set(self, data_set: DataSet) -> None:
        """Insert a new data set.

        :raises AlreadyExistsError: when its upload id is taken.
        :raises UnstorableError: when the database cannot take it.
        """
        check_storable(data_set.document)
        whole_step()
        with self._database.transaction() as connection:
            try:
                connection.execute(
                    f"INSERT INTO data_sets ({_COLUMNS}, id, by_user, device_id, client_name,"
                    " data_set_type) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        data_set.upload_id,
                        data_set.user_id,
                        dumps(data_set.document),
                        data_set.state,
                        data_set.active,
                        data_set.created_time,
                        data_set.deleted_time,
                        data_set.time_ms,
                        data_set.revision,
                        data_set.id,
                        data_set.by_user,
                        data_set.device_id,
                        data_set.document.get("client", {}).get("name"),
                        data_set.document["dataSetType"],
                    ),
                )
            except sqlite3.IntegrityError as error:
                raise AlreadyExistsError from error

    def data_set(self, upload_id: str) -> DataSet | None:
        """Return a data set by its upload id."""
        with self._database.reading() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM data_sets WHERE upload_id = ?", (upload_id,)
            ).fetchone()
        return None if row is None else _data_set_of(row)

    def update_data_set(
        self,
        upload_id: str,
        *,
        state: str | None = None,
        active: bool | None = None,
        document: dict[str, Any] | None = None,
    ) -> DataSet:
        """Change a data set, and the time it was modified.

        :param document: fields to set in the document.
        :return: the data set after the change.
        """
        whole_step()
        with self._database.transaction() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM data_sets WHERE upload_id = ?", (upload_id,)
            ).fetchone()
            data_set = _data_set_of(row)
            data_set.document |= {"modifiedTime": now_text()} | (document or {})
            data_set.state = state or data_set.state
            data_set.active = data_set.active if active is None else active
            data_set.revision += 1
            connection.execute(
                "UPDATE data_sets SET state = ?, active = ?, revision = ?, document = ?, device_id = ?,"
                " deduplicator = ? WHERE upload_id = ?",
                (
                    data_set.state,
                    data_set.active,
                    data_set.revision,
                    dumps(data_set.document),
                    data_set.device_id,
                    data_set.deduplicator_name,
                    upload_id,
                ),
            )
        return data_set

    def list_data_sets(
        self,
        user_id: str,
        *,
        client_name: str | None = None,
        device_id: str | None = None,
        deleted: bool = False,
        page: int = 0,
        size: int = 100,
    ) -> list[DataSet]:
        """Return a user's active data sets, the newest first.

        :param deleted: return deleted ones too.
        :param page: counted from 0, of ``size`` each.
        """
        where, values = ["user_id = ?", "active = 1"], [user_id]
        for column, value in (("client_name", client_name), ("device_id", device_id)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        if not deleted:
            where.append("deleted_time IS NULL")
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM data_sets WHERE {' AND '.join(where)}"
                " ORDER BY created_time DESC, seq DESC LIMIT ? OFFSET ?",
                (*values, size, page * size),
            ).fetchall()
        return [_data_set_of(row) for row in rows]

    def _mark_sets_deleted(self, where: str, names: dict[str, Any], *, modified: bool) -> None:
        whole_step()
        now = now_milliseconds()
        with self._database.transaction() as connection:
            rows = connection.execute(f"SELECT seq, document FROM data_sets WHERE {where}", names).fetchall()
            for seq, text in rows:
                document = loads(text) | {"deletedTime": utc_text(now)}
                if modified:
                    document["modifiedTime"] = utc_text(now)
                connection.execute(
                    "UPDATE data_sets SET deleted_time = ?, revision = revision + 1, document = ?"
                    " WHERE seq = ?",
                    (now, dumps(document), seq),
                )


def _data_set_of(row: tuple[Any, ...]) -> DataSet:
    upload_id, user_id, document, state, active, created_time, deleted_time, time_ms, revision = row
    return DataSet(
        upload_id=upload_id,
        user_id=user_id,
        document=loads(document),
        state=state,
        active=bool(active),
        created_time=created_time,
        deleted_time=deleted_time,
        time_ms=time_ms,
        revision=revision,
    )
