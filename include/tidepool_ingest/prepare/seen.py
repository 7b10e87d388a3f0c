"""What was there before, in memory that does not grow with how much it was."""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Callable, Iterable
from typing import IO, Any, Final, Self

PARTITIONS: Final = 512
PARTITION_ENTRIES: Final = 2_048
"""Digests of a partition at which it moves from memory to a file; 8 MB for all partitions."""

FILTER_SLOTS: Final = 1 << 24
"""Slots of the filter, a byte each: 16 MB. With five million digests it cannot tell of 1 in 25."""

_SLOT_MASK: Final = FILTER_SLOTS - 1
_PARTITION_SHIFT: Final = 64 - 9
_MARK_SHIFT: Final = 32
_MARKS: Final = 254
_SEVERAL: Final = 255
_DIGEST_BYTES: Final = 8


digest: Final[Callable[[bytes], int]] = hash
"""Gives what stands for a text: Python's own hash, 64 bits of SipHash under a key of this process.

Among five million texts, two that differ have the same by a chance of one in a million.
"""


class SeenDigests:
    """Remembers digests; to be used in a ``with`` statement, or closed.

    A filter in memory tells of most new ones at once that they are new: each slot is empty, or marks the one
    digest that fell into it, or says that several did. What it cannot tell is looked for in the partition of
    the digest: first in the part in memory, then in what was laid down in a private temporary file.
    """

    def __init__(self) -> None:
        self._filter = bytearray(FILTER_SLOTS)
        self._partitions = [array("q") for _ in range(PARTITIONS)]
        self._laid_down: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]
        self._file: IO[bytes] | None = None
        self._since_look = 0  # digests added since the partitions were last looked at

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __contains__(self, digest: int) -> bool:
        mark = 1 + (digest >> _MARK_SHIFT) % _MARKS
        return self._filter[digest & _SLOT_MASK] in (mark, _SEVERAL) and self._is_stored(digest)

    def add(self, digests: Iterable[int]) -> list[int]:
        """Remember some digests: many at once are cheaper than one by one.

        :param digests: see :data:`digest`.
        :return: the indexes of those that were there before, or earlier among them.
        """
        known: list[int] = []
        index = -1
        slots, partitions = self._filter, self._partitions
        for index, digest in enumerate(digests):
            slot = digest & _SLOT_MASK
            mark = 1 + (digest >> _MARK_SHIFT) % _MARKS
            if not slots[slot]:
                slots[slot] = mark
            elif slots[slot] in (mark, _SEVERAL) and self._is_stored(digest):
                known.append(index)
                continue
            else:
                slots[slot] = _SEVERAL
            partitions[digest >> _PARTITION_SHIFT].append(digest)  # below zero it counts from the end
        self._since_look += index + 1
        if self._since_look >= PARTITION_ENTRIES:
            self._since_look = 0
            for number, partition in enumerate(partitions):
                if len(partition) >= PARTITION_ENTRIES:
                    self._lay_down(number, partition)
        return known

    def _is_stored(self, digest: int) -> bool:
        entry = array("q", (digest,)).tobytes()
        number = digest >> _PARTITION_SHIFT
        if _holds(self._partitions[number].tobytes(), entry):
            return True
        if self._file is None:
            return False
        descriptor = self._file.fileno()
        places = self._laid_down[number % PARTITIONS]
        return any(_holds(os.pread(descriptor, size, offset), entry) for offset, size in places)

    def _lay_down(self, number: int, partition: array[int]) -> None:
        """Move what is in memory of a partition to the file, which has no name: nobody else can open it."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._laid_down[number].append((self._file.tell(), len(partition) * _DIGEST_BYTES))
        partition.tofile(self._file)
        self._file.flush()
        del partition[:]


def _holds(content: bytes, entry: bytes) -> bool:
    """Tell whether a digest stands in a partition, at a place where one begins."""
    at = content.find(entry)
    while at > 0 and at % _DIGEST_BYTES:
        at = content.find(entry, at + 1)
    return at >= 0
