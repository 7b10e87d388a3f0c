"""What a continuous data set shows of one batch, compared with what was sent, origin id by origin id.

Since the data set may hold years, only the periods in which the batch has records are read back. The same
rows reveal, before anything is sent, what some deduplicators would drop silently; that goes to quarantine:
``dataset.delete.origin.older`` keeps the bolus or food that it has unless the new one's ``origin.time`` is
newer; ``dataset.drop.hash`` keeps whatever it has of a type at a moment.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from tidepool_ingest.ledger import Rejection
from tidepool_ingest.model import Problem, identity_hash
from tidepool_ingest.model.deduplicators import Deduplicator
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.origins import origin_id_of
from tidepool_ingest.model.problems import HASH_REPEATED, ORIGIN_NOT_NEWER
from tidepool_ingest.upload.feeds.payload import ExpectedRow, FeedPayload, Moment
from tidepool_ingest.upload.read_back import ReadBackError, Window

GAP_SECONDS: Final = 6 * 3600
"""A longer gap between records is not read back."""

MAX_WINDOWS: Final = 8
"""Most requests of one read-back; with more gaps, the shortest ones are read back as well."""

MARGIN: Final = timedelta(seconds=1)
"""Tidepool keeps milliseconds of what may be sent with nanoseconds."""

_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""What a ``datetime`` can hold, with a margin. The Platform takes the year 0 too."""

NEVER: Final = (-1, 0)
"""Before every moment: a datum without ``origin.time`` is newer than no other."""

Found = Iterator[tuple[int, Problem]]


def compare_feed(payload: FeedPayload, shown: Iterable[Mapping[str, Any]]) -> FeedComparison:
    """Compare a read-back with what a batch has sent.

    :param payload: what is to be visible.
    :param shown: the read-back of its periods, including the data set's own record (type ``upload``).
    """
    deletes = {deletion.id for deletion in payload.deletes}
    counts: Counter[str] = Counter()
    stale, undeleted, deleted = set(), set(), False
    for row in shown:
        if row.get("type") == "upload":
            deleted = deleted or row.get("deletedTime") is not None
            continue
        origin = origin_id_of(row) or ""
        if origin in deletes:
            undeleted.add(origin)
        expected = payload.rows.get(origin)
        if expected is None:
            continue
        counts[origin] += 1
        if origin not in payload.may_be_older and not is_version(expected, row):
            stale.add(expected.ordinal)
    missing = {row.ordinal for origin, row in payload.rows.items() if not counts[origin]}
    double = {payload.rows[origin].ordinal for origin, count in counts.items() if count > 1}
    return FeedComparison(
        len(payload.rows),
        counts.total(),
        tuple(sorted(missing)),
        tuple(sorted(double)),
        tuple(sorted(stale)),
        len(undeleted),
        deleted,
    )


def is_version(expected: ExpectedRow, row: Mapping[str, Any]) -> bool:
    """Return whether a visible row is the version of a record that was sent.

    :param expected: what was sent.
    :param row: the row that is visible under its origin id.
    """
    if row.get("id") != expected.id or row.get("type") != expected.type:
        return False
    return not expected.has_own_id or has_same_content(expected.stored or {}, row)


def has_same_content(stored: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Return whether a visible row has the content of a record: the same time and plain fields.

    :param stored: a record as Tidepool stores it.
    :param row: the visible row.
    """
    if _milliseconds(stored.get("time")) != _milliseconds(row.get("time")):
        return False
    return all(
        _equal(value, row.get(name))
        for name, value in stored.items()
        if isinstance(value, str | int | float) and name not in ("id", "time") and not name.endswith("Time")
    )


def _equal(sent: Any, visible: Any) -> bool:
    numbers = [value for value in (sent, visible) if isinstance(value, int | float)]
    return math.isclose(*numbers, rel_tol=1e-9) if len(numbers) == 2 else bool(sent == visible)


def _milliseconds(time: Any) -> tuple[int, int] | None:
    moment = _moment(time)
    return None if moment is None else (moment[0], moment[1] // 1_000_000)


@dataclass(frozen=True)
class FeedComparison:
    """What a read-back shows of one batch. Counts are of rows, as Tidepool keeps them.

    :param expected: rows that the batch's records make.
    :param visible: those of them that Tidepool shows.
    :param missing: records, by ordinal, of which a row is not visible.
    :param double: records of which a row is visible more than once.
    :param stale: records of which another version is visible.
    :param undeleted: deletions whose record is still visible.
    :param deleted: the data set is marked as deleted. It takes data all the same, and shows them.
    """

    expected: int
    visible: int
    missing: tuple[int, ...] = ()
    double: tuple[int, ...] = ()
    stale: tuple[int, ...] = ()
    undeleted: int = 0
    deleted: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether each record is visible once and as it was sent, and nothing that was deleted."""
        return not (self.missing or self.double or self.stale or self.undeleted or self.deleted)

    @property
    def differences(self) -> int:
        """How many records and deletions are not visible as they should be."""
        return len(self.wrong) + self.undeleted

    @property
    def wrong(self) -> tuple[int, ...]:
        """Ordinals of the records that have to be sent again."""
        return (*self.missing, *self.double, *self.stale)


class FeedVerificationError(ReadBackError):
    """What Tidepool shows of a feed's batch is not what was sent.

    :param comparison: what differs.
    """

    def __init__(self, comparison: FeedComparison) -> None:
        difference = (
            f"Tidepool shows {comparison.visible} of {comparison.expected} rows: "
            f"{len(comparison.missing)} records are missing, {len(comparison.double)} there twice, "
            f"{len(comparison.stale)} in another version, {comparison.undeleted} not deleted"
        )
        super().__init__(
            f"{difference}.",
            remedy="The next try sends these records again. If that does not help, check whether another "
            "program writes to the same data set.",
        )
        self.particulars = difference
        self.comparison = comparison


# ---------------------------------------------------------------- what would be dropped


def predict_drops(
    payload: FeedPayload,
    shown: Iterable[Mapping[str, Any]],
    deduplicator: Deduplicator,
    *,
    user_id: str,
    data_set_id: str,
) -> list[Rejection]:
    """Return which of a batch's records the Platform would drop, completely or in part.

    Dropping a record whose content is there already is no loss; such records are not returned.

    :param payload: what the batch is about to send; ``may_be_older`` is added to.
    :param shown: what the data set shows at the times of the batch's records.
    :param deduplicator: the data set's.
    :param user_id: whose data set it is.
    :param data_set_id: the data set.
    """
    there = [row for row in shown if row.get("type") != "upload"]
    if deduplicator.drops_equal:
        found = dict(_same_hash(payload, there, user_id=user_id, data_set_id=data_set_id))
    else:
        found = dict(_not_newer(payload, there, deduplicator.keeps_newer))
    rows = Counter(expected.ordinal for expected in payload.rows.values())
    types = {expected.ordinal: expected.type for expected in reversed(payload.rows.values())}
    return [
        Rejection(ordinal=ordinal, type=types[ordinal], rows=rows[ordinal], problems=(problem,))
        for ordinal, problem in sorted(found.items())
    ]


def _same_hash(
    payload: FeedPayload, there: list[Mapping[str, Any]], *, user_id: str, data_set_id: str
) -> Found:
    by_hash = {(row.get("_deduplicator") or {}).get("hash"): row for row in there}
    for origin, expected in payload.rows.items():
        stored = expected.stored or {}
        row = by_hash.get(identity_hash(stored, user_id=user_id, scope=data_set_id))
        if row is None or is_version(expected, row):
            continue
        if origin_id_of(row) == origin and has_same_content(stored, row):
            payload.may_be_older.add(origin)
        else:
            yield expected.ordinal, Problem(HASH_REPEATED, "/time")


def _not_newer(payload: FeedPayload, there: list[Mapping[str, Any]], types: AbstractSet[str]) -> Found:
    for row in there:
        origin = origin_id_of(row) or ""
        expected = payload.rows.get(origin)
        if expected is None or expected.type not in types or is_version(expected, row):
            continue
        stored = expected.stored or {}
        is_newer = _origin_moment(stored) > max(_origin_moment(row), NEVER)
        if not is_newer and has_same_content(stored, row):
            payload.may_be_older.add(origin)
        elif not is_newer:
            yield expected.ordinal, Problem(ORIGIN_NOT_NEWER, "/origin/time")


def _origin_moment(datum: Mapping[str, Any]) -> tuple[int, int]:
    origin = datum.get("origin")
    time = origin.get("time") if isinstance(origin, Mapping) else None
    instant = parse_instant(time) if isinstance(time, str) else None
    return NEVER if instant is None else instant.moment


# ---------------------------------------------------------------- which periods to read back


def windows_of(payload: FeedPayload) -> list[Window]:
    """Return the periods to read back; none if there is nothing to find.

    :param payload: what the batch has sent and deleted.
    """
    if any(deletion.time is None for deletion in payload.deletes):
        return [(None, None)]
    moments = [moment for deletion in payload.deletes if (moment := _moment(deletion.time)) is not None]
    moments = sorted((*moments, *payload.moments))
    if not moments:
        return []
    if moments[0] < _moment_of(_FIRST) or moments[-1] > _moment_of(_LAST):
        return [(None, None)]
    return [(_datetime(first) - MARGIN, _datetime(last) + MARGIN) for first, last in _periods(moments)]


def _periods(moments: Sequence[Moment]) -> Iterator[tuple[Moment, Moment]]:
    """Divide sorted moments at long gaps, and at the longest ones only if there are many."""
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(moments)]
    longest = sorted((gap for gap in gaps if gap > GAP_SECONDS), reverse=True)
    at_least = longest[MAX_WINDOWS - 2] if len(longest) >= MAX_WINDOWS else GAP_SECONDS + 1
    first, cuts = 0, 0
    for index, gap in enumerate(gaps):
        if gap >= at_least and cuts < MAX_WINDOWS - 1:
            yield moments[first], moments[index]
            first, cuts = index + 1, cuts + 1
    yield moments[first], moments[-1]


def _moment(time: Any) -> Moment | None:
    instant = parse_instant(time) if isinstance(time, str) else None
    return None if instant is None else instant.moment


def _moment_of(time: datetime) -> Moment:
    instant = parse_instant(time.isoformat())
    assert instant is not None
    return instant.moment


def _datetime(moment: Moment) -> datetime:
    return _FIRST + timedelta(seconds=moment[0] - _moment_of(_FIRST)[0])
