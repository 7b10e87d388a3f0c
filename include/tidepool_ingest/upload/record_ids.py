"""The identifier that every datum of a normal data set carries.

It is derived from the data set's id and the record's ordinal among the accepted ones, so that the same chunk
sent to the same data set always carries the same identifiers: a chunk in doubt can be removed by them and
sent again, and what became visible can be compared record by record. A valid identifier that was staged is
kept.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from itertools import chain
from typing import Final, Protocol

import msgspec

from tidepool_ingest.deep_json import loads
from tidepool_ingest.digests import digest_of
from tidepool_ingest.model import embedded_data
from tidepool_ingest.model.decode import FAST_ERRORS, fast_decode
from tidepool_ingest.model.stored import EMBEDDING_TYPES
from tidepool_ingest.staging.splice import with_member, with_member_in
from tidepool_ingest.staging.work_area import Chunk

ID_BYTES = 16
"""32 hex digits, within the Platform's ``^[0-9a-z]{32}$`` (platform: data/id.go)."""


def datum_id(data_set_id: str, ordinal: int, field: str = "") -> str:
    """Return the identifier of one datum of a data set.

    :param data_set_id: the data set.
    :param ordinal: the record's ordinal among the batch's accepted records, from 0.
    :param field: field of the record that holds the datum, for an embedded one.
    :return: 32 hex digits.
    """
    return blake2b(f"{ordinal}/{field}".encode(), digest_size=ID_BYTES, key=data_set_id.encode()).hexdigest()


class RecordWithIds(msgspec.Struct, frozen=True, gc=False):
    """One record as it is sent.

    :param ordinal: its ordinal among the batch's accepted records, from 0.
    :param line: its text, including the identifiers.
    :param ids: identifiers of the rows that Tidepool makes of it.
    """

    ordinal: int
    line: bytes
    ids: tuple[str, ...]

    def __repr__(self) -> str:
        """Show the ordinal only."""
        return f"RecordWithIds(ordinal={self.ordinal})"


class _Head(msgspec.Struct, gc=False):
    """What tells whether identifiers can be appended to a record without decoding all of it."""

    type: str
    id: str | None = None


_heads = msgspec.json.Decoder(list[_Head])


def with_ids(lines: Sequence[bytes], chunk: Chunk, data_set_id: str) -> list[RecordWithIds]:
    """Give each accepted record of a chunk its identifiers, and its embedded data theirs.

    :param lines: the chunk's records as they were accepted.
    :param chunk: has the ordinal of its first record, and says whether all its records are plain.
    :param data_set_id: the data set that they go to.
    :return: each record as it is sent.
    """
    new_id = _new_ids(data_set_id)
    heads = _heads_of(lines, chunk)
    records = []
    for ordinal, (line, head) in enumerate(zip(lines, heads, strict=True), chunk.first_record):
        if head is None:
            own = new_id(ordinal)
            records.append(RecordWithIds(ordinal, _with_id(line, own), (own,)))
        elif head == _TO_DECODE:
            records.append(_decoded(line, ordinal, new_id))
        else:
            records.append(RecordWithIds(ordinal, line, (head,)))
    return records


def ids_of(lines: Sequence[bytes], chunk: Chunk, data_set_id: str) -> Iterator[tuple[str, ...]]:
    """Yield the identifiers of each accepted record of a chunk, as :func:`with_ids` gives them.

    :param lines: the chunk's records as they were accepted.
    :param chunk: has the ordinal of its first record, and says whether all its records are plain.
    :param data_set_id: the data set that they went to.
    """
    new_id = _new_ids(data_set_id)
    heads = _heads_of(lines, chunk)
    for ordinal, (line, head) in enumerate(zip(lines, heads, strict=True), chunk.first_record):
        if head == _TO_DECODE:
            yield tuple(own for _field, own, _is_new in _identified(line, ordinal, new_id))
        else:
            yield (head or new_id(ordinal),)


class SentIds:
    """The identifiers of what was read in order to be sent, so that comparing need not read it once more.

    It is of one data set, and keeps eight bytes for each identifier: its
    :data:`~tidepool_ingest.digests.digest_of`.
    """

    def __init__(self) -> None:
        self._data_set_id = ""
        self._digests: dict[tuple[int, str], array[int]] = {}

    def begin(self, data_set_id: str) -> None:
        """Forget what went to another data set.

        :param data_set_id: the one that is sent to from now on.
        """
        if data_set_id != self._data_set_id:
            self._data_set_id, self._digests = data_set_id, {}

    def add(self, chunk: Chunk, records: Sequence[RecordWithIds]) -> None:
        """Remember a chunk; safe to call from several threads.

        :param records: all its records, with the identifiers that they have in that data set.
        """
        ids = chain.from_iterable([record.ids for record in records])
        self._digests[chunk.index, chunk.digest] = array("q", map(digest_of, ids))

    def of_chunk(self, chunk: Chunk, data_set_id: str) -> array[int] | None:
        """Return the digests of all identifiers of a chunk; ``None`` if it was not read for this data set."""
        return self._digests.get((chunk.index, chunk.digest)) if data_set_id == self._data_set_id else None


_TO_DECODE: Final = ""
"""Stands for the identifier of a record that has to be decoded: no accepted one is empty."""


def _heads_of(lines: Sequence[bytes], chunk: Chunk) -> Sequence[str | None]:
    """Return the identifier that each record was staged with, and ``_TO_DECODE`` where that is not enough."""
    if chunk.plain:
        return [None] * len(lines)
    try:
        heads = _heads.decode(b"[" + b",".join(lines) + b"]")
    except (msgspec.MsgspecError, RecursionError):  # what only the slower decoder takes
        return [_TO_DECODE] * len(lines)
    return [_TO_DECODE if head.type in EMBEDDING_TYPES else head.id for head in heads]


class _NewId(Protocol):
    def __call__(self, ordinal: int, field: bytes = b"") -> str: ...


def _new_ids(data_set_id: str) -> _NewId:
    """Return what :func:`datum_id` is for one data set, with the key hashed once."""
    keyed = blake2b(digest_size=ID_BYTES, key=data_set_id.encode())

    def new_id(ordinal: int, field: bytes = b"") -> str:
        own = keyed.copy()
        own.update(b"%d/%b" % (ordinal, field))
        return own.hexdigest()

    return new_id


def _with_id(line: bytes, own: str) -> bytes:
    if line.endswith(b"}"):  # an accepted record has a type, so that it is not empty
        return line[:-1] + f',"id":"{own}"}}'.encode()
    return with_member(line, "id", f'"{own}"'.encode())


def _decoded(line: bytes, ordinal: int, new_id: _NewId) -> RecordWithIds:
    """Return a record of which all has to be decoded; each new identifier is inserted where it belongs."""
    found = list(_identified(line, ordinal, new_id))
    for field, own, is_new in reversed(found):
        if is_new:
            line = _with_id_in(line, field, own) if field else _with_id(line, own)
    return RecordWithIds(ordinal, line, tuple(own for _field, own, _is_new in found))


def _identified(line: bytes, ordinal: int, new_id: _NewId) -> Iterator[tuple[str, str, bool]]:
    """Yield where each datum of a record is (in no field: the record), its identifier, and if it is new."""
    try:
        datum = fast_decode(line)
    except FAST_ERRORS:
        datum = loads(line)
    for field in ("", *embedded_data(datum)):
        own = (datum[field] if field else datum).get("id")
        yield field, own or new_id(ordinal, field.encode()), own is None


def _with_id_in(line: bytes, field: str, own: str) -> bytes:
    """Return a record with an identifier in an embedded datum, which has a type and no identifier."""
    member = b'"id":"%b"' % own.encode()
    if b"\\" not in line and b'"id"' not in line:
        # Without escapes, a name that stands there once is that member's, and no later one takes precedence.
        found = _opening_of(field).findall(line)
        if len(found) == 1 and found[0].endswith(b"{"):
            return line.replace(found[0], b"%b%b," % (found[0], member))
    return with_member_in(line, (field,), "id", member.partition(b":")[2])


@cache
def _opening_of(field: str) -> re.Pattern[bytes]:
    """Return a pattern that finds each member of a name, in a line without escapes."""
    return re.compile(rb'"%b"[ \t]*+:[ \t]*+\{?' % field.encode())
