"""Query parameters, as the data service and the read-back each read them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from tidepool_simulator import rejections
from tidepool_simulator.rejections import Rejection

PAGE_MINIMUM = 0
PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_RANGE = range(1, 1001)
"""Data sets a page (page/pagination.go)."""

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def parse_bool(text: str) -> bool | None:
    """Parse a boolean as Go's ``strconv.ParseBool`` does; None if it is not one."""
    return True if text in _TRUE else False if text in _FALSE else None


def parse_int(text: str) -> int | None:
    """Parse an integer as Go's ``strconv.ParseInt`` does; None if it is not one."""
    return int(text) if _INTEGER.fullmatch(text) else None


class Parameters:
    """The parameters of one request to the data service: read them all, then ``wrong`` has the errors.

    A parameter that nobody read, or whose second value nobody read, is an error that hides those of bad
    values.
    """

    def __init__(self, query: dict[str, list[str]]) -> None:
        self._query = query
        self._read: set[str] = set()
        self._wrong_types: list[Rejection] = []
        self._wrong_values: list[Rejection] = []

    def text(self, name: str) -> str | None:
        """Read a text, which must not be empty."""
        value: str | None = self._value(name, lambda text: text, "")
        if value == "":
            self._wrong_values.append(rejections.of_parameter("value-empty", name))
        return value

    def truth(self, name: str) -> bool:
        """Read a boolean; false without one."""
        return bool(self._value(name, parse_bool, "type-not-bool"))

    def integer(self, name: str, default: int, *, minimum: int, maximum: int | None = None) -> int:
        """Read an integer within limits."""
        value: int | None = self._value(name, parse_int, "type-not-int")
        if value is None:
            return default
        if value < minimum or (maximum is not None and value > maximum):
            self._wrong_values.append(rejections.of_parameter("value-out-of-range", name, str(value)))
        return value

    def page(self) -> tuple[int, int]:
        """Read ``page`` and ``size``."""
        page = self.integer("page", PAGE_MINIMUM, minimum=PAGE_MINIMUM)
        size = self.integer(
            "size", PAGE_SIZE_DEFAULT, minimum=PAGE_SIZE_RANGE.start, maximum=PAGE_SIZE_RANGE.stop - 1
        )
        return page, size

    def wrong(self) -> Sequence[Rejection]:
        """Return the errors, after everything was read."""
        unread = [
            rejections.of_parameter("not-parsed", name)
            for name, values in self._query.items()
            if name not in self._read or len(values) > 1
        ]
        return self._wrong_types + unread or self._wrong_values

    def _value(self, name: str, read: Callable[[str], Any], code: str) -> Any:
        self._read.add(name)
        if name not in self._query:
            return None
        text = self._query[name][0]
        value = read(text)
        if value is None:
            self._wrong_types.append(rejections.of_parameter(code, name, text))
        return value
