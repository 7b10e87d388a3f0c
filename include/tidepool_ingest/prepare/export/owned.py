"""What an exported record holds that is not part of what was measured, and that a client must not send."""

from __future__ import annotations

from typing import Any, Final

SERVER_OWNED: Final = frozenset(
    {
        "archivedDatasetId",
        "archivedTime",
        "byUser",
        "createdTime",
        "createdUserId",
        "deduplicator",
        "deletedTime",
        "deletedUserId",
        "groupId",
        "guid",
        "id",
        "modifiedTime",
        "modifiedUserId",
        "provenance",
        "revision",
        "uploadId",
        "userId",
    }
)
"""What the Platform adds to a record (P: data/types/base.go, data/data_set.go), and jellyfish before it. An
``id`` sent back would stand beside the old record's under one identifier."""

SHOWN_ONLY: Final = frozenset({"displayOffset", "localTime", "normalEnd", "normalTime"})
"""What Tidepool's viewer and export tools work out for showing; the Platform reads none of it."""

HIDDEN_PREFIX: Final = "_"
"""Of fields such as ``_active`` or ``_schemaVersion``, by which the Platform keeps its records."""

CARELINK: Final = "carelink"
"""The only ``source`` that the Platform takes."""

RENAMED: Final = {"rateOfChangeAlert": "rateOfChangeAlerts"}
"""Fields that the Platform stores under another name than it reads (P: data/types/settings/cgm)."""


def is_owned(name: str, value: Any) -> bool:
    """Tell whether a field is to be left out.

    :param name: its name.
    :param value: its value, decoded.
    """
    if name == "source":
        return bool(value != CARELINK)
    return name in SERVER_OWNED or name in SHOWN_ONLY or name.startswith(HIDDEN_PREFIX)
