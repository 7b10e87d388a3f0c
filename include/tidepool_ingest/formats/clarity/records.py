"""How the rows of a Clarity file become records: first all are seen, then each is made one."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.digests import DigestSet, digest_of
from tidepool_ingest.formats.clarity.clock import Shown, TransmitterClock
from tidepool_ingest.formats.clarity.events import (
    COLUMNS_MAX,
    COLUMNS_MIN,
    COUNT,
    DEVICE,
    GLUCOSE,
    INSULIN,
    KIND,
    KINDS,
    SAMPLE_INTERVAL_MS,
    SOURCE,
    STAMP,
    TRANSMITTER,
    Event,
    Glucose,
    Kind,
    RefusedRowError,
    read,
    word,
)
from tidepool_ingest.formats.delimited import (
    DUPLICATE_ROW,
    EMPTY_EVENT,
    EVENT_UNKNOWN,
    METADATA,
    ROW_RAGGED,
    SHORT_CELL,
    SPLIT_DECIMAL,
    TIME_UNREADABLE,
    Rows,
)
from tidepool_ingest.formats.reader import Block, RejectedRow
from tidepool_ingest.local_times import DOUBLED, HOUR, MISSING, LocalTimes

CLOCK_NOT_IN_ZONE: Final = "staged-clock-not-in-zone"
"""Warning about an accepted record: the device's clock was not that of the time zone, as on a journey. The
transmitter's clock says so, and which instant it was."""

YEARS: Final = range(1900, 2200)
"""Years that stamps may be of."""

TRANSMITTER_MAX: Final = 40
"""Characters of a transmitter's name in an ``origin.id``, which has at most 100."""

CELLS_MAX: Final = 4096
"""Different cells of a column that are remembered with their meaning."""

_UNCERTAIN: Final = '{"code":"uncertain-timestamp"}'
_READING: Final = "EGV"

_EPOCH: Final = datetime(1970, 1, 1)
_DAY: Final = len("2026-03-05")
_AFTER_DAY: Final = _DAY + 1
_HOURS: Final = {f"T{hour:02}": hour * 3600 for hour in range(24)}
SECONDS: Final = {
    f":{minute:02}:{second:02}": minute * 60 + second for minute in range(60) for second in range(60)
}
"""How minutes and seconds are written, and how many seconds of an hour they are."""
_STAMP: Final = re.compile(r"\s*([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]\s*([0-9]{1,2})(:[0-9]{2})(:[0-9]{2})?\s*")
_STAMP_LENGTH: Final = len("2026-03-05T10:00:00")
_COUNT: Final = re.compile(r"\s*0*([0-9]{1,12})(?:[.,]0+)?\s*")
_COUNT_DIGITS: Final = 12
_CELL_MAX: Final = 40
"""Characters of a stamp or a count, however padded."""
_MODEL: Final = re.compile(r"\b(?:G[4-9]|ONE\+?)(?!\w)")


class Stamps:
    """Reads stamps: most are in the same hour as the one before."""

    def __init__(self) -> None:
        self.hour = ""
        """The hour of the latest stamp, as it is written."""
        self.begins = 0
        """When it began, in seconds since 1970 of the clock that showed it."""
        self._days: dict[str, int] = {}

    def read(self, cell: str) -> tuple[str, int]:
        """Return a stamp as ``YYYY-MM-DDThh:mm:ss``, and in seconds since 1970 of the clock that showed it.

        :param cell: with ``T`` or a blank between day and time, whose hour may have one digit.
        :raises RefusedRowError: it is none.
        """
        local = cell if len(cell) == _STAMP_LENGTH and cell[_DAY] == "T" else _as_local(cell)
        if local[:HOUR] != self.hour:
            self.go_to(local[:HOUR])
        seconds = SECONDS.get(local[HOUR:])
        if seconds is None:
            raise RefusedRowError(TIME_UNREADABLE)
        return local, self.begins + seconds

    def go_to(self, hour: str) -> None:
        """Go to another hour.

        :param hour: as a stamp begins that has a ``T``.
        :raises RefusedRowError: there is none.
        """
        day, of_day = hour[:_DAY], _HOURS.get(hour[_DAY:])
        begins = self._days.get(day)
        if begins is None:
            begins = _day(day)
            if len(self._days) >= CELLS_MAX:
                self._days.clear()
            self._days[day] = begins
        if of_day is None:
            raise RefusedRowError(TIME_UNREADABLE)
        self.hour, self.begins = hour, begins + of_day


def _day(text: str) -> int:
    """Return when a day began, in seconds since 1970."""
    try:
        begins = datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        begins = None
    if begins is None or begins.year not in YEARS or begins.strftime("%Y-%m-%d") != text:
        raise RefusedRowError(TIME_UNREADABLE)
    return int(begins.timestamp())


def _as_local(cell: str) -> str:
    match = _STAMP.fullmatch(cell) if len(cell) <= _CELL_MAX else None
    if match is None:
        raise RefusedRowError(TIME_UNREADABLE)
    day, hour, minute, second = match.groups()
    return f"{day}T{hour:0>2}{minute}{second or ':00'}"


def _count_in(cells: Sequence[str]) -> int | None:
    """Return a transmitter's time in seconds, ``None`` if the row has none."""
    cell = cells[COUNT] if len(cells) > COUNT else ""
    if cell.isdigit() and cell.isascii() and len(cell) <= _COUNT_DIGITS:
        return int(cell)
    match = _COUNT.fullmatch(cell) if cell and len(cell) <= _CELL_MAX else None
    return int(match[1]) if match else None


def _transmitter_in(cells: Sequence[str]) -> str:
    """Return the name of a row's transmitter, as short as it stands in an ``origin.id``; empty for none."""
    name = cells[TRANSMITTER].strip() if len(cells) > TRANSMITTER else ""
    return (
        name if len(name) <= TRANSMITTER_MAX else hashlib.sha256(name.encode()).hexdigest()[:TRANSMITTER_MAX]
    )


class Survey:
    """What only all rows of a file show.

    :param zone: the time zone, or the zones one after the other.
    """

    def __init__(self, zone: LocalTimes) -> None:
        self.zone = zone
        self.clock = TransmitterClock(zone)
        self.models: set[str] = set()
        self.is_sorted = True
        """Whether no stamp is before that of the row above."""
        self.has_missing_hour = False
        """Whether there are readings in an hour that the zone leaves out."""
        self.stamps = Stamps()
        self._latest = ""

    def see(self, page: Sequence[Sequence[str]]) -> None:
        """See some rows.

        :param page: the cells of each.
        :raises TooManyRunsError: the transmitters' times are those of no clock.
        """
        stamps, latest = self.stamps, self._latest
        for cells in page:
            if len(cells) < COLUMNS_MIN:
                continue
            local = cells[STAMP]
            if local[:HOUR] == stamps.hour and local[HOUR:] in SECONDS:
                stamp = stamps.begins + SECONDS[local[HOUR:]]
            elif local:
                try:
                    local, stamp = stamps.read(local)
                except RefusedRowError:
                    continue
            else:
                self.models.update(_MODEL.findall(f"{cells[DEVICE]} {cells[SOURCE]}"))
                continue
            if local < latest:
                self.is_sorted = False
            latest = local
            if cells[KIND] == _READING or word(cells[KIND]) == _READING.lower():
                self._see_reading(cells, local, stamp)
        self._latest = latest

    def _see_reading(self, cells: Sequence[str], local: str, stamp: int) -> None:
        count = _count_in(cells)
        if count is not None:
            self.clock.add(_transmitter_in(cells), count, stamp)
        elif not self.has_missing_hour:
            self.has_missing_hour = self.zone.read(local).doubt == MISSING

    def end(self) -> None:
        """Settle what was seen."""
        self.clock.settle()
        if self.clock.knows:
            self.has_missing_hour = self.clock.passes_through_missing_hour()


class _Moments:
    """Finds the instants of stamps that were surveyed."""

    def __init__(self, survey: Survey) -> None:
        self._zone = survey.zone
        self._clock = survey.clock
        self._hour = ""
        self._offset = 0
        self._in_hour: tuple[str, bool] | None = None

    def of_reading(self, local: str, stamp: int, transmitter: str, count: int) -> tuple[str, int, bool]:
        """Return instant and offset of a reading with a transmitter's time, and whether it is in the zone."""
        offset = self._clock.of_reading(transmitter, count, stamp)
        hour = local[:HOUR]
        if hour != self._hour or offset != self._offset:
            self._hour, self._offset = hour, offset
            self._in_hour = self._look_up(hour, stamp, offset)
        if self._in_hour is not None:
            begins, in_zone = self._in_hour
            return f"{begins}{local[HOUR:]}Z", offset, in_zone
        first = self._zone.read(local)
        offsets = {first.offset} if first.doubt != MISSING else set()
        if first.doubt == DOUBLED:
            offsets.add(self._zone.read(local, second=True).offset)
        return _utc(stamp, offset), offset, offset in offsets

    def _look_up(self, hour: str, stamp: int, offset: int) -> tuple[str, bool] | None:
        """Look up in which hour of UTC an hour is, and whether that is as in the zone.

        :return: ``None`` where each stamp in it has to be looked at.
        """
        if offset % 60:
            return None
        begins, ends = self._zone.read(f"{hour}:00:00"), self._zone.read(f"{hour}:59:59")
        if begins.offset != ends.offset or begins.doubt or ends.doubt:
            return None
        return _utc(stamp, offset)[:HOUR], offset == begins.offset

    def of_event(self, local: str, stamp: int) -> tuple[str, Shown]:
        """Return the instant of any other row, and what the clock was that showed its stamp."""
        if self._clock.knows:
            shown = self._clock.of_stamp(stamp)
            return _utc(stamp, shown.offset), shown
        time, offset, doubt = self._zone.read(local)
        return time, Shown(offset, is_sure=not doubt)


def _utc(stamp: int, offset: int) -> str:
    """Return the instant of a stamp, which a clock that is wrong may have shown on another day."""
    return f"{(_EPOCH + timedelta(seconds=stamp - offset * 60)).isoformat()}Z"


class Records:
    """Makes records of the rows of one file, in order.

    :param survey: what all rows show.
    :param device_id: of the records.
    :param header: the cells of the first row.
    :param units: of glucose values.
    :param keep_notes: whether free text becomes records.
    """

    def __init__(
        self, survey: Survey, device_id: str, *, header: Sequence[str], units: str, keep_notes: bool
    ) -> None:
        self._all = None if survey.is_sorted else DigestSet()
        self._header = header[KIND:]
        self._keep_notes = keep_notes
        self._glucose = Glucose(units)
        self._stamps = survey.stamps
        self._moments = _Moments(survey)
        self._device = f'"deviceId":{dumps(device_id)}'
        self._values: dict[str, tuple[str, str]] = {}
        self._kinds: dict[str, Kind] = {}
        self._transmitters: dict[str, str] = {}
        self._latest = ""
        self._latest_cells: Sequence[str] = ()
        self._seen: set[int] = set()
        self._ordinals: Counter[str] = Counter()
        self._warning = ""

    def close(self) -> None:
        """Remove what was kept while reading."""
        if self._all is not None:
            self._all.close()

    def blocks(self, rows: Rows, first: int) -> Iterator[Block]:
        """Yield what some rows give, a block for those with a warning and one for those without.

        :param rows: the next ones of the file.
        :param first: position of the first of them.
        """
        positions, rejected = rows.positions(first)
        skipped: Counter[str] = Counter()
        warning = ""
        lines: list[bytes] = []
        staged: list[bytes] = []
        at: list[int] = []
        where: list[str] = []
        for position, line, cells, text in zip(positions, rows.lines, rows.cells, rows.texts, strict=True):
            try:
                made = self._usual(cells) or self._row(cells)
            except RefusedRowError as refused:
                rejected.append(RejectedRow(position, refused.code, text, f"line {line}"))
                continue
            if isinstance(made, str):
                skipped[made] += 1
                continue
            if self._warning != warning:
                if lines:
                    yield Block(at[0], lines, staged=staged, positions=at, where=where, warning=warning)
                    lines, staged, at, where = [], [], [], []
                warning = self._warning
            lines.append(made)
            staged.append(text)
            at.append(position)
            where.append(f"line {line}")
        rejected.sort(key=lambda row: row.position)
        if lines or rejected or skipped:
            yield Block(
                at[0] if at else first,
                lines,
                rejected,
                staged=staged,
                positions=at,
                where=where,
                skipped=dict(skipped),
                warning=warning,
            )

    def _usual(self, cells: Sequence[str]) -> bytes | None:
        """Return the record of a row that is as almost all are, ``None`` for another one.

        It is a reading with a transmitter's time, whose value and transmitter were met before. For it
        :meth:`_row` would do the same, step by step.

        :raises RefusedRowError: as for that.
        """
        try:
            _, local, kind, _, _, _, _, glucose, insulin, _, _, _, counted, transmitter = cells
        except ValueError:
            return None
        if local[_DAY:_AFTER_DAY] == " ":
            local = f"{local[:_DAY]}T{local[_AFTER_DAY:]}"
        minutes = SECONDS.get(local[HOUR:])
        value = self._values.get(glucose)
        origin = self._transmitters.get(transmitter)
        if (
            minutes is None
            or value is None
            or origin is None
            or self._all is not None
            or local == self._latest
            or kind != _READING
            or insulin
            or not (counted.isdigit() and counted.isascii() and len(counted) <= _COUNT_DIGITS)
        ):
            return None
        stamps, hour = self._stamps, local[:HOUR]
        if hour != stamps.hour:
            if hour[_DAY:] not in _HOURS:
                return None
            stamps.go_to(hour)
        if self._seen or self._ordinals:
            self._leave_stamp()
        self._latest, self._latest_cells = local, cells
        stamp = stamps.begins + minutes
        return self._reading(local, stamp, value, transmitter, int(counted), origin)

    def _row(self, cells: Sequence[str]) -> bytes | str:
        """Return the record of a row, or the reason why it is counted only.

        :raises RefusedRowError: it gives no record.
        """
        if len(cells) < COLUMNS_MIN:
            raise RefusedRowError(ROW_RAGGED)
        kind = self._kind_of(cells[KIND])
        if not cells[STAMP] or cells[STAMP].isspace():
            if kind is None or kind is Kind.SETTING:
                return METADATA
            raise RefusedRowError(TIME_UNREADABLE)
        if kind is None and cells[KIND:] == self._header:
            return METADATA  # two exports in one file
        local, stamp = self._stamps.read(cells[STAMP])
        count = _count_in(cells) if kind is Kind.READING else None
        if self._is_duplicate(local, cells):
            return DUPLICATE_ROW
        if kind is None:
            if any(cell.strip() for cell in (*cells[KIND:SOURCE], *cells[GLUCOSE:])):
                raise RefusedRowError(EVENT_UNKNOWN)
            return EMPTY_EVENT
        event = self._read(kind, cells)
        if isinstance(event, str):
            return event
        if count is None:
            return self._event(event, local, stamp)
        transmitter = _transmitter_in(cells)
        # Without a transmitter's name, another one's time may be the same.
        origin = self._named(transmitter) if transmitter else None
        return self._reading(local, stamp, (event.fields, event.annotation), transmitter, count, origin)

    def _read(self, kind: Kind, cells: Sequence[str]) -> Event | str:
        """Return what a row says, or the reason why it is counted only.

        :raises RefusedRowError: it gives no record.
        """
        is_long = any(cell.strip() for cell in cells[COLUMNS_MAX:])
        if kind is not Kind.READING:
            event = read(kind, cells, self._glucose, keep_notes=self._keep_notes)
        elif cells[INSULIN].strip():
            raise RefusedRowError(SPLIT_DECIMAL)
        else:
            value, annotation = self._glucose.value(cells[GLUCOSE])
            fields = f'{value},"sampleInterval":{SAMPLE_INTERVAL_MS}'
            event = Event("cbg:", "cbg", fields, annotation)
            if len(self._values) < CELLS_MAX and len(cells[GLUCOSE]) <= SHORT_CELL:
                self._values[cells[GLUCOSE]] = fields, annotation
        if is_long:
            raise RefusedRowError(ROW_RAGGED)
        return event

    def _reading(
        self,
        local: str,
        stamp: int,
        value: tuple[str, str],
        transmitter: str,
        count: int,
        origin: str | None,
    ) -> bytes:
        time, offset, in_zone = self._moments.of_reading(local, stamp, transmitter, count)
        self._warning = "" if in_zone else CLOCK_NOT_IN_ZONE
        fields, annotation = value
        annotations = f',"annotations":[{annotation}]' if annotation else ""
        name = self._name("cbg:", local) if origin is None else f"{origin}{count}"
        return (
            f'{{"type":"cbg","time":"{time}",{self._device},"deviceTime":"{local}","timezoneOffset":{offset}'
            f'{fields}{annotations},"origin":{{"id":"{name}"}}}}'
        ).encode()

    def _event(self, event: Event, local: str, stamp: int) -> bytes:
        time, shown = self._moments.of_event(local, stamp)
        self._warning = "" if shown.in_zone else CLOCK_NOT_IN_ZONE
        remarks = [event.annotation] if event.annotation else []
        if not shown.is_sure:
            remarks.append(_UNCERTAIN)
        annotations = f',"annotations":[{",".join(remarks)}]' if remarks else ""
        return (
            f'{{"type":"{event.kind}","time":"{time}",{self._device},"deviceTime":"{local}"'
            f',"timezoneOffset":{shown.offset}{event.fields}{annotations}'
            f',"origin":{{"id":"{self._name(event.name, local)}"}}}}'
        ).encode()

    def _name(self, name: str, local: str) -> str:
        """Return the name of a row that has none of its own: kind, stamp, and which one of those it is."""
        name = f"{name}:{local}"
        ordinal = self._ordinals[name]
        self._ordinals[name] += 1
        return f"{name}:{ordinal}"

    def _named(self, transmitter: str) -> str:
        """Return how names of a transmitter's readings begin, as in a JSON string."""
        start = self._transmitters.get(transmitter)
        if start is None:
            start = dumps(f"cbg:{transmitter}:")[1:-1]
            if len(self._transmitters) < CELLS_MAX:
                self._transmitters[transmitter] = start
        return start

    def _kind_of(self, cell: str) -> Kind | None:
        kind = self._kinds.get(cell)
        if kind is None:
            kind = KINDS.get(word(cell))
            if kind is not None and len(cell) <= SHORT_CELL and len(self._kinds) < CELLS_MAX:
                self._kinds[cell] = kind
        return kind

    def _is_duplicate(self, local: str, cells: Sequence[str]) -> bool:
        """Return whether a row was there before; it is remembered.

        Rows are in the order of their stamps, so that only those of one stamp are remembered; of a file in
        another order, all of them.
        """
        if self._all is not None:
            return bool(self._all.add((_digest(cells),)))
        latest, self._latest = self._latest, local
        latest_cells, self._latest_cells = self._latest_cells, cells
        if local != latest:
            self._leave_stamp()
            return False
        if latest_cells:
            self._seen.add(_digest(latest_cells))
        digest = _digest(cells)
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False

    def _leave_stamp(self) -> None:
        """Forget the rows of the latest stamp, if none of it can follow."""
        if self._all is None:
            self._seen.clear()
            self._ordinals.clear()


def _digest(cells: Sequence[str]) -> int:
    """Return the digest of a row without its number."""
    return digest_of("\0".join(cells[STAMP:]).rstrip("\0"))
