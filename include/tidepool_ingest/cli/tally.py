"""What becomes of the records of a file or batch, by type and by reason, as tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tidepool_ingest.cli.table import table
from tidepool_ingest.model import Problem, masked_pointer, type_of
from tidepool_ingest.prepare.glucose_guard import GlucoseGuard
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.sorting import RecordSorter, Sorted
from tidepool_ingest.staging.block import Block

REASONS_SHOWN = 50
"""Most rows of reasons; a record with a long array can have one for each element."""

Reason = tuple[str, str, str]
"""Type of a record, code, and the field it is about."""


class Tally:
    """Counts what becomes of records; no value of theirs is kept."""

    def __init__(self) -> None:
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.reasons: Counter[Reason] = Counter()
        self.warnings: Counter[Reason] = Counter()
        self.identical = 0
        self.guard = GlucoseGuard()

    def take(self, blocks: Iterable[Block], checker: RecordChecker) -> None:
        """Judge and count records.

        :param blocks: the records in order, as they would be uploaded.
        :param checker: what is looked at beyond the Platform's own verdict.
        """
        with RecordSorter(checker) as sorter:
            for block in blocks:
                for record in sorter.sort(block.lines):
                    self._count(record)
                for _position, code in block.refused:
                    self._count(Sorted(b"", None, (Problem(code, ""),)))

    def _count(self, record: Sorted) -> None:
        kind = type_of(record.datum)
        if record.problems or record.datum is None:
            self.refused[kind] += 1
            self.reasons.update(_reasons(kind, record.problems))
        elif record.identical:
            self.identical += 1
        else:
            self.accepted[kind] += 1
            self.guard.see([record.datum])
            if record.warnings:
                self.warnings.update(_reasons(kind, record.warnings))

    def show(self, edits: Mapping[str, int] | None = None) -> None:
        """Print the tables and the sum.

        :param edits: records changed as the manifest asks, by field.
        """
        kinds = sorted({*self.accepted, *self.refused})
        rows = [(kind, self.accepted[kind], self.refused[kind]) for kind in kinds]
        print(table(("type", "accepted", "refused"), rows), end="\n\n")
        _show_reasons("refused for", self.reasons)
        _show_reasons("accepted, but", self.warnings)
        if edits:
            print(table(("edited field", "records"), sorted(edits.items())), end="\n\n")
        accepted, refused = self.accepted.total(), self.refused.total()
        identical = f", {self.identical} identical to another one" if self.identical else ""
        total = accepted + refused + self.identical
        print(f"{total} records: {accepted} accepted, {refused} refused{identical}")


def _reasons(kind: str, problems: Iterable[Problem]) -> set[Reason]:
    return {(kind, code, masked_pointer(pointer)) for code, pointer in problems}


def _show_reasons(heading: str, reasons: Counter[Reason]) -> None:
    if not reasons:
        return
    ordered = sorted(reasons.items(), key=lambda one: (-one[1], one[0]))
    rows = [(*reason, records) for reason, records in ordered[:REASONS_SHOWN]]
    print(table(("type", heading, "field", "records"), rows))
    if more := len(ordered) - len(rows):
        print(f"... and {more} more such rows; --verdicts tells all of each record")
    print()
