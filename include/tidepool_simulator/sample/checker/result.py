"""What a comparison found: one entry a data set, and the totals."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidepool_simulator.sample.checker.expected import Place


@dataclass
class SetCheck:
    """A data set, or a batch that has none, and how what it shows differs from what was staged.

    Counts are of rows: a wizard with its bolus is two.

    :param data_set_id: upload id; empty for a batch of which nothing is in the store.
    :param batches: names of the batches it holds records of.
    :param formats: what files these have, each once.
    :param state: ``closed``, ``open``, ``deleted``, or ``not uploaded``.
    :param visible: rows that the read-back shows.
    :param superseded: rows rightly hidden by a newer data set of the device, or replaced in a feed.
    :param hidden: rows that are in the set but nobody sees.
    :param lost: staged, not rejected, and not visible.
    :param double: visible more often than staged.
    :param foreign: visible but not staged, or staged and rejected.
    :param lost_places: file and position of lost records.
    :param double_places: file and position of the records that are there too often.
    """

    user_id: str
    device_id: str | None
    data_set_id: str
    state: str
    batches: list[str] = field(default_factory=list)
    formats: list[str] = field(default_factory=list)
    visible: int = 0
    superseded: int = 0
    hidden: int = 0
    lost: int = 0
    double: int = 0
    foreign: int = 0
    lost_places: list[Place] = field(default_factory=list)
    double_places: list[Place] = field(default_factory=list)

    @property
    def left_open(self) -> bool:
        """Whether it holds data that nobody sees: left open, or closed only by half."""
        return self.hidden > 0 and self.state != "deleted"

    @property
    def ok(self) -> bool:
        """Whether nothing is lost, double, foreign or left open."""
        return not (self.lost or self.double or self.foreign or self.left_open)


@dataclass
class CheckResult:
    """All data sets, and the batches that have none.

    :param sets: one entry for each data set that holds data, and for each batch of which nothing is there.
    :param staged: records in batches that can be read.
    :param quarantined: those that are in a quarantine file.
    :param identical: those that repeat, or in a feed are replaced by, another record of their batch.
    :param unreadable: names of the batches that are not what their manifests say.
    :param unreachable: open data sets without any data, as a create leaves whose answer was lost.
    """

    sets: list[SetCheck] = field(default_factory=list)
    staged: int = 0
    quarantined: int = 0
    identical: int = 0
    unreadable: list[str] = field(default_factory=list)
    unreachable: int = 0

    @property
    def visible(self) -> int:
        """Return the rows that are visible in all data sets."""
        return sum(entry.visible for entry in self.sets)

    @property
    def superseded(self) -> int:
        """Return the rows rightly hidden by newer data sets."""
        return sum(entry.superseded for entry in self.sets)

    @property
    def lost(self) -> int:
        """Return the staged rows that are neither visible nor accounted for."""
        return sum(entry.lost for entry in self.sets)

    @property
    def double(self) -> int:
        """Return the rows that are visible more often than staged."""
        return sum(entry.double for entry in self.sets)

    @property
    def foreign(self) -> int:
        """Return the rows that are visible though not staged, or rejected."""
        return sum(entry.foreign for entry in self.sets)

    @property
    def left_open(self) -> int:
        """Return the data sets that hold data which nobody sees."""
        return sum(entry.left_open for entry in self.sets)

    @property
    def ok(self) -> bool:
        """Whether Tidepool shows exactly what was staged and not rejected."""
        return all(entry.ok for entry in self.sets)
