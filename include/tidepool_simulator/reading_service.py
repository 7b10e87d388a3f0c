"""Reading data back: the service behind ``GET /data/{user}`` (tidepool-org/tide-whisperer).

It knows the session token header only, answers a bad date before it looks at the token, and shows active rows
only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidepool_simulator.accounts import OWNER_PERMISSION, VIEW_PERMISSION, Accounts
from tidepool_simulator.data_set_documents import ZERO_TIME_MS
from tidepool_simulator.database import Database
from tidepool_simulator.deep_json import dumps, loads
from tidepool_simulator.exchange import SESSION_TOKEN_HEADER, Request, Response, Route
from tidepool_simulator.instants import SHOWN_BEFORE_MS, SHOWN_FROM_MS, milliseconds_of
from tidepool_simulator.queries import parse_bool, parse_int
from tidepool_simulator.responses import reading_error, view_forbidden
from tidepool_simulator.sessions import Sessions

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
        if _boolean(query, "cbgFilter") is None:
            _boolean(query, "dexcom")
        return cls(
            user_id=user_id,
            upload_id=_first(query, "uploadId"),
            device_id=_first(query, "deviceId"),
            types=_listed(query, "type"),
            sub_types=_listed(query, "subType"),
            reasons=_listed(query, "dosingDecision.reason"),
            start=_date(query, "startDate"),
            end=_date(query, "endDate"),
            carelink=_boolean(query, "carelink"),
            medtronic=_boolean(query, "medtronic"),
            latest=bool(_boolean(query, "latest")),
            sample_interval=_integer(query, "sampleIntervalMinimum"),
        )

    @property
    def any_type(self) -> bool:
        """Whether the type does not matter: none given, or an empty one first."""
        return not self.types or self.types[0] == ""

    @property
    def wants_data(self) -> bool:
        """Whether data are requested, and not only data sets."""
        return self.types != (UPLOAD,)

    @property
    def wants_data_sets(self) -> bool:
        """Whether data sets are requested too."""
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


def _boolean(query: dict[str, list[str]], name: str) -> bool | None:
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


_LATEST_TYPES = (
    "physicalActivity", "basal", "cbg", "smbg", "bloodKetone", "bolus", "wizard", "deviceEvent", "food",
    "insulin", "cgmSettings", "pumpSettings", "reportedState", UPLOAD,
)  # fmt: skip
"""The types that ``latest`` returns when none is requested."""
_LOOP_BOUNDARY_MS = 1_504_224_000_000
"""2017-09-01: from then on records of a Medtronic pump may come from Loop as well as from the pump itself."""
_LOOPABLE_MODELS = ("523", "523K", "554", "723", "723K", "754")
_LOOPED_TYPES = ("basal", "bolus", "cbg")
_NOT_SHOWN_OF_A_SET = ("createdTime", "modifiedTime", "deduplicator")


@dataclass
class _Where:
    """A condition under construction."""

    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, part: str, *values: Any) -> None:
        self.parts.append(part)
        self.values += values

    def add_one_of(self, column: str, values: Sequence[str]) -> None:
        self.add(f"{column} IN ({', '.join('?' * len(values))})", *values)

    @property
    def text(self) -> str:
        return " AND ".join(self.parts)


@dataclass(frozen=True)
class _Lag:
    after: int
    begins: float
    seconds: float
    gradually: bool

    def shown(self, rows: int) -> int:
        """Return how many of the late rows are shown by now."""
        passed = (time.monotonic() - self.begins) / self.seconds
        if passed >= 1:
            return rows
        return int(rows * passed) if self.gradually else 0


class LateRows:
    """Rows that the read-back does not show yet, although they are visible.

    :param database: holds them.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lags: dict[str, _Lag] = {}

    def begin(self, data_set: str, seconds: float, *, gradually: bool) -> None:
        """Show what becomes visible of a data set from now on only after some time.

        :param data_set: upload id of the data set.
        :param seconds: how long what is not visible yet is not shown.
        :param gradually: show more and more of it meanwhile, rather than nothing.
        """
        with self._database.reading() as connection:
            (last,) = connection.execute(
                "SELECT coalesce(max(seq), 0) FROM data WHERE upload_id = ? AND active = 1", (data_set,)
            ).fetchone()
        self._lags[data_set] = _Lag(last, time.monotonic(), seconds, gradually)

    def shown_of(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """Return those of some visible rows that are shown; each begins with its upload id and its seq."""
        for data_set, lag in list(self._lags.items()):
            late = [row for row in rows if row[0] == data_set and row[1] > lag.after]
            if hidden := {row[1] for row in late[lag.shown(len(late)) :]}:
                rows = [row for row in rows if row[1] not in hidden]
        return rows


class ReadingService:
    """Answer requests for data.

    :param late: what is not shown yet.
    """

    def __init__(self, database: Database, accounts: Accounts, sessions: Sessions, late: LateRows) -> None:
        self._late = late
        self._database = database
        self._accounts = accounts
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """Return the routes of the service."""
        return [Route("GET", "/data/{user}", "read-back", self._read)]

    def _read(self, request: Request, user_id: str) -> Response:
        try:
            wanted = Filter.of(user_id, request.query)
        except BadParameterError:
            return reading_error(500, "invalid_parameters", "one or more parameters are invalid")
        token = request.header(SESSION_TOKEN_HEADER)
        identity = self._sessions.check(token) if token else None
        held = self._accounts.permissions(identity.user_id, user_id) if identity else frozenset()
        if identity is None or not (identity.is_service or held & {OWNER_PERMISSION, VIEW_PERMISSION}):
            return view_forbidden()
        found = list(self._latest(wanted) if wanted.latest else self._all(wanted))
        body = "[" + ",".join(f"\n{document}" for document in found) + ("\n]" if found else "]")
        return Response(200, body.encode("utf-8", "replace"), [("content-type", "application/json")])

    def _all(self, wanted: Filter) -> Iterator[str]:
        if wanted.wants_data:
            yield from self._data(wanted, wanted.types)
        if wanted.wants_data_sets:
            yield from self._data_sets(wanted, wanted.types)

    def _latest(self, wanted: Filter) -> Iterator[str]:
        for kind in _LATEST_TYPES if wanted.any_type else wanted.types:
            find = self._data_sets if kind == UPLOAD else self._data
            yield from find(wanted, (kind,), order="time_ms DESC LIMIT 1")

    def _data(self, wanted: Filter, types: Sequence[str], order: str = "seq") -> Iterator[str]:
        where = self._where(wanted, types)
        # The plus keeps SQLite from choosing an index by this, which nearly all data fulfil.
        where.add("+time_ms >= ? AND time_ms < ?", SHOWN_FROM_MS, SHOWN_BEFORE_MS)
        if wanted.sub_types and wanted.sub_types[0]:
            where.add_one_of("sub_type", wanted.sub_types)
        if not self._shows_carelink(wanted):
            where.add("source IS NOT 'carelink'")
        if not wanted.upload_id and (uploads := self._looped_uploads(wanted)):
            looped, marks = ", ".join("?" * len(_LOOPED_TYPES)), ", ".join("?" * len(uploads))
            where.add(
                f"(time_ms < ? OR type NOT IN ({looped}) OR upload_id NOT IN ({marks}))",
                _LOOP_BOUNDARY_MS, *_LOOPED_TYPES, *uploads,
            )  # fmt: skip
        if wanted.sample_interval > 0:
            interval = "json_extract(document, '$.sampleInterval')"
            where.add(f"(type != 'cbg' OR {interval} IS NULL OR {interval} >= ?)", wanted.sample_interval)
        if wanted.reasons:
            marks = ", ".join("?" * len(wanted.reasons))
            reason = "json_extract(document, '$.reason')"
            where.add(f"(type != 'dosingDecision' OR coalesce({reason}, '') IN ({marks}))", *wanted.reasons)
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT upload_id, seq, hash, revision, document FROM data"
                f" WHERE {where.text} ORDER BY {order}",
                where.values,
            ).fetchall()
        for upload_id, _seq, hash_, revision, document in self._late.shown_of(rows):
            head: dict[str, Any] = {"uploadId": upload_id}
            if hash_ is not None:
                head["_deduplicator"] = {"hash": hash_}
            if revision:
                head["revision"] = revision
            # Put in front of the stored text: a read-back of 100,000 data need not parse them all.
            yield f"{json.dumps(head)[:-1]},{document[1:]}"

    def _data_sets(self, wanted: Filter, types: Sequence[str], order: str = "seq") -> Iterator[str]:
        if wanted.sub_types and wanted.sub_types[0]:
            return  # a data set has no sub-type
        where = self._where(wanted, [] if UPLOAD in types else types)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT document, state, revision FROM data_sets WHERE {where.text} ORDER BY {order}",
                where.values,
            ).fetchall()
        for text, state, revision in rows:
            document = loads(text)
            visible = {name: value for name, value in document.items() if name not in _NOT_SHOWN_OF_A_SET}
            visible |= {"_deduplicator": document["deduplicator"], "_state": state, "_dataState": "open"}
            yield dumps(visible | {"revision": revision})

    def _where(self, wanted: Filter, types: Sequence[str]) -> _Where:
        # The plus keeps SQLite from going through all that the user has, instead of what the data set has.
        user = "+user_id" if wanted.upload_id else "user_id"
        where = _Where([f"{user} = ?", "active = 1"], [wanted.user_id])
        if types and types[0]:
            where.add_one_of("type", types)
        if wanted.start is not None:
            where.add("time_ms >= ?", wanted.start)
        if wanted.end is not None:
            where.add("time_ms <= ?", wanted.end)
        for column, value in (("upload_id", wanted.upload_id), ("device_id", wanted.device_id)):
            if value:
                where.add(f"{column} = ?", value)
        return where

    def _shows_carelink(self, wanted: Filter) -> bool:
        """Records of the Carelink site are hidden when the user uploaded a Medtronic device directly."""
        if wanted.carelink is not None:
            return wanted.carelink
        # Only what may be of one is decoded: a user may have thousands of data sets.
        may_be = " AND state = 'closed' AND deleted_time IS NULL AND instr(document, 'Medtronic')"
        return not any(
            "Medtronic" in document.get("deviceManufacturers", [])
            for document in self._active_sets(wanted, may_be)
        )

    def _looped_uploads(self, wanted: Filter) -> list[str]:
        """Return uploads of pumps that Loop may drive, if the user has records of Loop with such a pump."""
        if wanted.medtronic is not None and wanted.medtronic:
            return []
        if wanted.medtronic is None:
            with self._database.reading() as connection:
                loop = connection.execute(
                    "SELECT 1 FROM data WHERE user_id = ? AND active = 1 AND maker = 'Medtronic'"
                    " AND time_ms >= ? LIMIT 1",
                    (wanted.user_id, _LOOP_BOUNDARY_MS),
                ).fetchone()
            if loop is None:
                return []
        return [
            document["uploadId"]
            for document in self._active_sets(wanted)
            if document.get("deviceModel") in _LOOPABLE_MODELS
            and (milliseconds_of(document.get("time", "")) or ZERO_TIME_MS) >= _LOOP_BOUNDARY_MS
        ]

    def _active_sets(self, wanted: Filter, more: str = "") -> list[dict[str, Any]]:
        where = f"user_id = ? AND active = 1{more}"
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT document FROM data_sets WHERE {where}", (wanted.user_id,)
            ).fetchall()
        return [loads(row[0]) for row in rows]
