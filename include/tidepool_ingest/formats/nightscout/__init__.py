"""What a Nightscout site holds, as its API, MongoDB or other programs give it: the format ``nightscout``.

All such files of a batch are read together. A first pass sees every document: what was delivered when, which
profile was in force, what is told twice. The second one makes records, a row at a time: entries stream, and
of treatments only what they say about each other is held in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tidepool_ingest.formats.delimited import EVENT_UNKNOWN
from tidepool_ingest.formats.nightscout.documents import (
    Kind,
    Reading,
    blocks_of,
    documents_of,
    kind_of,
    recognizes,
)
from tidepool_ingest.formats.nightscout.entries import DUPLICATE, Entries
from tidepool_ingest.formats.nightscout.joining import Joined, TooManyError
from tidepool_ingest.formats.nightscout.profiles import NoZoneError, Profiles
from tidepool_ingest.formats.nightscout.records import Writer
from tidepool_ingest.formats.nightscout.times import StatedClocks
from tidepool_ingest.formats.nightscout.values import RefusedDocumentError
from tidepool_ingest.formats.reader import Block, Device, Reader, ReadingContext, RejectedRow
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

if TYPE_CHECKING:
    from pydantic import JsonValue

DEVICE_ID: Final = "Nightscout"
"""One for a person: a site knows programs and phones, which change."""

HELD_MAX: Final = 1_000_000
"""Treatments and profiles of a batch: some hundred megabytes, and ten years of a loop."""

DEVICE_STATUS: Final = "device-status"
CATALOGUE: Final = "food-catalogue"

_ROWS_SHIFT: Final = 40


class NightscoutReader(Reader):
    """Reads entries, treatments and profiles, and leaves out what has no type at Tidepool."""

    name = "nightscout"
    title = "Nightscout site"
    has_own_rows = True
    joins_files = True
    version = 1
    options = frozenset({"timezone", "keep_notes"})
    held_max: int = HELD_MAX

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._profiles = Profiles()
        writer = Writer(context.device_id or DEVICE_ID, self._profiles)
        self._entries = Entries(writer)
        self._joined = Joined(self._profiles, writer, most=self.held_max)
        self._numbers = {file: number for number, file in enumerate(files)}

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Return whether a text begins with a document of Nightscout's."""
        return recognizes(start)

    @property
    def has_names(self) -> bool:
        """Documents are named by the site, and so is each record of them."""
        return True

    def devices(self) -> list[Device]:
        """Return the one device that a person's site stands for."""
        tags: list[JsonValue] = []
        if self._entries.has_sensor:
            tags.append("cgm")
        if self._entries.has_meter:
            tags.append("bgm")
        if self._joined.has_pump:
            tags.append("insulin-pump")
        fields: dict[str, JsonValue] = {"deviceId": DEVICE_ID, "timeProcessing": "none"}
        if tags:
            fields["deviceTags"] = tags
        if zone := self._profiles.latest_zone():
            fields["timezone"] = zone
        return [Device("", fields)]

    def survey(self) -> None:
        """See all documents.

        :raises BatchError: a file cannot be read or holds no document of Nightscout's; there are too many
            treatments; or profiles cannot be laid out, for nothing tells in which time zone.
        """
        for file in self.files:
            self._survey(file)
        try:
            self._joined.settle(self._stated(), self._entries.fingers)
        except NoZoneError:
            raise BatchError("timezone-missing", file_number=self.files[0].number) from None

    def _survey(self, file: SourceFile) -> None:
        rows = 0
        is_known = False
        for found in documents_of(file):
            rows += len(found.rows) + len(found.rejected)
            for position, _text, _where, document in found.rows:
                if type(document) is Reading:
                    is_known = True
                    self._entries.see_reading(document)
                    continue
                kind = kind_of(document)
                is_known = is_known or kind is not None
                try:
                    self._see(kind, self._row(file, position), document)
                except TooManyError:
                    detail = f"there are more than {self.held_max:,} treatments and profiles"
                    raise BatchError("file-too-many-events", file_number=file.number, detail=detail) from None
        if rows and not is_known:
            detail = "it holds no entries, treatments or profiles of Nightscout"
            raise BatchError("file-other-format", file_number=file.number, detail=detail)

    def _see(self, kind: Kind | None, row: int, document: dict[str, Any]) -> None:
        if kind is Kind.ENTRY:
            self._entries.see(document)
        elif kind is Kind.TREATMENT:
            self._joined.see_treatment(row, document)
        elif kind is Kind.PROFILE:
            self._joined.see_profile(row, document)

    def _stated(self) -> StatedClocks:
        """Return the zones that somebody stated: of the first file that has some, else of the data set."""
        stated = [file for file in self.files if file.options.timezone is not None]
        if not stated and self.context.timezone is None:
            return StatedClocks(())
        return StatedClocks(self.context.periods_of((stated or list(self.files))[0]))

    def _row(self, file: SourceFile, position: int) -> int:
        return self._numbers[file] << _ROWS_SHIFT | position

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of a file that was surveyed."""
        reading = self._entries.reading
        for found in documents_of(file):
            lines: list[bytes] = []
            texts: list[bytes] = []
            positions: list[int] = []
            places: list[str] = []
            block = Block(
                found.first,
                lines,
                list(found.rejected),
                staged=texts,
                positions=positions,
                where=places,
                skipped={},
            )
            for position, staged, where, document in found.rows:
                if type(document) is Reading:
                    record = reading(document)
                    if record is None:
                        block.skipped[DUPLICATE] = block.skipped.get(DUPLICATE, 0) + 1
                    else:
                        lines.append(record)
                        texts.append(staged)
                        positions.append(position)
                        places.append(where)
                    continue
                try:
                    made = self._records(file, position, document)
                except RefusedDocumentError as refused:
                    block.rejected.append(RejectedRow(position, refused.code, staged, where))
                    continue
                if isinstance(made, str):
                    block.skipped[made] = block.skipped.get(made, 0) + 1
                    continue
                lines += made
                texts += [staged] * len(made)
                positions += [position] * len(made)
                places += [where] * len(made)
            yield block

    def _records(self, file: SourceFile, position: int, document: dict[str, Any]) -> list[bytes] | str:
        """Return the records of a document, or the reason why it is only counted.

        :raises RefusedDocumentError: it gives no record.
        """
        kind = kind_of(document)
        if kind is Kind.ENTRY:
            made = self._entries.record(document)
            return made if isinstance(made, str) else [made]
        if kind is Kind.TREATMENT:
            row = self._row(file, position)
            return self._joined.treatment(row, document, keep_notes=file.options.keep_notes)
        if kind is Kind.PROFILE:
            made = self._joined.profile(self._row(file, position), document)
            return made if isinstance(made, str) else [made]
        if kind is None:
            raise RefusedDocumentError(EVENT_UNKNOWN)
        return DEVICE_STATUS if kind is Kind.DEVICE_STATUS else CATALOGUE

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the documents of a file as they are."""
        return blocks_of(file)
