"""The work area of a batch: what ``prepare`` writes for ``upload`` and for people.

``<root>/_work/<content key>/`` holds

* ``accepted.ndjson``: accepted records, one per line, as they go to Tidepool,
* ``quarantine.ndjson``: one object for each rejected record, for a person to correct and stage again,
* ``quarantine.sha256``: the digest of that file as it was written,
* ``prepared.json``: the chunk plan and the counts, written last; it begins with the digest of the rest.

If the deployment provides a key, the records and the plan are encrypted, see :mod:`.encryption`.

An area without ``prepared.json`` is unfinished and counts as missing; so does one in which something is not
as it was written. Whatever is in an area can be rebuilt from staging and the ledger.

A giant batch that is cut into parts has no ``accepted.ndjson``: each part has a work area of its own, which
``parts.json`` names before it is written, and all share the batch's quarantine.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic.alias_generators import to_camel

from tidepool_ingest.staging.encryption import configured_keys, decrypt, encrypt, tokens_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import Deletion
from tidepool_ingest.staging.quarantine import Place, QuarantineWriter, is_intact, rewrite
from tidepool_ingest.staging.storage import (
    IN_WORK_AREA,
    WholeFileWriter,
    make_folder,
    read_at_most,
    read_blocks,
    read_range,
    remove_file,
    remove_folder,
    remove_partial_files,
    size_of,
    write_whole,
)

if TYPE_CHECKING:
    from upath import UPath

PREPARED_VERSION = 3
"""Version of ``prepared.json``; an area of another version is prepared again."""

_Count = Annotated[int, Field(ge=0)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_by_alias=True, validate_by_name=True
    )


class SourceRange(NamedTuple):
    """Records from consecutive rows of a staged file, one from each.

    :param file: number of the file in the manifest, counting from 1.
    :param position: position of the first row in it, counting from 0.
    :param records: how many they are.
    :param record: which of the row's records it is, from 0; above 0 only if the range is of one row.
    """

    file: int
    position: int
    records: int
    record: int = 0


class Chunk(_Model):
    """Accepted records that travel in one request.

    :param index: its number in the plan, counting from 0.
    :param first_record: ordinal of its first record among the accepted ones, counting from 0.
    :param offset: first byte of it in ``accepted.ndjson``.
    :param length: its bytes there, line ends included; those of its token if the file is encrypted.
    :param records: how many records it holds.
    :param digest: sha256 of its decrypted lines, in hex.
    :param plain: whether no record of it was staged with an identifier or holds an embedded datum, so that
        identifiers can be appended without decoding the records.
    :param places: where its records were staged, in their order.
    """

    index: _Count
    first_record: _Count
    offset: _Count
    length: _Count
    records: _Count
    digest: _Digest
    plain: bool = False
    places: tuple[SourceRange, ...] = ()

    def place_of(self, ordinal: int) -> Place:
        """Return where one of its records was staged.

        :param ordinal: the record's ordinal among the accepted ones, from 0.
        :raises ValueError: it is not a record of this chunk.
        """
        offset = ordinal - self.first_record
        if offset >= 0:
            for source in self.places:
                if offset < source.records:
                    return Place(source.file, source.position + offset, source.record)
                offset -= source.records
        raise ValueError("the record is not one of this chunk")


class Part(_Model):
    """A part of a giant batch: a batch of its own, in a work area of its own.

    :param content_key: names its work area; made from the batch's own key and from where it was cut.
    :param records: how many records it holds, all of them accepted.
    :param expected_rows: rows that the Platform makes of them.
    :param chunks: requests that they are sent in.
    :param size: bytes of them.
    """

    content_key: _Digest
    records: _Count
    expected_rows: _Count
    chunks: _Count
    size: _Count


class Whole(_Model):
    """The batch that a part is cut from: percentages are of all its records; its quarantine is for all parts.

    :param content_key: names its work area.
    :param records: how many records were staged.
    :param accepted: how many of them are accepted.
    :param quarantined: how many of them are in its quarantine.
    :param expected_rows: rows that the Platform makes of the accepted ones.
    """

    content_key: _Digest
    records: _Count
    accepted: _Count
    quarantined: _Count
    expected_rows: _Count


class PreparedBatch(_Model):
    """The result of preparing a batch.

    :param version: ``PREPARED_VERSION``.
    :param content_key: the batch's content key.
    :param chunk_records: most records in a chunk, as requested.
    :param data_set: the manifest's data set body.
    :param records: how many records were staged.
    :param skipped: how many rows are not readings and gave no record, by reason.
    :param accepted: how many of the records are accepted, by type.
    :param days: how many of the accepted ones fall on each UTC day, by type.
    :param hours: the same by hour, as :func:`~tidepool_ingest.coverage.text_of_hours` writes them; empty in
        what was prepared before they were counted.
    :param inside: how many of the accepted ones are sent inside another one that embeds them.
    :param quarantined: how many are in quarantine.
    :param identical: how many are duplicates of an accepted one.
    :param replaced: how many have a later version in the batch, by type; in a feed only.
    :param deletes: the records that the batch deletes; in a feed only.
    :param retracts: how many records the batch has that it retracts; ``None`` if it retracts none.
    :param meant_as: codes of what would hold the batch, and is as it is meant to be.
    :param expected_rows: rows that the Platform makes of the accepted records; it splits some.
    :param reasons: how many records were rejected with each code, by type.
    :param warnings: how many records got each warning, by type; they are accepted nevertheless.
    :param changes: how many records were edited, by field.
    :param converters: which converters made the records of staged rows, by format, and in which version.
    :param chunks: the plan; empty for a batch that is cut into parts, each of which has its own.
    :param part_records: most rows in a part, as requested; ``None`` for what must stay whole.
    :param parts: what the batch is cut into; empty for a whole one.
    :param whole: for a part, what it is cut from.
    """

    version: int = PREPARED_VERSION
    content_key: _Digest
    chunk_records: Annotated[int, Field(ge=1)]
    data_set: Annotated[dict[str, JsonValue], Field(repr=False)]
    records: _Count
    skipped: dict[str, _Count] = {}
    accepted: dict[str, _Count] = {}
    days: dict[date, dict[str, _Count]] = {}
    hours: dict[date, dict[str, str]] = {}
    inside: _Count = 0
    quarantined: _Count = 0
    identical: _Count = 0
    replaced: dict[str, _Count] = {}
    deletes: tuple[Deletion, ...] = ()
    retracts: _Count | None = None
    meant_as: tuple[str, ...] = ()
    expected_rows: _Count = 0
    reasons: dict[str, dict[str, _Count]] = {}
    warnings: dict[str, dict[str, _Count]] = {}
    changes: dict[str, _Count] = {}
    converters: dict[str, _Count] = {}
    chunks: tuple[Chunk, ...] = ()
    part_records: Annotated[int, Field(ge=1)] | None = None
    parts: tuple[Part, ...] = ()
    whole: Whole | None = None

    @property
    def travelling(self) -> int:
        """How many records are sent as such: accepted ones that are not inside another."""
        return sum(self.accepted.values()) - self.inside

    @property
    def requests(self) -> int:
        """How many requests they are sent in, those of all parts."""
        return len(self.chunks) + sum(part.chunks for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the accepted records."""
        return sum(chunk.length for chunk in self.chunks) + sum(part.size for part in self.parts)


WORK_FOLDER = "_work"
ACCEPTED_NAME = "accepted.ndjson"
QUARANTINE_NAME = "quarantine.ndjson"
PREPARED_NAME = "prepared.json"
PARTS_NAME = "parts.json"

MAX_PREPARED_BYTES = 256 * 1024 * 1024
"""Largest chunk plan read: some 300 bytes a chunk, so hundreds of millions of records."""

_CONTENT_KEY = re.compile(r"[0-9a-f]{64}")

_PLAN_DIGEST = re.compile(rb'\{"sha256":"([0-9a-f]{64})",')
"""How a plan begins."""


class WorkArea:
    """The work area of one batch content.

    :param root: the staging root.
    :param content_key: see :func:`~tidepool_ingest.staging.manifest.content_key`.
    """

    def __init__(self, root: UPath, content_key: str) -> None:
        if not _CONTENT_KEY.fullmatch(content_key):
            raise ValueError("a content key is 64 lower-case hex digits")
        self.content_key = content_key
        self._root = root
        self.path = root / WORK_FOLDER / content_key

    @property
    def accepted_path(self) -> UPath:
        """Where the accepted records are."""
        return self.path / ACCEPTED_NAME

    @property
    def quarantine_path(self) -> UPath:
        """Where the rejected records are."""
        return self.path / QUARANTINE_NAME

    @property
    def plan_path(self) -> UPath:
        """Where the plan is."""
        return self.path / PREPARED_NAME

    def beside(self, content_key: str) -> WorkArea:
        """Return the work area of another content, such as a part of this one."""
        return WorkArea(self._root, content_key)

    def areas_with_records(self, prepared: PreparedBatch) -> Iterator[tuple[WorkArea, PreparedBatch]]:
        """Yield the areas that hold this batch's accepted records, with their plans: its parts', or itself.

        :param prepared: this area's plan.
        :raises BatchError: ``work-area-damaged`` if that of a part is missing.
        """
        if not prepared.parts:
            yield self, prepared
        for number, part in enumerate(prepared.parts, 1):
            area = self.beside(part.content_key)
            plan = area.load()
            if plan is None:
                raise BatchError("work-area-damaged", detail=f"part {number} is not there")
            yield area, plan

    def record_part_areas(self, keys: Sequence[str]) -> None:
        """Record which work areas of parts are about to be written, so that they are found after a crash.

        :param keys: content keys of the parts.
        """
        known = [*dict.fromkeys((*self._recorded_parts(), *keys))]
        write_whole(self.path / PARTS_NAME, json.dumps(known).encode())

    def drop_parts(self, keep: Sequence[str] = ()) -> None:
        """Remove the work areas of all parts ever recorded.

        :param keep: content keys of those that stay.
        """
        if surplus := [key for key in self._recorded_parts() if key not in keep]:
            for key in surplus:
                self.beside(key).discard()
            write_whole(self.path / PARTS_NAME, json.dumps(list(keep)).encode())

    def _recorded_parts(self) -> list[str]:
        try:
            content = self._read(self.path / PARTS_NAME)
        except BatchError as error:
            if error.code == "work-area-damaged":
                return []
            raise
        try:
            recorded = json.loads(content)
        except ValueError:
            recorded = re.findall(r"[0-9a-f]{64}", content.decode("ascii", "replace"))
        return [key for key in recorded if isinstance(key, str) and _CONTENT_KEY.fullmatch(key)]

    def _read(self, path: UPath) -> bytes:
        return read_at_most(path, MAX_PREPARED_BYTES, below_root=IN_WORK_AREA, missing="work-area-damaged")

    def quarantine_blocks(self) -> Iterator[bytes]:
        """Yield the quarantine file as it was written.

        :raises BatchError: ``work-area-damaged`` if there is none.
        """
        return read_blocks(self.quarantine_path, below_root=IN_WORK_AREA, missing="work-area-damaged")

    def whole_plan(self) -> PreparedBatch | None:
        """Return the plan, but ``None`` if a file of the area, or of that of a part, is visibly not whole.

        Looks at the plans, the quarantine and the sizes of the others; :meth:`holds` reads them.
        """
        prepared = self.load()
        if prepared is None or not is_intact(self.quarantine_path):
            return None
        areas = [self.beside(part.content_key) for part in prepared.parts]
        plans = [(area, area.load()) for area in areas] or [(self, prepared)]
        is_whole = all(plan is not None and area._has_size_of(plan) for area, plan in plans)
        return prepared if is_whole else None

    def _has_size_of(self, plan: PreparedBatch) -> bool:
        return not plan.chunks or size_of(self.accepted_path) == sum(chunk.length for chunk in plan.chunks)

    def holds(self, plan: PreparedBatch) -> bool:
        """Return whether every chunk of a plan is as it was written; reads them all.

        :param plan: this area's plan, not that of a batch that is cut into parts.
        """
        try:
            for chunk in plan.chunks:
                self.read_chunk(chunk)
        except BatchError as error:
            if error.code == "work-area-damaged":
                return False
            raise
        return True

    def is_quarantine_intact(self) -> bool:
        """Return whether the rejected records are as they were written."""
        return is_intact(self.quarantine_path)

    def begin(self) -> None:
        """Make the folder and remove an older plan: the area counts as missing until it is complete."""
        make_folder(self.path.parent, below_root=IN_WORK_AREA - 2)
        make_folder(self.path, below_root=IN_WORK_AREA - 1)
        remove_file(self.plan_path)

    def accepted_writer(self) -> AcceptedWriter:
        """Return the writer of the accepted records, for a ``with`` statement."""
        return AcceptedWriter(self.accepted_path)

    def quarantine_writer(self) -> QuarantineWriter:
        """Return the writer of the rejected records, for a ``with`` statement."""
        return QuarantineWriter(self.quarantine_path)

    def finish(self, prepared: PreparedBatch) -> None:
        """Write the plan; from now on the area is complete.

        :param prepared: the plan, after both writers were closed.
        """
        plan = prepared.model_dump_json(by_alias=True).encode()
        digest = hashlib.sha256(plan).hexdigest()
        plan = b'{"sha256":"%s",%s' % (digest.encode(), plan[1:])
        write_whole(self.plan_path, encrypt(plan))  # it holds the data set body, which names the device

    def load(self) -> PreparedBatch | None:
        """Return the plan, or ``None`` if the area is unfinished, of another version, damaged or missing.

        :raises BatchError: ``staging-unreadable``, or ``work-area-sealed`` if no key decrypts it.
        """
        try:
            content = self._read(self.plan_path)
        except BatchError as error:
            if error.code == "work-area-damaged":
                return None
            raise
        try:
            content = self._decrypted(content)
        except BatchError as error:
            if error.code == "work-area-damaged":
                return None
            raise
        if found := _PLAN_DIGEST.match(content):
            content = b"{" + content[found.end() :]
            if hashlib.sha256(content).hexdigest() != found[1].decode():
                return None
        try:
            if json.loads(content).get("version") != PREPARED_VERSION:
                return None
            prepared = PreparedBatch.model_validate_json(content)
        except (ValidationError, ValueError, AttributeError):
            return None
        return prepared if prepared.content_key == self.content_key else None

    def _decrypted(self, written: bytes) -> bytes:
        """Return what was encrypted.

        :raises BatchError: ``work-area-sealed`` if no key decrypts it, but ``work-area-damaged`` if one
            decrypts other parts of the area.
        """
        try:
            return decrypt(written)
        except BatchError as error:
            if error.code == "work-area-sealed" and self._keys_fit():
                raise BatchError("work-area-damaged", detail="an encrypted file is damaged") from None
            raise

    def _keys_fit(self) -> bool:
        """Return whether the keys decrypt anything that is here; ``True`` also if nothing else is here."""
        seen = 0
        for area in (self, *(self.beside(key) for key in self._recorded_parts())):
            for path in (area.plan_path, area.accepted_path, area.quarantine_path):
                with contextlib.suppress(BatchError):
                    written = read_blocks(path, below_root=IN_WORK_AREA, missing="work-area-damaged")
                    for token in tokens_of(written):
                        seen += 1
                        with contextlib.suppress(BatchError):
                            decrypt(token)
                            return True
        return seen <= 1 and bool(configured_keys())

    def read_chunk(self, chunk: Chunk) -> list[bytes]:
        """Return the records of a chunk; see :meth:`read_content`."""
        return self.read_content(chunk).split(b"\n")[:-1]

    def read_content(self, chunk: Chunk) -> bytes:
        """Return the records of a chunk as lines, reading no more than its bytes.

        :param chunk: a chunk of this area's plan.
        :raises BatchError: ``work-area-damaged`` if they are not the bytes that prepare wrote,
            ``work-area-sealed`` if no key decrypts them.
        """
        written = read_range(self.accepted_path, chunk.offset, chunk.length, missing="work-area-damaged")
        content = self._decrypted(written)
        if hashlib.sha256(content).hexdigest() != chunk.digest:
            raise BatchError("work-area-damaged", detail=f"chunk {chunk.index} differs from its digest")
        return content

    def add_to_quarantine(
        self, prepared: PreparedBatch, rejected: Mapping[int, Sequence[tuple[str, str]]]
    ) -> None:
        """Add accepted records that Tidepool rejected to the quarantine file, each of them once.

        Those of a part go to the one file of the whole batch.

        :param prepared: this area's plan.
        :param rejected: codes and pointers by the record's ordinal among the accepted ones.
        :raises BatchError: ``work-area-damaged`` if a file is not what prepare wrote.
        """
        entries = {}
        for chunk in prepared.chunks:
            ordinals = range(chunk.first_record, chunk.first_record + chunk.records)
            if affected := [ordinal for ordinal in rejected if ordinal in ordinals]:
                lines = self.read_chunk(chunk)
                for ordinal in affected:
                    line = lines[ordinal - chunk.first_record]
                    entries[chunk.place_of(ordinal)] = (rejected[ordinal], line)
        rewrite(self.checked_quarantine(prepared), entries)

    def checked_quarantine(self, prepared: PreparedBatch) -> UPath:
        """Return where the rejected records are; those of a part are with the whole batch's.

        :param prepared: this area's plan.
        :raises BatchError: ``work-area-damaged`` if they are not as they were written.
        """
        area = self.beside(prepared.whole.content_key) if prepared.whole else self
        if not area.is_quarantine_intact():
            raise BatchError("work-area-damaged", detail="the quarantine file was changed or damaged")
        return area.quarantine_path

    def invalidate(self) -> None:
        """Let the area count as missing: something in it is damaged and cannot be rebuilt."""
        remove_file(self.plan_path)

    def drop_own_records(self) -> None:
        """Remove the accepted records: the areas of the parts hold them."""
        remove_file(self.accepted_path)

    def drop_accepted(self) -> None:
        """Remove the accepted records, those of parts too, the plan first; the rejected ones stay."""
        remove_file(self.plan_path)
        self.drop_parts()
        remove_file(self.accepted_path)
        remove_partial_files(self.path)

    def has_rejected_records(self) -> bool:
        """Return whether there are rejected records."""
        return size_of(self.quarantine_path) > 0

    def discard(self) -> None:
        """Remove the area with those of its parts, the plan first; nothing happens if it does not exist."""
        remove_file(self.plan_path)
        self.drop_parts()
        remove_folder(self.path, below_root=IN_WORK_AREA - 1)


class AcceptedWriter:
    """Writes accepted records chunk by chunk; the file appears when the ``with`` statement ends well.

    :param path: the file.
    """

    def __init__(self, path: UPath) -> None:
        self._writer = WholeFileWriter(path)
        self._records = 0
        self.chunks: list[Chunk] = []

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(
        self, lines: Sequence[bytes], *, plain: bool = False, places: Sequence[SourceRange] = ()
    ) -> Chunk:
        """Append the records of one chunk.

        :param lines: the records, none of them with a line break.
        :param plain: see :class:`Chunk`.
        :param places: see :class:`Chunk`.
        :raises ValueError: a record has a line break; JSON has none inside a string, so it was not validated.
        """
        content = b"\n".join((*lines, b""))
        if content.count(b"\n") != len(lines):
            raise ValueError("an accepted record holds a line break")
        written = encrypt(content)
        chunk = Chunk(
            index=len(self.chunks),
            first_record=self._records,
            offset=self._writer.size,
            length=len(written),
            records=len(lines),
            digest=hashlib.sha256(content).hexdigest(),
            plain=plain,
            places=tuple(places),
        )
        self._writer.write(written)
        self._records += len(lines)
        self.chunks.append(chunk)
        return chunk
