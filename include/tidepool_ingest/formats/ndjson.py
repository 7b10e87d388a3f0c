"""The format ``ndjson``: one record per line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from tidepool_ingest.deep_json import loads
from tidepool_ingest.formats import json_array
from tidepool_ingest.formats.reader import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    Block,
    Reader,
    RejectedRow,
)
from tidepool_ingest.model.decode import VALUES_MAX
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

_DECODER: Final = json.JSONDecoder(parse_int=str)
"""Reads integers of any number of digits."""


class NdjsonReader(Reader):
    """Reads one record from each line."""

    name = "ndjson"

    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the lines of a file."""
        return split_as_it_begins(file.text(), file.number)


def split_as_it_begins(pieces: Iterable[bytes], file_number: int | None = None) -> Iterator[Block]:
    """Cut text into lines, or into what it holds if it is one array or one object over many lines.

    :param pieces: the text in order.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: as :func:`split` and :func:`.json_array.split` do.
    """
    stream = iter(pieces)
    start = b""
    for piece in stream:
        start += piece
        if not start.isspace():
            break
    text = chain((start,), stream)
    is_one = json_array.JsonArrayReader.recognizes(start.lstrip())
    return json_array.split(text, file_number) if is_one else split(text, file_number)


def split(pieces: Iterable[bytes], file_number: int | None = None) -> Iterator[Block]:
    """Cut text into lines.

    Blank lines are skipped and do not count; a line may end in CRLF, and the last one may lack its line
    end. Whether a line is JSON is for the model of the records to decide; but a last line neither JSON
    nor ended shows that the file was cut off.

    :param pieces: the text in order.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: ``file-truncated``, once all other lines were yielded.
    """
    lines = _Lines()
    for piece in pieces:
        yield from lines.take(piece)
    if not lines.is_last_whole():
        raise BatchError("file-truncated", file_number=file_number, detail="in its last line")
    yield from lines.end()


class _Lines:
    """Lines reassembled across the boundaries of pieces.

    The work for one line is done by ``bytes.split`` and one comprehension: no object per record.
    """

    def __init__(self) -> None:
        self._position = 0  # of the first line waiting
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._open: list[bytes] = []  # pieces of the line that has not ended yet
        self._open_bytes = 0

    def take(self, piece: bytes) -> Iterator[Block]:
        """Take the next piece and yield the blocks that are full."""
        lines = piece.split(b"\n")
        if len(lines) == 1:
            self._extend(piece)
            return
        self._extend(lines[0])
        yield from self._close_line()
        last = lines.pop()
        if b"\r" in piece:
            lines = [line.removesuffix(b"\r") for line in lines]
        self._waiting += [line for line in lines[1:] if line and not line.isspace()]
        self._waiting_bytes += len(piece)
        self._extend(last)
        yield from self._full_blocks()

    def is_last_whole(self) -> bool:
        """Return whether the text ended with a line, or with what is a whole record without its line end."""
        line = b"".join(self._open)
        if not line or line.isspace():
            return True  # or it is too long to be looked at, and is rejected
        if line.count(b"[") + line.count(b"{") > VALUES_MAX:
            return True  # and is rejected
        try:
            loads(line, _DECODER)
        except ValueError:
            return False
        return True

    def end(self) -> Iterator[Block]:
        """Yield what remains when the text has ended."""
        yield from self._close_line()
        if self._waiting:
            yield self._block(self._waiting)

    def _extend(self, piece: bytes) -> None:
        """Extend the open line; of one that is too long only the length is kept."""
        self._open_bytes += len(piece)
        if self._open_bytes > MAX_RECORD_BYTES:
            self._open.clear()
        elif piece:
            self._open.append(piece)

    def _close_line(self) -> Iterator[Block]:
        """End the open line: it waits with the others, or ends their block if it is too long."""
        line = b"".join(self._open).removesuffix(b"\r")
        too_large = self._open_bytes > MAX_RECORD_BYTES
        self._open.clear()
        self._open_bytes = 0
        if too_large:
            block = self._block(self._waiting)
            block.rejected.append(RejectedRow(self._position, TOO_LARGE))
            self._position += 1
            self._waiting, self._waiting_bytes = [], 0
            yield block
        elif line and not line.isspace():
            self._waiting.append(line)
            self._waiting_bytes += len(line)

    def _full_blocks(self) -> Iterator[Block]:
        start = 0
        while len(self._waiting) - start >= BLOCK_RECORDS:
            yield self._block(self._waiting[start : start + BLOCK_RECORDS])
            start += BLOCK_RECORDS
        if start:
            self._waiting, self._waiting_bytes = self._waiting[start:], 0
        if self._waiting_bytes >= BLOCK_BYTES and self._waiting:
            block = self._block(self._waiting)
            self._waiting, self._waiting_bytes = [], 0
            yield block

    def _block(self, lines: list[bytes]) -> Block:
        block = Block(self._position, lines)
        self._position += len(lines)
        return block
