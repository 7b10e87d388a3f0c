"""Digests of records: the same for every spelling of the same content."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from tidepool_ingest.digests import digest_of
from tidepool_ingest.model.verdict import object_in

NOT_ENCODABLE: Final = (UnicodeEncodeError, OverflowError, msgspec.MsgspecError)
"""Raised for lone surrogates and whole numbers beyond 64 bits."""

Content: TypeAlias = Mapping[str, Any] | msgspec.Struct
"""A record, decoded: an object, or a struct that holds all that is in it."""

_encode = msgspec.msgpack.Encoder(order="sorted").encode
"""Encodes both alike."""


def content_digests(lines: Sequence[bytes], contents: Sequence[Content | None]) -> list[int]:
    """Return the digests of records; see :func:`content_digest`.

    :param lines: their texts.
    :param contents: the same, decoded; ``None`` where it does not matter.
    """
    try:
        return list(map(digest_of, map(_encode, contents)))
    except (*NOT_ENCODABLE, RecursionError):
        return [content_digest(line, content) for line, content in zip(lines, contents, strict=True)]


def content_digest(line: bytes, content: Content | None) -> int:
    """Return a digest that is the same for every spelling of the same record.

    :param line: its text, used for a record that cannot be encoded again.
    :param content: the same, decoded.
    """
    try:
        return digest_of(_encode(content))
    except RecursionError:
        return _deep_digest(line, object_in(line) if isinstance(content, msgspec.Struct) else content)
    except NOT_ENCODABLE:
        return digest_of(line)


def _deep_digest(line: bytes, content: Any) -> int:
    try:
        return digest_of(b"".join(_pieces(content)))
    except NOT_ENCODABLE:
        return digest_of(line)


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
