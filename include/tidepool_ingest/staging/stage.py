"""Turning one data file into ready batches, one for each device found in it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import JsonValue, ValidationError
from upath import UPath

from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.block import TOO_LARGE
from tidepool_ingest.staging.compression import compression_of, expand
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import (
    MANIFEST_NAME,
    TIDEPOOL_EXPORT,
    DataFormat,
    FileFormat,
    Manifest,
    RecordEdits,
    is_batch_id,
    is_user_id,
)
from tidepool_ingest.staging.quarantine import is_entry
from tidepool_ingest.staging.records import FileReader
from tidepool_ingest.staging.sealing import TOKEN_START
from tidepool_ingest.staging.spool import RECORDS_NAME, Output, Spool
from tidepool_ingest.staging.storage import (
    SHARED_FILE,
    SHARED_FOLDER,
    WholeFileWriter,
    filesystem,
    make_folder,
    read_blocks,
    reading,
    remove_folder,
    write_whole,
)

COPY_BYTES = 1024 * 1024
"""Bytes copied to staging at a time."""


def stage(
    source: UPath,
    root: UPath,
    user_id: str,
    *,
    day: date | None = None,
    data_set: Mapping[str, JsonValue] | None = None,
    file_format: DataFormat | None = None,
    batch_id: str | None = None,
    edits: RecordEdits | None = None,
    connection: str | None = None,
    like: Manifest | None = None,
) -> list[BatchFolder]:
    """Turn a data file into ready batches, one for each ``deviceId`` in it, in order of appearance.

    Records keep their bytes. Those without a deviceId make a batch of their own when ``data_set`` names a
    deviceId for them, which that batch's manifest sets in each; when ``edits`` sets the deviceId, all
    records make one batch. Lines that are no record with a usable deviceId go to the first batch, where
    preparing it puts them into quarantine. Nothing appears in staging before the file was read whole, and the
    manifests come last.

    :param source: the data file; its ending tells the compression.
    :param root: the staging root.
    :param user_id: the Tidepool user whose data these are.
    :param day: the date folder; today in UTC when left out.
    :param data_set: fields of the data set's create body; ``deviceId`` only for records without one.
    :param file_format: how the records lie in the file; seen from its first byte when left out.
    :param batch_id: the batch's id, or its beginning when there are several; made of time and content when
        left out.
    :param edits: edits for each manifest.
    :param connection: Airflow connection for each manifest.
    :param like: manifest of another batch of this user. All records make one batch, described as that one is,
        in place of ``data_set``, ``edits`` and ``connection``: so a corrected quarantine file follows it.
    :raises BatchError: with a code that begins with ``stage-`` or ``file-``, or of the storage.
    """
    fields = dict(data_set or {})
    _check_arguments(user_id, batch_id, edits)
    if like is not None and (fields or edits or connection or like.user_id != user_id):
        raise BatchError(
            "stage-arguments", detail="another batch describes this one, or it is another user's"
        )
    with tempfile.TemporaryDirectory(prefix="tidepool-stage-") as folder:
        seen_format = file_format or guess_format(source)
        spool = Spool(
            Path(folder),
            default_device=_text(fields, "deviceId"),
            only_device=_set_device(edits) if like is None else like.device_id or "",
            staged_format=_staged_format(seen_format, like),
        )
        _fill(spool, FileReader(source, seen_format))
        outputs = spool.finish()
        batches = _batch_folders(outputs, root, user_id, day or datetime.now(UTC).date(), batch_id)
        if like is None:
            manifests = [_manifest(output, user_id, fields, edits, connection) for output in outputs]
        else:
            manifests = [_manifest_like(like, output) for output in outputs]
        _publish(outputs, batches, manifests)
    return batches


def guess_format(source: UPath) -> DataFormat:
    """Return the format of a data file by how it begins: a bracket opens an array of records.

    Whether it is an export cannot be seen for certain.

    :param source: the data file.
    :raises BatchError: it cannot be read or expanded.
    """
    for piece in expand(read_blocks(source), compression_of(source.name)):
        start = piece.removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith(b"["):
            return "json"
        if start.startswith(TOKEN_START):
            return "quarantine"
        if start:
            return "quarantine" if is_entry(start.partition(b"\n")[0]) else "ndjson"
    raise BatchError("file-empty")


def _fill(spool: Spool, reader: FileReader) -> None:
    for block in reader:
        for position, line in enumerate(block.lines, start=block.first_position):
            spool.add(line, position)
        for position, code in block.refused:  # it has no bytes that could be staged
            raise BatchError(
                "stage-record-too-large" if code == TOO_LARGE else "file-broken", position=position
            )
        spool.relieve()


def _batch_folders(
    outputs: list[Output], root: UPath, user_id: str, day: date, batch_id: str | None
) -> list[BatchFolder]:
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    folders = []
    for number, output in enumerate(outputs, start=1):
        if batch_id is None:
            name = f"{now}-{str(output.staged_file().sha256)[:10]}"
        else:
            name = batch_id if len(outputs) == 1 else f"{batch_id}-{number}"
        folders.append(BatchFolder.at(root, f"{day.isoformat()}/{user_id}/{name}"))
    for folder in folders:
        with reading():
            if filesystem(folder.path).exists(folder.path.path):
                raise BatchError("stage-exists", batch=folder.label)
    return folders


def _manifest(
    output: Output,
    user_id: str,
    fields: dict[str, JsonValue],
    edits: RecordEdits | None,
    connection: str | None,
) -> Manifest:
    if output.sets_device:
        asked = edits or RecordEdits()
        edits = asked.model_copy(update={"set_fields": {**asked.set_fields, "deviceId": output.device_id}})
    optional = {name: value for name, value in (("edits", edits), ("connection", connection)) if value}
    body = {**fields, "deviceId": output.device_id}
    try:
        return Manifest.model_validate(
            {"user_id": user_id, "data_set": body, "files": (output.staged_file(),), **optional}
        )
    except ValidationError:
        raise BatchError(
            "stage-arguments", detail="the connection or the data set's type is not valid"
        ) from None


def _staged_format(source_format: DataFormat, like: Manifest | None) -> FileFormat:
    """Return the format of the staged files: an export stays one, so that `prepare` cleans it."""
    formats = {source_format, *(file.format for file in (like.files if like else ()))}
    return TIDEPOOL_EXPORT if TIDEPOOL_EXPORT in formats else "ndjson"


def _manifest_like(like: Manifest, output: Output) -> Manifest:
    said = like.model_dump(exclude_unset=True, exclude={"files", "replaces"})
    return Manifest.model_validate({**said, "files": (output.staged_file(),)})


def _publish(outputs: list[Output], batches: list[BatchFolder], manifests: list[Manifest]) -> None:
    """Write all data files, then all manifests: if that is cut short, no batch counts as ready too early."""
    try:
        for output, batch in zip(outputs, batches, strict=True):
            make_folder(batch.path, SHARED_FOLDER)
            with (
                output.path.open("rb") as file,
                WholeFileWriter(batch.path / RECORDS_NAME, SHARED_FILE) as target,
            ):
                while content := file.read(COPY_BYTES):
                    target.write(content)
    except BaseException:
        for batch in batches:
            remove_folder(batch.path)
        raise
    for batch, manifest in zip(batches, manifests, strict=True):
        write_whole(batch.path / MANIFEST_NAME, manifest.to_json(), SHARED_FILE)


def _check_arguments(user_id: str, batch_id: str | None, edits: RecordEdits | None) -> None:
    if not is_user_id(user_id):
        raise BatchError("stage-arguments", detail="the user id is neither 10 hex digits nor a UUID")
    if batch_id is not None and not is_batch_id(batch_id):
        raise BatchError("stage-arguments", detail="the batch id is no plain folder name")
    if edits is None:
        return
    if "deviceId" in edits.drop:
        raise BatchError("stage-arguments", detail="the edits drop deviceId, which each record needs")
    if "deviceId" in edits.set_fields and not _set_device(edits):
        raise BatchError("stage-arguments", detail="the edits set deviceId to something that is no text")


def _set_device(edits: RecordEdits | None) -> str | None:
    return _text(edits.set_fields, "deviceId") if edits else None


def _text(fields: Mapping[str, JsonValue], name: str) -> str | None:
    """Return a field when it is a text that is not empty."""
    value = fields.get(name)
    return value if isinstance(value, str) and value else None
