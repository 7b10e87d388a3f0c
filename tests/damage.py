"""Damage to the files of a work area, as disks, people and half-made backups do it."""

from __future__ import annotations

from collections.abc import Callable

from upath import UPath

from tidepool_ingest.staging.storage import filesystem
from tidepool_ingest.staging.work_area import WorkArea


def remove(path: UPath) -> None:
    filesystem(path).rm_file(path.path)


def truncate(path: UPath) -> None:
    content = filesystem(path).cat_file(path.path)
    filesystem(path).pipe_file(path.path, content[: len(content) * 2 // 3])


def flip(path: UPath) -> None:
    """Flip one bit in the middle, and leave the size as it is."""
    content = bytearray(filesystem(path).cat_file(path.path))
    if content:
        content[len(content) // 2] ^= 1
    filesystem(path).pipe_file(path.path, bytes(content))


WAYS: dict[str, Callable[[UPath], None]] = {"removed": remove, "truncated": truncate, "flipped": flip}


def files_of(area: WorkArea) -> list[UPath]:
    """Return the files of a work area, then those of its parts'."""
    plan = area.load()
    areas = [area, *(area.beside(part.content_key) for part in (plan.parts if plan else ()))]
    return [
        UPath(found, protocol=area.path.protocol, **area.path.storage_options)
        for one in areas
        for found in sorted(filesystem(area.path).find(one.path.path))
    ]
