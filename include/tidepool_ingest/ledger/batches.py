"""What the ledger knows of staged batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Select, and_, insert, select, update

from tidepool_ingest.ledger.database import Database, once_more_if_met
from tidepool_ingest.ledger.errors import UnknownBatchError
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.part_rows import IS_WHOLE, may_hold_data, move_parts, replace_parts
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.states import IN_ITS_PLACE, BatchState

T = TypeVar("T")

KEYS_A_QUERY = 500
"""Content keys asked for at once; SQLite takes 32,766 variables in a statement, older ones 999."""

NEVER_OPENED = (BatchState.PLANNED, BatchState.PREPARED, BatchState.HELD, BatchState.FAILED)
"""States in which other content in the same folder takes a batch's place."""


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


@dataclass(frozen=True, kw_only=True)
class BatchRow(FoundBatch):
    """One row of the table ``batches``. Counts are ``None`` until ``prepare`` has made them."""

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
    created_at: datetime
    updated_at: datetime


class Batches:
    """The table of staged batches.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, found: FoundBatch) -> BatchRow:
        """Note a ready batch, or return what is known of its content already.

        The same content staged in another folder is the same batch: it keeps its row and its history.

        :param found: the batch as it lies in staging.
        """
        return once_more_if_met(lambda: self._note(found))

    def _note(self, found: FoundBatch) -> BatchRow:
        with self._database.writing() as connection:
            now = datetime.now(UTC)
            connection.execute(
                update(batches)
                .where(
                    batches.c.api_host == found.api_host,
                    batches.c.folder == found.folder,
                    batches.c.content_key != found.content_key,
                    batches.c.state.in_(NEVER_OPENED),
                    IS_WHOLE,
                    ~may_hold_data(),
                )
                .values(state=BatchState.REPLACED, updated_at=now)
            )
            replace_parts(connection, found.api_host, found.folder, now)
            known = _by_content(connection, found.api_host, found.content_key)
            if known is None:
                values = {**vars(found), "state": BatchState.PLANNED, "created_at": now, "updated_at": now}
                connection.execute(insert(batches).values(values))
            elif known.state is BatchState.REPLACED or (
                not known.state.is_done and known.folder != found.folder
            ):
                moved = {
                    "folder": found.folder,
                    "batch_id": found.batch_id,
                    "day": found.day,
                    "label": found.label,
                }
                move_parts(connection, known.id, moved, now)
                if known.state is BatchState.REPLACED:
                    moved["state"] = BatchState.PLANNED  # its content lies in staging once more
                connection.execute(
                    update(batches).where(batches.c.id == known.id).values(**moved, updated_at=now)
                )
            else:
                return known
            noted = _by_content(connection, found.api_host, found.content_key)
        assert noted is not None
        return noted

    def get(self, batch: int) -> BatchRow:
        """Return one batch.

        :raises UnknownBatchError: if there is none of that number.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(batches).where(batches.c.id == batch)).one_or_none()
        if row is None:
            raise UnknownBatchError(batch)
        return batch_row(row)

    def get_all(self, numbers: Sequence[int]) -> list[BatchRow]:
        """Return the batches of these numbers that the ledger has, by number."""
        found: list[BatchRow] = []
        with self._database.reading() as connection:
            for part in parts(numbers):
                asked = select(batches).where(batches.c.id.in_(part)).order_by(batches.c.id)
                found += [batch_row(row) for row in connection.execute(asked)]
        return found

    def of_contents(self, api_host: str, content_keys: Sequence[str]) -> dict[str, BatchRow]:
        """Return what the ledger knows of these contents at this host, by content key.

        :param api_host: the host of the Tidepool API that they go to.
        :param content_keys: keys of ready batches.
        """
        found: dict[str, BatchRow] = {}
        with self._database.reading() as connection:
            for part in parts(content_keys):
                asked = select(batches).where(batches.c.api_host == api_host, batches.c.content_key.in_(part))
                found.update((row.content_key, batch_row(row)) for row in connection.execute(asked))
        return found

    def namesakes(self, api_host: str, user_id: str, batch_id: str) -> list[BatchRow]:
        """Return what the ledger knows under one user's batch id, whatever its content; parts excepted."""
        named = and_(batches.c.api_host == api_host, batches.c.user_id == user_id)
        asked = select(batches).where(named, batches.c.batch_id == batch_id, IS_WHOLE)
        with self._database.reading() as connection:
            return [batch_row(row) for row in connection.execute(asked)]

    def set_state(
        self, batch: int, state: BatchState, *, reason: str | None = None, lease: Lease | None = None
    ) -> None:
        """Note where a batch stands now.

        :param batch: its number.
        :param state: the new state.
        :param reason: code of the error or guard, for a batch that stopped.
        :param lease: the claim under which this is written.
        """
        self._set(batch, lease, state=state, reason=reason)

    def begin_upload(self, batch: int, *, lease: Lease | None = None) -> bool:
        """Note that a batch is being uploaded, unless another one shows in its place.

        :param batch: its number.
        :param lease: the claim under which this is written.
        :return: whether it may be uploaded.
        """
        with writing_under(self._database, lease) as connection:
            begun = connection.execute(
                update(batches)
                .where(batches.c.id == batch, batches.c.state.not_in(IN_ITS_PLACE))
                .values(state=BatchState.UPLOADING, reason=None, updated_at=datetime.now(UTC))
            )
        return bool(begun.rowcount)

    def set_counts(self, batch: int, **counts: int) -> None:
        """Note what became of a batch's records.

        :param batch: its number.
        :param counts: ``staged``, ``accepted``, ``quarantined``, ``identical``, ``expected_rows``,
            ``chunks``.
        """
        self._set(batch, None, **counts)

    def note_cut(self, batch: int, part_records: int | None) -> None:
        """Note how many records a part of a batch holds at most; nothing for one that stays whole."""
        self._set(batch, None, part_records=part_records)

    def note_replaced(self, batch: int, replaces: int | None) -> None:
        """Note which batch another one replaces.

        :param batch: the number of the one that replaces.
        :param replaces: the number of the one that is replaced, if any.
        """
        self._set(batch, None, replaces=replaces)

    def _set(self, batch: int, lease: Lease | None, **values: Any) -> None:
        with writing_under(self._database, lease) as connection:
            changed = (
                update(batches).where(batches.c.id == batch).values(**values, updated_at=datetime.now(UTC))
            )
            connection.execute(changed)


def _by_content(connection: Connection, api_host: str, content_key: str) -> BatchRow | None:
    asked: Select[Any] = select(batches).where(
        batches.c.api_host == api_host, batches.c.content_key == content_key
    )
    row = connection.execute(asked).one_or_none()
    return None if row is None else batch_row(row)


def batch_row(row: Any) -> BatchRow:
    """Return a row of the table as what stands for it."""
    values = dict(row._mapping)
    return BatchRow(**{**values, "state": BatchState(values["state"])})


def parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    """Yield some values in parts that one statement can ask for."""
    for start in range(0, len(items), KEYS_A_QUERY):
        yield items[start : start + KEYS_A_QUERY]
