"""What the Export button of Tidepool's web page gives as JSON: the format ``tidepool-web-export``.

It has the records of the data API, changed for people who read tables
(:mod:`tidepool_ingest.formats.tidepool_export.web_fields`). A first pass finds out whether the file is one,
and which rows pump settings were cut into. Then each record is made what it was, and goes on as one of a
``tidepool-export`` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tidepool_ingest.formats.reader import Block, ReadingContext, RejectedRow
from tidepool_ingest.formats.tidepool_export.cleaning import link_of
from tidepool_ingest.formats.tidepool_export.reader import TidepoolExportReader
from tidepool_ingest.formats.tidepool_export.telling import ExportKind, ExportSigns
from tidepool_ingest.formats.tidepool_export.units import kind_of
from tidepool_ingest.formats.tidepool_export.web_fields import is_piece
from tidepool_ingest.formats.tidepool_web_export.pump_settings import Rows, SettingsJoiner, settings_of
from tidepool_ingest.formats.tidepool_web_export.restoring import NotRestorableError, Restorer
from tidepool_ingest.model import NotDecodableError, decode
from tidepool_ingest.staging.source_file import SourceFile

INCOMPLETE: Final = "staged-export-incomplete"
"""Warning about an accepted record: the export has no column for some optional fields of its type, so that
the record may lack what it had."""

JOINED: Final = "joined-settings"
"""Why a row gives no record: it is part of one that another row stands for."""


_LINKED_TYPES: Final = ("bolus", "deviceEvent", "wizard")


class TidepoolWebExportReader(TidepoolExportReader):
    """Reads the rows of a web export, makes them records of the data API, and cleans those."""

    name = "tidepool-web-export"
    title = "Export of Tidepool's web page"
    kind = ExportKind.WEB_PAGE
    may_mislabel = False  # the page writes each label anew, for the unit that it has converted the values to

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._restorer = Restorer()
        self._has_links = False
        self._counted: dict[SourceFile, SettingsJoiner] = {}

    @property
    def changes(self) -> Counter[str]:
        """How many records were changed, by field."""
        return self._restorer.changes + super().changes

    def survey(self) -> None:
        """Find out whether each file is a web export, which rows belong together, and what links to what."""
        for file in self.files:
            signs, joiner = ExportSigns(), SettingsJoiner(file.number)
            for block in self.rows(file):
                for position, line in enumerate(block.lines, block.first_position):
                    row = _decoded(line)
                    signs.see(row, position)
                    if isinstance(row, dict):
                        joiner.count(row)
                        self._has_links = self._has_links or link_of(kind_of(row), row) is not None
            signs.check(self.kind, file.number)
            self._counted[file] = joiner
        self.survey_records()

    def surveyed(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file that may link to each other: about others there is nothing to find."""
        restorer = Restorer()
        for block in self.rows(file) if self._has_links else ():
            lines = []
            for line in block.lines:
                row = _decoded(line)
                if isinstance(row, dict) and row.get("type") in _LINKED_TYPES:
                    with suppress(NotRestorableError):
                        lines.append(restorer.restore(line, row))
            yield Block(block.first_position, lines)

    def records(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file as the data API would have shown them."""
        joiner = self._counted[file]
        for block in self.rows(file):
            yield self._restored(block, joiner)

    def _restored(self, block: Block, joiner: SettingsJoiner) -> Block:
        made = _Made(block)
        for position, line in enumerate(block.lines, block.first_position):
            row = _decoded(line)
            if not isinstance(row, dict):
                made.add([(position, line)], line)
                continue
            rows: Rows | None = [(position, line)]
            try:
                if is_piece(row.get("type")):
                    rows = joiner.add(position, line, row)
                    if rows is not None:
                        text, changed = settings_of(rows, is_in_mmol=joiner.is_in_mmol)
                        self._restorer.changes.update(changed)
                        made.add(rows, text)
                else:
                    made.add([(position, line)], self._restorer.restore(line, row))
            except NotRestorableError as error:
                made.reject(rows or [], error.code)
        return made.block()


class _Made:
    """What a block of rows has given so far.

    :param block: the rows.
    """

    def __init__(self, block: Block) -> None:
        self._block = block
        self._lines: list[bytes] = []
        self._first_rows: Rows = []
        self._rejected = list(block.rejected)
        self._more: dict[int, Rows] = {}
        self._joined = 0

    def add(self, rows: Rows, record: bytes) -> None:
        """Add a record, and the rows that it was made of."""
        if len(rows) > 1:
            self._more[len(self._lines)] = rows[1:]
            self._joined += len(rows) - 1
        self._lines.append(record)
        self._first_rows.append(rows[0])

    def reject(self, rows: Rows, code: str) -> None:
        """Reject rows."""
        self._rejected += [RejectedRow(position, code, line) for position, line in rows]

    def block(self) -> Block:
        """Return all of it."""
        return replace(
            self._block,
            lines=self._lines,
            staged=[line for _position, line in self._first_rows],
            positions=[position for position, _line in self._first_rows],
            more_rows=self._more,
            rejected=self._rejected,
            skipped={JOINED: self._joined} if self._joined else {},
            warning=INCOMPLETE,
        )


def _decoded(line: bytes) -> object:
    try:
        return decode(line)
    except NotDecodableError:
        return None
