"""Surgery on the text of one JSON object: everything else stays byte for byte as it was.

Lines given here are objects that a model has accepted, or at least objects; what is not an object gives a
``ValueError`` or ``None``, never a guess. The patterns at the top cut records without decoding them. None of
them checks that a text is valid JSON; they find where a value ends if it is. Repetitions are possessive
(Python 3.11), so that no text makes them backtrack.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

SPACE = rb"[ \t\r\n]*+"
"""The white space of JSON (RFC 8259, section 2)."""

STRING_REST = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
"""The inside of a string, up to its closing quote or the end of the text."""

STRING = rb'"' + STRING_REST + rb'"'

SCALAR = rb'[^\s\[\]{},:"]++'
"""Number, ``true``, ``false``, ``null``, or whatever is there instead."""

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
    """Return where the value that begins at an offset ends, or ``None`` if it does not end.

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


_OPENING = re.compile(SPACE + rb"\{" + SPACE)
_WHOLE_MEMBER = re.compile(
    SPACE + b"(" + STRING + b")" + SPACE + b":" + SPACE + b"(" + VALUE + b")" + SPACE + b"([,}])", re.DOTALL
)
_NAME = re.compile(SPACE + b"(" + STRING + b")" + SPACE + b":" + SPACE, re.DOTALL)
_AFTER = re.compile(SPACE + rb"([,}])")
_ITEM = re.compile(SPACE)
_AFTER_ITEM = re.compile(SPACE + rb"([,\]])")

_OPENING_BRACE, _CLOSING = b"{}"

EACH = "*"
"""In a path: every element of the array there."""


class Member(NamedTuple):
    """One member of a JSON object, as offsets into the line.

    :param name: its name, decoded.
    :param start: offset of the name's opening quote.
    :param value_start: offset of the value.
    :param end: offset just behind the value.
    """

    name: str
    start: int
    value_start: int
    end: int


def members(line: bytes, start: int = 0) -> list[Member] | None:
    """Return the members of an object in order, or ``None`` if there is no complete object.

    :param line: JSON text.
    :param start: offset at which the object (or white space before it) begins.
    """
    opening = _OPENING.match(line, start)
    if not opening:
        return None
    found: list[Member] = []
    position = opening.end()
    if line[position : position + 1] == b"}":
        return found
    while True:
        match = _WHOLE_MEMBER.match(line, position)
        if match:
            name_start, value_start, end, position = match.start(1), match.start(2), match.end(2), match.end()
        else:
            deep = _deep_member(line, position)
            if deep is None:
                return None
            name_start, value_start, end, position = deep
        name = _decoded_name(line, name_start, value_start)
        if name is None:
            return None
        found.append(Member(name, name_start, value_start, end))
        if line[position - 1] == _CLOSING:
            return found


class Cut(NamedTuple):
    """One change to a line.

    :param start: offset of the first byte that is removed.
    :param end: offset behind the last one; equal to ``start`` when text is only inserted.
    :param text: what replaces it.
    """

    start: int
    end: int
    text: bytes

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"Cut(start={self.start}, end={self.end})"


def with_member(line: bytes, name: str, value_json: bytes) -> bytes:
    """Return the object with one more member at its end.

    The Platform takes the last of equal names, so that the new member also overrides an existing one.

    :param line: an object that a model has accepted.
    :param name: name of the member.
    :param value_json: its value as JSON text.
    :raises ValueError: the line does not end as an object does.
    """
    closing = len(line.rstrip(b" \t\r\n")) - 1
    if closing < 1 or line[closing] != _CLOSING:
        raise ValueError("the line is not a JSON object")
    return _inserted(line, closing, name, value_json)


def with_member_in(line: bytes, path: Sequence[str], name: str, value_json: bytes) -> bytes:
    """Return the object with one more member at the end of an object inside it.

    :param line: an object that a model has accepted.
    :param path: names that lead to the inner object, such as ``("bolus",)``.
    :param name: name of the member.
    :param value_json: its value as JSON text.
    :raises ValueError: there is no object at the path.
    """
    start, end = 0, 0
    for step in path:
        named = [member for member in members(line, start) or () if member.name == step]
        if not named or line[named[-1].value_start] != _OPENING_BRACE:
            raise ValueError("there is no object at this path of the line")
        start, end = named[-1].value_start, named[-1].end
    if not path:
        return with_member(line, name, value_json)
    return _inserted(line, end - 1, name, value_json)


def cut_member(found: Sequence[Member], index: int, kept_before: bool) -> Cut:
    """Return the cut that takes a member out, together with the comma that goes with it.

    :param found: the members of the object.
    :param index: which one.
    :param kept_before: whether a member before it stays.
    """
    if kept_before:
        return Cut(found[index - 1].end, found[index].end, b"")
    after = found[index + 1].start if index + 1 < len(found) else found[index].end
    return Cut(found[index].start, after, b"")


def spliced(line: bytes, cuts: Iterable[Cut]) -> bytes:
    """Return the line with its cuts made.

    :param line: any text.
    :param cuts: none of which overlap, in any order.
    """
    pieces: list[bytes] = []
    done = 0
    for cut in sorted(cuts):
        pieces += (line[done : cut.start], cut.text)
        done = cut.end
    return b"".join((*pieces, line[done:]))


def values_at(line: bytes, path: Sequence[str], start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield start and end of each value at a path; of repeated names the last counts.

    :param line: JSON text.
    :param path: names that lead to the values; ``EACH`` stands for every element of an array.
    :param start: offset of the object or array in which the path begins.
    """
    if not path:
        end = value_end(line, start)
        if end is not None:
            yield start, end
        return
    if path[0] == EACH:
        for item in _items(line, start):
            yield from values_at(line, path[1:], item)
        return
    named = [member for member in members(line, start) or () if member.name == path[0]]
    if named:
        yield from values_at(line, path[1:], named[-1].value_start)


def _items(line: bytes, start: int) -> Iterator[int]:
    """Yield the offset of each element of the array at an offset; nothing if there is none."""
    if line[start : start + 1] != b"[":
        return
    position = start + 1
    while True:
        space = _ITEM.match(line, position)
        item = space.end() if space else position
        end = value_end(line, item)
        after = _AFTER_ITEM.match(line, end) if end is not None else None
        if after is None:
            return
        yield item
        if after.group(1) == b"]":
            return
        position = after.end()


def _inserted(line: bytes, closing: int, name: str, value_json: bytes) -> bytes:
    """Insert a member before the closing brace at an offset."""
    comma = b"" if line[:closing].rstrip(b" \t\r\n").endswith(b"{") else b","
    return b"".join((line[:closing], comma, _encoded_name(name), b":", value_json, line[closing:]))


@lru_cache(maxsize=256)
def _encoded_name(name: str) -> bytes:
    return json.dumps(name).encode()


def _deep_member(line: bytes, position: int) -> tuple[int, int, int, int] | None:
    """Find a member whose value is nested deeper than the pattern; offsets as in :func:`members`."""
    name = _NAME.match(line, position)
    end = value_end(line, name.end()) if name else None
    after = _AFTER.match(line, end) if end is not None else None
    if name is None or end is None or after is None:
        return None
    return name.start(1), name.end(), end, after.end()


def _decoded_name(line: bytes, start: int, value_start: int) -> str | None:
    """Return the name that begins at an offset, or ``None`` if it is not text."""
    quoted = line[start : line.rindex(b'"', start, value_start) + 1]
    try:
        return str(json.loads(quoted)) if b"\\" in quoted else quoted[1:-1].decode()
    except ValueError:
        return None
