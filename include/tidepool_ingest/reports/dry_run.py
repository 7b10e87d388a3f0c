"""Compare a prepared batch with what Tidepool shows of its user and devices; read-only, nothing is opened."""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict
from upath import UPath

from tidepool_ingest.client import ClientSettings, TidepoolClient, TidepoolError
from tidepool_ingest.deep_json import loads
from tidepool_ingest.digests import digest_of
from tidepool_ingest.ledger import BatchRow
from tidepool_ingest.model import NoIdentityError, content_of, identity_hash, stored_form
from tidepool_ingest.model.deduplicators import AtClose, Deduplicator
from tidepool_ingest.prepare.days import utc_day
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import Chunk, PreparedBatch, WorkArea
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import UploadContext, data_set_body, deduplicator_of
from tidepool_ingest.window import moments_of

log = logging.getLogger(__name__)

COLUMNS = ("type", "new", "already there", "there, other content", "would be archived")
"""Headings of :meth:`DryRunTotals.rows`."""

MAX_DEVICE_QUERIES = 5
"""Up to this many devices of a batch, Tidepool is queried for each; if there are more, for the whole user."""

MEMORY_KIB: Final = 16 * 1024
"""What the tables may take in memory; the rest is in a file without a name, which nobody else can open."""


class DryRunDiff(BaseModel):
    """One batch compared with what Tidepool shows now. The numbers are of rows, as Tidepool keeps them.

    :param new: rows of the batch that Tidepool does not show, by type.
    :param same: rows that it shows with the same content, by type.
    :param other: rows that it shows with other content, by type.
    :param archived: rows that it shows now and that closing the batch's data set would archive, by type.
    :param deleted: rows that it shows now and that the batch's data set would delete for good.
    :param untold: rows of the batch without a device id, which cannot be looked up.
    """

    model_config = ConfigDict(frozen=True)

    new: dict[str, int] = {}
    same: dict[str, int] = {}
    other: dict[str, int] = {}
    archived: dict[str, int] = {}
    deleted: int = 0
    untold: int = 0


@dataclass
class DryRunTotals:
    """Totals of batches compared with what Tidepool shows now.

    :param batches: how many batches were compared.
    :param left_out: how many could not be, by the code of the cause.
    """

    batches: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    archived: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    untold: int = 0

    def add(self, compared: DryRunDiff) -> None:
        """Add a batch that was compared."""
        self.batches += 1
        for name in ("new", "same", "other", "archived"):
            getattr(self, name).update(getattr(compared, name))
        self.deleted += compared.deleted
        self.untold += compared.untold

    def compare(self, row: BatchRow, context_of: Callable[[], UploadContext]) -> None:
        """Compare a prepared batch with what Tidepool shows, and add it.

        A dry run is useful without Tidepool, too: an error of Tidepool's is logged and counted.

        :param row: the batch.
        :param context_of: returns the context of the batch's connection; its ledger knows which of the
            batch's records Tidepool has rejected before.
        """
        try:
            context = context_of()
            client, settings, root = context.client, context.settings, context.root
            if root is None:
                raise ValueError("this operation needs the staging root")
            rejected = {
                unit.content_key: context.ledger.rejections.of_batch(unit.id).keys()
                for unit in (row, *context.ledger.parts.of_batch(row.id))
            }
            compared = context.with_work_area(
                row, lambda: compare_batch(client, settings, root, row, rejected=rejected)
            )
        except TidepoolError as error:
            log.warning("%s is not compared with what Tidepool shows: %s", row.label, error)
            self.left_out[error.code] += 1
            return
        self.add(compared)
        single = DryRunTotals()
        single.add(compared)
        log.info("%s: %s", row.label, " ".join(single.sentences()))

    def add_summary(self, summary: Mapping[str, Any]) -> None:
        """Add other totals.

        :param summary: totals as :meth:`summary` returns them.
        """
        self.batches += summary["batches"]
        for name in ("left_out", "new", "same", "other", "archived"):
            getattr(self, name).update(summary[name])
        self.deleted += summary["deleted"]
        self.untold += summary["untold"]

    def rows(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield the rows of a table with the headings :data:`COLUMNS`."""
        for kind in sorted({*self.new, *self.same, *self.other, *self.archived}):
            yield kind, self.new[kind], self.same[kind], self.other[kind], self.archived[kind]

    def sentences(self) -> list[str]:
        """Return the totals, and what was not compared, as sentences."""
        parts = []
        if self.batches:
            parts.append(
                f"Of {counted(self.batches, 'batch')}, compared with what Tidepool shows now, "
                f"{counted(self.new.total(), 'row')} would be new; {self.same.total()} already there, "
                f"{self.other.total()} there with other content."
            )
            parts.append(f"It would archive {counted(self.archived.total(), 'row')} that it shows now.")
        if self.deleted:
            parts.append(f"It would delete {counted(self.deleted, 'row')} of the devices for good.")
        if self.untold:
            parts.append(f"{counted(self.untold, 'row')} without a device id not looked up.")
        if self.left_out:
            named = ", ".join(f"{count} {code}" for code, count in sorted(self.left_out.items()))
            parts.append(
                f"{counted(self.left_out.total(), 'batch')} not compared with Tidepool ({named}): the logs "
                "of the tasks say why."
            )
        return parts or ["No batch was compared with Tidepool."]

    def summary(self) -> dict[str, Any]:
        """Return the numbers for XCom."""
        counted: dict[str, Mapping[str, int]] = {
            "left_out": self.left_out,
            "new": self.new,
            "same": self.same,
            "other": self.other,
            "archived": self.archived,
        }
        plain = {name: dict(counts) for name, counts in counted.items()}
        return {"batches": self.batches, **plain, "deleted": self.deleted, "untold": self.untold}


_TABLES: Final = """
CREATE TABLE own (type TEXT, identity INTEGER, content INTEGER);
CREATE TABLE shown (type TEXT, identity INTEGER, content INTEGER, hidden INTEGER);
"""

_BECOMES: Final = """
SELECT type, CASE
  WHEN NOT EXISTS (SELECT 1 FROM shown WHERE shown.identity = own.identity) THEN 'new'
  WHEN EXISTS (SELECT 1 FROM shown WHERE shown.identity = own.identity AND shown.content = own.content)
    THEN 'same'
  ELSE 'other' END AS becomes, count(*)
FROM own GROUP BY type, becomes
"""


class Rows:
    """Digests and types of rows, without their contents; to be used in a ``with`` statement.

    First, every row of the batch is added, then those that Tidepool shows.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute(f"PRAGMA cache_size = -{MEMORY_KIB}")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._database.close()

    def add_own(self, rows: Iterable[tuple[str, int, int]]) -> None:
        """Add rows of the batch: type, identity and content of each."""
        self._database.executemany("INSERT INTO own VALUES (?, ?, ?)", rows)

    def begin_showing(self) -> None:
        """End the batch's rows: from now on, rows that Tidepool shows can be added."""
        self._database.execute("CREATE INDEX own_identity ON own (identity)")
        self._database.execute("CREATE INDEX shown_identity ON shown (identity)")

    def has(self, identity: int) -> bool:
        """Return whether a row of the batch has an identity."""
        query = "SELECT 1 FROM own WHERE identity = ? LIMIT 1"
        return self._database.execute(query, (identity,)).fetchone() is not None

    def add_shown(self, kind: str, identity: int, content: int, *, hidden: bool) -> None:
        """Add a row that Tidepool shows, with an identity that the batch has.

        :param hidden: whether closing the batch's data set would archive it.
        """
        self._database.execute("INSERT INTO shown VALUES (?, ?, ?, ?)", (kind, identity, content, hidden))

    def becomes(self) -> dict[str, dict[str, int]]:
        """Return how many of the batch's rows are ``new``, or there with ``same`` or ``other`` content."""
        found: dict[str, dict[str, int]] = {}
        for kind, becomes, count in self._database.execute(_BECOMES):
            found.setdefault(becomes, {})[kind] = count
        return found

    def hidden(self) -> dict[str, int]:
        """Return how many of the rows that Tidepool shows would be archived, by type."""
        query = "SELECT type, count(*) FROM shown WHERE hidden GROUP BY type"
        return dict(self._database.execute(query).fetchall())


def compare_batch(
    client: TidepoolClient,
    settings: ClientSettings,
    root: UPath,
    row: BatchRow,
    *,
    rejected: Mapping[str, Collection[int]] | None = None,
) -> DryRunDiff:
    """Return which rows of a prepared batch Tidepool shows already, and which rows it would archive for them.

    Both sides are read once, as streams, and kept as digests.

    :param client: the client.
    :param settings: the settings of its connection.
    :param root: the staging root, which holds the batch's work area.
    :param row: the batch.
    :param rejected: ordinals, among the accepted records, of those that Tidepool has rejected before, by the
        content key of the batch or part that holds them.
    :raises TidepoolError: if Tidepool does not answer, or does not let the account see the user's data.
    :raises BatchError: if the work area is missing or damaged.
    """
    work = WorkArea(root, row.content_key)
    prepared = work.load()
    if prepared is None:
        raise BatchError("work-area-damaged", detail="it does not exist")
    deduplicator = deduplicator_of(data_set_body(prepared.data_set, settings))
    with Rows() as rows:
        comparison = _BatchComparison(client, row, deduplicator, rows)
        for area, plan in work.areas_with_records(prepared):
            left_out = (rejected or {}).get(area.content_key, ())
            for chunk in plan.chunks:
                comparison.add(_stored_rows(area, chunk, left_out))
        return comparison.compared(prepared)


def _stored_rows(work: WorkArea, chunk: Chunk, rejected: Collection[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows that Tidepool would make of a chunk's records."""
    for ordinal, line in enumerate(work.read_chunk(chunk), chunk.first_record):
        if ordinal not in rejected:
            yield from stored_form(loads(line))


class _BatchComparison:
    """The comparison of one batch."""

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

    def add(self, stored: Iterator[Mapping[str, Any]]) -> None:
        """Add rows of the batch."""
        self._rows.add_own(self._digests(stored))

    def _digests(self, stored: Iterator[Mapping[str, Any]]) -> Iterator[tuple[str, int, int]]:
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
            scope = row.get("deviceId") or None
            return digest_of(identity_hash(row, user_id=self._batch.user_id, scope=scope))
        except NoIdentityError:
            return None

    def compared(self, prepared: PreparedBatch) -> DryRunDiff:
        """Query Tidepool, once for each device, and return the result."""
        self._rows.begin_showing()
        for device_id in self._devices_to_query():
            for datum in self._shown_of(device_id):
                self._compare(datum)
        becomes = self._rows.becomes()
        return DryRunDiff(
            new=becomes.get("new", {}),
            same=becomes.get("same", {}),
            other=becomes.get("other", {}),
            archived=self._rows.hidden(),
            deleted=self._deleted() if prepared.travelling else 0,
            untold=self._untold,
        )

    def _devices_to_query(self) -> list[str | None]:
        if len(self._devices) > MAX_DEVICE_QUERIES:
            return [None]
        return sorted(self._devices)  # type: ignore[return-value]  # a list of names

    def _shown_of(self, device_id: str | None) -> Iterator[dict[str, Any]]:
        start, end = moments_of(self._days[0], self._days[-1])
        return self._client.read_data(
            self._batch.user_id, device_id=device_id, types=sorted(self._types), start=start, end=end
        )

    def _compare(self, datum: Mapping[str, Any]) -> None:
        stamp = datum.get("_deduplicator")
        stamped = digest_of(str(stamp.get("hash"))) if isinstance(stamp, dict) else None
        hideable = stamped is not None and self._rows.has(stamped)
        # Only what a deduplicator has stamped can be archived; the same record may exist without a stamp.
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
