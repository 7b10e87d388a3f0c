"""Our verdicts beside a sample of the Platform's that every checkout has; see `tests/data/README.md`."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.model import choose_verdicts
from tests.model.choose_verdicts import BYTES_MAX, DATA, DATA_SET, DATUM, KINDS, NAMES, STORED, kind_of
from tidepool_ingest.model import problems
from tidepool_ingest.model.conformance import Conformance, conformance_in

FAST = "fast"
"""Name under which the same records are judged as lines, which is the way of staged files."""

NEVER_RECORDED = {problems.NOT_AFTER}
"""Codes of the Platform that none of its recorded verdicts has."""


@cache
def cases(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(line) for line in (DATA / f"{name}.ndjson").read_bytes().splitlines())


@pytest.fixture(scope="module")
def conformance(tmp_path_factory: pytest.TempPathFactory) -> Conformance:
    folder = tmp_path_factory.mktemp("verdicts")

    def write(name: str, content: bytes) -> None:
        (folder / f"{name}.ndjson.gz").write_bytes(gzip.compress(content))

    for name in NAMES:
        write(name, (DATA / f"{name}.ndjson").read_bytes())
    write(FAST, b"".join(json.dumps(case["datum"]).encode() + b"\n" for case in cases(DATUM)))
    verdicts = [{**case, "index": index} for index, case in enumerate(cases(DATUM))]
    write(f"{FAST}.verdicts", b"".join(json.dumps(verdict).encode() + b"\n" for verdict in verdicts))
    return conformance_in(folder)


def test_every_verdict_is_the_platforms(conformance: Conformance) -> None:
    rows = conformance.rows

    assert conformance.differing == []
    assert sum(row.exact for row in rows.values()) == 2 * len(cases(DATUM)) + len(cases(DATA_SET))
    assert rows[FAST].exact == rows[FAST].verdicts == len(cases(DATUM))
    assert sum(row.stored_exact for row in rows.values()) == len(cases(STORED))


def test_there_are_enough() -> None:
    assert len(cases(DATUM)) >= 300
    assert len(cases(DATA_SET)) >= 30
    assert len(cases(STORED)) >= len(KINDS)
    assert len({case["id"] for case in cases(DATUM)}) == len(cases(DATUM))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_accepted_refused_and_stored(kind: str) -> None:
    kept = {case["id"] for case in cases(STORED)}
    verdicts = Counter(
        (kind_of(case["datum"]), outcome)
        for case in cases(DATUM)
        for outcome in (case["accepted"], "stored" if case["id"] in kept else None)
    )
    verdicts.update(("data set", case["accepted"]) for case in cases(DATA_SET))

    assert verdicts[kind, True] >= 1
    assert verdicts[kind, False] >= 1
    assert verdicts[kind, "stored"] >= (kind != "data set")


def test_every_code_occurs() -> None:
    found = {error["code"] for name in (DATUM, DATA_SET) for case in cases(name) for error in case["errors"]}
    texts = {value for name, value in vars(problems).items() if name.isupper() and isinstance(value, str)}

    assert found == {code for code in texts if not code.startswith("staged-")} - NEVER_RECORDED


def test_the_sample_is_what_the_recordings_give(shared: Path) -> None:
    chosen = choose_verdicts.choose(choose_verdicts.read_cases(shared / "conformance"))
    sample = choose_verdicts.sample_of(chosen)

    assert {name: (DATA / name).read_bytes() == content for name, content in sample.items()} == {
        f"{name}.ndjson": True for name in NAMES
    }
    assert sum(map(len, sample.values())) <= BYTES_MAX
