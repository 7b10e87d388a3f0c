"""What only all rows of a LibreView file show: its devices, the order of its dates, what its clock did.

It is found before the first record is made, and a file that nobody can mean as it stands gives none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from tidepool_ingest.digests import DigestSet, digest_of
from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.holds import (
    CLOCK_NOT_IN_ZONE,
    DATE_ORDER_UNCLEAR,
    DATES_SWAPPED,
    ZONE_IMPLAUSIBLE,
    ClockHeldError,
    hold_unless_meant,
)
from tidepool_ingest.formats.libreview.layout import (
    COLUMNS,
    DEVICE,
    GLUCOSE,
    KIND,
    SERIAL,
    STAMP,
    Heading,
    UnitSigns,
)
from tidepool_ingest.formats.libreview.records import number_in
from tidepool_ingest.formats.libreview.spacing import Spacing
from tidepool_ingest.formats.libreview.stamps import DAY, Zone, separator_of, split
from tidepool_ingest.formats.libreview.tracks import Track, Tracks, order_told
from tidepool_ingest.formats.reader import ClockSigns, Device
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from pydantic import JsonValue

SERIALS_MAX: Final = 200
"""Devices of a file; a column that holds more different texts is not the one of serial numbers."""

CLOCK_AHEAD_MAX: Final = timedelta(minutes=10)
"""How far a device's clock may be ahead of LibreView's: less than zones differ by."""

KINDS: Final = frozenset("0123456")
"""Record types: reading of the sensor, scan, glucose strip, ketone strip, insulin, food, note."""

_HISTORIC: Final = "0"
_STRIPS: Final = frozenset("23")


class Owner:
    """The device of a serial number.

    :param serial: the number.
    :param name: what the file calls the device.
    :ivar spacing: how close together its sensor's readings are.
    :ivar tracks: its rows, by record type.
    """

    def __init__(self, serial: str, name: str) -> None:
        self.serial = serial
        self.name = name
        self.spacing = Spacing()
        self.tracks: dict[str, Track] = {}

    @property
    def device_id(self) -> str:
        """Stays the same in every export; one for all rows where there is no serial number."""
        return f"LibreView-{self.serial}" if self.serial else "LibreView"

    @property
    def device(self) -> Device:
        """What the file tells of it."""
        tags: list[JsonValue] = ["bgm", "cgm"] if _STRIPS.intersection(self.tracks) else ["cgm"]
        fields: dict[str, JsonValue] = {
            "deviceId": self.device_id,
            "deviceManufacturers": ["Abbott"],
            "deviceTags": tags,
            "timeProcessing": "across-the-board-timezone",
        }
        if 0 < len(self.name) <= _NAME_MAX:
            fields["deviceModel"] = self.name
        if 0 < len(self.serial) <= _NAME_MAX:
            fields["deviceSerialNumber"] = self.serial
        return Device(self.serial, fields)


_NAME_MAX: Final = 100


class Survey:
    """Sees all rows of a file; then says what they show.

    :param zone: where the devices' clocks were set.
    :param order: the order of the dates, if the manifest says it.
    :param serial: the device whose rows are meant, if it says that.
    :param file_number: number of the file in its manifest, for errors.
    """

    def __init__(self, zone: Zone, order: str | None, serial: str | None, file_number: int | None) -> None:
        self._local_times = zone.local_times
        self._serial = serial
        self._file_number = file_number
        self.owners: dict[str, Owner] = {}
        """By serial number, in the order in which the file begins with them."""
        self.tracks = Tracks(zone, order)
        self.order = 0
        """Number of the order of its dates."""
        self.units = ""
        """Of glucose."""
        self.earlier = DigestSet()
        """Digests of the rows that stand under serial numbers before the one that is meant."""
        self.clock_signs = ClockSigns()
        """The latest local time, and when the file says that it was generated."""
        self._signs = UnitSigns()
        self._rows = 0
        self._track: Track | None = None  # of the last row
        self._spacing: Spacing | None = None  # likewise, if it was a reading of the sensor
        self._is_earlier = False  # whether it stood under a serial number before the one that is meant

    def see(self, rows: Rows, heading: Heading) -> None:
        """Take the next rows; of what is done for each of them nothing may take long."""
        self._rows += len(rows)
        if not heading.units:
            self._see_units(rows)
        last_kind = last_serial = None
        calendar = self.tracks.calendar
        times = calendar.times
        for cells, line in zip(rows.cells, rows.lines, strict=True):
            if len(cells) <= KIND:
                continue
            serial, stamp, kind = cells[SERIAL : KIND + 1]
            if kind != last_kind or serial != last_serial:
                last_kind, last_serial = kind, serial
                self._turn_to(cells)
            track = self._track
            if track is None:
                continue
            date, _blank, clock = stamp.partition(" ")
            time = times.get(clock)
            if time is None:
                date, clock = split(stamp)
                time = calendar.time(clock)
            if time is None or not track.see(date, time.minute, line):
                continue
            if self._spacing is not None:
                self._spacing.see(date, time.minute)
            if self._is_earlier:
                self.earlier.add((content_digest(cells),))

    def _turn_to(self, cells: Sequence[str]) -> None:
        """Go on to the rows of another serial or record type."""
        kind = cells[KIND].strip()
        self._track = self._spacing = None
        if kind not in KINDS:
            return
        owner = self._owner(cells)
        self._track = owner.tracks.get(kind)
        if self._track is None:
            self._track = owner.tracks[kind] = Track(self.tracks)
        self._spacing = owner.spacing if kind == _HISTORIC else None
        self._is_earlier = self._is_before(owner)

    def _owner(self, cells: Sequence[str]) -> Owner:
        serial = cells[SERIAL].strip()
        owner = self.owners.get(serial)
        if owner is None:
            if len(self.owners) >= SERIALS_MAX:
                detail = f"its second column holds more than {SERIALS_MAX} serial numbers"
                raise BatchError("file-other-format", file_number=self._file_number, detail=detail)
            owner = self.owners[serial] = Owner(serial, cells[DEVICE].strip())
        return owner

    def _is_before(self, owner: Owner) -> bool:
        """Return whether the file begins with a device before the one that is meant."""
        if self._serial is None or owner.serial in ("", self._serial):
            return False
        return (
            next(serial for serial in self.owners if serial in (owner.serial, self._serial)) == owner.serial
        )

    def _see_units(self, rows: Rows) -> None:
        for cells in rows.cells:
            for column in GLUCOSE:
                if column < len(cells) and (value := number_in(cells[column])):
                    self._signs.see(value)

    def end(self, heading: Heading, device_id: str | None, meant_as: Collection[str]) -> None:
        """Say what all rows have shown.

        :param heading: what stands above them.
        :param device_id: the one device that the file is to be of, if there is one.
        :param meant_as: codes that are as they are meant to be.
        :raises BatchError: it is not of one device, or not of this format.
        :raises ClockHeldError: its times can be read in more than one way, or cannot be right.
        """
        self.units = heading.units or self._signs.units()
        if len(self.owners) > 1:
            self.owners.pop("", None)  # of damaged rows, unless the file has no serial number at all
        every = [track for owner in self.owners.values() for track in owner.tracks.values()]
        for track in every:
            track.end()
        if not any(found.latest for track in every for found in track.found):
            if self._rows:
                raise self._other_format("none of its rows has a time and a record type of LibreView")
            return
        if not self.units:
            raise self._other_format("neither its header nor its values show the unit of glucose")
        self._check_devices(device_id)
        order = order_told(self.tracks, every, self._own_date(heading.generated))
        if order is None:
            detail = "" if self.tracks.orders else "no order fits all of them"
            raise ClockHeldError(DATE_ORDER_UNCLEAR, file_number=self._file_number, detail=detail)
        self.order = order
        if not any(track.found[order].latest for track in every):
            raise self._other_format("none of its dates is in the order that `dateOrder` says")
        for owner in self.owners.values():
            owner.spacing.end(self._moment_of)
        self._check_order(every, meant_as)
        meant = [self.owners[self._serial]] if self._serial is not None else self.owners.values()
        self._check_clock([track for one in meant for track in one.tracks.values()], heading, meant_as)

    def _other_format(self, detail: str) -> BatchError:
        return BatchError("file-other-format", file_number=self._file_number, detail=detail)

    def _check_devices(self, device_id: str | None) -> None:
        if self._serial is not None and self._serial not in self.owners:
            detail = "none of them is the one that `serial` names"
            raise BatchError("file-several-devices", file_number=self._file_number, detail=detail)
        if self._serial is None and device_id is not None and len(self.owners) > 1:
            detail = f"{len(self.owners)} serial numbers"
            raise BatchError("file-several-devices", file_number=self._file_number, detail=detail)

    def _check_order(self, tracks: Sequence[Track], meant_as: Collection[str]) -> None:
        """Look at the rows of every device: of few days, some would be in order however they are swapped."""
        found = [track.found[self.order] for track in tracks]
        if swapped := [one for one in found if one.swapped]:
            line = min(one.swapped_line for one in swapped)
            detail = f"{counted(sum(one.swapped for one in swapped), 'time')}, first at line {line}"
            hold_unless_meant(DATES_SWAPPED, meant_as, file_number=self._file_number, detail=detail)

    def _check_clock(self, tracks: Sequence[Track], heading: Heading, meant_as: Collection[str]) -> None:
        found = [track.found[self.order] for track in tracks]
        latest = max((one.latest for one in found if one.latest), default=None)
        generated = self._instant(heading.generated)
        if latest and generated:
            day, minute = latest
            local = f"{day.iso}T{minute // 60:02}:{minute % 60:02}:00"
            self.clock_signs = ClockSigns(local, generated)
            ahead = datetime.fromisoformat(self._local_times.read(local).time) - generated
            if ahead > CLOCK_AHEAD_MAX:
                detail = f"by up to {counted(ahead // timedelta(minutes=1), 'minute')}"
                hold_unless_meant(ZONE_IMPLAUSIBLE, meant_as, file_number=self._file_number, detail=detail)
        if missing := [one for one in found if one.missing]:
            line = min(one.missing_line for one in missing)
            detail = f"{counted(sum(one.missing for one in missing), 'row')}, first at line {line}"
            hold_unless_meant(CLOCK_NOT_IN_ZONE, meant_as, file_number=self._file_number, detail=detail)

    def _own_date(self, generated: str) -> str:
        """Return the date of when the file was generated, empty if it is spelled unlike those of the rows.

        A spreadsheet that has written the dates anew leaves that one alone.
        """
        date, _clock = split(generated)
        return date if separator_of(date) in self.tracks.separators else ""

    def _instant(self, generated: str) -> datetime | None:
        """Return when the file was generated: the latest that it can mean, if it is spelled otherwise."""
        date, clock = split(generated)
        time = self.tracks.calendar.time(clock)
        if time is None:
            return None
        days = self.tracks.calendar.days(date)
        own = days[self.order] if self._own_date(generated) else None
        day = own or max((day for day in days if day), default=None)
        return datetime.fromisoformat(f"{day.iso}T{time.text}Z") if day else None

    def _moment_of(self, spot: tuple[str, int]) -> int:
        day = self.tracks.calendar.days(spot[0])[self.order]
        return (day.number if day else 0) * DAY + spot[1]


def content_digest(cells: Sequence[str]) -> int:
    """Return a digest of what a row says, whichever device it stands under.

    :param cells: the row's.
    """
    return digest_of("\0".join(cell.strip() for cell in cells[STAMP:COLUMNS]).rstrip("\0"))
