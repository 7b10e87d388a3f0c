"""The query of a read-back (tidepool-org/tide-whisperer, store.GetParams)."""

from __future__ import annotations

from dataclasses import dataclass

from tidepool_ingest.simulator.data_set_documents import ZERO_TIME_MS
from tidepool_ingest.simulator.instants import milliseconds_of
from tidepool_ingest.simulator.queries import parse_bool, parse_int

UPLOAD = "upload"
"""The type of the records of data sets."""


class BadParameterError(ValueError):
    """A parameter that cannot be read."""


@dataclass(frozen=True)
class Filter:
    """What a request asks for.

    :param start: and ``end``: milliseconds since 1970, both inclusive.
    :param carelink: None when not given.
    :param medtronic: None when not given.
    """

    user_id: str
    upload_id: str
    device_id: str
    types: tuple[str, ...]
    sub_types: tuple[str, ...]
    reasons: tuple[str, ...]
    start: int | None
    end: int | None
    carelink: bool | None
    medtronic: bool | None
    latest: bool
    sample_interval: int

    @classmethod
    def of(cls, user_id: str, query: dict[str, list[str]]) -> Filter:
        """Read a query.

        :raises BadParameterError: for a date, truth value or number that is none.
        """
        # Both say which records of a cloud service are hidden; here there is none, yet they must be readable.
        if _truth(query, "cbgFilter") is None:
            _truth(query, "dexcom")
        return cls(
            user_id=user_id,
            upload_id=_first(query, "uploadId"),
            device_id=_first(query, "deviceId"),
            types=_listed(query, "type"),
            sub_types=_listed(query, "subType"),
            reasons=_listed(query, "dosingDecision.reason"),
            start=_date(query, "startDate"),
            end=_date(query, "endDate"),
            carelink=_truth(query, "carelink"),
            medtronic=_truth(query, "medtronic"),
            latest=bool(_truth(query, "latest")),
            sample_interval=_integer(query, "sampleIntervalMinimum"),
        )

    @property
    def any_type(self) -> bool:
        """Whether the type does not matter: none given, or an empty one first."""
        return not self.types or self.types[0] == ""

    @property
    def wants_data(self) -> bool:
        """Whether data are asked for, and not only data sets."""
        return self.types != (UPLOAD,)

    @property
    def wants_data_sets(self) -> bool:
        """Whether data sets are asked for too."""
        return self.any_type or UPLOAD in self.types


def _first(query: dict[str, list[str]], name: str) -> str:
    return query.get(name, [""])[0]


def _listed(query: dict[str, list[str]], name: str) -> tuple[str, ...]:
    text = _first(query, name)
    return tuple(text.split(",")) if text else ()


def _date(query: dict[str, list[str]], name: str) -> int | None:
    text = _first(query, name)
    if not text:
        return None
    milliseconds = milliseconds_of(text)
    if milliseconds is None:
        raise BadParameterError(name)
    return None if milliseconds == ZERO_TIME_MS else milliseconds


def _truth(query: dict[str, list[str]], name: str) -> bool | None:
    if name not in query:
        return None
    value = parse_bool(query[name][-1])
    if value is None:
        raise BadParameterError(name)
    return value


def _integer(query: dict[str, list[str]], name: str) -> int:
    if name not in query:
        return 0
    value = parse_int(query[name][-1])
    if value is None or not -(2**31) <= value < 2**31:
        raise BadParameterError(name)
    return value
