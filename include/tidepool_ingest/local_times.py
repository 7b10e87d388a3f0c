"""Local times: what a device's clock showed, and which instant that was in a time zone.

An IANA zone leaves an hour out when its clocks go forward and has one twice when they go back. Python's
``zoneinfo`` says nothing about either; here each such time says that it is in doubt. The zones are those of
the pinned ``tzdata`` package, so that the same file gives the same instants on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_PART: Final = "[A-Z][A-Za-z0-9_+-]*"
_NAME: Final = re.compile(f"{_PART}(?:/{_PART})*")

Doubt: TypeAlias = Literal["", "missing", "doubled"]
"""Whether a local time is in an hour that its zone leaves out, or has twice; mostly in neither."""

MISSING: Final = "missing"
DOUBLED: Final = "doubled"

DAY: Final = len("2026-03-05")
HOUR: Final = len("2026-03-05T10")
_SIXTY: Final = [f":{number:02}" for number in range(60)]
_MINUTES: Final = frozenset(minute + second for minute in _SIXTY for second in _SIXTY)
_HOUR_TEXT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}")

MINUTES: Final = 60
"""In an hour."""

HOURS_MAX: Final = 20_000
"""Hours that are remembered, which is two years of them: some megabytes."""


@cache
def _tzdata() -> Path:
    # Loaded only here, as zoneinfo below: most records name no zone.
    import tzdata  # type: ignore[import-untyped]

    return Path(tzdata.__path__[0])


@cache
def zone_files() -> Path:
    """Return the folder of the pinned ``tzdata`` package in which each zone has a file."""
    return _tzdata() / "zoneinfo"


@cache
def timezone_names() -> frozenset[str]:
    """Return the names, from the pinned ``tzdata`` package rather than from this machine's zone files.

    The Platform takes every file below its ``zoneinfo`` folder whose path has capitalised parts (P:
    time/zone/zone.go); so ``EST``, ``Zulu`` and ``Etc/GMT+8`` are names, ``posixrules`` and ``PST`` are not.
    """
    listed = (_tzdata() / "zones").read_text(encoding="utf-8").split()
    return frozenset(name for name in listed if _NAME.fullmatch(name))


@cache
def zone_named(name: str) -> ZoneInfo:
    """Return a zone of the pinned ``tzdata`` package.

    :param name: one of :func:`timezone_names`.
    :raises KeyError: there is no such zone.
    """
    if name not in timezone_names():
        raise KeyError(name)
    from zoneinfo import ZoneInfo

    with (zone_files() / name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


class Period(NamedTuple):
    """Where a device's clock was set, up to some local time.

    :param zone: the zone's name.
    :param until: the first local time that is no more in it, ``YYYY-MM-DDThh:mm:ss``; empty for the last.
    """

    zone: str
    until: str = ""


class LocalTime(NamedTuple):
    """The instant at which a clock showed a local time.

    :param time: in UTC, ``YYYY-MM-DDThh:mm:ssZ``.
    :param offset: minutes that the local time is ahead of UTC.
    :param doubt: whether the zone leaves this time out, or has it twice.
    """

    time: str
    offset: int
    doubt: Doubt = ""


class _Hour(NamedTuple):
    """An hour that is wholly in its zone.

    :param begins: in which hour of UTC it begins.
    :param offset: minutes that it is ahead of UTC.
    :param shift: at which minute of that hour of UTC it begins.
    :param ends: in which hour of UTC it ends.
    """

    begins: str
    offset: int
    shift: int
    ends: str


class LocalTimes:
    """Finds the instants of local times in one zone, or in one after the other.

    Most hours are wholly in a zone, and are looked up once: what is left then is to put two texts together.

    :param periods: the zones in the order of time; one, if the clock always stayed in it.
    """

    def __init__(self, periods: Sequence[Period]) -> None:
        self._periods = [(period.until or "~", zone_named(period.zone)) for period in periods]
        self._hours: dict[str, _Hour | None] = {}

    def read(self, local: str, *, second: bool = False) -> LocalTime:
        """Return when the clock showed a local time.

        A time that the zone leaves out is read with the offset before the change, as if the clock had not
        been set yet; one that it has twice, as its first pass.

        :param local: ``YYYY-MM-DDThh:mm:ss``.
        :param second: whether it is the second pass of an hour that is there twice.
        :raises ValueError: it is no such time.
        """
        start, rest = local[:HOUR], local[HOUR:]
        if rest not in _MINUTES:
            raise ValueError("not a local time")
        try:
            hour = self._hours[start]
        except KeyError:
            hour = self._remember(start)
        if hour is None:
            return self._in_zone(local, second=second)
        begins, offset, shift, ends = hour
        if not shift:
            return LocalTime(f"{begins}{rest}Z", offset)
        minute = int(rest[1:3]) + shift
        after = f"{minute % 60:02}{rest[3:]}Z"
        return LocalTime(f"{ends if minute >= MINUTES else begins}:{after}", offset)

    def is_plain_hour(self, start: str) -> bool:
        """Return whether all of an hour is in one zone, of one offset, and there once.

        :param start: ``YYYY-MM-DDThh``.
        :raises ValueError: it is no such hour.
        """
        return (self._hours[start] if start in self._hours else self._remember(start)) is not None

    def is_plain_day(self, date: str) -> bool:
        """Return the same of a day.

        :param date: ``YYYY-MM-DD``.
        """
        return self._whole(f"{date}T00:00:00", f"{date}T23:59:59") is not None

    def _remember(self, start: str) -> _Hour | None:
        """Look an hour up; ``None`` if each time in it has to be looked at."""
        if _HOUR_TEXT.fullmatch(start) is None:
            raise ValueError("not a local time")
        if len(self._hours) >= HOURS_MAX:
            self._hours.clear()
        # Most days are of one offset: then all of their hours are known at once.
        day = start[:DAY]
        if (found := self._whole(f"{day}T00:00:00", f"{day}T23:59:59")) is not None:
            begins, offset = found
            hours = {f"{day}T{hour:02}": _hour(begins + timedelta(hours=hour), offset) for hour in range(24)}
            if start not in hours:
                raise ValueError("not a local time")
            self._hours.update(hours)
            return hours[start]
        found = self._whole(f"{start}:00:00", f"{start}:59:59")
        self._hours[start] = None if found is None else _hour(*found)
        return self._hours[start]

    def _whole(self, opening: str, closing: str) -> tuple[datetime, int] | None:
        """Return when a stretch of local time begins in UTC, and its offset, if it has only one."""
        if any(opening < until <= closing for until, _zone in self._periods):
            return None  # wherever it was set to then, it may be where it was before
        try:
            first, last = self._in_zone(opening), self._in_zone(closing)
        except ValueError:  # at the ends of what a time can say, an hour may be of a day that is none
            return None
        is_plain = first.offset == last.offset and not (first.doubt or last.doubt)
        if not is_plain or not first.time.endswith(":00Z"):
            return None
        return datetime.fromisoformat(first.time[:-1]), first.offset

    def _zone_of(self, local: str) -> ZoneInfo:
        return next(zone for until, zone in self._periods if local < until)

    def _in_zone(self, local: str, *, second: bool = False) -> LocalTime:
        zone = self._zone_of(local)
        shown = datetime.fromisoformat(local)
        first = shown.replace(tzinfo=zone)
        before, after = first.utcoffset(), first.replace(fold=1).utcoffset()
        if before is None or after is None:
            raise ValueError("a zone without offsets")
        doubt: Doubt = "" if before == after else DOUBLED if before > after else MISSING
        offset = after if second and doubt == DOUBLED else before
        return LocalTime(_text(shown, offset), round(offset.total_seconds() / 60), doubt)


def _hour(begins: datetime, offset: int) -> _Hour:
    ends = begins + timedelta(minutes=MINUTES - 1)
    return _Hour(_to_the_hour(begins), offset, begins.minute, _to_the_hour(ends))


def _to_the_hour(moment: datetime) -> str:
    return moment.isoformat()[:HOUR]


def at_offset(local: str, minutes: int) -> str:
    """Return the instant of a local time whose offset is known, in UTC with ``Z``.

    :param local: ``YYYY-MM-DDThh:mm:ss``.
    :param minutes: how far the local time is ahead of UTC.
    :raises ValueError: it is no such time.
    """
    return _text(datetime.fromisoformat(local), timedelta(minutes=minutes))


def _text(shown: datetime, offset: timedelta) -> str:
    try:
        moment = shown.replace(tzinfo=timezone(offset)).astimezone(UTC)
    except OverflowError:
        raise ValueError("a time before the year 1 or after 9999") from None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
