"""Digests of records: the same for every spelling of the same content."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from tidepool_ingest.digests import digest_of

NOT_ENCODABLE: Final = (UnicodeEncodeError, OverflowError, msgspec.MsgspecError)
"""Raised for lone surrogates and whole numbers beyond 64 bits."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def content_digests(lines: Sequence[bytes], data: Sequence[Mapping[str, Any] | None]) -> list[int]:
    """Return the digests of records; see :func:`content_digest`.

    :param lines: their texts.
    :param data: the same, decoded; ``None`` where it does not matter.
    """
    try:
        return [digest_of(_encode(datum)) for datum in data]
    except (*NOT_ENCODABLE, RecursionError):
        return [content_digest(line, datum) for line, datum in zip(lines, data, strict=True)]


def content_digest(line: bytes, datum: Mapping[str, Any] | None) -> int:
    """Return a digest that is the same for every spelling of the same record.

    :param line: its text, used for a record that cannot be encoded again.
    :param datum: the same, decoded.
    """
    try:
        return digest_of(_encoded(datum))
    except NOT_ENCODABLE:
        return digest_of(line)


def _encoded(value: Any) -> bytes:
    try:
        return _encode(value)
    except RecursionError:
        return b"".join(_pieces(value))


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield the bytes that the encoder makes; how much stack there is must not matter."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield _head(0x80, len(value))
            for name, inner in sorted(value.items(), reverse=True):
                waiting += (inner, name)
        elif isinstance(value, list):
            yield _head(0x90, len(value))
            waiting += reversed(value)
        else:
            yield _encode(value)


def _head(kind: int, length: int) -> bytes:
    """Return how msgpack begins an object (0x80) or an array (0x90) of so many items."""
    if length < 16:
        return bytes((kind | length,))
    code = 0xDE if kind == 0x80 else 0xDC
    return struct.pack(">BH", code, length) if length < 1 << 16 else struct.pack(">BI", code + 1, length)
