"""JSON as the Platform writes it: how many bytes Go's ``json.Marshal`` makes of a value."""

from __future__ import annotations

import re
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
    size = 0
    waiting = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is dict:
            size += sum(map(_text_size, value)) + len(value) + max(len(value) - 1, 0) + 2
            waiting += value.values()
        elif kind is list:
            size += max(len(value) - 1, 0) + 2
            waiting += value
        elif value is None or value is True:
            size += 4
        elif value is False:
            size += 5
        else:
            size += _text_size(value) if kind is str else _number_size(value)
    return size


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
