"""The quarantine file: rejected records with their reasons, for a person to correct and stage again.

One JSON object per line: ``file`` and ``position`` say where the record was staged, ``problems`` why it was
rejected, and ``record`` is its row, the text as staged. What is not a JSON object, or is very long, is a
string in ``recordText``; what is not UTF-8 is in ``recordBase64``; where the row could not be held,
``record`` is ``null``. ``recordOfRow`` stands beside ``position`` for a second or later record of one row,
and ``where`` is what a person calls the position.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, Self

from tidepool_ingest.deep_json import loads
from tidepool_ingest.staging.compression import gathered
from tidepool_ingest.staging.encryption import decrypted, encrypt
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import (
    IN_WORK_AREA,
    WholeFileWriter,
    read_at_most,
    read_blocks,
    sha256_of,
    write_whole,
)

if TYPE_CHECKING:
    from upath import UPath

WRITE_BYTES: Final = 1024 * 1024
"""Bytes gathered before they are written."""

OBJECT_BYTES_MAX: Final = 256 * 1024
"""Longest record that is decoded to see whether it is an object: decoded, it can take many times its size."""

_POSITION: Final = re.compile(rb'\{"file":(\d+),"position":(\d+),(?:"recordOfRow":(\d+),)?')
"""How an entry begins; it can be far too long to be decoded for its source position."""


class Place(NamedTuple):
    """Where a record was staged.

    :param file: number of the file in its manifest, counting from 1.
    :param position: which row of the file, counting from 0.
    :param record: which of the row's records, counting from 0.
    """

    file: int
    position: int
    record: int = 0


def digest_path(path: UPath) -> UPath:
    """Return where the digest of a quarantine file is."""
    return path.with_suffix(".sha256")


def is_intact(path: UPath) -> bool:
    """Return whether a quarantine file is there, and as it was written if its digest is beside it.

    :param path: the file.
    :raises BatchError: ``staging-unreadable``.
    """
    try:
        digest = sha256_of(path, below_root=IN_WORK_AREA, missing="work-area-damaged")
        beside = digest_path(path)
        written = read_at_most(beside, len(digest), below_root=IN_WORK_AREA, missing="file-missing")
        return written == digest.encode()
    except BatchError as error:
        if error.code == "file-missing":
            return True
        if error.code == "work-area-damaged":
            return False
        raise


class QuarantineWriter:
    """Writes rejected records; the file appears, maybe empty, when the ``with`` statement ends well.

    Its digest follows it: after a crash in between, the file counts as damaged.

    :param path: the file.
    """

    def __init__(self, path: UPath) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._writer = WholeFileWriter(path)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self.records = 0

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.__exit__(kind, error, trace)
        if kind is None:
            write_whole(digest_path(self._path), self._digest.hexdigest().encode())

    def add(
        self, place: Place, problems: Iterable[tuple[str, str]], record: bytes | None, *, where: str = ""
    ) -> None:
        """Append one rejected record.

        :param place: where it was staged.
        :param problems: why it was rejected: codes and JSON pointers relative to the record.
        :param record: the text of its row as staged, ``None`` if that could not be held.
        :param where: what a person calls the position, if there is a better name than its number.
        """
        entry = {
            "file": place.file,
            "position": place.position,
            **({"recordOfRow": place.record} if place.record else {}),
            **({"where": where} if where else {}),
            "problems": [{"code": code, "pointer": pointer} for code, pointer in problems],
        }
        self.keep(b"%s,%s}\n" % (_json(entry)[:-1], _record_member(record)))

    def keep(self, line: bytes) -> None:
        """Append an entry as a quarantine file has it.

        :param line: the entry, line end included.
        """
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self.records += 1
        if self._waiting_bytes >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        written = encrypt(b"".join(self._waiting))
        self._digest.update(written)
        self._writer.write(written)
        self._waiting.clear()
        self._waiting_bytes = 0


def rewrite(path: UPath, entries: Mapping[Place, tuple[Iterable[tuple[str, str]], bytes]]) -> None:
    """Add entries to a quarantine file; entries for the same source positions are replaced.

    :param path: the file.
    :param entries: problems and record, by where it was staged.
    :raises BatchError: ``work-area-damaged`` if there is no such file.
    """
    # Some storages empty a file when it is opened for writing: what is kept has to be elsewhere by then.
    with tempfile.TemporaryFile() as elsewhere:
        for block in gathered(_kept(path, entries), WRITE_BYTES):
            elsewhere.write(encrypt(block))
        elsewhere.seek(0)
        _write(path, _lines(decrypted(iter(lambda: elsewhere.read(WRITE_BYTES), b""))), entries)


def _kept(path: UPath, entries: Mapping[Place, Any]) -> Iterator[bytes]:
    blocks = read_blocks(path, below_root=IN_WORK_AREA, missing="work-area-damaged")
    for line in _lines(decrypted(blocks)):
        found = _POSITION.match(line)
        if found is None or Place(*(int(number or 0) for number in found.groups())) not in entries:
            yield line


def _write(
    path: UPath, kept: Iterable[bytes], entries: Mapping[Place, tuple[Iterable[tuple[str, str]], bytes]]
) -> None:
    with QuarantineWriter(path) as writer:
        for line in kept:
            writer.keep(line)
        for place, (problems, record) in entries.items():
            writer.add(place, problems, record)


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines, however long; each ends in a line feed."""
    started: list[bytes] = []
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for line in whole:
            yield b"".join((*started, line, b"\n"))
            started.clear()
        started.append(rest)


def _record_member(record: bytes | None) -> bytes:
    if record is None:
        return b'"record":null'
    if len(record) <= OBJECT_BYTES_MAX and b"\r" not in record and _is_object(record):
        return b'"record":' + record.strip()
    try:
        return b'"recordText":' + _json(record.decode())
    except UnicodeDecodeError:
        return b'"recordBase64":' + _json(base64.b64encode(record).decode())


def _is_object(text: bytes) -> bool:
    try:
        return isinstance(loads(text.decode(), _DECODER), dict)
    except ValueError:
        return False


def _no_json(constant: str) -> NoReturn:
    """Reject ``NaN`` and the infinities, which Python reads but JSON does not have."""
    raise ValueError


_DECODER: Final = json.JSONDecoder(parse_constant=_no_json)


def _json(value: Any) -> bytes:
    # A lone surrogate can stand in a pointer, as the name of a field.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="backslashreplace")
