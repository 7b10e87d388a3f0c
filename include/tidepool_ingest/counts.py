"""What became of the records of some batches, by type: what would be sent, what is refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from tidepool_ingest.ledger import BatchRow, BatchState
from tidepool_ingest.staging.chunk_plan import PreparedBatch
from tidepool_ingest.staging.work_area import WorkArea

HELD_UP = (BatchState.HELD, BatchState.FAILED)

COLUMNS = ("type", "what becomes of it", "records")


@dataclass
class Counts:
    """Numbers of records, and nothing of what is in them.

    :param batches: prepared batches that nothing holds up; the other numbers are theirs.
    :param held: batches that a guard or an error holds up.
    :param requests: requests in which the accepted records travel.
    :param size: bytes of the accepted records.
    :param accepted: accepted records by type.
    :param identical: repeats of an accepted record, which are kept once.
    :param refused: refused records by type and code.
    :param warned: accepted records that are reported, by type and code.
    """

    batches: int = 0
    held: int = 0
    requests: int = 0
    size: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    identical: int = 0
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    warned: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, prepared: PreparedBatch) -> None:
        """Count a batch."""
        self.batches += 1
        self.requests += prepared.requests
        self.size += prepared.size
        self.accepted.update(prepared.accepted)
        self.identical += prepared.identical
        for counted, reasons in ((self.refused, prepared.reasons), (self.warned, prepared.warnings)):
            for kind, codes in reasons.items():
                for code, number in codes.items():
                    counted[kind, code] += number

    def rows(self) -> Iterator[tuple[str, str, int]]:
        """Yield the lines of a table of :data:`COLUMNS`, type by type."""
        for kind in sorted({*self.accepted, *(one for one, _ in self.refused)}):
            if number := self.accepted[kind]:
                yield kind, "accepted", number
            for what, counted in (("accepted with a warning", self.warned), ("refused", self.refused)):
                for (of, code), number in sorted(counted.items()):
                    if of == kind:
                        yield kind, f"{what}: {code}", number

    def sentence(self) -> str:
        """Return the sums."""
        held = f" {self.held} batches would be held: the logs of their tasks say why." if self.held else ""
        return (
            f"{sum(self.accepted.values())} records of {self.batches} batches would be sent in "
            f"{self.requests} requests, {sum(self.refused.values())} would be refused, {self.identical} "
            f"repeat another one.{held}"
        )

    def summary(self) -> dict[str, Any]:
        """Return the numbers, fit for XCom."""
        return {
            "batches": self.batches,
            "held": self.held,
            "requests": self.requests,
            "bytes": self.size,
            "accepted": dict(self.accepted),
            "identical": self.identical,
            "refused": _by_type(self.refused),
            "warned": _by_type(self.warned),
        }


def counts_of(root: UPath, batches: Sequence[BatchRow]) -> Counts:
    """Count the records of some batches.

    :param root: the staging root, in which their work areas lie.
    :param batches: the batches.
    """
    counts = Counts()
    for batch in batches:
        prepared = WorkArea(root, batch.content_key).load()
        if prepared is None or batch.state in HELD_UP:
            counts.held += 1
        else:
            counts.add(prepared)
    return counts


def _by_type(counted: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (kind, code), number in sorted(counted.items()):
        grouped.setdefault(kind, {})[code] = number
    return grouped
