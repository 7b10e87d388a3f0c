"""Reading and writing staging storage, whatever kind of storage it is.

Everything goes through the path's fsspec filesystem: a path object's own ``open`` may do more than
open (Airflow's reports each path, which contains a user id, as lineage). On a local disk it goes through
:mod:`.local`, which follows no link below the staging root: ``below_root`` says how many of a path's last
names lie below it. Errors of the storage are turned into
:class:`~tidepool_ingest.staging.errors.BatchError` without their text, because that text contains paths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

from tidepool_ingest.staging import local
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.local import Info, LocalWriter, NotPermittedError, NotRegularError

if TYPE_CHECKING:
    from fsspec.spec import AbstractFileSystem  # type: ignore[import-untyped]
    from upath import UPath

StoragePath: TypeAlias = "UPath | Path"
"""A path in any storage. What a person has typed may be a plain one of a local disk: to read or write there,
no library of other storages is needed, which take long to load."""

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

GIVEN: Final = 0
"""``below_root`` of a path that a person gave to a command: it is opened whatever it is."""

IN_WORK_AREA: Final = 3
"""``below_root`` of ``_work/<content key>/<file>``; that of the folder is one less."""

IN_BATCH: Final = 4
"""``below_root`` of ``<day>/<user id>/<batch id>/<file>``; that of the folder is one less."""

_LOCAL_PROTOCOLS = ("", "file", "local")

_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
"""Storages without folders. Asked to make one, they would create the bucket of a misspelt address."""

FINGERPRINT_KEYS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""What the storages of fsspec call the property that changes when a file does."""


class Watch:
    """How far the reading of files has come, for whoever waits for it."""

    def __init__(self) -> None:
        self.path = ""
        """The file that is being read."""
        self.position = 0
        """Bytes that were read of it since its beginning."""
        self.bytes_read = 0
        """Bytes that were read of all files, as often as they were."""
        self._records: dict[str, int] = {}

    def begin(self, path: str) -> None:
        """Note that a file is read from its beginning; what it held before is counted again."""
        self.path, self.position = path, 0
        self._records[path] = 0

    def add(self, size: int) -> None:
        """Note that bytes were read."""
        self.position += size
        self.bytes_read += size

    def add_records(self, number: int) -> None:
        """Note that records were read."""
        self._records[self.path] = self._records.get(self.path, 0) + number

    @property
    def records(self) -> int:
        """Records that were read, each once."""
        return sum(list(self._records.values()))


WATCHED: Final[ContextVar[Watch | None]] = ContextVar("WATCHED", default=None)
"""What is told how far reading has come; nothing, unless somebody waits at a terminal."""


def hide_paths() -> None:
    """Make these libraries log warnings and errors only; a logger whose level is set is left unchanged."""
    import logging  # loaded only here: a local disk has none of them

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


def filesystem(path: StoragePath) -> AbstractFileSystem:
    """Return the filesystem of a path, with no cached listing.

    Filesystems of object stores answer from the listings they have made; what another process has
    written since would not be there.

    :param path: any path.
    :raises BatchError: ``staging-unreachable`` if no installed package supports its kind of storage.
    """
    hide_paths()
    found, kind = None, ""
    try:
        found = as_upath(path).fs
    except (ImportError, ValueError) as error:
        kind = type(error).__name__
    if found is None:
        raise BatchError("staging-unreachable", detail=kind)
    found.invalidate_cache()
    return found


def as_upath(path: StoragePath | str) -> UPath:
    """Return a path as one that may be in any storage; what it takes is loaded only here.

    One that is in a storage already stays what it is: another one, made of it, would not have its connection.
    """
    if not isinstance(path, (str, Path)):
        return path
    from upath import UPath

    return UPath(path)


def local_path(path: StoragePath) -> Path | None:
    """Return the path as a local one, or ``None`` if it is in other storage."""
    protocol: str | None = getattr(path, "protocol", None)
    if protocol is None:  # a plain one
        return cast("Path", path)
    return Path(cast("UPath", path).path) if protocol in _LOCAL_PROTOCOLS else None


def _is_in_object_store(path: StoragePath) -> bool:
    return local_path(path) is None and as_upath(path).protocol in _OBJECT_STORES


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
    except NotRegularError:
        raise BatchError("file-not-regular", file_number=file_number) from None
    except NotPermittedError:
        raise BatchError("file-not-permitted", file_number=file_number) from None
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
    except NotRegularError:
        raise BatchError("file-not-regular") from None
    except Exception as error:  # as above
        raise BatchError("staging-unwritable", detail=type(error).__name__) from None


def _open(path: StoragePath, below_root: int) -> IO[bytes]:
    on_disk = local_path(path)
    if on_disk is None:
        return cast("IO[bytes]", filesystem(path).open(as_upath(path).path, "rb"))
    if below_root == GIVEN:
        return on_disk.open("rb")
    return local.open_file(on_disk, below_root)


def read_blocks(
    path: StoragePath,
    *,
    below_root: int = IN_BATCH,
    missing: str = "file-missing",
    file_number: int | None = None,
) -> Iterator[bytes]:
    """Read a file from its start in blocks of at most ``READ_BYTES``.

    :param path: the file.
    :param below_root: how many of its last names lie below the staging root.
    :param missing: code of the error if the file is missing.
    :param file_number: number of the file in its manifest, for errors.
    """
    with reading(missing, file_number):
        file = _open(path, below_root)
    if (watch := WATCHED.get()) is not None:
        watch.begin(str(path))
    try:
        while True:
            with reading(missing, file_number):
                block = file.read(READ_BYTES)
            if not block:
                return
            if watch is not None:
                watch.add(len(block))
            yield block
    finally:
        file.close()


def read_at_most(path: StoragePath, limit: int, *, missing: str, below_root: int = IN_BATCH) -> bytes:
    """Read a small file whole, stopping one byte after a limit.

    :param path: the file.
    :param limit: bytes; a result longer than this means that the file is larger.
    :param missing: code of the error if the file is missing.
    :param below_root: how many of its last names lie below the staging root.
    """
    with reading(missing), _open(path, below_root) as file:
        return file.read(limit + 1)


def read_range(
    path: UPath, offset: int, length: int, *, missing: str, below_root: int = IN_WORK_AREA
) -> bytes:
    """Read a range of a file; the result is shorter only if the file is.

    :param path: the file.
    :param offset: first byte.
    :param length: number of bytes.
    :param missing: code of the error if the file is missing.
    :param below_root: how many of its last names lie below the staging root.
    """
    with reading(missing), _open(path, below_root) as file:
        file.seek(offset)
        return file.read(length)


def sha256_of(
    path: StoragePath,
    *,
    below_root: int = IN_BATCH,
    missing: str = "file-missing",
    file_number: int | None = None,
) -> str:
    """Return the sha256 of a file as stored, in hex, reading it once in blocks.

    :param path: the file.
    :param below_root: how many of its last names lie below the staging root.
    :param missing: code of the error if the file is missing.
    :param file_number: number of the file in its manifest, for errors.
    """
    import hashlib  # loaded only here: few files are digested

    digest = hashlib.sha256()
    for block in read_blocks(path, below_root=below_root, missing=missing, file_number=file_number):
        digest.update(block)
    return digest.hexdigest()


def info_of(path: StoragePath, below_root: int = IN_BATCH) -> Mapping[str, Any]:
    """Return what the storage says about a file or folder: its size, and what :func:`fingerprint` needs.

    :param path: the file.
    :param below_root: how many of its last names lie below the staging root.
    :raises FileNotFoundError: it does not exist; other errors are the storage's own, too.
    """
    on_disk = local_path(path)
    if on_disk is None:
        return cast("Mapping[str, Any]", filesystem(path).info(as_upath(path).path))
    return local.require_regular(local.entry(on_disk, below_root))


def exists(path: StoragePath, below_root: int) -> bool:
    """Return whether there is anything at a path, if only a link that leads nowhere.

    :param path: the path.
    :param below_root: how many of its last names lie below the staging root.
    """
    with reading():
        on_disk = local_path(path)
        if on_disk is None:
            return bool(filesystem(path).exists(as_upath(path).path))
        try:
            local.entry(on_disk, below_root)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def entries_of(folder: StoragePath, below_root: int) -> dict[str, Info]:
    """Return what is in a folder, by name; its ``type`` is ``directory``, ``file``, or one of a disk alone.

    :param folder: the folder.
    :param below_root: how many of its last names lie below the staging root.
    :raises FileNotFoundError: it does not exist; other errors are the storage's own, too.
    """
    on_disk = local_path(folder)
    if on_disk is not None:
        return local.entries(on_disk, below_root)
    folder = as_upath(folder)
    found: list[Info] = filesystem(folder).ls(folder.path, detail=True)
    named = ((_relative(info["name"], folder), info) for info in found)
    return {name: info for name, info in named if name and "/" not in name}


def entries_of_root(root: StoragePath) -> dict[str, Info]:
    """Return what is in the staging root, as :func:`entries_of` does.

    An empty folder holds nothing, and so does a prefix under which a bucket has no object. A folder or bucket
    that is not there, or a file in its place, is an error: a share may not be mounted, or a name be misspelt.

    :param root: the staging root.
    :raises BatchError: ``staging-root-missing`` or ``staging-unreadable``.
    """
    with reading("staging-root-missing"):
        try:
            entries = entries_of(root, GIVEN)
        except FileNotFoundError:
            if not _is_in_object_store(root):
                raise
            _require_bucket(as_upath(root))
            return {}
        if not entries:
            _require_no_file(root)
        return entries


def is_nowhere(root: StoragePath) -> bool:
    """Return whether a staging root is not there: no such folder, or no object under such a prefix.

    :param root: the staging root.
    :raises BatchError: ``staging-unreadable``.
    """
    with reading():
        try:
            entries = entries_of(root, GIVEN)
        except FileNotFoundError:
            return True
    return not entries and _is_in_object_store(root)


def _require_no_file(root: StoragePath) -> None:
    """Refuse a file, which storage that is no disk lists as if it were what is in it."""
    if local_path(root) is not None:
        return
    found: Info = {}
    with contextlib.suppress(Exception):  # the listing was answered; there may be no more to be asked
        found = filesystem(root).info(as_upath(root).path)
    if found.get("type") == "file" and not str(found.get("name", "")).endswith("/"):
        raise NotADirectoryError


def _require_bucket(root: UPath) -> None:
    try:
        filesystem(root).info(root.path.lstrip("/").partition("/")[0])
    except FileNotFoundError:
        raise
    except Exception:  # the listing was answered; not every account may ask about the bucket itself
        return


def names_storage(address: str) -> bool:
    """Return whether an address with ``://`` names a kind of storage, and a bucket or a path in it."""
    scheme, _, rest = address.partition("://")
    bucket = rest.partition("/")[0].rpartition("@")[2]
    return bool(scheme and (bucket if scheme in _OBJECT_STORES else rest.strip("/")))


def walked(folder: StoragePath, below_root: int, levels: int) -> dict[str, Info]:
    """Return what is in a folder and in those within it, by the name relative to it.

    :param folder: the folder; one that does not exist, or is none, holds nothing.
    :param below_root: how many of its last names lie below the staging root.
    :param levels: how many folders deep a disk is looked into; deeper ones are listed with a slash behind.
    """
    on_disk = local_path(folder)
    if on_disk is not None:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, NotRegularError):
            return dict(local.walked(on_disk, below_root, levels))
        return {}
    folder = as_upath(folder)
    found: dict[str, Info] = filesystem(folder).find(folder.path, detail=True)
    return {_relative(name, folder): info for name, info in found.items()}


def _relative(name: str, folder: UPath) -> str:
    """Return a listed name relative to its folder: storages differ in leading slashes and buckets."""
    return name.strip("/").removeprefix(folder.path.strip("/")).lstrip("/")


def make_folder(path: StoragePath, mode: int = PRIVATE_FOLDER, *, below_root: int = IN_BATCH - 1) -> None:
    """Make a folder, and those above it, where the storage has folders.

    :param path: the folder; nothing happens if it exists.
    :param mode: mode of a new local folder, less the umask.
    :param below_root: how many of its last names lie below the staging root.
    """
    with writing():
        on_disk = local_path(path)
        if on_disk is not None:
            local.make_folder(on_disk, below_root, mode)
        elif not _is_in_object_store(path):
            filesystem(path).makedirs(as_upath(path).path, exist_ok=True)


def remove_file(path: UPath) -> None:
    """Remove a file of a work area, or what lies in its place; nothing happens if it does not exist."""
    with writing():
        on_disk = local_path(path)
        if on_disk is not None:
            local.remove_file(on_disk, IN_WORK_AREA)
            return
        storage = filesystem(path)
        if storage.exists(path.path):
            storage.rm_file(path.path)


def remove_partial_files(folder: UPath, before: float | None = None, *, dry_run: bool = False) -> int:
    """Remove the temporary files of writers that were killed from a local work area; return how many.

    Object stores have no such thing: an upload that was not completed is no object.

    :param folder: the work area; nothing happens if it does not exist.
    :param before: only what was last written to before this moment, in seconds since 1970.
    :param dry_run: only count.
    """
    on_disk = local_path(folder)
    with writing():
        if on_disk is None:
            return 0
        return local.remove_partial_files(on_disk, IN_WORK_AREA - 1, before, dry_run=dry_run)


def size_of(path: UPath) -> int:
    """Return the size of a file of a work area in bytes, 0 if it does not exist."""
    with reading():
        try:
            return int(info_of(path, IN_WORK_AREA)["size"])
        except FileNotFoundError:
            return 0


def modified_at(path: UPath) -> datetime | None:
    """Return when a file of a work area was last written.

    :param path: the file.
    :return: the time; ``None`` if the file does not exist or its storage does not say.
    """
    with reading():
        try:
            if local_path(path) is not None:
                return datetime.fromtimestamp(info_of(path, IN_WORK_AREA)["mtime"], UTC)
            found = filesystem(path).modified(path.path)
        except (FileNotFoundError, NotImplementedError, KeyError):
            return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else cast("datetime", found)


def remove_folder(path: StoragePath, *, below_root: int = IN_BATCH - 1) -> None:
    """Remove a folder with all its contents; nothing happens if it does not exist.

    :param path: the folder.
    :param below_root: how many of its last names lie below the staging root.
    """
    with writing():
        on_disk = local_path(path)
        if on_disk is not None:
            local.remove_folder(on_disk, below_root)
            return
        path = as_upath(path)
        files = filesystem(path).find(path.path)
        if files:
            filesystem(path).rm(files)
        with contextlib.suppress(FileNotFoundError):  # memory:// and the like keep empty folders
            filesystem(path).rmdir(path.path)


def write_whole(
    path: StoragePath, content: bytes, mode: int = PRIVATE_FILE, *, below_root: int = IN_WORK_AREA
) -> None:
    """Write a small file so that a reader sees all of it or nothing.

    :param path: where; its folder exists.
    :param content: the whole file.
    :param mode: mode of a local file, less the umask.
    :param below_root: how many of its last names lie below the staging root.
    """
    if local_path(path) is None:
        with writing():
            filesystem(path).pipe_file(as_upath(path).path, content)  # one put
        return
    with WholeFileWriter(path, mode, below_root=below_root) as file:
        file.write(content)


class WholeFileWriter:
    """A file being written; it appears under its name only if all went well.

    On a local disk the bytes go to a temporary name in the same folder, which is synced and renamed.
    Object stores show a file once its upload is complete; after an error the upload is aborted.

    :param path: where the file is to be; its folder exists.
    :param mode: mode of a local file, less the umask.
    :param below_root: how many of its last names lie below the staging root.
    """

    def __init__(
        self, path: StoragePath, mode: int = PRIVATE_FILE, *, below_root: int = IN_WORK_AREA
    ) -> None:
        self._path = path
        self._mode = mode
        self._below_root = below_root
        self._file: Any = None
        self.size = 0

    def __enter__(self) -> Self:
        on_disk = local_path(self._path)
        with writing():
            if on_disk is None:
                self._file = filesystem(self._path).open(as_upath(self._path).path, "wb")
            else:
                self._file = LocalWriter(on_disk, self._below_root, self._mode)
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
            if isinstance(self._file, LocalWriter):
                self._file.publish()
            else:
                self._file.close()
        except BaseException:
            self._abort()
            raise

    def _abort(self) -> None:
        """Leave nothing behind; the error that led here matters more than one during cleanup."""
        with contextlib.suppress(Exception):
            if isinstance(self._file, LocalWriter):
                self._file.abort()
            elif _is_buffered(self._file):
                # Closing it, as its end would do too, would complete the upload.
                self._file.closed = True
                self._file.discard()
            else:
                self._file.close()
                filesystem(self._path).rm_file(as_upath(self._path).path)


def _is_buffered(file: object) -> bool:
    """Return whether a file in other storage is uploaded when it is closed."""
    from fsspec.spec import AbstractBufferedFile

    return isinstance(file, AbstractBufferedFile)
