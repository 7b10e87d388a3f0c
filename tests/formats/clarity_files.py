"""Made-up exports of Dexcom Clarity, and the instants that are really in them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

HEADER = (
    "Index",
    "Timestamp (YYYY-MM-DDThh:mm:ss)",
    "Event Type",
    "Event Subtype",
    "Patient Info",
    "Device Info",
    "Source Device ID",
    "Glucose Value (mg/dL)",
    "Insulin Value (u)",
    "Carb Value (grams)",
    "Duration (hh:mm:ss)",
    "Glucose Rate of Change (mg/dL/min)",
    "Transmitter Time (Long Integer)",
    "Transmitter ID",
)
GERMAN = (
    "Index",
    "Zeitstempel (JJJJ-MM-TTThh:mm:ss)",
    "Ereignisart",
    "Ereignis-Unterart",
    "Patienten-Info",
    "Geräteinfo",
    "Quellengerät-ID",
    "Glukosewert (mmol/L)",
    "Insulinwert (E)",
    "Kohlenh.-Wert (Gramm)",
    "Dauer (hh:mm:ss)",
    "Glukose-Änderungsgeschwindigkeit (mmol/L/min)",
    "Transmitterzeit (Lange Ganzzahl)",
    "Transmitter-ID",
)

NAME, BORN = "Zebulon", "1971-02-03"
"""What must never leave a reader."""

METADATA = (
    ("", "FirstName", "", NAME),
    ("", "LastName", "", "Quist"),
    ("", "DateOfBirth", "", BORN),
    ("", "Device", "", "", "Dexcom G6 Mobile App", "android G6"),
    ("", "Alert", "High", "", "", "android G6", "250"),
    ("", "Alert", "Signal Loss", "", "", "android G6", "", "", "", "00:20:00"),
)

Row = tuple[str, ...]
"""The cells of a row after its number."""

Clock = Callable[[datetime], int]
"""How many minutes a device's clock is ahead of UTC, at an instant."""

READING = timedelta(minutes=5)


def event(stamp: str, kind: str, subtype: str = "", **cells: object) -> Row:
    """Return a row: ``person``, ``glucose``, ``insulin``, ``carbs``, ``duration``, ``count`` and so on."""
    names = ("person", "", "source", "glucose", "insulin", "carbs", "duration", "", "count", "transmitter")
    given = {"source": "android G6"} | cells
    return (stamp, kind, subtype, *(str(given.get(name, "")) for name in names))


def reading(stamp: str, count: object = "", glucose: object = 120, transmitter: str = "8TEST1") -> Row:
    return event(stamp, "EGV", glucose=glucose, count=count, transmitter=transmitter if count != "" else "")


def export(
    rows: Iterable[Sequence[str]],
    *,
    header: Sequence[str] = HEADER,
    metadata: Iterable[Sequence[str]] = METADATA,
    delimiter: str = ",",
    width: int = 14,
    start: bytes = b"\xef\xbb\xbf",
    quoted: bool = False,
) -> bytes:
    """Return a file with these rows below those without a stamp, in the order in which they come."""
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\r\n", quoting=quoting)
    writer.writerow(header[:width])
    for number, row in enumerate([*metadata, *rows], 1):
        cells = [str(number), *row]
        writer.writerow(cells + [""] * (width - len(cells)))
    return start + text.getvalue().encode()


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clock_of(zone: str) -> Clock:
    """Return a clock that follows a zone."""

    def offset(at: datetime) -> int:
        own = at.astimezone(ZoneInfo(zone)).utcoffset()
        assert own is not None
        return int(own.total_seconds()) // 60

    return offset


def travelling(home: Clock, journeys: Iterable[tuple[datetime, datetime, int]]) -> Clock:
    """Return a clock that is some minutes ahead of home from one instant to another."""
    stays = list(journeys)

    def offset(at: datetime) -> int:
        return home(at) + sum(ahead for begins, ends, ahead in stays if begins <= at < ends)

    return offset


def shown(at: datetime, clock: Clock) -> str:
    return (at + timedelta(minutes=clock(at))).strftime("%Y-%m-%dT%H:%M:%S")


def worn(
    clock: Clock,
    first: datetime,
    last: datetime,
    *,
    transmitter: str = "8TEST1",
    began: datetime | None = None,
    drift: float = 3.0,
    gaps: Sequence[tuple[datetime, datetime]] = (),
    every: timedelta = READING,
) -> Iterator[tuple[datetime, Row]]:
    """Yield the readings of a transmitter with their instants.

    :param began: when the transmitter began to count; two hours before its first reading.
    :param drift: seconds by which it falls behind in a day.
    :param gaps: from when to when there are no readings.
    :param every: how often there is one.
    """
    began = began or first - timedelta(hours=2)
    at, number = first, 0
    while at < last:
        if not any(begins <= at < ends for begins, ends in gaps):
            elapsed = (at - began).total_seconds()
            count = int(elapsed - elapsed / 86400 * drift)
            yield at, reading(shown(at, clock), count, 80 + number % 200, transmitter)
        at += every
        number += 1


def in_order(rows: Iterable[tuple[datetime, Row]]) -> list[Row]:
    """Return rows as Clarity sorts them: by stamp, whatever came first in a doubled hour."""
    return sorted((row for _at, row in rows), key=lambda row: row[0])
