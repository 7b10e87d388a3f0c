"""The format ``libreview``: the CSV that LibreView makes of FreeStyle Libre sensors, in any language.

It is read by position, because its titles are translated. The file is read twice: what only all of its rows
show comes first (the order of its dates, whether a scan is one, whether its times can be in the zone), and a
file that is to be held gives no record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Final

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.delimited import (
    DUPLICATE_ROW,
    EMPTY_EVENT,
    EVENT_UNKNOWN,
    METADATA,
    ROW_RAGGED,
    TIME_UNREADABLE,
    DelimitedText,
    Rows,
)
from tidepool_ingest.formats.libreview.layout import (
    COLUMNS,
    KIND,
    ROWS_LOOKED_AT,
    SERIAL,
    Heading,
    begins_as_libreview,
    heading_of,
)
from tidepool_ingest.formats.libreview.records import VIEW, Maker
from tidepool_ingest.formats.libreview.stamps import DAY, DAYS_MAX, PlainDay, Time, Zone, split
from tidepool_ingest.formats.libreview.survey import Owner, Survey, content_digest
from tidepool_ingest.formats.libreview.tracks import Found
from tidepool_ingest.formats.reader import Block, ClockSigns, Device, Reader, ReadingContext, RejectedRow
from tidepool_ingest.formats.row_counts import OTHER_DEVICE, UNDER_OTHER_SERIAL
from tidepool_ingest.local_times import DOUBLED
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

SAME_STAMP_MAX: Final = 10_000
"""Rows of one serial, record type and minute among which equal ones are found."""

_SCAN: Final = "1"
_NOTE: Final = "6"


class LibreViewReader(Reader):
    """Reads one LibreView file, twice."""

    name = "libreview"
    title = "LibreView export"
    rows_are_json = False
    version = 1
    options = frozenset({"timezone", "date_order", "keep_notes", "serial"})
    has_own_rows = True

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        (self._file,) = files
        self._text = DelimitedText(self._file)
        self._heading: Heading | None = None
        self._survey: Survey | None = None

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Return whether the text has LibreView's header, in whichever language."""
        return begins_as_libreview(start)

    def survey(self) -> None:
        """Read the file a first time.

        :raises BatchError: it is no LibreView file, no zone is given, or it is to be one device's and is not.
        :raises ClockHeldError: its times can be read in more than one way, or cannot be right.
        """
        options = self._file.options
        zone = Zone(self.context.periods_of(self._file))
        serial = None if options.serial is None else options.serial.strip()
        survey = Survey(zone, options.date_order, serial, self._file.number)
        self._survey = survey
        for rows in self._data_rows():
            survey.see(rows, self._found_heading)
        survey.end(self._found_heading, self.context.device_id, self.context.meant_as)

    def devices(self) -> list[Device]:
        """Return the device of each serial number, in the file's order."""
        return [owner.device for owner in self._survey.owners.values()] if self._survey else []

    def clock_signs(self) -> ClockSigns:
        """Return the latest local time, and when the file says that it was generated."""
        return self._survey.clock_signs if self._survey else ClockSigns()

    def close(self) -> None:
        """Remove what was kept while reading."""
        if self._survey is not None:
            self._survey.earlier.close()

    @property
    def _found_heading(self) -> Heading:
        if self._heading is None:
            raise BatchError("file-empty", file_number=self._file.number)
        return self._heading

    def _data_rows(self) -> Iterator[Rows]:
        """Yield the rows below the header.

        :raises BatchError: as for :func:`.heading_of`.
        """
        above: Rows | None = Rows()
        for rows in self._text.rows():
            if above is not None:
                for own, more in ((above.cells, rows.cells), (above.texts, rows.texts)):
                    own.extend(more)  # type: ignore[arg-type] # each with its like
                above.lines.extend(rows.lines)
                above.rejected.extend(rows.rejected)
                if len(above) < ROWS_LOOKED_AT:
                    continue
                rows, above = self._below_header(above), None
            yield rows
        if above is not None and len(above):
            yield self._below_header(above)

    def _below_header(self, rows: Rows) -> Rows:
        """Find the header, and return the rows below it; what stands above it is not kept."""
        self._heading = heading_of(rows, self._file.number)
        line = self._heading.line
        start = rows.lines.index(line) + 1
        rejected = [one for one in rows.rejected if one[0] > line]
        return Rows(rows.cells[start:], rows.texts[start:], rows.lines[start:], rejected)

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the rows below the header as they stand."""
        first = 0
        for rows in self._data_rows():
            positions, rejected = rows.positions(first)
            yield Block(first, list(rows.texts), rejected, positions=list(positions))
            first += len(rows)

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of the file."""
        if self._survey is None:
            raise RuntimeError("the file was not surveyed")
        made = _Rows(self._found_heading, self._survey, self.context, file)
        first = 0
        for rows in self._data_rows():
            yield made.block(first, rows)
            first += len(rows)


class _Group:
    """The rows of one serial and record type, while records are made of them.

    :param owner: their device.
    :param kind: their record type.
    :param make: makes the records of one.
    :param device_id: what records call the device.
    :param found: what the survey has found about them.
    """

    def __init__(
        self,
        owner: Owner,
        kind: str,
        make: Callable[[Sequence[str], str, bool], list[str] | str],
        device_id: str,
        found: Found | None,
    ) -> None:
        self.owner = owner
        self.kind = kind
        self.make = make
        self.middle = f'","deviceId":{json.dumps(device_id)},"deviceTime":"'
        self.stamp = ""
        self._first: Sequence[str] = ()  # cells of the first row of the stamp, if it is the only one so far
        self._keys: set[int] = set()  # digests of the rows of the stamp, if there are several
        self._doubled = found.doubled if found else frozenset()
        self._date, self._minute, self._is_second = "", 0, False

    def is_repeated(self, stamp: str, cells: Sequence[str]) -> bool:
        """Return whether a row equals one of the same stamp in every cell."""
        if stamp != self.stamp:
            self.stamp, self._first = stamp, cells
            if self._keys:
                self._keys.clear()
            return False
        if not self._keys:
            self._keys.add(_digest(self._first))
        digest = _digest(cells)
        if digest in self._keys:
            return True
        if len(self._keys) < SAME_STAMP_MAX:
            self._keys.add(digest)
        return False

    def pass_of(self, date: str, minute: int) -> tuple[bool, bool]:
        """Tell the passes of an hour that is there twice apart: the second begins where rows run backwards.

        :param date: ``YYYY-MM-DD``.
        :param minute: of the day.
        :return: whether a row is of the second pass, and whether that is in doubt.
        """
        if date not in self._doubled:
            return False, True
        if date != self._date:
            self._date, self._is_second = date, False
        elif minute < self._minute:
            self._is_second = True
        self._minute = minute
        return self._is_second, False


class _Rows:
    """Makes the records of a surveyed file, a block of rows at a time."""

    def __init__(
        self,
        heading: Heading,
        survey: Survey,
        context: ReadingContext,
        file: SourceFile,
    ) -> None:
        self._heading = heading
        self._survey = survey
        self._zone = survey.tracks.zone
        self._device_id = context.device_id
        serial = file.options.serial
        self._serial = None if serial is None else serial.strip()
        self._maker = Maker(survey.units, heading.columns, keep_notes=file.options.keep_notes)
        self._groups: dict[tuple[str, str], _Group] = {}
        self._group: _Group | None = None  # of the last row, which was of this serial and record type
        self._raw_serial: str | None = None
        self._kind: str | None = None
        self._times = survey.tracks.calendar.times
        self._days: dict[str, tuple[str, PlainDay | None]] = {}  # by the spelling of their dates
        self._is_compared = self._serial is not None and len(survey.owners) > 1

    def block(self, first: int, rows: Rows) -> Block:
        """Return the records of some rows.

        :param first: position of the first of them.
        :param rows: as the file holds them.
        """
        positions, rejected = rows.positions(first)
        lines: list[bytes] = []
        staged: list[bytes] = []
        places: list[int] = []
        where: list[str] = []
        skipped: dict[str, int] = {}
        for cells, text, line, position in zip(rows.cells, rows.texts, rows.lines, positions, strict=True):
            made = self._made(cells)
            if not isinstance(made, str):
                for record in made:
                    lines.append(record.encode())
                    staged.append(text)
                    places.append(position)
                    where.append(f"line {line}")
            elif made.startswith("staged-"):
                rejected.append(RejectedRow(position, made, text, f"line {line}"))
            else:
                skipped[made] = skipped.get(made, 0) + 1
        rejected.sort(key=attrgetter("position"))
        return Block(first, lines, rejected, staged, places, where, skipped=skipped)

    def _made(self, cells: list[str]) -> list[str] | str:
        """Return the records of a row, or why it has none: code of a rejection, or reason to skip it."""
        if len(cells) < COLUMNS:
            cells = cells + [""] * (COLUMNS - len(cells))
        serial, stamp, kind = cells[SERIAL : KIND + 1]
        if kind != self._kind or serial != self._raw_serial:
            self._turn_to(serial, kind)
        group = self._group
        if group is None:
            return self._unread(cells)
        date, _blank, clock = stamp.partition(" ")
        time, day = self._times.get(clock), self._days.get(date)
        if time is None or day is None:
            time, day = self._read_stamp(stamp)
            if time is None or day is None:
                return TIME_UNREADABLE
        iso, plain = day
        local = f"{iso}T{time.text}"
        in_doubt = False
        if plain is not None and time.is_whole:
            instant, offset = plain.instant(time.minute), plain.offset
        else:
            instant, offset, in_doubt = self._looked_up(group, iso, time)
        if reason := self._reason(group, iso, time, stamp, cells):
            return reason
        start = f',"time":"{instant}{group.middle}{local}","timezoneOffset":{offset},'
        return group.make(cells, start, in_doubt)

    def _reason(self, group: _Group, iso: str, time: Time, stamp: str, cells: Sequence[str]) -> str:
        """Return why a row is skipped, empty if it is not."""
        if group.is_repeated(stamp, cells):
            return DUPLICATE_ROW
        if group.kind == _SCAN and self._is_view(group, iso, time):
            return VIEW
        if group.kind == _NOTE and (reason := self._maker.skipped(cells)):
            return reason
        if self._is_compared and content_digest(cells) in self._survey.earlier:
            return UNDER_OTHER_SERIAL
        return ""

    def _turn_to(self, serial: str, kind: str) -> None:
        """Go on to the rows of another serial or record type."""
        self._raw_serial, self._kind = serial, kind
        key = (serial.strip(), kind.strip())
        self._group = self._groups.get(key)
        owner = self._survey.owners.get(key[0])
        if self._group is not None or owner is None or key[1] not in self._maker.by_kind:
            return
        if self._serial in (None, key[0]):
            track = owner.tracks.get(key[1])
            found = track.found[self._survey.order] if track else None
            device_id = self._device_id or owner.device_id
            make = self._maker.by_kind[key[1]]
            self._group = self._groups[key] = _Group(owner, key[1], make, device_id, found)

    def _unread(self, cells: Sequence[str]) -> str:
        """Return what becomes of a row that is not of a record type, or not of the device that is meant."""
        if self._heading.is_repeated(cells):
            return METADATA
        if not any(map(str.strip, cells)):
            return EMPTY_EVENT
        serial = cells[SERIAL].strip()
        if not serial or not any(map(str.strip, cells[KIND:])):
            return ROW_RAGGED
        if self._serial not in (None, serial) and serial in self._survey.owners:
            return OTHER_DEVICE
        return EVENT_UNKNOWN

    def _read_stamp(self, stamp: str) -> tuple[Time | None, tuple[str, PlainDay | None] | None]:
        """Return time of day and date of a stamp, and remember how they were spelled."""
        date, clock = split(stamp)
        calendar = self._survey.tracks.calendar
        time, day = calendar.time(clock), calendar.days(date)[self._survey.order]
        if day is None:
            return time, None
        if len(self._days) >= DAYS_MAX:
            self._days.clear()
        found = self._days[date] = (day.iso, self._zone.plain_day(day.iso))
        return time, found

    def _looked_up(self, group: _Group, iso: str, time: Time) -> tuple[str, int, bool]:
        """Return the instant of a local time, its offset, and whether that is in doubt."""
        local = f"{iso}T{time.text}"
        found = self._zone.local_times.read(local)
        if found.doubt != DOUBLED:
            return found.time, found.offset, bool(found.doubt)
        is_second, in_doubt = group.pass_of(iso, time.minute)
        found = self._zone.local_times.read(local, second=is_second)
        return found.time, found.offset, in_doubt

    def _is_view(self, group: _Group, iso: str, time: Time) -> bool:
        moment = datetime.fromisoformat(iso).toordinal() * DAY + time.minute
        return group.owner.spacing.is_view(moment, group.owner.name)


def _digest(cells: Sequence[str]) -> int:
    return digest_of("\0".join(cell.strip() for cell in cells).rstrip("\0"))
