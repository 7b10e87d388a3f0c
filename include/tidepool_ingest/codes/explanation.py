"""What is said of one code."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Outcome(StrEnum):
    """What becomes of a record or row for which a code stands."""

    REJECTED = "rejected"
    """It goes to quarantine."""
    WARNED = "accepted with a warning"
    """It is uploaded, and reported."""
    LEFT_OUT = "left out"
    """The row is no reading: it is counted, and nothing is lost."""


RECORD: Final = "record"
"""Records as Tidepool documents them, one a line."""

DATA_SET: Final = "dataSet"
"""The ``dataSet`` of a manifest."""

VERDICT: Final = "verdict"
"""Records of which the Platform's own verdict is asked, as by ``validate --verdicts``."""


class Example(NamedTuple):
    """A made-up example of a code: what has it, and the same without it.

    What is too long, or no text, is described between angle brackets: ``<101 letters>``.

    :param found: the lines that have it. It is found once, in the last of them that can have it.
    :param mended: the same corrected; empty where there is nothing to correct.
    :param kind: what the lines are: ``RECORD``, ``DATA_SET``, ``VERDICT``, or the name of a format.
    :param manifest: what else the manifest says, as members of its object.
    """

    found: str
    mended: str = ""
    kind: str = RECORD
    manifest: str = ""


class Explanation(NamedTuple):
    """One code in plain words.

    :param sentence: what is the matter: a clause without a capital letter and a full stop.
    :param remedy: what to do about it, in whole sentences.
    :param outcome: what becomes of the record or row.
    :param field: JSON pointer to the field that it is about in the example, and typically; empty for the
        record or row as a whole.
    :param example: ``None`` where nobody can make one.
    """

    sentence: str
    remedy: str
    outcome: Outcome = Outcome.REJECTED
    field: str = ""
    example: Example | None = None


def reading_with(more: str) -> str:
    """Return the record of a sensor's reading, for an example.

    :param more: members that it has besides.
    """
    return f'{{"type":"cbg","time":"2026-03-05T07:05:00Z","units":"mg/dL","value":112,{more}}}'
