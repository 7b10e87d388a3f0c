"""The records of one JSON array that comes in pieces, without ever holding more than a few of them.

The standard library's decoder is given what has arrived so far, again and again. That costs one failed
attempt per piece, and keeps its exactness: integers of any size, lone surrogates, the last of repeated keys.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

RECORD_LIMIT_CHARACTERS = 64 * 1024 * 1024
"""A record larger than this is not waited for; the Platform's own have a few kilobytes."""

WHITESPACE = " \t\r\n"


class MalformedArrayError(Exception):
    """The text is not one complete JSON array of objects.

    :param reason: what is wrong, without a word of the text.
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


def _listed(text: _Text) -> Iterator[dict[str, Any]]:
    while True:
        if text.next_character() != "{":
            raise MalformedArrayError(
                "it holds something else than objects" if text.next_character() else CUT
            )
        yield text.take_object()
        character = text.next_character()
        if character not in (",", "]"):
            raise MalformedArrayError("an object is not followed by another" if character else CUT)
        text.skip()
        if character == "]":
            return


CUT = "it ends before the array does"


class _Text:
    """The text that has arrived and is not consumed yet."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._held = ""
        self._at = 0
        self._ended = False

    def next_character(self) -> str:
        """Return the next character that is not white space, without consuming it; empty at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in WHITESPACE:
                    return self._held[self._at]
                self._at += 1
            if not self._more():
                return ""

    def skip(self) -> None:
        """Consume the character that :meth:`next_character` has shown."""
        self._at += 1

    def take_object(self) -> dict[str, Any]:
        """Consume and return the object that begins here, waiting for its end."""
        wanted = 0
        while True:
            held = len(self._held) - self._at
            if held >= wanted or self._ended:
                taken = self._attempt()
                if taken is not None:
                    return taken
                if self._ended:
                    raise MalformedArrayError(CUT)
                # Try again when twice as much is held: waiting for a huge object costs no quadratic time.
                wanted = 2 * held
            if held > RECORD_LIMIT_CHARACTERS:
                raise MalformedArrayError("one object is larger than any that was expected, or never ends")
            self._more()

    def _attempt(self) -> dict[str, Any] | None:
        try:
            taken, self._at = DECODER.raw_decode(self._held, self._at)
        except (ValueError, RecursionError):
            # Incomplete or not JSON: only the end of the text tells which. The error's own message quotes it.
            return None
        return taken  # type: ignore[no-any-return]  # it begins with a brace

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        self._ended = piece is None
        try:
            decoded = self._decode(piece or b"", self._ended)
        except UnicodeDecodeError:
            decoded = None
        if decoded is None:
            raise MalformedArrayError("it is not UTF-8")
        self._held = self._held[self._at :] + decoded
        self._at = 0
        return not self._ended


def _refuse_constant(_constant: str) -> NoReturn:
    raise MalformedArrayError("it holds a number that JSON does not know")


DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
