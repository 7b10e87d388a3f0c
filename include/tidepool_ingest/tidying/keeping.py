"""How long what is over is kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from tidepool_ingest.options import QUARANTINE_DAYS, WORK_DAYS

FORGET_DAYS = 400
"""How long the ledger keeps what can be made anew: longer than a yearly run over old days is away."""


@dataclass(frozen=True)
class Keeping:
    """How long what is over is kept, in days; 0 for ever.

    :param work_days: accepted records of batches that are done.
    :param quarantine_days: refused records of batches that are done.
    """

    work_days: int = WORK_DAYS
    quarantine_days: int = QUARANTINE_DAYS

    def accepted_before(self, now: datetime) -> datetime | None:
        """Return the moment before which a batch was done whose accepted records may go, if any may."""
        return now - timedelta(days=self.work_days) if self.work_days else None

    def refused_before(self, now: datetime) -> datetime | None:
        """Return the same for refused records, which never go before the accepted ones."""
        if not (self.work_days and self.quarantine_days):
            return None
        return now - timedelta(days=max(self.quarantine_days, self.work_days))
