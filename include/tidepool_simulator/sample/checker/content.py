"""What a record says, in a form in which the staged and the stored one are equal.

Times become instants, glucose becomes mmol/L, fields that the Platform doesn't keep fall away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from tidepool_simulator.sample.checker.nested import tokens_of
from tidepool_simulator.sample.checker.shapes import (
    ANY_NAME,
    BASE,
    EMBEDDED,
    FREE,
    GLUCOSE,
    GLUCOSE_RATE,
    NAMES,
    PLAIN,
    RATE_UNITS,
    SHAPES,
    STORED_AS,
    SUB_KIND_FIELDS,
    TIME,
    WALL_TIME,
)

MG_DL_IN_A_MMOL_L = 18.01559
"""The Platform's factor (data/blood/glucose), written down here a second time on purpose."""

KEPT_DECIMALS = 100_000
"""The Platform keeps five decimals of a converted glucose."""

_WHOLE_SHAPES = {kind: BASE | shape for kind, shape in SHAPES.items()}

SMALLEST_INTEGER = -(2**63)

ZERO_TIME = -62_135_596_800_000
"""0001-01-01T00:00:00Z, which the Platform takes for no time."""

_MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d{1,2}):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII
)


class Row(NamedTuple):
    """One stored datum's worth of content.

    :param kind: its type.
    :param at: its time, milliseconds since 1970.
    :param content: everything it says, equal for the staged and the stored form.
    """

    kind: str
    at: Hashable
    content: Hashable


def rows_of(record: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows that a staged record becomes: itself and, apart, the whole datum embedded in it."""
    yield row_of(record)
    embedded = record.get(EMBEDDED.get(_kind(record), ""))
    if isinstance(embedded, Mapping):
        yield from rows_of(embedded)


def row_of(record: Mapping[str, Any]) -> Row:
    """Return what a single datum says."""
    kind = _kind(record)
    shape = _WHOLE_SHAPES.get(kind) or _WHOLE_SHAPES.get((kind[0], None), BASE)
    content = _object(record, shape, _glucose_units(record))
    return Row(kind[0], _instant(record.get("time"), None), (kind, content))


def same_text(record: object) -> str:
    """Return a text that two records share exactly when they are the same JSON value."""
    return json.dumps(list(tokens_of(record)), separators=(",", ":"))


def instant_of(time: object) -> Hashable:
    """Return a moment as milliseconds since 1970; what is no moment as it is."""
    return _instant(time, None)


def _kind(record: Mapping[str, Any]) -> tuple[str, str | None]:
    kind = str(record.get("type"))
    field = SUB_KIND_FIELDS.get(kind)
    return kind, None if field is None else str(record.get(field))


def _glucose_units(record: Mapping[str, Any]) -> object:
    """Return the unit that the record's glucose values are in: its own, or the settings' block of units."""
    units = record.get("units")
    return units.get("bg") if isinstance(units, Mapping) else units


def _object(value: Mapping[str, Any], shape: Mapping[str, Any], units: object) -> Hashable:
    fields: list[tuple[str, Hashable]] = []
    for name, found in value.items():
        part = shape.get(name)
        # The Platform keeps no null, and some empty lists and the zero time no better.
        if part is None or found is None or found == [] or found == {}:
            continue
        if part == TIME and _instant(found, None) == ZERO_TIME:
            continue
        label = value.get(RATE_UNITS) if part == GLUCOSE_RATE else units
        fields.append((STORED_AS.get(name, name), _value(found, part, label)))
    return tuple(sorted(fields, key=itemgetter(0)))


def _value(value: Any, part: Any, units: object) -> Hashable:
    if isinstance(part, str):
        return _LEAVES[part](value, units)
    if isinstance(part, list) and isinstance(value, list):
        return tuple(_value(item, part[0], units) for item in value)
    if isinstance(part, dict) and isinstance(value, Mapping):
        if ANY_NAME in part:
            return tuple((name, _value(value[name], part[ANY_NAME], units)) for name in sorted(value))
        return _object(value, part, units)
    return _plain(value, units)


def _plain(value: Any, _: object) -> Hashable:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, str):
        return "text", _readable(value)
    if isinstance(value, tuple):  # a bracket or name
        return tuple(_readable(part) for part in value)
    return tuple(_plain(token, None) for token in _without_nulls(tokens_of(value)))


def _without_nulls(tokens: Iterator[Hashable]) -> Iterator[Hashable]:
    """Leave out the members of objects that are null."""
    held: Hashable = None
    for token in tokens:
        if held is not None:
            if token is not None:
                yield held
                yield token
            held = None
        elif isinstance(token, tuple) and token[0] == "name":
            held = token
        else:
            yield token


def _number(value: float) -> Hashable:
    try:
        return float(value)
    except OverflowError:
        return str(value)


def _readable(text: str) -> str:
    """Return a text as the Platform keeps it: halves of surrogate pairs become the replacement character."""
    return text if text.isascii() else re.sub(r"[\ud800-\udfff]", "\ufffd", text)


def _mmol(value: Any, units: object) -> Any:
    """Return a glucose in mmol/L, rounded half away from zero to five decimals when it was in mg/dL."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if not isinstance(units, str) or not units.lower().startswith("mg/dl"):
        return value
    scaled = value / MG_DL_IN_A_MMOL_L * KEPT_DECIMALS
    rounded = int(scaled + (0.5 if scaled >= 0 else -0.5))
    # Out of 64 bits, Go's conversion gives the smallest integer; only values without limits get here.
    return (rounded if abs(rounded) < -SMALLEST_INTEGER else SMALLEST_INTEGER) / KEPT_DECIMALS


def _instant(value: Any, units: object) -> Hashable:
    """Return a moment as milliseconds since 1970; what is no moment stays as it is."""
    found = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return _plain(value, units)
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    fraction = int(((found[7] or "") + "000")[:3])
    offset = (int(found[9]) * 60 + int(found[10])) * (1 if found[8] == "+" else -1) if found[8] else 0
    seconds = _days(year, month, day) * 86400 + hour * 3600 + (minute - offset) * 60 + second
    return seconds * 1000 + fraction


def _days(year: int, month: int, day: int) -> int:
    """Return the days since 1970-01-01 in the Gregorian calendar, also for the year 0."""
    year -= month <= 2
    day_of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - 719468


_LEAVES: dict[str, Callable[[Any, object], Hashable]] = {
    PLAIN: _plain,
    FREE: _plain,
    TIME: _instant,
    WALL_TIME: lambda value, units: _plain(
        value.removesuffix("Z") if isinstance(value, str) else value, units
    ),
    NAMES: lambda value, units: _plain(sorted(value, key=repr) if isinstance(value, list) else value, units),
    GLUCOSE_RATE: lambda value, units: _plain(_mmol(value, units), None),
    GLUCOSE: lambda value, units: _plain(_mmol(value, units), None),
}
