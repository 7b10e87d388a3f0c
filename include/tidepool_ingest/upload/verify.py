"""Step four: what became visible in Tidepool, held against what was sent, identifier by identifier."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.staging.chunk_plan import PreparedBatch
from tidepool_ingest.staging.work_area import WorkArea
from tidepool_ingest.upload.identify import Identified, identified
from tidepool_ingest.upload.shown import Shown

POSITIONS_NAMED = 10
"""How many missing or doubled records a message names by position."""


@dataclass(frozen=True)
class Comparison:
    """What a read-back shows of one data set. Counts are of rows, as Tidepool keeps them.

    :param expected: rows that the accepted records make.
    :param visible: rows that Tidepool shows.
    :param missing: places, among the accepted records, of those that are not shown or only in part.
    :param double: places of those that are shown more than once.
    :param foreign: rows shown that were never sent.
    :param deleted: the data set is marked as deleted. It takes data all the same, and shows them.
    :param superseded: rows that are not shown because a later upload of the device shows them instead.
    """

    expected: int
    visible: int
    missing: tuple[int, ...] = ()
    double: tuple[int, ...] = ()
    foreign: int = 0
    deleted: bool = False
    superseded: int = 0

    @property
    def is_exact(self) -> bool:
        """Tell whether every accepted record is visible once, and nothing else, in a set that stands.

        One that a later upload shows in its place counts as visible.
        """
        return not (self.missing or self.double or self.foreign or self.deleted)

    def difference(self) -> str:
        """Say what is not as it should be, by counts and positions."""
        return (
            f"Tidepool shows {self.visible} of {self.expected} rows: "
            f"{_named('missing', self.missing)}, {_named('double', self.double)}, "
            f"{self.foreign} that were never sent"
            + (f", {self.superseded} superseded by a later upload" if self.superseded else "")
            + (", and the data set was deleted by somebody else" if self.deleted else "")
        )


class VerificationError(IngestError):
    """What Tidepool shows is not what was sent.

    :param comparison: what differs.
    """

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(
            f"{comparison.difference()}.",
            remedy="The next try repairs it: it removes this data set and uploads the batch into a new one.",
            code="verification",
        )
        self.comparison = comparison


def compare(
    work: WorkArea,
    prepared: PreparedBatch,
    upload_id: str,
    shown: Shown,
    *,
    refused: AbstractSet[int] = frozenset(),
    superseded: AbstractSet[str] = frozenset(),
) -> Comparison:
    """Hold a read-back against the accepted records.

    :param work: the batch's work area.
    :param prepared: its chunk plan.
    :param upload_id: the data set that was read back.
    :param shown: the read-back.
    :param refused: places, among the accepted records, of those that Tidepool refused.
    :param superseded: identifiers of rows that a later upload of the device hides.
    """
    expected, known, hidden, missing, double = 0, 0, 0, [], []
    for sent in _sent(work, prepared, upload_id):
        if sent.ordinal in refused:
            continue
        expected += len(sent.ids)
        counts = [shown.rows.count(one) for one in sent.ids]
        known += sum(counts)
        for place, one in enumerate(sent.ids):
            if not counts[place] and one in superseded:
                counts[place] = 1
                hidden += 1
        if 0 in counts:
            missing.append(sent.ordinal)
        if max(counts) > 1:
            double.append(sent.ordinal)
    visible = len(shown.rows)
    return Comparison(
        expected, visible, tuple(missing), tuple(double), visible - known, shown.deleted, hidden
    )


def _sent(work: WorkArea, prepared: PreparedBatch, upload_id: str) -> Iterator[Identified]:
    for chunk in prepared.chunks:
        yield from identified(work.read_chunk(chunk), chunk, upload_id)


def _named(what: str, positions: tuple[int, ...]) -> str:
    if not positions:
        return f"0 {what}"
    shown = ", ".join(str(position) for position in positions[:POSITIONS_NAMED])
    more = ", …" if len(positions) > POSITIONS_NAMED else ""
    return f"{len(positions)} {what} (accepted records {shown}{more})"
