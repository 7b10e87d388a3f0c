"""Which rows of a closed data set are not shown because a later upload of the device shows them instead.

That is as it should be: a deduplicator that archives lets the newer of two equal rows be seen, and one that
truncates deletes whatever was there before. What is missing and shown by nobody is lost.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from tidepool_ingest.ledger import DataSetRow
from tidepool_ingest.model import NoIdentityError, identity_hash, stored_form
from tidepool_ingest.model.deduplicators import DEDUPLICATORS, AtClose
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.upload.caution import Caution
from tidepool_ingest.upload.identify import identified
from tidepool_ingest.upload.job import UploadJob
from tidepool_ingest.upload.shown import Shown
from tidepool_ingest.upload.windows import windows_of
from tidepool_ingest.window import moments_of

TRUNCATING = frozenset(one.name for one in DEDUPLICATORS if one.at_close is AtClose.DELETES_ALL)
"""Deduplicators whose close deletes all other data sets of the device."""


@dataclass
class _Wanted:
    """Rows that are missed, and within what to look for their successors."""

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


def later_sets(job: UploadJob, data_set: DataSetRow) -> dict[str, str]:
    """Return the deduplicators of the device's data sets that were surely closed after this one, by id.

    :param job: the batch.
    :param data_set: its data set; that it is about to be closed was noted at the latest.
    """
    return job.ledger.devices.verified_since(job.batch, data_set.closed_at or data_set.updated_at)


def superseded_rows(
    job: UploadJob,
    upload_id: str,
    shown: Shown,
    missing: AbstractSet[int],
    *,
    only_by: Collection[str] | None,
    caution: Caution,
) -> frozenset[str]:
    """Return the identifiers of missing rows that another data set of the device shows.

    :param job: the batch.
    :param upload_id: its data set.
    :param shown: what that one shows.
    :param missing: places, among the accepted records, of those that are not shown or only in part.
    :param only_by: ids of the data sets that count. ``None`` for all: right for what has been seen whole
        once, since its close had hidden whatever was older.
    :param caution: keeps the claims while it is read.
    """
    if job.deduplicator.at_close is not AtClose.ARCHIVES_EQUAL or not missing:
        return frozenset()
    wanted = _Wanted()
    for row in _stored_rows(job, upload_id, missing):
        if not shown.rows.count(str(row["id"])):
            wanted.add(row, job.batch.user_id)
    if not wanted.ids:
        return frozenset()
    found: set[str] = set()
    for datum in caution.watch(_rows_of_device(job, wanted)):
        stamp = datum.get("_deduplicator")
        by = datum.get("uploadId")
        if isinstance(stamp, dict) and by != upload_id and (only_by is None or by in only_by):
            found.update(wanted.ids.get(str(stamp.get("hash")), ()))
    return frozenset(found)


def _rows_of_device(job: UploadJob, wanted: _Wanted) -> Iterator[dict[str, Any]]:
    """Yield what the device shows on the days of missing rows, in windows where that is much."""
    first, last = moments_of(min(wanted.days), max(wanted.days))
    days = {day: kinds for day, kinds in job.prepared.days.items() if day in wanted.days}
    for start, end in windows_of(days, job.timing.read_rows):
        yield from job.client.read_data(
            job.batch.user_id,
            device_id=job.batch.device_id,
            types=sorted(wanted.types),
            start=start or first,
            end=end or last,
        )


def _stored_rows(job: UploadJob, upload_id: str, ordinals: AbstractSet[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool makes of some accepted records, identified as they were sent."""
    for chunk in job.prepared.chunks:
        places = range(chunk.first_record, chunk.first_record + chunk.records)
        if ordinals.isdisjoint(places):
            continue
        for sent in identified(job.work.read_chunk(chunk), chunk, upload_id):
            if sent.ordinal in ordinals:
                yield from stored_form(json.loads(sent.line))
