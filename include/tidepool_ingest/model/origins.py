"""The origin of a datum: its ``id`` decides what replaces what in a continuous data set.

Rules: data/types/common/origin of the Platform.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tidepool_ingest.model.stored import embedded_data


class Origin(NamedTuple):
    """What distinguishes one datum of a feed from all others.

    :param type: the datum's type.
    :param id: its ``origin.id``.
    :param time: its ``origin.time`` as staged, if it has one.
    """

    type: str
    id: str
    time: str | None

    def __repr__(self) -> str:
        """Show the type only."""
        return f"Origin(type={self.type!r})"


def parts_of(datum: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return a record and the data embedded in it.

    :param datum: an accepted record, decoded.
    """
    return (datum, *(datum[part] for part in embedded_data(datum)))


def origin_id_of(datum: Mapping[str, Any]) -> str | None:
    """Return the ``origin.id`` of a datum, if it has one.

    :param datum: a datum, decoded: an accepted one, or one that a read-back shows.
    """
    origin = datum.get("origin")
    identifier = origin.get("id") if isinstance(origin, Mapping) else None
    return identifier if isinstance(identifier, str) and identifier else None


def origin_of(datum: Mapping[str, Any], identifier: str) -> Origin:
    """Return the origin of a datum.

    :param datum: an accepted datum, decoded.
    :param identifier: the ``origin.id`` that it has or is assigned.
    """
    origin = datum.get("origin")
    time = origin.get("time") if isinstance(origin, Mapping) else None
    return Origin(str(datum["type"]), identifier, time if isinstance(time, str) else None)
