"""Request bodies as Go's ``encoding/json`` reads them.

Where Go and Python differ: bytes that are no UTF-8 and lone surrogates become U+FFFD, one for each; ``NaN``,
``Infinity``, numbers beyond a double and more than 10,000 levels are malformed; all numbers are doubles.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import Any, NoReturn

from tidepool_simulator.deep_json import scan

_REPLACEMENT = "\ufffd"
_JSON_SPACE = " \t\n\r"
_SURROGATE = re.compile("[\ud800-\udfff]")
_RISKY_NUMBER = re.compile(r"[0-9]{16}|[0-9][eE][+-]?[0-9]{3}")
"""Numbers that may lie beyond a double's range or its whole digits. Digits in a text match too: no harm."""


class MalformedError(ValueError):
    """The body is not the JSON that is required."""


def _replace_one_byte(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return _REPLACEMENT, error.start + 1
    raise error


codecs.register_error("tidepool-simulator-replace", _replace_one_byte)


def decode(body: bytes) -> Any:
    """Return the one JSON value a body holds.

    :raises MalformedError: when it holds none, or anything beside it.
    """
    text = _text_of(body)
    value, end = _scan(text)
    if text[end:].strip(_JSON_SPACE):
        raise MalformedError("there is something after the JSON value")
    return value


def decode_first(body: bytes) -> Any:
    """Return the first JSON value of a body; whatever follows is ignored (Go's ``json.Decoder``).

    :raises MalformedError: when there is none.
    """
    return _scan(_text_of(body))[0]


def _text_of(body: bytes) -> str:
    return body.decode("utf-8", "tidepool-simulator-replace")


def _scan(text: str) -> tuple[Any, int]:
    start = len(text) - len(text.lstrip(_JSON_SPACE))
    decoder = _CAREFUL_DECODER if _RISKY_NUMBER.search(text) else _DECODER
    try:
        value, end = scan(text, start, decoder)
    except ValueError as error:
        raise MalformedError("no JSON") from error
    if "\\ud" in text or "\\uD" in text:
        value = _without_surrogates(value)
    return value, end


def _without_surrogates(value: Any) -> Any:
    whole = [value]
    below: list[Any] = [whole]
    while below:
        container = below.pop()
        if isinstance(container, dict):
            named = [(_SURROGATE.sub(_REPLACEMENT, name), item) for name, item in container.items()]
            container.clear()
            container.update(named)
        for key, item in list(container.items() if isinstance(container, dict) else enumerate(container)):
            if isinstance(item, str):
                container[key] = _SURROGATE.sub(_REPLACEMENT, item)
            elif isinstance(item, (dict, list)):
                below.append(item)
    return whole[0]


def _refuse_constant(text: str) -> NoReturn:
    raise MalformedError(f"{text} is no JSON number")


def _double(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise MalformedError("a number is beyond a double")
    return number


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= 15 else _double(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_CAREFUL_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_double, parse_int=_integer)
