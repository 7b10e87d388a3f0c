"""Staging an export as its vendor wrote it: the file as it is, in a batch for each device whose rows it has.

Files of a format that joins them, such as those of a site, go into one batch. Rows stay what they are:
``prepare`` makes records of them, as the manifest says, and whoever corrects one corrects the export.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from tidepool_ingest import __version__
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import TABLE_FORMAT, SourceReader
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import Device, ReadingContext
from tidepool_ingest.formats.row_counts import RowCounts
from tidepool_ingest.model import data_set_problems, masked_pointer
from tidepool_ingest.model.deduplicators import CONTINUOUS, NORMAL, deduplicator_named
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.stage import (
    batch_folders,
    check_arguments,
    check_replaces,
    found_in,
    made_manifest,
    publish,
    text_of,
    unpadded_fields,
)
from tidepool_ingest.stage.already import AlreadyStaged
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.compression import compression_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import (
    FileOptions,
    Manifest,
    RecordEdits,
    StagedFile,
    default_deduplicator,
)
from tidepool_ingest.staging.source_file import SourceFile, given_files
from tidepool_ingest.staging.storage import GIVEN, StoragePath, read_blocks

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tidepool_ingest.stage.people import People

EXPORT_NAME: Final = "export"
"""Name of a file in a batch, before its endings: its own may name a person."""

ENDINGS: Final = (".csv", ".tsv", ".txt", ".json", ".ndjson")
"""Endings that a file keeps, the first one standing for others, beside that of its compression."""

CLIENT_PREFIX: Final = "org.tidepool-ingest."
"""Begins the client name of the feed that a format's exports make."""

_IN_MANIFEST: Final = ("edits", "connection", "meant_as", "replaces")
"""What of a description a manifest says in the same words."""

OF_ONE_DEVICE: Final = ("deviceId", "deviceSerialNumber")
"""What cannot be said of several devices at once."""


REPLACES_BY_NAME: Final = (
    "rows with names of their own make a batch of a feed, where each record replaces the one of its name: "
    "leave `--replaces` out, or make a normal batch (`--normal`)"
)
"""Why a batch of a feed replaces no other one as a whole."""

NO_ROWS: Final = "the file holds no rows of a device of that serial number"


@dataclass(frozen=True)
class StagedDevice:
    """A batch with the rows of one device.

    :param folder: the batch.
    :param body: the body of its data set.
    :param serial: what distinguishes the device's rows from those of others; empty if there are none.
    :param counts: what becomes of the rows.
    :param has_names: whether rows have names of their own.
    """

    folder: BatchFolder = field(repr=False)
    body: Mapping[str, JsonValue] = field(repr=False)
    serial: str = field(repr=False)
    counts: RowCounts
    has_names: bool

    @property
    def client_name(self) -> str | None:
        """The name of the feed that the batch is one of, ``None`` if it is for a normal data set."""
        client = self.body.get("client")
        is_feed = self.body.get("dataSetType") == CONTINUOUS
        return str(client["name"]) if is_feed and isinstance(client, dict) else None


@dataclass(frozen=True)
class _Read:
    """The rows of one device, read."""

    device: Device
    staged: tuple[StagedFile, ...]
    counts: RowCounts
    has_names: bool


@dataclass(frozen=True, kw_only=True)
class Description:
    """What is said of batches that are made of an export, beside what its files tell.

    :param options: how the files are to be read. With a serial number, only that device is staged.
    :param meant_as: codes of what would hold the batch and is as it is meant to be.
    :param day: the date folder; today in UTC if left out.
    :param data_set: fields of the data set's create body, before those that the file tells. The zone in it is
        that of the file, too, unless its options have one.
    :param batch_id: the batch's id, or its beginning when there are several; made from time and content if
        left out.
    :param edits: edits for each manifest.
    :param connection: Airflow connection for each manifest.
    :param normal: make normal batches where rows have names of their own, too.
    :param replaces: id of the batch that this one replaces; then one device is staged, in a normal batch.
    """

    options: FileOptions = field(default_factory=FileOptions)
    meant_as: tuple[str, ...] = ()
    day: date | None = None
    data_set: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)
    batch_id: str | None = None
    edits: RecordEdits | None = None
    connection: str | None = None
    normal: bool = False
    replaces: str | None = None


def stage_export(
    sources: Sequence[StoragePath],
    root: StoragePath,
    user_id: str,
    file_format: str,
    description: Description,
    *,
    padding: Counter[str] | None = None,
    already: AlreadyStaged | None = None,
) -> list[StagedDevice]:
    """Turn an export into ready batches, one for each device whose rows it holds.

    It is read as a run would read it: what would hold a batch is raised here. Nothing appears in staging
    before all of it was read, and the manifests come last.

    :param sources: its file, the ending of which shows the compression; or several, of a format that joins
        its files.
    :param root: the staging root.
    :param user_id: the Tidepool user whose data these are.
    :param file_format: a key of ``FORMATS`` whose reader has rows of its own.
    :param description: what is said of the batches.
    :param padding: counts the values whose padding was left out, by field.
    :param already: finds what is there already, which is returned instead of a new batch.
    :raises BatchError: with a code that begins with ``stage-`` or ``file-``, or of the storage.
    :raises FileHeldError: a person has to say what the file means.
    """
    check_arguments(user_id, description.batch_id, description.edits)
    staging = _Staging(description, padding)
    staging.read(sources, file_format, user_id)
    return staging.publish(root, already)


class PeopleHeldError(BatchError):
    """What a table has of some people cannot be staged as it is, so that nothing of it was.

    :param people: by their ids in the table, which are no part of the message, what is wrong.
    """

    def __init__(self, people: Sequence[tuple[str, IngestError]]) -> None:
        super().__init__("stage-people-held")
        self.people = people

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the people in this process."""
        return type(self), ((),)


def stage_people(
    people: People,
    root: StoragePath,
    description: Description,
    *,
    padding: Counter[str] | None = None,
    already: AlreadyStaged | None = None,
) -> list[StagedDevice]:
    """Turn the parts of a split table into ready batches, as :func:`stage_export` does with a whole one.

    :param people: the table, split.
    :raises PeopleHeldError: some parts would be held, or cannot be read; nothing was staged.
    """
    options = description.options.model_copy(update={"table": people.mapping})
    staging = _Staging(replace(description, options=options), padding)
    held: list[tuple[str, IngestError]] = []
    for part in people.parts:
        check_arguments(part.user_id, description.batch_id, description.edits)
        try:
            staging.read([part.path], TABLE_FORMAT, part.user_id)
        except (BatchError, FileHeldError) as error:
            held.append((part.study_id, error))
    if held:
        raise PeopleHeldError(held)
    return staging.publish(root, already)


class _Staging:
    """Files that were read, and are to be published together; see :func:`stage_export`."""

    def __init__(self, description: Description, padding: Counter[str] | None) -> None:
        fields = unpadded_fields(description.data_set, Counter() if padding is None else padding)
        edits = description.edits
        if edits is not None and (device_id := text_of(edits.set_fields, "deviceId")):
            fields["deviceId"] = device_id
        self._description, self._fields = description, fields
        self._context = ReadingContext(
            timezone=text_of(fields, "timezone"),
            device_id=text_of(fields, "deviceId"),
            meant_as=description.meant_as,
        )
        optional = {name: getattr(description, name) for name in _IN_MANIFEST}
        self._optional = {name: value for name, value in optional.items() if value}
        self._now = datetime.now(UTC)
        self._read: list[tuple[str, Sequence[StoragePath], _Read, Manifest]] = []

    def read(self, sources: Sequence[StoragePath], file_format: str, user_id: str) -> None:
        """Read files of a user as a run would read them."""
        said = self._description
        read = list(_read_devices(sources, file_format, said.options, self._context, self._fields))
        check_replaces(said.replaces, len(read))
        for one in read:
            body = _body(one, self._fields, normal=said.normal)
            if said.replaces is not None and body.get("dataSetType") == CONTINUOUS:
                raise BatchError("stage-arguments", detail=REPLACES_BY_NAME)
            members = {"user_id": user_id, "data_set": body, "files": one.staged, "staged_at": self._now}
            self._read.append((user_id, sources, one, made_manifest(members | self._optional)))

    def publish(self, root: StoragePath, already: AlreadyStaged | None) -> list[StagedDevice]:
        """Write all files, then all manifests, of what is not there already."""
        day, batch_id = self._description.day or self._now.date(), self._description.batch_id
        digests: dict[str, list[str]] = {}
        there: dict[str, list[BatchFolder | None]] = {}
        for user_id, _, one, manifest in self._read:
            digests.setdefault(user_id, []).append(_digest(one))
            there.setdefault(user_id, []).extend(found_in(already, [manifest]))
        folders = {
            user_id: batch_folders(contents, root, user_id, day, batch_id, self._now, there[user_id])
            for user_id, contents in digests.items()
        }
        left = {user_id: iter(made) for user_id, made in folders.items()}
        in_order = [next(left[user_id]) for user_id, *_ in self._read]
        contents = [
            [partial(read_blocks, source, below_root=GIVEN) for source in sources]
            for _, sources, _, _ in self._read
        ]
        publish(contents, in_order, [manifest for *_, manifest in self._read], already)
        return [
            StagedDevice(folder, manifest.data_set, one.device.serial, one.counts, one.has_names)
            for folder, (_, _, one, manifest) in zip(in_order, self._read, strict=True)
        ]


def _digest(read: _Read) -> str:
    """Return what tells the content of a batch from others of the same file."""
    digests = [str(file.sha256) for file in read.staged]
    return hashlib.sha256("\n".join([*digests, read.device.serial]).encode()).hexdigest()


def _read_devices(
    sources: Sequence[StoragePath],
    file_format: str,
    options: FileOptions,
    context: ReadingContext,
    fields: Mapping[str, JsonValue],
) -> Iterator[_Read]:
    """Read the rows of each device, as a run will read them for its batch."""
    files = _files(sources, file_format, options)
    with SourceReader(files, context) as reader:
        devices = reader.devices() or [Device("", {})]
        if options.serial is not None:
            devices = [device for device in devices if device.serial in ("", options.serial)]
        if not devices:
            raise BatchError("stage-arguments", detail=NO_ROWS)
        if len(devices) == 1:
            only = _read(reader, files, devices[0])
            if options.serial is not None and not (only.counts.readings or only.counts.rejected):
                raise BatchError("stage-arguments", detail=NO_ROWS)
            yield only
            return
    if said := [name for name in OF_ONE_DEVICE if name in fields]:
        raise BatchError(
            "stage-arguments",
            detail=f"the file holds the rows of {len(devices)} devices, which cannot all have this "
            f"{said[0]}: choose one with `--serial`",
        )
    for device in devices:
        chosen = options.model_copy(update={"serial": device.serial})
        files = _files(sources, file_format, chosen)
        own = replace(context, device_id=text_of(device.fields, "deviceId"))
        with SourceReader(files, own) as reader:
            yield _read(reader, files, device)


def _files(sources: Sequence[StoragePath], file_format: str, options: FileOptions) -> list[SourceFile]:
    return given_files([(source, file_format) for source in sources], options, digested=True)


def _read(reader: SourceReader, files: Sequence[SourceFile], device: Device) -> _Read:
    counts = RowCounts(several=len(files) > 1)
    for block in reader:
        counts.add(block)
    staged = tuple(
        StagedFile(
            name=_name(file, reader.ending),
            format=file.format,
            sha256=file.sha256,
            records=reader.rows[file.number or 1],
            **file.options.model_dump(exclude_unset=True, exclude_none=True),
        )
        for file in files
    )
    return _Read(device, staged, counts, reader.has_names)


def _name(file: SourceFile, kind: str) -> str:
    """Return what a file is called in its batch; of text, its own name says of what kind."""
    compression = compression_of(file.path.name)
    own, packed = file.path.name.lower(), "" if compression == "none" else f".{compression}"
    ending = next((one for one in ENDINGS if own.removesuffix(packed).endswith(one)), ENDINGS[0])
    if kind != "csv":
        ending = f".{kind}"
    return f"{EXPORT_NAME}{f'-{file.number}' if file.number else ''}{ending}{packed}"


def _body(read: _Read, fields: Mapping[str, JsonValue], *, normal: bool) -> dict[str, Any]:
    """Return the body of the data set of one device.

    :raises BatchError: ``stage-no-device`` or ``stage-arguments``.
    """
    kind = CONTINUOUS if read.has_names and not normal else NORMAL
    body: dict[str, Any] = {**read.device.fields, **fields}
    if not body.get("deviceId"):
        raise BatchError("stage-no-device")
    if kind == CONTINUOUS:
        client = {"name": _feed_name(read, str(body["deviceId"])), "version": __version__}
        body |= {"dataSetType": CONTINUOUS, "client": client}
    if problems := data_set_problems(body):
        named = ", ".join(f"{code} at {masked_pointer(pointer)}" for code, pointer in problems)
        raise BatchError("stage-arguments", detail=f"Tidepool would reject {named}")
    chosen = body.get("deduplicator")
    name = str(chosen["name"]) if isinstance(chosen, dict) else default_deduplicator(kind)
    deduplicator = deduplicator_named(name)
    if deduplicator is None or kind not in deduplicator.works_for:
        raise BatchError("stage-arguments", detail=f"Tidepool has no such deduplicator for {kind} data sets")
    return body


def _feed_name(read: _Read, device_id: str) -> str:
    """Return the client name of the feed that a device's batches are for.

    In a feed, a record takes the place of whatever has its name. So where the format itself does not say of
    which one device all of its files are, each device has a feed of its own: two tables may both count
    from 1.
    """
    name = f"{CLIENT_PREFIX}{read.staged[0].format}"
    is_of_one = not read.device.serial and "deviceId" in read.device.fields
    return name if is_of_one else f"{name}.{short_hash(device_id)}"
