"""What was begun of a batch before, as a whole or in parts, and how its parts are noted in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidepool_ingest.guards import is_as_sent
from tidepool_ingest.ledger import BatchRow, DataSetRow, DataSetState, FoundPart, Ledger, Refusal
from tidepool_ingest.options import RunOptions
from tidepool_ingest.prepare.parts import may_be_cut
from tidepool_ingest.staging.chunk_plan import PreparedBatch
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.work_area import WorkArea


@dataclass(frozen=True)
class Begun:
    """What was begun of a batch.

    :param whole: the batch.
    :param parts: what it is cut into; empty while it is not.
    :param units: the data sets of each part, oldest first; for one that is not cut, its own.
    """

    whole: BatchRow
    parts: tuple[BatchRow, ...]
    units: tuple[tuple[DataSetRow, ...], ...]

    @classmethod
    def of(cls, ledger: Ledger, batch: int) -> Begun:
        """Return what the ledger knows of a batch."""
        parts = tuple(ledger.parts.of_batch(batch))
        numbers = [part.id for part in parts] or [batch]
        found: dict[int, list[DataSetRow]] = {number: [] for number in numbers}
        for data_set in ledger.data_sets.of_batches(numbers):
            found[data_set.batch].append(data_set)
        units = tuple(tuple(data_sets) for data_sets in found.values())
        return cls(ledger.batches.get(batch), parts, units)

    @property
    def any(self) -> bool:
        """Whether Tidepool may hold data of it."""
        return any(data_set.state.may_hold_data for unit in self.units for data_set in unit)

    @property
    def is_verified(self) -> bool:
        """Whether the newest data set of all it consists of is verified."""
        return all(unit and unit[-1].state is DataSetState.VERIFIED for unit in self.units)

    def refusals(self, ledger: Ledger) -> Iterator[Refusal]:
        """Yield the records that Tidepool itself has refused."""
        for row in self.parts or (self.whole,):
            yield from ledger.refusals.of_batch(row.id).values()

    def forget_refusals(self, prepared: PreparedBatch, ledger: Ledger) -> None:
        """Forget which records Tidepool itself has refused, where their places may be others now.

        Made anew, perhaps by other rules, a plan need not be the one that was sent. A part that is cut anew
        in the same place holds the same records in the same order.

        :param prepared: the plan that was made anew.
        :param ledger: has what was refused.
        """
        if self.parts:
            return
        (own,) = self.units
        if not is_as_sent(prepared, own[-1] if own else None, ledger):
            ledger.refusals.forget(self.whole.id)

    def refill_quarantine(self, work: WorkArea, ledger: Ledger) -> None:
        """Let a quarantine file that was made anew hold what Tidepool itself has refused of the parts."""
        for part in self.parts:
            refused = {one.ordinal: one.problems for one in ledger.refusals.of_batch(part.id).values()}
            area = work.beside(part.content_key)
            plan = area.load() if refused else None
            if plan is not None:
                area.add_to_quarantine(plan, refused)


def part_limit(manifest: Manifest, begun: Begun, options: RunOptions) -> int | None:
    """Return how many records a part of a batch may hold; ``None`` if the batch has to stay whole.

    What was begun goes on as it was begun.

    :param manifest: the batch's.
    :param begun: what was begun of it.
    :param options: what the run asks for.
    """
    if begun.any:
        return begun.whole.part_records if begun.parts else None
    return options.part_records if may_be_cut(manifest) else None


def note_parts(row: BatchRow, work: WorkArea, prepared: PreparedBatch, begun: Begun, ledger: Ledger) -> Begun:
    """Note in the ledger into which parts a batch is cut, and return what was begun of it and of them.

    :param row: the batch.
    :param work: its work area.
    :param prepared: its plan.
    :param begun: what was begun before.
    :param ledger: takes the parts.
    :raises BatchError: ``parts-differ``: Tidepool holds data of parts that it is not cut into any more.
    """
    keys = [part.content_key for part in prepared.parts]
    if begun.any and [part.content_key for part in begun.parts] != keys:
        raise BatchError("parts-differ", batch=row.label)
    if not (keys or begun.parts):
        return begun
    work.drop_parts(keep=keys)
    found = [
        FoundPart(
            content_key=part.content_key,
            records=part.records,
            expected_rows=part.expected_rows,
            chunks=part.chunks,
        )
        for part in prepared.parts
    ]
    ledger.batches.note_cut(row.id, prepared.part_records if keys else None)
    for part in ledger.parts.note(row, found):
        plan = work.beside(part.content_key).load()
        if plan is not None:
            ledger.batch_days.note(part.id, plan.days)
    return Begun.of(ledger, row.id)
