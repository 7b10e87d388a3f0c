"""Digests of eight bytes for texts of which only the equality matters, and many of them in bounded memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence, Set
from typing import Any, Final, Self

digest_of: Final[Callable[[str | bytes], int]] = hash
"""Returns a signed whole number of 64 bits: Python's own hash, SipHash under a key of this process.

It is the fastest there is, and nobody can stage texts that are made to collide, since the key is secret.
Among five million texts, the probability that two different ones collide is one in a million.

It has no meaning in another process. The ledger stores digests without a key:
:func:`tidepool_ingest.ledger.origin_digest`.
"""

FIRST_DIGESTS: Final = 1 << 18
"""Digests held in a set: 20 MB. A batch seldom has more; those beyond take three times as long."""

PARTITIONS: Final = 1 << 11
PARTITION_ENTRIES: Final = 256
"""Digests of a partition at which it moves from memory to a file; 4 MB for all partitions."""

FILTER_SLOTS: Final = 1 << 24
"""Slots of the filter, a byte each: 16 MB. With five million digests it cannot decide about 1 in 80."""

_MOVE_AFTER: Final = 1 << 14
"""Digests after which full partitions are moved; a few for each."""

_SLOT_MASK: Final = FILTER_SLOTS - 1
_PARTITION_SHIFT: Final = 64 - 11
_SECOND_SLOT_SHIFT: Final = 24
_MARK_SHIFT: Final = 32
_MARKS: Final = 254
_SEVERAL: Final = 255
_DIGEST_BYTES: Final = 8


class DigestSet:
    """Remembers digests; to be used in a ``with`` statement, or closed.

    The first ones are in a set, which is fastest; further ones where they take less memory.
    """

    def __init__(self) -> None:
        self._first: set[int] = set()
        self._further: _FurtherDigests | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._further is not None:
            self._further.close()

    def __contains__(self, digest: int) -> bool:
        return digest in (self._first if self._further is None else self._further)

    def add(self, digests: Sequence[int]) -> list[int]:
        """Remember digests: many at once are cheaper than one by one.

        :param digests: see :data:`digest_of`.
        :return: the indexes of those that were known before, or occur earlier among them.
        """
        if self._further is not None:
            return self._further.add(digests)
        first, known = self._first, []
        new = set(digests)
        if len(new) < len(digests) or not first.isdisjoint(new):
            new = set()
            for index, digest in enumerate(digests):
                if digest in first or digest in new:
                    known.append(index)
                new.add(digest)
        first |= new
        if len(first) >= FIRST_DIGESTS:
            self._further = _FurtherDigests(first)
        return known


class _FurtherDigests:
    """Remembers digests in bounded memory, and a private temporary file.

    A filter in memory recognizes most new ones at once as new. Each digest has two slots there, each of
    which is empty, or contains the mark of one digest, or says that several share it: a digest leaves its
    mark in its first slot, or in its second if the first one is taken. What the filter cannot decide is
    looked up among the first digests, and in the partition of the digest: first in memory, then in
    what was moved to the file.

    :param first: digests that are there already; they stay where they are.
    """

    def __init__(self, first: Set[int]) -> None:
        from tempfile import TemporaryFile  # loaded only here: few batches are as large

        self._first = first
        self._filter = bytearray(FILTER_SLOTS)
        self._partitions = [array("q") for _ in range(PARTITIONS)]
        self._moved: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]
        self._file = TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._since_move = 0  # digests added since full partitions were last moved
        for digest in first:
            self._leave_mark(digest)

    def close(self) -> None:
        self._file.close()

    def __contains__(self, digest: int) -> bool:
        mark = _mark_of(digest)
        found = self._filter[digest & _SLOT_MASK]
        if found not in (0, mark, _SEVERAL):
            found = self._filter[_second_slot_of(digest)]
        return found in (mark, _SEVERAL) and (digest in self._first or self._is_stored(digest))

    def add(self, digests: Sequence[int]) -> list[int]:
        """Remember digests; return the indexes of those known before, or occurring earlier among them."""
        known: list[int] = []
        slots, partitions = self._filter, self._partitions
        for index, digest in enumerate(digests):
            slot = digest & _SLOT_MASK
            if not slots[slot]:
                slots[slot] = 1 + (digest >> _MARK_SHIFT) % _MARKS
            elif digest in self:
                known.append(index)
                continue
            else:
                self._leave_mark(digest)
            partitions[digest >> _PARTITION_SHIFT].append(digest)  # below zero it counts from the end
        self._since_move += len(digests)
        if self._since_move >= _MOVE_AFTER:
            self._since_move = 0
            self._move_full_partitions()
        return known

    def _leave_mark(self, digest: int) -> None:
        slot = digest & _SLOT_MASK
        if self._filter[slot]:
            slot = _second_slot_of(digest)
        self._filter[slot] = _SEVERAL if self._filter[slot] else _mark_of(digest)

    def _is_stored(self, digest: int) -> bool:
        entry = array("q", (digest,)).tobytes()
        number = digest >> _PARTITION_SHIFT
        if _holds(self._partitions[number].tobytes(), entry):
            return True
        descriptor = self._file.fileno()
        segments = self._moved[number]
        return any(_holds(os.pread(descriptor, size, offset), entry) for offset, size in segments)

    def _move_full_partitions(self) -> None:
        """Move the partitions that are full to the file, which has no name: nobody else can open it."""
        for partition, segments in zip(self._partitions, self._moved, strict=True):
            if len(partition) >= PARTITION_ENTRIES:
                segments.append((self._file.tell(), len(partition) * _DIGEST_BYTES))
                partition.tofile(self._file)
                del partition[:]
        self._file.flush()


def _second_slot_of(digest: int) -> int:
    return digest >> _SECOND_SLOT_SHIFT & _SLOT_MASK


def _mark_of(digest: int) -> int:
    return 1 + (digest >> _MARK_SHIFT) % _MARKS


def _holds(content: bytes, entry: bytes) -> bool:
    """Return whether a partition holds a digest, at an offset where one begins."""
    offset = content.find(entry)
    while offset > 0 and offset % _DIGEST_BYTES:
        offset = content.find(entry, offset + 1)
    return offset >= 0
