"""What the Platform's validators let pass and its storage cannot take, or takes and never shows.

To a name with U+0000 it answers 500, for the whole request, each time. A document of its database has its
field names end with that character, so that none can hold it; in a value it is a character like any other.
Only objects whose names people choose can have one: free objects at any depth, and schedules by name. An
unknown field is never stored, whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tidepool_ingest.model.fields import SplitOff
from tidepool_ingest.model.gotime import Instant
from tidepool_ingest.model.parsing import Parsed, escape
from tidepool_ingest.model.problems import STAGED_NUL_IN_NAME, STAGED_TIME_NOT_SHOWN, Problem
from tidepool_ingest.model.specification import fields_of

NUL: Final = "\0"

NUL_ESCAPE: Final = b"\\u0000"
"""How JSON spells it; there is no other way."""


def may_hold_nul(text: bytes) -> bool:
    """Return whether a JSON text may hold the character U+0000.

    :param text: a JSON text.
    """
    return b"\\" in text and NUL_ESCAPE in text


def unstorable(value: Any, pointer: str = "") -> Iterator[Problem]:
    """Yield the names in a parsed object that cannot be stored.

    :param value: the object as it was parsed, or anything in it.
    :param pointer: the pointer to it.
    """
    waiting = [(value, pointer, "")]
    while waiting:
        value, pointer, name = waiting.pop()
        if NUL in name:
            yield Problem(STAGED_NUL_IN_NAME, pointer)
        elif isinstance(value, list):
            waiting += [(item, f"{pointer}/{index}", "") for index, item in enumerate(value)][::-1]
        elif isinstance(value, (dict, Parsed)):
            named = (value.values if isinstance(value, Parsed) else value).items()
            waiting += [(item, f"{pointer}/{escape(inner)}", inner) for inner, item in named][::-1]


def never_shown(parsed: Parsed, pointer: str = "") -> Iterator[Problem]:
    """Yield where an accepted datum, or one embedded in it, has a time that the Platform never shows.

    :param parsed: the datum as it was parsed.
    :param pointer: the pointer to it.
    """
    time = parsed.values.get("time")
    if isinstance(time, Instant) and not time.is_shown:
        yield Problem(STAGED_TIME_NOT_SHOWN, f"{pointer}/time")
    for spec in fields_of(parsed.model):
        if spec.limit(SplitOff) and spec.name in parsed.values:
            yield from never_shown(parsed.values[spec.name], f"{pointer}/{spec.name}")
