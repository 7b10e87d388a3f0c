"""How many of a batch's records may be rejected before it is held: the one place that decides it."""

from __future__ import annotations

from typing import NamedTuple

MAX_QUARANTINED_PERCENT = 10.0
"""Share of rejected records above which a batch is not uploaded until somebody has looked at it."""

QUARANTINED_FROM = 10
"""Rejected records from which their share counts: one bad reading of two must not keep the good one out."""


class RejectionLimit(NamedTuple):
    """How many of a batch's records may be rejected.

    :param percent: share of its records, 0 to 100.
    :param counts_from: rejected records from which the share counts; with 0 or 1 it always does.
    """

    percent: float = MAX_QUARANTINED_PERCENT
    counts_from: int = QUARANTINED_FROM

    def is_exceeded(self, rejected: int, *, staged: int, accepted: int) -> bool:
        """Return whether too many records are rejected.

        :param rejected: records in quarantine, whoever rejected them.
        :param staged: records of the batch, of all its parts.
        :param accepted: what is left of them; a batch of which nothing is left has no small number to plead.
        """
        counts = rejected >= self.counts_from or not accepted
        return counts and rejected * 100 > self.percent * staged
