"""The cells of a vendor's file, and the local times in them: read whole, in memory and simply."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.checker.files import UnreadableError

Record = dict[str, Any]

DELIMITERS = (",", ";", "\t", "|")

BYTE_ORDER_MARKS = ("\ufeff", "ï»¿")
"""As such, and encoded a second time."""

_DAMAGED = re.compile("[\0\udc80-\udcff]")

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?", re.ASCII)

NOTE_LENGTH = 1000
"""Characters of a note that the Platform keeps in one piece."""

UNCERTAIN = {"code": "uncertain-timestamp"}
"""The annotation of a record whose local time does not say which moment it was."""


DOUBLED, MISSING = "doubled", "missing"
"""How a clock's hour can be in doubt: it was there twice, or never."""


class RowError(Exception):
    """A row is not what it says that it is, and belongs into quarantine."""


def decoded(content: bytes, encoding: str = "utf-8") -> str:
    """Return a file's text without its byte order mark; see :func:`is_damaged` for its single bytes.

    :raises UnreadableError: nobody knows that encoding, or it is of another one.
    """
    try:
        text = content.decode(encoding, errors="surrogateescape")
    except LookupError as error:
        raise UnreadableError from error
    for mark in BYTE_ORDER_MARKS:
        text = text.removeprefix(mark)
    return text


def table_of(text: str, delimiter: str | None = None, *, skipped: int = 0) -> list[list[str]]:
    """Return the lines of a file as cells, without blank ones.

    :param delimiter: what separates cells; None for whatever the first lines have most of.
    :param skipped: how many lines are left out before the first.
    :raises UnreadableError: they cannot be told apart.
    """
    if delimiter is None:
        beginning = "".join(text.splitlines(keepends=True)[:3])
        delimiter = max(DELIMITERS, key=beginning.count)
    usual = csv.field_size_limit(2**30)  # of the whole process
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))[skipped:]
        # Some programs wrap a whole line into a further pair of quotes.
        whole = [
            next(csv.reader(row, delimiter=delimiter)) if _wrapped(row, delimiter) else row for row in rows
        ]
    except csv.Error as error:
        raise UnreadableError from error
    finally:
        csv.field_size_limit(usual)
    return [row for row in whole if len(row) > 1 or (row and row[0].strip())]


def is_damaged(row: Sequence[str]) -> bool:
    """Return whether a row holds U+0000, or a byte that is not of the file's encoding."""
    return any(_DAMAGED.search(cell) for cell in row)


def _wrapped(row: Sequence[str], delimiter: str) -> bool:
    return len(row) == 1 and delimiter in row[0]


def number_of(cell: str) -> float:
    """Return a cell's number, with a point or a comma.

    :raises RowError: it is none.
    """
    text = cell.strip()
    if not _NUMBER.fullmatch(text):
        raise RowError
    return float(text.replace(",", "."))


def is_number(cell: str) -> bool:
    """Return whether a cell holds one number."""
    return _NUMBER.fullmatch(cell.strip()) is not None


@dataclass(frozen=True)
class Moment:
    """One reading of a wall clock.

    :param at: the moment, UTC, without a zone of its own.
    :param local: what the clock showed.
    :param doubt: why it may have been another one; empty where it is certain.
    """

    at: datetime
    local: datetime
    doubt: str = ""

    def fields(self) -> Record:
        """Return the fields of a record that say when it was."""
        record: Record = {
            "time": f"{self.at.isoformat(timespec='milliseconds')}Z",
            "deviceTime": self.local.isoformat(),
            "timezoneOffset": round((self.local - self.at).total_seconds() / 60),
        }
        return record | ({"annotations": [UNCERTAIN]} if self.doubt else {})


class Clock:
    """A wall clock that follows a zone, or several one after the other.

    :param zones: an IANA name, or ``[{"until": local time, "zone": name}, …, {"zone": name}]``.
    :raises UnreadableError: it is neither.
    """

    def __init__(self, zones: object) -> None:
        try:
            if isinstance(zones, str):
                self._periods = [(datetime.max, ZoneInfo(zones))]
            else:
                self._periods = list(_periods(zones))
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise UnreadableError from error

    def read(self, local: datetime) -> Moment:
        """Return the moment at which the clock showed a time: of two the first, of none by the old offset."""
        zone = next(zone for until, zone in self._periods if local < until)
        first, second = (_offset(local, zone, fold) for fold in (0, 1))
        doubt = "" if first == second else DOUBLED if first > second else MISSING
        return Moment(local - first, local, doubt)

    def passes(self, local: datetime) -> list[datetime]:
        """Return each moment at which the clock showed a time, in order."""
        zone = next(zone for until, zone in self._periods if local < until)
        offsets = {_offset(local, zone, fold) for fold in (0, 1)}
        return sorted(local - offset for offset in offsets if self.offset_at(local - offset, local) == offset)

    def offset_at(self, at: datetime, local: datetime) -> timedelta:
        """Return how far ahead of UTC the zone was at a moment.

        :param local: what a clock showed about then, which tells the period.
        """
        zone = next(zone for until, zone in self._periods if local < until)
        offset = at.replace(tzinfo=UTC).astimezone(zone).utcoffset()
        return offset if offset is not None else timedelta()


def _periods(zones: Any) -> Iterator[tuple[datetime, ZoneInfo]]:
    for period in zones:
        until: Mapping[str, str] = period
        end = datetime.fromisoformat(until["until"]) if "until" in until else datetime.max
        yield end, ZoneInfo(until["zone"])


def _offset(local: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    offset = local.replace(tzinfo=zone, fold=fold).utcoffset()
    return offset if offset is not None else timedelta()


def in_order(found: Sequence[Moment | None], clock: Clock) -> list[Moment | None]:
    """Return moments of which it is known that they follow each other.

    Where one in an hour that was there twice seems to be before the last, the second pass has begun; then
    both passes are certain.
    """
    known = list(found)
    latest = datetime.min
    first: list[tuple[int, Moment]] = []
    for number, moment in enumerate(found):
        if moment is None:
            continue
        at = moment.at
        if moment.doubt != DOUBLED:
            first = []
        elif at >= latest:
            first.append((number, moment))
        else:
            at = clock.passes(moment.local)[-1]
            known[number] = Moment(at, moment.local)
            for earlier, certain in first:
                known[earlier] = Moment(certain.at, certain.local)
            first = []
        latest = max(latest, at)
    return known


def note(text: str) -> Record:
    """Return what a person wrote as a record, but for its time."""
    pieces = [text[start : start + NOTE_LENGTH] for start in range(0, len(text), NOTE_LENGTH)]
    return {"type": "reportedState", "states": [{"state": "other", "stateOther": "note"}], "notes": pieces}
