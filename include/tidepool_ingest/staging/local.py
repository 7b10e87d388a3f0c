"""Staging on a local disk: below the staging root, only regular files and folders count.

Whoever may write into staging could lay a link to another person's data there, or a named pipe that never
ends. So each name below the root is opened in the folder that was opened before it, without following links
and without waiting, and an opened file is looked at once more: nothing can be swapped in between. The root
itself, and what is above it, may be reached through links. A hard link cannot be told from its file.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

PART_SUFFIX: Final = ".part"
"""End of the name under which a file is written until it is complete."""

Info = dict[str, Any]
"""What is said about an entry: its ``size``, ``mtime`` and ``type``.

The latter is ``file``, ``directory``, ``closed`` for a folder that this account may not list, or ``other``.
"""

_FOLDER: Final = os.O_DIRECTORY | os.O_CLOEXEC
_NO_LINK: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_THROUGH: Final = getattr(os, "O_PATH", os.O_RDONLY)
"""To pass through a folder, which takes no right to list it; macOS has no such thing."""
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _NO_LINK
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK


class NotRegularError(OSError):
    """Where a file or folder belongs, there is a link, a named pipe, a socket or a device."""


class NotPermittedError(PermissionError):
    """A file or folder below the staging root may not be read by this account."""


@contextmanager
def _below() -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise NotPermittedError from None


def _split(path: Path, below_root: int) -> tuple[Path, tuple[str, ...]]:
    """Return the staging root of a path, and the names below it."""
    parts = path.parts
    cut = max(len(parts) - below_root, 1 if path.is_absolute() else 0)
    return Path(*parts[:cut]), parts[cut:]


def _lstat(folder: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _info(found: os.stat_result) -> Info:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}
    kind = kinds.get(stat.S_IFMT(found.st_mode), "other")
    return {"type": kind, "size": found.st_size, "mtime": found.st_mtime}


def require_regular(info: Info) -> Info:
    """Return what was said about an entry, if it is a file or a folder.

    :raises NotRegularError: it is something else.
    """
    if info["type"] == "other":
        raise NotRegularError
    return info


def _enter(folder: int, name: str, access: int) -> int:
    try:
        return os.open(name, access | _FOLDER | _NO_LINK, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            require_regular(_info(_lstat(folder, name)))
        raise


@contextmanager
def opened_folder(path: Path, below_root: int, *, access: int = _THROUGH) -> Iterator[int]:
    """Open a folder for the length of a ``with`` block.

    :param path: the folder.
    :param below_root: how many of its last names lie below the staging root.
    :param access: what it is opened for.
    :raises NotRegularError: one of these names is a link or the like.
    """
    root, names = _split(path, below_root)
    folder = os.open(root, _FOLDER | (_THROUGH if names else access))
    try:
        for number, name in enumerate(names, 1):
            with _below():
                inner = _enter(folder, name, access if number == len(names) else _THROUGH)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


@contextmanager
def _parent(path: Path, below_root: int) -> Iterator[int]:
    with opened_folder(path.parent, max(below_root - 1, 0)) as folder:
        yield folder


def open_file(path: Path, below_root: int) -> BinaryIO:
    """Open a regular file for reading.

    :param path: the file.
    :param below_root: how many of its last names lie below the staging root.
    :raises NotRegularError: it, or a folder on the way, is a link or the like.
    :raises NotPermittedError: this account may not read it.
    """
    with _parent(path, below_root) as folder, _below():
        # Looked at before, because opening a device can do something; and after, because it may be another.
        require_regular(_info(_lstat(folder, path.name)))
        try:
            opened = os.open(path.name, _READ, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP):  # a link, a socket
                raise NotRegularError from None
            raise
    try:
        if require_regular(_info(os.fstat(opened)))["type"] == "directory":
            raise IsADirectoryError
        return os.fdopen(opened, "rb")
    except BaseException:
        os.close(opened)
        raise


def entry(path: Path, below_root: int) -> Info:
    """Return what is at a path, whatever it is.

    :param path: a file or folder.
    :param below_root: how many of its last names lie below the staging root.
    :raises NotRegularError: a folder on the way is a link or the like.
    """
    with _parent(path, below_root) as folder, _below():
        return _info(_lstat(folder, path.name))


def entries(path: Path, below_root: int) -> dict[str, Info]:
    """Return what is in a folder, by name.

    :param path: the folder.
    :param below_root: how many of its last names lie below the staging root.
    :raises NotRegularError: it, or a folder on the way, is a link or the like.
    """
    with (
        opened_folder(path, below_root, access=os.O_RDONLY) as folder,
        _below() if below_root else nullcontext(),
    ):
        return dict(_entries(folder))


def walked(path: Path, below_root: int, levels: int) -> Iterator[tuple[str, Info]]:
    """Yield what is in a folder and in those within it, by the name relative to it.

    A folder that is not looked into is yielded with a slash behind its name; one that this account may not
    list, as ``closed`` (the folder itself by an empty name).

    :param path: the folder.
    :param below_root: how many of its last names lie below the staging root.
    :param levels: how many folders deep to look into others.
    """
    with ExitStack() as opened:
        try:
            folder = opened.enter_context(opened_folder(path, below_root, access=os.O_RDONLY))
            found = _entries(folder)
        except PermissionError:
            yield "", {"type": "closed"}
            return
        yield from _walked(folder, found, "", levels)


def _entries(folder: int) -> list[tuple[str, Info]]:
    """Return what is in a folder.

    :raises PermissionError: its names may be listed, and nothing be said about them (mode 0644).
    """
    entries = []
    with os.scandir(folder) as found:
        for each in found:
            with suppress(FileNotFoundError):  # it has just been removed
                entries.append((each.name, _info(each.stat(follow_symlinks=False))))
    return entries


def _walked(
    folder: int, entries: list[tuple[str, Info]], above: str, levels: int
) -> Iterator[tuple[str, Info]]:
    for name, info in entries:
        if info["type"] != "directory":
            yield f"{above}{name}", info
            continue
        if levels == 0:
            yield f"{above}{name}/", info
            continue
        with ExitStack() as opened:
            try:
                inner = _enter(folder, name, os.O_RDONLY)
                opened.callback(os.close, inner)
                found = _entries(inner)
            except FileNotFoundError:
                continue
            except (NotRegularError, NotADirectoryError):  # exchanged since
                yield f"{above}{name}", {**info, "type": "other"}
                continue
            except PermissionError:
                yield f"{above}{name}", {**info, "type": "closed"}
                continue
            yield from _walked(inner, found, f"{above}{name}/", levels - 1)


def make_folder(path: Path, below_root: int, mode: int) -> None:
    """Make a folder, and those above it; nothing happens if it exists.

    :param path: the folder.
    :param below_root: how many of its last names lie below the staging root.
    :param mode: of the folder itself, less the umask.
    :raises NotRegularError: one of these names is a link or the like.
    """
    root, names = _split(path, below_root)
    root.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        folder = opened.enter_context(opened_folder(root, 0))
        for number, name in enumerate(names, 1):
            try:
                # First, because NFS may answer that this account may make no folder, although there is one.
                inner = _enter(folder, name, _THROUGH)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(name, mode if number == len(names) else 0o777, dir_fd=folder)
                inner = _enter(folder, name, _THROUGH)
            opened.callback(os.close, inner)
            folder = inner


def remove_file(path: Path, below_root: int) -> None:
    """Remove a file, or what lies in its place, but not what a link leads to.

    :param path: the file; nothing happens if it does not exist.
    :param below_root: how many of its last names lie below the staging root.
    :raises NotRegularError: a folder on the way is a link or the like.
    """
    with suppress(FileNotFoundError), _parent(path, below_root) as folder:
        os.unlink(path.name, dir_fd=folder)


def remove_folder(path: Path, below_root: int) -> None:
    """Remove a folder with all its contents, but not what links in it lead to.

    :param path: the folder; nothing happens if it does not exist.
    :param below_root: how many of its last names lie below the staging root.
    :raises NotRegularError: it, or a folder on the way, is a link or the like.
    """
    try:
        require_regular(entry(path, below_root))
    except FileNotFoundError:
        return
    with _parent(path, below_root) as folder:
        shutil.rmtree(path.name, dir_fd=folder)  # which follows no link, and is no link's


def remove_partial_files(path: Path, below_root: int, before: float | None, *, dry_run: bool = False) -> int:
    """Remove the temporary files of writers that were killed; return how many.

    :param path: the folder; nothing happens if it does not exist, or may not be listed.
    :param below_root: how many of its last names lie below the staging root.
    :param before: only what was last written to before this moment, in seconds since 1970.
    :param dry_run: only count.
    """
    removed = 0
    with ExitStack() as opened:
        try:
            folder = opened.enter_context(opened_folder(path, below_root, access=os.O_RDONLY))
            found = _entries(folder)
        except (FileNotFoundError, PermissionError):
            return 0
        for name, info in found:
            is_partial = name.startswith(".") and name.endswith(PART_SUFFIX)
            if not is_partial or info["type"] == "directory" or (before and info["mtime"] >= before):
                continue
            with suppress(FileNotFoundError):  # its writer may have just finished
                if not dry_run:
                    os.unlink(name, dir_fd=folder)
                removed += 1
    return removed


class LocalWriter:
    """Writes a file under a temporary name in its folder, which is renamed when the file is complete.

    :param path: where the file is to be; its folder exists.
    :param below_root: how many of its last names lie below the staging root.
    :param mode: of the file, less the umask.
    :raises NotRegularError: it, or a folder on the way, is a link or the like.
    """

    def __init__(self, path: Path, below_root: int, mode: int) -> None:
        self._name = path.name
        self._temporary = f".{path.name}.{os.urandom(4).hex()}{PART_SUFFIX}"
        with ExitStack() as opened:
            self._folder = opened.enter_context(_parent(path, below_root))
            with suppress(FileNotFoundError):
                require_regular(_info(_lstat(self._folder, self._name)))
            descriptor = os.open(self._temporary, _CREATE, mode, dir_fd=self._folder)
            self._file = os.fdopen(descriptor, "wb")
            self._opened = opened.pop_all()

    def write(self, content: bytes) -> None:
        """Append bytes."""
        self._file.write(content)

    def publish(self) -> None:
        """Let the file appear under its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._opened.close()

    def abort(self) -> None:
        """Leave nothing behind."""
        with self._opened:
            try:
                self._file.close()
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self._folder)
