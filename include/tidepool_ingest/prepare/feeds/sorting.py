"""Which of a feed's records are accepted: as in any batch, and by their origins.

A batch's files are read twice. The first pass finds which records are versions of one another, the second
one files them, so that memory does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import Any, Final, Self

from tidepool_ingest.model import Problem, deduplicator_named
from tidepool_ingest.model.deduplicators import DATA_SET_DELETE_ORIGIN_OLDER, REPLACED_ONLY_BY_NEWER
from tidepool_ingest.prepare.editing import Editing
from tidepool_ingest.prepare.feeds.origins import Originated, OriginGiver
from tidepool_ingest.prepare.feeds.survey import OriginSurvey
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.seen import SeenDigests
from tidepool_ingest.prepare.sorting import RecordSorter, Sorted, SortedBlock
from tidepool_ingest.staged_batch import StagedBatch
from tidepool_ingest.staging.manifest import Manifest
from tidepool_ingest.staging.records import open_file

ORIGIN_TIME_MISSING: Final = "staged-origin-time-missing"
"""The deduplicator takes an edit of this record only with a newer ``origin.time``, and it has none."""


class FeedSorter:
    """Judges the records of one batch of a feed, block by block; to be used in a ``with`` statement.

    :param batch: the batch; its files are read once before the first block is sorted.
    :param inside: digests of contents that travel inside other records, and so not alone.
    """

    def __init__(self, batch: StagedBatch, inside: AbstractSet[int] = frozenset()) -> None:
        self._batch = batch
        self._sorter = _sorter(batch.manifest, inside)
        self._giver = OriginGiver.of(batch.manifest)
        self._survey = OriginSurvey.of(batch.manifest)
        self._keeps_newer = (
            deduplicator_named(batch.manifest.deduplicator_name) is DATA_SET_DELETE_ORIGIN_OLDER
        )
        self._sorted = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._survey)
            self._read_through()
            stack.enter_context(self._sorter)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def sort(self, lines: list[bytes]) -> SortedBlock:
        """Judge some records.

        :param lines: records as they would be uploaded, one JSON text each, but for their origins.
        """
        found = self._sorter.sort(lines)
        sent, special = list(lines), dict(found.special)
        for index, datum in accepted_of(found):
            ordinal = self._sorted + index
            record = self._giver.give(lines[index], datum)
            before = special.get(index) or Sorted(lines[index], datum)
            if refused := self._survey.refused.get(ordinal):
                special[index] = before._replace(problems=refused)
            elif self._survey.is_replaced(ordinal, record):
                special[index] = before._replace(replaced=True)
            else:
                sent[index] = record.line
                warned = (*before.warnings, *self._warnings(record))
                if index in special or warned:
                    special[index] = before._replace(line=record.line, warnings=warned)
        self._sorted += len(lines)
        return SortedBlock(sent, found.data, special)

    def _read_through(self) -> None:
        """Look at the origins of all records, judged as they will be again."""
        manifest, folder = self._batch.manifest, self._batch.folder.path
        with Editing.of(manifest, folder) as editing, _sorter(manifest, editing.inside) as sorter:
            ordinal = 0
            for number, file in enumerate(manifest.files, 1):
                for block in open_file(folder, file, number):
                    found = sorter.sort(editing.lines(block, file.format))
                    for index, datum in accepted_of(found):
                        record = self._giver.give(found.lines[index], datum)
                        self._survey.look_at(ordinal + index, record, datum)
                    ordinal += len(found.lines)

    def _warnings(self, record: Originated) -> tuple[Problem, ...]:
        timeless = any(one.type in REPLACED_ONLY_BY_NEWER and one.time is None for one in record.origins)
        if self._keeps_newer and timeless:
            return (Problem(ORIGIN_TIME_MISSING, "/origin/time"),)
        return ()


def accepted_of(found: SortedBlock) -> list[tuple[int, Mapping[str, Any]]]:
    """Return index and decoded record of what is uploaded of some records."""
    out = {index for index, record in found.special.items() if record.inside or not record.accepted}
    return [
        (index, datum) for index, datum in enumerate(found.data) if datum is not None and index not in out
    ]


class _NothingSeen(SeenDigests):
    """Remembers nothing: in a feed a repeat is another version, and comes to count by its origin."""

    def __contains__(self, digest: int) -> bool:
        return False

    def add(self, digests: Iterable[int]) -> list[int]:
        """Forget them."""
        return []


def _sorter(manifest: Manifest, inside: AbstractSet[int]) -> RecordSorter:
    nothing = _NothingSeen()
    return RecordSorter(RecordChecker.of(manifest), inside, contents=nothing, ids=nothing)
