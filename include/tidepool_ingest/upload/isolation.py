"""Find the record for which Tidepool answers 500 to every request that holds it.

Its validators accept such a record and its storage cannot take it, so that no answer names it. When a chunk
has been answered with 500 three times while Tidepool takes something else, it is halved, and whichever half
fails is halved again, until one record is left. The rounds are those of the chunk: in each, all of it is
sent, in as many requests as there are pieces; what was there of it is removed first, or goes with its data
set where nothing can be removed. So each piece is a request in doubt like any other, and a chunk of ``n``
records needs ``log2(n)`` rounds beyond the first three, however many such records it holds.

A record that fails alone is sent alone twice more before it counts as the cause: an outage may just have
hit it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from tidepool_ingest.upload.record_ids import RecordWithIds

FAILURES: Final = 3
"""How often a chunk gets 500 before it is halved, and a record alone before it counts as the cause."""


@dataclass
class _Suspicion:
    """What is known of one chunk.

    :param rounds: how often it was sent and got 500, whole or in part.
    :param size: its records in the first of these rounds.
    :param pieces: ordinals of the records that are sent apart from the others, by request.
    :param alone: how often a record got 500 by itself, by ordinal.
    """

    rounds: int = 0
    size: int = 1
    pieces: list[Sequence[int]] = field(default_factory=list)
    alone: Counter[int] = field(default_factory=Counter)


class Isolation:
    """Which records of one batch are suspected. Safe to use from several threads.

    It lasts as long as an attempt, so that what was found out with one data set is of use for the next one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: dict[int, _Suspicion] = {}

    @property
    def rounds(self) -> int:
        """How many rounds there were, of all chunks."""
        with self._lock:
            return sum(suspicion.rounds for suspicion in self._chunks.values())

    def rounds_of(self, chunk_index: int) -> int:
        """Return how many rounds of a chunk have failed."""
        with self._lock:
            return self._chunks[chunk_index].rounds if chunk_index in self._chunks else 0

    def is_exhausted(self, chunk_index: int) -> bool:
        """Return whether a chunk has had more rounds than it takes to find its bad records.

        Then the failures do not come from its records, or not from them alone.
        """
        with self._lock:
            suspicion = self._chunks.get(chunk_index, _Suspicion())
            halvings = (suspicion.size - 1).bit_length()
            return suspicion.rounds > FAILURES + halvings + FAILURES - 1

    def pieces(self, chunk_index: int, records: Sequence[RecordWithIds]) -> list[Sequence[RecordWithIds]]:
        """Return by request what is to be sent of a chunk: those not suspected first, then each piece.

        :param chunk_index: its index.
        :param records: those of its records that are to be sent.
        """
        with self._lock:
            apart = self._chunks[chunk_index].pieces if chunk_index in self._chunks else []
        if not apart:
            return [records] if records else []
        suspected = {ordinal for piece in apart for ordinal in piece}
        by_request = [
            [record for record in records if record.ordinal not in suspected],
            *([record for record in records if record.ordinal in set(piece)] for piece in apart),
        ]
        return [found for found in by_request if found]

    def failed(self, chunk_index: int, failing: Collection[Sequence[RecordWithIds]]) -> set[int]:
        """Record that Tidepool has answered 500 to some requests of a chunk, though not to everything.

        :param chunk_index: its index.
        :param failing: what was sent in these requests.
        :return: ordinals of the records that are the cause.
        """
        with self._lock:
            size = sum(map(len, failing))
            suspicion = self._chunks.setdefault(chunk_index, _Suspicion(size=size))
            suspicion.rounds += 1
            pieces = [[record.ordinal for record in sent] for sent in failing]
            suspicion.alone.update(piece[0] for piece in pieces if len(piece) == 1)
            if suspicion.rounds >= FAILURES:
                suspicion.pieces = [half for piece in pieces for half in _halves(piece)]
            return {ordinal for ordinal, times in suspicion.alone.items() if times >= FAILURES}


def _halves(piece: Sequence[int]) -> list[Sequence[int]]:
    middle = (len(piece) + 1) // 2
    return [half for half in (piece[:middle], piece[middle:]) if half]
