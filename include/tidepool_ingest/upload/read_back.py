"""What became visible in Tidepool, compared with what was sent, identifier by identifier.

Of a closed data set, some rows may rightly not be shown, because a later upload of the device shows them
instead: a deduplicator that archives lets the newer of two equal rows be seen, and one that truncates deletes
whatever was there before. What is missing and shown by nobody is lost.

A large data set is read back in windows of time: the gateway gives one answer no more than 60 s. The windows
leave nothing out, whatever its time: the first has no beginning and the last has no end. Tidepool takes both
ends of a window as inside it, and keeps times in milliseconds; so each ends one millisecond before the next
one begins, and no row is in two.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from tidepool_ingest.digests import digest_of
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.ledger import DataSetRow, DataSetState
from tidepool_ingest.model import NoIdentityError, identity_hash, stored_form
from tidepool_ingest.model.deduplicators import DEDUPLICATORS, AtClose
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.record_ids import RecordWithIds, with_ids
from tidepool_ingest.window import SECONDS_A_DAY, moments_of

POSITIONS_NAMED = 10
"""How many missing or doubled records a message names by position."""


TRUNCATING = frozenset(one.name for one in DEDUPLICATORS if one.at_close is AtClose.DELETES_ALL)
"""Deduplicators whose close deletes all other data sets of the device."""

Window = tuple[datetime | None, datetime | None]
"""First and last moment; ``None`` where it is open."""

A_MILLISECOND = timedelta(milliseconds=1)

PARTITIONS: Final = 1 << 8
"""Each is sorted by itself, which takes far less memory than sorting all at once."""


def read_back(leased: LeasedBatch, data_set: DataSetRow, refused: AbstractSet[int]) -> Comparison:
    """Read a data set back and compare it, record by record.

    :param leased: its batch; its leases are kept while the answers arrive.
    :param data_set: the data set.
    :param refused: ordinals of the records that Tidepool rejected.
    """
    return _compared(leased, str(data_set.data_set_id), _shown(leased, data_set), refused)


def read_back_after_others(
    leased: LeasedBatch, data_set: DataSetRow, refused: AbstractSet[int]
) -> Comparison:
    """Do the same when other data sets of the device may have been closed meanwhile, and have hidden rows.

    :param leased: its batch; its leases are kept while the answers arrive.
    :param data_set: the data set; that it is about to be closed was recorded at the latest.
    :param refused: ordinals of the records that Tidepool rejected.
    """
    data_set_id = str(data_set.data_set_id)
    shown = _shown(leased, data_set)
    comparison = _compared(leased, data_set_id, shown, refused)
    if comparison.is_exact:
        return comparison
    # The deduplicators of what was surely closed after this one, by data set.
    since = data_set.closed_at or data_set.updated_at
    later = leased.ledger.devices.verified_since(leased.batch, since)
    if not TRUNCATING.isdisjoint(later.values()):
        # A later one deleted all that the device had, this set as well.
        gone = comparison.expected - comparison.visible
        return replace(comparison, missing=(), deleted=False, superseded=max(gone, 0))
    seen_whole = data_set.state is DataSetState.VERIFIED
    hidden = _superseded_rows(
        leased, data_set_id, shown, frozenset(comparison.missing), only_by=None if seen_whole else later
    )
    return _compared(leased, data_set_id, shown, refused, hidden) if hidden else comparison


def _shown(leased: LeasedBatch, data_set: DataSetRow) -> ReadBack:
    days = leased.prepared.days
    rows = rows_of_set(leased.context, leased.batch.user_id, str(data_set.data_set_id), days)
    return ReadBack(leased.requests.stream(rows))


def _compared(
    leased: LeasedBatch,
    data_set_id: str,
    shown: ReadBack,
    refused: AbstractSet[int],
    superseded: AbstractSet[str] = frozenset(),
) -> Comparison:
    """Compare what is shown with the accepted records.

    :param superseded: identifiers of rows that a later upload of the device hides.
    """
    expected, known, hidden, missing, double = 0, 0, 0, [], []
    for sent in _sent(leased, data_set_id):
        if sent.ordinal in refused:
            continue
        expected += len(sent.ids)
        counts = [shown.rows.count(row_id) for row_id in sent.ids]
        known += sum(counts)
        for index, row_id in enumerate(sent.ids):
            if not counts[index] and row_id in superseded:
                counts[index] = 1
                hidden += 1
        if 0 in counts:
            missing.append(sent.ordinal)
        if max(counts) > 1:
            double.append(sent.ordinal)
    visible = len(shown.rows)
    return Comparison(
        expected, visible, tuple(missing), tuple(double), visible - known, shown.deleted, hidden
    )


def _sent(leased: LeasedBatch, data_set_id: str) -> Iterator[RecordWithIds]:
    for chunk in leased.prepared.chunks:
        yield from with_ids(leased.work.read_chunk(chunk), chunk, data_set_id)


# ---------------------------------------------------------------- what a comparison comes to


@dataclass(frozen=True)
class Comparison:
    """What a read-back shows of one data set. Counts are of rows, as Tidepool keeps them.

    :param expected: rows that the accepted records make.
    :param visible: rows that Tidepool shows.
    :param missing: ordinals, among the accepted records, of those that are not shown or only in part.
    :param double: ordinals of those that are shown more than once.
    :param foreign: rows shown that were never sent.
    :param deleted: the data set is marked as deleted. It takes data all the same, and shows them.
    :param superseded: rows that are not shown because a later upload of the device shows them instead.
    """

    expected: int
    visible: int
    missing: tuple[int, ...] = ()
    double: tuple[int, ...] = ()
    foreign: int = 0
    deleted: bool = False
    superseded: int = 0

    @property
    def is_exact(self) -> bool:
        """Tell whether every accepted record is visible once, and nothing else, in a set that stands.

        One that a later upload shows in its place counts as visible.
        """
        return not (self.missing or self.double or self.foreign or self.deleted)

    def difference(self) -> str:
        """Return what is not as it should be, by counts and positions."""
        return (
            f"Tidepool shows {self.visible} of {self.expected} rows: "
            f"{_named('missing', self.missing)}, {_named('double', self.double)}, "
            f"{self.foreign} that were never sent"
            + (f", {self.superseded} superseded by a later upload" if self.superseded else "")
            + (", and the data set was deleted by somebody else" if self.deleted else "")
        )


def _named(what: str, positions: tuple[int, ...]) -> str:
    if not positions:
        return f"0 {what}"
    shown = ", ".join(str(position) for position in positions[:POSITIONS_NAMED])
    more = ", …" if len(positions) > POSITIONS_NAMED else ""
    return f"{len(positions)} {what} (accepted records {shown}{more})"


class ReadBackError(IngestError):
    """What Tidepool shows is not what was sent."""

    disposition: Disposition = Disposition.RETRIABLE
    code = "verification"
    sentence = "what Tidepool shows is not what was sent"
    remedy = (
        "The next try repairs it: a normal data set is deleted and the batch goes into a new one; to a "
        "continuous one its records are sent again."
    )


class VerificationError(ReadBackError):
    """What Tidepool shows of a batch in a normal data set is not what was sent.

    :param comparison: what differs.
    """

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(
            f"{comparison.difference()}.",
            remedy="The next try repairs it: it deletes this data set and uploads the batch into a new one.",
        )
        self.comparison = comparison


# ---------------------------------------------------------------- what is shown


class ReadBack:
    """What a read-back of one data set shows.

    :param read_back: the records, the data set's own one (type ``upload``) included; read to its end.
    """

    def __init__(self, read_back: Iterable[dict[str, Any]] = ()) -> None:
        self.deleted = False
        """Whether the data set is marked as deleted."""
        self.rows = IdCounter(self._identifiers(read_back))

    def _identifiers(self, read_back: Iterable[dict[str, Any]]) -> Iterable[str]:
        for datum in read_back:
            if datum.get("type") == "upload":
                self.deleted = self.deleted or datum.get("deletedTime") is not None
            else:
                yield str(datum.get("id"))


class IdCounter:
    """How often each identifier is shown.

    An identifier is kept as its :data:`~tidepool_ingest.digests.digest_of`. Two that have the same would both
    look doubled, and the data set be uploaded anew; a missing one is never taken for the other, for the sum
    would not fit.

    :param identifiers: those that are shown, each as often as it is.
    """

    def __init__(self, identifiers: Iterable[str] = ()) -> None:
        self._partitions = [array("q") for _ in range(PARTITIONS)]
        self._total = 0
        for identifier in identifiers:
            digest = digest_of(identifier)
            self._partitions[digest % PARTITIONS].append(digest)
            self._total += 1
        for number, partition in enumerate(self._partitions):
            self._partitions[number] = array("q", sorted(partition))

    def __len__(self) -> int:
        return self._total

    def count(self, identifier: str) -> int:
        """Return how often an identifier is shown."""
        digest = digest_of(identifier)
        partition = self._partitions[digest % PARTITIONS]
        first = bisect_left(partition, digest)
        if first == len(partition) or partition[first] != digest:
            return 0
        return bisect_right(partition, digest, lo=first) - first


def rows_of_set(
    context: UploadContext, user_id: str, data_set_id: str, days: Mapping[date, Mapping[str, int]]
) -> Iterator[dict[str, Any]]:
    """Yield what Tidepool shows of a data set, the data set's own record (type ``upload``) included.

    :param user_id: whose it is.
    :param data_set_id: the data set.
    :param days: how many records it should have on each UTC day, by type.
    """
    windows = list(windows_of(days, context.timeouts.read_rows))
    if len(windows) > 1:
        # Its own record has a time of its own, or none: no window need show it.
        yield from context.client.read_data(user_id, data_set_id=data_set_id, types=["upload"])
    for start, end in windows:
        yield from context.client.read_data(user_id, data_set_id=data_set_id, start=start, end=end)


def windows_of(days: Mapping[date, Mapping[str, int]], limit: int) -> Iterator[Window]:
    """Yield windows that together hold all times, each with about as many records as an answer may have.

    :param days: numbers of records by UTC day and type.
    :param limit: records in a window, at most, as far as a day's lie evenly on it.
    """
    begin: datetime | None = None
    for border in _borders(days, limit):
        yield begin, border - A_MILLISECOND
        begin = border
    yield begin, None


def _borders(days: Mapping[date, Mapping[str, int]], limit: int) -> Iterator[datetime]:
    size = 0
    for day, kinds in sorted(days.items()):
        records = sum(kinds.values())
        midnight = datetime.combine(day, time(), UTC)
        if size and size + records > limit:
            yield midnight
            size = 0
        slices = -(-records // limit)
        for number in range(1, slices):
            yield midnight + timedelta(seconds=SECONDS_A_DAY * number // slices)
        size = records if slices > 1 else size + records


# ---------------------------------------------------------------- what a later upload shows instead


def _superseded_rows(
    leased: LeasedBatch,
    data_set_id: str,
    shown: ReadBack,
    missing: AbstractSet[int],
    *,
    only_by: Collection[str] | None,
) -> frozenset[str]:
    """Return the identifiers of missing rows that another data set of the device shows.

    :param missing: ordinals of the records that are not shown or only in part.
    :param only_by: ids of the data sets that count. ``None`` for all: right for what has been seen whole
        once, since its close had hidden whatever was older.
    """
    if leased.deduplicator.at_close is not AtClose.ARCHIVES_EQUAL or not missing:
        return frozenset()
    wanted = _Wanted()
    for row in _stored_rows(leased, data_set_id, missing):
        if not shown.rows.count(str(row["id"])):
            wanted.add(row, leased.batch.user_id)
    if not wanted.ids:
        return frozenset()
    found: set[str] = set()
    for datum in leased.requests.stream(_rows_of_device(leased, wanted)):
        stamp = datum.get("_deduplicator")
        by = datum.get("uploadId")
        if isinstance(stamp, dict) and by != data_set_id and (only_by is None or by in only_by):
            found.update(wanted.ids.get(str(stamp.get("hash")), ()))
    return frozenset(found)


@dataclass
class _Wanted:
    """Rows that are missing, and where to look for their successors."""

    ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    types: set[str] = field(default_factory=set)
    days: set[date] = field(default_factory=set)

    def add(self, row: Mapping[str, Any], user_id: str) -> None:
        try:
            key = identity_hash(row, user_id=user_id, scope=row.get("deviceId"))
        except NoIdentityError:
            return
        self.ids[key].append(str(row["id"]))
        self.types.add(str(row["type"]))
        instant = parse_instant(str(row["time"]))
        if instant is not None:
            self.days.add(instant.utc_date)


def _rows_of_device(leased: LeasedBatch, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    """Yield what the device shows on the days of missing rows, in windows where that is much."""
    first, last = moments_of(min(wanted.days), max(wanted.days))
    days = {day: kinds for day, kinds in leased.prepared.days.items() if day in wanted.days}
    for start, end in windows_of(days, leased.context.timeouts.read_rows):
        yield from leased.client.read_data(
            leased.batch.user_id,
            device_id=leased.batch.device_id,
            types=sorted(wanted.types),
            start=start or first,
            end=end or last,
        )


def _stored_rows(leased: LeasedBatch, data_set_id: str, wanted: AbstractSet[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool makes of some accepted records, identified as they were sent."""
    for chunk in leased.prepared.chunks:
        ordinals = range(chunk.first_record, chunk.first_record + chunk.records)
        if wanted.isdisjoint(ordinals):
            continue
        for sent in with_ids(leased.work.read_chunk(chunk), chunk, data_set_id):
            if sent.ordinal in wanted:
                yield from stored_form(json.loads(sent.line))
