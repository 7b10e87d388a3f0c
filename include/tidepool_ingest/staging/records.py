"""The records of one staged file: read once, in blocks, as the bytes that were staged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from upath import UPath

from tidepool_ingest.staging import json_array, ndjson, quarantine
from tidepool_ingest.staging.encryption import unsealed
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import DataFormat, StagedFile
from tidepool_ingest.staging.ndjson import Block
from tidepool_ingest.staging.storage import compression_of, expand, read_blocks

_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")


Splitter = Callable[[Iterable[bytes], "int | None"], Iterator[Block]]
"""Cuts the expanded pieces of a file (and its number, for errors) into blocks."""


def _split_as_it_begins(pieces: Iterable[bytes], file_number: int | None = None) -> Iterator[Block]:
    """Cut an array into its elements if the text begins with a bracket, any other text into lines."""
    stream = iter(pieces)
    begun = b""
    for piece in stream:
        begun += piece
        if not begun.isspace():
            break
    splitter = json_array.split if begun.lstrip().startswith(b"[") else ndjson.split
    return splitter(chain((begun,), stream), file_number)


SPLITTERS: dict[DataFormat, Splitter] = {
    "ndjson": ndjson.split,
    "json": json_array.split,
    "tidepool-export": _split_as_it_begins,
    "quarantine": quarantine.split,
}
"""One reader for each format."""


class FileReader:
    """Reads one staged file; iterating yields its :class:`Block` s.

    Once all blocks were taken, ``sha256`` and ``records`` tell what was read, and :meth:`check` holds
    them against the manifest. Memory does not grow with the file.

    :param path: the file.
    :param file_format: how the records lie in it.
    :param file_number: number of the file in its manifest, counting from 1, for errors.
    """

    def __init__(self, path: UPath, file_format: DataFormat, file_number: int | None = None) -> None:
        self.path = path
        self.file_format = file_format
        self.file_number = file_number
        self.records = 0
        self.staged_bytes = 0
        self._digest = hashlib.sha256()
        self._complete = False

    @property
    def sha256(self) -> str:
        """Digest of the file as staged, in hex; known when all was read."""
        if not self._complete:
            raise RuntimeError("the file was not read to its end")
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks of the file, once.

        :raises BatchError: the file is missing, empty, damaged, a bomb, or no such file as its format says.
        """
        pieces = self._expanded()
        for block in SPLITTERS[self.file_format](pieces, self.file_number):
            self.records += len(block)
            yield block
        if not self.records:
            raise BatchError("file-empty", file_number=self.file_number)
        self._complete = True

    def check(self, staged: StagedFile) -> None:
        """Compare what was read with what the manifest says.

        :param staged: the file in the manifest.
        :raises BatchError: ``file-sha256`` or ``file-records``.
        """
        if staged.sha256 is not None and staged.sha256 != self.sha256:
            raise BatchError("file-sha256", file_number=self.file_number)
        if staged.records is not None and staged.records != self.records:
            detail = f"{self.records} instead of {staged.records}"
            raise BatchError("file-records", file_number=self.file_number, detail=detail)

    def _staged(self) -> Iterator[bytes]:
        for block in read_blocks(self.path, file_number=self.file_number):
            self._digest.update(block)
            self.staged_bytes += len(block)
            yield block

    def _expanded(self) -> Iterator[bytes]:
        pieces = expand(self._staged(), compression_of(self.path.name), self.file_number)
        if self.file_format == "quarantine":
            pieces = unsealed(pieces)
        for first in pieces:
            if first.startswith(_OTHER_MARKS):
                raise BatchError("file-encoding", file_number=self.file_number)
            yield first.removeprefix(_UTF8_MARK)
            break
        yield from pieces


def open_file(folder: UPath, staged: StagedFile, file_number: int) -> FileReader:
    """Return a reader of one file of a batch.

    :param folder: the batch folder.
    :param staged: the file in the manifest.
    :param file_number: its number there, counting from 1.
    """
    return FileReader(folder / staged.name, staged.format, file_number)
