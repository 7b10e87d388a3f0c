"""Selectors: which data of a set a request to delete data means (data/data.go of the Platform)."""

from __future__ import annotations

import re
from typing import Any

from tidepool_ingest.model.gotime import parse_instant
from tidepool_simulator.records import Selection

HASH_LENGTH_MAXIMUM = 1000
ORIGIN_ID_LENGTH_MAXIMUM = 100
"""Characters (data/deduplicator.go, origin/origin.go)."""
_ID = re.compile(r"[0-9a-z]{32}")
_COLUMNS = {"id": "id", "deduplicator": "hash", "origin": "origin_id"}


class InvalidSelectorsError(ValueError):
    """The selectors cannot be used; the Platform answers with a failure of its own (500)."""


def selection_of(body: Any) -> Selection:
    """Read a body of selectors.

    :raises InvalidSelectorsError: when it is no list, is empty, holds a bad selector or selectors of several
        kinds.
    """
    if not isinstance(body, list) or not body:
        raise InvalidSelectorsError("selectors must be a list that is not empty")
    selected = [_selected(selector) for selector in body]
    kinds = {kind for kind, _ in selected}
    if len(kinds) != 1:
        raise InvalidSelectorsError("selectors must all be of one kind")
    return Selection(_COLUMNS[kinds.pop()], tuple(value for _, value in selected))


def _selected(selector: Any) -> tuple[str, str]:
    """Return the kind and the value of one selector."""
    if not isinstance(selector, dict):
        raise InvalidSelectorsError("a selector must be an object")
    given = [name for name in _COLUMNS if selector.get(name) is not None]
    if len(given) != 1:
        raise InvalidSelectorsError("a selector must name exactly one of id, deduplicator and origin")
    kind = given[0]
    if selector.get("time") is not None and (kind != "id" or not _is_time(selector["time"])):
        raise InvalidSelectorsError("a time may stand only beside an id")
    if kind == "id":
        return kind, _text(selector["id"], _ID)
    inner = selector[kind]
    if not isinstance(inner, dict):
        raise InvalidSelectorsError(f"{kind} must be an object")
    if kind == "deduplicator":
        return kind, _text(inner.get("hash"), length=HASH_LENGTH_MAXIMUM)
    if inner.get("time") is not None and not _is_time(inner["time"]):
        raise InvalidSelectorsError("the time of an origin must be one")
    return kind, _text(inner.get("id"), length=ORIGIN_ID_LENGTH_MAXIMUM)


def _text(value: Any, expression: re.Pattern[str] | None = None, *, length: int | None = None) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidSelectorsError("a selector's value must be a text")
    if (expression and not expression.fullmatch(value)) or (length is not None and len(value) > length):
        raise InvalidSelectorsError("a selector's value is malformed")
    return value


def _is_time(value: Any) -> bool:
    instant = parse_instant(value) if isinstance(value, str) else None
    return instant is not None and not instant.is_zero
