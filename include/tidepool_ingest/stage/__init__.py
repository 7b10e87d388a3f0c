"""Turning one data file into ready batches, one for each device found in it: here, a file of records."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import JsonValue, ValidationError

from tidepool_ingest.deep_json import loads
from tidepool_ingest.formats import (
    FORMATS,
    RECORDS_FORMAT,
    SourceReader,
    guess_format,
    is_export,
    may_be_export,
    told_format,
)
from tidepool_ingest.formats.reader import TOO_LARGE
from tidepool_ingest.formats.tidepool_export.telling import ExportSigns
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.stage.already import AlreadyStaged
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Manifest, RecordEdits, StagedFile
from tidepool_ingest.staging.manifest_terms import BATCH_ID_PATTERN, MANIFEST_NAME, is_batch_id
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import (
    GIVEN,
    IN_BATCH,
    SHARED_FILE,
    SHARED_FOLDER,
    StoragePath,
    WholeFileWriter,
    exists,
    make_folder,
    remove_folder,
    write_whole,
)
from tidepool_ingest.texts import first_problem, problem_of, without_padding

RECORDS_NAME = "records.ndjson.gz"
"""Name of the data file of a staged batch."""

MAX_DEVICES = 1_000
"""Most devices in one file; more mean that ``deviceId`` contains something else."""

SPOOL_BYTES = 1024 * 1024
"""Text of one device gathered before it is compressed."""

SPOOL_TOTAL_BYTES = 64 * 1024 * 1024
"""Text of all devices gathered before all of it is compressed."""

COPY_BYTES = 1024 * 1024
"""Bytes copied to staging at a time."""


@dataclass
class Output:
    """The records of one batch being staged, compressed in a private local file.

    :param path: the file.
    :param device_id: deviceId of the data set.
    :param staged_format: format of the file in the manifest.
    :param sets_device: whether the manifest has to set it in each record.
    """

    path: Path
    device_id: str = field(repr=False)
    staged_format: str
    sets_device: bool = False
    records: int = 0
    buffered: list[bytes] = field(default_factory=list, repr=False)
    buffered_bytes: int = 0

    def add(self, line: bytes) -> None:
        """Append one record."""
        self.buffered.append(line)
        self.buffered_bytes += len(line)
        self.records += 1

    def flush(self) -> None:
        """Append what is buffered as one more gzip member; no file stays open in between."""
        if self.buffered:
            with self.path.open("ab") as file:
                file.write(gzip.compress(b"\n".join(self.buffered) + b"\n", mtime=0))
        self.buffered.clear()
        self.buffered_bytes = 0

    def content(self) -> Iterator[bytes]:
        """Yield the bytes of the file."""
        with self.path.open("rb") as file:
            while piece := file.read(COPY_BYTES):
                yield piece

    def staged_file(self) -> StagedFile:
        """Return how the manifest describes the file."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return StagedFile(name=RECORDS_NAME, format=self.staged_format, sha256=digest, records=self.records)


class Spool:
    """Groups records by device, in bounded memory.

    :param folder: a private local folder.
    :param default_device: deviceId for records that have none.
    :param only_device: deviceId of the only data set, which takes every record.
    :param staged_format: format of the resulting files.
    """

    def __init__(
        self, folder: Path, default_device: str | None, only_device: str | None, staged_format: str
    ) -> None:
        self._folder = folder
        self._staged_format = staged_format
        self._default_device = default_device
        self._only_device = only_device
        self._outputs: dict[str | None, Output] = {}  # by deviceId; None: records that have none
        self.padded = 0
        """Records whose deviceId is padded."""
        self._stray = Output(folder / "stray", "", staged_format)

    def add(self, line: bytes, position: int) -> None:
        """Add one record to those of its device."""
        output = self._output_for(line, position)
        output.add(line)
        if output.buffered_bytes >= SPOOL_BYTES:
            output.flush()

    def relieve(self) -> None:
        """Compress what is buffered for all devices once it exceeds the limit."""
        if sum(output.buffered_bytes for output in self._outputs.values()) >= SPOOL_TOTAL_BYTES:
            for output in self._outputs.values():
                output.flush()

    def stage_as(self, staged_format: str) -> None:
        """Let the manifests name another format than was thought before the rows were read."""
        self._staged_format = staged_format
        for output in (*self._outputs.values(), self._stray):
            output.staged_format = staged_format

    def finish(self) -> list[Output]:
        """Return the outputs; stray lines go to the first of them."""
        if not self._outputs:
            if self._default_device is None:
                raise BatchError("stage-no-device", detail="no record in the file can be read")
            self._output(None, position=0)
        for output in (*self._outputs.values(), self._stray):
            output.flush()
        outputs = list(self._outputs.values())
        if self._stray.records:
            with self._stray.path.open("rb") as stray, outputs[0].path.open("ab") as first:
                shutil.copyfileobj(stray, first)
            outputs[0].records += self._stray.records
        return outputs

    def _output_for(self, line: bytes, position: int) -> Output:
        if self._only_device is not None:
            return self._output(self._only_device, position)
        try:
            record = loads(line.decode())
        except ValueError:
            return self._stray
        device = record.get("deviceId") if isinstance(record, dict) else False
        if isinstance(device, str) and device:
            device = self._device_of(device, position)
        if device is None and FORMATS[self._staged_format].holds_other_objects and "type" not in record:
            return self._stray
        if device is None or (isinstance(device, str) and device):
            return self._output(device, position)
        return self._stray

    def _device_of(self, text: str, position: int) -> str | None:
        """Return a deviceId without padding; nothing but padding is none."""
        device = without_padding(text)
        self.padded += device != text
        if problem := problem_of(device):
            raise BatchError("stage-device-id", position=position, detail=f"it holds {problem}")
        return device or None

    def _output(self, device: str | None, position: int) -> Output:
        output = self._outputs.get(device)
        if output is None:
            device_id = self._default_device if device is None else device
            if device_id is None:
                raise BatchError("stage-no-device", position=position)
            if len(self._outputs) >= MAX_DEVICES:
                raise BatchError("stage-too-many-devices", position=position)
            path = self._folder / str(len(self._outputs))
            output = self._outputs[device] = Output(
                path, device_id, self._staged_format, sets_device=device is None
            )
        return output


def stage(
    source: StoragePath,
    root: StoragePath,
    user_id: str,
    *,
    day: date | None = None,
    data_set: Mapping[str, JsonValue] | None = None,
    file_format: str | None = None,
    batch_id: str | None = None,
    edits: RecordEdits | None = None,
    connection: str | None = None,
    like: Manifest | None = None,
    replaces: str | None = None,
    meant_as: Sequence[str] = (),
    padding: Counter[str] | None = None,
    already: AlreadyStaged | None = None,
) -> list[BatchFolder]:
    """Turn a data file into ready batches, one for each ``deviceId`` in it, in order of appearance.

    Records keep their bytes. Those without a deviceId make a batch of their own if ``data_set`` names a
    deviceId for them, which that batch's manifest sets in each; if ``edits`` sets the deviceId, all
    records make one batch. Lines that are not records with a usable deviceId go to the first batch, where
    preparing it puts them into quarantine. What pads a field of fixed width, in ``data_set`` or in a
    deviceId, is left out of the manifest: U+0000 at its end, and blanks around it. Nothing appears in staging
    before the whole file was read, and the manifests come last.

    :param source: the data file; its ending shows the compression.
    :param root: the staging root.
    :param user_id: the Tidepool user whose data these are.
    :param day: the date folder; today in UTC if left out.
    :param data_set: fields of the data set's create body; ``deviceId`` only for records without one.
    :param file_format: how the file holds its records, a key of ``FORMATS``; guessed if left out. An export
        of Tidepool is staged as the one that its rows show it to be, whichever was named.
    :param batch_id: the batch's id, or its beginning when there are several; made from time and content if
        left out.
    :param edits: edits for each manifest.
    :param connection: Airflow connection for each manifest.
    :param like: manifest of another batch of this user. All records make one batch with the same description,
        instead of ``data_set``, ``edits`` and ``connection``: for a corrected quarantine file.
    :param replaces: id of the batch that this one replaces; then the file makes one batch only.
    :param meant_as: codes of what would hold each batch and is meant as it is, beside those of ``like``.
    :param padding: counts the values whose padding was left out, by field.
    :param already: finds what is there already, which is returned instead of a new batch.
    :raises BatchError: with a code that begins with ``stage-`` or ``file-``, or of the storage.
    :raises ExportKindError: the file mixes both exports of Tidepool, or may be either where that matters.
    """
    padding = Counter() if padding is None else padding
    fields = unpadded_fields(data_set or {}, padding)
    check_arguments(user_id, batch_id, edits)
    if like is not None and (fields or edits or connection or like.user_id != user_id):
        raise BatchError(
            "stage-arguments", detail="another batch describes this one, or it is another user's"
        )
    if like is not None and any(FORMATS[file.format].has_own_rows for file in like.files):
        raise BatchError("stage-like-export")
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="tidepool-stage-") as folder:
        source_format = file_format or guess_format(source)
        if FORMATS[source_format].has_own_rows:
            raise BatchError("stage-arguments", detail="an export is staged as it is, and not as records")
        staged_format = _staged_format(source_format, like)
        spool = Spool(
            Path(folder),
            default_device=text_of(fields, "deviceId"),
            only_device=_set_device(edits) if like is None else like.device_id or "",
            staged_format=staged_format,
        )
        signs = ExportSigns()
        _fill(spool, SourceFile(source, source_format, below_root=GIVEN), signs)
        if is_export(staged_format) or (file_format is None and may_be_export(source_format)):
            # Before its rows were read, nothing showed which export it is, or that it is one.
            spool.stage_as(told_format(staged_format, signs))
        outputs = spool.finish()
        padding["deviceId"] += spool.padded
        contents = [str(output.staged_file().sha256) for output in outputs]
        check_replaces(replaces, len(outputs))
        if like is None:
            manifests = [_manifest(output, user_id, fields, edits, connection) for output in outputs]
        else:
            manifests = [_manifest_like(like, output) for output in outputs]
        added: dict[str, Any] = {"staged_at": now} | ({} if replaces is None else {"replaces": replaces})
        if meant_as:
            known = like.meant_as if like is not None else ()
            added["meant_as"] = tuple(dict.fromkeys((*known, *meant_as)))
        manifests = [manifest.model_copy(update=added) for manifest in manifests]
        there = found_in(already, manifests)
        batches = batch_folders(contents, root, user_id, day or now.date(), batch_id, now, there)
        publish([[output.content] for output in outputs], batches, manifests, already)
    return batches


def _fill(spool: Spool, source: SourceFile, signs: ExportSigns) -> None:
    with SourceReader([source], as_rows=FORMATS[source.format].stages_rows) as reader:
        for block in reader:
            signs.see_block(block)
            for line, position in zip(block.lines, block.row_positions, strict=True):
                spool.add(line, position)
            for rejected in block.rejected:  # it has no bytes that could be staged
                raise BatchError(
                    "stage-record-too-large" if rejected.code == TOO_LARGE else "file-broken",
                    position=rejected.position,
                )
            spool.relieve()


def batch_folders(
    contents: Sequence[str],
    root: StoragePath,
    user_id: str,
    day: date,
    batch_id: str | None,
    now: datetime,
    there: Sequence[BatchFolder | None] = (),
) -> list[BatchFolder]:
    """Return the folders of batches, none of which exists but those that are there already.

    :param contents: for each batch, a digest in hex of what it holds.
    :param batch_id: the batch's id, or its beginning when there are several; made from time and content if
        left out.
    :param now: the present.
    :param there: for each batch, the folder with its content if there is one.
    :raises BatchError: ``stage-exists``.
    """
    known = there or [None] * len(contents)
    folders = []
    for number, content in enumerate(contents, start=1):
        if batch_id is None:
            name = f"{now:%Y%m%dT%H%M%SZ}-{content[:10]}"
        else:
            name = batch_id if len(contents) == 1 else f"{batch_id}-{number}"
        folders.append(known[number - 1] or BatchFolder.at(root, f"{day.isoformat()}/{user_id}/{name}"))
    for folder, is_known in zip(folders, known, strict=True):
        if is_known is None and exists(folder.path, IN_BATCH - 1):
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
        original = edits or RecordEdits()
        edits = original.model_copy(
            update={"set_fields": {**original.set_fields, "deviceId": output.device_id}}
        )
    optional = {name: value for name, value in (("edits", edits), ("connection", connection)) if value}
    body = {**fields, "deviceId": output.device_id}
    return made_manifest({"user_id": user_id, "data_set": body, "files": (output.staged_file(),), **optional})


def made_manifest(members: Mapping[str, Any]) -> Manifest:
    """Return the manifest of a new batch.

    :param members: its members.
    :raises BatchError: ``stage-arguments``.
    """
    if found := first_problem(members["data_set"]):
        raise BatchError("stage-arguments", detail=f"its data set holds {found[1]}, and not as padding")
    try:
        return Manifest.model_validate(members)
    except ValidationError:
        raise BatchError(
            "stage-arguments", detail="the connection or the data set's type is not valid"
        ) from None


def unpadded_fields(fields: Mapping[str, JsonValue], padding: Counter[str]) -> dict[str, JsonValue]:
    """Return fields without the padding of texts, and without texts that are nothing else.

    :param fields: members of the body of a data set.
    :param padding: counts them, by field.
    """

    def unpadded(name: str, value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            stripped = [unpadded(name, member) for member in value]
            return [text for text, member in zip(stripped, value, strict=True) if text or not member]
        text = without_padding(value) if isinstance(value, str) else value
        padding[name] += text != value
        return text

    stripped = {name: unpadded(name, value) for name, value in fields.items()}
    return {name: value for name, value in stripped.items() if value or not fields[name]}


def _staged_format(source_format: str, like: Manifest | None) -> str:
    """Return the format of the staged files: an export stays one, so that `prepare` cleans it."""
    formats = (source_format, *(file.format for file in (like.files if like else ())))
    return next((name for name in formats if FORMATS[name].stages_rows), RECORDS_FORMAT)


def _manifest_like(like: Manifest, output: Output) -> Manifest:
    shared = like.model_dump(exclude_unset=True, exclude={"files", "replaces", "retracts"})
    return Manifest.model_validate({**shared, "files": (output.staged_file(),)})


def found_in(already: AlreadyStaged | None, manifests: Sequence[Manifest]) -> list[BatchFolder | None]:
    """Return for each manifest the batch in staging that has its content, if somebody wants to know.

    :param already: what is in staging.
    :param manifests: of new batches.
    """
    return [None if already is None else already.find(manifest) for manifest in manifests]


def publish(
    contents: Sequence[Sequence[Callable[[], Iterator[bytes]]]],
    batches: Sequence[BatchFolder],
    manifests: Sequence[Manifest],
    already: AlreadyStaged | None = None,
) -> None:
    """Write all data files, then all manifests: if interrupted, no batch counts as ready too early.

    :param contents: for each batch, what yields the bytes of each of its files.
    :param batches: where they are to be; those that are there already are left as they are.
    :param manifests: what describes them.
    :param already: knows which are.
    """
    there = already.found if already is not None else set()
    new = [index for index, batch in enumerate(batches) if batch not in there]
    made = [batches[index] for index in new]
    try:
        for index in new:
            batch, manifest = batches[index], manifests[index]
            make_folder(batch.path, SHARED_FOLDER)
            for content, file in zip(contents[index], manifest.files, strict=True):
                with WholeFileWriter(batch.path / file.name, SHARED_FILE, below_root=IN_BATCH) as target:
                    for piece in content():
                        target.write(piece)
    except BaseException:
        for batch in made:
            remove_folder(batch.path)
        raise
    for index in new:
        path = batches[index].path / MANIFEST_NAME
        write_whole(path, manifests[index].to_json(), SHARED_FILE, below_root=IN_BATCH)
    if already is not None:
        already.add(made, [manifests[index] for index in new])


def check_replaces(replaces: str | None, batches: int) -> None:
    """Make sure that there is one batch that replaces another one.

    :param replaces: the id of the batch that is to be replaced, if there is one.
    :param batches: how many batches the file makes.
    :raises BatchError: ``stage-arguments``.
    """
    if replaces is not None and not re.fullmatch(BATCH_ID_PATTERN, replaces):
        raise BatchError("stage-arguments", detail="the batch to replace has no batch's name")
    if replaces is not None and batches > 1:
        raise BatchError(
            "stage-arguments",
            detail=f"the file holds the data of {batches} devices, which makes a batch for each, and they "
            "cannot all replace the same one",
        )


def check_arguments(user_id: str, batch_id: str | None, edits: RecordEdits | None) -> None:
    """Make sure that a batch can be staged with these arguments.

    :raises BatchError: ``stage-arguments``.
    """
    if not is_user_id(user_id):
        raise BatchError("stage-arguments", detail="the user id is neither 10 hex digits nor a UUID")
    if batch_id is not None and not is_batch_id(batch_id):
        raise BatchError("stage-arguments", detail="the batch id is not a plain folder name")
    if edits is None:
        return
    if "deviceId" in edits.drop:
        raise BatchError("stage-arguments", detail="the edits drop deviceId, which each record needs")
    if "deviceId" in edits.set_fields and not _set_device(edits):
        raise BatchError("stage-arguments", detail="the edits set deviceId to something that is not text")


def _set_device(edits: RecordEdits | None) -> str | None:
    return text_of(edits.set_fields, "deviceId") if edits else None


def text_of(fields: Mapping[str, JsonValue], name: str) -> str | None:
    """Return a field if it is text that is not empty."""
    value = fields.get(name)
    return value if isinstance(value, str) and value else None
