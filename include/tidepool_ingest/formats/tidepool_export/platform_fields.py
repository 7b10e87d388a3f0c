"""What is in the records of an export that no model knows: what the Platform and its tools have added."""

from __future__ import annotations

from typing import Final

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
``id`` sent back would make two records with one identifier."""

SHOWN_ONLY: Final = frozenset({"displayOffset", "localTime", "normalEnd", "normalTime"})
"""What Tidepool's viewer and export tools compute for display; the Platform reads none of it."""

PLATFORM_FIELDS: Final = SERVER_OWNED | SHOWN_ONLY
"""Names that are not the model's and yet Tidepool's."""

HIDDEN_PREFIX: Final = "_"
"""Prefix of fields such as ``_active`` or ``_schemaVersion``, which the Platform manages its records with."""
