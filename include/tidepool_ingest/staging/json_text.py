"""What JSON looks like as bytes: the patterns with which records are cut without being decoded.

None of them checks that a text is right JSON; they find where a value ends if it is. Repetitions are
possessive (Python 3.11), so that no text makes them go back and try again.
"""

from __future__ import annotations

import re

SPACE = rb"[ \t\r\n]*+"
"""The white space of JSON (RFC 8259, section 2)."""

STRING_REST = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
"""The inside of a string, up to its closing quote or the end of the text."""

STRING = rb'"' + STRING_REST + rb'"'

SCALAR = rb'[^\s\[\]{},:"]++'
"""Number, ``true``, ``false``, ``null``, or whatever stands there in their place."""

FAST_DEPTH = 8
"""Levels of nesting that one pattern covers; no record of Tidepool's types needs more."""


_PLAIN = rb'[^"\[\]{}]*+'


def _composite(levels: int) -> bytes:
    """Return the pattern of an object or array; strings without escapes, the common ones, are tried first."""
    nested = b"|(?:" + _composite(levels - 1) + b")" + _PLAIN if levels > 1 else b""
    strings = rb'"[^"\\]*+"' + _PLAIN + b"|" + STRING + _PLAIN
    return rb"[\[{]" + _PLAIN + b"(?:" + strings + nested + rb")*+[\]}]"


VALUE = _composite(FAST_DEPTH) + b"|" + STRING + b"|" + SCALAR
"""A value of at most ``FAST_DEPTH`` levels."""

_VALUE = re.compile(VALUE, re.DOTALL)
_TOKEN = re.compile(STRING + rb"|[\[{\]}]", re.DOTALL)


def value_end(text: bytes, start: int) -> int | None:
    """Return where the value that begins at an offset ends, or nothing when it does not end.

    :param text: JSON text.
    :param start: offset of the value's first byte.
    """
    match = _VALUE.match(text, start)
    if match:
        return match.end()
    if text[start : start + 1] not in (b"[", b"{"):
        return None
    depth = 0
    for token in _TOKEN.finditer(text, start):
        first = token.group()[:1]
        if first in (b"[", b"{"):
            depth += 1
        elif first in (b"]", b"}"):
            depth -= 1
            if depth == 0:
                return token.end()
    return None
