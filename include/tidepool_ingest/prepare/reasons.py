"""Why records are not taken, or are taken with a warning: counted, with the place of the first few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tidepool_ingest.formats.row_counts import NAMED_MAX
from tidepool_ingest.model import Problem, masked_pointer


@dataclass(frozen=True)
class Reason:
    """What some records have in common.

    :param code: what is the matter.
    :param type: their type.
    :param field: where in a record, without names that a person chose.
    :param count: how many there are.
    :param places: where the first few are.
    """

    code: str
    type: str
    field: str
    count: int
    places: tuple[str, ...]


class Reasons:
    """Counts records by type, code and field, and remembers where the first few are."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._places: dict[tuple[str, str, str], list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, kind: str, problems: Iterable[Problem], place: str) -> None:
        """Count a record, once for each of its reasons.

        :param kind: its type.
        :param problems: what is the matter.
        :param place: where it is.
        """
        for reason in {(code, kind, masked_pointer(pointer)) for code, pointer in problems}:
            self._counts[reason] += 1
            places = self._places.setdefault(reason, [])
            if len(places) < NAMED_MAX:
                places.append(place)

    def found(self) -> list[Reason]:
        """Return the reasons, the most frequent ones first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [Reason(*reason, count, tuple(self._places[reason])) for reason, count in ordered]
