"""What a read-back of one data set shows, kept as eight bytes a row."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any, Final

PARTITIONS: Final = 1 << 8
"""Each is sorted by itself, which takes far less memory than sorting all at once."""


class ShownRows:
    """How often each identifier is shown.

    An identifier is kept as Python's own hash of it, 64 bits of SipHash under a key of this process. Among
    five million, two that differ have the same by a chance of one in a million. Both would look doubled then,
    and the data set be uploaded anew; a missing one is never taken for the other, for the sum would not fit.

    :param identifiers: those that are shown, each as often as it is.
    """

    def __init__(self, identifiers: Iterable[str] = ()) -> None:
        self._partitions = [array("q") for _ in range(PARTITIONS)]
        self._total = 0
        for identifier in identifiers:
            digest = hash(identifier)
            self._partitions[digest % PARTITIONS].append(digest)
            self._total += 1
        for number, partition in enumerate(self._partitions):
            self._partitions[number] = array("q", sorted(partition))

    def __len__(self) -> int:
        return self._total

    def count(self, identifier: str) -> int:
        """Return how often an identifier is shown."""
        digest = hash(identifier)
        partition = self._partitions[digest % PARTITIONS]
        first = bisect_left(partition, digest)
        if first == len(partition) or partition[first] != digest:
            return 0
        return bisect_right(partition, digest, lo=first) - first


class Shown:
    """What a read-back of one data set shows.

    :param read_back: the records, the data set's own one (type ``upload``) included; read to its end.
    """

    def __init__(self, read_back: Iterable[dict[str, Any]] = ()) -> None:
        self.deleted = False
        """Whether the data set is marked as deleted."""
        self.rows = ShownRows(self._identifiers(read_back))

    def _identifiers(self, read_back: Iterable[dict[str, Any]]) -> Iterable[str]:
        for datum in read_back:
            if datum.get("type") == "upload":
                self.deleted = self.deleted or datum.get("deletedTime") is not None
            else:
                yield str(datum.get("id"))
