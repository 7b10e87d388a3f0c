"""JSON as the Platform writes it: how many bytes Go's ``json.Marshal`` makes of a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

_ESCAPES: Final = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')
_SHORT_ESCAPES: Final = frozenset('"\\\b\f\n\r\t')
_LONG_ESCAPE: Final = 6
"""Bytes of an escape such as ``\\u003c``; Go also writes ``<``, ``>`` and ``&`` that way."""

GROWTH_MAX: Final = 6
"""No JSON text grows more when Go writes it again: ``<`` becomes ``\\u003c``, ``1e20`` becomes 21 digits."""

_PLAIN_MIN: Final = 1e-6
_PLAIN_MAX: Final = 1e21
"""Absolute values from ``_PLAIN_MIN`` to below this are written without exponent (P: Go encoding/json)."""


def go_json_size(value: Any) -> int:
    """Count the bytes of a decoded JSON value as Go writes it.

    :param value: what a JSON decoder gave.
    :return: the length in bytes.
    """
    if value is None or value is True:
        return 4
    if value is False:
        return 5
    return _SIZES[type(value)](value)


def _text_size(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    for found in _ESCAPES.finditer(text):
        character = found.group()
        written = 2 if character in _SHORT_ESCAPES else _LONG_ESCAPE
        size += written - len(character.encode())
    return size + 2


def go_float(value: float) -> str:
    """Spell a number as Go's ``strconv.FormatFloat(value, 'f', -1, 64)`` does: shortest, without exponent.

    :param value: the number.
    :return: its digits.
    """
    text = repr(float(value))
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    if fraction == "0":
        fraction = ""
    shift = int(exponent or 0)
    if shift >= 0:
        whole, fraction = whole + fraction[:shift].ljust(shift, "0"), fraction[shift:]
    else:
        padded = whole.rjust(1 - shift, "0")
        whole, fraction = padded[:shift], padded[shift:] + fraction
    return f"{sign}{whole.lstrip('0') or '0'}{'.' + fraction if fraction else ''}"


def _number_size(value: float) -> int:
    number = float(value)
    text = repr(number)
    if "e" not in text:
        return len(text.removesuffix(".0"))
    if _PLAIN_MIN <= abs(number) < _PLAIN_MAX:
        return len(go_float(number))
    mantissa, _, exponent = text.partition("e")
    return len(mantissa) + 1 + len(f"{int(exponent):+d}")


def _array_size(values: list[Any]) -> int:
    return sum(map(go_json_size, values)) + max(len(values) - 1, 0) + 2


def _object_size(values: dict[str, Any]) -> int:
    inside = sum(_text_size(name) + 1 + go_json_size(value) for name, value in values.items())
    return inside + max(len(values) - 1, 0) + 2


_SIZES: Final[dict[type, Callable[[Any], int]]] = {
    str: _text_size,
    int: _number_size,
    float: _number_size,
    list: _array_size,
    dict: _object_size,
}
