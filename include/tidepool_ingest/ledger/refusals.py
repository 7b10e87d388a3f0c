"""Records that local validation accepted and Tidepool itself refused."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, insert, select

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.leases import Lease, writing_under
from tidepool_ingest.ledger.schema import refusals


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One refused record.

    :param ordinal: its place among the records that ``prepare`` accepted, from 0.
    :param type: its type.
    :param rows: rows that Tidepool would have made of it.
    :param problems: codes and pointers, names that a person chose as ``*``.
    """

    ordinal: int
    type: str
    rows: int
    problems: tuple[tuple[str, str], ...]


class Refusals:
    """The table of refusals.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: int, refused: Iterable[Refusal], *, lease: Lease | None = None) -> None:
        """Note that Tidepool refused some records of a batch; known ones stay as they are.

        :param batch: the batch's number.
        :param refused: the records.
        :param lease: the claim under which this is written.
        """
        now = datetime.now(UTC)
        with writing_under(self._database, lease) as connection:
            known = set(connection.scalars(select(refusals.c.ordinal).where(refusals.c.batch == batch)))
            rows = [
                {**vars(one), "batch": batch, "problems": json.dumps(one.problems), "created_at": now}
                for one in refused
                if one.ordinal not in known
            ]
            if rows:
                connection.execute(insert(refusals), rows)

    def forget(self, batch: int) -> None:
        """Forget what was refused of a batch; Tidepool will say so again."""
        with self._database.writing() as connection:
            connection.execute(delete(refusals).where(refusals.c.batch == batch))

    def of_batch(self, batch: int) -> dict[int, Refusal]:
        """Return the refused records of a batch by their place among the accepted ones."""
        asked = select(refusals).where(refusals.c.batch == batch).order_by(refusals.c.ordinal)
        with self._database.reading() as connection:
            found = connection.execute(asked).all()
        return {
            row.ordinal: Refusal(
                ordinal=row.ordinal,
                type=row.type,
                rows=row.rows,
                problems=tuple((code, pointer) for code, pointer in json.loads(row.problems)),
            )
            for row in found
        }
