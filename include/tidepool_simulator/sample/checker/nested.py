"""JSON however deeply it nests: each container is decoded alone, as soon as it ends."""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Hashable, Iterator
from typing import Any, NoReturn

LEVELS_OF_A_RECORD = 9_999
"""The Platform reads 10,000; the array around the records of a request is one of them."""

_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def loads(text: str, levels: float = math.inf) -> Any:
    """Decode one JSON text.

    :param levels: how many there may be.
    :raises ValueError: it is none, or nests more deeply.
    """
    if text.count("[") + text.count("{") <= levels:
        try:
            return _DECODER.decode(text)
        except RecursionError:
            pass
    return _put_together(text, levels)


def _put_together(text: str, levels: float) -> Any:
    mark = secrets.token_hex(16)  # with a number behind it, it stands for a container that has ended
    ended: list[Any] = []
    opened: list[list[str]] = [[]]
    position = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in ("[", "{"):
            opened[-1].append(text[position : token.start()])
            opened.append([])
            position = token.start()
        elif token[0] in ("]", "}"):
            pieces = opened.pop()
            if not opened or len(opened) > levels:
                raise ValueError("the text nests too deeply, or more is closed than was opened")
            pieces.append(text[position : token.end()])
            position = token.end()
            opened[-1].append(f'"{mark}{len(ended)}"')
            ended.append(_with_inner(_DECODER.decode("".join(pieces)), mark, ended))
    if len(opened) > 1:
        raise ValueError("a bracket is not closed")
    whole = _DECODER.decode("".join(opened[0]) + text[position:])
    return _with_inner([whole], mark, ended)[0]


def _with_inner(container: Any, mark: str, ended: list[Any]) -> Any:
    """Put the inner containers in the places of their marks."""
    for key, item in container.items() if isinstance(container, dict) else enumerate(container):
        if isinstance(item, str) and item.startswith(mark):
            container[key] = ended[int(item.removeprefix(mark))]
    return container


def tokens_of(value: Any) -> Iterator[Hashable]:
    """Yield brackets, names in order, and values: the same for two values exactly when they are equal.

    A bracket or name is a tuple, so that no text looks like one.
    """
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield ("{",)
            waiting.append(("}",))
            for name in sorted(item, reverse=True):
                waiting += (item[name], ("name", name))
        elif isinstance(item, list):
            yield ("[",)
            waiting.append(("]",))
            waiting += reversed(item)
        else:
            yield item


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"JSON knows no {name}")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
