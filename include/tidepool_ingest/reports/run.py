"""What became of a run's batches, and how many of their records would be sent, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from upath import UPath

from tidepool_ingest.errors import Disposition
from tidepool_ingest.ledger import SUPERSEDED_STATES, BatchRow, BatchState, DataSetRow, Ledger
from tidepool_ingest.reports.help import remedy_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.texts import counted

BATCHES_NAMED = 50
"""How many of the batches that need attention a summary names."""

MAX_BATCHES_LISTED = 500
"""Batches up to which a report has a row for each; if there are more, only those that need attention have."""

HELD_UP = (BatchState.HELD, BatchState.FAILED)
"""States of a batch that sends nothing."""

FAILURES_FIRST = (BatchState.FAILED, BatchState.HELD)
"""States whose batches a report begins with; then come the others that are not done."""

COLUMNS_OF_BATCHES = (
    "batch",
    "result",
    "cause",
    "records",
    "accepted",
    "rejected",
    "duplicates",
    "rows that are no reading",
    "rows visible",
    "data set",
)
"""Headings of :meth:`Report.table`."""

COLUMNS = ("type", "what becomes of it", "records")
"""Headings of :meth:`RecordCounts.rows`."""


@dataclass(frozen=True)
class Report:
    """What became of some batches.

    :param batches: the batches.
    :param data_sets: the newest data set of each batch that has one, by the batch's number; if it is split,
        those of its parts.
    :param skipped: rows of files that are no reading, by reason and the batch's number.
    """

    batches: tuple[BatchRow, ...]
    data_sets: dict[int, tuple[DataSetRow, ...]]
    skipped: Mapping[int, Mapping[str, int]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return the numbers for XCom."""
        skipped: Counter[str] = Counter()
        for reasons in self.skipped.values():
            skipped.update(reasons)
        return ({"skipped": dict(skipped)} if skipped else {}) | {
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
        """Return how many batches are in which state, as a sentence."""
        states = Counter(str(row.state) for row in self.batches)
        if not states:
            return "No batch was processed."
        return "Batches: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items())) + "."

    @property
    def not_done(self) -> tuple[BatchRow, ...]:
        """The batches that should be in Tidepool and are not, or not for certain."""
        return tuple(row for row in self.batches if _is_not_done(row))

    def table(self) -> tuple[list[str], list[tuple[str | int | None, ...]]]:
        """Return headings and rows of a table of the batches that are reported: those that failed come first.

        A column in which no row has anything is left out.
        """
        is_short = len(self.batches) <= MAX_BATCHES_LISTED
        reported = sorted(self.batches if is_short else self._waiting(), key=_rank)
        cells = [self._cells(row) for row in reported[:MAX_BATCHES_LISTED]]
        named = [name for name in COLUMNS_OF_BATCHES if any(of[name] is not None for of in cells)]
        return named, [tuple(of[name] for name in named) for of in cells]

    def _cells(self, row: BatchRow) -> dict[str, str | int | None]:
        data_sets, skipped = self.data_sets.get(row.id, ()), self.skipped.get(row.id)
        why = ", ".join(f"{number} {kind}" for kind, number in sorted((skipped or {}).items()))
        ids = str(data_sets[0].data_set_id) if len(data_sets) == 1 else counted(len(data_sets), "data set")
        values = (
            row.label,
            str(row.state),
            row.reason or None,
            row.staged,
            row.accepted,
            row.quarantined,
            row.identical,
            f"{sum(skipped.values())} ({why})" if skipped else None,
            _visible(data_sets) if data_sets else None,
            ids if data_sets else None,
        )
        return dict(zip(COLUMNS_OF_BATCHES, values, strict=True))

    def causes(self) -> list[str]:
        """Return, for each cause for which batches are not done, how many these are and what to do."""
        stopped = Counter(row.reason for row in self.not_done if row.reason)
        return [
            f"{counted(number, 'batch')}, {code}: {remedy_of(code).sentence}. {remedy_of(code).remedy}"
            for code, number in sorted(stopped.items(), key=lambda item: (-item[1], item[0]))
        ]

    def _waiting(self) -> list[BatchRow]:
        return [row for row in self.batches if row.reason and not row.is_decided]


def _is_not_done(row: BatchRow) -> bool:
    return not (row.state.is_done or row.state in SUPERSEDED_STATES or row.is_decided)


def _rank(row: BatchRow) -> int:
    """Return where a batch comes in a report; those of one kind stay in the order of the run."""
    if not _is_not_done(row):
        return len(FAILURES_FIRST) + 1
    return (*FAILURES_FIRST, row.state).index(row.state)


def skipped_rows(root: UPath, row: BatchRow) -> dict[str, int]:
    """Return how many rows of a batch's files are no reading, by reason, as far as its work area knows.

    :param root: the staging root that it was prepared in.
    :param row: the batch.
    """
    try:
        plan = WorkArea(root, row.content_key).load()
    except BatchError:
        return {}
    return {} if plan is None else dict(plan.skipped)


def report_on(ledger: Ledger, batches: Sequence[int]) -> Report:
    """Return what became of some batches according to the ledger.

    :param ledger: the ledger.
    :param batches: the batches' numbers.
    """
    rows = ledger.batches.get_all(batches)
    whole = {row.id: row.id for row in rows} | ledger.parts.wholes_of([row.id for row in rows])
    newest = {data_set.batch: data_set for data_set in ledger.data_sets.of_batches(list(whole))}
    data_sets: dict[int, tuple[DataSetRow, ...]] = {}
    for number, data_set in newest.items():
        data_sets[whole[number]] = (*data_sets.get(whole[number], ()), data_set)
    return Report(tuple(rows), data_sets)


def _visible(data_sets: Sequence[DataSetRow]) -> int:
    return sum(data_set.visible_rows or 0 for data_set in data_sets)


@dataclass
class RecordCounts:
    """Numbers of records, without anything of their contents.

    :param batches: prepared batches that would be uploaded; the other numbers are theirs.
    :param held: batches that a guard or an error holds.
    :param requests: requests that the accepted records are sent in.
    :param size: bytes of the accepted records.
    :param accepted: accepted records by type.
    :param identical: duplicates of accepted records, which are kept once.
    :param refused: rejected records by type and code.
    :param warned: accepted records with a warning, by type and code.
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
        for counts, reasons in ((self.refused, prepared.reasons), (self.warned, prepared.warnings)):
            for kind, codes in reasons.items():
                for code, number in codes.items():
                    counts[kind, code] += number

    def rows(self) -> Iterator[tuple[str, str, int]]:
        """Yield the rows of a table with the headings :data:`COLUMNS`, type by type."""
        for kind in sorted({*self.accepted, *(kind for kind, _ in self.refused)}):
            if number := self.accepted[kind]:
                yield kind, "accepted", number
            for what, counts in (("accepted with a warning", self.warned), ("rejected", self.refused)):
                for (of, code), number in sorted(counts.items()):
                    if of == kind:
                        yield kind, f"{what}: {code}", number

    def sentence(self) -> str:
        """Return the totals as a sentence."""
        held = (
            f" {counted(self.held, 'batch')} would be held: the table and the logs of the tasks say why."
            if self.held
            else ""
        )
        return (
            f"{counted(sum(self.accepted.values()), 'record')} of {counted(self.batches, 'batch')} would be "
            f"sent in {counted(self.requests, 'request')}; {sum(self.refused.values())} would be rejected, "
            f"and {counted(self.identical, 'duplicate')} left out.{held}"
        )

    def summary(self) -> dict[str, Any]:
        """Return the numbers for XCom."""
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


def counts_of(root: UPath, batches: Sequence[BatchRow]) -> RecordCounts:
    """Count the records of some batches.

    :param root: the staging root, which holds their work areas.
    :param batches: the batches.
    """
    counts = RecordCounts()
    for batch in batches:
        prepared = _plan_of(WorkArea(root, batch.content_key))
        if prepared is None or batch.state in HELD_UP:
            counts.held += 1
        else:
            counts.add(prepared)
    return counts


def _plan_of(area: WorkArea) -> PreparedBatch | None:
    """Return its plan; ``None`` also if it cannot be read, for which its own batch's task fails."""
    try:
        return area.load()
    except BatchError as error:
        if error.disposition is Disposition.RETRIABLE:
            raise
        return None


def _by_type(counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    grouped: dict[str, dict[str, int]] = {}
    for (kind, code), number in sorted(counts.items()):
        grouped.setdefault(kind, {})[code] = number
    return grouped
