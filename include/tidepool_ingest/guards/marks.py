"""The mark by which Tidepool itself records what a data set was opened for.

It lies in ``client.private`` of the data set's body, under one key of ours. The Platform keeps that object,
never reads it, and lists it with a normal data set once that is closed. So whoever has lost or restored the
ledger, and a second deployment, find what was uploaded already. A mark holds digests, counts, and versions of
converters, nothing that names a person, a device or a file, and is no part of a batch's content key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final

from tidepool_ingest.client import DataSet
from tidepool_ingest.model import validate_data_set
from tidepool_ingest.staging.errors import BatchError

KEY: Final = "tidepoolIngest"
"""Of the mark in ``client.private``: whatever else a manifest puts there stays."""

FORMAT: Final = 1
"""Version of the mark. A later one may add members; those of this one keep their meaning."""

DIGEST_BYTES: Final = 16

GENERATION_MAX: Final = 1_000_000
"""Far more often than anybody uploads a batch; it bounds the size of a mark."""

CONVERTERS: Final = "converters"
"""Key in a mark of what made the records from the staged rows: versions by the names of formats."""

VERSION_MAX: Final = 9_999
"""Far more often than anybody changes a converter."""

REPLACED: Final = "replaced"
WITHDRAWN: Final = "withdrawn"
"""Why Tidepool is no longer to show anything of a batch's content."""


@dataclass(frozen=True)
class Mark:
    """What a data set was opened for.

    :param content: digest of the content key of the whole batch.
    :param part: digest of the part's own key; ``None`` for a batch that is not split.
    :param generation: how often the content had been uploaded or undone on purpose before; 0 for the first
        time. Of several, the highest counts.
    :param undone: :data:`WITHDRAWN` or :data:`REPLACED`, in an empty data set that says so; else empty.
    :param converters: which converters made the records, by format, and in which version. It only tells:
        content that another version converted is the same content.
    """

    content: str
    part: str | None = None
    generation: int = 0
    undone: str = ""
    converters: Mapping[str, int] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, content_key: str, part_key: str | None = None) -> Mark:
        """Return the mark of a content's first upload.

        :param content_key: the content key of the whole batch.
        :param part_key: that of the part, if it is one.
        """
        return cls(_digest(content_key), None if part_key is None else _digest(part_key))

    @classmethod
    def found_in(cls, data_set: DataSet) -> Mark | None:
        """Return the mark of a data set that Tidepool lists; ``None`` if it has none.

        :param data_set: any, other programs' too.
        """
        members = data_set.private.get(KEY)
        if not isinstance(members, Mapping) or not isinstance(members.get("content"), str):
            return None
        part, undone = members.get("part"), members.get("undone", "")
        generation = members.get("generation", 0)
        # A number may come back as a double.
        is_number = isinstance(generation, int | float) and 0 <= generation <= GENERATION_MAX
        return cls(
            members["content"],
            part if isinstance(part, str) else None,
            int(generation) if is_number else 0,
            undone if undone in (REPLACED, WITHDRAWN) else "",
        )

    def again(self, generation: int) -> Mark:
        """Return the mark of another upload of the same content.

        :param generation: see :class:`Mark`.
        """
        return replace(self, generation=generation)

    def members(self) -> dict[str, Any]:
        """Return the mark as it is sent."""
        optional = {
            "part": self.part,
            "generation": self.generation,
            "undone": self.undone,
            CONVERTERS: dict(self.converters),
        }
        return {
            "format": FORMAT,
            "content": self.content,
            **{name: value for name, value in optional.items() if value},
        }


def _digest(key: str) -> str:
    return blake2b(key.encode(), digest_size=DIGEST_BYTES, person=b"tidepool-mark").hexdigest()


LARGEST: Final = replace(Mark.of("", ""), generation=GENERATION_MAX)
"""No data set that holds records has a mark of more bytes, but for its converters."""


def with_mark(body: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a create request with a mark in it.

    :param body: the body; its own ``client.private`` is kept, but for an older mark.
    :param members: what to put under :data:`KEY`.
    """
    client = body.get("client") or {}
    private = {**(client.get("private") or {}), KEY: dict(members)}
    return {**body, "client": {**client, "private": private}}


def check_room_for_mark(body: Mapping[str, Any], converters: Collection[str] = ()) -> None:
    """Make sure that Tidepool takes a body with a mark in it.

    :param body: a body that it takes without one.
    :param converters: names of the converters that the mark will tell of.
    :raises BatchError: ``mark-too-large``: both together exceed what ``client.private`` may hold.
    """
    largest = replace(LARGEST, converters=dict.fromkeys(converters, VERSION_MAX))
    if validate_data_set(with_mark(body, largest.members())):
        raise BatchError("mark-too-large")
