"""Which values of newer batches an older one would hide, if it were closed after them.

A close hides the rows of the device's other data sets that have the same identity hash as one of its own.
That does harm only where the contents differ: overlapping read-outs of a meter hold the same readings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date
from typing import Any

from upath import UPath

from tidepool_ingest.deep_json import loads
from tidepool_ingest.digests import digest_of
from tidepool_ingest.ledger import BatchRow, Ledger
from tidepool_ingest.model import NoIdentityError, content_of, identity_hash, stored_form
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

Days = Collection[date]


class Versions:
    """Rows of a batch, as digests of their identities and contents; two numbers are kept of each.

    :param user_id: whose they are.
    """

    def __init__(self, user_id: str) -> None:
        self._user_id = user_id
        self._identities: set[int] = set()
        self._contents: set[tuple[int, int]] = set()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows of the batch, as Tidepool would store them."""
        for row in rows:
            if (identity := self.identity_of(row)) is not None:
                self._identities.add(identity)
                self._contents.add((identity, content_of(row)))

    def identity_of(self, row: Mapping[str, Any]) -> int | None:
        """Return a digest of a row's identity hash, ``None`` for a row that has none."""
        try:
            return digest_of(identity_hash(row, user_id=self._user_id, scope=row.get("deviceId")))
        except NoIdentityError:
            return None

    def would_change(self, row: Mapping[str, Any], identity: int) -> bool:
        """Return whether the batch has this row with other contents only.

        :param row: a row of another batch, as it is stored or shown.
        :param identity: of that row.
        """
        return identity in self._identities and (identity, content_of(row)) not in self._contents


def stored_rows(
    work: WorkArea, prepared: PreparedBatch, days: Days | None = None, rejected: Collection[int] = ()
) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool makes of accepted records.

    :param work: the work area that holds the records.
    :param prepared: its chunk plan.
    :param days: only rows of these UTC days.
    :param rejected: ordinals of records that Tidepool itself has rejected.
    """
    for chunk in prepared.chunks:
        for ordinal, line in enumerate(work.read_chunk(chunk), chunk.first_record):
            if ordinal not in rejected:
                for row in stored_form(loads(line)):
                    if days is None or day_of(row) in days:
                        yield row


def day_of(row: Mapping[str, Any]) -> date | None:
    """Return the UTC day of a row."""
    instant = parse_instant(str(row.get("time") or ""))
    return None if instant is None else instant.utc_date


def is_prepared(root: UPath, ledger: Ledger, batch: int) -> bool:
    """Return whether the work area of a batch is still there, so that its records can be compared.

    :param root: the staging root.
    :param ledger: has the batch.
    :param batch: its number.
    """
    return _plan_of(WorkArea(root, ledger.batches.get(batch).content_key)) is not None


def overwritten_as_prepared(
    root: UPath, ledger: Ledger, batch: BatchRow
) -> Callable[[Mapping[int, date]], list[int]]:
    """Return how to compare a prepared batch with newer ones, as far as their work areas are still there.

    Nothing is read from Tidepool. Where a work area has been cleaned up, this is left to the comparison with
    what Tidepool shows, right before the close.

    :param root: the staging root.
    :param ledger: has the other batches.
    :param batch: the batch; its own work area is complete.
    """

    def overwritten(newer: Mapping[int, date]) -> list[int]:
        work = WorkArea(root, batch.content_key)
        prepared = work.load()
        found: set[int] = set()
        if prepared is None:
            return []
        for area, plan in work.areas_with_records(prepared):
            found.update(_overwritten(root, ledger, batch, area, plan, newer))
        return sorted(found)

    return overwritten


def _overwritten(
    root: UPath,
    ledger: Ledger,
    batch: BatchRow,
    area: WorkArea,
    plan: PreparedBatch,
    newer: Mapping[int, date],
) -> Iterator[int]:
    others = []
    for number in newer:
        other = WorkArea(root, ledger.batches.get(number).content_key)
        prepared = _plan_of(other)
        if prepared is not None and not plan.days.keys().isdisjoint(prepared.days):
            others.append((number, other, prepared))
    shared = plan.days.keys() & {day for _number, _other, prepared in others for day in prepared.days}
    own = Versions(batch.user_id)
    own.add(stored_rows(area, plan, shared))
    seen: set[int] = set()
    for number, other, prepared in others:
        rejected = frozenset(ledger.rejections.of_batch(number))
        with suppress(BatchError):
            if _any_changed(own, stored_rows(other, prepared, shared, rejected), seen):
                yield number


def _any_changed(own: Versions, rows: Iterable[Mapping[str, Any]], seen: set[int]) -> bool:
    """Return whether one of another batch's rows would change; of those of newer ones, all have been seen."""
    for row in rows:
        identity = own.identity_of(row)
        if identity is None or identity in seen:
            continue  # of several batches that have it, the newest shows it
        seen.add(identity)
        if own.would_change(row, identity):
            return True
    return False


def _plan_of(work: WorkArea) -> PreparedBatch | None:
    with suppress(BatchError):
        return work.load()
    return None
