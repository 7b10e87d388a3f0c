"""Work areas are encrypted if the deployment provides keys.

Each line of an encrypted file is one Fernet token. It encrypts a block of the lines that would stand there
otherwise, so that pieces of the file can be read on their own. An encrypted file can be recognized: a token
begins with the version 0x80 and a time whose first bytes are 0, which no JSON does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from tidepool_ingest.staging.errors import BatchError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEYS_VARIABLE = "TIDEPOOL_WORK_KEYS"
"""Environment variable with Fernet keys, the newest first, separated by commas: all of them decrypt what is
there, and the first one encrypts."""

TOKEN_START = b"gAAAAA"
"""How each token begins, in base64. Source: the Fernet specification, until the year 2106."""

MAX_TOKEN_BYTES = 64 * 1024 * 1024
"""Longest token read: one of a single record of 16 MiB, which has to fit beside others, has a third of it."""


def encrypt(lines: bytes) -> bytes:
    """Return lines as they are written: as one line with a token if there is a key, else unchanged.

    :param lines: whole lines, each with its end.
    :raises BatchError: ``work-keys`` if the variable holds something else.
    """
    keys = _keys()
    return lines if keys is None or not lines else keys.encrypt(lines) + b"\n"


def decrypt(written: bytes) -> bytes:
    """Return the lines that :func:`encrypt` was given.

    :param written: what it returned.
    :raises BatchError: ``work-area-sealed`` if they are encrypted and no key decrypts them.
    """
    if not written.startswith(TOKEN_START):
        return written
    keys = _keys()
    if keys is None:
        raise BatchError("work-area-sealed", detail=f"{KEYS_VARIABLE} is not set")
    from cryptography.fernet import InvalidToken  # most commands need none of it, and it takes long to load

    try:
        return keys.decrypt(written.rstrip(b"\n"))
    except InvalidToken:
        raise BatchError(
            "work-area-sealed", detail=f"no key of {KEYS_VARIABLE} decrypts it, or it is damaged"
        ) from None


def decrypted(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the text of a file that may be encrypted, holding no more of it than one token.

    :param blocks: the file in order.
    :raises BatchError: ``work-area-sealed`` if it is encrypted and no key decrypts it.
    """
    stream = iter(blocks)
    start = b""
    for block in stream:
        start += block
        if len(start) >= len(TOKEN_START):
            break
    if not start.startswith(TOKEN_START):
        if start:
            yield start
        yield from stream
        return
    for line in _lines(start, stream):
        yield decrypt(line) if line.startswith(TOKEN_START) else line + b"\n"


def tokens_of(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the tokens of a file, which may be damaged.

    :param blocks: the file in order.
    """
    yield from (line for line in _lines(b"", blocks) if line.startswith(TOKEN_START))


def configured_keys() -> list[str]:
    """Return the configured keys, for whoever keeps secrets out of logs."""
    return [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]


def is_key(text: str) -> bool:
    """Return whether a text is a Fernet key."""
    from cryptography.fernet import Fernet

    try:
        Fernet(text)
    except ValueError:
        return False
    return True


def _lines(start: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
    started, size = [start], len(start)
    if b"\n" in start:
        *whole, rest = start.split(b"\n")
        yield from filter(None, whole)
        started, size = [rest], len(rest)
    for block in blocks:
        first, *others = block.split(b"\n")
        started.append(first)
        size += len(first)
        if size > MAX_TOKEN_BYTES:
            raise BatchError("work-area-sealed", detail="it is damaged: a line is too long")
        if others:
            *whole, rest = [b"".join(started), *others]
            yield from filter(None, whole)
            started, size = [rest], len(rest)
    if last := b"".join(started):
        yield last


def _keys() -> MultiFernet | None:
    keys = configured_keys()
    return _read(tuple(keys)) if keys else None


@lru_cache(maxsize=4)
def _read(keys: tuple[str, ...]) -> MultiFernet:
    from cryptography.fernet import Fernet, MultiFernet

    if not all(map(is_key, keys)):
        # What the library says is no help, and no part of a key may be repeated.
        raise BatchError("work-keys")
    return MultiFernet([Fernet(key) for key in keys])
