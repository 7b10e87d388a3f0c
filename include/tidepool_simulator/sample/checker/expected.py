"""What Tidepool is to show of a batch: each accepted record once, and the datum embedded in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tidepool_simulator.sample.checker.content import Row, rows_of, same_text
from tidepool_simulator.sample.checker.quarantine import rejected_records
from tidepool_simulator.sample.checker.staged import StagedBatch

Place = tuple[int, int]
"""File number, counting from 1, and position in the file, counting from 0."""


@dataclass
class Expected:
    """A batch's records, sorted by what is to become of them.

    :param batch: the batch.
    :param rows: how often each row is to be visible.
    :param places: where each row's records are staged, rejected ones and duplicates too.
    :param unaccounted: records that are no JSON object and not in quarantine either.
    """

    batch: StagedBatch
    rows: Counter[Row] = field(default_factory=Counter)
    places: dict[Row, list[Place]] = field(default_factory=dict)
    unaccounted: list[Place] = field(default_factory=list)
    staged: int = 0
    quarantined: int = 0
    identical: int = 0


def expect(batch: StagedBatch, staging_root: Path) -> Expected:
    """Sort a batch's records into expected ones, quarantined ones and duplicates of earlier ones.

    The first of several equal records decides for all of them.
    """
    expected = Expected(batch)
    rejected = rejected_records(staging_root, batch.content_key)
    seen: set[str] = set()
    for record in batch.records or ():
        place = (record.file_number, record.position)
        expected.staged += 1
        in_quarantine = record.entry in rejected
        expected.quarantined += in_quarantine
        if record.value is None:
            if not in_quarantine:
                expected.unaccounted.append(place)
            continue
        rows = list(rows_of(record.value))
        for row in rows:
            expected.places.setdefault(row, []).append(place)
        text = same_text(record.value)
        if text in seen:
            expected.identical += not in_quarantine
            continue
        seen.add(text)
        if not in_quarantine:
            expected.rows.update(rows)
    return expected
