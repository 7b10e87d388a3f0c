"""Basal delivery as Tidepool wants it reported: a chain of records, each ending where the next begins."""

from __future__ import annotations

from dataclasses import dataclass

from tidepool_simulator.sample.notebook import Notebook, Record


@dataclass(frozen=True)
class _Link:
    at: int
    fields: Record
    planned_end: int | None


class BasalChain:
    """Collects changes of basal delivery and records them as a chain without gap or overlap."""

    def __init__(self) -> None:
        self._links: list[_Link] = []

    def change(self, at: int, fields: Record, planned_end: int | None = None) -> None:
        """Deliver like this from now on.

        :param at: seconds since 1970, UTC; never before the last change.
        :param fields: the record's own fields: ``deliveryType``, ``rate``, ``suppressed`` …
        :param planned_end: when it was meant to end, where that was known at its beginning.
        """
        if self._links and self._links[-1].fields == fields:
            return
        if self._links and self._links[-1].at == at:
            self._links.pop()
        self._links.append(_Link(at, fields, planned_end))

    def write(self, notebook: Notebook, end: int) -> None:
        """Record the whole chain; the last link ends at ``end``."""
        ends = [link.at for link in self._links[1:]] + [end]
        for link, ended in zip(self._links, ends, strict=True):
            timing = {"duration": (ended - link.at) * 1000}
            if link.planned_end is not None and link.planned_end > ended:
                timing["expectedDuration"] = (link.planned_end - link.at) * 1000
            notebook.add(link.at, "basal", link.fields | timing)


def suppressed(rate: float, delivery: str = "scheduled", name: str | None = None) -> Record:
    """Return the ``suppressed`` part of a temporary or suspended basal: what would have been delivered."""
    fields: Record = {"type": "basal", "deliveryType": delivery, "rate": rate}
    return fields if name is None else fields | {"scheduleName": name}
