"""Hold a prepared batch against what Tidepool shows of its user and devices: read-only, nothing is opened."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import date
from typing import Any

from upath import UPath

from tidepool_ingest.comparison.content import content_of, digest_of
from tidepool_ingest.comparison.result import Compared
from tidepool_ingest.comparison.rows import Rows
from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model import NoIdentityError, identity_hash, stored_form
from tidepool_ingest.model.deduplicators import AtClose, Deduplicator
from tidepool_ingest.prepare.record_days import utc_day
from tidepool_ingest.staging.chunk_plan import Chunk, PreparedBatch
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.tidepool import ClientSettings, TidepoolClient
from tidepool_ingest.upload.body import data_set_body, deduplicator_of
from tidepool_ingest.window import moments_of

DEVICES_ASKED_FOR = 5
"""Devices of a batch that are asked for one by one; where there are more, for all of the user at once."""


def compare_batch(
    client: TidepoolClient,
    settings: ClientSettings,
    root: UPath,
    row: BatchRow,
    *,
    refused: Mapping[str, Collection[int]] | None = None,
) -> Compared:
    """Tell which rows of a prepared batch Tidepool shows already, and which ones it would hide for them.

    Both sides are read once, as streams, and kept as digests.

    :param client: speaks to Tidepool.
    :param settings: of its connection.
    :param root: the staging root, in which the batch's work area lies.
    :param row: the batch.
    :param refused: places, among the accepted records, of those that Tidepool has refused before, by the
        content key of the batch or of the part that holds them.
    :raises TidepoolError: if Tidepool cannot be asked, or does not let the account see the user's data.
    :raises BatchError: if the work area is not there, or damaged.
    """
    work = WorkArea(root, row.content_key)
    prepared = work.load()
    if prepared is None:
        raise BatchError("work-area-damaged", detail="it is not there")
    deduplicator = deduplicator_of(data_set_body(prepared.data_set, settings))
    with Rows() as rows:
        comparing = _Comparing(client, row, deduplicator, rows)
        for area, plan in work.holding_records(prepared):
            left_out = (refused or {}).get(area.content_key, ())
            for chunk in plan.chunks:
                comparing.take_in(_stored_rows(area, chunk, left_out))
        return comparing.compared(prepared)


def _stored_rows(work: WorkArea, chunk: Chunk, refused: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool would make of a chunk's records."""
    for ordinal, line in enumerate(work.read_chunk(chunk), chunk.first_record):
        if ordinal not in refused:
            yield from stored_form(json.loads(line))


class _Comparing:
    """What comparing one batch works with."""

    def __init__(
        self, client: TidepoolClient, batch: BatchRow, deduplicator: Deduplicator, rows: Rows
    ) -> None:
        self._client = client
        self._batch = batch
        self._deduplicator = deduplicator
        self._rows = rows
        self._devices: set[str] = set()
        self._types: set[str] = set()
        self._days: list[date] = []
        self._untold = 0

    def take_in(self, stored: Iterator[Mapping[str, Any]]) -> None:
        """Remember rows of the batch."""
        self._rows.add_own(self._told_apart(stored))

    def _told_apart(self, stored: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, int, int]]:
        for row in stored:
            identity = self._identity(row)
            if identity is None:
                self._untold += 1
                continue
            self._devices.add(str(row["deviceId"]))
            self._types.add(str(row["type"]))
            day = utc_day(str(row["time"]))
            self._days = [min([day, *self._days]), max([day, *self._days])]
            yield str(row["type"]), identity, content_of(row)

    def _identity(self, row: Mapping[str, Any]) -> int | None:
        try:
            return digest_of(
                identity_hash(row, user_id=self._batch.user_id, scope=row.get("deviceId") or None)
            )
        except NoIdentityError:
            return None

    def compared(self, prepared: PreparedBatch) -> Compared:
        """Ask Tidepool, once for each device."""
        self._rows.begin_showing()
        for device_id in self._asked_for():
            for datum in self._shown_of(device_id):
                self._hold_against(datum)
        becomes = self._rows.becomes()
        return Compared(
            new=becomes.get("new", {}),
            same=becomes.get("same", {}),
            other=becomes.get("other", {}),
            archived=self._rows.hidden(),
            deleted=self._deleted() if prepared.travelling else 0,
            untold=self._untold,
        )

    def _asked_for(self) -> list[str | None]:
        if len(self._devices) > DEVICES_ASKED_FOR:
            return [None]
        return sorted(self._devices)  # type: ignore[return-value]  # a list of names

    def _shown_of(self, device_id: str | None) -> Iterator[dict[str, Any]]:
        start, end = moments_of(self._days[0], self._days[-1])
        return self._client.read_data(
            self._batch.user_id, device_id=device_id, types=sorted(self._types), start=start, end=end
        )

    def _hold_against(self, datum: Mapping[str, Any]) -> None:
        stamp = datum.get("_deduplicator")
        stamped = digest_of(str(stamp.get("hash"))) if isinstance(stamp, dict) else None
        hideable = stamped is not None and self._rows.has(stamped)
        # Only what a deduplicator has stamped can be hidden; the same record may be there without a stamp.
        identity = stamped if hideable else self._identity(datum)
        if identity is not None and (hideable or self._rows.has(identity)):
            hidden = (
                hideable
                and self._deduplicator.at_close is AtClose.ARCHIVES_EQUAL
                and datum.get("deviceId") == self._batch.device_id
            )
            self._rows.add_shown(str(datum.get("type")), identity, content_of(datum), hidden=hidden)

    def _deleted(self) -> int:
        """Count what the deduplicator would delete: all that Tidepool has of the device."""
        if self._deduplicator.at_close is not AtClose.DELETES_ALL:
            return 0
        shown = self._client.read_data(self._batch.user_id, device_id=self._batch.device_id)
        return sum(datum.get("type") != "upload" for datum in shown)
