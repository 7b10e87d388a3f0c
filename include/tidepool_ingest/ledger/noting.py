"""How ready batches are noted: which of them are new, which have moved, and whose place they take."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, or_, select, update

from tidepool_ingest.ledger.batch_rows import BatchRow, FoundBatch, batch_row
from tidepool_ingest.ledger.database import portions
from tidepool_ingest.ledger.part_rows import IS_WHOLE, WHOLE, move_parts, replace_parts
from tidepool_ingest.ledger.schema import batches, data_sets
from tidepool_ingest.ledger.states import GIVEN_UP, BatchState, DataSetState

NEVER_OPENED = (BatchState.PLANNED, BatchState.PREPARED, BatchState.HELD, BatchState.FAILED)
"""States in which other content in the same folder takes a batch's place."""

NAMES_A_QUERY = 200
"""Pairs of user and batch id asked for at once."""

_MOVED = ("folder", "batch_id", "day", "label", "state")
"""What noting changes of a batch that the ledger has already."""

_Content = tuple[str, str]
_Place = tuple[str, str]


class Noting:
    """Notes ready batches in one transaction: all that is there is read, then all that differs is written.

    Between the two the rules run in memory, batch by batch in their order: each sees what others before did.

    :param connection: a transaction that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC)
        self._known: dict[_Content, dict[str, Any]] = {}
        self._lying_in: dict[_Place, set[_Content]] = {}
        self._hold_data: set[int] = set()
        self._changed: dict[_Content, None] = {}
        self._moved: set[int] = set()
        self._new: list[_Content] = []

    def note(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Note some batches; return them as the ledger has them now, in the same order.

        :param found: the batches as they lie in staging.
        """
        for row in self._there(found):
            self._take(vars(row))
        self._look_for_data()
        for one in found:
            self._replace_others(one)
            self._note_one(one)
        self._write()
        noted = {(row.api_host, row.content_key): row for row in self._by_content(found)}
        return [noted[one.api_host, one.content_key] for one in found]

    # ---------------------------------------------------------------- what is there

    def _there(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        """Return what has the content or the place of one of these, locked until this is over."""
        numbers = {row.id for row in self._by_content(found)} | set(self._in_the_places(found))
        rows: list[BatchRow] = []
        for some in portions(sorted(numbers)):
            locked = select(batches).where(batches.c.id.in_(some)).order_by(batches.c.id).with_for_update()
            rows += [batch_row(row) for row in self._connection.execute(locked)]
        return rows

    def _by_content(self, found: Sequence[FoundBatch]) -> list[BatchRow]:
        rows: list[BatchRow] = []
        for host in sorted({one.api_host for one in found}):
            for some in portions(sorted({one.content_key for one in found if one.api_host == host})):
                asked = select(batches).where(batches.c.api_host == host, batches.c.content_key.in_(some))
                rows += [batch_row(row) for row in self._connection.execute(asked)]
        return rows

    def _in_the_places(self, found: Sequence[FoundBatch]) -> list[int]:
        # A folder ends in user and batch id, which an index finds.
        numbers: list[int] = []
        for host in sorted({one.api_host for one in found}):
            here = [one for one in found if one.api_host == host]
            for start in range(0, len(here), NAMES_A_QUERY):
                some = here[start : start + NAMES_A_QUERY]
                # Each pair is a condition of its own, which both databases find by the index.
                names = [
                    and_(
                        batches.c.api_host == host,
                        batches.c.user_id == one.user_id,
                        batches.c.batch_id == one.batch_id,
                    )
                    for one in some
                ]
                # The state is no condition: SQLite, which knows no numbers of rows, would look by that index.
                asked = select(batches.c.id, batches.c.state).where(
                    or_(*names), batches.c.folder.in_([one.folder for one in some]), IS_WHOLE
                )
                found_there = self._connection.execute(asked)
                numbers += [number for number, state in found_there if BatchState(state) in NEVER_OPENED]
        return numbers

    def _look_for_data(self) -> None:
        """Find out of which batches that could lose their place Tidepool may hold data."""
        could = [
            row["id"]
            for row in self._known.values()
            if row["state"] in (*NEVER_OPENED, BatchState.REPLACED)  # the latter may be planned once more
        ]
        empty = (DataSetState.OPENING, *GIVEN_UP)
        for some in portions(could):
            for column in (batches.c.id, batches.c.part_of):
                asked = select(WHOLE).join(data_sets, data_sets.c.batch == batches.c.id)
                held = asked.where(column.in_(some), data_sets.c.state.not_in(empty))
                self._hold_data.update(self._connection.scalars(held))

    def _take(self, row: dict[str, Any]) -> None:
        content = row["api_host"], row["content_key"]
        self._known[content] = dict(row)
        self._lying_in.setdefault((row["api_host"], row["folder"]), set()).add(content)

    # ---------------------------------------------------------------- the rules

    def _replace_others(self, found: FoundBatch) -> None:
        """Let a batch take the place of what lay in its folder and was never opened."""
        for content in self._lying_in.get((found.api_host, found.folder), ()):
            row = self._known[content]
            other = row["content_key"] != found.content_key
            if other and row["state"] in NEVER_OPENED and row.get("id") not in self._hold_data:
                self._change(row, state=BatchState.REPLACED)

    def _note_one(self, found: FoundBatch) -> None:
        content = found.api_host, found.content_key
        known = self._known.get(content)
        if known is None:
            self._take({**vars(found), "state": BatchState.PLANNED, "created_at": self._now})
            self._new.append(content)
        elif known["state"] is BatchState.REPLACED:
            self._move(known, found, state=BatchState.PLANNED)  # its content lies in staging once more
        elif not known["state"].is_done and known["folder"] != found.folder:
            self._move(known, found)

    def _move(self, row: dict[str, Any], found: FoundBatch, **values: Any) -> None:
        content = row["api_host"], row["content_key"]
        self._lying_in[row["api_host"], row["folder"]].discard(content)
        self._lying_in.setdefault((found.api_host, found.folder), set()).add(content)
        place = {"batch_id": found.batch_id, "day": found.day, "label": found.label}
        self._change(row, folder=found.folder, **place, **values)
        if "id" in row:
            self._moved.add(row["id"])

    def _change(self, row: dict[str, Any], **values: Any) -> None:
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
            self._let_parts_follow(rows)
        if new:
            inserted = [{**self._known[content], "updated_at": self._now} for content in self._new]
            self._connection.execute(insert(batches), inserted)

    def _let_parts_follow(self, rows: Sequence[dict[str, Any]]) -> None:
        replaced = [row["id"] for row in rows if row["state"] is BatchState.REPLACED]
        for some in portions(replaced):
            replace_parts(self._connection, some, self._now)
        for some in portions(sorted(self._moved)):
            cut = select(batches.c.part_of).where(batches.c.part_of.in_(some)).distinct()
            wholes = set(self._connection.scalars(cut))
            for row in rows:
                if row["id"] in wholes:
                    move_parts(self._connection, row["id"], row, self._now)
