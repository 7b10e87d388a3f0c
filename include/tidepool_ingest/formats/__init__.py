"""How files hold records: one module, one reader and one entry here for each format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import Any, Final, Self

from upath import UPath

from tidepool_ingest.formats.clarity import ClarityReader
from tidepool_ingest.formats.json_array import JsonArrayReader
from tidepool_ingest.formats.libreview import LibreViewReader
from tidepool_ingest.formats.ndjson import NdjsonReader
from tidepool_ingest.formats.nightscout import NightscoutReader
from tidepool_ingest.formats.quarantine import QuarantineReader
from tidepool_ingest.formats.reader import Block, Device, Reader, ReadingContext
from tidepool_ingest.formats.table import TableReader, mapping_of
from tidepool_ingest.formats.tidepool_export import TidepoolExportReader
from tidepool_ingest.formats.tidepool_export.telling import (
    CODES,
    UPLOAD_ID,
    ExportKind,
    ExportKindError,
    ExportSigns,
)
from tidepool_ingest.formats.tidepool_web_export import TidepoolWebExportReader
from tidepool_ingest.staging import manifest as manifests
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions, Manifest, StagedFile
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN, WATCHED, read_at_most

FORMATS: Final[dict[str, type[Reader]]] = {
    reader.name: reader
    for reader in (
        NdjsonReader,
        JsonArrayReader,
        TidepoolExportReader,
        TidepoolWebExportReader,
        TableReader,
        QuarantineReader,
        LibreViewReader,
        ClarityReader,
        NightscoutReader,
    )
}
"""The reader of each format, by its name."""

RECORDS_FORMAT: Final = NdjsonReader.name
"""The format in which records are staged, and as which unrecognized text is read."""


def read_manifest(folder: UPath, folder_user_id: str | None) -> Manifest:
    """Read the manifest of a batch, which may only name formats that have a reader.

    :param folder: the batch folder.
    :param folder_user_id: the user whose folder it lies in, ``None`` for one that lies outside staging.
    :raises BatchError: see :func:`tidepool_ingest.staging.manifest.read_manifest`; ``file-missing`` or
        ``table-mapping`` for the mapping of a table.
    """
    known = [name for name, reader in FORMATS.items() if reader.in_manifests]
    manifest = manifests.read_manifest(folder, folder_user_id, formats=known)
    for index, file in enumerate(manifest.files):
        if untaken := sorted(file.given.keys() - taken_options(file.format)):
            raise BatchError(
                "manifest-malformed",
                detail=f"/files/{index}/{untaken[0]}: format {file.format} does not take it",
            )
    files = tuple(_with_mapping(folder, number, file) for number, file in enumerate(manifest.files, 1))
    return manifest.model_copy(update={"files": files})


def _with_mapping(folder: UPath, number: int, file: StagedFile) -> StagedFile:
    """Return a file with the mapping of its table in the place of the mapping's file name."""
    if FORMATS[file.format].options.isdisjoint({"table"}):
        return file
    raw: object = file.table
    if isinstance(raw, str):
        content = read_at_most(folder / raw, manifests.MAX_MANIFEST_BYTES, missing="file-missing")
        if len(content) > manifests.MAX_MANIFEST_BYTES:
            raise BatchError("table-mapping", file_number=number, detail="its file is too large")
        try:
            raw = manifests.strict_json(content)
        except manifests.StrictJsonError as error:
            raise BatchError("table-mapping", file_number=number, detail=error.detail) from None
    mapping_of(raw, number)
    return file.model_copy(update={"table": raw})


def taken_options(name: str) -> frozenset[str]:
    """Return which options a file of a format takes, as the manifest calls them.

    :param name: the format.
    """
    return frozenset(FileOptions.model_fields[option].alias or option for option in FORMATS[name].options)


def converters_of(manifest: Manifest) -> dict[str, int]:
    """Return what makes the records of a batch from its rows: the versions of its formats' readers.

    :param manifest: the batch's manifest; formats whose rows are records are left out.
    """
    versions = {file.format: FORMATS[file.format].version for file in manifest.files}
    return {name: version for name, version in versions.items() if version}


def guess_format(source: UPath) -> str:
    """Return the name of a data file's format by how the file begins.

    An export of Tidepool's is not recognized by that: :func:`recognized_format` looks at its rows as well.

    :param source: the data file.
    :raises BatchError: it cannot be read or expanded, or is no text of records.
    """
    file = SourceFile(source, RECORDS_FORMAT, below_root=GIVEN)
    if name := _recognized_table(file.start()):
        return name
    for piece in file.text():
        if start := piece.lstrip():
            others = (name for name, reader in FORMATS.items() if not reader.has_own_rows)
            recognized = (name for name in others if FORMATS[name].recognizes(start))
            return next(recognized, RECORDS_FORMAT)
    raise BatchError("file-empty")


def _recognized_table(start: bytes) -> str | None:
    tables = (name for name, reader in FORMATS.items() if reader.has_own_rows and reader.recognizes(start))
    return next(tables, None)


_EXPORTS: Final = {reader.kind: reader.name for reader in (TidepoolExportReader, TidepoolWebExportReader)}


def is_export(name: str) -> bool:
    """Return whether files of a format are exports of Tidepool, which their rows tell from each other.

    :param name: the format.
    """
    return name in _EXPORTS.values()


def may_be_export(name: str) -> bool:
    """Return whether a file that begins as one of this format may turn out to be an export of Tidepool.

    :param name: the format.
    """
    return is_export(name) or FORMATS[name] in (NdjsonReader, JsonArrayReader)


def told_format(name: str, signs: ExportSigns) -> str:
    """Return the format of a file whose rows have been seen: they say more than its name or its beginning.

    :param name: its format by its beginning, or one of Tidepool's exports.
    :param signs: what its rows show.
    :raises ExportKindError: it mixes both exports, or may be either where that matters.
    """
    found = signs.kind(is_export=is_export(name))
    if found in _EXPORTS:
        return _EXPORTS[found]
    if is_export(name):
        signs.check(next(kind for kind, export in _EXPORTS.items() if export == name))
    elif found is not ExportKind.EITHER:
        raise ExportKindError(CODES[found])
    return name


def recognized_format(source: UPath) -> str:
    """Return the name of a data file's format by how it begins, and by all of its rows where that matters.

    Only of a file whose first record names its data set are all rows looked at.

    :param source: the data file.
    :raises BatchError: it cannot be read or expanded.
    :raises ExportKindError: as for :func:`told_format`.
    """
    name = guess_format(source)
    if not may_be_export(name):
        return name
    signs = ExportSigns()
    with SourceReader([SourceFile(source, name, below_root=GIVEN)], as_rows=True) as reader:
        for number, block in enumerate(reader):
            if number == 0 and not (is_export(name) or _begins_as_export(block)):
                return name
            signs.see_block(block)
    return told_format(name, signs)


class PlainFiles:
    """Sees whether files said to hold plain records are exports of Tidepool's web page, in bounded memory.

    Only a file whose first record names its data set, as all of an export do, is looked at further.

    :param files: the files of a batch, of whatever format.
    """

    def __init__(self, files: Iterable[SourceFile]) -> None:
        plain = (file for file in files if may_be_export(file.format) and not is_export(file.format))
        self._plain = {_number_of(file) for file in plain}
        self._signs: dict[int, ExportSigns | None] = {}

    def see(self, block: Block) -> None:
        """Look at a block of records as staged."""
        if block.file_number not in self._signs:
            begins_as_one = block.file_number in self._plain and _begins_as_export(block)
            self._signs[block.file_number] = ExportSigns() if begins_as_one else None
        signs = self._signs[block.file_number]
        if signs is not None:
            signs.see_block(block)

    def check(self) -> None:
        """Hold the batch, now that all blocks were seen, if a file has durations in minutes, or may.

        :raises ExportKindError: saying which format to name, or what to find out.
        """
        for number, signs in self._signs.items():
            found = ExportKind.EITHER if signs is None else signs.kind(is_export=False)
            if found not in (ExportKind.EITHER, ExportKind.DATA_API):
                raise ExportKindError(CODES[found], file_number=number)


def _begins_as_export(block: Block) -> bool:
    """Return whether the first record of a file names its data set, as all of an export do."""
    return any(UPLOAD_ID.encode() in line for line in block.lines[:1])


class SourceReader:
    """Reads some files in order, each with the reader of its format; to be used in a ``with`` statement.

    Iterating yields the blocks of all files, once, and checks each file against its manifest. Memory does not
    grow with the files.

    :param files: the files.
    :param context: what the readers may ask about the batch.
    :param as_rows: whether to yield rows unchanged, rather than the records that they give.
    """

    def __init__(
        self, files: Sequence[SourceFile], context: ReadingContext | None = None, *, as_rows: bool = False
    ) -> None:
        self._as_rows = as_rows
        self._files = files
        self._readers = _readers_of(files, context or ReadingContext())
        self._distinct_readers = list(dict.fromkeys(self._readers))
        self._stack = ExitStack()
        self.rows: Counter[int] = Counter()
        """How many rows were read, by number of the file."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for reader in self._distinct_readers:
                stack.callback(reader.close)
                if not self._as_rows:
                    reader.survey()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    @property
    def changes(self) -> Counter[str]:
        """How many records the readers have changed, by field."""
        return sum((reader.changes for reader in self._distinct_readers), Counter[str]())

    @property
    def embedded(self) -> AbstractSet[int]:
        """Digests of the contents that are sent inside another record, and so not on their own."""
        return frozenset().union(*(reader.embedded for reader in self._distinct_readers))

    def devices(self) -> list[Device]:
        """Return which devices the files tell of, once they were surveyed; none where records name them."""
        return [device for reader in self._distinct_readers for device in reader.devices()]

    @property
    def has_names(self) -> bool:
        """Whether rows have names of their own, so that a later export replaces what it changes."""
        return any(reader.has_names for reader in self._distinct_readers)

    @property
    def ending(self) -> str:
        """How the name of the first file ends, where it goes into a batch as it is."""
        return self._readers[0].ending

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks of all files, each with the number of its file.

        :raises BatchError: a file is missing, empty, damaged, not of its stated format, or not the one
            that the manifest means.
        """
        watch = WATCHED.get()
        for file, reader in zip(self._files, self._readers, strict=True):
            for block in reader.rows(file) if self._as_rows else reader.blocks(file):
                number = block.file_number = block.file_number or _number_of(file)
                self.rows[number] += block.rows
                if watch is not None:
                    watch.add_records(len(block))
                yield block
            for finished in reader.files if file is reader.files[-1] else ():
                if not self.rows[_number_of(finished)]:
                    raise BatchError("file-empty", file_number=finished.number)
                finished.check(self.rows[_number_of(finished)])


def _number_of(file: SourceFile) -> int:
    return file.number or 1


def _readers_of(files: Sequence[SourceFile], context: ReadingContext) -> list[Reader]:
    """Return the reader of each file; those of a format that joins them share one."""
    joined: dict[str, Reader] = {}
    readers = []
    for file in files:
        kind = FORMATS[file.format]
        if not kind.joins_files:
            readers.append(kind((file,), context))
            continue
        if file.format not in joined:
            together = [other for other in files if other.format == file.format]
            joined[file.format] = kind(together, context)
        readers.append(joined[file.format])
    return readers
