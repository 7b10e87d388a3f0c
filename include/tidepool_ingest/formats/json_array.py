"""The format ``json``: one array of records, cut into its elements without being decoded.

The array may be the member ``data`` of an object, as many services answer; and one object is one record.

An element's text is passed on unchanged; only line breaks between its tokens become spaces, so that
it fits on one line. Whether it is JSON is for the model of the records to decide. Elements begin and end
where brackets and quotes say so: if every element before was valid JSON, that is certain. Where it
cannot be, the file is rejected rather than one record mistaken for another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NoReturn

from tidepool_ingest.formats.lines import is_open
from tidepool_ingest.formats.reader import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    EMPTY_ELEMENT,
    EXPORT_ERROR,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    Block,
    Reader,
    RejectedRow,
)
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.splice import SPACE, STRING, STRING_REST, VALUE

_SPACES = b" \t\r\n"
_MEMBER = STRING + SPACE + rb":" + SPACE + rb"(?:" + VALUE + rb")" + SPACE + rb"," + SPACE
_DATA = "data"

MAX_WRAPPING_BYTES = 1024 * 1024
"""Most bytes of the object around an array, before it and behind it."""

_WHOLE_ELEMENT = re.compile(SPACE + rb"(" + VALUE + rb")" + SPACE + rb"([,\]])", re.DOTALL)
_AT_TOP = re.compile(rb'"' + STRING_REST + rb'("?+)|[\[{\]},]', re.DOTALL)
_INSIDE = re.compile(rb'"' + STRING_REST + rb'("?+)|[\[{\]}]', re.DOTALL)
_IN_STRING = re.compile(STRING_REST + rb'("?+)', re.DOTALL)
_NO_BREAK_IN_STRINGS = re.compile(rb'(?:[^"]++|"[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+")*+', re.DOTALL)
_BREAKS_TO_SPACES = bytes.maketrans(b"\r\n", b"  ")


class JsonArrayReader(Reader):
    """Reads one record from each element of one array, or one object over several lines."""

    name = "json"
    title = "Tidepool records in one JSON array"

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        """Return whether the text is an array, has one in an object, or is one object over several lines."""
        if start.startswith(b"["):
            return True
        return start.startswith(b"{") and (is_open(start) or wrapped(start) is not None)

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the elements of a file."""
        return split(file.text(), file.number)


@cache
def _around_array(member: str) -> re.Pattern[bytes]:
    named = rb"\"" + member.encode() + rb"\"" + SPACE + rb":" + SPACE
    return re.compile(rb"\{" + SPACE + rb"((?:" + _MEMBER + rb")*?)" + named + rb"\[", re.DOTALL)


def wrapped(start: bytes, member: str = _DATA) -> int | None:
    """Return where the elements begin of the array in a member of an object, ``None`` without one.

    :param start: the text, from its first brace on.
    :param member: the member's name, of letters.
    """
    match = _around_array(member).match(start[:MAX_WRAPPING_BYTES])
    # A record may have a field of that name.
    return match.end() if match and b'"type"' not in match[1] else None


def split(pieces: Iterable[bytes], file_number: int | None = None, *, member: str = _DATA) -> Iterator[Block]:
    """Cut the text of one JSON array into its elements.

    :param pieces: the text in order.
    :param file_number: number of the file in its manifest, for errors.
    :param member: in which member of an object the array may be.
    :raises BatchError: ``file-not-array``, ``file-broken``, ``file-truncated`` or ``export-cut-off``.
    """
    array = _Array(file_number, member)
    for piece in pieces:
        yield from array.take(piece)
    yield from array.end()


class _Array:
    """The array as far as it has been read.

    Most elements are found whole by one pattern. What it does not match — an element that continues in the
    next piece, is nested deeper than the pattern, or broken — is walked through token by token, and the
    walk resumes where it stopped when the next piece comes.
    """

    def __init__(self, file_number: int | None, member: str) -> None:
        self._file_number = file_number
        self._member = member
        self._text = b""
        self._start = 0  # where the current element begins in the text
        self._started = False
        self._is_object = False  # one record, without brackets around it
        self._is_over = False  # there is no more text
        self._wrapping: bytes | None = None  # what is around an array within an object, without the array
        self._ended = False
        self._walked = 0  # how far beyond its beginning the walk has come
        self._depth = 0
        self._in_string = False
        self._too_large = False
        self._position = 0  # of the first line waiting
        self._block = Block(0, [])
        self._block_bytes = 0

    def take(self, piece: bytes) -> Iterator[Block]:
        """Take the next piece and yield the blocks that are full."""
        self._text = self._text[self._start :] + piece
        self._start = 0
        if not self._started and not self._begin():
            return
        while not self._ended:
            is_usual = not (self._walked or self._too_large or self._is_object)
            match = _WHOLE_ELEMENT.match(self._text, self._start) if is_usual else None
            if match:
                self._start = match.end()
                element, delimiter = match.groups()
            else:
                end = self._walk()
                if end is None:
                    return
                element = self._text[self._start : end].strip(_SPACES)
                delimiter = self._text[end : end + 1]
                self._start, self._walked = end + 1, 0
            full = self._add(element, delimiter)
            if full is not None:
                yield full
        rest = self._text[self._start :]
        if self._wrapping is None and rest.strip(_SPACES):
            self._broken("something follows the array")
        if self._wrapping is not None:
            self._wrapping += rest
            if len(self._wrapping) > 2 * MAX_WRAPPING_BYTES:
                self._broken("too much follows the array")
        self._start = len(self._text)

    def end(self) -> Iterator[Block]:
        """Yield what remains when the text has ended."""
        if self._is_object and not self._ended and self._is_closed():
            self._is_over = True
            yield from self.take(b"]")
        if self._wrapping is not None and self._ended:
            self._check_wrapping(self._wrapping)
        if self._started and not self._ended:
            detail = "the array does not end; a quote or bracket may be missing in this record"
            position = self._next_position()
            raise BatchError(
                "file-truncated", file_number=self._file_number, position=position, detail=detail
            )
        if len(self._block):
            yield self._block

    def _begin(self) -> bool:
        """Skip what precedes the first element; white space, or an object around the array."""
        rest = self._text.lstrip(_SPACES)
        skipped: int | None = len(rest[:1])
        if rest.startswith(b"{"):
            skipped = wrapped(rest, self._member)
            self._is_object = skipped is None
            # As if the array had no elements.
            self._wrapping = None if skipped is None else rest[:skipped] + b"]"
        elif rest and not rest.startswith(b"["):
            detail = "it begins with neither a bracket nor a brace"
            raise BatchError("file-not-array", file_number=self._file_number, detail=detail)
        self._started = bool(rest)
        self._start = len(self._text) - len(rest) + (skipped or 0)
        return self._started

    def _is_closed(self) -> bool:
        """Return whether the one object has ended where the text has."""
        return self._depth == 0 and not self._in_string and (self._walked > 0 or self._too_large)

    def _check_wrapping(self, around: bytes) -> None:
        """Check the object around the array: members that say something about it, and no record."""
        try:
            members = json.loads(around, object_pairs_hook=list, parse_int=str)
        except (ValueError, RecursionError):
            self._broken("the object around the array is not whole")
        names = [name for name, _value in members]
        if EXPORT_ERROR in names:
            detail = "beside the array"
            raise BatchError("export-cut-off", file_number=self._file_number, detail=detail)
        if b'"type"' in around or names.count(self._member) > 1:
            self._broken("the object around the array holds other records, or is one")

    def _walk(self) -> int | None:
        """Return where the current element ends, or ``None`` if it continues in the next piece."""
        offset = self._start + self._walked
        while True:
            pattern = _AT_TOP if self._depth == 0 else _INSIDE
            token = (
                _IN_STRING.match(self._text, offset)
                if self._in_string
                else pattern.search(self._text, offset)
            )
            if token is None:
                self._pause(len(self._text))
                return None
            offset = token.end()
            kind = b'"' if self._in_string else token.group()[:1]
            if kind == b'"':
                self._in_string = not token.group(1)
                if self._in_string:
                    self._pause(offset)
                    return None
            elif self._depth == 0 and kind in (b",", b"]") and not (self._is_object and not self._is_over):
                return token.start()
            elif self._depth == 0 and kind == b"}":
                self._broken("a bracket closes that was not opened")
            elif self._depth == 0 and self._is_object and token.start() > self._start:
                # Its lines are the records.
                detail = "behind its first object there is more"
                raise BatchError("file-not-array", file_number=self._file_number, detail=detail)
            else:
                self._depth += 1 if kind in (b"[", b"{") else -1

    def _pause(self, offset: int) -> None:
        """Remember how far the walk has come; of an element that is too long no text is kept."""
        self._walked = offset - self._start
        if self._walked > MAX_RECORD_BYTES or self._too_large:
            self._too_large = True
            self._start, self._walked = offset, 0

    def _add(self, element: bytes, delimiter: bytes) -> Block | None:
        """Put an element into a block; return the previous block if this one starts another."""
        self._ended = delimiter == b"]"
        if self._too_large or len(element) > MAX_RECORD_BYTES:
            self._too_large = False
            self._reject(TOO_LARGE)
            return None
        if not element:
            if not self._ended or self._next_position():
                self._reject(EMPTY_ELEMENT)
            return None
        if b"\n" in element or b"\r" in element:
            element = self._on_one_line(element)
        block, full = self._block, None
        if len(block.lines) >= BLOCK_RECORDS or self._block_bytes >= BLOCK_BYTES or block.rejected:
            block, full = Block(self._next_position(), []), block
            self._block, self._block_bytes = block, 0
        block.lines.append(element)
        self._block_bytes += len(element)
        return full

    def _reject(self, code: str) -> None:
        self._block.rejected.append(RejectedRow(self._next_position(), code))

    def _next_position(self) -> int:
        return self._block.first_position + len(self._block)

    def _on_one_line(self, element: bytes) -> bytes:
        """Turn line breaks between tokens into spaces; inside a string JSON allows none."""
        if not _NO_BREAK_IN_STRINGS.fullmatch(element):
            self._broken("a string runs over the end of a line, so that a quote may be missing")
        return element.translate(_BREAKS_TO_SPACES)

    def _broken(self, detail: str) -> NoReturn:
        position = self._next_position()
        raise BatchError("file-broken", file_number=self._file_number, position=position, detail=detail)
