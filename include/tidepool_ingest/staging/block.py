"""Blocks of records: what every format of staged file is cut into."""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCK_RECORDS = 500
"""Most records of a block: decoded, they fit into a processor's cache, and each is looked at often."""

BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes of records at which a block ends before it is full, so that long records do not pile up."""

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest record held in memory; records that Tidepool takes stay far below 1 MB."""

TOO_LARGE = "staged-too-large"
"""Code of a record longer than ``MAX_RECORD_BYTES``."""

EMPTY_ELEMENT = "staged-empty-element"
"""Code of an array element that is not there, as between two commas."""


@dataclass(slots=True)
class Block:
    """Some consecutive records of a file.

    :param first_position: position of the first of ``lines`` in its file, counting from 0.
    :param lines: records as staged, without line ends; ``lines[i]`` is at ``first_position + i``.
    :param refused: position and code of the records right behind them that cannot be held.
    """

    first_position: int
    lines: list[bytes] = field(repr=False)
    refused: list[tuple[int, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines) + len(self.refused)
