"""Step four: what became visible in Tidepool, held against what was sent, identifier by identifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from tidepool_ingest.errors import Disposition, IngestError
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea
from tidepool_ingest.upload.identify import Identified, identified

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
    """

    expected: int
    visible: int
    missing: tuple[int, ...] = ()
    double: tuple[int, ...] = ()
    foreign: int = 0
    deleted: bool = False

    @property
    def is_exact(self) -> bool:
        """Tell whether every accepted record is visible once, and nothing else, in a set that stands."""
        return not (self.missing or self.double or self.foreign or self.deleted)


class VerificationError(IngestError):
    """What Tidepool shows is not what was sent.

    :param comparison: what differs.
    """

    disposition: Disposition = Disposition.RETRIABLE

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(
            f"Tidepool shows {comparison.visible} of {comparison.expected} rows: "
            f"{_named('missing', comparison.missing)}, {_named('double', comparison.double)}, "
            f"{comparison.foreign} that were never sent"
            + (", and the data set was deleted by somebody else." if comparison.deleted else "."),
            remedy="The next try repairs it: it removes this data set and uploads the batch into a new one.",
            code="verification",
        )
        self.comparison = comparison


def compare(
    work: WorkArea,
    prepared: PreparedBatch,
    upload_id: str,
    shown: Iterable[dict[str, Any]],
    refused: AbstractSet[int] = frozenset(),
) -> Comparison:
    """Hold a read-back against the accepted records.

    :param work: the batch's work area.
    :param prepared: its chunk plan.
    :param upload_id: the data set that was read back.
    :param shown: the read-back, the data set's own record (type ``upload``) included.
    :param refused: places, among the accepted records, of those that Tidepool refused.
    """
    seen: Counter[str] = Counter()
    deleted = False
    for datum in shown:
        if datum.get("type") == "upload":
            deleted = deleted or datum.get("deletedTime") is not None
        else:
            seen[str(datum.get("id"))] += 1
    visible = seen.total()
    expected, missing, double = 0, [], []
    for sent in _sent(work, prepared, upload_id):
        if sent.ordinal in refused:
            continue
        expected += len(sent.ids)
        counts = [seen.pop(one, 0) for one in sent.ids]
        if 0 in counts:
            missing.append(sent.ordinal)
        if max(counts) > 1:
            double.append(sent.ordinal)
    return Comparison(expected, visible, tuple(missing), tuple(double), seen.total(), deleted)


def _sent(work: WorkArea, prepared: PreparedBatch, upload_id: str) -> Iterator[Identified]:
    for chunk in prepared.chunks:
        yield from identified(work.read_chunk(chunk), chunk, upload_id)


def _named(what: str, positions: tuple[int, ...]) -> str:
    if not positions:
        return f"0 {what}"
    shown = ", ".join(str(position) for position in positions[:POSITIONS_NAMED])
    more = ", …" if len(positions) > POSITIONS_NAMED else ""
    return f"{len(positions)} {what} (accepted records {shown}{more})"
