"""From a staged line to a decoded record: exactly the JSON that the Platform's decoder accepts.

Go's decoder, strict about JSON, reads every number as float64 and refuses those that do not fit, keeps the
last of duplicate keys and puts U+FFFD in place of lone surrogate escapes. msgspec is as strict and three
times as fast as :mod:`json`, but refuses the lone surrogates; so what it refuses gets a second, slower look.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NoReturn

import msgspec

from tidepool_ingest.deep_json import loads, mapped
from tidepool_ingest.model.problems import STAGED_NOT_JSON, STAGED_NOT_UTF8, STAGED_TOO_MANY_VALUES

REQUEST_NESTING_MAX: Final = 10_000
"""Arrays and objects inside each other that Go reads (Go: encoding/json/scanner.go, maxNestingDepth)."""
NESTING_MAX: Final = REQUEST_NESTING_MAX - 1
"""Those of a record: around it is the array of the request."""

VALUES_MAX: Final = 100_000
"""Values of a line, counted by commas and opening brackets: decoded, a tiny one takes some 100 bytes, its
problem 300 more. The largest settings have some thousands."""

FLOAT_DIGITS_MAX: Final = 308
"""Digits that an integer can have and certainly be within float64."""

_LONG_INTEGER: Final = re.compile(rb"[0-9]{%d}" % (FLOAT_DIGITS_MAX + 1))
_SIGN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[,\[{]', re.DOTALL)
"""What begins a value; or a string, with all that is in it."""
_QUOTE: Final = ord('"')
_DIGIT: Final = re.compile(rb"[0-9]")
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

fast_decode: Final[Callable[[bytes], Any]] = msgspec.json.Decoder().decode
"""Decode a text that holds no huge integer; raises what ``FAST_ERRORS`` names."""
FAST_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def may_hold_huge_integer(text: bytes) -> bool:
    """Return whether a text may hold an integer beyond float64, which msgspec reads and Go does not.

    :param text: a JSON text.
    """
    # A run this long has a digit at one of the offsets that are this far apart; most texts have none there.
    return _DIGIT.search(text[FLOAT_DIGITS_MAX :: FLOAT_DIGITS_MAX + 1]) is not None and (
        _LONG_INTEGER.search(text) is not None
    )


class NotDecodableError(ValueError):
    """A staged text is no JSON that the Platform could read.

    :param code: ``STAGED_NOT_JSON``, ``STAGED_NOT_UTF8`` or ``STAGED_TOO_MANY_VALUES``.
    """

    def __init__(self, code: str) -> None:
        super().__init__(f"The text cannot be decoded ({code}). Correct it at its source and stage it again.")
        self.code = code

    def __reduce__(self) -> tuple[type[NotDecodableError], tuple[str]]:
        return type(self), (self.code,)


def decode(text: bytes) -> Any:
    """Decode one JSON text as the Platform does.

    :param text: UTF-8 JSON, one value, white space around it allowed.
    :return: the value; strings hold no lone surrogates, and every number is within float64.
    :raises NotDecodableError: when it is no such text.
    """
    if _holds_too_many_values(text):
        raise NotDecodableError(STAGED_TOO_MANY_VALUES)
    if may_hold_huge_integer(text):
        value = _decode_slowly(text)
    else:
        try:
            value = fast_decode(text)
        except FAST_ERRORS:
            value = _decode_slowly(text)
    if text.count(b"[") + text.count(b"{") > NESTING_MAX and _nests_too_deeply(value):
        raise NotDecodableError(STAGED_NOT_JSON)
    return value


def _holds_too_many_values(text: bytes) -> bool:
    if len(text) <= VALUES_MAX or sum(map(text.count, (b",", b"[", b"{"))) <= VALUES_MAX:
        return False
    outside_strings = (1 for sign in _SIGN.finditer(text) if text[sign.start()] != _QUOTE)
    return next(islice(outside_strings, VALUES_MAX, None), None) is not None


def _decode_slowly(text: bytes) -> Any:
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        raise NotDecodableError(STAGED_NOT_UTF8) from None
    try:
        value = loads(decoded, _DECODER)
        return _without_surrogates(value) if _SURROGATE_ESCAPE.search(text) else value
    except ValueError:
        # The exceptions of json quote the text, which must not get into a log: none of them is chained.
        raise NotDecodableError(STAGED_NOT_JSON) from None


def _refuse(_constant: str) -> NoReturn:
    raise NotDecodableError(STAGED_NOT_JSON)


def _float(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise NotDecodableError(STAGED_NOT_JSON)
    return value


def _integer(digits: str) -> int | float:
    # As a float when long: int() is quadratic, float() is not.
    return int(digits) if len(digits) <= FLOAT_DIGITS_MAX else _float(digits)


def _without_surrogates(value: Any) -> Any:
    copied = mapped(value, lambda item: _well_formed(item) if isinstance(item, str) else item)
    waiting = [copied]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict):
            items = list(container.items())
            container.clear()
            container.update((_well_formed(name), item) for name, item in items)
            waiting += container.values()
        elif isinstance(container, list):
            waiting += container
    return copied


def _well_formed(text: str) -> str:
    return _SURROGATES.sub("\ufffd", text)


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_float, parse_int=_integer)


def _nests_too_deeply(value: Any) -> bool:
    """Walk level by level, without recursion."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(NESTING_MAX):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return False
    return True
