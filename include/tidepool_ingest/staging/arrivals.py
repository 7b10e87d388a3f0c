"""Which manifests have come since somebody last looked, without opening one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from hashlib import blake2b

from upath import UPath

from tidepool_ingest.staging.batches import days, manifest_marks

DIGEST_BYTES = 16


class Arrivals:
    """Looks for new manifests. What was seen is kept by day, so that somebody else can go on from there.

    After a change of hands only the digest of a day is known: if the day is not as it was, all its manifests
    count as new. That costs a run which finds most of them done.

    :param root: the staging root.
    :param seen: digests of days that were seen before, as in :attr:`seen`.
    """

    def __init__(self, root: UPath, seen: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._marks: dict[date, frozenset[str]] = {}
        self.seen = dict(seen or {})
        """Digest of each day's manifests, by day: no name, and nothing that grows with them."""

    def look(self, first_day: date, last_day: date) -> int:
        """Return how many manifests are new, or written anew, since the last look; older days are forgotten.

        :param first_day: first date folder to look into.
        :param last_day: last one.
        :raises BatchError: if the storage cannot be read.
        """
        found = {day: self._marks_of(day) for day in days(self._root) if first_day <= day <= last_day}
        digests = {str(day): _digest(marks) for day, marks in found.items()}
        arrived = sum(len(self._new(day, marks, digests[str(day)])) for day, marks in found.items())
        self._marks, self.seen = found, digests
        return arrived

    def _marks_of(self, day: date) -> frozenset[str]:
        marks = manifest_marks(self._root, day)
        return frozenset(_digest({f"{batch.name}\n{mark}"}) for batch, mark in marks.items())

    def _new(self, day: date, marks: frozenset[str], digest: str) -> frozenset[str]:
        if day in self._marks:
            return marks - self._marks[day]
        return frozenset() if self.seen.get(str(day)) == digest else marks


def _digest(texts: frozenset[str] | set[str]) -> str:
    return blake2b("\n".join(sorted(texts)).encode(), digest_size=DIGEST_BYTES).hexdigest()
