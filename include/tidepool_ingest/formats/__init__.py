"""How files hold records: one module, one reader and one entry here for each format."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from tidepool_ingest.formats.lines import may_be_one
from tidepool_ingest.formats.ndjson import NdjsonReader
from tidepool_ingest.formats.reader import Block, Device, Reader, ReadingContext
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN, WATCHED, StoragePath, read_at_most

if TYPE_CHECKING:
    from tidepool_ingest.formats.tidepool_export.telling import ExportSigns
    from tidepool_ingest.staging.manifest import Manifest, StagedFile


_BEGINS_AS_JSON: Final = re.compile(rb'\s*(?:\{\s*["}]|\[\s*[\[{\]])')
"""An object, or an array of such; a table may begin with a bracket, too."""


class Entry(NamedTuple):
    """Where the reader of a format is, and what of it is asked of every file: only then is it imported.

    :param module: the module, below this package.
    :param reader: the class in it.
    :param in_manifests: as in the class.
    :param has_own_rows: as in the class.
    :param is_recognized: whether it recognizes any text by its beginning.
    :param json_signs: of what a JSON text has to hold for the class to recognize it: one of these names;
        ``()`` for a class that recognizes none.
    :param may_be: says the same of a text in place of ``json_signs``, of whatever kind the text is.
    """

    module: str
    reader: str
    in_manifests: bool = True
    has_own_rows: bool = False
    is_recognized: bool = True
    json_signs: tuple[bytes, ...] = ()
    may_be: Callable[[bytes], bool] | None = None

    def load(self) -> type[Reader]:
        """Import the class."""
        found: type[Reader] = getattr(import_module(f"{__name__}.{self.module}"), self.reader)
        return found

    def may_recognize(self, start: bytes) -> bool:
        """Return whether the class may recognize a text."""
        if self.may_be is not None:
            return self.may_be(start)
        if not _BEGINS_AS_JSON.match(start):
            return self.is_recognized
        # A name may be written in escapes, if nobody does.
        return self.is_recognized and any(
            sign in start for sign in (*self.json_signs, b"\\u") if self.json_signs
        )


class Formats(MutableMapping[str, type[Reader]]):
    """The readers by the names of their formats; what is an entry still is imported when it is asked for.

    :param readers: the formats in the order in which they are tried.
    """

    def __init__(self, readers: Mapping[str, Entry | type[Reader]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, name: str) -> type[Reader]:
        reader = self._readers[name]
        if isinstance(reader, Entry):
            reader = self._readers[name] = reader.load()
        return reader

    def __setitem__(self, name: str, reader: type[Reader]) -> None:
        self._readers[name] = reader

    def __delitem__(self, name: str) -> None:
        del self._readers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def in_manifests(self) -> list[str]:
        """Return the names of the formats that a manifest may name."""
        return [name for name, reader in self._readers.items() if reader.in_manifests]

    def recognized(self, start: bytes, *, has_own_rows: bool) -> str | None:
        """Return the name of the format that recognizes a text.

        :param start: the beginning of the text.
        :param has_own_rows: whether of the formats with rows of their own, or of the others.
        """
        for name, reader in [*self._readers.items()]:
            if reader.has_own_rows != has_own_rows:
                continue
            may = reader.may_recognize(start) if isinstance(reader, Entry) else True
            if may and self[name].recognizes(start):
                return name
        return None


_ARRAY_FORMAT: Final = "json"

READERS: Final[dict[str, Entry | type[Reader]]] = {
    NdjsonReader.name: NdjsonReader,
    _ARRAY_FORMAT: Entry("json_array", "JsonArrayReader", may_be=may_be_one),
    "tidepool-export": Entry("tidepool_export.reader", "TidepoolExportReader", is_recognized=False),
    "tidepool-web-export": Entry("tidepool_web_export", "TidepoolWebExportReader", is_recognized=False),
    "table": Entry("table", "TableReader", has_own_rows=True, is_recognized=False),
    "quarantine": Entry("quarantine", "QuarantineReader", in_manifests=False, json_signs=(b"position",)),
    "libreview": Entry("libreview", "LibreViewReader", has_own_rows=True),
    "clarity": Entry("clarity", "ClarityReader", has_own_rows=True),
    "nightscout": Entry(
        "nightscout",
        "NightscoutReader",
        has_own_rows=True,
        json_signs=(b"created_at", b"date", b"mills", b"timestamp", b"startDate"),
    ),
}
"""What ``FORMATS`` begins with: the readers that are loaded anyway, and where the others are."""

FORMATS: Final = Formats(READERS)
"""The reader of each format, by its name."""

RECORDS_FORMAT: Final = NdjsonReader.name
"""The format in which records are staged, and as which unrecognized text is read."""

TABLE_FORMAT: Final = "table"
"""The format of tables whose mapping a person has written."""


def read_manifest(folder: StoragePath, folder_user_id: str | None) -> Manifest:
    """Read the manifest of a batch, which may only name formats that have a reader.

    :param folder: the batch folder.
    :param folder_user_id: the user whose folder it lies in, ``None`` for one that lies outside staging.
    :raises BatchError: see :func:`tidepool_ingest.staging.manifest.read_manifest`; ``file-missing`` or
        ``table-mapping`` for the mapping of a table.
    """
    # Loaded only here, as models are that few files come with.
    from tidepool_ingest.staging import manifest as manifests

    manifest = manifests.read_manifest(folder, folder_user_id, formats=FORMATS.in_manifests())
    for index, file in enumerate(manifest.files):
        if untaken := sorted(file.given.keys() - taken_options(file.format)):
            raise BatchError(
                "manifest-malformed",
                detail=f"/files/{index}/{untaken[0]}: format {file.format} does not take it",
            )
    files = tuple(_with_mapping(folder, number, file) for number, file in enumerate(manifest.files, 1))
    return manifest.model_copy(update={"files": files})


def _with_mapping(folder: StoragePath, number: int, file: StagedFile) -> StagedFile:
    """Return a file with the mapping of its table in the place of the mapping's file name."""
    if FORMATS[file.format].options.isdisjoint({"table"}):
        return file
    from tidepool_ingest.formats.table import mapping_of
    from tidepool_ingest.staging.manifest_terms import MAX_MANIFEST_BYTES, StrictJsonError, strict_json

    raw: object = file.table
    if isinstance(raw, str):
        content = read_at_most(folder / raw, MAX_MANIFEST_BYTES, missing="file-missing")
        if len(content) > MAX_MANIFEST_BYTES:
            raise BatchError("table-mapping", file_number=number, detail="its file is too large")
        try:
            raw = strict_json(content)
        except StrictJsonError as error:
            raise BatchError("table-mapping", file_number=number, detail=error.detail) from None
    mapping_of(raw, number)
    return file.model_copy(update={"table": raw})


def taken_options(name: str) -> frozenset[str]:
    """Return which options a file of a format takes, as the manifest calls them.

    :param name: the format.
    """
    from tidepool_ingest.staging.manifest import FileOptions

    return frozenset(FileOptions.model_fields[option].alias or option for option in FORMATS[name].options)


def converters_of(manifest: Manifest) -> dict[str, int]:
    """Return what makes the records of a batch from its rows: the versions of its formats' readers.

    :param manifest: the batch's manifest; formats whose rows are records are left out.
    """
    versions = {file.format: FORMATS[file.format].version for file in manifest.files}
    return {name: version for name, version in versions.items() if version}


def guess_format(source: StoragePath) -> str:
    """Return the name of a data file's format by how the file begins.

    An export of Tidepool's is not recognized by that: :func:`recognized_format` looks at its rows as well.

    :param source: the data file.
    :raises BatchError: it cannot be read or expanded, or is no text of records.
    """
    file = SourceFile(source, RECORDS_FORMAT, below_root=GIVEN)
    if name := FORMATS.recognized(file.start(), has_own_rows=True):
        return name
    for piece in file.text():
        if start := piece.lstrip():
            return FORMATS.recognized(start, has_own_rows=False) or RECORDS_FORMAT
    raise BatchError("file-empty")


_EXPORTS: Final = ("tidepool-export", "tidepool-web-export")
_UPLOAD_ID: Final = b"uploadId"
_PLAIN: Final = (RECORDS_FORMAT, _ARRAY_FORMAT)


def is_export(name: str) -> bool:
    """Return whether files of a format are exports of Tidepool, which their rows tell from each other.

    :param name: the format.
    """
    return name in _EXPORTS


def may_be_export(name: str) -> bool:
    """Return whether a file that begins as one of this format may turn out to be an export of Tidepool.

    :param name: the format.
    """
    return is_export(name) or name in _PLAIN


def told_format(name: str, signs: ExportSigns) -> str:
    """Return the format of a file whose rows have been seen: they say more than its name or its beginning.

    :param name: its format by its beginning, or one of Tidepool's exports.
    :param signs: what its rows show.
    :raises ExportKindError: it mixes both exports, or may be either where that matters.
    """
    from tidepool_ingest.formats.tidepool_export.telling import CODES, ExportKind, ExportKindError

    exports = {ExportKind.DATA_API: "tidepool-export", ExportKind.WEB_PAGE: "tidepool-web-export"}
    found = signs.kind(is_export=is_export(name))
    if found in exports:
        return exports[found]
    if is_export(name):
        signs.check(next(kind for kind, export in exports.items() if export == name))
    elif found is not ExportKind.EITHER:
        raise ExportKindError(CODES[found])
    return name


def recognized_format(source: StoragePath) -> str:
    """Return the name of a data file's format by how it begins, and by all of its rows where that matters.

    Only of a file whose first record names its data set are all rows looked at.

    :param source: the data file.
    :raises BatchError: it cannot be read or expanded.
    :raises ExportKindError: as for :func:`told_format`.
    """
    name = guess_format(source)
    if not may_be_export(name):
        return name
    signs: ExportSigns | None = None
    with SourceReader([SourceFile(source, name, below_root=GIVEN)], as_rows=True) as reader:
        for block in reader:
            if signs is None:
                if not (is_export(name) or _begins_as_export(block)):
                    return name
                signs = _no_signs()
            signs.see_block(block)
    return told_format(name, signs or _no_signs())


def _no_signs() -> ExportSigns:
    # Loaded only here: few files are exports of Tidepool's.
    from tidepool_ingest.formats.tidepool_export.telling import ExportSigns

    return ExportSigns()


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
            self._signs[block.file_number] = _no_signs() if begins_as_one else None
        signs = self._signs[block.file_number]
        if signs is not None:
            signs.see_block(block)

    def check(self) -> None:
        """Hold the batch, now that all blocks were seen, if a file has durations in minutes, or may.

        :raises ExportKindError: saying which format to name, or what to find out.
        """
        for number, signs in self._signs.items():
            if signs is not None:
                signs.check_plain(number)


def _begins_as_export(block: Block) -> bool:
    """Return whether the first record of a file names its data set, as all of an export do."""
    return any(_UPLOAD_ID in line for line in block.lines[:1])


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
