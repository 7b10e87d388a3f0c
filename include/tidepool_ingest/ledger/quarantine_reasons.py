"""Why ``prepare`` refused records of a batch: counts by type and code."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.schema import quarantine_reasons

Reasons = dict[str, dict[str, int]]
"""Numbers of records by type and code."""


class QuarantineReasons:
    """The table of reasons.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, batch: int, reasons: Mapping[str, Mapping[str, int]]) -> None:
        """Note why records of a batch are refused, in place of what was noted before.

        :param batch: the batch's number.
        :param reasons: numbers of records by type and code.
        """
        if self.of_batch(batch) == reasons:
            return
        rows = [
            {"batch": batch, "type": kind, "code": code, "records": records}
            for kind, codes in reasons.items()
            for code, records in codes.items()
        ]
        with self._database.writing() as connection:
            connection.execute(delete(quarantine_reasons).where(quarantine_reasons.c.batch == batch))
            if rows:
                connection.execute(insert(quarantine_reasons), rows)

    def of_batch(self, batch: int) -> Reasons:
        """Return why records of a batch are refused."""
        table = quarantine_reasons.c
        asked = (
            select(table.type, table.code, table.records)
            .where(table.batch == batch)
            .order_by(table.type, table.records.desc(), table.code)
        )
        reasons: Reasons = {}
        with self._database.reading() as connection:
            for kind, code, records in connection.execute(asked):
                reasons.setdefault(kind, {})[code] = records
        return reasons
