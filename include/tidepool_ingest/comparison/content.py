"""What two rows are compared by: what was measured, and nothing that Tidepool adds or spells its own way."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.prepare.export.links import LINK_FIELDS
from tidepool_ingest.prepare.export.owned import is_owned
from tidepool_ingest.prepare.export.units import kind_of

DIGEST_BYTES: Final = 8
"""Among a million rows, two that differ have the same digest by a chance of one in 30 million."""

_MILLISECOND: Final = 1_000_000
_LOOKS_LIKE_A_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")


def digest_of(text: str) -> int:
    """Return what stands for a text, as a number that a database takes."""
    return int.from_bytes(blake2b(text.encode(), digest_size=DIGEST_BYTES).digest(), "big", signed=True)


def content_of(row: Mapping[str, Any]) -> int:
    """Return what stands for the content of a row: equal for what was sent and for what came of it.

    :param row: a row as Tidepool stores it or as it shows it.
    """
    link = LINK_FIELDS.get(kind_of(row))
    kept = {
        name: _plain(value)
        for name, value in row.items()
        if not is_owned(name, value) and not (name == link and isinstance(value, str))
    }
    return digest_of(json.dumps(kept, sort_keys=True))


def _plain(value: Any) -> Any:
    """Give values one spelling: the Platform keeps instants in milliseconds and in UTC, and 6.0 as 6."""
    if isinstance(value, str):
        instant = parse_instant(value) if _LOOKS_LIKE_A_TIME.match(value) else None
        if instant is None:
            return value
        seconds, nanoseconds = instant.moment
        return [seconds, nanoseconds // _MILLISECOND]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
