"""Records that local validation accepted and Tidepool refuses all the same.

One such record makes Tidepool refuse its whole request and store none of it. The answer names it by its place
in the request, so that it can go to quarantine and the others be sent again. What was refused once is noted
in the ledger and never sent again for this batch, whatever data set it goes to.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence

from tidepool_ingest.client import TidepoolRejectedError
from tidepool_ingest.guards import QuarantineLimitError
from tidepool_ingest.ledger import Lease, Refusal
from tidepool_ingest.model import masked_pointer
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.upload.context import UploadJob
from tidepool_ingest.upload.record_ids import Identified

log = logging.getLogger(__name__)


class TooManyRefusedByTidepoolError(QuarantineLimitError):
    """Tidepool itself refused more of a batch's records than the run allows.

    :param batch: the batch's label.
    :param refused: records in quarantine, those that local validation refused included.
    :param staged: records staged.
    :param allowed: the share allowed, in percent.
    :param live: whether what was sent before is visible: the data set is a continuous one.
    """

    def __init__(self, batch: str, refused: int, staged: int, allowed: float, *, live: bool = False) -> None:
        when = "before the rest of it is sent" if live else "before its data set is closed"
        left = "What was sent of it before is visible." if live else "Nothing of it is visible."
        super().__init__(
            f"{batch} stops {when}: {refused} of {staged} records "
            f"({100 * refused / staged:.1f} %) were refused, some of them by Tidepool itself, more than the "
            f"{allowed:g} % allowed. {left}"
        )


class RefusedRecords:
    """The records of one batch that Tidepool refused. Safe to use from several threads.

    :param job: the batch.
    :param lease: the claim on it, under which the ledger is written.
    """

    def __init__(self, job: UploadJob, lease: Lease) -> None:
        self._job = job
        self._lease = lease
        self._lock = threading.Lock()
        self._known = job.ledger.refusals.of_batch(job.batch.id)
        # The other parts of the same batch are not at work as long as this one is.
        self._beside = (0, 0) if job.batch.part_of is None else job.ledger.parts.refused_beside(job.batch)

    @property
    def ordinals(self) -> frozenset[int]:
        """Their places among the records that ``prepare`` accepted."""
        with self._lock:
            return frozenset(self._known)

    @property
    def rows(self) -> int:
        """Rows that Tidepool would have made of them."""
        with self._lock:
            return sum(one.rows for one in self._known.values())

    @property
    def is_all(self) -> bool:
        """Whether Tidepool has refused every record that travels."""
        return len(self.ordinals) == self._job.prepared.travelling

    def note(self, sent: Sequence[Identified], error: TidepoolRejectedError) -> None:
        """Note which records of a request were refused.

        :param sent: the records in the order in which they were sent.
        :param error: the answer.
        :raises TidepoolRejectedError: the answer, if it names no record of the request.
        :raises TooManyRefusedByTidepoolError: if too many are refused by now.
        """
        found = _refusals(sent, error)
        if not found:
            raise error
        log.warning(
            "Tidepool refused %d records that local validation accepted (%s): they go to quarantine. "
            "Please report it with these codes.",
            len(found),
            _named(found),
        )
        self._add(found)

    def note_dropped(self, found: Sequence[Refusal]) -> None:
        """Note which records Tidepool would drop without a word.

        :param found: the records; none of them has been sent.
        :raises TooManyRefusedByTidepoolError: if too many are refused by now.
        """
        if found:
            log.warning(
                "The data set's deduplicator would drop %d records (%s): they go to quarantine.",
                len(found),
                _named(found),
            )
            self._add(found)

    def _add(self, found: Sequence[Refusal]) -> None:
        with self._lock:
            self._job.ledger.refusals.add(self._job.batch.id, found, lease=self._lease)
            self._known.update((one.ordinal, one) for one in found)
        self.check()

    def check(self) -> None:
        """Make sure that no more are refused than the run allows, and that some are left of a whole batch.

        :raises TooManyRefusedByTidepoolError: if not.
        """
        of = self._job.prepared.whole or self._job.prepared
        with self._lock:
            late = len(self._known)
        if not late:
            return
        refused = of.quarantined + self._beside[0] + late
        is_too_many = refused * 100 > self._job.wishes.max_refused_percent * of.records
        # A part may end with nothing, where the whole batch has others.
        if is_too_many or (self.is_all and self._job.prepared.whole is None):
            raise TooManyRefusedByTidepoolError(
                self._job.batch.label,
                refused,
                of.records,
                self._job.wishes.max_refused_percent,
                live=self._job.body["dataSetType"] != NORMAL,
            )

    def finish(self) -> None:
        """Let the quarantine file and the ledger's counts tell of them, before anything is visible."""
        with self._lock:
            known = dict(self._known)
        if not known:
            return
        job = self._job
        job.work.add_to_quarantine(
            job.prepared, {ordinal: one.problems for ordinal, one in sorted(known.items())}
        )
        late, rows = len(known), sum(one.rows for one in known.values())
        job.ledger.batches.set_counts(
            job.batch.id,
            accepted=sum(job.prepared.accepted.values()) - late,
            quarantined=job.prepared.quarantined + late,
            expected_rows=job.prepared.expected_rows - rows,
        )
        whole = job.prepared.whole
        if whole is not None and job.batch.part_of is not None:
            job.ledger.batches.set_counts(
                job.batch.part_of,
                accepted=whole.accepted - late - self._beside[0],
                quarantined=whole.quarantined + late + self._beside[0],
                expected_rows=whole.expected_rows - rows - self._beside[1],
            )


def _refusals(sent: Sequence[Identified], error: TidepoolRejectedError) -> list[Refusal]:
    problems: dict[int, list[tuple[str, str]]] = {}
    for problem in error.problems:
        if problem.index is not None and problem.index < len(sent):
            found = (problem.code, masked_pointer(problem.pointer))
            problems.setdefault(problem.index, []).append(found)
    return [
        Refusal(
            ordinal=sent[index].ordinal,
            type=str(json.loads(sent[index].line)["type"]),
            rows=len(sent[index].ids),
            problems=tuple(found),
        )
        for index, found in sorted(problems.items())
    ]


def _named(refused: Iterable[Refusal]) -> str:
    counted = Counter((one.type, code) for one in refused for code, _pointer in one.problems)
    return ", ".join(f"{count} {kind} {code}" for (kind, code), count in counted.most_common(5))
