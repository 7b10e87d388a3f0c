"""The identifier that every datum of a normal data set carries.

It is derived from the data set's id and the record's ordinal among the accepted ones, so that the same chunk
sent to the same data set always carries the same identifiers: a chunk in doubt can be removed by them and
sent again, and what became visible can be compared record by record. A valid identifier that was staged is
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from tidepool_ingest.deep_json import loads
from tidepool_ingest.model import embedded_data
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


class RecordWithIds(NamedTuple):
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


def with_ids(lines: Iterable[bytes], chunk: Chunk, data_set_id: str) -> Iterator[RecordWithIds]:
    """Give each accepted record of a chunk its identifiers, and its embedded data theirs.

    :param lines: the chunk's records as they were accepted.
    :param chunk: has the ordinal of its first record, and says whether all its records are plain.
    :param data_set_id: the data set that they go to.
    :return: each record as it is sent.
    """
    for ordinal, line in enumerate(lines, chunk.first_record):
        if chunk.plain:
            own = datum_id(data_set_id, ordinal)
            yield RecordWithIds(ordinal, with_member(line, "id", f'"{own}"'.encode()), (own,))
        else:
            yield _parsed(line, ordinal, data_set_id)


def _parsed(line: bytes, ordinal: int, data_set_id: str) -> RecordWithIds:
    datum = loads(line)
    ids = []
    for field in embedded_data(datum):
        own = datum[field].get("id")
        if own is None:
            own = datum_id(data_set_id, ordinal, field)
            line = with_member_in(line, (field,), "id", f'"{own}"'.encode())
        ids.append(own)
    own = datum.get("id")
    if own is None:
        own = datum_id(data_set_id, ordinal)
        line = with_member(line, "id", f'"{own}"'.encode())
    return RecordWithIds(ordinal, line, (own, *ids))
