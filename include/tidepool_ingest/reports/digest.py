"""What became of batches in a span of time and what needs attention, in numbers, as a message says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.reports.help import remedy_of
from tidepool_ingest.reports.inactive_devices import inactive_devices

CAUSES_NAMED = 10
"""How many causes a digest names; it only counts the batches of others."""


@dataclass(frozen=True)
class Digest:
    """Numbers of a ledger, without anything of what or whose it is.

    :param since: the moment from which on changes count.
    :param until: the moment of the digest.
    :param changed: batches that have changed since, by their state now.
    :param waiting: batches that need attention, whenever they have changed, by the code of the cause.
    :param inactive: how many devices have stopped sending.
    """

    since: datetime
    until: datetime
    changed: Mapping[BatchState, int]
    waiting: Mapping[str, int]
    inactive: int

    def title(self) -> str:
        """Return its subject."""
        number = sum(self.waiting.values())
        if not number:
            return "Tidepool uploads: nothing needs attention"
        return f"Tidepool uploads: {number} {'batch needs' if number == 1 else 'batches need'} attention"

    def lines(self) -> list[str]:
        """Return what it says, line by line."""
        changed = ", ".join(f"{number} {state}" for state, number in sorted(self.changed.items()))
        lines = [
            f"From {self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC.",
            f"Batches that have changed: {changed or 'none'}.",
            f"Batches that need attention: {sum(self.waiting.values()) or 'none'}.",
        ]
        causes = sorted(self.waiting.items(), key=lambda cause: (-cause[1], cause[0]))
        lines += [f"- {number} {code}: {remedy_of(code).sentence}" for code, number in causes[:CAUSES_NAMED]]
        if others := sum(number for _code, number in causes[CAUSES_NAMED:]):
            lines.append(f"- {others} for other causes")
        if self.inactive:
            lines.append(f"Inactive devices: {self.inactive}.")
        return lines

    def summary(self) -> dict[str, Any]:
        """Return the numbers for XCom."""
        changed = {str(state): number for state, number in self.changed.items()}
        return {"changed": changed, "waiting": dict(self.waiting), "inactive": self.inactive}


def digest_of(ledger: Ledger, since: datetime, until: datetime) -> Digest:
    """Return what became of batches since a moment, and what needs attention now.

    :param ledger: the ledger.
    :param since: the moment from which on changes count.
    :param until: the moment of the digest, whose day inactive devices are counted up to.
    """
    return Digest(
        since,
        until,
        changed=ledger.uploads.by_state(since),
        waiting=ledger.uploads.waiting_by_reason(),
        inactive=len(inactive_devices(ledger, until.date())),
    )
