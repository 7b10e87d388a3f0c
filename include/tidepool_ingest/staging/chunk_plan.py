"""The plan that ``prepare`` leaves of a batch: into which requests, and parts, its accepted records go."""

from __future__ import annotations

from datetime import date
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

from tidepool_ingest.staging.manifest_feed import Deletion

PREPARED_VERSION = 3
"""Version of ``prepared.json``; an area of another version is prepared again."""

_Count = Annotated[int, Field(ge=0)]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, extra="forbid", frozen=True, validate_by_alias=True, validate_by_name=True
    )


class Run(NamedTuple):
    """Records that follow each other in a staged file.

    :param file: number of the file in the manifest, counting from 1.
    :param position: place of the first one in it, counting from 0.
    :param records: how many they are.
    """

    file: int
    position: int
    records: int


class Chunk(_Model):
    """Accepted records that travel in one request.

    :param index: its place in the plan, counting from 0.
    :param first_record: place of its first record among the accepted ones, counting from 0.
    :param offset: first byte of it in ``accepted.ndjson``.
    :param length: its bytes there, line ends included; those of its token if the file is sealed.
    :param records: how many records it holds.
    :param digest: sha256 of its lines, in hex, sealed or not.
    :param plain: whether no record of it was staged with an identifier or holds an embedded datum, so that
        identifiers can be appended without a look into the records.
    :param places: where its records were staged, in their order.
    """

    index: _Count
    first_record: _Count
    offset: _Count
    length: _Count
    records: _Count
    digest: _Digest
    plain: bool = False
    places: tuple[Run, ...] = ()

    def place_of(self, ordinal: int) -> tuple[int, int]:
        """Return where one of its records was staged.

        :param ordinal: the record's place among the accepted ones, from 0.
        :return: number of the file, from 1, and position in it, from 0.
        :raises ValueError: it is no record of this chunk.
        """
        left = ordinal - self.first_record
        if left >= 0:
            for run in self.places:
                if left < run.records:
                    return run.file, run.position + left
                left -= run.records
        raise ValueError("the record is none of this chunk")


class Part(_Model):
    """A part of a giant batch: a batch of its own, in a work area of its own.

    :param content_key: names its work area; made of the batch's own key and of where it was cut.
    :param records: how many records it holds, all of them accepted.
    :param expected_rows: rows that the Platform makes of them.
    :param chunks: requests that they travel in.
    :param size: bytes of them.
    """

    content_key: _Digest
    records: _Count
    expected_rows: _Count
    chunks: _Count
    size: _Count


class Whole(_Model):
    """The batch that a part is cut from: shares are of all its records, and its quarantine is for all parts.

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
    """What came out of preparing a batch.

    :param version: ``PREPARED_VERSION``.
    :param content_key: the batch's content key.
    :param chunk_records: records a chunk, at most, as it was asked for.
    :param data_set: the manifest's data set body.
    :param records: how many records were staged.
    :param accepted: how many of them are accepted, by type.
    :param days: how many of the accepted ones lie on each UTC day, by type.
    :param inside: how many of the accepted ones travel inside another one that embeds them.
    :param quarantined: how many are in quarantine.
    :param identical: how many repeat an accepted one.
    :param replaced: how many have a later version in the batch, by type; in a feed only.
    :param deletes: the records that the batch deletes; in a feed only.
    :param expected_rows: rows that the Platform makes of the accepted records; it splits some.
    :param reasons: how many records each code refused, by type.
    :param warnings: how many records each code warns of, by type; they are accepted all the same.
    :param changes: how many records were changed on their way, by field.
    :param chunks: the plan; empty for a batch that is cut into parts, each of which has its own.
    :param part_records: records a part, at most, as it was asked for; ``None`` for what must stay whole.
    :param parts: what the batch is cut into; empty for a whole one.
    :param whole: of a part, what it is cut from.
    """

    version: int = PREPARED_VERSION
    content_key: _Digest
    chunk_records: Annotated[int, Field(ge=1)]
    data_set: Annotated[dict[str, JsonValue], Field(repr=False)]
    records: _Count
    accepted: dict[str, _Count] = {}
    days: dict[date, dict[str, _Count]] = {}
    inside: _Count = 0
    quarantined: _Count = 0
    identical: _Count = 0
    replaced: dict[str, _Count] = {}
    deletes: tuple[Deletion, ...] = ()
    expected_rows: _Count = 0
    reasons: dict[str, dict[str, _Count]] = {}
    warnings: dict[str, dict[str, _Count]] = {}
    changes: dict[str, _Count] = {}
    chunks: tuple[Chunk, ...] = ()
    part_records: Annotated[int, Field(ge=1)] | None = None
    parts: tuple[Part, ...] = ()
    whole: Whole | None = None

    @property
    def travelling(self) -> int:
        """How many records travel as such: accepted ones that are not inside another."""
        return sum(self.accepted.values()) - self.inside

    @property
    def requests(self) -> int:
        """In how many requests they travel, those of all parts."""
        return len(self.chunks) + sum(part.chunks for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes of the accepted records."""
        return sum(chunk.length for chunk in self.chunks) + sum(part.size for part in self.parts)
