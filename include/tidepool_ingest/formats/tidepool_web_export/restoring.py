"""Rows of a web export as the records that the data API would have shown; see :mod:`.pump_settings` for some.

Values keep their spelling. Those that the export has changed are changed back only where that is exact:
minutes become the whole number of milliseconds that they were made of, or the row is rejected.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from tidepool_ingest.formats.tidepool_export.telling import MS_PER_MINUTE
from tidepool_ingest.formats.tidepool_export.units import kind_of
from tidepool_ingest.formats.tidepool_export.web_fields import (
    IN_STRINGS,
    KEPT,
    KEPT_TYPES,
    MINUTES,
    TYPES_IN_MINUTES,
)
from tidepool_ingest.model import NotDecodableError, decode
from tidepool_ingest.model.datum import DATUM_MODELS, KNOWN_TYPES
from tidepool_ingest.model.specification import fields_of, literal_fields
from tidepool_ingest.staging.splice import members

LOST: Final = "staged-export-lost"
"""The export has left out what the Platform requires, or all that makes a record of its type."""

DURATION: Final = "staged-export-duration"
"""A duration in minutes or days is no whole number of milliseconds."""

UNCLEAR: Final = "staged-export-unclear"
"""What a row of the export stands for is not certain."""

_MS_PER_DAY: Final = 24 * 60 * MS_PER_MINUTE
_ROUNDING: Final = Decimal(2) ** -50
"""How far off a double may be, relatively, after the two divisions that made the minutes."""
_EXACT_MAX: Final = 2**53
_LINE_BREAKS: Final = bytes.maketrans(b"\r\n", b"  ")
_UNITS_OF_ACTIVITY: Final = (("hours", 60 * MS_PER_MINUTE), ("minutes", MS_PER_MINUTE), ("seconds", 1_000))


def _needed() -> dict[str, frozenset[str]]:
    """Return by kind the required fields that the export has no column for."""
    needed: dict[str, frozenset[str]] = {}
    for model in DATUM_MODELS:
        kind = kind_of(literal_fields(model))
        names = {spec.name for spec in fields_of(model) if spec.required and spec.name not in KEPT}
        needed[kind] = needed.get(kind, frozenset()) | names
    return needed


NEEDED: Final = _needed()
"""Required fields that are lost, unless others bring them back as parts of an object."""


class NotRestorableError(ValueError):
    """A row cannot be made what it was.

    :param code: ``LOST``, ``DURATION`` or ``UNCLEAR``.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Restorer:
    """Restores the rows of an export, one after the other.

    ``changes`` counts, for each field, the records in which it was changed.
    """

    def __init__(self) -> None:
        self.changes: Counter[str] = Counter()

    def restore(self, line: bytes, row: Mapping[str, Any]) -> bytes:
        """Return the record that a row was made of.

        :param line: the text of the row.
        :param row: the same, decoded.
        :raises NotRestorableError: saying why not.
        """
        if is_lost(row):
            raise NotRestorableError(LOST)
        fields, changed = restored_fields(line, row)
        if NEEDED.get(kind_of(row), frozenset()) - fields.keys():
            raise NotRestorableError(LOST)
        if not changed:
            return line
        self.changes.update(changed)
        return object_of(fields)


def is_lost(row: Mapping[str, Any]) -> bool:
    """Return whether a row is of a type that the export keeps nothing of."""
    kind = row.get("type")
    return isinstance(kind, str) and kind in KNOWN_TYPES - KEPT_TYPES


def restored_fields(
    line: bytes, row: Mapping[str, Any], only: AbstractSet[str] | None = None
) -> tuple[dict[str, bytes], set[str]]:
    """Return the fields of a row as the record had them, and which of them the export had changed.

    :param line: the text of the row.
    :param row: the same, decoded.
    :param only: the fields that are wanted, if not all are.
    :raises NotRestorableError: ``UNCLEAR`` or ``DURATION``.
    """
    type_ = row.get("type")
    kind = type_ if isinstance(type_, str) else ""
    strings = IN_STRINGS.get(kind, frozenset())
    fields: dict[str, bytes] = {}
    inner: dict[str, dict[str, bytes]] = {}
    changed: set[str] = set()
    found = members(line)
    if found is None:
        raise NotRestorableError(UNCLEAR)
    for member in found:
        name, text = member.name, line[member.value_start : member.end]
        outer, dot, rest = name.partition(".")
        if only is not None and outer not in only:
            continue
        if rest in inner.get(outer, ()) or (outer in fields and not (dot and outer in inner)):
            raise NotRestorableError(UNCLEAR)
        if dot:
            # The object stands where its first field does.
            inner.setdefault(outer, {})[rest] = text
            fields[outer] = b""
            changed.add(outer)
            continue
        restored = _restored_value(kind, name, row.get(name), text, strings)
        fields[name] = restored
        if restored is not text:
            changed.add(name)
    fields.update((outer, object_of(parts)) for outer, parts in inner.items())
    return fields, changed


def object_of(fields: Mapping[str, bytes]) -> bytes:
    """Return the text of an object.

    :param fields: the texts of its values, by name.
    """
    return b"{" + b",".join(json.dumps(name).encode() + b":" + text for name, text in fields.items()) + b"}"


def _restored_value(kind: str, name: str, value: Any, text: bytes, strings: frozenset[str]) -> bytes:
    if name in strings and isinstance(value, str):
        return _in_string(value)
    if name in MINUTES and type(value) in (int, float):
        if kind in TYPES_IN_MINUTES:
            return b"%d" % _milliseconds(text, MS_PER_MINUTE)
        if kind == "physicalActivity":
            return _activity_duration(text)
    return text


def _in_string(value: str) -> bytes:
    """Return the JSON that a string holds, on one line."""
    try:
        text = value.encode().translate(_LINE_BREAKS).strip()
        decode(text)
    except (UnicodeEncodeError, NotDecodableError):
        raise NotRestorableError(UNCLEAR) from None
    return text


def _milliseconds(text: bytes, unit: int) -> int:
    """Return the whole number of milliseconds that a duration stands for.

    :param text: the duration, as the export spells it.
    :param unit: what it is in, in milliseconds.
    """
    try:
        exact = Decimal(text.decode()) * unit
    except InvalidOperation:  # an exponent beyond all that numbers have
        raise NotRestorableError(DURATION) from None
    if abs(exact) > _EXACT_MAX:
        raise NotRestorableError(DURATION)
    whole = int(exact.to_integral_value())
    if abs(exact - whole) > abs(exact) * _ROUNDING:
        raise NotRestorableError(DURATION)
    return whole


def _activity_duration(text: bytes) -> bytes:
    """Return how long an activity took, which the export has in days, in the largest unit that it fills."""
    ms = _milliseconds(text, _MS_PER_DAY)
    name, unit = next((one for one in _UNITS_OF_ACTIVITY if ms % one[1] == 0), _UNITS_OF_ACTIVITY[-1])
    whole, rest = divmod(ms, unit)
    value = f"{whole}" if not rest else str(Decimal(ms) / unit)
    return b'{"units":"%s","value":%s}' % (name.encode(), value.encode())
