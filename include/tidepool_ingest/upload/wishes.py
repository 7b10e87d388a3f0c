"""What a run wants of the uploads of its batches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tidepool_ingest.options import MAX_QUARANTINED_PERCENT, RunOptions

CHUNKS_AT_ONCE = 4
"""Chunks of one data set that are under way at the same time, unless somebody says otherwise."""


@dataclass(frozen=True, kw_only=True)
class UploadWishes:
    """What a run wants of the uploads of its batches.

    :param force: upload a batch again even if it is verified.
    :param allow_older: close its data set even after a newer one of its device.
    :param at_once: chunks of it that may be under way at the same time.
    :param max_refused_percent: share of refused records, by Tidepool itself too, above which it stops;
        0 to 100.
    :param asked_at: when the run was started or cleared: a forced one does not repeat what it did since.
    """

    force: bool = False
    allow_older: bool = False
    at_once: int = CHUNKS_AT_ONCE
    max_refused_percent: float = MAX_QUARANTINED_PERCENT
    asked_at: datetime | None = None

    @classmethod
    def of(cls, options: RunOptions, *, at_once: int, asked_at: datetime | None) -> UploadWishes:
        """Return what a run's parameters say.

        :param options: the parameters.
        :param at_once: chunks that the deployment allows at the same time.
        :param asked_at: when the run was started or cleared.
        """
        return cls(
            force=options.force,
            allow_older=options.allow_older,
            at_once=options.chunks_at_once(at_once),
            max_refused_percent=options.max_quarantined_percent,
            asked_at=asked_at,
        )
