"""Files that killed writers have left half-written in work areas."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from upath import UPath

from tidepool_ingest.staging.storage import PART_SUFFIX, local_path, reading, remove_half_written
from tidepool_ingest.staging.work_area import WORK_FOLDER

WRITTEN_FOR = timedelta(days=2)
"""What nothing was written to for so long has no writer any more."""

LOOKED_AT_FOR = timedelta(days=30)
"""How long after something came or went in a work area it is looked into, since there are many."""


def remove_half_written_long_ago(root: UPath, now: datetime, *, dry_run: bool = False) -> int:
    """Remove them from work areas on a local disk; return how many.

    :param root: the staging root.
    :param now: the moment.
    :param dry_run: only count.
    """
    work = local_path(root / WORK_FOLDER)
    before = (now - WRITTEN_FOR).timestamp()
    removed = 0
    for folder in _changed_since(work, (now - LOOKED_AT_FOR).timestamp()) if work else ():
        if dry_run:
            parts = (part for part in folder.glob(f".*{PART_SUFFIX}") if part.stat().st_mtime < before)
            removed += sum(1 for _part in parts)
        else:
            removed += remove_half_written(UPath(folder), before)
    return removed


def _changed_since(work: Path, since: float) -> Iterator[Path]:
    with reading():
        if not work.is_dir():
            return
        with os.scandir(work) as entries:
            changed = [entry.path for entry in entries if entry.stat().st_mtime >= since]
    yield from map(Path, changed)
