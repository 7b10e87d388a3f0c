"""JSON of which every reader makes the same: for the files that people write by hand."""

from __future__ import annotations

import json
import math
from typing import Any


class StrictJsonError(ValueError):
    """A text is no strict JSON.

    :param detail: what is wrong, without any of the text.
    """

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


def strict_json(content: bytes) -> Any:
    """Parse JSON strictly: UTF-8, each key once, no number that JSON or a double cannot hold.

    :param content: the text; a byte order mark before it is passed over.
    :raises StrictJsonError: it is not such a text.
    """
    try:
        text = content.removeprefix(b"\xef\xbb\xbf").decode()
        return json.loads(text, object_pairs_hook=_no_repeats, parse_float=_finite, parse_constant=_finite)
    except StrictJsonError:
        raise
    except UnicodeDecodeError:
        problem = "it is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"it is not JSON (line {error.lineno}, column {error.colno})"
    except ValueError:  # an integer of more digits than Python reads
        problem = "it holds a number out of range"
    except RecursionError:
        problem = "it is nested too deeply"
    raise StrictJsonError(problem)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise StrictJsonError("an object in it names a key twice")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise StrictJsonError("it holds a number out of range")
    return number
