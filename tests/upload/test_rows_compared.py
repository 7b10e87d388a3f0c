"""What is shown of a data set, compared with what was sent: as counting each identifier has it."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from tidepool_ingest.client.json_stream import blocks_of
from tidepool_ingest.deep_json import loads
from tidepool_ingest.staging.work_area import Chunk, WorkArea
from tidepool_ingest.upload.read_back import Comparison, ReadBack, ShownRow, _compared
from tidepool_ingest.upload.record_ids import SentIds, datum_id, with_ids

DATA_SET = "upid_" + "b" * 32
CHUNK_RECORDS = 5


def record(number: int) -> dict[str, Any]:
    """A record of one of four kinds: one, two or three rows; some staged with identifiers of their own."""
    time = {"time": f"2026-03-01T00:{number:02}:00Z"}
    if number % 4 == 0:
        return {"type": "wizard", **time, "bolus": {"type": "bolus", "subType": "normal", "normal": 1.0}}
    if number % 4 == 1:
        return {"type": "cbg", **time, "id": f"{number:032x}"}
    if number % 4 == 2:
        return {"type": "cbg", **time, "payload": {"lone": "\ud800", "big": 10**30}}
    return {"type": "cbg", **time, "value": 5.5}


RECORDS = [record(number) for number in range(23)]


def ids_expected(ordinal: int) -> list[str]:
    """The identifiers of a record's rows, by its decoded form."""
    datum = RECORDS[ordinal]
    own = datum.get("id") or datum_id(DATA_SET, ordinal)
    return [own, *(datum_id(DATA_SET, ordinal, name) for name in ("bolus",) if name in datum)]


@dataclass
class Prepared:
    chunks: list[Chunk]


@dataclass
class Sent:
    """As much of a leased batch as a comparison looks at."""

    work: WorkArea
    prepared: Prepared
    sent_ids: SentIds = field(default_factory=SentIds)


@pytest.fixture(scope="module")
def sent() -> Iterator[Sent]:
    with tempfile.TemporaryDirectory() as name:
        work = WorkArea(UPath(Path(name)), "0" * 64)
        work.begin()
        with work.accepted_writer() as writer:
            for start in range(0, len(RECORDS), CHUNK_RECORDS):
                writer.write([json.dumps(datum).encode() for datum in RECORDS[start : start + CHUNK_RECORDS]])
        yield Sent(work, Prepared(writer.chunks))


def counted(shown: list[str], rejected: set[int], *, deleted: bool) -> Comparison:
    """The comparison as a plain count of all identifiers has it."""
    visible = Counter(shown)
    ordinals = [ordinal for ordinal in range(len(RECORDS)) if ordinal not in rejected]
    expected = [row for ordinal in ordinals for row in ids_expected(ordinal)]
    return Comparison(
        expected=len(expected),
        visible=len(shown),
        missing=tuple(o for o in ordinals if any(not visible[row] for row in ids_expected(o))),
        double=tuple(o for o in ordinals if any(visible[row] > 1 for row in ids_expected(o))),
        foreign=sum(number for row, number in visible.items() if row not in expected),
        deleted=deleted,
    )


ordinals = st.sets(st.integers(0, len(RECORDS) - 1), max_size=4)


@settings(max_examples=400, deadline=None)
@given(
    lost=ordinals,
    doubled=ordinals,
    foreign=st.integers(0, 2),
    rejected=ordinals,
    read=st.sets(st.integers(0, 4)),
    another=st.booleans(),
    size=st.integers(1, 900),
    chance=st.randoms(use_true_random=False),
    deleted=st.booleans(),
    own=st.booleans(),
)
def test_it_is_as_a_count_of_all_identifiers_whatever_was_read_before(
    sent: Sent,
    lost: set[int],
    doubled: set[int],
    foreign: int,
    rejected: set[int],
    read: set[int],
    another: bool,
    size: int,
    chance: Random,
    deleted: bool,
    own: bool,
) -> None:
    """:param another: whether what was read before was for another data set."""
    ordinals = [ordinal for ordinal in range(len(RECORDS)) if ordinal not in rejected]
    shown = [row for ordinal in ordinals for row in ids_expected(ordinal)[ordinal in lost :]]
    shown += [row for ordinal in sorted(doubled - rejected) for row in ids_expected(ordinal)[:1]]
    shown += [f"{number:031x}f" for number in range(foreign)]
    chance.shuffle(shown)
    rows = [{"id": row, "type": "cbg", "payload": {"id": "x", "note": "},{"}} for row in shown]
    if own or deleted:
        rows.insert(0, {"type": "upload", "id": "own"} | ({"deletedTime": "2026-03-09"} if deleted else {}))
    text = json.dumps(rows).encode()
    pieces = (text[start : start + size] for start in range(0, len(text), size))
    sent.sent_ids = SentIds()
    read_for = "upid_" + "c" * 32 if another else DATA_SET
    sent.sent_ids.begin(read_for)
    for chunk in sent.prepared.chunks:
        if chunk.index in read:
            sent.sent_ids.add(chunk, with_ids(sent.work.read_chunk(chunk), chunk, read_for))

    found = _compared(sent, DATA_SET, ReadBack(blocks_of(pieces, ShownRow)), rejected)  # type: ignore[arg-type]

    assert found == counted(shown, rejected, deleted=deleted)


def test_what_was_read_for_another_plan_or_data_set_does_not_count(sent: Sent) -> None:
    first = sent.prepared.chunks[0]
    ids = SentIds()
    ids.begin(DATA_SET)
    ids.add(first, with_ids(sent.work.read_chunk(first), first, DATA_SET))

    assert ids.of_chunk(first, DATA_SET) is not None
    assert ids.of_chunk(first.model_copy(update={"digest": "1" * 64}), DATA_SET) is None
    assert ids.of_chunk(first, "upid_" + "c" * 32) is None

    ids.begin("upid_" + "c" * 32)

    assert ids.of_chunk(first, "upid_" + "c" * 32) is None


def test_records_read_for_the_comparison_are_the_ones_staged(sent: Sent) -> None:
    lines = [line for chunk in sent.prepared.chunks for line in sent.work.read_chunk(chunk)]

    assert [loads(line) for line in lines] == RECORDS
