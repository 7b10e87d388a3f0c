"""Data exported from Tidepool, cleaned so that it can be uploaded again: the format ``tidepool-export``.

An export shows records as the Platform stores them: with what it has added to each, with links where a bolus
or status was once embedded, and, in old exports, with mmol/L values labelled mg/dL. A first
pass over all exported files of a batch finds what no single record shows (:mod:`.survey`); then each
record is cleaned on its own (:mod:`.cleaning`) and processed like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final, TypeVar

from tidepool_ingest.formats.ndjson import split_as_it_begins
from tidepool_ingest.formats.reader import Block, Reader, ReadingContext
from tidepool_ingest.formats.tidepool_export.cleaning import ExportCleaner
from tidepool_ingest.formats.tidepool_export.survey import See, Survey, survey
from tidepool_ingest.formats.tidepool_export.telling import ExportKind, ExportSigns
from tidepool_ingest.model.decode import NotDecodableError, decode
from tidepool_ingest.model.verdict import collector_paused
from tidepool_ingest.staging.source_file import SourceFile

T = TypeVar("T")


class TidepoolExportReader(Reader):
    """Reads exported records, one per line or all in one array, and cleans them.

    All exported files of a batch are one source: a link may lead from one to another.
    """

    name = "tidepool-export"
    title = "Export of Tidepool's data API"
    joins_files = True
    stages_rows = True
    holds_other_objects = True
    kind: ClassVar[ExportKind] = ExportKind.DATA_API
    """Which export it is, as its rows show."""
    may_mislabel: ClassVar[bool] = True
    """Whether mmol/L values may be labelled mg/dL."""

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._survey: Survey | None = None
        self._cleaner = ExportCleaner()

    def survey(self) -> None:
        """Find the wrong labels, the links that can be followed, and whether it is this export at all."""
        signs = [ExportSigns() for _file in self.files]
        self.survey_records(lambda number, record, position: signs[number].see(record, position))
        for file, found in zip(self.files, signs, strict=True):
            found.check(self.kind, file.number)

    def survey_records(self, see: See | None = None) -> None:
        """Find the wrong labels, and the links that can be followed.

        :param see: gets each record of the first pass.
        """
        context = self.context if self.may_mislabel else replace(self.context, units_are_given=True)
        self._survey = survey([partial(self.surveyed, file) for file in self.files], context, see)
        self._cleaner = self._survey.cleaner()

    def surveyed(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file that the survey is about."""
        return self.records(file)

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field; of an embedded datum by its path, such as ``bolus.id``."""
        return self._cleaner.changes

    @property
    def embedded(self) -> AbstractSet[int]:
        """Digests of the contents that were linked to and are now sent inside the linking record."""
        return frozenset() if self._survey is None else self._survey.links.embedded

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file, cleaned."""
        for block in map(_without_data_sets, self.records(file)):
            with collector_paused():
                cleaned = [self._cleaner.apply(line) for line in block.lines]
            yield replace(block, lines=cleaned, staged=block.lines if block.staged is None else block.staged)

    def records(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file as Tidepool's data API shows them."""
        return self.rows(file)

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file as exported."""
        return split_as_it_begins(file.text(), file.number)

    def close(self) -> None:
        """Remove the records that are waiting to be embedded."""
        if self._survey is not None:
            self._survey.links.close()


DATA_SET_TYPE: Final = "upload"
"""Type of the record that the Platform keeps of each data set, and shows beside its data."""

DATA_SET_ROW: Final = "data-set"
"""Why such a row gives no record: it is the server's own, and uploading opens a data set of its own."""


def _without_data_sets(block: Block) -> Block:
    """Return a block without the rows that are data sets, which are counted."""
    dropped = {index for index, line in enumerate(block.lines) if _is_data_set(line)}
    if not dropped:
        return block
    kept = [index for index in range(len(block.lines)) if index not in dropped]
    positions = block.row_positions

    def those_of(parallel: Sequence[T] | None) -> list[T] | None:
        return None if parallel is None else [parallel[index] for index in kept]

    return replace(
        block,
        lines=[block.lines[index] for index in kept],
        staged=those_of(block.staged),
        positions=[positions[index] for index in kept],
        where=those_of(block.where),
        more_rows={new: block.more_rows[old] for new, old in enumerate(kept) if old in block.more_rows},
        skipped=block.skipped | {DATA_SET_ROW: block.skipped.get(DATA_SET_ROW, 0) + len(dropped)},
    )


def _is_data_set(line: bytes) -> bool:
    # Nearly every row has an `uploadId`; the closing quote tells them apart.
    if b'"upload"' not in line:
        return False
    try:
        row = decode(line)
    except NotDecodableError:
        return False
    return isinstance(row, dict) and row.get("type") == DATA_SET_TYPE
