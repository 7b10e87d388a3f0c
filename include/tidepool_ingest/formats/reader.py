"""What every reader of a format shares: the blocks that it yields, and the class that it derives from.

A reader takes the opened files of one source and yields their rows in blocks. A row is whatever the format
counts: a line, an element of an array, a row of a table. It gives one record, several, or none; a row that
cannot be read is rejected with a code and its text as staged, and one that is no reading is counted under a
reason. So every row is accounted for.

Records are judged by the block, without an object for each. Where each row is one record and its text is the
record's, a block is a list of lines and nothing else; what differs from that stands in lists beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from tidepool_ingest.staging.source_file import SourceFile

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


class Row(NamedTuple):
    """The row of a file that a record was read from.

    :param position: which row of the file, counting from 0.
    :param text: the row as staged.
    :param record: which of the row's records, counting from 0.
    :param where: what a person calls the position, such as ``line 17`` or ``sheet 2, row 3``; may be empty.
    """

    position: int
    text: bytes
    record: int = 0
    where: str = ""

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"Row(position={self.position}, record={self.record})"


class RejectedRow(NamedTuple):
    """A row that no record can be read from.

    :param position: which row of the file, counting from 0.
    :param code: why.
    :param text: the row as staged, ``None`` if it could not be held.
    :param where: as for :class:`Row`.
    """

    position: int
    code: str
    text: bytes | None = None
    where: str = ""

    def __repr__(self) -> str:
        """Leave the text out."""
        return f"RejectedRow(position={self.position}, code={self.code!r})"


@dataclass(slots=True)
class Block:
    """Some consecutive rows of a file, and the records that were read from them.

    :param first_position: position of the first row in its file, counting from 0.
    :param lines: the records, one JSON text each and no line break in it.
    :param rejected: the rows behind them from which no record can be read.
    :param staged: for each record, its row as staged; ``None`` where that is the record itself.
    :param positions: for each record, the position of its row; ``None`` where each row is one record, so that
        ``lines[i]`` is at ``first_position + i``. Records of one row stand together, all in one block.
    :param where: for each record, what a person calls that position; ``None`` where nothing better is known.
    :param skipped: how many rows are no reading, by reason: a word or two with hyphens, no content.
    :param file_number: number of the file in its manifest, from 1; 0 stands for the file that was asked for.
    """

    first_position: int
    lines: list[bytes] = field(repr=False)
    rejected: list[RejectedRow] = field(default_factory=list)
    staged: list[bytes] | None = field(default=None, repr=False)
    positions: list[int] | None = field(default=None, repr=False)
    where: list[str] | None = field(default=None, repr=False)
    skipped: dict[str, int] = field(default_factory=dict)
    file_number: int = 0

    def __post_init__(self) -> None:
        for beside in (self.staged, self.positions, self.where):
            if beside is not None and len(beside) != len(self.lines):
                raise ValueError("a list beside the records of a block is not as long as they are")

    def __len__(self) -> int:
        """Return how many records there are, rejected rows included."""
        return len(self.lines) + len(self.rejected)

    @property
    def rows(self) -> int:
        """How many rows there are: each is in ``rejected``, in ``skipped``, or has given records."""
        read = len(self.lines) if self.positions is None else len(set(self.positions))
        return read + len(self.rejected) + sum(self.skipped.values())

    def row(self, index: int) -> Row:
        """Return the row of one record.

        :param index: which record of the block.
        """
        text = self.lines[index] if self.staged is None else self.staged[index]
        positions = self.row_positions
        position = positions[index]
        record = index - positions.index(position)
        return Row(position, text, record, "" if self.where is None else self.where[index])

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield of each record the position of its row, and which of the row's records it is."""
        record, before = 0, -1
        for position in self.row_positions:
            record = record + 1 if position == before else 0
            yield position, record
            before = position

    @property
    def row_positions(self) -> Sequence[int]:
        """For each record, the position of its row; a range where each row is one record."""
        if self.positions is None:
            return range(self.first_position, self.first_position + len(self.lines))
        return self.positions


class Candidate(NamedTuple):
    """A record that would be accepted.

    :param text: as it would be uploaded, the manifest's edits made.
    :param content: digest of its content, the same for every spelling.
    """

    text: bytes
    content: int

    def __repr__(self) -> str:
        """Leave the record out."""
        return "Candidate()"


def _accepts_nothing(_line: bytes) -> Candidate | None:
    return None


@dataclass(frozen=True)
class ReadingContext:
    """What a reader may ask about the batch that it reads for.

    :param accepts: returns what would become of a record, ``None`` if it would be rejected.
    :param units_are_given: whether the manifest says itself which unit the glucose values are in.
    """

    accepts: Callable[[bytes], Candidate | None] = _accepts_nothing
    units_are_given: bool = False


class Reader(ABC):
    """Reads one source; a class for each format, and an entry of ``FORMATS``.

    :param files: the files of the source, in the manifest's order: one, or all of this format in the batch
        where ``joins_files`` says so. Each can be read several times: as text, as bytes, or as a seekable
        copy.
    :param context: what may be asked about the batch.
    """

    name: ClassVar[str]
    """What a manifest and ``--format`` call the format."""

    in_manifests: ClassVar[bool] = True
    """Whether a batch may hold such files; otherwise they can be validated and staged only."""

    joins_files: ClassVar[bool] = False
    """Whether all such files of a batch are one source."""

    stages_rows: ClassVar[bool] = False
    """Whether ``stage`` writes the rows as they stand, to be read in this format again; otherwise it writes
    the records, as NDJSON."""

    holds_other_objects: ClassVar[bool] = False
    """Whether such files hold objects without a ``type`` beside diabetes data, such as messages."""

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        self.files = files
        self.context = context

    @property
    def changes(self) -> Counter[str]:
        """How many records the reader has changed, by field."""
        return Counter()

    @property
    def embedded(self) -> AbstractSet[int]:
        """Digests of the contents that travel inside another record, and so not alone."""
        return frozenset()

    @classmethod
    def recognizes(cls, _start: bytes) -> bool:
        """Return whether a text is of this format, as far as its beginning shows.

        :param _start: its beginning, without white space before it.
        """
        return False

    def survey(self) -> None:  # noqa: B027 - most readers have nothing to do here
        """Look over the files before the first block is asked for; ``embedded`` is then complete."""

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of one file; called once for each, in their order.

        A reader of several files may yield rows of another one, with its ``file_number``: what can only be
        told from all of them comes with the last.

        :param file: one of ``files``.
        :raises BatchError: the file is not what the format says, so that no record of it is certain.
        """
        return self.rows(file)

    @abstractmethod
    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the rows of one file as they stand, each as its own record.

        :param file: one of ``files``.
        :raises BatchError: as for :meth:`blocks`.
        """

    def close(self) -> None:  # noqa: B027 - as above
        """Remove what was kept while reading."""
