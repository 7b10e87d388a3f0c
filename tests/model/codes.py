"""Short names of the codes, for tables of cases."""

from __future__ import annotations

from typing import Any, TypeAlias

from tidepool_ingest.model.problems import (
    DUPLICATE,
    EMPTY,
    EXISTS,
    LENGTH,
    NONE_OF_ANY,
    NONE_OF_ONE,
    NOT_AFTER,
    NOT_ALLOWED,
    NOT_EXISTS,
    NOT_VALID,
)
from tidepool_ingest.model.problems import OUT_OF_RANGE as RANGE

Case: TypeAlias = tuple[str, dict[str, Any], set[tuple[str, str]]]
"""Example, changes to it, and what is wrong then."""

__all__ = [
    "DUPLICATE",
    "EMPTY",
    "EXISTS",
    "LENGTH",
    "NONE_OF_ANY",
    "NONE_OF_ONE",
    "NOT_AFTER",
    "NOT_ALLOWED",
    "NOT_EXISTS",
    "NOT_VALID",
    "RANGE",
    "Case",
]
