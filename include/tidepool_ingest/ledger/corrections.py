"""Which batches stand for one another: a corrected one and its forerunner, either way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import and_, or_, select

from tidepool_ingest.ledger.batches import BatchRow, batch_row
from tidepool_ingest.ledger.database import Database, distinct
from tidepool_ingest.ledger.schema import batches
from tidepool_ingest.ledger.states import BatchState
from tidepool_ingest.ledger.whole_batches import IS_WHOLE

NAMED = 3
"""How many forerunners of a batch are named, the newest: somebody may have corrected it many times."""

ENDED = (BatchState.OVERWRITTEN, BatchState.GONE)
"""States of a batch whose content is not in staging any more, and was never uploaded."""


class Tie(StrEnum):
    """How another batch is related to one."""

    CORRECTS = "corrects"
    """It was staged before, by the same name: the batch has other content, or can be read by now."""
    CORRECTED_BY = "corrected-by"
    """It was staged after, by the same name."""
    REPLACES = "replaces"
    """The batch's manifest names it under ``replaces`` or ``retracts``."""
    REPLACED_BY = "replaced-by"
    """Its manifest names the batch so."""


@dataclass(frozen=True)
class Related:
    """Another batch that a batch stands for, or that stands for it.

    :param tie: how.
    :param batch: its number.
    :param label: its label.
    :param state: its state.
    """

    tie: Tie
    batch: int
    label: str
    state: BatchState


class Corrections:
    """Finds the batches that were corrected by others.

    :param database: the ledger's database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, row: BatchRow) -> list[Related]:
        """Return the batches that a whole batch corrects or replaces, and those that do so to it.

        :param row: the batch.
        """
        with self._database.reading() as connection:
            hosts = distinct(connection, batches.c.api_host)
            of_user = and_(batches.c.api_host.in_(hosts), batches.c.user_id == row.user_id, IS_WHOLE)
            is_tied = or_(
                batches.c.batch_id == row.batch_id, batches.c.replaces == row.id, batches.c.id == row.replaces
            )
            query = select(batches).where(of_user, is_tied, batches.c.id != row.id).order_by(batches.c.id)
            others = [batch_row(found) for found in connection.execute(query)]
        named = [other for other in others if row.id == other.replaces or other.id == row.replaces]
        namesakes = [
            other
            for other in others
            if other.batch_id == row.batch_id and other not in named and _may_stand_for(row, other)
        ]
        ties = [(Tie.REPLACES if other.id == row.replaces else Tie.REPLACED_BY, other) for other in named]
        ties += [(Tie.CORRECTED_BY, other) for other in _successors(row, namesakes)]
        ties += [(Tie.CORRECTS, other) for other in _forerunners(row, namesakes)]
        return [Related(tie, other.id, other.label, other.state) for tie, other in ties]


def _may_stand_for(row: BatchRow, other: BatchRow) -> bool:
    """Return whether one of two batches of a name can stand for the other: of one folder, or one has ended.

    The same content at two API hosts is the same batch. A batch that cannot be read counts as one for the
    deployment's own host, so that what it became may be for another one.
    """
    is_other = row.content_key != other.content_key
    return is_other and (row.folder == other.folder or row.state in ENDED or other.state in ENDED)


def _successors(row: BatchRow, namesakes: Sequence[BatchRow]) -> list[BatchRow]:
    """Return the batch that stands in the place of one, if there is one: the newest that is in staging."""
    if row.state in ENDED:
        current = [other for other in namesakes if other.state not in ENDED]
        later = current or [other for other in namesakes if other.id > row.id]
    else:
        later = [other for other in namesakes if other.state not in ENDED and other.id > row.id]
    return sorted(later, key=lambda other: (other.api_host == row.api_host, other.id))[-1:]


def _forerunners(row: BatchRow, namesakes: Sequence[BatchRow]) -> list[BatchRow]:
    """Return the batches in whose place one stands, the newest first."""
    if row.state not in ENDED:
        earlier = [other for other in namesakes if other.state in ENDED or other.id < row.id]
    elif all(other.state in ENDED for other in namesakes):
        earlier = [other for other in namesakes if other.id < row.id]
    else:
        return []
    return earlier[::-1][:NAMED]
