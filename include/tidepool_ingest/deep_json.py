"""JSON however deeply it nests: the Platform reads 10,000 levels, Python's own decoders some hundreds.

Each function does what :mod:`json` does, in the same way and as fast, and only where that runs out of stack,
walks with a list of its own instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

_SPACE: Final = re.compile(r"[ \t\n\r]*+")
_TRIED_LEVELS: Final = 2
"""Levels at which a container is first given to the fast decoder: of a long array, few elements are deep."""

_DECODER: Final = json.JSONDecoder()


def loads(text: str | bytes, decoder: json.JSONDecoder = _DECODER) -> Any:
    """Decode one JSON text.

    :param text: the text; bytes are UTF-8.
    :param decoder: says how numbers are read; without ``object_hook`` and ``object_pairs_hook``.
    :return: the value.
    :raises ValueError: it is no JSON text. The error quotes it.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogatepass")
    try:
        return decoder.decode(text)
    except RecursionError:
        value, end = raw_decode(text, _skip_space(text, 0), decoder)
    if _skip_space(text, end) < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    return value


def raw_decode(text: str, start: int = 0, decoder: json.JSONDecoder = _DECODER) -> tuple[Any, int]:
    """Decode the JSON value that begins at an offset.

    :param text: the text.
    :param start: offset of the value's first character.
    :param decoder: as for :func:`loads`.
    :return: the value, and the offset behind it.
    :raises ValueError: there is none, or it does not end. The error quotes the text.
    """
    try:
        return decoder.raw_decode(text, start)
    except RecursionError:
        return _walk(text, start, decoder)


def _walk(text: str, position: int, decoder: json.JSONDecoder) -> tuple[Any, int]:
    opened: list[tuple[Any, str]] = []  # the containers around the position, each with the name at hand
    while True:
        value, position, is_open = _begin(text, position, decoder, depth=len(opened))
        if is_open:
            name = ""
            if isinstance(value, dict):
                name, position = _name(text, position, decoder)
            opened.append((value, name))
            continue
        while opened:
            container, name = opened[-1]
            if isinstance(container, list):
                container.append(value)
            else:
                container[name] = value
            position = _skip_space(text, position)
            sign = text[position : position + 1]
            if sign == ",":
                position = _skip_space(text, position + 1)
                if isinstance(container, dict):
                    name, position = _name(text, position, decoder)
                    opened[-1] = (container, name)
                break
            if sign != ("]" if isinstance(container, list) else "}"):
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            value = container
            position += 1
            opened.pop()
        else:
            return value, position


def _begin(text: str, position: int, decoder: json.JSONDecoder, depth: int) -> tuple[Any, int, bool]:
    """Return a value, where it ends, and ``False``; or a container, where its inside begins, and ``True``."""
    sign = text[position : position + 1]
    if sign not in ("[", "{") or (0 < depth <= _TRIED_LEVELS):
        try:
            return *decoder.raw_decode(text, position), False
        except RecursionError:
            pass
    inside = _skip_space(text, position + 1)
    is_empty = text[inside : inside + 1] == ("]" if sign == "[" else "}")
    return ([] if sign == "[" else {}), inside + is_empty, not is_empty


def _name(text: str, position: int, decoder: json.JSONDecoder) -> tuple[str, int]:
    """Return the name at an offset, and the offset of the value that it names."""
    if text[position : position + 1] != '"':
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, position)
    name, position = decoder.raw_decode(text, position)
    position = _skip_space(text, position)
    if text[position : position + 1] != ":":
        raise json.JSONDecodeError("Expecting ':' delimiter", text, position)
    return name, _skip_space(text, position + 1)


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def dumps(
    value: Any,
    *,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    separators: tuple[str, str] = (", ", ": "),
) -> str:
    """Encode a decoded JSON value as :func:`json.dumps` does.

    :param value: dictionaries with names that are texts, lists, texts, numbers, flags, ``None``.
    :param sort_keys: whether the names of each object are written in order.
    :param ensure_ascii: whether what is not ASCII is escaped.
    :param separators: what stands between items, and between a name and its value.
    :return: the text.
    """
    encode = json.JSONEncoder(sort_keys=sort_keys, ensure_ascii=ensure_ascii, separators=separators).encode
    try:
        return encode(value)
    except RecursionError:
        return "".join(_pieces(value, encode, separators, sort_keys=sort_keys))


def _pieces(
    value: Any, encode: Callable[[Any], str], separators: tuple[str, str], *, sort_keys: bool
) -> Iterator[str]:
    waiting: list[tuple[str, Any]] = [("", value)]  # each with the text before it; a tuple is text alone
    while waiting:
        before, item = waiting.pop()
        yield before
        if isinstance(item, dict) and item:
            named = sorted(item.items()) if sort_keys else list(item.items())
            inside = [(f"{separators[0]}{encode(name)}{separators[1]}", inner) for name, inner in named]
            inside[0] = ("{" + inside[0][0][len(separators[0]) :], inside[0][1])
            waiting.append(("}", ()))
            waiting.extend(reversed(inside))
        elif isinstance(item, list) and item:
            waiting.append(("]", ()))
            waiting.extend((separators[0], inner) for inner in reversed(item[1:]))
            waiting.append(("[", item[0]))
        elif item != ():
            yield encode(item)


def mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Copy a decoded JSON value with each text, number, flag and ``None`` in it changed.

    :param value: the value.
    :param change: returns what takes the place of one of these; names are not given to it.
    """
    top: list[Any] = [value]
    copied: list[Any] = [None]
    waiting: list[tuple[Any, Any]] = [(top, copied)]
    while waiting:
        original, copy = waiting.pop()
        for key, item in original.items() if isinstance(original, dict) else enumerate(original):
            if isinstance(item, dict):
                copy[key] = {}
                waiting.append((item, copy[key]))
            elif isinstance(item, list):
                copy[key] = [None] * len(item)
                waiting.append((item, copy[key]))
            else:
                copy[key] = change(item)
    return copied[0]
