"""What comparing batches with Tidepool came to, in numbers only, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

COLUMNS = ("type", "new", "already there", "there, other content", "would be archived")


class Compared(BaseModel):
    """One batch beside what Tidepool shows now. Numbers are of rows, as Tidepool keeps them.

    :param new: rows of the batch that Tidepool does not show, by type.
    :param same: rows that it shows with the same content, by type.
    :param other: rows that it shows with other content, by type.
    :param archived: rows it shows now that the batch's data set would hide when it is closed, by type.
    :param deleted: rows it shows now that the batch's data set would delete for good.
    :param untold: rows of the batch without a device id, which nothing can be found for.
    """

    model_config = ConfigDict(frozen=True)

    new: dict[str, int] = {}
    same: dict[str, int] = {}
    other: dict[str, int] = {}
    archived: dict[str, int] = {}
    deleted: int = 0
    untold: int = 0


@dataclass
class Comparisons:
    """Some batches beside what Tidepool shows now.

    :param batches: how many were compared.
    :param left_out: how many were not, by the code of the cause.
    """

    batches: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    same: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    archived: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    untold: int = 0

    def add(self, compared: Compared) -> None:
        """Count a batch that was compared."""
        self.batches += 1
        for name in ("new", "same", "other", "archived"):
            getattr(self, name).update(getattr(compared, name))
        self.deleted += compared.deleted
        self.untold += compared.untold

    def add_summary(self, summary: Mapping[str, Any]) -> None:
        """Count other comparisons in.

        :param summary: as :meth:`summary` gives it.
        """
        self.batches += summary["batches"]
        for name in ("left_out", "new", "same", "other", "archived"):
            getattr(self, name).update(summary[name])
        self.deleted += summary["deleted"]
        self.untold += summary["untold"]

    def rows(self) -> Iterator[tuple[str, int, int, int, int]]:
        """Yield the lines of a table of :data:`COLUMNS`."""
        for kind in sorted({*self.new, *self.same, *self.other, *self.archived}):
            yield kind, self.new[kind], self.same[kind], self.other[kind], self.archived[kind]

    def sentences(self) -> list[str]:
        """Return the sums, and what was not compared."""
        parts = []
        if self.batches:
            parts.append(
                f"Beside what Tidepool shows now: {self.new.total()} rows of {self.batches} batches are new, "
                f"{self.same.total()} are already there, {self.other.total()} are there with other content."
            )
            parts.append(f"{self.archived.total()} rows that are there would be archived.")
        if self.deleted:
            parts.append(f"{self.deleted} rows of the devices would be deleted for good.")
        if self.untold:
            parts.append(f"{self.untold} rows have no device id, and were not looked for.")
        if self.left_out:
            named = ", ".join(f"{count} {code}" for code, count in sorted(self.left_out.items()))
            parts.append(
                f"{self.left_out.total()} batches were not compared with Tidepool ({named}): "
                "the logs of their tasks say why."
            )
        return parts or ["No batch was compared with Tidepool."]

    def summary(self) -> dict[str, Any]:
        """Return the numbers, fit for XCom."""
        counted: dict[str, Mapping[str, int]] = {
            "left_out": self.left_out,
            "new": self.new,
            "same": self.same,
            "other": self.other,
            "archived": self.archived,
        }
        plain = {name: dict(counts) for name, counts in counted.items()}
        return {"batches": self.batches, **plain, "deleted": self.deleted, "untold": self.untold}
