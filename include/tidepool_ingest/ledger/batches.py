"""What the ledger knows of staged batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache, partial
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, insert, not_, or_, select, update

from tidepool_ingest.ledger.database import (
    Database,
    UnknownBatchError,
    batched,
    distinct,
    now_of,
    retry_on_conflict,
)
from tidepool_ingest.ledger.device_days import extend_spans
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import NOW, batches
from tidepool_ingest.ledger.states import (
    DECLINED,
    SUPERSEDED_STATES,
    WAITING_STATES,
    BatchState,
    Decidable,
    Dismissal,
    Purged,
    check_batch_state,
)
from tidepool_ingest.ledger.transitions import is_decided, write_state_of
from tidepool_ingest.ledger.whole_batches import (
    IS_WHOLE,
    NEVER_OPENED,
    RESTAGEABLE,
    holding_data,
    move_parts,
    overwrite_parts,
)

LONG_AGO = datetime.min.replace(tzinfo=UTC)
"""Stands for when a batch was staged whose manifest does not say."""

ORDER_COLUMNS = (batches.c.day, batches.c.staged_at, batches.c.batch_id)
"""The columns that the order of a device's batches depends on."""


def order_key_of(row: Any) -> tuple[date, datetime, str]:
    """Return what a batch is ordered by, to be compared here: a database orders texts by its own collation.

    :param row: a batch, or a row that has the columns :data:`ORDER_COLUMNS`.
    """
    return row.day, row.staged_at or LONG_AGO, row.batch_id


@dataclass(frozen=True, kw_only=True)
class FoundBatch:
    """A ready batch as ``plan`` found it, before the ledger knows it."""

    api_host: str
    content_key: str
    user_id: str = field(repr=False)
    batch_id: str = field(repr=False)
    day: date
    folder: str = field(repr=False)
    label: str
    connection: str | None = None
    device_id: str | None = field(default=None, repr=False)
    data_set_type: str = "normal"
    staged_at: datetime | None = None

    @property
    def order_key(self) -> tuple[date, datetime, str]:
        """What orders the batches of a device, the oldest first: they are uploaded in this order.

        Its day folder, then when it was staged, as far as its manifest says so, then its batch id.
        """
        return order_key_of(self)


@dataclass(frozen=True, kw_only=True)
class BatchRow(FoundBatch, Decidable):
    """One row of the table ``batches``.

    Counts and key are ``None`` until ``prepare`` has counted; zones, formats and device until it has read.
    """

    id: int
    state: BatchState
    reason: str | None
    replaces: int | None
    part_of: int | None
    part: int | None
    part_records: int | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    expected_rows: int | None
    chunks: int | None
    purged: Purged | None
    missed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    device_key: str | None = field(default=None, repr=False)
    zones: str | None = field(default=None, repr=False)
    formats: str | None = None
    device: str | None = None
    reason_detail: str | None = None
    stopped_in: str | None = None
    dismissed: Dismissal | None = None


@dataclass(frozen=True)
class KnownBatch(Decidable):
    """The state and folder of a batch: all that a plan needs to know about one that is done.

    :param id: its number.
    """

    id: int
    state: BatchState
    reason: str | None
    folder: str = field(repr=False)
    dismissed: Dismissal | None = None


def batch_row(row: Any) -> BatchRow:
    """Return a row of the table as the database gives it."""
    values = {**row._mapping, "state": BatchState(row.state)}
    values["purged"] = row.purged and Purged(row.purged)
    values["dismissed"] = row.dismissed and Dismissal(row.dismissed)
    return BatchRow(**values)


_ONE = select(batches).where(batches.c.id == bindparam("number"))
_NAMESAKES = select(batches).where(
    batches.c.api_host == bindparam("host"),
    batches.c.user_id == bindparam("user"),
    batches.c.batch_id == bindparam("name"),
    IS_WHOLE,
)

NAMES_PER_QUERY = 200
"""Pairs of user and batch id per query."""

_STOPPED = ("reason", "reason_detail", "stopped_in")
_MOVED = ("folder", "batch_id", "day", "staged_at", "label", "state", *_STOPPED)
"""What registering a known batch again may change."""

_Content = tuple[str, str]
_Folder = tuple[str, str]


def _what_ends(row: Mapping[str, Any]) -> dict[str, None]:
    """Return what is no longer said of a batch whose content is in staging once more.

    What a person has decided outlasts that.
    """
    decided = row.get("dismissed") or row.get("reason") == DECLINED
    return {} if decided or "id" not in row else dict.fromkeys(_STOPPED)


class BatchRegistrar:
    """Registers ready batches in one transaction: reads what is there, then writes what differs.

    In between, the rules run in memory, batch by batch in their order: each sees the effects of earlier ones.

    :param connection: a transaction that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now = now_of(connection)
        self._known: dict[_Content, dict[str, Any]] = {}
        self._in_folder: dict[_Folder, set[_Content]] = {}
        self._hold_data: set[int] = set()
        self._changed: dict[_Content, None] = {}
        self._moved: set[int] = set()
        self._new: list[_Content] = []

    def register(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Register batches; return them as the ledger has them now, in the same order.

        :param found: the batches as they are in staging.
        """
        for row in self._existing(found):
            self._take(vars(row))
        self._find_data()
        for batch in found:
            self._overwrite_others(batch)
            self._register_one(batch)
        self._write()
        registered = {(row.api_host, row.content_key): row for row in self._by_content(found)}
        new = {*self._new, *self._changed}
        extend_spans(self._connection, [row for content, row in registered.items() if content in new])
        return [registered[batch.api_host, batch.content_key] for batch in found]

    # ---------------------------------------------------------------- what is there

    def _existing(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Return the rows with the content or the folder of any of these, locked for this transaction."""
        numbers = {row.id for row in self._by_content(found)} | set(self._by_folder(found))
        rows: list[BatchRow] = []
        for batch_of_ids in batched(sorted(numbers)):
            locked = (
                select(batches).where(batches.c.id.in_(batch_of_ids)).order_by(batches.c.id).with_for_update()
            )
            rows += [batch_row(row) for row in self._connection.execute(locked)]
        return rows

    def _by_content(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        rows: list[BatchRow] = []
        for host in sorted({batch.api_host for batch in found}):
            for batch_of_ids in batched(
                sorted({batch.content_key for batch in found if batch.api_host == host})
            ):
                query = select(batches).where(
                    batches.c.api_host == host, batches.c.content_key.in_(batch_of_ids)
                )
                rows += [batch_row(row) for row in self._connection.execute(query)]
        return rows

    def _by_folder(self, found: Sequence[FoundBatch]) -> list[int]:
        # A folder ends in user and batch id, which an index finds.
        numbers: list[int] = []
        for host in sorted({batch.api_host for batch in found}):
            on_host = [batch for batch in found if batch.api_host == host]
            for start in range(0, len(on_host), NAMES_PER_QUERY):
                queried = on_host[start : start + NAMES_PER_QUERY]
                # Each pair is a condition of its own, for which both databases use the index.
                names = [
                    and_(
                        batches.c.api_host == host,
                        batches.c.user_id == batch.user_id,
                        batches.c.batch_id == batch.batch_id,
                    )
                    for batch in queried
                ]
                # The state is no condition: SQLite, which has no row statistics, would use that index.
                query = select(batches.c.id, batches.c.state).where(
                    or_(*names), batches.c.folder.in_([batch.folder for batch in queried]), IS_WHOLE
                )
                rows = self._connection.execute(query)
                numbers += [number for number, state in rows if BatchState(state) in NEVER_OPENED]
        return numbers

    def _find_data(self) -> None:
        """Find out of which batches that could be overwritten Tidepool may hold data."""
        candidates = [
            row["id"] for row in self._known.values() if row["state"] in (*NEVER_OPENED, *RESTAGEABLE)
        ]
        self._hold_data = holding_data(self._connection, candidates)

    def _take(self, row: dict[str, Any]) -> None:
        content = row["api_host"], row["content_key"]
        self._known[content] = dict(row)
        self._in_folder.setdefault((row["api_host"], row["folder"]), set()).add(content)

    # ---------------------------------------------------------------- the rules

    def _overwrite_others(self, found: FoundBatch) -> None:
        """Mark as overwritten what was in the batch's folder before, if no data set was opened for it."""
        for content in self._in_folder.get((found.api_host, found.folder), ()):
            row = self._known[content]
            is_other = row["content_key"] != found.content_key
            if is_other and row["state"] in NEVER_OPENED and row.get("id") not in self._hold_data:
                self._change(row, state=BatchState.OVERWRITTEN)

    def _register_one(self, found: FoundBatch) -> None:
        content = found.api_host, found.content_key
        known = self._known.get(content)
        if known is None:
            self._take({**vars(found), "state": BatchState.PLANNED, "created_at": self._now})
            self._new.append(content)
        elif known["state"] in RESTAGEABLE:
            # Its content is in staging once more.
            self._move(known, found, state=BatchState.PLANNED, **_what_ends(known))
        elif not known["state"].is_done and any(
            known[name] != getattr(found, name) for name in ("folder", "staged_at", "label")
        ):
            self._move(known, found)

    def _move(self, row: dict[str, Any], found: FoundBatch, **values: Any) -> None:
        content = row["api_host"], row["content_key"]
        self._in_folder[row["api_host"], row["folder"]].discard(content)
        self._in_folder.setdefault((found.api_host, found.folder), set()).add(content)
        place = {name: getattr(found, name) for name in ("batch_id", "day", "staged_at", "label")}
        self._change(row, folder=found.folder, **place, **values)
        if "id" in row:
            self._moved.add(row["id"])

    def _change(self, row: dict[str, Any], **values: Any) -> None:
        if "state" in values:
            check_batch_state(row["state"], values["state"], is_part=row.get("part_of") is not None)
        row.update(values)
        self._changed[row["api_host"], row["content_key"]] = None

    # ---------------------------------------------------------------- what differs

    def _write(self) -> None:
        new = set(self._new)
        rows = [self._known[content] for content in self._changed if content not in new]
        if rows:
            values = [{"number": row["id"], **{name: row[name] for name in _MOVED}} for row in rows]
            changed = update(batches).where(batches.c.id == bindparam("number"))
            self._connection.execute(changed.values(updated_at=self._now), values)
            self._update_parts(rows)
        if new:
            inserted = [{**self._known[content], "updated_at": self._now} for content in self._new]
            self._connection.execute(insert(batches), inserted)

    def _update_parts(self, rows: Sequence[dict[str, Any]]) -> None:
        overwritten = [row["id"] for row in rows if row["state"] is BatchState.OVERWRITTEN]
        for batch_of_ids in batched(overwritten):
            overwrite_parts(self._connection, batch_of_ids, self._now)
        for batch_of_ids in batched(sorted(self._moved)):
            cut = select(batches.c.part_of).where(batches.c.part_of.in_(batch_of_ids)).distinct()
            wholes = set(self._connection.scalars(cut))
            for row in rows:
                if row["id"] in wholes:
                    move_parts(self._connection, row["id"], row, self._now)


BATCHES_PER_TRANSACTION = 300
"""Batches registered per transaction: few enough that other writers need not wait long."""

MAX_CONFLICTS = 20
"""Retries on a conflict with others that register the same batches: each time, fewer remain."""


class Batches:
    """The table of staged batches.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, found: FoundBatch) -> BatchRow:
        """Register a ready batch, or return the batch that the ledger already has with its content.

        The same content staged in another folder is the same batch: it keeps its row and its history.

        :param found: the batch as it is in staging.
        """
        return self.register_all([found])[0]

    def register_all(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Register ready batches as :meth:`register` does one by one, hundreds per transaction.

        :param found: the batches as they are in staging.
        :return: the batches in the same order.
        """
        registered: list[BatchRow] = []
        for start in range(0, len(found), BATCHES_PER_TRANSACTION):
            write = partial(self._register, found[start : start + BATCHES_PER_TRANSACTION])
            registered += retry_on_conflict(write, MAX_CONFLICTS)
        return registered

    def _register(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        with self._database.writing() as connection:
            return BatchRegistrar(connection).register(found)

    def get(self, batch: int) -> BatchRow:
        """Return one batch.

        :raises UnknownBatchError: if there is none of that number.
        """
        with self._database.reading() as connection:
            row = connection.execute(_ONE, {"number": batch}).one_or_none()
        if row is None:
            raise UnknownBatchError(batch)
        return batch_row(row)

    def get_all(self, numbers: Sequence[int]) -> list[BatchRow]:
        """Return those batches of these numbers that the ledger has, by number."""
        found: list[BatchRow] = []
        with self._database.reading() as connection:
            for batch_of_ids in batched(numbers):
                query = select(batches).where(batches.c.id.in_(batch_of_ids)).order_by(batches.c.id)
                found += [batch_row(row) for row in connection.execute(query)]
        return found

    def of_contents(self, api_host: str, content_keys: Sequence[str]) -> dict[str, KnownBatch]:
        """Return the state and folder of the batches of these contents at this host, by content key.

        :param api_host: the host of the Tidepool API that they go to.
        :param content_keys: keys of ready batches.
        """
        found: dict[str, KnownBatch] = {}
        names = ("content_key", "id", "state", "reason", "folder", "dismissed")
        columns = [batches.c[name] for name in names]
        with self._database.reading() as connection:
            for batch_of_ids in batched(content_keys):
                wanted = and_(batches.c.api_host == api_host, batches.c.content_key.in_(batch_of_ids))
                rows = connection.execute(select(*columns).where(wanted))
                for key, number, state, reason, folder, dismissed in rows:
                    why = dismissed and Dismissal(dismissed)
                    found[key] = KnownBatch(number, BatchState(state), reason, folder, why)
        return found

    def days(self) -> list[date]:
        """Return the staged days of all batches, oldest first."""
        with self._database.reading() as connection:
            return distinct(connection, batches.c.day)

    def days_waiting(self) -> set[date]:
        """Return the staged days of whole batches that wait for a run: not done, and nobody has decided."""
        waits = and_(batches.c.state.in_(WAITING_STATES), not_(is_decided()))
        with self._database.reading() as connection:
            return set(connection.scalars(select(batches.c.day).where(IS_WHOLE, waits).distinct()))

    def namesakes(self, api_host: str, user_id: str, batch_id: str) -> list[BatchRow]:
        """Return the whole batches that have one user's batch id, whatever their content."""
        given = {"host": api_host, "user": user_id, "name": batch_id}
        with self._database.reading() as connection:
            return [batch_row(row) for row in connection.execute(_NAMESAKES, given)]

    def knows_replacement_of(self, batch: int) -> bool:
        """Return whether the ledger knows which batch replaced another one.

        :param batch: the number of the replaced batch.
        """
        replaced = batches.alias()
        # By user, for which there is an index.
        query = (
            select(batches.c.id)
            .join(
                replaced,
                and_(replaced.c.api_host == batches.c.api_host, replaced.c.user_id == batches.c.user_id),
            )
            .where(replaced.c.id == batch, batches.c.replaces == batch)
        )
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def mark_prepared(self, batch: int) -> None:
        """Record that the work area of a batch is complete, and that Tidepool holds nothing of it.

        :param batch: its number, here and below.
        :raises IllegalTransitionError: its present state does not allow this, here and below.
        """
        self._move(batch, BatchState.PREPARED)

    def mark_nothing_accepted(self, batch: int, *, lease: Lease | None = None) -> None:
        """Record that no record of a batch remains to be uploaded.

        :param lease: the lease under which this is written, here and below.
        """
        self._move(batch, BatchState.NOTHING_ACCEPTED, lease=lease)

    def hold(self, batch: int, reason: str, detail: str = "", *, lease: Lease | None = None) -> None:
        """Record that a guard has stopped a batch.

        :param reason: the guard's code.
        :param detail: where in the batch, and how often, here and below: positions and counts in words of
            this project, as :attr:`~tidepool_ingest.errors.IngestError.particulars` has them.
        """
        self._move(batch, BatchState.HELD, reason, detail, lease=lease)

    def decline(self, batch: int) -> None:
        """Record that a person does not want a batch to be uploaded as it is."""
        self._move(batch, BatchState.HELD, DECLINED)

    def approve(self, batch: int) -> None:
        """Record that a person wants a batch to be uploaded, even if another one has declined it before."""
        with self._database.writing() as connection:
            declined = and_(batches.c.id == batch, batches.c.reason == DECLINED)
            connection.execute(update(batches).where(declined).values(reason=None))
            write_state_of(connection, batch, BatchState.PREPARED, reason=None)

    def mark_failed(
        self, batch: int, reason: str | None, detail: str = "", *, lease: Lease | None = None
    ) -> None:
        """Record that the last attempt has ended with an error, and that Tidepool holds nothing of it.

        :param reason: the error's code.
        """
        self._move(batch, BatchState.FAILED, reason, detail, lease=lease)

    def mark_unfinished(
        self, batch: int, reason: str, detail: str = "", *, lease: Lease | None = None
    ) -> None:
        """Record that the upload of a batch stopped when Tidepool held data of it that is not verified.

        :param reason: why, as a code.
        """
        self._move(batch, BatchState.UPLOADING, reason, detail, lease=lease)

    def mark_verified(self, batch: int, *, lease: Lease | None = None) -> None:
        """Record that what is visible of a batch is exactly its accepted records, each once."""
        self._move(batch, BatchState.VERIFIED, lease=lease)

    def set_reason(
        self, batch: int, reason: str | None, detail: str = "", *, lease: Lease | None = None
    ) -> None:
        """Record why a batch needs attention, or that it no longer does; its state stays.

        :param reason: the code of the cause.
        """
        ended = {"dismissed": None} if reason is None else {}
        told = {"reason": reason, "reason_detail": detail or None, "stopped_in": None}
        self._set(batch, lease, **told, **ended)

    def begin_upload(self, batch: int, *, lease: Lease | None = None) -> bool:
        """Record that a batch is being uploaded, unless another one has taken its place.

        :return: whether it may be uploaded.
        """
        with writing_under(self._database, lease) as connection:
            return write_state_of(
                connection, batch, BatchState.UPLOADING, unless=SUPERSEDED_STATES, reason=None
            )

    def _move(
        self,
        batch: int,
        state: BatchState,
        reason: str | None = None,
        detail: str = "",
        *,
        lease: Lease | None = None,
    ) -> None:
        with writing_under(self._database, lease) as connection:
            if not write_state_of(connection, batch, state, reason=reason, reason_detail=detail or None):
                raise UnknownBatchError(batch)

    def set_counts(self, batch: int, **counts: int | str | None) -> None:
        """Record what became of a batch's records; its work area is complete from now on.

        :param batch: its number.
        :param counts: ``staged``, ``accepted``, ``quarantined``, ``identical``, ``expected_rows``,
            ``chunks``; and ``device_key``, ``zones``, ``formats`` and ``device``, with which they go up.
        """
        self._set(batch, None, purged=None, **counts)

    def set_described(self, batch: int, *, zones: str | None, formats: str, device: str | None) -> None:
        """Record what is known of a batch that stops before its records are counted.

        :param batch: its number.
        :param zones: the zones that its local times were to be read in, as JSON.
        :param formats: the formats of its files, as JSON.
        :param device: what its manifest calls its device, as JSON.
        """
        self._set(batch, None, zones=zones, formats=formats, device=device)

    def set_split(self, batch: int, part_records: int | None) -> None:
        """Record how many records a part of a batch holds at most; ``None`` for one that stays whole."""
        self._set(batch, None, part_records=part_records)

    def set_replaces(self, batch: int, replaces: int | None) -> None:
        """Record which batch another one replaces.

        :param batch: the number of the replacing batch.
        :param replaces: the number of the replaced batch, if any.
        """
        self._set(batch, None, replaces=replaces)

    def _set(self, batch: int, lease: Lease | None, **values: Any) -> None:
        given = {f"new_{name}": value for name, value in values.items()}
        with writing_under(self._database, lease) as connection:
            connection.execute(_setting(*values), {"number": batch, **given})


@cache
def _setting(*names: str) -> Update:
    """Return the statement that writes these columns of a batch, made once."""
    given = {name: bindparam(f"new_{name}", type_=batches.c[name].type) for name in names}
    return update(batches).where(batches.c.id == bindparam("number")).values(**given, updated_at=NOW)
