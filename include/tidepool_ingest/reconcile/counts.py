"""What a maintenance run came to, in numbers only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reconciled:
    """What a maintenance run came to.

    :param unfinished: batches that were left unfinished for too long.
    :param finished: those of them that are verified now.
    :param deleted: data sets deleted, because what they were to hold is not wanted or not there any more.
    :param busy: batches left alone because a task is at work on them or on their device.
    :param later: batches left for the next run, because Tidepool or storage did not answer.
    :param leases: claims of the dead taken out of the ledger.
    :param checked: verified batches looked at again.
    :param uncheckable: verified batches whose work area is not there any more.
    :param superseded_rows: rows of the checked ones that a later upload shows instead.
    :param repaired: verified batches that had lost or doubled rows, and were uploaded anew.
    :param tidied: what was tidied away, by kind.
    :param failed: batches that need a person, by the code of the cause.
    """

    unfinished: int = 0
    finished: int = 0
    deleted: int = 0
    busy: int = 0
    later: int = 0
    leases: int = 0
    checked: int = 0
    uncheckable: int = 0
    superseded_rows: int = 0
    repaired: int = 0
    tidied: dict[str, int] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Return the numbers, fit for a log line and XCom."""
        return {**vars(self), "failed": dict(self.failed)}
