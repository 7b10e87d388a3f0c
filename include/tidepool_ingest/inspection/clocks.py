"""What files show of the clocks that made their times, as far as it tells the time zone.

Local times are looked at as they stand: files are read in UTC for it, whatever zone they are said to be in.
Of sensors' readings it is counted how many there are in which hour; an hour that is left out or there twice
shows when clocks changed. Where the transmitter's clock is known, that is not needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC as UTC_ZONE
from datetime import datetime
from itertools import chain, islice
from typing import Any, Final, get_args

import msgspec

from tidepool_ingest.formats import FORMATS
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import Block, ClockSigns, Device, Reader, ReadingContext
from tidepool_ingest.local_times import DAY, HOUR, timezone_names
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import MeantAs
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

UTC: Final = "Etc/UTC"

LOCAL: Final = "across-the-board-timezone"
"""How a data set says that the times of its records are local ones, read in one time zone."""

RECORDS_MAX: Final = 20_000
"""Records that are looked at of files whose instants are known: they state zones and offsets, or do not."""

HOURS_MAX: Final = 200_000
"""Different hours that are counted, which is twenty years of them."""

_SENSOR: Final = "cbg"
_MISSING_ZONE: Final = "timezone-missing"
_SEVERAL_DEVICES: Final = "file-several-devices"


@dataclass
class Clocks:
    """What was seen.

    :param is_local: whether the files' times are local ones, so that somebody has to say the zone.
    :param hours: how many readings of a sensor there are in which local hour, ``YYYY-MM-DDThh``.
    :param signs: what the reader has found out about the clock.
    :param zones: how many records or devices name which time zone.
    :param offsets: how many records state which offset in minutes on which day of UTC.
    """

    is_local: bool = False
    hours: Counter[str] = field(default_factory=Counter)
    signs: ClockSigns = field(default_factory=ClockSigns)
    zones: Counter[str] = field(default_factory=Counter)
    offsets: Counter[tuple[str, int]] = field(default_factory=Counter)


class _Stamped(msgspec.Struct, gc=False):
    """What of a record says when it was, and by which clock."""

    type: Any = None
    time: Any = None
    local: Any = msgspec.field(default=None, name="deviceTime")
    offset: Any = msgspec.field(default=None, name="timezoneOffset")
    zone: Any = msgspec.field(default=None, name="timezone")
    utc_offset: Any = msgspec.field(default=None, name="utcOffset")
    date: Any = None
    created: Any = msgspec.field(default=None, name="created_at")


_stamped_in: Final = msgspec.json.Decoder(_Stamped).decode


def clocks_in(files: Sequence[SourceFile]) -> Clocks:
    """Look at the clocks of some files; what cannot be read shows nothing.

    :param files: the files, all of one format and read together.
    """
    clocks = Clocks(is_local="timezone" in FORMATS[files[0].format].options)
    try:
        _look(files, clocks)
    except (BatchError, FileHeldError, ValueError):
        return clocks
    return clocks


def _look(files: Sequence[SourceFile], clocks: Clocks) -> None:
    kind = FORMATS[files[0].format]
    if "timezone" not in kind.options:
        _look_at_stated(_reader(kind, files, _CONTEXT), clocks)
    elif kind.joins_files:
        reader = _reader(kind, files, _CONTEXT, timezone=None)
        try:
            reader.survey()
            _look_at_devices(reader, clocks)
        except BatchError as error:
            if error.code != _MISSING_ZONE:
                raise
        finally:
            reader.close()
        _look_at_stated(reader, clocks)
    else:
        _look_at_local(kind, files, clocks)


def _look_at_local(kind: type[Reader], files: Sequence[SourceFile], clocks: Clocks) -> None:
    """Look at files whose times may be local ones."""
    reader = _reader(kind, files, _CONTEXT, timezone=UTC)
    devices: Sequence[Device] = ()
    try:
        reader.survey()
        _look_at_devices(reader, clocks)
        clocks.signs = reader.clock_signs()
        devices = () if any(clocks.signs.steady) else reader.devices()
        if not clocks.is_local:
            _look_at_stated(reader, clocks)
            return
        if devices:
            clocks.hours = _hours_in(_blocks_of(reader))
        return
    except BatchError as error:
        if error.code != _SEVERAL_DEVICES:
            raise
    finally:
        reader.close()
    for device in devices:
        own = _reader(kind, files, _CONTEXT, timezone=UTC, serial=device.serial)
        try:
            own.survey()
            clocks.hours += _hours_in(_blocks_of(own))
        finally:
            own.close()


_CONTEXT: Final = ReadingContext(meant_as=get_args(MeantAs))
"""Nothing is to hold what is looked at only."""


def _reader(
    kind: type[Reader], files: Sequence[SourceFile], context: ReadingContext, **options: object
) -> Reader:
    """Return a reader of the files, with some options changed."""
    return kind(
        [
            SourceFile(
                file.path,
                file.format,
                file.number,
                below_root=GIVEN,
                options=file.options.model_copy(update=options) if options else file.said,
            )
            for file in files
        ],
        context,
    )


def _blocks_of(reader: Reader) -> Iterable[Block]:
    return chain.from_iterable(reader.blocks(file) for file in reader.files)


def _look_at_devices(reader: Reader, clocks: Clocks) -> None:
    """Note which zones devices name, and whether their times are local."""
    processing = set()
    for device in reader.devices():
        processing.add(device.fields.get("timeProcessing"))
        zone = device.fields.get("timezone")
        if isinstance(zone, str) and zone in timezone_names():
            clocks.zones[zone] += 1
    clocks.is_local = LOCAL in processing


def _hours_in(blocks: Iterable[Block]) -> Counter[str]:
    """Count the readings of sensors by local hour."""
    hours: Counter[str] = Counter()
    for block in blocks:
        for line in block.lines:
            try:
                record = _stamped_in(line)
            except msgspec.MsgspecError:
                continue
            if record.type == _SENSOR and isinstance(record.local, str):
                hours[record.local[:HOUR]] += 1
        if len(hours) > HOURS_MAX:
            break
    return hours


def _look_at_stated(reader: Reader, clocks: Clocks) -> None:
    """Note which zones and offsets the first rows state; of rows that are no JSON, their records do."""
    as_staged = chain.from_iterable(map(reader.rows, reader.files))
    blocks = as_staged if reader.rows_are_json else _blocks_of(reader)
    for line in islice(chain.from_iterable(block.lines for block in blocks), RECORDS_MAX):
        try:
            record = _stamped_in(line)
        except msgspec.MsgspecError:
            continue
        if isinstance(record.zone, str) and record.zone in timezone_names():
            clocks.zones[record.zone] += 1
        day = _day_of(record)
        if day and type(record.offset) is int:
            clocks.offsets[day, record.offset] += 1
        elif day and type(record.utc_offset) is int and record.utc_offset:
            # Nightscout writes 0 where nobody has told it any other.
            clocks.offsets[day, record.utc_offset] += 1


def _day_of(record: _Stamped) -> str:
    """Return the day of UTC of a record's instant, empty if it has none that is in UTC."""
    for time in (record.time, record.created):
        if isinstance(time, str) and time[-1:] == "Z" and len(time) > HOUR:
            return time[:DAY]
    if type(record.date) is int and 0 < record.date < _YEAR_3000_MS:
        return datetime.fromtimestamp(record.date / 1000, UTC_ZONE).isoformat()[:DAY]
    return ""


_YEAR_3000_MS: Final = 32_503_680_000_000
