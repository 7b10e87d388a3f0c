"""One staged file as its reader sees it: decompressed, from its beginning as often as needed, and hashed."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from upath import UPath

from tidepool_ingest.staging.compression import compression_of, expand
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, StagedFile
from tidepool_ingest.staging.storage import IN_BATCH, read_blocks

_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")


class SourceFile:
    """A file whose records are to be read.

    Nothing is opened before it is read. The digest is that of the file as staged, taken during
    the last pass that read it to its end.

    :param path: the file; the ending of its name shows the compression.
    :param format: how it holds its records.
    :param number: number of the file in its manifest, counting from 1, for errors.
    :param staged: what the manifest says about it.
    :param below_root: how many of its path's last names lie below the staging root.
    """

    def __init__(
        self,
        path: UPath,
        format: str,
        number: int | None = None,
        staged: StagedFile | None = None,
        *,
        below_root: int = IN_BATCH,
    ) -> None:
        self.path = path
        self.format = format
        self.number = number
        self.staged_bytes = 0
        self.staged = staged
        self._below_root = below_root
        self._sha256: str | None = None

    @property
    def sha256(self) -> str:
        """Digest of the file as staged, in hex; known once it was read to its end."""
        if self._sha256 is None:
            raise RuntimeError("the file was not read to its end")
        return self._sha256

    def pieces(self) -> Iterator[bytes]:
        """Yield the expanded bytes of the file from its beginning.

        :raises BatchError: the file is missing, damaged or a bomb, or its name shows another compression.
        """
        return expand(self._as_staged(), compression_of(self.path.name), self.number)

    def text(self) -> Iterator[bytes]:
        """Yield the same as UTF-8 text, without a byte order mark.

        :raises BatchError: as for :meth:`pieces`, and ``file-encoding`` if it has another byte order mark.
        """
        pieces = self.pieces()
        for first in pieces:
            if first.startswith(_OTHER_MARKS):
                raise BatchError("file-encoding", file_number=self.number)
            yield first.removeprefix(_UTF8_MARK)
            break
        yield from pieces

    @contextmanager
    def seekable(self) -> Iterator[IO[bytes]]:
        """Provide a private local copy of the expanded file, for formats that need random access.

        :raises BatchError: as for :meth:`pieces`.
        """
        with tempfile.TemporaryFile() as copy:
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
        digest = hashlib.sha256()
        self._sha256, self.staged_bytes = None, 0
        for block in read_blocks(self.path, below_root=self._below_root, file_number=self.number):
            digest.update(block)
            self.staged_bytes += len(block)
            yield block
        self._sha256 = digest.hexdigest()


def files_of(manifest: Manifest, folder: UPath) -> list[SourceFile]:
    """Return the files of a batch, none of them opened.

    :param manifest: the batch's manifest.
    :param folder: where its files are.
    """
    return [
        SourceFile(folder / file.name, file.format, number, file)
        for number, file in enumerate(manifest.files, 1)
    ]
