"""Reading and writing staging storage, whatever kind of storage it is.

Everything goes through the path's fsspec filesystem: a path object's own ``open`` may do more than
open (Airflow's reports each path, which contains a user id, as lineage). Errors of the storage are
turned into :class:`~tidepool_ingest.staging.errors.BatchError` without their text, because that
text contains paths.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Self, cast

import zstandard
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem  # type: ignore[import-untyped]
from upath import UPath

from tidepool_ingest.staging.errors import BatchError

LOGGERS = ("fsspec", "s3fs", "aiobotocore", "botocore", "boto3", "s3transfer", "gcsfs", "adlfs", "azure")
"""They, or loggers below them, write the path of each file: user ids, batch ids, file names."""

READ_BYTES = 128 * 1024
"""Bytes requested from the storage at a time; its own read-ahead is larger."""

PRIVATE_FILE = 0o600
"""Mode of files with health data that this project writes to a local disk."""

PRIVATE_FOLDER = 0o700
"""Mode of their folders."""

SHARED_FILE = 0o666
"""Mode of staged files, less the umask: who stages them and who uploads them may be two accounts."""

SHARED_FOLDER = 0o777
"""Mode of their folders, less the umask."""

PART_SUFFIX = ".part"
"""End of the name under which a file is written until it is complete."""

_LOCAL_PROTOCOLS = ("", "file", "local")

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
"""Storages without folders. Asked to make one, they would create the bucket of a misspelt address."""

FINGERPRINT_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""What the storages of fsspec call the property that changes when a file does."""

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

_ZST_MAGIC = b"\x28\xb5\x2f\xfd"

_ZST_SKIPPABLE = b"\x2a\x4d\x18"

_GZ_WINDOW = 31  # zlib: a gzip wrapper, and the largest window


def hide_paths() -> None:
    """Make these libraries log warnings and errors only.

    A logger whose level has been set is left unchanged.
    """
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.WARNING)


def fingerprint(info: Mapping[str, Any]) -> str:
    """Return a text that changes when a file does: its size, and its etag or modification time.

    :param info: what a storage lists about the file.
    """
    mark = next((str(info[name]) for name in FINGERPRINT_KEYS if info.get(name)), "")
    return f"{info.get('size')}:{mark}"


def filesystem(path: UPath) -> AbstractFileSystem:
    """Return the filesystem of a path, with no cached listing.

    Filesystems of object stores answer from the listings they have made; what another process has
    written since would not be there.

    :param path: any path.
    :raises BatchError: ``staging-unreachable`` if no installed package supports its kind of storage.
    """
    hide_paths()
    found, kind = None, ""
    try:
        found = path.fs
    except (ImportError, ValueError) as error:
        kind = type(error).__name__
    if found is None:
        raise BatchError("staging-unreachable", detail=kind)
    found.invalidate_cache()
    return found


def local_path(path: UPath) -> Path | None:
    """Return the path as a local one, or ``None`` if it is in other storage."""
    return Path(path.path) if path.protocol in _LOCAL_PROTOCOLS else None


@contextlib.contextmanager
def reading(missing: str = "file-missing", file_number: int | None = None) -> Iterator[None]:
    """Turn whatever a storage raises while it is read into a batch error.

    :param missing: code of the error if the file is missing.
    :param file_number: number of the file in its manifest.
    """
    try:
        yield
    except BatchError:
        raise
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise BatchError(missing, file_number=file_number) from None
    except Exception as error:  # storages raise their client library's own types, not only OSError
        raise BatchError("staging-unreadable", file_number=file_number, detail=type(error).__name__) from None


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Turn whatever a storage raises while it is written into a batch error."""
    try:
        yield
    except BatchError:
        raise
    except Exception as error:  # as above
        raise BatchError("staging-unwritable", detail=type(error).__name__) from None


def read_blocks(
    path: UPath, *, missing: str = "file-missing", file_number: int | None = None
) -> Iterator[bytes]:
    """Read a file from its start in blocks of at most ``READ_BYTES``.

    :param path: the file.
    :param missing: code of the error if the file is missing.
    :param file_number: number of the file in its manifest, for errors.
    """
    with reading(missing, file_number):
        file = cast("IO[bytes]", filesystem(path).open(path.path, "rb"))
    try:
        while True:
            with reading(missing, file_number):
                block = file.read(READ_BYTES)
            if not block:
                return
            yield block
    finally:
        file.close()


def read_at_most(path: UPath, limit: int, *, missing: str) -> bytes:
    """Read a small file whole, stopping one byte after a limit.

    :param path: the file.
    :param limit: bytes; a result longer than this means that the file is larger.
    :param missing: code of the error if the file is missing.
    """
    with reading(missing), filesystem(path).open(path.path, "rb") as file:
        return cast("bytes", file.read(limit + 1))


def read_range(path: UPath, offset: int, length: int, *, missing: str) -> bytes:
    """Read a range of a file; the result is shorter only if the file is.

    :param path: the file.
    :param offset: first byte.
    :param length: number of bytes.
    :param missing: code of the error if the file is missing.
    """
    with reading(missing), filesystem(path).open(path.path, "rb") as file:
        file.seek(offset)
        return cast("bytes", file.read(length))


def sha256_of(path: UPath, *, missing: str = "file-missing", file_number: int | None = None) -> str:
    """Return the sha256 of a file as stored, in hex, reading it once in blocks.

    :param path: the file.
    :param missing: code of the error if the file is missing.
    :param file_number: number of the file in its manifest, for errors.
    """
    digest = hashlib.sha256()
    for block in read_blocks(path, missing=missing, file_number=file_number):
        digest.update(block)
    return digest.hexdigest()


def make_folder(path: UPath, mode: int = PRIVATE_FOLDER) -> None:
    """Make a folder, and those above it, where the storage has folders.

    :param path: the folder; nothing happens if it exists.
    :param mode: mode of a new local folder, less the umask.
    """
    with writing():
        local = local_path(path)
        if local is not None:
            local.mkdir(mode=mode, parents=True, exist_ok=True)
        elif path.protocol not in _OBJECT_STORES:
            filesystem(path).makedirs(path.path, exist_ok=True)


def remove_file(path: UPath) -> None:
    """Remove a file; nothing happens if it does not exist."""
    with writing():
        storage = filesystem(path)
        if storage.exists(path.path):
            storage.rm_file(path.path)


def remove_partial_files(folder: UPath, before: float | None = None) -> int:
    """Remove the temporary files of writers that were killed in a local folder; return how many.

    Object stores have no such thing: an upload that was not completed is no object.

    :param folder: the folder; nothing happens if it does not exist.
    :param before: only what was last written to before this moment, in seconds since 1970.
    """
    removed, local = 0, local_path(folder)
    with writing():
        for temporary in local.glob(f".*{PART_SUFFIX}") if local is not None else ():
            with contextlib.suppress(FileNotFoundError):  # its writer may have just finished
                if before is None or temporary.stat().st_mtime < before:
                    temporary.unlink()
                    removed += 1
    return removed


def size_of(path: UPath) -> int:
    """Return the size of a file in bytes, 0 if it does not exist."""
    with reading():
        try:
            return int(filesystem(path).info(path.path)["size"])
        except FileNotFoundError:
            return 0


def modified_at(path: UPath) -> datetime | None:
    """Return when a file was last written, ``None`` if it does not exist or its storage does not say."""
    with reading():
        try:
            found = filesystem(path).modified(path.path)
        except (FileNotFoundError, NotImplementedError, KeyError):
            return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else cast("datetime", found)


def remove_folder(path: UPath) -> None:
    """Remove a folder with all its contents; nothing happens if it does not exist."""
    with writing():
        local = local_path(path)
        if local is not None:
            shutil.rmtree(local, ignore_errors=False) if local.exists() else None
            return
        files = filesystem(path).find(path.path)
        if files:
            filesystem(path).rm(files)
        with contextlib.suppress(FileNotFoundError):  # memory:// and the like keep empty folders
            filesystem(path).rmdir(path.path)


def write_whole(path: UPath, content: bytes, mode: int = PRIVATE_FILE) -> None:
    """Write a small file so that a reader sees all of it or nothing.

    :param path: where; its folder exists.
    :param content: the whole file.
    :param mode: mode of a local file, less the umask.
    """
    if local_path(path) is None:
        with writing():
            filesystem(path).pipe_file(path.path, content)  # one put
        return
    with WholeFileWriter(path, mode) as file:
        file.write(content)


class WholeFileWriter:
    """A file being written; it appears under its name only if all went well.

    On a local disk the bytes go to a temporary name in the same folder, which is synced and renamed.
    Object stores show a file once its upload is complete; after an error the upload is aborted.

    :param path: where the file is to be; its folder exists.
    :param mode: mode of a local file, less the umask.
    """

    def __init__(self, path: UPath, mode: int = PRIVATE_FILE) -> None:
        self._path = path
        self._mode = mode
        self._local = local_path(path)
        self._temporary: Path | None = None
        self._file: Any = None
        self.size = 0

    def __enter__(self) -> Self:
        with writing():
            if self._local is None:
                self._file = filesystem(self._path).open(self._path.path, "wb")
            else:
                self._temporary = self._local.with_name(
                    f".{self._local.name}.{secrets.token_hex(4)}{PART_SUFFIX}"
                )
                opened = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode)
                self._file = os.fdopen(opened, "wb")
        return self

    def write(self, content: bytes) -> None:
        """Append bytes.

        :param content: what to append.
        """
        with writing():
            self._file.write(content)
        self.size += len(content)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            with writing():
                self._publish()
        else:
            self._abort()

    def _publish(self) -> None:
        try:
            if self._temporary is None or self._local is None:
                self._file.close()
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self._local)
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        """Leave nothing behind; the error that led here matters more than one during cleanup."""
        with contextlib.suppress(Exception):
            if self._temporary is not None:
                self._file.close()
                self._temporary.unlink(missing_ok=True)
                return
            if isinstance(self._file, AbstractBufferedFile):
                # Closing it, as its end would do too, would complete the upload.
                self._file.closed = True
                self._file.discard()
            else:
                self._file.close()
                filesystem(self._path).rm_file(self._path.path)


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
        return _gathered(_gunzip(checked, file_number))
    if compression == "zst":
        return _gathered(_unzstd(checked, file_number))
    return _gathered(checked)


def _checked(blocks: Iterable[bytes], compression: Compression, file_number: int | None) -> Iterator[bytes]:
    """Pass the blocks on once the first one proves to be what the name says."""
    stream = iter(blocks)
    start = b""
    for block in stream:
        start += block
        if len(start) >= len(_ZST_MAGIC):
            break
    if start:
        if _compression_in(start) != compression:
            raise BatchError("file-compression", file_number=file_number)
        yield start
    yield from stream


def _compression_in(start: bytes) -> Compression:
    if start.startswith(_GZ_MAGIC):
        return "gz"
    if start.startswith(_ZST_MAGIC) or (start[1:4] == _ZST_SKIPPABLE and 0x50 <= start[0] <= 0x5F):
        return "zst"
    return "none"


def _gathered(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small blocks into pieces of about ``PIECE_BYTES``."""
    gathered: list[bytes] = []
    size = 0
    for block in blocks:
        gathered.append(block)
        size += len(block)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered.clear()
            size = 0
    if size:
        yield b"".join(gathered)


class _Expansion:
    """Bytes read and bytes expanded, so that a bomb is detected before it fills anything."""

    def __init__(self, file_number: int | None) -> None:
        self._file_number = file_number
        self._staged = 0
        self._expanded = 0

    def count_input(self, staged: int) -> None:
        self._staged += staged

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
            piece = _inflate(member, rest, file_number)
            yield expansion.checked(piece)
            between = member.eof
            rest = member.unused_data if between else member.unconsumed_tail
            # a full piece may leave more inside zlib, even when no input remains
            if not between and not rest and len(piece) < PIECE_BYTES:
                break
    if not between:
        raise BatchError("file-truncated", file_number=file_number)


def _inflate(member: zlib._Decompress, staged: bytes, file_number: int | None) -> bytes:
    try:
        return member.decompress(staged, PIECE_BYTES)
    except zlib.error:
        raise BatchError("file-damaged", file_number=file_number) from None


def _unzstd(blocks: Iterable[bytes], file_number: int | None) -> Iterator[bytes]:
    """Expand a zstd file of one or more frames."""
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
                    raise BatchError("file-damaged", file_number=file_number) from None
                yield expansion.checked(piece)
                in_frame, rest = not frame.eof, frame.unused_data if frame.eof else b""
                if frame.eof:
                    frame = decompressor.decompressobj()
    if in_frame:
        raise BatchError("file-truncated", file_number=file_number)
