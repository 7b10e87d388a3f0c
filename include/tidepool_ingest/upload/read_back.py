"""What became visible in Tidepool, compared with what was sent, identifier by identifier.

Some rows of a closed data set may rightly not be visible, because a later upload of the device shows them
instead: of two equal rows, a deduplicator that archives shows the newer one, and one that truncates deletes
whatever was there before. A row that is missing and that no other data set shows is lost.

A large data set is read back in windows of time: the gateway allows one response no more than 60 s. The
windows leave nothing out, whatever its time: the first has no beginning and the last has no end. For
Tidepool, both ends of a window belong to it, and times have milliseconds; so each window ends one millisecond
before the next one begins, and no row is in two.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import msgspec

from tidepool_ingest.deep_json import loads
from tidepool_ingest.digests import digest_of
from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.guards import Versions, is_prepared, overwritten_as_prepared, stored_rows
from tidepool_ingest.ledger import DataSetRow, DataSetState
from tidepool_ingest.model import NoIdentityError, identity_hash, stored_form
from tidepool_ingest.model.deduplicators import DEDUPLICATORS, AtClose
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.staging.work_area import Chunk
from tidepool_ingest.upload.context import LeasedBatch, UploadContext
from tidepool_ingest.upload.record_ids import ids_of, with_ids
from tidepool_ingest.window import SECONDS_A_DAY, moments_of

MAX_ORDINALS_LISTED = 10
"""How many missing or doubled records a message lists by ordinal."""


TRUNCATING = frozenset(rules.name for rules in DEDUPLICATORS if rules.at_close is AtClose.DELETES_ALL)
"""Deduplicators whose close deletes all other data sets of the device."""

Window = tuple[datetime | None, datetime | None]
"""First and last moment; ``None`` for an open end."""

UPLOAD: Final = "upload"
"""The type of a data set's own record."""

A_MILLISECOND = timedelta(milliseconds=1)

PARTITIONS: Final = 1 << 8
"""Each is sorted separately, which takes far less memory than sorting all at once."""


def read_back(leased: LeasedBatch, data_set: DataSetRow, rejected: AbstractSet[int]) -> Comparison:
    """Read a data set back and compare it, record by record, until it is right or no more becomes visible.

    Other data sets of the device may have been closed meanwhile and have hidden rows.

    :param leased: its batch; the leases are renewed while rows arrive.
    :param data_set: the data set; at least the intent to close it has been recorded.
    :param rejected: ordinals of the records that Tidepool rejected.
    :raises UploadStoppedError: the operation was told to stop meanwhile.
    """
    return leased.requests.read_until_visible(
        lambda: _read_back(leased, data_set, rejected),
        is_settled=lambda found: found.is_exact or found.deleted,
        amount=lambda found: found.visible,
    )


def _read_back(leased: LeasedBatch, data_set: DataSetRow, rejected: AbstractSet[int]) -> Comparison:
    data_set_id = str(data_set.data_set_id)
    shown = _shown(leased, data_set_id)
    comparison = _compared(leased, data_set_id, shown, rejected)
    if comparison.is_exact:
        return comparison
    # The deduplicators of those that were certainly closed after this one, by data set.
    since = data_set.closed_at or data_set.updated_at
    later = leased.ledger.devices.verified_since(leased.batch, since)
    if not TRUNCATING.isdisjoint(later.values()):
        return _truncated(comparison)
    was_complete = data_set.state is DataSetState.VERIFIED
    if not (was_complete or later):
        return comparison
    hidden = _superseded_rows(
        leased, data_set_id, shown, frozenset(comparison.missing), only_by=None if was_complete else later
    )
    return _compared(leased, data_set_id, shown, rejected, hidden) if hidden else comparison


def read_back_beside(
    leased: LeasedBatch,
    data_set_id: str,
    rejected: AbstractSet[int],
    list_others: Callable[[], Mapping[str, str]],
) -> Comparison:
    """Read back once, and compare, a data set that this ledger did not see closed, and that Tidepool lists.

    :param leased: the batch that it was opened for; the leases are renewed while rows arrive.
    :param data_set_id: the data set.
    :param rejected: ordinals of the records that Tidepool rejected.
    :param list_others: returns the deduplicators of the other data sets of the device that Tidepool lists, by
        id; only asked if something differs.
    """
    shown = _shown(leased, data_set_id)
    comparison = _compared(leased, data_set_id, shown, rejected)
    if comparison.is_exact:
        return comparison
    others = list_others()
    if not others:
        return comparison
    if comparison.deleted and not TRUNCATING.isdisjoint(others.values()):
        return _truncated(comparison)
    hidden = _superseded_rows(
        leased, data_set_id, shown, frozenset(comparison.missing), only_by=others.keys()
    )
    return _compared(leased, data_set_id, shown, rejected, hidden) if hidden else comparison


def _truncated(comparison: Comparison) -> Comparison:
    """Return what it comes to if a later set deleted everything that the device had, including this one."""
    gone = comparison.expected - comparison.visible
    return replace(comparison, missing=(), deleted=False, superseded=max(gone, 0))


def _shown(leased: LeasedBatch, data_set_id: str) -> ReadBack:
    rows = rows_of_set(leased.context, leased.batch.user_id, data_set_id, leased.prepared.days)
    return ReadBack(leased.requests.stream(rows))


def _compared(
    leased: LeasedBatch,
    data_set_id: str,
    shown: ReadBack,
    rejected: AbstractSet[int],
    superseded: AbstractSet[str] = frozenset(),
) -> Comparison:
    """Compare what is shown with the accepted records.

    :param superseded: identifiers of rows that a later upload of the device hides.
    """
    sent = IdCounter()
    for chunk in leased.prepared.chunks:
        first, behind = chunk.first_record, chunk.first_record + chunk.records
        known = leased.sent_ids.of_chunk(chunk, data_set_id)
        if known is not None and not any(first <= ordinal < behind for ordinal in rejected):
            sent.add_digests(known)
            continue
        sent.add(
            row_id
            for ordinal, ids in enumerate(_ids_of(leased, chunk, data_set_id), first)
            if ordinal not in rejected
            for row_id in ids
        )
    if sent == shown.rows:
        return Comparison(len(sent), len(sent), deleted=shown.deleted)
    return _difference(leased, data_set_id, shown, rejected, superseded)


def _difference(
    leased: LeasedBatch,
    data_set_id: str,
    shown: ReadBack,
    rejected: AbstractSet[int],
    superseded: AbstractSet[str],
) -> Comparison:
    """Return which records are not shown exactly once."""
    expected, known, hidden, missing, double = 0, 0, 0, [], []
    for chunk in leased.prepared.chunks:
        for ordinal, ids in enumerate(_ids_of(leased, chunk, data_set_id), chunk.first_record):
            if ordinal in rejected:
                continue
            expected += len(ids)
            counts = [shown.rows.count(row_id) for row_id in ids]
            known += sum(counts)
            for index, row_id in enumerate(ids):
                if not counts[index] and row_id in superseded:
                    counts[index] = 1
                    hidden += 1
            if 0 in counts:
                missing.append(ordinal)
            if max(counts) > 1:
                double.append(ordinal)
    visible = len(shown.rows)
    return Comparison(
        expected, visible, tuple(missing), tuple(double), visible - known, shown.deleted, hidden
    )


def _ids_of(leased: LeasedBatch, chunk: Chunk, data_set_id: str) -> Iterator[tuple[str, ...]]:
    return ids_of(leased.work.read_chunk(chunk), chunk, data_set_id)


# ---------------------------------------------------------------- the outcome of a comparison


@dataclass(frozen=True)
class Comparison:
    """What a read-back shows of one data set. Counts are of rows, as Tidepool keeps them.

    :param expected: rows that the accepted records make.
    :param visible: rows that Tidepool shows.
    :param missing: ordinals, among the accepted records, of those that are not visible or only in part.
    :param double: ordinals of those that are visible more than once.
    :param foreign: visible rows that were never sent.
    :param deleted: the data set is marked as deleted. It takes data all the same, and shows them.
    :param superseded: rows that are not visible because a later upload of the device shows them instead.
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
        """Whether every accepted record is visible once, and nothing else, in a set that is not deleted.

        A record that a later upload shows in its place counts as visible.
        """
        return not (self.missing or self.double or self.foreign or self.deleted)

    def difference(self) -> str:
        """Return what differs, by counts and ordinals."""
        return (
            f"Tidepool shows {self.visible} of {self.expected} rows: "
            f"{_listed('missing', self.missing)}, {_listed('double', self.double)}, "
            f"{self.foreign} that were never sent"
            + (f", {self.superseded} superseded by a later upload" if self.superseded else "")
            + (", and the data set was deleted by somebody else" if self.deleted else "")
        )


def _listed(what: str, ordinals: tuple[int, ...]) -> str:
    if not ordinals:
        return f"0 {what}"
    listed = ", ".join(str(ordinal) for ordinal in ordinals[:MAX_ORDINALS_LISTED])
    ellipsis = ", …" if len(ordinals) > MAX_ORDINALS_LISTED else ""
    return f"{len(ordinals)} {what} (accepted records {listed}{ellipsis})"


class ReadBackError(IngestError):
    """What Tidepool shows is not what was sent."""

    disposition: Disposition = Disposition.RETRIABLE
    code = "verification"
    sentence = "what Tidepool shows is not what was sent"
    remedy = (
        "The next try repairs it: a normal data set is deleted and the batch uploaded into a new one; to a "
        "continuous one, its records are sent again."
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
        self.particulars = comparison.difference()
        self.comparison = comparison


# ---------------------------------------------------------------- what is shown


class ShownRow(msgspec.Struct, gc=False, rename="camel"):
    """What a read-back needs to know of one row; whatever Tidepool may show there."""

    id: Any = None
    type: Any = None
    deleted_time: Any = None


class ReadBack:
    """What a read-back of one data set shows.

    :param blocks: its rows, including the data set's own record (type ``upload``); consumed to the end.
    """

    def __init__(self, blocks: Iterable[Sequence[ShownRow]] = ()) -> None:
        self.deleted = False
        """Whether the data set is marked as deleted."""
        self.rows = IdCounter()
        for block in blocks:
            ids = [row.id for row in block if row.type != UPLOAD]
            self.rows.add(map(str, ids))
            if len(ids) < len(block):
                self.deleted = self.deleted or any(
                    row.type == UPLOAD and row.deleted_time is not None for row in block
                )


class IdCounter:
    """How often each identifier is visible.

    An identifier is kept as its :data:`~tidepool_ingest.digests.digest_of`. Two of one digest would both
    appear doubled, and the data set would be uploaded anew; a missing one is never mistaken for the other,
    because the total would not match.

    Two counters are compared by their totals, so that nothing has to be sorted where all is as it should be.
    Digests are random to whoever does not have the key, so that other ones have that total by chance in one
    of 10^18 cases, as seldom as two identifiers have one digest.

    Identifiers are added first, and asked about after that.
    """

    def __init__(self) -> None:
        self._digests = array("q")
        self._partitions: list[array[int]] = []

    def add(self, identifiers: Iterable[str]) -> None:
        """Count identifiers, each as often as it occurs."""
        self._digests.extend(map(digest_of, identifiers))

    def add_digests(self, digests: array[int]) -> None:
        """Count identifiers of which only the digests are at hand."""
        self._digests.extend(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __eq__(self, other: object) -> bool:
        """Return whether each identifier is there as often as in another one."""
        if not isinstance(other, IdCounter):
            return NotImplemented
        return len(self) == len(other) and sum(self._digests) == sum(other._digests)

    __hash__ = None  # type: ignore[assignment]

    def _sorted(self) -> list[array[int]]:
        if not self._partitions:
            self._partitions = [array("q") for _ in range(PARTITIONS)]
            for digest in self._digests:
                self._partitions[digest % PARTITIONS].append(digest)
            self._partitions = [array("q", sorted(partition)) for partition in self._partitions]
        return self._partitions

    def count(self, identifier: str) -> int:
        """Return how often an identifier is visible."""
        digest = digest_of(identifier)
        partition = self._sorted()[digest % PARTITIONS]
        first = bisect_left(partition, digest)
        if first == len(partition) or partition[first] != digest:
            return 0
        return bisect_right(partition, digest, lo=first) - first


def rows_of_set(
    context: UploadContext, user_id: str, data_set_id: str, days: Mapping[date, Mapping[str, int]]
) -> Iterator[list[ShownRow]]:
    """Yield in blocks what Tidepool shows of a data set, including its own record (type ``upload``).

    :param user_id: whose it is.
    :param data_set_id: the data set.
    :param days: how many records it should have on each UTC day, by type.
    """
    windows = list(windows_of(days, context.timeouts.read_rows))
    if len(windows) > 1:
        # Its own record has a time of its own, or none: it need not be in any window.
        yield from context.client.read_data(user_id, fields=ShownRow, data_set_id=data_set_id, types=[UPLOAD])
    for start, end in windows:
        yield from context.client.read_data(
            user_id, fields=ShownRow, data_set_id=data_set_id, start=start, end=end
        )


def windows_of(days: Mapping[date, Mapping[str, int]], limit: int) -> Iterator[Window]:
    """Yield windows that together cover all times, each with about as many records as a response may have.

    :param days: numbers of records by UTC day and type.
    :param limit: most records in a window, provided that a day's are spread evenly over it.
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

    :param missing: ordinals of the records that are not visible or only in part.
    :param only_by: ids of the data sets that count. ``None`` for all: right for a set that was completely
        visible once, since its close had hidden whatever was older.
    """
    if leased.deduplicator.at_close is not AtClose.ARCHIVES_EQUAL or not missing:
        return frozenset()
    missing_rows = _MissingRows()
    for row in _stored_rows(leased, data_set_id, missing):
        if not shown.rows.count(str(row["id"])):
            missing_rows.add(row, leased.batch.user_id)
    if not missing_rows.ids:
        return frozenset()
    found: set[str] = set()
    for datum in leased.requests.stream(_rows_of_device(leased, missing_rows)):
        stamp = datum.get("_deduplicator")
        by = datum.get("uploadId")
        if isinstance(stamp, dict) and by != data_set_id and (only_by is None or by in only_by):
            found.update(missing_rows.ids.get(str(stamp.get("hash")), ()))
    return frozenset(found)


def overwritten_as_shown(leased: LeasedBatch, newer: Mapping[int, date]) -> list[int]:
    """Return the newer batches of which closing this one would hide values behind other ones.

    They are compared as prepared; where a work area has been cleaned up, with what Tidepool shows.

    :param leased: the batch.
    :param newer: verified batches of the device, by number, the newest first.
    """
    ledger, batch, root = leased.ledger, leased.batch, leased.context.root
    assert root is not None
    found = set(overwritten_as_prepared(root, ledger, batch)(newer))
    days = {
        number: ledger.batch_days.of_batch(number).keys() & leased.prepared.days.keys()
        for number in newer
        if not is_prepared(root, ledger, number)
    }
    shared = {day for of_batch in days.values() for day in of_batch}
    if not shared:
        return sorted(found)
    own = Versions(batch.user_id)
    own.add(
        stored_rows(leased.work, leased.prepared, shared, frozenset(ledger.rejections.of_batch(batch.id)))
    )
    counted = _sets_that_count(leased, list(days), newer)
    for row in leased.requests.stream(_rows_on_days(leased, shared)):
        number, stamp = counted.get(str(row.get("uploadId"))), row.get("_deduplicator")
        if (
            number is not None
            and isinstance(stamp, dict)
            and own.would_change(row, digest_of(str(stamp.get("hash"))))
        ):
            found.add(number)
    return sorted(found)


def _sets_that_count(leased: LeasedBatch, cleaned_up: list[int], newer: Mapping[int, date]) -> dict[str, int]:
    """Return the data sets that show values of newer batches, each with the number of one of those.

    What an older batch shows that was closed after a newer one may be the newer one's value: it was allowed
    to take over equal rows.

    :param cleaned_up: the newer batches that count, the newest first.
    :param newer: all newer ones.
    """
    data_sets = [
        data_set
        for data_set in leased.ledger.data_sets.of_batches(list(newer))
        if data_set.state is DataSetState.VERIFIED
    ]
    own = {str(data_set.data_set_id): data_set.batch for data_set in data_sets}
    closed = [
        data_set.closed_at for data_set in data_sets if data_set.batch in cleaned_up and data_set.closed_at
    ]
    since = leased.ledger.devices.verified_since(leased.batch, min(closed)) if closed else {}
    later = {data_set_id: cleaned_up[0] for data_set_id in since if data_set_id not in own}
    return later | {data_set_id: number for data_set_id, number in own.items() if number in cleaned_up}


@dataclass
class _MissingRows:
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


def _rows_of_device(leased: LeasedBatch, missing_rows: _MissingRows) -> Iterator[dict[str, Any]]:
    """Yield what the device shows on the days of missing rows, in several windows if that is much."""
    yield from _rows_on_days(leased, missing_rows.days, types=sorted(missing_rows.types))


def _rows_on_days(
    leased: LeasedBatch, wanted: Collection[date], *, types: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    first, last = moments_of(min(wanted), max(wanted))
    days = {day: kinds for day, kinds in leased.prepared.days.items() if day in wanted}
    for start, end in windows_of(days, leased.context.timeouts.read_rows):
        yield from leased.client.read_data(
            leased.batch.user_id,
            device_id=leased.batch.device_id,
            types=types,
            start=start or first,
            end=end or last,
        )


def _stored_rows(
    leased: LeasedBatch, data_set_id: str, selected: AbstractSet[int]
) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool makes of the selected records, with the ids that were sent."""
    for chunk in leased.prepared.chunks:
        ordinals = range(chunk.first_record, chunk.first_record + chunk.records)
        if selected.isdisjoint(ordinals):
            continue
        for sent in with_ids(leased.work.read_chunk(chunk), chunk, data_set_id):
            if sent.ordinal in selected:
                yield from stored_form(loads(sent.line))
