"""What Tidepool tells about a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class DataSet:
    """One data set, from an answer about it or from its own record in a read-back.

    :param upload_id: the id by which it is addressed.
    :param id: its record's id, the same unless a client chose otherwise.
    :param data_set_type: ``normal`` or ``continuous``.
    :param deduplicator: full name of its deduplicator, empty if none is told.
    :param device_id: the device, empty if none is told.
    :param client_name: reverse DNS name of the program that made it, empty if none is told.
    :param created_time: when the Platform stored it; a read-back does not tell.
    :param deleted: whether it has been deleted.
    :param state: ``open`` or ``closed``; told by a read-back only.
    """

    upload_id: str
    id: str
    data_set_type: str
    deduplicator: str = ""
    device_id: str = field(default="", repr=False)
    client_name: str = ""
    created_time: datetime | None = None
    deleted: bool = False
    state: str = ""

    @classmethod
    def parse(cls, told: Any) -> DataSet | None:
        """Return the data set that a decoded answer describes, ``None`` if it describes none.

        :param told: the object in question.
        """
        if not isinstance(told, dict):
            return None
        upload_id = _text(told, "uploadId")
        created = _text(told, "createdTime")
        try:
            created_time = datetime.fromisoformat(created) if created else None
        except ValueError:
            return None
        if not upload_id:
            return None
        return cls(
            upload_id=upload_id,
            id=_text(told, "id") or upload_id,
            data_set_type=_text(told, "dataSetType") or "normal",
            deduplicator=_text(told, "deduplicator", "name") or _text(told, "_deduplicator", "name"),
            device_id=_text(told, "deviceId"),
            client_name=_text(told, "client", "name"),
            created_time=created_time,
            deleted=bool(told.get("deletedTime")),
            state=_text(told, "_state"),
        )


def _text(told: Mapping[str, Any], *path: str) -> str:
    value: Any = told
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""
