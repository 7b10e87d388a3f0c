"""The ledger as people look at it: batches with their newest data sets, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, String, and_, exists, func, select, union
from sqlalchemy.ext.compiler import compiles

from tidepool_ingest.ledger.attention import CAN_WAIT, left_alone, needs_attention
from tidepool_ingest.ledger.database import Database, batched, distinct
from tidepool_ingest.ledger.device_days import DeviceDays
from tidepool_ingest.ledger.schema import DialectSpecific, batches, chunks, data_sets, device_spans
from tidepool_ingest.ledger.states import (
    TERMINAL_STATES,
    BatchState,
    ChunkState,
    DataSetState,
    Decidable,
    Dismissal,
)
from tidepool_ingest.ledger.stops import StoppedIn
from tidepool_ingest.ledger.whole_batches import IS_WHOLE, WHOLE


def _with_newest_set() -> Select[Any]:
    """Select batches and parts, each with its newest data set, as the fields of an upload."""
    others = data_sets.alias()
    newest = select(func.max(others.c.ordinal)).where(others.c.batch == batches.c.id).scalar_subquery()
    return select(
        batches.c.id.label("batch"),
        *(batches.c[name] for name in _OF_BATCH),
        data_sets.c.id.label("data_set"),
        data_sets.c.data_set_id.label("data_set_id"),
        data_sets.c.state.label("data_set_state"),
        *(data_sets.c[name] for name in _OF_DATA_SET),
    ).select_from(
        batches.outerjoin(data_sets, (data_sets.c.batch == batches.c.id) & (data_sets.c.ordinal == newest))
    )


@dataclass(frozen=True, kw_only=True)
class Upload(Decidable):
    """A batch with its newest data set, whose fields are ``None`` if it has none.

    ``chunks`` are planned, ``stored`` are those of the newest data set that Tidepool holds. Of a batch that
    is cut into ``parts``, the numbers of rows and of stored chunks are the sums of theirs, and the run is the
    one that worked on their newest data set; ``started`` is whether Tidepool may hold data of any of them.
    The user and the folder are read for an operator's terminal only: for a page they stay empty.
    """

    batch: int
    api_host: str
    label: str
    day: date
    data_set_type: str
    state: BatchState
    reason: str | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    chunks: int | None
    created_at: datetime
    updated_at: datetime
    data_set: int | None
    data_set_id: str | None
    data_set_state: str | None
    expected_rows: int | None
    visible_rows: int | None
    superseded_rows: int | None
    dag_id: str | None
    run_id: str | None
    map_index: int | None
    try_number: int | None
    opened_at: datetime | None
    verified_at: datetime | None
    part_of: int | None = None
    stopped_in: StoppedIn | None = None
    dismissed: Dismissal | None = None
    stored: int = 0
    parts: int = 0
    parts_ended: int = 0
    started: bool = False
    user_id: str = field(default="", repr=False)
    folder: str = field(default="", repr=False)

    @property
    def needs_attention(self) -> bool:
        """Whether a person has to see to it; :func:`.attention.needs_attention` is the same for queries."""
        return self.state in CAN_WAIT and bool(self.reason) and not self.is_decided


@dataclass(frozen=True, kw_only=True)
class UploadFilter:
    """Which uploads are looked for; what is ``None`` does not matter.

    :param state: a state of batches.
    :param first_day: oldest staged day.
    :param last_day: newest staged day.
    :param label: a part of the label, for example its short hash.
    :param dag_id: the DAG that worked on a data set of it.
    :param data_set_type: ``normal`` or ``continuous``.
    :param waiting: only those that need attention.
    :param decided: only those that a person has declined or dismissed, and that still are in staging.
    :param person: short hash of the user id.
    :param device: short hash of the device id; empty for batches of which no device is known.
    """

    state: BatchState | None = None
    first_day: date | None = None
    last_day: date | None = None
    label: str | None = None
    dag_id: str | None = None
    data_set_type: str | None = None
    waiting: bool = False
    decided: bool = False
    person: str | None = None
    device: str | None = None


class Uploads:
    """Batches and their newest data sets, as people look at them.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(
        self, wanted: UploadFilter, *, before: int | None = None, after: int | None = None, limit: int = 50
    ) -> list[Upload]:
        """Return a page of uploads, the newest batch first.

        :param wanted: which ones.
        :param before: only batches of a smaller number: the next page.
        :param after: the ``limit`` batches whose numbers follow this one: the page before.
        :param limit: how many at most.
        """
        conditions = [*_conditions(wanted), *self._of_device(wanted)]
        numbers = select(batches.c.id).where(IS_WHOLE, *conditions).limit(limit)
        if after is not None:
            numbers = numbers.where(batches.c.id > after).order_by(batches.c.id)
        else:
            numbers = numbers.order_by(batches.c.id.desc())
            if before is not None:
                numbers = numbers.where(batches.c.id < before)
        found: set[int] = set()
        with self._database.reading() as connection:
            for condition in _worked_on(wanted.dag_id):
                found.update(connection.scalars(numbers.where(*condition)))
            # Those that are nearest to where the page begins.
            nearest = sorted(found, reverse=after is None)[:limit]
            return _uploads(connection, sorted(nearest, reverse=True))

    def _of_device(self, wanted: UploadFilter) -> list[ColumnElement[bool]]:
        if wanted.person is None and wanted.device is None:
            return []
        ids = DeviceDays(self._database).identified(wanted.person, wanted.device)
        its = batches.alias()
        # By host and user, which an index leads to, and not by going through all batches from the newest on.
        of_them = select(its.c.id).where(
            its.c.api_host.in_(select(device_spans.c.api_host)),
            its.c.user_id.in_(sorted({user for user, _ in ids})),
            func.coalesce(its.c.device_id, "").in_(sorted({device for _, device in ids})),
        )
        return [batches.c.id.in_(of_them)]

    def last_changed(
        self, *, state: str | None = None, label_part: str | None = None, limit: int = 100
    ) -> list[Upload]:
        """Return uploads, the batch changed last first; parts beside their batch, each with its own data set.

        :param state: only batches in this state.
        :param label_part: only batches whose label contains this, for example its short hash.
        :param limit: how many at most.
        """
        with_person = _with_newest_set().add_columns(batches.c.user_id, batches.c.folder)
        query = with_person.order_by(batches.c.updated_at.desc(), batches.c.id.desc()).limit(limit)
        if state is not None:
            query = query.where(batches.c.state == state)
        if label_part is not None:
            query = query.where(batches.c.label.contains(label_part, autoescape=True))
        with self._database.reading() as connection:
            return _each(connection, connection.execute(query).all())

    def get_all(self, numbers: Sequence[int]) -> list[Upload]:
        """Return those uploads of these numbers that the ledger has, the newest batch first."""
        with self._database.reading() as connection:
            return _uploads(connection, numbers)

    def get(self, batch: int) -> Upload | None:
        """Return one upload, which may be a part, or nothing if there is no batch of that number."""
        with self._database.reading() as connection:
            found = _uploads(connection, [batch])
        return found[0] if found else None

    def of_parts(self, whole: int) -> list[Upload]:
        """Return the parts that a batch is cut into, in their order."""
        query = (
            select(batches.c.id)
            .where(batches.c.part_of == whole, batches.c.state != BatchState.OVERWRITTEN)
            .order_by(batches.c.part)
        )
        with self._database.reading() as connection:
            numbers = list(connection.scalars(query))
            found = {upload.batch: upload for upload in _uploads(connection, numbers)}
        return [found[number] for number in numbers]

    def by_state(self, since: datetime | None = None) -> dict[BatchState, int]:
        """Return how many batches are in each state.

        :param since: only those that have changed since.
        """
        query = select(batches.c.state, func.count()).where(IS_WHOLE).group_by(batches.c.state)
        if since is not None:
            query = query.where(batches.c.updated_at >= since)
        with self._database.reading() as connection:
            return {BatchState(state): number for state, number in connection.execute(query)}

    def waiting(self) -> int:
        """Return how many batches need attention."""
        query = select(func.count()).select_from(batches).where(IS_WHOLE, needs_attention())
        with self._database.reading() as connection:
            return connection.scalar(query) or 0

    def waiting_by_reason(self) -> dict[str, int]:
        """Return how many batches need attention, by the code of the cause."""
        query = (
            select(batches.c.reason, func.count())
            .where(IS_WHOLE, needs_attention())
            .group_by(batches.c.reason)
        )
        with self._database.reading() as connection:
            return {str(reason): number for reason, number in connection.execute(query)}

    def dags(self) -> list[str]:
        """Return the DAGs that have worked on data sets."""
        with self._database.reading() as connection:
            return distinct(connection, data_sets.c.dag_id)


class _AsciiCase(DialectSpecific[str]):
    """A text in which a search takes capitals for small letters from A to Z only, as SQLite does."""

    type = String()
    inherit_cache = True


@compiles(_AsciiCase, "postgresql")
def _without_locale(element: _AsciiCase, compiler: Any, **more: Any) -> str:
    # Looking each letter up in a locale takes as long as all the rest of a search through all labels.
    return f'{compiler.process(element.clauses, **more)} COLLATE "C"'


_LABEL = _AsciiCase(batches.c.label)


def _conditions(wanted: UploadFilter) -> list[ColumnElement[bool]]:
    conditions = []
    if wanted.state is not None:
        conditions.append(batches.c.state == wanted.state)
    if wanted.first_day is not None:
        conditions.append(batches.c.day >= wanted.first_day)
    if wanted.last_day is not None:
        conditions.append(batches.c.day <= wanted.last_day)
    if wanted.label is not None:
        conditions.append(_LABEL.icontains(wanted.label, autoescape=True))
    if wanted.data_set_type is not None:
        conditions.append(batches.c.data_set_type == wanted.data_set_type)
    if wanted.waiting:
        conditions.append(needs_attention())
    if wanted.decided:
        conditions.append(left_alone())
    return conditions


def _worked_on(dag_id: str | None) -> list[list[ColumnElement[bool]]]:
    """Return the conditions that a DAG has worked on a batch or on a part of it, each for its own query.

    Put together by OR, they would make the database read every data set.
    """
    if dag_id is None:
        return [[]]
    part = batches.alias()
    by_it = data_sets.c.dag_id == dag_id
    parts = select(part.c.part_of).where(
        part.c.part_of.is_not(None), exists().where(data_sets.c.batch == part.c.id, by_it)
    )
    return [[exists().where(by_it, data_sets.c.batch == batches.c.id)], [batches.c.id.in_(parts)]]


def _uploads(connection: Connection, numbers: Sequence[int]) -> list[Upload]:
    """Return some uploads, the newest batch first."""
    if not numbers:
        return []
    newest_first = _with_newest_set().order_by(batches.c.id.desc())
    rows = connection.execute(newest_first.where(batches.c.id.in_(numbers))).all()
    of_parts = and_(batches.c.part_of.in_(numbers), batches.c.state != BatchState.OVERWRITTEN)
    parts = connection.execute(newest_first.where(of_parts)).all()
    of_wholes: dict[int | None, list[Upload]] = {}
    for part in _each(connection, parts):
        of_wholes.setdefault(part.part_of, []).append(part)
    wholes = _each(connection, rows)
    return [_summed(whole, of_wholes[whole.batch]) if whole.batch in of_wholes else whole for whole in wholes]


def _each(connection: Connection, rows: Sequence[Any]) -> list[Upload]:
    """Return rows as uploads, each with the number of its own stored chunks."""
    newest = [row.data_set for row in rows if row.data_set is not None]
    stored: dict[int, int] = {}
    for batch_of_ids in batched(newest):
        stored.update(
            (data_set, number) for data_set, number in connection.execute(_stored_chunks(batch_of_ids))
        )
    return [_upload(row, stored.get(row.data_set, 0)) for row in rows]


def _summed(whole: Upload, parts: Sequence[Upload]) -> Upload:
    """Return a batch with the sums of its parts."""
    started = [part for part in parts if part.data_set is not None]
    newest = max(started, key=lambda part: part.data_set or 0, default=whole)
    sums: dict[str, Any] = {name: sum(getattr(part, name) or 0 for part in parts) for name in _OF_PARTS}
    return replace(
        whole,
        **sums,
        dag_id=newest.dag_id,
        run_id=newest.run_id,
        map_index=newest.map_index,
        parts=len(parts),
        parts_ended=sum(part.state in TERMINAL_STATES for part in parts),
        started=any(DataSetState(str(part.data_set_state)).may_hold_data for part in started),
    )


def _stored_chunks(numbers: Sequence[int]) -> Any:
    return (
        select(chunks.c.data_set, func.count())
        .where(chunks.c.data_set.in_(numbers), chunks.c.state == ChunkState.STORED)
        .group_by(chunks.c.data_set)
    )


def _upload(row: Any, stored: int) -> Upload:
    values = dict(row._mapping)
    dismissed = values["dismissed"] and Dismissal(values["dismissed"])
    stopped_in = StoppedIn.of_text(values["stopped_in"])
    read = {"state": BatchState(values["state"]), "dismissed": dismissed, "stopped_in": stopped_in}
    return Upload(**{**values, **read, "stored": stored})


_OF_BATCH = (
    "api_host",
    "label",
    "day",
    "data_set_type",
    "state",
    "reason",
    "staged",
    "accepted",
    "quarantined",
    "identical",
    "chunks",
    "created_at",
    "updated_at",
    "part_of",
    "stopped_in",
    "dismissed",
)
_OF_PARTS = ("expected_rows", "visible_rows", "superseded_rows", "stored")
_OF_DATA_SET = (
    "expected_rows",
    "visible_rows",
    "superseded_rows",
    "dag_id",
    "run_id",
    "map_index",
    "try_number",
    "opened_at",
    "verified_at",
)


class Unfinished:
    """Batches whose upload was started and not finished.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def batches(self, before: datetime) -> list[int]:
        """Return the numbers of those that have not changed since, oldest day first.

        Of one that is cut into parts it is the whole one's number, for the parts are uploaded in their order.
        A task may be working on one of them: to resume it, its lease is needed.

        :param before: the moment in question.
        """
        # Two looks into indexes, put together: OR between them would read every batch.
        unfinished = select(data_sets.c.batch).where(
            data_sets.c.state.in_((DataSetState.OPENING, *DataSetState.unfinished())),
            data_sets.c.updated_at <= before,
        )
        uploading = select(batches.c.id).where(
            IS_WHOLE, batches.c.state == BatchState.UPLOADING, batches.c.updated_at <= before
        )
        numbers = union(unfinished, uploading).subquery()
        query = (
            select(WHOLE).join(numbers, numbers.c[0] == batches.c.id).order_by(batches.c.day, batches.c.id)
        )
        with self._database.reading() as connection:
            return list(dict.fromkeys(connection.scalars(query)))
