"""What a manifest says beyond a normal one's when its batch is part of a feed: origins and deletions."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from tidepool_ingest.staging.manifest_part import ManifestPart

ORIGIN_TEXT_LENGTH: Final = 100
"""Characters of an origin's id and name (Platform: data/types/common/origin/origin.go)."""

DEFAULT_ORIGIN_KEY: Final = ("type", "subType", "deliveryType", "time", "deviceId")
"""Fields that tell one record from another where the manifest names none."""

OriginType = Literal["application", "device", "manual", "service"]
"""What the Platform knows as the type of an origin (data/types/common/origin/origin.go)."""

_OriginText = Annotated[str, Field(min_length=1, max_length=ORIGIN_TEXT_LENGTH)]


class OriginRule(ManifestPart):
    """How records that come without an ``origin.id`` get one.

    :param key: the fields that stay the same when a record is edited, and differ between two records; a dot
        leads into an object, as in ``payload.recordId``.
    :param name: of the origin; the data set's ``client.name`` when left out.
    :param type: of the origin.
    """

    key: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)] = DEFAULT_ORIGIN_KEY
    name: _OriginText | None = None
    type: OriginType = "service"


class Deletion(ManifestPart):
    """A record to delete from the continuous data set.

    :param id: its ``origin.id``.
    :param time: its time, so that its absence is looked for there and not in the whole data set.
    """

    id: Annotated[_OriginText, Field(repr=False)]
    time: Annotated[Annotated[str, Field(min_length=1)] | None, Field(repr=False)] = None
