"""The work area of a batch: what ``prepare`` leaves behind for ``upload`` and for people.

``<root>/_work/<content key>/`` holds

* ``accepted.ndjson``: accepted records, one a line, as they go to Tidepool,
* ``quarantine.ndjson``: one object for each refused record, for a person to correct and stage again,
* ``prepared.json``: the chunk plan and the counts, written last.

Where the deployment gives a key, all three are sealed, see :mod:`.sealing`.

An area without ``prepared.json`` is unfinished and counts as not there. A giant batch that is cut into
parts has no ``accepted.ndjson``: each part has a work area of its own, which ``parts.json`` names before it
is written, and all share the batch's quarantine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from pydantic import ValidationError
from upath import UPath

from tidepool_ingest.staging.chunk_plan import PREPARED_VERSION, Chunk, PreparedBatch, Run
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.quarantine import QuarantineWriter, rewrite
from tidepool_ingest.staging.sealing import seal, unseal
from tidepool_ingest.staging.storage import (
    WholeFileWriter,
    make_folder,
    read_at_most,
    read_range,
    remove_file,
    remove_folder,
    remove_half_written,
    size_of,
    write_whole,
)

WORK_FOLDER = "_work"
ACCEPTED_NAME = "accepted.ndjson"
QUARANTINE_NAME = "quarantine.ndjson"
PREPARED_NAME = "prepared.json"
PARTS_NAME = "parts.json"

MAX_PREPARED_BYTES = 256 * 1024 * 1024
"""Largest chunk plan read: some 300 bytes a chunk, so hundreds of millions of records."""

_CONTENT_KEY = re.compile(r"[0-9a-f]{64}")


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
        """Where the accepted records lie."""
        return self.path / ACCEPTED_NAME

    @property
    def quarantine_path(self) -> UPath:
        """Where the refused records lie."""
        return self.path / QUARANTINE_NAME

    @property
    def plan_path(self) -> UPath:
        """Where the plan lies."""
        return self.path / PREPARED_NAME

    def beside(self, content_key: str) -> WorkArea:
        """Return the work area of another content, such as a part of this one."""
        return WorkArea(self._root, content_key)

    def holding_records(self, prepared: PreparedBatch) -> Iterator[tuple[WorkArea, PreparedBatch]]:
        """Yield the areas that hold this batch's accepted records, with their plans: its parts', or itself.

        :param prepared: this area's plan.
        :raises BatchError: ``work-area-damaged`` when that of a part is not there.
        """
        if not prepared.parts:
            yield self, prepared
        for number, part in enumerate(prepared.parts, 1):
            area = self.beside(part.content_key)
            plan = area.load()
            if plan is None:
                raise BatchError("work-area-damaged", detail=f"part {number} is not there")
            yield area, plan

    def announce_parts(self, keys: Sequence[str]) -> None:
        """Note which work areas of parts are about to be written, so that they are found whatever ends that.

        :param keys: content keys of the parts.
        """
        known = [*dict.fromkeys((*self._announced(), *keys))]
        write_whole(self.path / PARTS_NAME, json.dumps(known).encode())

    def drop_parts(self, keep: Sequence[str] = ()) -> None:
        """Remove the work areas of parts that were ever announced.

        :param keep: content keys of those that stay.
        """
        if gone := [key for key in self._announced() if key not in keep]:
            for key in gone:
                self.beside(key).discard()
            write_whole(self.path / PARTS_NAME, json.dumps(list(keep)).encode())

    def _announced(self) -> list[str]:
        try:
            content = read_at_most(self.path / PARTS_NAME, MAX_PREPARED_BYTES, missing="work-area-damaged")
        except BatchError as error:
            if error.code == "work-area-damaged":
                return []
            raise
        return [str(key) for key in json.loads(content)]

    def whole_plan(self) -> PreparedBatch | None:
        """Return the plan as :meth:`load` does, but nothing either when the area of a part is not whole."""
        prepared = self.load()
        if prepared and all(self.beside(part.content_key).load() for part in prepared.parts):
            return prepared
        return None

    def begin(self) -> None:
        """Make the folder and take away an older plan: the area counts as not there until it is whole."""
        make_folder(self.path.parent)
        make_folder(self.path)
        remove_file(self.plan_path)

    def accepted_writer(self) -> AcceptedWriter:
        """Return the writer of the accepted records, for a ``with`` statement."""
        return AcceptedWriter(self.accepted_path)

    def quarantine_writer(self) -> QuarantineWriter:
        """Return the writer of the refused records, for a ``with`` statement."""
        return QuarantineWriter(self.quarantine_path)

    def finish(self, prepared: PreparedBatch) -> None:
        """Write the plan; from now on the area is whole.

        :param prepared: the plan, after both writers were closed.
        """
        plan = prepared.model_dump_json(by_alias=True).encode()
        write_whole(self.plan_path, seal(plan))  # it holds the data set body, which names the device

    def load(self) -> PreparedBatch | None:
        """Return the plan, or nothing when the area is unfinished, of another version, or not there.

        :raises BatchError: ``staging-unreadable``, ``work-area-sealed`` when no key opens it, or
            ``work-area-damaged`` when the plan is no plan.
        """
        try:
            content = read_at_most(self.plan_path, MAX_PREPARED_BYTES, missing="work-area-damaged")
        except BatchError as error:
            if error.code == "work-area-damaged":
                return None
            raise
        content = unseal(content)
        problem = "the plan cannot be read"
        try:
            if json.loads(content).get("version") != PREPARED_VERSION:
                return None
            prepared = PreparedBatch.model_validate_json(content)
        except (ValidationError, ValueError, AttributeError):
            prepared = None
        if prepared is not None and prepared.content_key != self.content_key:
            prepared, problem = None, "the plan is another batch's"
        if prepared is None:
            raise BatchError("work-area-damaged", detail=problem)
        return prepared

    def read_chunk(self, chunk: Chunk) -> list[bytes]:
        """Return the records of a chunk, reading no more than its bytes.

        :param chunk: a chunk of this area's plan.
        :raises BatchError: ``work-area-damaged`` when they are not the bytes that prepare wrote,
            ``work-area-sealed`` when no key opens them.
        """
        written = read_range(self.accepted_path, chunk.offset, chunk.length, missing="work-area-damaged")
        content = unseal(written)
        if hashlib.sha256(content).hexdigest() != chunk.digest:
            raise BatchError("work-area-damaged", detail=f"chunk {chunk.index} differs from its digest")
        return content.split(b"\n")[:-1]

    def add_to_quarantine(
        self, prepared: PreparedBatch, refused: Mapping[int, Sequence[tuple[str, str]]]
    ) -> None:
        """Let the quarantine file hold accepted records too that Tidepool refused; those in it stay once.

        What is refused of a part goes to the one file of the whole batch.

        :param prepared: this area's plan.
        :param refused: codes and pointers by the record's place among the accepted ones.
        :raises BatchError: ``work-area-damaged`` when a file is not what prepare wrote.
        """
        entries = {}
        for chunk in prepared.chunks:
            ordinals = range(chunk.first_record, chunk.first_record + chunk.records)
            if wanted := [ordinal for ordinal in refused if ordinal in ordinals]:
                lines = self.read_chunk(chunk)
                for ordinal in wanted:
                    line = lines[ordinal - chunk.first_record]
                    entries[chunk.place_of(ordinal)] = (refused[ordinal], line)
        area = self.beside(prepared.whole.content_key) if prepared.whole else self
        rewrite(area.quarantine_path, entries)

    def leave_to_parts(self) -> None:
        """Remove the accepted records: the areas of the parts hold them."""
        remove_file(self.accepted_path)

    def drop_accepted(self) -> None:
        """Remove the accepted records, those of parts too, the plan first; the refused ones stay."""
        remove_file(self.plan_path)
        self.drop_parts()
        remove_file(self.accepted_path)
        remove_half_written(self.path)

    def holds_refused(self) -> bool:
        """Tell whether there are refused records."""
        return size_of(self.quarantine_path) > 0

    def discard(self) -> None:
        """Remove the area with those of its parts, the plan first; nothing happens when it is not there."""
        remove_file(self.plan_path)
        self.drop_parts()
        remove_folder(self.path)


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

    def write(self, lines: Sequence[bytes], *, plain: bool = False, places: Sequence[Run] = ()) -> Chunk:
        """Append the records of one chunk.

        :param lines: the records, none of them with a line break.
        :param plain: see :class:`Chunk`.
        :param places: see :class:`Chunk`.
        :raises ValueError: a record has a line break; JSON has none inside a string, so it was not judged.
        """
        content = b"\n".join((*lines, b""))
        if content.count(b"\n") != len(lines):
            raise ValueError("an accepted record holds a line break")
        written = seal(content)
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
