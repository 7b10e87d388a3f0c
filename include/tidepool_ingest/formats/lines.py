"""Lines of a text that comes in pieces, as blocks: what every format of one row a line is cut into.

And whether a text may be something else than lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidepool_ingest.formats.reader import (
    BLOCK_BYTES,
    BLOCK_RECORDS,
    MAX_RECORD_BYTES,
    TOO_LARGE,
    Block,
    RejectedRow,
)

_DATA: Final = b'"data"'
_OPEN_ENDS: Final = (b"{", b"[", b",")
"""How the first line of an object ends that goes over several lines."""


def may_be_one(start: bytes) -> bool:
    """Return whether a text may be one array, or one object that holds an array or goes over several lines.

    :param start: the text from its beginning, without white space before it.
    """
    return start.startswith(b"[") or (start.startswith(b"{") and (is_open(start) or _DATA in start))


def is_open(start: bytes) -> bool:
    """Return whether the first line of an object is not all of it.

    :param start: the text, from its first brace on.
    """
    first, line_break, _rest = start.partition(b"\n")
    return bool(line_break) and first.rstrip().endswith(_OPEN_ENDS)


class Lines:
    """Lines reassembled across the boundaries of pieces.

    The work for one line is done by ``bytes.split`` and one comprehension: no object per record.

    :param blank: whether blank lines are lines too, so that positions number those of the file.
    """

    def __init__(self, *, blank: bool = False) -> None:
        self._blank = blank
        self._position = 0  # of the first line waiting
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._line = 1  # number of the line that is open
        self._numbers: list[int] = []  # of those waiting
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
        del lines[0]
        kept = lines if self._blank else [line for line in lines if line and not line.isspace()]
        self._waiting += kept
        self._number(lines, kept)
        self._waiting_bytes += len(piece)
        self._extend(last)
        yield from self._full_blocks()

    @property
    def open_line(self) -> bytes:
        """The line that has not ended yet; empty if it is too long to be held."""
        return b"".join(self._open)

    @property
    def open_position(self) -> int:
        """The position of the line that has not ended yet, counting from 0."""
        return self._position + len(self._waiting)

    def end(self) -> Iterator[Block]:
        """Yield what remains when the text has ended."""
        if self._open_bytes:
            yield from self._close_line()
        if self._waiting:
            yield self._block(self._waiting)

    def _number(self, lines: list[bytes], kept: list[bytes]) -> None:
        """Note which lines those are that were kept of whole ones."""
        first, self._line = self._line, self._line + len(lines)
        if len(kept) == len(lines):
            self._numbers += range(first, self._line)
        else:
            self._numbers += [
                number for number, line in enumerate(lines, first) if line and not line.isspace()
            ]

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
        number, self._line = self._line, self._line + 1
        if too_large:
            self._numbers.append(number)
            block = self._block(self._waiting, too_large=True)
            self._waiting, self._waiting_bytes = [], 0
            yield block
        elif self._blank or (line and not line.isspace()):
            self._waiting.append(line)
            self._numbers.append(number)
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

    def _block(self, lines: list[bytes], *, too_large: bool = False) -> Block:
        """Return the first lines that wait as a block, with the one after them that was too long to hold."""
        rows = len(lines) + too_large
        block = Block(self._position, lines, numbers=self._numbers[:rows])
        del self._numbers[:rows]
        if too_large:
            block.rejected.append(RejectedRow(self._position + len(lines), TOO_LARGE))
        self._position += rows
        return block
