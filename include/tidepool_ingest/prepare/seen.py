"""Which texts were there before, in memory that does not grow with their number."""

from __future__ import annotations

import os
import tempfile
from hashlib import blake2b
from typing import IO, Any, Final

DIGEST_BYTES: Final = 10
"""Of each text. The partition tells 9 bits and the entry 64: among five million texts, two that differ are
taken for the same by a chance of one in 7·10^8."""

_ENTRY_BYTES: Final = 8
_PARTITION_SHIFT: Final = 71
_PARTITIONS: Final = 512

PARTITION_BYTES: Final = 16 * 1024
"""Entries of a partition that are held in memory; 8 MB for all partitions."""

FILTER_BITS: Final = 1 << 26
"""Bits of the filter: 8 MB. It takes 1 in 120 new texts for a known one when it knows five million."""

_FILTER_MASK: Final = FILTER_BITS - 1
_FILTER_SHIFT: Final = 26


class SeenTexts:
    """Remembers texts by their digests.

    A filter in memory tells of nearly every new text that it is new. Only what it cannot tell is looked for in
    the partition that its digest belongs to: first the part in memory, then what that has laid down in a private
    temporary file. The digests are keyed anew each time, so that nothing can be read from the file.

    Use it in a ``with`` statement, or :meth:`close` it.
    """

    def __init__(self) -> None:
        self._key = os.urandom(16)
        self._filter = bytearray(FILTER_BITS // 8)
        self._partitions = [bytearray() for _ in range(_PARTITIONS)]
        self._laid_down: dict[int, list[int]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> SeenTexts:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def digest(self, text: bytes) -> int:
        """Return what stands for a text here.

        :param text: any bytes.
        """
        return int.from_bytes(blake2b(text, digest_size=DIGEST_BYTES, key=self._key).digest(), "big")

    def __contains__(self, digest: int) -> bool:
        known = self._filter
        for place in (
            digest & _FILTER_MASK,
            digest >> _FILTER_SHIFT & _FILTER_MASK,
            digest >> 2 * _FILTER_SHIFT & _FILTER_MASK,
        ):
            if not known[place >> 3] >> (place & 7) & 1:
                return False
        return self._is_stored(digest)

    def add(self, digest: int) -> None:
        """Remember a text that was not there.

        :param digest: what stands for it.
        """
        known = self._filter
        for place in (
            digest & _FILTER_MASK,
            digest >> _FILTER_SHIFT & _FILTER_MASK,
            digest >> 2 * _FILTER_SHIFT & _FILTER_MASK,
        ):
            known[place >> 3] |= 1 << (place & 7)
        number = digest >> _PARTITION_SHIFT
        partition = self._partitions[number]
        partition += _entry(digest)
        if len(partition) >= PARTITION_BYTES:
            self._lay_down(number, partition)

    def _is_stored(self, digest: int) -> bool:
        entry = _entry(digest)
        number = digest >> _PARTITION_SHIFT
        if _holds(self._partitions[number], entry):
            return True
        if self._file is None:
            return False
        descriptor = self._file.fileno()
        return any(
            _holds(os.pread(descriptor, PARTITION_BYTES, offset), entry)
            for offset in self._laid_down.get(number, ())
        )

    def _lay_down(self, number: int, partition: bytearray) -> None:
        """Move a full partition to the file, which has no name and which nobody else can open."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._laid_down.setdefault(number, []).append(self._file.tell())
        self._file.write(partition)
        self._file.flush()
        partition.clear()


def _entry(digest: int) -> bytes:
    return (digest & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(_ENTRY_BYTES, "big")


def _holds(content: bytes | bytearray, entry: bytes) -> bool:
    """Tell whether an entry stands in a partition, at a place where one begins."""
    at = content.find(entry)
    while at > 0 and at % _ENTRY_BYTES:
        at = content.find(entry, at + 1)
    return at >= 0
