"""Records that local validation accepted and Tidepool rejects all the same.

One such record makes Tidepool reject its whole request and store none of it. The answer names it by its index
in the request, so that it can go to quarantine and the others be sent again. What was rejected once is
recorded in the ledger and never sent again for this batch, whatever data set it goes to.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from tidepool_ingest.client import TidepoolRejectedError
from tidepool_ingest.guards import QuarantineLimitError
from tidepool_ingest.ledger import Rejection
from tidepool_ingest.model import masked_pointer
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.record_ids import RecordWithIds

log = logging.getLogger(__name__)


class TooManyRejectedByTidepoolError(QuarantineLimitError):
    """Tidepool itself rejected more of a batch's records than the run allows.

    :param batch: the batch's label.
    :param refused: records in quarantine, those that local validation rejected included.
    :param staged: records staged.
    :param allowed: the share allowed, in percent.
    :param live: whether what was sent before is visible: the data set is a continuous one.
    """

    def __init__(self, batch: str, refused: int, staged: int, allowed: float, *, live: bool = False) -> None:
        when = "before the rest of it is sent" if live else "before its data set is closed"
        left = "What was sent of it before is visible." if live else "Nothing of it is visible."
        super().__init__(
            f"{batch} stops {when}: {refused} of {staged} records "
            f"({100 * refused / staged:.1f} %) were rejected, some of them by Tidepool itself, more than the "
            f"{allowed:g} % allowed. {left}"
        )


class RejectedRecords:
    """The records of one batch that Tidepool rejected. Safe to use from several threads.

    :param leased: the batch.
    """

    def __init__(self, leased: LeasedBatch) -> None:
        self._leased = leased
        self._lock = threading.Lock()
        ledger, batch = leased.ledger, leased.batch
        self._known = ledger.rejections.of_batch(batch.id)
        # The other parts of the same batch are not in progress as long as this one is.
        self._beside = (0, 0) if batch.part_of is None else ledger.parts.rejected_in_others(batch)

    @property
    def ordinals(self) -> frozenset[int]:
        """Their ordinals among the records that ``prepare`` accepted."""
        with self._lock:
            return frozenset(self._known)

    @property
    def rows(self) -> int:
        """Rows that Tidepool would have made of them."""
        with self._lock:
            return sum(refusal.rows for refusal in self._known.values())

    @property
    def is_all(self) -> bool:
        """Whether Tidepool has rejected every record that travels."""
        return len(self.ordinals) == self._leased.prepared.travelling

    def record(self, sent: Sequence[RecordWithIds], error: TidepoolRejectedError) -> None:
        """Record which records of a request were rejected.

        :param sent: the records in the order in which they were sent.
        :param error: the answer.
        :raises TidepoolRejectedError: the answer, if it names no record of the request.
        :raises TooManyRefusedByTidepoolError: if too many are rejected by now.
        """
        found = _refusals(sent, error)
        if not found:
            raise error
        log.warning(
            "Tidepool rejected %d records that local validation accepted (%s): they go to quarantine. "
            "Please report it with these codes.",
            len(found),
            _named(found),
        )
        self._add(found)

    def record_dropped(self, found: Sequence[Rejection]) -> None:
        """Record which records Tidepool would drop without a word.

        :param found: the records; none of them has been sent.
        :raises TooManyRefusedByTidepoolError: if too many are rejected by now.
        """
        if found:
            log.warning(
                "The data set's deduplicator would drop %d records (%s): they go to quarantine.",
                len(found),
                _named(found),
            )
            self._add(found)

    def _add(self, found: Sequence[Rejection]) -> None:
        with self._lock:
            self._leased.ledger.rejections.add(self._leased.batch.id, found, lease=self._leased.lease)
            self._known.update((refusal.ordinal, refusal) for refusal in found)
        self.check()

    def check(self) -> None:
        """Make sure that no more are rejected than the run allows, and that some remain of a whole batch.

        :raises TooManyRefusedByTidepoolError: if not.
        """
        of = self._leased.prepared.whole or self._leased.prepared
        with self._lock:
            late = len(self._known)
        if not late:
            return
        refused = of.quarantined + self._beside[0] + late
        allowed = self._leased.context.options.max_rejected_percent
        is_too_many = refused * 100 > allowed * of.records
        # A part may end with nothing, where the whole batch has others.
        if is_too_many or (self.is_all and self._leased.prepared.whole is None):
            raise TooManyRejectedByTidepoolError(
                self._leased.batch.label,
                refused,
                of.records,
                allowed,
                live=self._leased.body["dataSetType"] != NORMAL,
            )

    def finish(self) -> None:
        """Write them to the quarantine file and into the ledger's counts, before anything is visible."""
        with self._lock:
            known = dict(self._known)
        if not known:
            return
        leased = self._leased
        leased.work.add_to_quarantine(
            leased.prepared, {ordinal: refusal.problems for ordinal, refusal in sorted(known.items())}
        )
        late, rows = len(known), sum(refusal.rows for refusal in known.values())
        leased.ledger.batches.set_counts(
            leased.batch.id,
            accepted=sum(leased.prepared.accepted.values()) - late,
            quarantined=leased.prepared.quarantined + late,
            expected_rows=leased.prepared.expected_rows - rows,
        )
        whole = leased.prepared.whole
        if whole is not None and leased.batch.part_of is not None:
            leased.ledger.batches.set_counts(
                leased.batch.part_of,
                accepted=whole.accepted - late - self._beside[0],
                quarantined=whole.quarantined + late + self._beside[0],
                expected_rows=whole.expected_rows - rows - self._beside[1],
            )


def _refusals(sent: Sequence[RecordWithIds], error: TidepoolRejectedError) -> list[Rejection]:
    problems: dict[int, list[tuple[str, str]]] = {}
    for problem in error.problems:
        if problem.index is not None and problem.index < len(sent):
            found = (problem.code, masked_pointer(problem.pointer))
            problems.setdefault(problem.index, []).append(found)
    return [
        Rejection(
            ordinal=sent[index].ordinal,
            type=str(json.loads(sent[index].line)["type"]),
            rows=len(sent[index].ids),
            problems=tuple(found),
        )
        for index, found in sorted(problems.items())
    ]


def _named(refused: Iterable[Rejection]) -> str:
    counted = Counter((refusal.type, code) for refusal in refused for code, _pointer in refusal.problems)
    return ", ".join(f"{count} {kind} {code}" for (kind, code), count in counted.most_common(5))
