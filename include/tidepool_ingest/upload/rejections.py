"""Records that local validation accepted but Tidepool rejects.

One such record makes Tidepool reject its whole request and store none of it. The response names it by its
index in the request, so that it can go to quarantine and the others be sent again. If Tidepool fails instead,
with 500, no response names it; it is found by :mod:`.isolation`. A rejected record is recorded in the ledger
and never sent again for this batch, whatever data set it goes to.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from tidepool_ingest.client import TidepoolRejectedError
from tidepool_ingest.deep_json import loads
from tidepool_ingest.guards import QuarantineLimitError
from tidepool_ingest.ledger import Rejection
from tidepool_ingest.model import masked_pointer
from tidepool_ingest.model.deduplicators import NORMAL
from tidepool_ingest.texts import counted
from tidepool_ingest.upload.context import LeasedBatch
from tidepool_ingest.upload.record_ids import RecordWithIds

log = logging.getLogger(__name__)

FAILS_ALONE: Final = "tidepool-500"
"""Our own code: Tidepool answers 500 to each request that holds the record, and takes others."""


class TooManyRejectedByTidepoolError(QuarantineLimitError):
    """Tidepool itself rejected more of a batch's records than the run allows.

    :param batch: the batch's label.
    :param rejected: records in quarantine, including those that local validation rejected.
    :param staged: records staged.
    :param allowed: the share allowed, in percent.
    :param live: whether what was sent before is already visible: the data set is a continuous one.
    """

    def __init__(self, batch: str, rejected: int, staged: int, allowed: float, *, live: bool = False) -> None:
        when = "before the rest of it is sent" if live else "before its data set is closed"
        visible = "What was sent of it before is visible." if live else "Nothing of it is visible."
        super().__init__(
            f"{batch} stops {when}: {rejected} of {staged} records "
            f"({100 * rejected / staged:.1f} %) were rejected, some of them by Tidepool itself, more than "
            f"the {allowed:g} % allowed. {visible}"
        )
        self.particulars = f"{rejected:,} of {staged:,} records, some of them by Tidepool itself"


class RejectedRecords:
    """The records of one batch that Tidepool rejected. Safe to use from several threads.

    :param leased: the batch.
    """

    def __init__(self, leased: LeasedBatch) -> None:
        self._leased = leased
        self._lock = threading.Lock()
        ledger, batch = leased.ledger, leased.batch
        self._known = ledger.rejections.of_batch(batch.id)
        # No other part of the same batch is in progress while this one is.
        self._in_other_parts = (0, 0) if batch.part_of is None else ledger.parts.rejected_in_others(batch)

    @property
    def ordinals(self) -> frozenset[int]:
        """Their ordinals among the records that ``prepare`` accepted."""
        with self._lock:
            return frozenset(self._known)

    def without(self, records: Sequence[RecordWithIds]) -> Sequence[RecordWithIds]:
        """Return the other records."""
        rejected = self.ordinals
        return [record for record in records if record.ordinal not in rejected] if rejected else records

    @property
    def failing(self) -> frozenset[int]:
        """The ordinals of those for which Tidepool answers 500."""
        with self._lock:
            return frozenset(
                ordinal for ordinal, found in self._known.items() if (FAILS_ALONE, "") in found.problems
            )

    @property
    def rows(self) -> int:
        """Rows that Tidepool would have made of them."""
        with self._lock:
            return sum(rejection.rows for rejection in self._known.values())

    @property
    def is_all(self) -> bool:
        """Whether Tidepool has rejected every record that is sent."""
        return len(self.ordinals) == self._leased.prepared.travelling

    def record(self, sent: Sequence[RecordWithIds], error: TidepoolRejectedError) -> None:
        """Record which records of a request were rejected.

        :param sent: the records in the order in which they were sent.
        :param error: the response.
        :raises TidepoolRejectedError: the response, if it names no record of the request.
        :raises TooManyRejectedByTidepoolError: if too many are rejected by now.
        """
        found = _rejections(sent, error)
        if not found:
            raise error
        log.warning(
            "Tidepool rejected %s that local validation accepted, now in quarantine: %s. Please report these "
            "codes.",
            counted(len(found), "record"),
            _by_code(found),
        )
        self._add(found)

    def record_failing(self, failing: Sequence[RecordWithIds]) -> None:
        """Record the records that make Tidepool answer 500, each time and each by itself.

        :param failing: the records.
        :raises TooManyRejectedByTidepoolError: if too many are rejected by now.
        """
        found = [_rejection(record, ((FAILS_ALONE, ""),)) for record in failing]
        if found:
            log.warning(
                "Tidepool answers 500 to whatever holds one of %s, now in quarantine: %s. Please report "
                "this.",
                counted(len(found), "record"),
                _by_code(found),
            )
            self._add(found)

    def record_dropped(self, found: Sequence[Rejection]) -> None:
        """Record which records Tidepool would drop silently.

        :param found: the records; none of them has been sent.
        :raises TooManyRejectedByTidepoolError: if too many are rejected by now.
        """
        if found:
            log.warning(
                "The data set's deduplicator would drop %s, now in quarantine: %s. Correct and stage them "
                "again if they matter; docs/codes.md explains the codes.",
                counted(len(found), "record"),
                _by_code(found),
            )
            self._add(found)

    def _add(self, found: Sequence[Rejection]) -> None:
        # Not under the lock: who waits for it may be in a transaction that the ledger lets nobody else into.
        self._leased.ledger.rejections.add(self._leased.batch.id, found, lease=self._leased.lease)
        with self._lock:
            self._known.update((rejection.ordinal, rejection) for rejection in found)
        self.check()

    def check(self) -> None:
        """Make sure that no more are rejected than the run allows, and that a whole batch keeps some records.

        :raises TooManyRejectedByTidepoolError: if not.
        """
        prepared = self._leased.prepared
        whole = prepared.whole or prepared
        with self._lock:
            late = len(self._known)
        if not late:
            return
        others = self._in_other_parts[0]
        rejected = whole.quarantined + others + late
        left = prepared.whole.accepted - others - late if prepared.whole else prepared.travelling - late
        limit = self._leased.context.options.rejection_limit
        is_too_many = limit.is_exceeded(rejected, staged=whole.records, accepted=left)
        # A part may end with no records, since the whole batch has others.
        if is_too_many or (self.is_all and prepared.whole is None):
            raise TooManyRejectedByTidepoolError(
                self._leased.batch.label,
                rejected,
                whole.records,
                limit.percent,
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
            leased.prepared, {ordinal: rejection.problems for ordinal, rejection in sorted(known.items())}
        )
        late, rows = len(known), sum(rejection.rows for rejection in known.values())
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
                accepted=whole.accepted - late - self._in_other_parts[0],
                quarantined=whole.quarantined + late + self._in_other_parts[0],
                expected_rows=whole.expected_rows - rows - self._in_other_parts[1],
            )


def _rejections(sent: Sequence[RecordWithIds], error: TidepoolRejectedError) -> list[Rejection]:
    problems: dict[int, list[tuple[str, str]]] = {}
    for problem in error.problems:
        if problem.index is not None and problem.index < len(sent):
            found = (problem.code, masked_pointer(problem.pointer))
            problems.setdefault(problem.index, []).append(found)
    return [_rejection(sent[index], tuple(found)) for index, found in sorted(problems.items())]


def _rejection(record: RecordWithIds, problems: tuple[tuple[str, str], ...]) -> Rejection:
    return Rejection(
        ordinal=record.ordinal,
        type=str(loads(record.line)["type"]),
        rows=len(record.ids),
        problems=problems,
    )


def _by_code(rejected: Iterable[Rejection]) -> str:
    counted = Counter(
        (rejection.type, code) for rejection in rejected for code, _pointer in rejection.problems
    )
    return ", ".join(f"{count} {kind} {code}" for (kind, code), count in counted.most_common(5))
