"""How staged files are compressed: expanded in bounded memory, and bombs are detected."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Literal

from tidepool_ingest.staging.errors import BatchError

Compression = Literal["gz", "zst", "none"]

PIECE_BYTES = 1024 * 1024
"""Expanded bytes passed on at a time: large enough that the overhead per piece is negligible."""

MAX_RATIO = 200
"""Expanded bytes per staged byte above which a file counts as a bomb.

Device data compress 6 to 30 times, and still below 100 times when little but the time changes; deflate
reaches 1,032 times on a bomb and zstd thousands.
"""

RATIO_FROM_BYTES = 64 * 1024 * 1024
"""Expanded bytes up to which the ratio does not matter: that much does no harm."""

MAX_EXPANDED_BYTES = 64 * 1024**3
"""Largest expanded file: fifty times five million records, which is decades of one device."""

MAX_ZSTD_WINDOW_BYTES = 128 * 1024 * 1024
"""Memory that a zstd file may ask for; ``zstd --ultra -22`` needs this much, only ``--long`` more."""

_ZSTD_SLICE_BYTES = 1024
"""Staged bytes given to zstd at a time: four can stand for 128 KiB, so a piece is at most 32 MiB."""

_GZ_MAGIC = b"\x1f\x8b"

COMPRESSION_BYTES = 4
"""Bytes from the start of a file that show how it is compressed."""

_ZST_MAGIC = b"\x28\xb5\x2f\xfd"

_ZST_SKIPPABLE = b"\x2a\x4d\x18"

_GZ_WINDOW = 31  # zlib: a gzip wrapper, and the largest window


def compression_of(name: str) -> Compression:
    """Return the compression that a file name shows by its ending.

    :param name: the file name.
    """
    if name.endswith(".gz"):
        return "gz"
    return "zst" if name.endswith(".zst") else "none"


def expand(
    blocks: Iterable[bytes], compression: Compression, file_number: int | None = None
) -> Iterator[bytes]:
    """Yield the expanded bytes of a file in pieces.

    :param blocks: the file as staged, in order.
    :param compression: how it is compressed.
    :param file_number: number of the file in its manifest, for errors.
    :raises BatchError: ``file-truncated``, ``file-damaged``, ``file-bomb`` or ``file-compression``.
    """
    checked = _checked(blocks, compression, file_number)
    if compression == "gz":
        return gathered(_gunzip(checked, file_number))
    if compression == "zst":
        return gathered(_unzstd(checked, file_number))
    return gathered(checked)


def _checked(blocks: Iterable[bytes], compression: Compression, file_number: int | None) -> Iterator[bytes]:
    """Pass the blocks on once the first one proves to be what the name says."""
    stream = iter(blocks)
    start = b""
    for block in stream:
        start += block
        if len(start) >= COMPRESSION_BYTES:
            break
    if start:
        if compression_in(start) != compression:
            raise BatchError("file-compression", file_number=file_number)
        yield start
    yield from stream


def compression_in(start: bytes) -> Compression:
    """Return the compression that a file's first four bytes show."""
    if start.startswith(_GZ_MAGIC):
        return "gz"
    if start.startswith(_ZST_MAGIC) or (start[1:4] == _ZST_SKIPPABLE and 0x50 <= start[0] <= 0x5F):
        return "zst"
    return "none"


def gathered(blocks: Iterable[bytes], most: int = PIECE_BYTES) -> Iterator[bytes]:
    """Join small blocks into pieces.

    :param blocks: the blocks.
    :param most: about how many bytes a piece has; the last one has fewer.
    """
    waiting: list[bytes] = []
    size = 0
    for block in blocks:
        waiting.append(block)
        size += len(block)
        if size >= most:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if size:
        yield b"".join(waiting)


class _Expansion:
    """Bytes read and bytes expanded, so that a bomb is detected before it fills anything."""

    def __init__(self, file_number: int | None) -> None:
        self._file_number = file_number
        self._staged = 0
        self._expanded = 0

    def count_input(self, staged: int) -> None:
        self._staged += staged

    @property
    def place(self) -> str:
        """How far the file has been read, in bytes as staged."""
        return f"within its first {self._staged:,} bytes"

    def truncated(self) -> BatchError:
        """Return the error of a file that ends inside a member or frame."""
        detail = f"after {self._staged:,} bytes"
        return BatchError("file-truncated", file_number=self._file_number, detail=detail)

    def checked(self, piece: bytes) -> bytes:
        self._expanded += len(piece)
        if self._expanded > MAX_EXPANDED_BYTES:
            self._reject(f"more than {MAX_EXPANDED_BYTES // 1024**3} GiB")
        if self._expanded > max(RATIO_FROM_BYTES, self._staged * MAX_RATIO):
            self._reject(f"more than {MAX_RATIO} times its size")
        return piece

    def _reject(self, detail: str) -> None:
        raise BatchError("file-bomb", file_number=self._file_number, detail=detail)


def _gunzip(blocks: Iterable[bytes], file_number: int | None) -> Iterator[bytes]:
    """Expand a gzip file of one or more members, as RFC 1952 allows, with zero padding behind the last."""
    expansion = _Expansion(file_number)
    member = zlib.decompressobj(_GZ_WINDOW)
    between = True
    for block in blocks:
        expansion.count_input(len(block))
        rest = block
        while True:
            if between:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = zlib.decompressobj(_GZ_WINDOW)
            try:
                piece = member.decompress(rest, PIECE_BYTES)
            except zlib.error:
                detail = expansion.place
                raise BatchError("file-damaged", file_number=file_number, detail=detail) from None
            yield expansion.checked(piece)
            between = member.eof
            rest = member.unused_data if between else member.unconsumed_tail
            # a full piece may leave more inside zlib, even when no input remains
            if not between and not rest and len(piece) < PIECE_BYTES:
                break
    if not between:
        raise expansion.truncated()


def _unzstd(blocks: Iterable[bytes], file_number: int | None) -> Iterator[bytes]:
    """Expand a zstd file of one or more frames."""
    import zstandard  # loaded only here: few files are of its kind

    expansion = _Expansion(file_number)
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW_BYTES)
    frame = decompressor.decompressobj()
    in_frame = False
    for block in blocks:
        for start in range(0, len(block), _ZSTD_SLICE_BYTES):
            rest = block[start : start + _ZSTD_SLICE_BYTES]
            expansion.count_input(len(rest))
            while rest:
                try:
                    piece = frame.decompress(rest)
                except zstandard.ZstdError:
                    detail = expansion.place
                    raise BatchError("file-damaged", file_number=file_number, detail=detail) from None
                yield expansion.checked(piece)
                in_frame, rest = not frame.eof, frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = decompressor.decompressobj()
    if in_frame:
        raise expansion.truncated()
