"""The codes of records and rows in plain words: why one is rejected, warned of, or left out.

The codes of batches are declared with their errors (:mod:`tidepool_ingest.errors`). ``docs/codes.md`` and
``docs/errors.md`` are held to what is said here and there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from tidepool_ingest.codes.explanation import Explanation
from tidepool_ingest.codes.left_out import LEFT_OUT
from tidepool_ingest.codes.platform import PLATFORM
from tidepool_ingest.codes.staged import STAGED

EXPLANATIONS: Final[dict[str, Explanation]] = {**PLATFORM, **STAGED, **LEFT_OUT}
"""By code; the codes of the Platform, ours, and the reasons why a row is no reading."""

UNKNOWN: Final = Explanation(
    "a code that this version does not explain",
    "It may be Tidepool's own and newer than this version, or of a newer version of this project.",
)

PAGE: Final = "docs/codes.md"
"""Where a person finds all of them, with examples."""


def explained(code: str) -> Explanation:
    """Return what a code says in plain words, :data:`UNKNOWN` if nobody here knows it.

    :param code: of a record or a row, or the reason why a row is no reading.
    """
    return EXPLANATIONS.get(code, UNKNOWN)


def in_words(codes: Iterable[str]) -> Iterator[str]:
    """Yield a line about each different code: what it says, and what to do; the page last, if there is any.

    :param codes: in any order, with repeats.
    """
    told = sorted({*codes})
    for code in told:
        explanation = explained(code)
        yield f"{code}: {explanation.sentence}. {explanation.remedy}"
    if told:
        yield f"{PAGE} shows an example of each, and the same corrected."
