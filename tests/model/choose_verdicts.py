"""Choose the sample of recorded verdicts in `tests/data`: ``python -m tests.model.choose_verdicts FOLDER``.

The same recordings give the same sample, byte for byte. See `tests/data/README.md`.
"""

from __future__ import annotations

import argparse
import gzip
import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests import PROJECT
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.specification import literal_fields

DATA: Final = PROJECT / "tests" / "data"
DATUM, STORED, DATA_SET = NAMES = ("datum-verdicts", "datum-normalized", "data-set-verdicts")
"""Files of the recordings, and of the sample."""

BYTES_MAX: Final = 400_000
"""Size of the sample, all files together."""

LIMITS: Final = ("at-", "above-", "below-", "max-", "over-long", "too-many")
"""How the names of changes begin that put a value at its limit or just beyond."""

ID_PARTS: Final = re.compile(r".*?/(?P<field>[^/=]+)(?P<units>/\w+=.+)?/(?P<change>[^/~]+)(~\d+)?")
"""How an id is made: `kind/field/change`, or `kind/field/units=mg/dL/change` where limits depend on units."""

ONE_KIND: Final = {("upload",): "data set"} | {
    tuple(literal_fields(model).values()): " ".join(literal_fields(model).values()) for model in DATUM_MODELS
}
KINDS: Final = frozenset(ONE_KIND.values())
"""The types with their sub-kinds, and the data set."""

Feature: TypeAlias = tuple[object, ...]


@dataclass(frozen=True)
class Case:
    """A recorded verdict, as it lies in its file.

    :param file: the name of the file.
    :param line: the verdict.
    :param stored: the line that says what is stored of it.
    :param case: the verdict, decoded.
    """

    file: str
    line: bytes = field(repr=False)
    stored: bytes = field(repr=False)
    case: dict[str, Any] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.line) + len(self.stored)

    @property
    def codes(self) -> frozenset[str]:
        return frozenset(error["code"] for error in self.case["errors"])

    @property
    def kind(self) -> str:
        """Type and sub-kind; empty for what is neither."""
        return "data set" if self.file == DATA_SET else kind_of(self.case["datum"])


def kind_of(datum: object) -> str:
    """Return type and sub-kind of a record; empty where the Platform has no such kind."""
    if not isinstance(datum, dict):
        return ""
    given = [datum.get(name) for name in ("type", "deliveryType", "subType")]
    texts = [text for text in given if isinstance(text, str)]
    found = (ONE_KIND.get(tuple(texts[:length])) for length in (2, 1))
    return next((kind for kind in found if kind), "")


def needed(case: Case) -> Iterator[Feature]:
    """Yield what the sample must have whatever it weighs."""
    for code in case.codes:
        yield ("code", code)
    if case.kind:
        yield ("kind", case.kind, "accepted" if case.case["accepted"] else "refused")
        if case.stored:
            yield ("kind", case.kind, "stored")


def wanted(case: Case) -> Iterator[Feature]:
    """Yield what the sample should have as far as there is room."""
    outcomes = case.codes or {"accepted"}
    yield from (("kind", case.kind, outcome) for outcome in outcomes)
    yield from (("type", case.case.get("type"), outcome) for outcome in outcomes)
    for error in case.case["errors"]:
        yield ("field", error["code"], *_names(error["pointer"].split("/"))[-1:])
    parts = ID_PARTS.fullmatch(case.case["id"])
    if parts and parts["change"].startswith(LIMITS):
        (name,) = _names(parts["field"].split("."))[-1:] or ("",)
        yield ("limit", case.kind, name, parts["units"], parts["change"], not case.codes)


def _names(parts: Iterable[str]) -> list[str]:
    return [part for part in parts if part and not part.isdigit()]


def read_cases(folder: Path) -> list[Case]:
    """Read the recordings, gzipped as they come."""
    lines = {
        name: gzip.decompress((folder / f"{name}.ndjson.gz").read_bytes()).splitlines() for name in NAMES
    }
    stored = {json.loads(line)["id"]: line for line in lines[STORED]}
    data = ((line, json.loads(line)) for line in lines[DATUM])
    sets = ((line, json.loads(line)) for line in lines[DATA_SET])
    return [
        *(Case(DATUM, line, stored.get(case["id"], b""), case) for line, case in data),
        *(Case(DATA_SET, line, b"", case) for line, case in sets),
    ]


def choose(cases: list[Case]) -> list[Case]:
    """Return the sample, in the order of the recordings."""
    chosen = _cover(cases, needed, set(), BYTES_MAX)
    left = BYTES_MAX - sum(cases[place].size + 2 for place in chosen)
    chosen |= _cover(cases, wanted, chosen, left)
    return [cases[place] for place in sorted(chosen)]


def _cover(
    cases: list[Case], features_of: Callable[[Case], Iterable[Feature]], given: set[int], room: int
) -> set[int]:
    """Choose greedily: each time the case that adds most features by its size, the first of equals."""
    features = [frozenset(features_of(case)) for case in cases]
    covered = {feature for place in given for feature in features[place]}
    # What a case adds never grows, so that one whose rank is still the best is the best of all.
    queue = [(-len(features[place]) / case.size, place) for place, case in enumerate(cases)]
    heapq.heapify(queue)
    chosen: set[int] = set()
    while queue:
        rank, place = heapq.heappop(queue)
        size = cases[place].size
        now = -len(features[place] - covered) / size
        if now == 0 or size + 2 > room:
            continue
        if now > rank:
            heapq.heappush(queue, (now, place))
            continue
        chosen.add(place)
        covered |= features[place]
        room -= size + 2  # with the ends of two lines
    return chosen


def sample_of(cases: Iterable[Case]) -> dict[str, bytes]:
    """Return the content of the sample's files by their names."""
    chosen = list(cases)
    lines = {
        DATUM: [case.line for case in chosen if case.file == DATUM],
        STORED: [case.stored for case in chosen if case.stored],
        DATA_SET: [case.line for case in chosen if case.file == DATA_SET],
    }
    return {f"{name}.ndjson": b"".join(line + b"\n" for line in lines[name]) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.model.choose_verdicts", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the recordings are")
    for name, content in sample_of(choose(read_cases(parser.parse_args().folder))).items():
        (DATA / name).write_bytes(content)


if __name__ == "__main__":
    main()
