"""The records of one JSON array that arrives in pieces, never holding more than a few records.

The standard library's decoder is given what has arrived so far, over and over. That costs one failed
attempt per piece, and keeps its exactness: integers of any size, lone surrogates, the last of duplicate keys.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from tidepool_ingest.deep_json import raw_decode

RECORD_LIMIT_CHARACTERS = 64 * 1024 * 1024
"""Limit for one record; the Platform's own have a few kilobytes."""

WHITESPACE = " \t\r\n"


class MalformedArrayError(Exception):
    """The text is not one complete JSON array of objects.

    :param reason: what is wrong, without any of the text.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def objects_of(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield each object of a JSON array as soon as it is complete.

    :param pieces: the array's UTF-8 text, divided anywhere.
    :raises MalformedArrayError: the text ends before the array does, or is not an array of objects.
    """
    text = _Text(pieces)
    if text.next_character() != "[":
        raise MalformedArrayError("it is not a JSON array")
    text.skip()
    if text.next_character() == "]":
        text.skip()
    else:
        yield from _listed(text)
    if text.next_character():
        raise MalformedArrayError("something follows the array")


Fields = TypeVar("Fields", bound=msgspec.Struct)

BLOCK_BYTES: Final = 128 * 1024
"""Bytes that are decoded at once where only some fields of each object are wanted; more for a huge one."""

MOST_BYTES: Final = 8 * BLOCK_BYTES
"""Bytes without a place to cut at, from which on the slower decoder goes on: it takes any object."""

_BETWEEN: Final = re.compile(rb"\}[ \t\r\n]*+,[ \t\r\n]*+(?=\{)")
_CUTS_TRIED: Final = 32
"""Places to cut at that are tried: within an object, two others in an array are divided by the same signs."""


def blocks_of(pieces: Iterable[bytes], kind: type[Fields]) -> Iterator[list[Fields]]:
    """Yield the objects of a JSON array in blocks, and of each some fields only, at a fraction of the cost.

    What :func:`objects_of` takes is taken, and what it refuses is refused for the same reason, but for a
    number of thousands of digits in another field. A block ends where two objects may be divided; that it is
    well-formed proves that they are.

    :param pieces: the array's UTF-8 text, divided anywhere.
    :param kind: has the fields, each with a default.
    :return: blocks; a value that is not of its field's type is there as it is.
    :raises MalformedArrayError: the text ends before the array does, or is not an array of objects.
    """
    pieces = iter(pieces)
    decode = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    text, before, needed = b"", b"", BLOCK_BYTES
    while True:
        text, is_whole = _gathered(text, pieces, needed)
        block, following = None, 0
        if is_whole:
            block = _decoded_block(decode, before + text)
        else:
            for end, begin in _cuts_in(text):
                part = b"".join((before, memoryview(text)[:end], b"]"))
                block, following = _decoded_block(decode, part), begin
                if block is not None:
                    break
        if block is not None:
            yield block
            if is_whole:
                return
            text, before, needed = text[following:], b"[", BLOCK_BYTES
        elif is_whole or len(text) > MOST_BYTES:
            break
        else:
            needed = 2 * len(text)
    names = kind.__struct_fields__
    for row in objects_of(chain((before + text,), pieces)):
        yield [kind(**{name: row[name] for name in names if name in row})]


def _gathered(text: bytes, pieces: Iterator[bytes], needed: int) -> tuple[bytes, bool]:
    """Return the text with as many pieces as are needed, and whether there are no more."""
    parts, size = [text], len(text)
    while size < needed:
        piece = next(pieces, None)
        if piece is None:
            return b"".join(parts), True
        parts.append(piece)
        size += len(piece)
    return b"".join(parts), False


def _cuts_in(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where two objects may be divided, from the end of the text: behind one, and before the next."""
    found, end = 0, len(text)
    while found < _CUTS_TRIED and (brace := text.rfind(b"}", 0, end)) >= 0:
        if between := _BETWEEN.match(text, brace):
            found += 1
            yield brace + 1, between.end()
        end = brace


def _decoded_block(decode: Callable[[bytes], list[Fields]], text: bytes) -> list[Fields] | None:
    """Return the objects of an array, or nothing if it is not one, or only the slower decoder takes it."""
    try:
        if not text.isascii():
            text.decode()  # texts that are not wanted are not looked into otherwise
        return decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _listed(text: _Text) -> Iterator[dict[str, Any]]:
    while True:
        if text.next_character() != "{":
            raise MalformedArrayError(
                "it contains something other than objects" if text.next_character() else TRUNCATED
            )
        yield text.take_object()
        character = text.next_character()
        if character not in (",", "]"):
            raise MalformedArrayError("an object is followed by something else" if character else TRUNCATED)
        text.skip()
        if character == "]":
            return


TRUNCATED = "it ends before the array does"


class _Text:
    """The text that has arrived and is not yet consumed."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._buffer = ""
        self._offset = 0
        self._ended = False
        self._goes_on = True
        """Whether what follows is UTF-8, as far as is known."""

    def next_character(self) -> str:
        """Return the next character that is not white space, without consuming it; empty at the end."""
        while True:
            while self._offset < len(self._buffer):
                if self._buffer[self._offset] not in WHITESPACE:
                    return self._buffer[self._offset]
                self._offset += 1
            if not self._read_piece():
                return ""

    def skip(self) -> None:
        """Consume the character that :meth:`next_character` has shown."""
        self._offset += 1

    def take_object(self) -> dict[str, Any]:
        """Consume and return the object that begins here, waiting for its end."""
        needed = 0
        while True:
            buffered = len(self._buffer) - self._offset
            if buffered >= needed or self._ended or not self._goes_on:
                taken = self._decode_object()
                if taken is not None:
                    return taken
                if self._ended:
                    raise MalformedArrayError(TRUNCATED)
                # Try again when twice as much is buffered: a huge object then costs no quadratic time.
                needed = 2 * buffered
            if buffered > RECORD_LIMIT_CHARACTERS:
                raise MalformedArrayError("one object is larger than expected, or never ends")
            self._read_piece()

    def _decode_object(self) -> dict[str, Any] | None:
        try:
            taken, self._offset = raw_decode(self._buffer, self._offset, DECODER)
        except ValueError:
            # Incomplete or not JSON: only the end of the text tells which. The error's own message quotes it.
            return None
        return taken  # type: ignore[no-any-return]  # it begins with a brace

    def _read_piece(self) -> bool:
        if not self._goes_on:
            raise MalformedArrayError("it is not UTF-8")
        piece = next(self._pieces, None)
        self._ended = piece is None
        try:
            decoded = self._decode(piece or b"", self._ended)
        except UnicodeDecodeError as error:
            # What comes before is read first: how the text is divided does not change what is wrong with it.
            decoded = error.object[: error.start].decode()
            self._goes_on = self._ended = False
        self._buffer = self._buffer[self._offset :] + decoded
        self._offset = 0
        return not self._ended


def _reject_constant(_constant: str) -> NoReturn:
    raise MalformedArrayError("it contains a number that JSON does not have")


DECODER = json.JSONDecoder(parse_constant=_reject_constant)
