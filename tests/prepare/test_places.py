from __future__ import annotations

import random

import pytest

from tidepool_ingest.prepare.chunking import SourceMap
from tidepool_ingest.staging.quarantine import Place
from tidepool_ingest.staging.work_area import Chunk, SourceRange


def test_places_follow_each_other_over_blocks_and_files() -> None:
    places = SourceMap()
    places.add(SourceRange(1, 0, 3))
    places.add(SourceRange(1, 3, 2))
    places.add(SourceRange(2, 0, 2))

    assert places.take(4) == (SourceRange(1, 0, 4),)
    assert places.take(3) == (SourceRange(1, 4, 1), SourceRange(2, 0, 2))


def test_what_is_left_out_is_passed_over() -> None:
    places = SourceMap()
    places.add(SourceRange(1, 10, 5), [0, 2, 3])
    places.add(SourceRange(1, 15, 2), [0, 1])
    places.add(SourceRange(1, 17, 1))

    assert places.take(3) == (SourceRange(1, 11, 1), SourceRange(1, 14, 1), SourceRange(1, 17, 1))


def test_records_of_one_row_do_not_run_on() -> None:
    places = SourceMap()
    for run in (
        SourceRange(1, 0, 2),
        SourceRange(1, 2, 1),
        SourceRange(1, 2, 1, 1),
        SourceRange(1, 3, 2),
        SourceRange(1, 5, 1),
    ):
        places.add(run)

    assert places.take(6) == (SourceRange(1, 0, 3), SourceRange(1, 2, 1, 1), SourceRange(1, 3, 2))
    assert places.take(1) == (SourceRange(1, 5, 1),)


@pytest.mark.parametrize("seed", range(20))
def test_each_record_keeps_its_place(seed: int) -> None:
    chance = random.Random(seed)
    places, expected = SourceMap(), []
    for file_number in (1, 2):
        position = 0
        for _ in range(10):
            count = chance.randrange(1, 8)
            left_out = sorted(chance.sample(range(count), chance.randrange(count + 1)))
            places.add(SourceRange(file_number, position, count), left_out)
            expected += [Place(file_number, position + at) for at in range(count) if at not in left_out]
            position += count
    first, found = 0, []
    while first < len(expected):
        size = min(chance.randrange(1, 9), len(expected) - first)
        chunk = Chunk(
            index=0, first_record=first, offset=0, length=0, records=size, digest="0" * 64,
            places=places.take(size),
        )  # fmt: skip
        found += [chunk.place_of(first + at) for at in range(size)]
        for stranger in (first - 1, first + size):
            with pytest.raises(ValueError, match="not one of this chunk"):
                chunk.place_of(stranger)
        first += size

    assert found == expected
