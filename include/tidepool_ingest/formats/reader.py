"""What the readers of all formats share: the blocks that they yield, and their base class.

A reader takes the opened files of one source and yields their rows in blocks. A row is whatever the format
counts: a line, an element of an array, a row of a table. It gives one record, several, or none; a row that
cannot be read is rejected with a code and its text as staged, and one that is not a reading is counted by
reason. So every row is accounted for.

Records are validated in blocks, without an object for each. Where each row is one record and its text is the
record's, a block is a list of lines and nothing else; what differs from that is in parallel lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tidepool_ingest.local_times import Period
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

if TYPE_CHECKING:
    from pydantic import JsonValue

BLOCK_RECORDS = 500
"""Most records in a block: decoded, they fit into a processor's cache, and each is used several times."""

BLOCK_BYTES = 4 * 1024 * 1024
"""Bytes of records at which a block ends before it is full, so that long records do not pile up."""

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longest record held in memory; records that Tidepool accepts are far below 1 MB."""

TOO_LARGE = "staged-too-large"
"""Code of a record longer than ``MAX_RECORD_BYTES``."""

EXPORT_ERROR = "exportError"
"""Key by which an export says that it is not whole: in its last row, or in the object around its rows."""

EMPTY_ELEMENT = "staged-empty-element"
"""Code of a missing array element, as between two commas."""


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
    :param text: the row as staged, ``None`` if it was too long to hold.
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
    :param rejected: the rows after them from which no record can be read.
    :param staged: for each record, its row as staged; ``None`` where that is the record itself.
    :param positions: for each record, the position of its row; ``None`` where each row is one record, so that
        ``lines[i]`` is at ``first_position + i``. Records of one row are together, all in one block.
    :param where: for each record, what a person calls that position; ``None`` where nothing better is known.
    :param more_rows: for a record made of several rows, by its index: position and text as staged of each but
        the first, which is the record's own. They count as ``skipped``.
    :param skipped: how many rows are not readings, by reason: a word or two with hyphens, no content.
    :param warning: code of what is to be reported about each accepted record of the block; may be empty.
    :param file_number: number of the file in its manifest, from 1; 0 stands for the file that was requested.
    :param numbers: of text, the line of the file that each row from the first one on is, counting from 1;
        ``None`` where rows are no lines.
    """

    first_position: int
    lines: list[bytes] = field(repr=False)
    rejected: list[RejectedRow] = field(default_factory=list)
    staged: list[bytes] | None = field(default=None, repr=False)
    positions: list[int] | None = field(default=None, repr=False)
    where: list[str] | None = field(default=None, repr=False)
    more_rows: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict, repr=False)
    skipped: dict[str, int] = field(default_factory=dict)
    warning: str = ""
    file_number: int = 0
    numbers: list[int] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for parallel in (self.staged, self.positions, self.where):
            if parallel is not None and len(parallel) != len(self.lines):
                raise ValueError("a parallel list of a block is not as long as its records")

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

    def number_of(self, position: int) -> int | None:
        """Return which line of the file a row is, counting from 1, ``None`` where that is not known.

        :param position: of the row.
        """
        at = position - self.first_position
        return self.numbers[at] if self.numbers is not None and 0 <= at < len(self.numbers) else None

    def places(self) -> Iterator[tuple[int, int]]:
        """Yield for each record the position of its row, and which of the row's records it is."""
        record, previous = 0, -1
        for position in self.row_positions:
            record = record + 1 if position == previous else 0
            yield position, record
            previous = position

    @property
    def row_positions(self) -> Sequence[int]:
        """For each record, the position of its row; a range where each row is one record."""
        if self.positions is None:
            return range(self.first_position, self.first_position + len(self.lines))
        return self.positions


class Candidate(NamedTuple):
    """A record that would be accepted.

    :param text: as it would be uploaded, with the manifest's edits.
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
    """What a reader may need to know about its batch.

    :param accepts: returns a record as it would be accepted, ``None`` if it would be rejected.
    :param units_are_given: whether the manifest says which unit the glucose values are in.
    :param timezone: of the data set, where a file has none of its own.
    :param device_id: of the data set.
    :param meant_as: codes for which the batch would be held, and that are as they are meant to be.
    """

    accepts: Callable[[bytes], Candidate | None] = _accepts_nothing
    units_are_given: bool = False
    timezone: str | None = None
    device_id: str | None = field(default=None, repr=False)
    meant_as: tuple[str, ...] = ()

    def periods_of(self, file: SourceFile) -> tuple[Period, ...]:
        """Return the zones that a device's clock was set in, by the file or else by the data set.

        :raises BatchError: ``timezone-missing``: neither says it.
        """
        stated = file.options.timezone or self.timezone
        if stated is None:
            raise BatchError("timezone-missing", file_number=file.number)
        if isinstance(stated, str):
            return (Period(stated),)
        return tuple(Period(period.zone, period.until or "") for period in stated)


@dataclass(frozen=True)
class Device:
    """A device whose data are in a file.

    :param serial: what distinguishes its rows from those of others, as ``serial`` of the file names it; empty
        where the file knows of one device only.
    :param fields: what the file tells of it, as the body of its data set has it.
    """

    serial: str = field(repr=False)
    fields: Mapping[str, JsonValue] = field(repr=False)


class SteadyClock(NamedTuple):
    """A stretch in which a device's clock was not set.

    :param first: what it showed at the first reading, in seconds since 1970 of its own time.
    :param last: what it showed at the last one.
    :param offset: how many minutes it was ahead of what it is compared with.
    """

    first: int
    last: int
    offset: int


class ClockSigns(NamedTuple):
    """What a file shows of the clock that made its times, beside the times themselves.

    :param latest: the latest local time, ``YYYY-MM-DDThh:mm:ss``; empty for none.
    :param generated: when the file says that it was made.
    :param steady: how the clock was set, as other clocks saw it: for each of these, its stretches in order.
        Only differences of their offsets mean something.
    """

    latest: str = ""
    generated: datetime | None = None
    steady: tuple[tuple[SteadyClock, ...], ...] = ()


class Reader(ABC):
    """Reads one source; a class for each format, and an entry of ``FORMATS``.

    :param files: the files of the source, in the manifest's order: one, or all of this format in the batch
        where ``joins_files`` says so. Each can be read several times: as text, as bytes, or as a seekable
        copy.
    :param context: what the reader may need to know about the batch.
    """

    name: ClassVar[str]
    """What a manifest and ``--format`` call the format."""

    title: ClassVar[str]
    """What people call such a file, as a heading."""

    rows_are_json: ClassVar[bool] = True
    """Whether each of its rows is a JSON text."""

    in_manifests: ClassVar[bool] = True
    """Whether a batch may hold such files; otherwise they can be validated and staged only."""

    joins_files: ClassVar[bool] = False
    """Whether all such files of a batch are one source."""

    stages_rows: ClassVar[bool] = False
    """Whether ``stage`` writes the rows unchanged, to be read in this format again; otherwise it writes
    the records, as NDJSON."""

    version: ClassVar[int] = 0
    """Of what makes records of rows, counted up when it makes other ones; 0 where rows are records. It is
    noted at Tidepool when a data set is opened, and no part of a batch's content."""

    options: ClassVar[frozenset[str]] = frozenset()
    """Which members of :class:`~tidepool_ingest.staging.manifest.FileOptions` it takes, by their names."""

    has_own_rows: ClassVar[bool] = False
    """Whether a file has rows of its own kind, which `stage` leaves to it: it goes into a batch as it is."""

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
        """Digests of the contents that are sent inside another record, and so not on their own."""
        return frozenset()

    @property
    def has_names(self) -> bool:
        """Whether rows have names of their own, so that a later export replaces what it changes."""
        return False

    @property
    def ending(self) -> str:
        """How the name of such a file ends, where it goes into a batch as it is."""
        return "csv"

    def devices(self) -> list[Device]:
        """Return which devices the files tell of, once they were surveyed; none where records name them."""
        return []

    def clock_signs(self) -> ClockSigns:
        """Return what the files show of the device's clock, once they were surveyed."""
        return ClockSigns()

    @classmethod
    def recognizes(cls, _start: bytes) -> bool:
        """Return whether a text is of this format, as far as its beginning shows.

        :param _start: its beginning, without white space before it.
        """
        return False

    def survey(self) -> None:  # noqa: B027 - most readers have nothing to do here
        """Survey the files before the first block is requested; ``embedded`` is then complete."""

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        """Yield the records of one file; called once for each, in their order.

        A reader of several files may yield rows of another one, with its ``file_number``: what only all of
        them show comes with the last.

        :param file: one of ``files``.
        :raises BatchError: the file is not of its stated format, so that none of its records is certain.
        """
        return self.rows(file)

    @abstractmethod
    def rows(self, file: SourceFile) -> Iterator[Block]:
        """Yield the rows of one file unchanged, each as its own record.

        :param file: one of ``files``.
        :raises BatchError: as for :meth:`blocks`.
        """

    def close(self) -> None:  # noqa: B027 - as above
        """Remove what was kept while reading."""
