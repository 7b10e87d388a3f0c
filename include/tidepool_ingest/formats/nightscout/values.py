"""What a Nightscout document says under a name: numbers and instants as any of its many writers spelled them.

A number may be a string, an instant milliseconds or a text with any offset, and either may be wrapped as
MongoDB's own tools write it: ``{"$numberLong": "1"}``, ``{"$date": …}``, ``{"$oid": …}``.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final, TypeAlias

from tidepool_ingest.formats.delimited import NO_AMOUNT as NO_AMOUNT
from tidepool_ingest.formats.delimited import NOT_A_NUMBER as NOT_A_NUMBER
from tidepool_ingest.formats.delimited import TIME_UNREADABLE as TIME_UNREADABLE
from tidepool_ingest.staging.manifest import ORIGIN_TEXT_LENGTH

Document: TypeAlias = Mapping[str, Any]
"""A decoded document."""

NAMES: Final = ("identifier", "syncIdentifier", "id", "_id")
"""What may name a document for ever, the steadiest first."""

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

EARLIEST_MS: Final = 946_684_800_000
"""The year 2000. What is before has no date: ``1970`` stands for none, and seconds look like it."""
LATEST_MS: Final = 4_102_444_800_000
"""The year 2100."""

_NUMBER: Final = re.compile(r"\s*[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]{1,3})?\s*")
_TEXT_MAX: Final = 60
"""Characters of a number or an instant, however padded."""
LARGEST: Final = 10**15
"""Beyond every number of a document, milliseconds since 1970 included."""
_ISO: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,12}))?"
    r" ?(Z|z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_USUAL_LENGTH: Final = len("2026-03-05T10:00:00.000Z")
_SPELLED_OUT: Final = re.compile(
    r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([0-9]{1,2}) ([0-9]{2}:[0-9]{2}:[0-9]{2}) "
    r"(?:GMT|UTC)?([+-][0-9]{2}:?[0-9]{2})? ?([0-9]{4})(?: (?:GMT|UTC)([+-][0-9]{4})?(?: \([^()]*\))?)?"
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PLAIN: Final = re.compile(rf"[A-Za-z0-9:._/+ -]{{1,{ORIGIN_TEXT_LENGTH}}}")
as_json: Final[Callable[[object], str]] = json.JSONEncoder(separators=(",", ":")).encode
"""Returns a value as JSON. It must not be deep; no record here is."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


_NOTHING: Final[Document] = {}


class RefusedDocumentError(Exception):
    """A document gives no record.

    :param code: why.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def plain(value: object) -> object:
    """Return a value without what MongoDB's tools have wrapped it in."""
    for _ in range(2):
        if type(value) is not dict or len(value) != 1:
            return value
        (name,) = value
        if not name.startswith("$"):
            return value
        value = value[name]
    return value


def number(document: Document, *names: str) -> int | float | None:
    """Return the number under the first of some names that has one.

    :param document: whose.
    :param names: the first one first.
    :return: ``None`` if there is nothing under any of them.
    :raises RefusedDocumentError: something is there that is no number.
    """
    for name in names:
        value = document.get(name)
        if value is None:
            continue
        found: int | float
        if type(value) is int or type(value) is float:
            found = value
        elif value == "":
            continue
        else:
            found = _number_in(plain(value))
        if -LARGEST < found < LARGEST:
            return found
        raise RefusedDocumentError(NOT_A_NUMBER)
    return None


def _number_in(value: object) -> int | float:
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, str) and len(value) <= _TEXT_MAX and _NUMBER.fullmatch(value):
        text = value.strip().replace(",", ".")
        return int(text) if text.lstrip("+-").isdecimal() else float(text)
    return math.nan


def text(document: Document, name: str) -> str:
    """Return the text under a name without blanks around it; empty if there is none."""
    value = document.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        value = plain(value)
    return value.strip() if isinstance(value, str) else ""


def flag(document: Document, name: str) -> bool | None:
    """Return the flag under a name, ``None`` if there is none."""
    value = document.get(name)
    if value is None or type(value) is bool:
        return value
    return {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else None


def inner(document: Document, name: str) -> Document:
    """Return the object under a name, decoded if it is JSON in a string; empty if there is none."""
    value = document.get(name)
    if value is None:
        return _NOTHING
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _NOTHING
    return value if isinstance(value, dict) else _NOTHING


def items(document: Document, name: str) -> Sequence[Any]:
    """Return the array under a name, decoded if it is JSON in a string; empty if there is none."""
    value = document.get(name)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return ()
    return value if isinstance(value, list) else ()


def instant(document: Document, *names: str) -> int:
    """Return the instant under the first of some names that has one, in milliseconds since 1970.

    :param document: whose.
    :param names: the first one first.
    :raises RefusedDocumentError: there is none, or it is of no offset, or no one wrote it down at its time.
    """
    for name in names:
        value = document.get(name)
        found = int(value) if type(value) is int else _instant_in(value)
        if found is not None and EARLIEST_MS <= found < LATEST_MS:
            return found
    raise RefusedDocumentError(TIME_UNREADABLE)


def _instant_in(value: object) -> int | None:
    if type(value) is not str:
        value = plain(value)
    if isinstance(value, str):
        if len(value) > _TEXT_MAX:
            return None
        if len(value) == _USUAL_LENGTH and value[10] == "T":
            return _instant_of(value.strip())  # no number
        if _NUMBER.fullmatch(value) is None:
            return _instant_of(value.strip())
        value = _number_in(value)
    is_number = type(value) is int or type(value) is float
    return int(value) if is_number and 0 <= value < LARGEST else None  # type: ignore[call-overload, operator]


def _instant_of(written: str) -> int | None:
    """Return an instant that is written out; ``None`` if it is none, or has no offset."""
    try:
        if len(written) == _USUAL_LENGTH and written[10] == "T" and written[-1] == "Z":
            return (datetime.fromisoformat(written) - _EPOCH) // _MS
        if match := _ISO.fullmatch(written):
            day, time, fraction, offset = match.groups()
            if offset is None:
                return None
            moment = datetime.fromisoformat(f"{day}T{time}{'Z' if offset in 'zZ' else offset}")
            return (moment - _EPOCH) // _MS + int((fraction or "")[:3].ljust(3, "0"))
        if match := _SPELLED_OUT.fullmatch(written):
            month, day, time, before, year, after = match.groups()
            shown = datetime.fromisoformat(f"{year}-{_MONTHS.index(month) + 1:02}-{day:0>2}T{time}")
            if (before or after) is None and not ("GMT" in written or "UTC" in written):
                return None
            ahead = _offset(before or after or "+0000")
            return (shown.replace(tzinfo=timezone(ahead)) - _EPOCH) // _MS
    except (ValueError, OverflowError):
        pass
    return None


def _offset(written: str) -> timedelta:
    digits = written[1:].replace(":", "")
    ahead = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -ahead if written[0] == "-" else ahead


def minutes_in(document: Document) -> int:
    """Return how long something takes in milliseconds; 0 where nothing is said.

    :raises RefusedDocumentError: it is no number.
    """
    ms = number(document, "durationInMilliseconds")
    if ms is None:
        minutes = number(document, "duration")
        ms = 0 if minutes is None else minutes * MINUTE_MS
    return max(round(ms), 0)


def name_of(document: Document) -> str:
    """Return the name that a document has for ever, or a digest of a long one; empty if it has none."""
    for name in NAMES:
        value = document.get(name)
        if value is None:
            continue
        if type(value) is not str:
            value = plain(value)
            value = str(value) if type(value) is int else value
        if isinstance(value, str) and (found := value.strip()):
            return found if len(found) <= ORIGIN_TEXT_LENGTH else _digest(found)
    return ""


def _digest(written: str) -> str:
    return hashlib.sha256(written.encode(errors="surrogatepass")).hexdigest()


def origin_id(*parts: str) -> str:
    """Return an ``origin.id`` of some parts, as JSON: with a digest where it would be too long.

    :param parts: type and name, and what else tells it from others.
    """
    written = ":".join(parts)
    if _PLAIN.fullmatch(written):
        return f'"{written}"'
    if len(written) > ORIGIN_TEXT_LENGTH or not written.isprintable():
        written = f"{parts[0]}:{_digest(written)}"
    return as_json(written)
