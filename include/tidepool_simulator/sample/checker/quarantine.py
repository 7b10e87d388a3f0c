"""Read which staged records were rejected: the quarantine file in a batch's work area."""

from __future__ import annotations

from pathlib import Path

from tidepool_simulator.sample.checker.nested import loads

WORK_FOLDER = "_work"
QUARANTINE = "quarantine.ndjson"

Entry = tuple[int, int, int]
"""File number, counting from 1, row of the file and record of the row, both counting from 0."""


def rejected_records(staging_root: Path, content_key: str) -> set[Entry]:
    """Return file number, row and record of the row of what is in a batch's quarantine file.

    :param content_key: the name of the batch's work area.
    """
    path = staging_root / WORK_FOLDER / content_key / QUARANTINE
    if not content_key or not path.exists():
        return set()
    entries = [loads(line.decode()) for line in path.read_bytes().split(b"\n") if line]
    return {(entry["file"], entry["position"], entry.get("recordOfRow", 0)) for entry in entries}
