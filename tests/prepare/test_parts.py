"""Where a giant batch is cut, and that each accepted record is in exactly one part."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from collections import defaultdict
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from tidepool_ingest.model import identity_hash, stored_form
from tidepool_ingest.prepare.days import moment_of
from tidepool_ingest.prepare.writer import write_batch
from tidepool_ingest.staged_batch import StagedBatch
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.manifest import content_key, read_manifest
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.work_area import PreparedBatch, WorkArea

USER, DEVICE, DAY = "0123456789", "device-1", date(2026, 3, 5)

Record = dict[str, Any]

PARTS_AS_EVER = (
    "209b18722a832c58",
    "88465ddcf64e4976",
    "23daa7e5ea0cdc67",
    "46c93fdbcd0f5a12",
    "dbeb6b7b522e43a0",
    "657179944c406441",
    "d560ee49edc31761",
    "88d4dec7814890c7",
    "2aa13d8ed8117793",
    "958acdbf5c6fb842",
    "3263a81be96e7aa9",
    "b67e845806a7f6a0",
    "3c09685fb13a728c",
    "2b72a5bc6a3280db",
    "0e9b48e9513337b1",
    "d7934d4cc9b8c4af",
    "e5511e6aa3fec1dd",
    "ecedf84012cbad58",
    "ea10b535ecc3a036",
    "48174bb44effe1d1",
)
"""Digests of the plans of :func:`made` batches, as parts have always been cut."""


def cut(
    folder: Path, records: list[Any], limit: int, chunk_records: int = 5
) -> tuple[WorkArea, PreparedBatch]:
    """Stage records as one batch and prepare it; return its work area and plan."""
    batch = folder / "2026-03-05" / USER / "one"
    batch.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, bytes) else json.dumps(record).encode() for record in records]
    half = len(lines) // 2
    (batch / "a.ndjson").write_bytes(b"\n".join(lines[:half]) + b"\n")
    (batch / "b.ndjson").write_bytes(b"\n".join(lines[half:]) + b"\n")
    files = [{"name": name, "format": "ndjson"} for name in ("a.ndjson", "b.ndjson")]
    manifest = {"userId": USER, "dataSet": {"deviceId": DEVICE}, "files": files}
    (batch / "manifest.json").write_text(json.dumps(manifest))
    root = UPath(folder)
    read = read_manifest(UPath(batch), USER)
    staged = StagedBatch(
        BatchFolder(DAY, USER, "one", UPath(batch)), read, content_key(read, ["0" * 64] * 2, "one")
    )
    work = WorkArea(root, staged.content_key)
    return work, write_batch(staged, work, chunk_records=chunk_records, part_records=limit)


def lines_of(work: WorkArea, prepared: PreparedBatch) -> list[list[bytes]]:
    """Return the accepted records of each part, or of the whole."""
    return [
        [line for chunk in plan.chunks for line in area.read_chunk(chunk)]
        for area, plan in work.areas_with_records(prepared)
    ]


def cbg(time: str, value: float = 6.5) -> Record:
    return {"type": "cbg", "time": time, "deviceId": DEVICE, "units": "mmol/L", "value": value}


def wizard(time: str, at: str) -> Record:
    bolus = {"type": "bolus", "subType": "normal", "normal": 1.5, "time": at, "deviceId": DEVICE}
    return {"type": "wizard", "time": time, "deviceId": DEVICE, "units": "mmol/L", "bolus": bolus}


def time(day: int, second: int, zone: str = "Z", fraction: str = "") -> str:
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    return f"2026-03-{day:02}T{clock}{fraction}{zone}"


times = st.builds(
    time,
    st.integers(1, 6),
    st.sampled_from([0, 1, 2, 43_200, 43_201, 86_398, 86_399]),
    st.sampled_from(["Z", "Z", "+11:00", "-03:30"]),
    st.sampled_from(["", "", ".5"]),
)
records_made = st.lists(
    st.one_of(
        st.builds(cbg, times, st.sampled_from([4.5, 5.5, 6.5])),
        st.builds(wizard, times, times),
        st.just(b'{"type": "nothing"}'),
    ),
    min_size=2,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(records_made, st.integers(1, 12))
def test_every_accepted_record_is_in_one_part_and_equal_hashes_are_in_the_same(
    records: list[Any], limit: int
) -> None:
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        _, whole = cut(Path(one), records, 1_000_000)
        staged = lines_of(WorkArea(UPath(one), whole.content_key), whole)[0]
        work, prepared = cut(Path(other), records, limit)
        found = lines_of(work, prepared)
        plans = [plan for _, plan in work.areas_with_records(prepared)]

    assert sorted(chain.from_iterable(found)) == sorted(staged)
    order = {line: place for place, line in enumerate(staged)}
    for lines in found:
        assert [order[line] for line in lines] == sorted(order[line] for line in lines)
    homes: dict[str, set[int]] = defaultdict(set)
    for number, lines in enumerate(found):
        for row in chain.from_iterable(stored_form(json.loads(line)) for line in lines):
            homes[identity_hash(row, user_id=USER, scope=DEVICE)].add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())
    assert sum(plan.expected_rows for plan in plans) == whole.expected_rows
    days: dict[date, int] = defaultdict(int)
    for plan in plans:
        for day, kinds in plan.days.items():
            days[day] += sum(kinds.values())
    assert days == {day: sum(kinds.values()) for day, kinds in whole.days.items()}


def test_what_is_embedded_counts_as_well(tmp_path: Path) -> None:
    records = [wizard(time(day, 60 * at), time(day, 60 * at)) for day in (1, 2) for at in range(10)]

    _, whole = cut(tmp_path / "one", records, 40)
    work, prepared = cut(tmp_path / "two", records, 39)
    within_days, parts = cut(tmp_path / "three", records, 10)

    assert (whole.parts, whole.expected_rows) == ((), 40)
    assert [(part.records, part.expected_rows) for part in prepared.parts] == [(10, 20), (10, 20)]
    assert [len(lines) for lines in lines_of(work, prepared)] == [10, 10]
    assert [(part.records, part.expected_rows) for part in parts.parts] == [(5, 10)] * 4
    assert sum(map(len, lines_of(within_days, parts))) == 20


def test_parts_are_as_large_as_they_may_be_and_follow_each_other_in_time(tmp_path: Path) -> None:
    records = [cbg(time(day, 60 * at)) for at in range(10) for day in (5, 3, 1, 2, 4)]

    work, prepared = cut(tmp_path, records, 25)

    assert [part.records for part in prepared.parts] == [20, 20, 10]
    assert [
        sorted({json.loads(line)["time"][8:10] for line in lines}) for lines in lines_of(work, prepared)
    ] == [
        ["01", "02"],
        ["03", "04"],
        ["05"],
    ]
    assert prepared.chunks == ()
    assert prepared.requests == sum(len(plan.chunks) for _, plan in work.areas_with_records(prepared)) == 10


def test_no_part_is_a_small_rest(tmp_path: Path) -> None:
    records = [cbg(time(day, 60 * at)) for day in range(1, 8) for at in range(10)]

    _, prepared = cut(tmp_path, records, 60)

    assert [part.records for part in prepared.parts] == [40, 30]


def test_a_day_that_is_too_large_is_cut_within(tmp_path: Path) -> None:
    records = [cbg(time(1, at)) for at in range(100)] + [cbg(time(2, at)) for at in range(10)]

    _, prepared = cut(tmp_path, records, 30)

    assert [part.records for part in prepared.parts] == [28, 28, 28, 26]


def test_what_one_second_holds_is_never_torn_apart(tmp_path: Path) -> None:
    records = [cbg(time(1, 7), 4 + at / 100) for at in range(50)] + [cbg(time(2, 0))]

    _, prepared = cut(tmp_path, records, 30)

    assert [part.records for part in prepared.parts] == [50, 1]


def test_what_cannot_be_told_apart_stays_whole(tmp_path: Path) -> None:
    records = [cbg(time(1, 7), 4 + at / 100) for at in range(50)]

    work, prepared = cut(tmp_path, records, 30)

    assert (prepared.parts, prepared.part_records) == ((), 30)
    assert len(lines_of(work, prepared)[0]) == 50


def test_a_bolus_after_midnight_keeps_the_days_of_its_calculation_together(tmp_path: Path) -> None:
    records = [cbg(time(day, 60 * at)) for day in (1, 2, 3) for at in range(10)]

    _, apart = cut(tmp_path / "apart", [*records, wizard(time(1, 86_399), time(1, 86_399))], 12)
    _, together = cut(tmp_path / "together", [*records, wizard(time(1, 86_399), time(2, 1))], 12)

    assert [part.records for part in apart.parts] == [11, 10, 10]
    assert [part.records for part in together.parts] == [21, 10]


@pytest.mark.parametrize("chunk_records", [1, 3, 7])
def test_each_record_keeps_the_place_where_it_was_staged(tmp_path: Path, chunk_records: int) -> None:
    records: list[Any] = [cbg(time(1 + at % 3, 60 * at)) for at in range(40)]
    records[4] = records[25] = b"broken"
    records[7] = records[1]

    work, prepared = cut(tmp_path, records, 15, chunk_records)

    places = {}
    for area, plan in work.areas_with_records(prepared):
        for chunk in plan.chunks:
            for ordinal, line in enumerate(area.read_chunk(chunk), chunk.first_record):
                places[chunk.place_of(ordinal)] = json.loads(line)
    staged = {
        Place(1 + at // 20, at % 20): record for at, record in enumerate(records) if at not in (4, 7, 25)
    }
    assert places == staged


def test_the_same_records_give_the_same_parts_and_others_do_not(tmp_path: Path) -> None:
    records = [cbg(time(day, 60 * at)) for day in (1, 2, 3) for at in range(10)]

    def keys(name: str, records: list[Any], limit: int = 12, chunk_records: int = 5) -> list[str]:
        _, prepared = cut(tmp_path / name, records, limit, chunk_records)
        return [part.content_key for part in prepared.parts]

    first = keys("a", records)
    assert first == keys("a", records) == keys("b", records, chunk_records=3)
    assert len(set(first)) == 3
    assert set(first).isdisjoint(keys("c", records, limit=25))
    assert set(first).isdisjoint(keys("d", [cbg(time(1, 0), 9.5), *records[1:]]))


def made(seed: int) -> tuple[list[Any], int, int]:
    """Make a batch, always the same of a seed: records, most rows of a part, most records of a chunk."""
    chance = random.Random(seed)
    clock, zones, fractions = [0, 1, 43_200, 50_000, 86_398, 86_399], ["Z", "Z", "Z", "+11:00"], ["", ".5"]

    def moment() -> str:
        return time(
            chance.randint(1, 9), chance.choice(clock), chance.choice(zones), chance.choice(fractions)
        )

    records: list[Any] = []
    for number in range(chance.randint(40, 120)):
        drawn = chance.random()
        if drawn < 0.1:
            at = moment()
            records.append(wizard(at, at if drawn < 0.07 else moment()))
            if drawn < 0.03:
                records.append(records[-1]["bolus"])  # staged by itself too
        elif drawn < 0.15:
            records.append(chance.choice([b'{"type": "nothing"}', b"broken", b"null"]))
        elif drawn < 0.2 and records:
            records.append(chance.choice(records))
        else:
            own = {"id": f"own-{number}"} if drawn < 0.25 else {}
            records.append({**cbg(moment(), 4 + number / 50), **own})
    return records, chance.choice([6, 15, 30, 60]), chance.choice([1, 3, 5, 20])


@pytest.mark.parametrize(("seed", "digest"), list(enumerate(PARTS_AS_EVER)))
def test_parts_are_the_same_as_ever(tmp_path: Path, seed: int, digest: str) -> None:
    """What Tidepool holds parts of is continued by whatever version: one cut elsewhere would not fit."""
    records, limit, chunk_records = made(seed)

    work, prepared = cut(tmp_path, records, limit, chunk_records)

    what = {"content_key", "records", "accepted", "expected_rows", "days", "hours", "chunks"}
    found = [plan.model_dump(mode="json", include=what) for _, plan in work.areas_with_records(prepared)]
    assert hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-05T01:02:03Z", "2026-03-05T01:02:03"),
        ("2026-03-05T01:02:03.999999999Z", "2026-03-05T01:02:03"),
        ("2026-03-05T01:02:03.5+02:00", "2026-03-04T23:02:03"),
        ("2026-12-31T23:59:59-00:01", "2027-01-01T00:00:59"),
    ],
)
def test_moments_are_in_utc(text: str, moment: str) -> None:
    assert moment_of(text) == moment
