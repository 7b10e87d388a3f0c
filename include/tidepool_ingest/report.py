"""The last step: what became of a run's batches, in one summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tidepool_ingest.ledger import BatchRow, DataSetRow, Ledger

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
