"""JSON of as many levels as Go reads, where Python's own decoder and encoder run out of stack."""

from __future__ import annotations

import json
import re
from typing import Any

LEVELS_MAX = 10_000
"""Arrays and objects inside each other (Go: encoding/json/scanner.go, maxNestingDepth)."""

_TOKEN = re.compile(
    r'[ \t\n\r]*+(?:(?P<sign>[\[\]{},:])|(?P<scalar>"(?:[^"\\]|\\.)*+"|[^ \t\n\r\[\]{},:"]++))', re.DOTALL
)
_ALLOWED = {
    "value": '[{"0',
    "first item": '[{"0]',
    "name": '"',
    "first name": '"}',
    "colon": ":",
    "after item": ",]",
    "after member": ",}",
}
"""How a token may begin in each state; ``0`` stands for a number, a flag or null."""


def scan(text: str, start: int, decoder: json.JSONDecoder) -> tuple[Any, int]:
    """Decode the value at an offset; return it and the offset behind it.

    :raises ValueError: there is none.
    """
    try:
        return decoder.raw_decode(text, start)
    except RecursionError:  # always before Go's limit: CPython 3.11 to 3.13 have at most 10,000 C calls
        return _scan_deep(text, start, decoder)


def _scan_deep(text: str, start: int, decoder: json.JSONDecoder) -> tuple[Any, int]:
    """Read token by token; what is expected next is a state, and the open containers are a list."""
    opened: list[Any] = []
    names: list[str] = []
    state = "value"
    while True:
        token = _TOKEN.match(text, start)
        kind = _kind(token) if token else "end"
        if token is None or kind not in _ALLOWED[state]:
            raise ValueError("a token is missing or out of place")
        start = token.end()
        if kind in "[{":
            opened.append([] if kind == "[" else {})
            if len(opened) > LEVELS_MAX:
                raise ValueError("it nests too deeply")
            state = "first item" if kind == "[" else "first name"
        elif kind in ",:":
            state = "name" if state == "after member" else "value"
        elif state in ("name", "first name") and kind == '"':
            names.append(_whole(token["scalar"], decoder))
            state = "colon"
        else:
            ended = opened.pop() if kind in "]}" else _whole(token["scalar"], decoder)
            if not opened:
                return ended, start
            state = _put(ended, opened[-1], names)


def _kind(token: re.Match[str]) -> str:
    sign: str | None = token["sign"]
    return sign or ('"' if token["scalar"].startswith('"') else "0")


def _put(value: Any, container: Any, names: list[str]) -> str:
    """Put a value into its container; return the state after it."""
    if isinstance(container, list):
        container.append(value)
        return "after item"
    container[names.pop()] = value
    return "after member"


def _whole(scalar: str, decoder: json.JSONDecoder) -> Any:
    value, end = decoder.raw_decode(scalar)
    if end < len(scalar):
        raise ValueError("something follows a value")
    return value


def dumps(value: Any) -> str:
    """Encode a value, without spaces, text beyond ASCII as it is."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return _deep_text(value)


def loads(text: str) -> Any:
    """Decode a text that :func:`dumps` has made."""
    return scan(text, 0, json.JSONDecoder())[0]


def _deep_text(value: Any) -> str:
    pieces: list[str] = []
    iterators: list[tuple[Any, str]] = []
    closing = ""
    while True:
        if isinstance(value, (dict, list)) and value:
            pieces.append("{" if isinstance(value, dict) else "[")
            iterators.append((iter(value.items()), "}") if isinstance(value, dict) else (iter(value), "]"))
            closing = ""
        else:
            pieces.append(json.dumps(value, ensure_ascii=False))
            closing = ","
        while iterators:
            items, end = iterators[-1]
            following = next(items, items)
            if following is not items:
                break
            pieces.append(end)
            iterators.pop()
            closing = ","
        else:
            return "".join(pieces)
        pieces.append(closing)
        value = following
        if end == "}":
            name, value = following
            pieces.append(f"{json.dumps(name, ensure_ascii=False)}:")
