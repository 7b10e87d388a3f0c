"""Text that every store can keep, the padding of fixed-width fields, and numbers of things in words.

SQLite keeps any text of any length; PostgreSQL takes no U+0000, and no more characters than a column has.
Neither takes half of a surrogate pair, which is no character: JSON can escape one, and a file name that is
not UTF-8 holds one for each bad byte. What one of them would refuse is turned down wherever it comes in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

NUL: Final = "\0"

_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")

_HISSING: Final = ("ch", "s", "sh", "x")
"""How words end that have their plural in ``es``."""

_PADDING: Final = f"{NUL} "
"""What programs in C fill a field of fixed width with."""

Place = tuple[int | str, ...]
"""Keys and indexes that lead to a value."""

MONTHS: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
"""The names of the months."""


def problem_of(text: str) -> str | None:
    """Return what a text holds that not every store can keep; ``None`` if nothing.

    :param text: the text, which is not repeated.
    """
    if NUL in text:
        return "U+0000"
    if not text.isascii() and _HALF_PAIR.search(text):
        return "half of a surrogate pair"
    return None


def first_problem(value: object) -> tuple[Place, str] | None:
    """Return where in a value the first text is that not every store can keep, and what it holds.

    :param value: as JSON holds it, of any depth. Of a key, the place is that of the object that has it.
    """
    waiting: list[tuple[Place, object]] = [((), value)]
    while waiting:
        place, found = waiting.pop()
        if isinstance(found, str):
            if problem := problem_of(found):
                return place, problem
        elif isinstance(found, Mapping):
            for key in found:
                if isinstance(key, str) and (problem := problem_of(key)):
                    return place, problem
            waiting.extend(((*place, key), member) for key, member in reversed(list(found.items())))
        elif isinstance(found, list | tuple):
            waiting.extend(((*place, at), member) for at, member in reversed(list(enumerate(found))))
    return None


def without_padding(text: str) -> str:
    """Return a text without what fills its field of fixed width: U+0000 at its end, and the blanks around it.

    A text that does not end in U+0000 is not padded, and stays as it is.
    """
    return text.rstrip(_PADDING).lstrip(" ") if text.endswith(NUL) else text


def counted(number: int, what: str) -> str:
    """Return a number of things in words, for a message.

    :param number: how many there are.
    :param what: one of them.
    """
    if number == 1:
        return f"{number} {what}"
    return f"{number} {what}{'es' if what.endswith(_HISSING) else 's'}"
