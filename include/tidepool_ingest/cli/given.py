"""What a command is given to read, as it was typed: files, folders, the standard input, pipes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Final, NoReturn

from tidepool_ingest.cli.arguments import CommandError, given_path, reading_data_file
from tidepool_ingest.errors import IngestError
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.staging.compression import COMPRESSION_BYTES, compression_in
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import MANIFEST_NAME
from tidepool_ingest.staging.storage import (
    GIVEN,
    READ_BYTES,
    WATCHED,
    StoragePath,
    as_upath,
    entries_of,
    filesystem,
    local_path,
    reading,
)

STANDARD_INPUT: Final = "-"

WHAT_A_FOLDER_IS: Final = (
    "Folders are taken, too: one with manifest.json is a batch, read as its manifest says; a day folder, a "
    "person's in it or a staging root stands for each of its ready batches; any other one for the files in "
    "it, in order of their names."
)
"""What is said of folders in ``--help``."""

_HIDDEN: Final = (".", "_")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Given:
    """A data file or a batch.

    :param typed: what it is called: as it was typed, with what is below a folder that was typed behind it.
    :param path: where it is; of what can be read only once, nowhere that it could be read again.
    :param is_batch: whether it is the folder of a batch.
    """

    typed: str
    path: StoragePath = field(repr=False)
    is_batch: bool = False

    @property
    def batch(self) -> StoragePath | None:
        """The folder of the batch, if it is one."""
        return self.path if self.is_batch else None

    @property
    def size(self) -> int | None:
        """How many bytes it has, ``None`` where nobody knows that before it is read."""
        local = None if self.typed == STANDARD_INPUT else local_path(self.path)
        if local is None:
            return None
        try:
            if self.is_batch:
                return sum(entry.stat().st_size for entry in os.scandir(local) if entry.is_file())
            return local.stat().st_size if local.is_file() else None
        except OSError:
            return None

    @contextmanager
    def file(self) -> Iterator[StoragePath]:
        """Provide the file for the length of a ``with`` statement.

        Readers begin again where they have to. So what can be read only once, ``-`` for the standard input or
        a pipe such as ``<(…)``, is copied to a temporary file that nobody else may read.
        """
        if self.typed == STANDARD_INPUT:
            if sys.stdin is None:
                raise CommandError("There is no standard input.", "Name a file.")
            with _copied(sys.stdin.buffer, self.typed) as copy:
                yield copy
            return
        with readable(self.path) as path:
            yield path


@contextmanager
def readable(path: StoragePath) -> Iterator[StoragePath]:
    """Provide a file that can be read as often as needed, a copy of a pipe, while in a ``with`` statement.

    :param path: the file.
    """
    local = local_path(path)
    if local is None or local.is_file() or local.is_dir() or not local.exists():
        yield path
        return
    with local.open("rb") as stream, _copied(stream, str(path)) as copy:
        yield copy


@contextmanager
def about(typed: str, batch: StoragePath | None = None, file: StoragePath | None = None) -> Iterator[None]:
    """Let an error in a ``with`` block name what it is about, on the terminal of the command.

    :param typed: the file or folder, as it was typed; may be left empty.
    :param batch: the folder, if it is that of a batch, whose files may be quoted there.
    :param file: the data file, if it is one, in which the line is looked for.
    """
    try:
        yield
    except IngestError as error:
        # Loaded only here: nobody needs it as long as all goes well.
        from tidepool_ingest.cli.quoting import line_of, quoted

        if not error.typed:
            line = None if file is None else line_of(error, file)
            error.typed = typed if line is None else f"{typed}, line {line}"
        if batch is not None:
            error.on_terminal = quoted(error, batch)
        raise


def given(texts: Sequence[str]) -> list[Given]:
    """Return what some arguments name, in their order; nothing is opened.

    :param texts: the arguments.
    :raises IngestError: one of them names nothing, or a folder that cannot be meant.
    """
    if texts.count(STANDARD_INPUT) > 1:
        raise CommandError("The standard input can be read once.", "Name - once.")
    found: list[Given] = []
    for text in texts:
        with about(text), reading_data_file():
            found += _named_by(text)
    return found


def files_only(things: Sequence[Given], what: str, remedy: str) -> None:
    """Make sure that no batch is among what was given.

    :param things: what was given.
    :param what: why that cannot be meant, a sentence.
    :param remedy: what to do, another one.
    """
    for one in things:
        if one.is_batch:
            with about(one.typed):
                raise CommandError(what, remedy)


def _named_by(text: str) -> Iterator[Given]:
    if text == STANDARD_INPUT:
        yield Given(text, Path(text))
        return
    path = given_path(text)
    local = local_path(path)
    if path.name == MANIFEST_NAME:
        yield Given(text, path.parent, is_batch=True)
    elif local is not None and not os.path.lexists(local):
        raise BatchError("file-missing")
    elif local.is_dir() if local is not None else _is_folder(path):
        yield from _in_folder(text, path)
    else:
        yield Given(text, path)


def _is_folder(path: StoragePath) -> bool:
    with reading():
        return bool(filesystem(path).isdir(as_upath(path).path))


def _in_folder(text: str, path: StoragePath) -> Iterator[Given]:
    """Yield what a folder stands for."""
    with reading():
        entries = entries_of(path, GIVEN)
    if MANIFEST_NAME in entries:
        yield Given(text, path, is_batch=True)
        return
    local = local_path(path)
    whole = Path(os.path.normpath(local.absolute())) if local is not None else path
    shown = sorted(name for name in entries if not name.startswith(_HIDDEN))
    # What a person names may lie behind links.
    folders = [
        name
        for name in shown
        if (entries[name]["type"] == "directory" if local is None else (local / name).is_dir())
    ]
    here, above, above_that = whole.name, whole.parent.name, whole.parent.parent.name
    if is_user_id(above) and _is_day(above_that):
        raise BatchError("manifest-missing")
    if any(map(_is_day, folders)):
        yield from _batches(text, path, path)
    elif _is_day(here) and (not shown or any(map(is_user_id, folders))):
        yield from _batches(text, path, whole.parent, here)
    elif is_user_id(here) and _is_day(above):
        yield from _batches(text, path, whole.parent.parent, above, here)
    elif folders:
        _refuse("The folder holds other folders, and is no batch, day or staging root.")
    elif not shown:
        _refuse("There is nothing in the folder that could be read.")
    elif local is not None and not all((local / name).is_file() for name in shown):
        _refuse(
            "Not all in the folder are files: a pipe, a socket or a link that leads nowhere is among them."
        )
    else:
        for name in shown:
            yield Given(f"{text.rstrip('/')}/{name}", path / name)


def _refuse(what: str) -> NoReturn:
    raise CommandError(what, "Name files, a folder of files, or a batch, a day or a root of staging.")


def _batches(
    text: str, path: StoragePath, root: StoragePath, day: str = "", user: str = ""
) -> Iterator[Given]:
    """Yield the ready batches of a staging root, one of its days, or a person's of that day."""
    # Loaded only here: nobody needs it for a file.
    from tidepool_ingest.staging.batches import Ignored, list_batches

    first, last = (date.fromisoformat(day),) * 2 if day else (date.min, date.max)
    ignored, found = Ignored(), 0
    below = len([part for part in (day, user) if part])
    for listed in list_batches(root, first, last, ignored):
        folder = listed.folder
        if user in ("", folder.user_id):
            found += 1
            rest = "/".join(folder.name.split("/")[below:])
            yield Given(f"{text.rstrip('/')}/{rest}", path / rest, is_batch=True)
    if ignored.counts and not user:
        left = ", ".join(f"{number} {reason}" for reason, number in sorted(ignored.counts.items()))
        print(f"{text}: left out are folders and files that are no ready batches: {left}", file=sys.stderr)
    if not found:
        _refuse("There is no ready batch in the folder.")


def _is_day(name: str) -> bool:
    try:
        return bool(_DAY.fullmatch(name) and date.fromisoformat(name))
    except ValueError:
        return False


@contextmanager
def _copied(stream: IO[bytes], typed: str) -> Iterator[StoragePath]:
    start = stream.read(COMPRESSION_BYTES)
    kind = compression_in(start)
    suffix = ".ndjson" if kind == "none" else f".ndjson.{kind}"
    if (watch := WATCHED.get()) is not None:
        watch.begin(typed)
    from tempfile import NamedTemporaryFile  # loaded only here: most files can be read again

    with NamedTemporaryFile(prefix="tidepool-ingest-", suffix=suffix) as copy:
        copy.write(start)
        while block := stream.read(READ_BYTES):
            copy.write(block)
            if watch is not None:
                watch.add(len(block))
        copy.flush()
        yield Path(copy.name)
