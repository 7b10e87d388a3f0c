"""The ledger as people read it: batches with the newest data set of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from tidepool_ingest.ledger.database import Database
from tidepool_ingest.ledger.newest_sets import with_newest_set
from tidepool_ingest.ledger.schema import batches


@dataclass(frozen=True, kw_only=True)
class Session:
    """A batch and its newest data set, whose fields are ``None`` if it has none."""

    batch: int
    api_host: str
    label: str
    day: date
    user_id: str = field(repr=False)
    folder: str = field(repr=False)
    state: str
    reason: str | None
    staged: int | None
    accepted: int | None
    quarantined: int | None
    identical: int | None
    updated_at: datetime
    data_set_id: str | None
    data_set_state: str | None
    visible_rows: int | None
    dag_id: str | None
    run_id: str | None
    map_index: int | None
    try_number: int | None
    opened_at: datetime | None
    verified_at: datetime | None


def sessions(
    database: Database, *, state: str | None = None, label_part: str | None = None, limit: int = 100
) -> list[Session]:
    """Return what the ledger knows, newest first.

    :param database: the ledger's database.
    :param state: only batches in this state.
    :param label_part: only batches whose label contains this, for example its short hash.
    :param limit: how many at most.
    """
    ordered = with_newest_set(_OF_BATCH, _OF_DATA_SET).order_by(
        batches.c.updated_at.desc(), batches.c.id.desc()
    )
    asked = ordered.limit(limit)
    if state is not None:
        asked = asked.where(batches.c.state == state)
    if label_part is not None:
        asked = asked.where(batches.c.label.contains(label_part, autoescape=True))
    with database.reading() as connection:
        return [Session(**row._mapping) for row in connection.execute(asked)]


_OF_BATCH = (
    "api_host",
    "label",
    "day",
    "user_id",
    "folder",
    "state",
    "reason",
    "staged",
    "accepted",
    "quarantined",
    "identical",
    "updated_at",
)
_OF_DATA_SET = ("visible_rows", "dag_id", "run_id", "map_index", "try_number", "opened_at", "verified_at")
