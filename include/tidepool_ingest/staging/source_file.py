"""One staged file as its reader sees it: decompressed, from its beginning as often as needed, and hashed."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from tidepool_ingest.staging.compression import compression_of, expand
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import GIVEN, IN_BATCH, StoragePath, read_blocks

if TYPE_CHECKING:
    import hashlib

    from tidepool_ingest.staging.manifest import FileOptions, Manifest, StagedFile

_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")

_EXCEL = re.compile(rb"\[Content_Types\]\.xml|xl/workbook\.xml|xl/worksheets/")

PARQUET_MAGIC = b"PAR1"
WORKBOOK_MAGIC = b"PK\x03\x04"

_BINARY = {
    WORKBOOK_MAGIC: "a zip archive: unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office document, such as an Excel workbook",
    b"%PDF": "a PDF document: get the data in another form",
    PARQUET_MAGIC: "a Parquet file, which format table reads",
    b"SQLite format 3\0": "a SQLite database",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"BZh": "compressed by bzip2: compress it by gzip or zstd instead, or not at all",
    b"\xfd7zXZ": "compressed by xz: compress it by gzip or zstd instead, or not at all",
}
"""What a file is by its first bytes, and what to do with it."""

UNKNOWN_TABLE = "a table (CSV) of no format that is told by its headings"
"""What :func:`other_kind` says of rows of cells that are to be records."""

_LINES_LOOKED_AT = 10
_BYTES_LOOKED_AT = 64 * 1024

_HEADINGS = 3
"""Lines that may be headings of a table: titles, and the names of its columns."""

_TOO_MANY_BAD = 3
"""Bytes that are not UTF-8, in most lines, by which a text is in another encoding that holds no UTF-8."""
_BAD = re.compile("[\udc80-\udcff]")
_GOOD = re.compile("[^\0-\x7f\udc80-\udcff]")

_CR_BETWEEN_ROWS = re.compile(rb"\r[^\r]")
_CR_BETWEEN_RECORDS = re.compile(rb"\}[ \t]*\r[ \t\r]*\{")


class SourceFile:
    """A file whose records are to be read.

    Nothing is opened before it is read. The digest, where one is wanted, is that of the file as staged, taken
    during the last pass that read it to its end.

    :param path: the file; the ending of its name shows the compression.
    :param format: how it holds its records.
    :param number: number of the file in its manifest, counting from 1, for errors.
    :param staged: what the manifest says about it.
    :param below_root: how many of its path's last names lie below the staging root.
    :param options: how it is to be read; what the manifest says, if left out.
    :param digested: whether somebody asks for its digest, beside the manifest that has one.
    """

    def __init__(
        self,
        path: StoragePath,
        format: str,
        number: int | None = None,
        staged: StagedFile | None = None,
        *,
        below_root: int = IN_BATCH,
        options: FileOptions | None = None,
        digested: bool = False,
    ) -> None:
        self.path = path
        self.format = format
        self.number = number
        self.staged_bytes = 0
        self.staged = staged
        self.said = options or staged
        """How it is to be read, where anything is said about it."""
        self._below_root = below_root
        self._digested = digested or (staged is not None and staged.sha256 is not None)
        self._sha256: str | None = None

    @property
    def options(self) -> FileOptions:
        """How it is to be read; a format whose rows say all of it never asks."""
        # Loaded only here, as models are that take longer than many a file.
        from tidepool_ingest.staging.manifest import FileOptions

        return self.said or FileOptions()

    @property
    def sha256(self) -> str:
        """Digest of the file as staged, in hex; known once it was read to its end, if it is wanted."""
        if self._sha256 is None:
            raise RuntimeError("the file was not read to its end, or nobody wanted its digest")
        return self._sha256

    def pieces(self) -> Iterator[bytes]:
        """Yield the expanded bytes of the file from its beginning.

        :raises BatchError: the file is missing, damaged or a bomb, or its name shows another compression.
        """
        return expand(self._as_staged(), compression_of(self.path.name), self.number)

    def start(self) -> bytes:
        """Return how the file begins, expanded: enough to see what it is, without a byte order mark.

        :raises BatchError: as for :meth:`pieces`.
        """
        start = b""
        for piece in self.pieces():
            start += piece
            if len(start) >= _BYTES_LOOKED_AT:
                break
        return start.removeprefix(_UTF8_MARK)

    def text(self, *, encoding: str | None = None, is_table: bool = False) -> Iterator[bytes]:
        """Yield the same as UTF-8 text, without a byte order mark.

        :param encoding: what it is written in, if it is said; bytes that it does not have stay no UTF-8.
        :param is_table: whether it holds rows of cells.
        :raises BatchError: as for :meth:`pieces`; ``file-encoding`` if it is in another encoding;
            ``file-not-records`` if it is no text of records at all.
        """
        pieces = self._decoded(encoding) if encoding else self.pieces()
        for first in pieces:
            if not encoding and (other := other_encoding(first, is_table=is_table)):
                raise BatchError("file-encoding", file_number=self.number, detail=other)
            start = first.removeprefix(_UTF8_MARK)
            if kind := other_kind(start, is_table=is_table):
                raise BatchError("file-not-records", file_number=self.number, detail=f"it is {kind}")
            yield start
            break
        yield from pieces

    def _decoded(self, encoding: str) -> Iterator[bytes]:
        # A byte, or half of a surrogate pair, that is no character: it must not become one.
        errors = "surrogatepass" if encoding.startswith("utf-16") else "surrogateescape"
        decoder = codecs.getincrementaldecoder(encoding)(errors)
        for piece in self.pieces():
            try:
                text = decoder.decode(piece)
            except UnicodeError:  # all else has a character, or becomes half of one
                detail = "it is said to be UTF-16, and begins without a byte order mark"
                raise BatchError("file-encoding", file_number=self.number, detail=detail) from None
            yield text.encode(errors=errors)
        try:
            yield decoder.decode(b"", final=True).encode(errors=errors)
        except UnicodeDecodeError:  # cut off inside a character
            yield b"\xff"

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """Provide a private local copy of the expanded file, for formats that need random access.

        :raises BatchError: as for :meth:`pieces`.
        """
        from tempfile import TemporaryFile  # loaded only here: most formats are read from their beginning

        with TemporaryFile() as copy:
            for piece in self.pieces():
                copy.write(piece)
            copy.seek(0)
            yield copy

    def check(self, rows: int) -> None:
        """Compare what was read with what the manifest says.

        :param rows: how many rows were read, whatever became of them.
        :raises BatchError: ``file-sha256`` or ``file-records``.
        """
        if self.staged is None:
            return
        expected = self.staged.sha256
        if expected is not None:
            if self._sha256 is None:  # the reader stopped before the end
                for _ in self._as_staged():
                    pass
            if expected != self.sha256:
                raise BatchError("file-sha256", file_number=self.number)
        if self.staged.records is not None and self.staged.records != rows:
            detail = f"{rows} instead of {self.staged.records}"
            raise BatchError("file-records", file_number=self.number, detail=detail)

    def _as_staged(self) -> Iterator[bytes]:
        self._sha256, self.staged_bytes = None, 0
        digest = _new_digest() if self._digested else None
        for block in read_blocks(self.path, below_root=self._below_root, file_number=self.number):
            if digest is not None:
                digest.update(block)
            self.staged_bytes += len(block)
            yield block
        self._sha256 = None if digest is None else digest.hexdigest()


def _new_digest() -> hashlib._Hash:
    import hashlib  # loaded only here: few files are digested

    return hashlib.sha256()


def other_encoding(start: bytes, *, is_table: bool = False) -> str:
    """Return what a text seems to be written in that is not UTF-8, empty if it may be UTF-8.

    A few bad bytes are the matter of the records that hold them; but not in the headings of a table, which
    say what its cells are.

    :param start: the file from its beginning.
    :param is_table: whether it holds rows of cells.
    """
    if start.startswith(_OTHER_MARKS) or b"\0" in start[:2]:
        return "it seems to be UTF-16 or UTF-32"
    if start.isascii():
        return ""
    try:
        codecs.utf_8_decode(start)  # the last character may be cut in two
    except UnicodeDecodeError:
        pass
    else:
        return ""
    text, _read = codecs.utf_8_decode(start, "surrogateescape")
    lines = [line for line in text.split("\n") if line and not line.isspace()]
    bad_lines = sum(_BAD.search(line) is not None for line in lines)
    # Some records may be damaged, and go to quarantine; of a single line nobody can tell.
    is_all_over = len(lines) > 1 and bad_lines * 2 > len(lines) and len(_BAD.findall(text)) >= _TOO_MANY_BAD
    is_in_headings = is_table and any(_BAD.search(line) for line in _headings(lines))
    if (is_all_over or is_in_headings) and not _GOOD.search(text):
        return "it seems to be Windows-1252 or Latin-1"
    return ""


def _headings(lines: list[str]) -> list[str]:
    """Return the first line, and those after it that have no digits, as rows of data have."""
    return [*lines[:1], *(line for line in lines[1:_HEADINGS] if not any(map(str.isdigit, line)))]


def other_kind(start: bytes, *, is_table: bool = False) -> str:
    """Return what a file is that holds no records, and what to do with it; empty if it may hold some.

    :param start: the file from its beginning, without a byte order mark.
    :param is_table: whether it is to hold rows of cells, rather than records as JSON.
    """
    if start.startswith(WORKBOOK_MAGIC) and _EXCEL.search(start):
        return "an Excel workbook, which format table reads"
    for first_bytes, kind in _BINARY.items():
        if start.startswith(first_bytes):
            return kind
    text = start.lstrip()
    if text.startswith(b"<"):
        return "a web page or XML, perhaps an error message in the place of the file: get the file again"
    between = _CR_BETWEEN_ROWS if is_table else _CR_BETWEEN_RECORDS
    if b"\n" not in start and between.search(start):
        return "text whose lines end in CR alone: end them in LF"
    if not is_table and _is_table(text[:_BYTES_LOOKED_AT].splitlines()[:_LINES_LOOKED_AT]):
        return UNKNOWN_TABLE
    return ""


def _is_table(lines: list[bytes]) -> bool:
    """Return whether the first lines are rows of cells and none of them is JSON."""
    if not lines or any(line.lstrip().startswith((b"{", b"[")) for line in lines):
        return False
    if not any(separator in lines[0] for separator in (b",", b";", b"\t")):
        return False
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return True
    return False


def given_files(
    paths: Sequence[tuple[StoragePath, str]], options: FileOptions | None, *, digested: bool = False
) -> list[SourceFile]:
    """Return files that somebody names, none of them opened; errors number them where there are several.

    :param paths: each file with its format.
    :param options: how they are to be read.
    :param digested: whether somebody asks for their digests.
    """
    several = len(paths) > 1
    return [
        SourceFile(
            path,
            name,
            number if several else None,
            below_root=GIVEN,
            options=options,
            digested=digested,
        )
        for number, (path, name) in enumerate(paths, 1)
    ]


def files_of(manifest: Manifest, folder: StoragePath) -> list[SourceFile]:
    """Return the files of a batch, none of them opened.

    :param manifest: the batch's manifest.
    :param folder: where its files are.
    """
    return [
        SourceFile(folder / file.name, file.format, number, file)
        for number, file in enumerate(manifest.files, 1)
    ]
