"""The mark by which Tidepool itself tells what a data set was opened for.

It lies in ``client.private`` of the data set's body, under one key of ours. The Platform keeps that object,
never reads it, and lists it with a normal data set once that is closed. So whoever has lost or restored the
ledger, and a second deployment, find what was uploaded already. A mark holds digests and counts, nothing that
names a person, a device or a file, and is no part of a batch's content key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final

from tidepool_ingest.client import DataSet
from tidepool_ingest.model import validate_data_set
from tidepool_ingest.staging.errors import BatchError

KEY: Final = "tidepoolIngest"
"""Of the mark in ``client.private``: whatever else a manifest puts there stays."""

FORMAT: Final = 1
"""Version of the mark. A later one may add members; what stands here keeps its meaning."""

DIGEST_BYTES: Final = 16

REPEATS_MAX: Final = 1_000_000
"""Far more often than anybody uploads a batch; it bounds the size of a mark."""

REPLACED: Final = "replaced"
WITHDRAWN: Final = "withdrawn"
"""Why nothing of a content is to be shown any more."""


@dataclass(frozen=True)
class Mark:
    """What a data set was opened for.

    :param content: digest of the content key of the whole batch.
    :param part: digest of the part's own key; ``None`` for a batch that is not split.
    :param repeat: how often the content had been uploaded or undone on purpose before; 0 for the first time.
        Of several, the highest counts.
    :param undone: :data:`WITHDRAWN` or :data:`REPLACED`, in an empty data set that says so; else empty.
    """

    content: str
    part: str | None = None
    repeat: int = 0
    undone: str = ""

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
        part, repeat, undone = members.get("part"), members.get("repeat", 0), members.get("undone", "")
        # A number may come back as a double.
        times = int(repeat) if isinstance(repeat, int | float) and 0 <= repeat <= REPEATS_MAX else 0
        return cls(
            members["content"],
            part if isinstance(part, str) else None,
            times,
            undone if undone in (REPLACED, WITHDRAWN) else "",
        )

    def again(self, repeat: int) -> Mark:
        """Return the mark of another upload of the same content.

        :param repeat: see :class:`Mark`.
        """
        return replace(self, repeat=repeat)

    def members(self) -> dict[str, Any]:
        """Return the mark as it is sent."""
        optional = {"part": self.part, "repeat": self.repeat, "undone": self.undone}
        return {
            "format": FORMAT,
            "content": self.content,
            **{name: value for name, value in optional.items() if value},
        }


def _digest(key: str) -> str:
    return blake2b(key.encode(), digest_size=DIGEST_BYTES, person=b"tidepool-mark").hexdigest()


LARGEST: Final = replace(Mark.of("", ""), repeat=REPEATS_MAX)
"""No data set that holds records has a mark of more bytes."""


def with_mark(body: Mapping[str, Any], members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a create request with a mark in it.

    :param body: the body; its own ``client.private`` is kept, but for an older mark.
    :param members: what to put under :data:`KEY`.
    """
    client = body.get("client") or {}
    private = {**(client.get("private") or {}), KEY: dict(members)}
    return {**body, "client": {**client, "private": private}}


def check_room_for_mark(body: Mapping[str, Any]) -> None:
    """Make sure that Tidepool takes a body with a mark in it.

    :param body: a body that it takes without one.
    :raises BatchError: ``mark-too-large``: both together exceed what ``client.private`` may hold.
    """
    if validate_data_set(with_mark(body, LARGEST.members())):
        raise BatchError("mark-too-large")
