"""One pass over a batch's files: each record is judged and filed, accepted ones in chunks."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

from tidepool_ingest.model import Problem, type_of
from tidepool_ingest.options import CHUNK_BYTES
from tidepool_ingest.prepare.glucose_guard import GlucoseGuard
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.prepare.sorting import RecordSorter, Sorted
from tidepool_ingest.staged_batch import StagedBatch, named
from tidepool_ingest.staging.block import Block
from tidepool_ingest.staging.edits import Edits
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import RecordEdits
from tidepool_ingest.staging.records import open_file
from tidepool_ingest.staging.work_area import AcceptedWriter, PreparedBatch, QuarantineWriter, WorkArea


def file_batch(batch: StagedBatch, work: WorkArea, *, chunk_records: int) -> PreparedBatch:
    """Read, judge and file every record of a batch into its work area.

    :param batch: the batch.
    :param work: its work area, which is whole only once this has returned.
    :param chunk_records: records a chunk, at most.
    :raises BatchError: if a file cannot be read, or is not the one that the manifest names.
    :raises GlucoseUnitsError: if the glucose values cannot be in the unit they claim.
    """
    manifest = batch.manifest
    edits = Edits(manifest.edits or RecordEdits())
    work.begin()
    with ExitStack() as stack:
        sorter = stack.enter_context(RecordSorter(RecordChecker.of(manifest)))
        accepted = stack.enter_context(work.accepted_writer())
        quarantine = stack.enter_context(work.quarantine_writer())
        filing = _Filing(accepted, quarantine, chunk_records)
        for number, file in enumerate(manifest.files, 1):
            reader = open_file(batch.folder.path, file, number)
            try:
                for block in reader:
                    filing.add(number, block, sorter, edits if manifest.edits else None)
                reader.check(file)
            except BatchError as error:
                raise error.for_batch(named(batch.folder)) from None
        filing.finish_chunk()
        if not (manifest.edits and manifest.edits.glucose_units):
            filing.guard.check(named(batch.folder))
    prepared = PreparedBatch(
        content_key=batch.content_key,
        data_set=manifest.data_set,
        chunk_records=chunk_records,
        changes=dict(edits.changes),
        chunks=tuple(accepted.chunks),
        **filing.counts(),
    )
    work.finish(prepared)
    return prepared


class _Filing:
    """Where the records of a batch go, and how many went where.

    :param accepted: takes the accepted records.
    :param quarantine: takes the refused ones.
    :param chunk_records: records a chunk, at most.
    """

    def __init__(self, accepted: AcceptedWriter, quarantine: QuarantineWriter, chunk_records: int) -> None:
        self.guard = GlucoseGuard()
        self._accepted_writer = accepted
        self._quarantine_writer = quarantine
        self._chunk_records = chunk_records
        self._chunk: list[bytes] = []
        self._chunk_bytes = 0
        self._chunk_is_plain = True
        self._accepted: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._warnings: dict[str, Counter[str]] = {}
        self._staged = self._quarantined = self._identical = self._expected_rows = 0

    def add(self, file_number: int, block: Block, sorter: RecordSorter, edits: Edits | None) -> None:
        """Judge and file the records of one block."""
        self._staged += len(block)
        lines = [edits.apply(line) for line in block.lines] if edits else block.lines
        for index, record in enumerate(sorter.sort(lines)):
            if record.problems:
                # The person who corrects it finds the record as it was staged, not as it was edited.
                staged = block.lines[index]
                self._refuse(record.datum, record.problems, file_number, block.first_position + index, staged)
            elif record.identical:
                self._identical += 1
            else:
                self._accept(record)
        for position, code in block.refused:
            self._refuse(None, (Problem(code, ""),), file_number, position, None)

    def _accept(self, record: Sorted) -> None:
        assert record.datum is not None
        size = len(record.line) + 1
        if len(self._chunk) >= self._chunk_records or self._chunk_bytes + size > CHUNK_BYTES:
            self.finish_chunk()
        self._chunk.append(record.line)
        self._chunk_bytes += size
        self._chunk_is_plain = self._chunk_is_plain and not record.embedded and not record.has_own_id
        self._accepted[record.datum["type"]] += 1
        self._expected_rows += 1 + len(record.embedded)
        self.guard.see(record.datum)
        if record.warnings:
            _count(self._warnings, record.datum, record.warnings)

    def finish_chunk(self) -> None:
        """Write what has gathered as one chunk."""
        if self._chunk:
            self._accepted_writer.write(self._chunk, plain=self._chunk_is_plain)
        self._chunk, self._chunk_bytes, self._chunk_is_plain = [], 0, True

    def _refuse(
        self, datum: Any, problems: tuple[Problem, ...], file_number: int, position: int, staged: bytes | None
    ) -> None:
        self._quarantined += 1
        _count(self._reasons, datum, problems)
        self._quarantine_writer.add(file_number, position, problems, staged)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of the chunk plan."""
        return {
            "records": self._staged,
            "accepted": dict(self._accepted),
            "quarantined": self._quarantined,
            "identical": self._identical,
            "expected_rows": self._expected_rows,
            "reasons": {kind: dict(codes) for kind, codes in self._reasons.items()},
            "warnings": {kind: dict(codes) for kind, codes in self._warnings.items()},
        }


def _count(counts: dict[str, Counter[str]], datum: Any, problems: tuple[Problem, ...]) -> None:
    """Count a record once for each code, under its type."""
    counts.setdefault(type_of(datum), Counter()).update({code for code, _pointer in problems})
