"""The last step: what became of a run's batches, in one summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from tidepool_ingest.ledger import BatchRow, BatchState, DataSetRow, Ledger
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

BATCHES_NAMED = 50
"""Batches that need a person which a summary names one by one."""

BATCHES_TOLD = 500
"""Batches up to which a report has a line for each; where there are more, for those that need a person."""


@dataclass(frozen=True)
class Report:
    """What became of some batches.

    :param batches: the batches.
    :param data_sets: the newest data set of each that has one, by batch number; of one that is cut, those of
        its parts.
    """

    batches: tuple[BatchRow, ...]
    data_sets: dict[int, tuple[DataSetRow, ...]]

    def summary(self) -> dict[str, Any]:
        """Return the numbers, fit for XCom."""
        return {
            "batches": dict(Counter(str(row.state) for row in self.batches)),
            "staged": sum(row.staged or 0 for row in self.batches),
            "accepted": sum(row.accepted or 0 for row in self.batches),
            "quarantined": sum(row.quarantined or 0 for row in self.batches),
            "identical": sum(row.identical or 0 for row in self.batches),
            "visible_rows": sum(map(_visible, self.data_sets.values())),
            "waiting": [
                f"{row.label}: {row.state} ({row.reason})" for row in self._waiting()[:BATCHES_NAMED]
            ],
        }

    def outcome(self) -> str:
        """Return the numbers of batches by state as a sentence."""
        counted = Counter(str(row.state) for row in self.batches)
        if not counted:
            return "No batch was taken up."
        return "Batches: " + ", ".join(f"{number} {state}" for state, number in sorted(counted.items())) + "."

    def lines(self) -> Iterator[str]:
        """Yield the report for a log: one line a batch that is told of, and the sum."""
        for row in self.batches if len(self.batches) <= BATCHES_TOLD else self._waiting()[:BATCHES_TOLD]:
            data_sets = self.data_sets.get(row.id, ())
            named = (
                f"data set {data_sets[0].upload_id}" if len(data_sets) == 1 else f"{len(data_sets)} data sets"
            )
            shown = f", {named}: {_visible(data_sets)} rows visible" if data_sets else ""
            reason = f" ({row.reason})" if row.reason else ""
            yield (
                f"{row.label}: {row.state}{reason}, {row.accepted} of {row.staged} records accepted, "
                f"{row.quarantined} quarantined, {row.identical} identical{shown}"
            )
        yield self.outcome()

    def _waiting(self) -> list[BatchRow]:
        return [row for row in self.batches if row.reason]


def report_on(ledger: Ledger, batches: Sequence[int]) -> Report:
    """Look up in the ledger what became of some batches.

    :param ledger: the ledger.
    :param batches: their numbers.
    """
    rows = ledger.batches.get_all(batches)
    whole = {row.id: row.id for row in rows} | ledger.parts.wholes_of([row.id for row in rows])
    newest = {one.batch: one for one in ledger.data_sets.of_batches(list(whole))}
    data_sets: dict[int, tuple[DataSetRow, ...]] = {}
    for number, data_set in newest.items():
        data_sets[whole[number]] = (*data_sets.get(whole[number], ()), data_set)
    return Report(tuple(rows), data_sets)


def _visible(data_sets: Sequence[DataSetRow]) -> int:
    return sum(one.visible_rows or 0 for one in data_sets)


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
