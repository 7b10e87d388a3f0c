"""What stands for a record's content, whatever its spelling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tidepool_ingest.prepare.seen import digest

NOT_ENCODABLE: Final = (UnicodeEncodeError, OverflowError, RecursionError, msgspec.MsgspecError)
"""Raised for lone surrogates and whole numbers beyond 64 bits."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def content_digests(lines: Sequence[bytes], data: Sequence[Mapping[str, Any] | None]) -> list[int]:
    """Return the digests of some records; see :func:`content_digest`.

    :param lines: their texts.
    :param data: the same, decoded; ``None`` where it does not matter.
    """
    try:
        return [digest(_encode(datum)) for datum in data]
    except NOT_ENCODABLE:
        return [content_digest(line, datum) for line, datum in zip(lines, data, strict=True)]


def content_digest(line: bytes, datum: Mapping[str, Any] | None) -> int:
    """Return a digest that is the same for every spelling of the same record.

    :param line: its text, by which a record is compared that cannot be spelled anew.
    :param datum: the same, decoded.
    """
    try:
        return digest(_encode(datum))
    except NOT_ENCODABLE:
        return digest(line)
