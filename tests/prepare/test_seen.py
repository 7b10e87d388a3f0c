"""Digests that were seen: never one forgotten, never one invented, and memory that does not grow."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from tidepool_ingest import digests as seen
from tidepool_ingest.digests import DigestSet, digest_of


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make set, filter and partitions so small that nearly everything is a collision and lies in the file."""
    monkeypatch.setattr(seen, "FIRST_DIGESTS", 1)
    monkeypatch.setattr(seen, "_MOVE_AFTER", 1)
    monkeypatch.setattr(seen, "FILTER_SLOTS", 64)
    monkeypatch.setattr(seen, "_SLOT_MASK", 63)
    monkeypatch.setattr(seen, "PARTITION_ENTRIES", 4)


def numbers(count: int, seed: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(-(2**63), 2**63) for _ in range(count)]


def check_like_a_set(count: int) -> None:
    chance = random.Random(count)
    fresh = numbers(count, 1)
    model: set[int] = set()
    with DigestSet() as known:
        for start in range(0, count, 97):
            batch = fresh[start : start + 97] + chance.choices(fresh[: start + 97], k=20)
            expected = []
            for index, one in enumerate(batch):
                if one in model:
                    expected.append(index)
                model.add(one)
            assert known.add(batch) == expected
        assert all(one in known for one in fresh)
        assert not any(one in known for one in numbers(2_000, 2))


def test_it_tells_what_a_set_would_tell() -> None:
    check_like_a_set(20_000)


@pytest.mark.parametrize("first", [1, 97, 5_000])
def test_it_does_so_when_there_are_more_than_the_set_takes(
    monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(seen, "FIRST_DIGESTS", first)
    check_like_a_set(20_000)


@pytest.mark.usefixtures("tiny")
def test_it_does_so_when_nearly_all_lies_in_the_file() -> None:
    check_like_a_set(20_000)


@pytest.mark.usefixtures("tiny")
def test_digests_that_differ_by_a_shifted_byte_are_not_mixed_up() -> None:
    """Found at a place where none begins, a digest is not there."""
    first, second = 0x0102030405060708, 0x010F000001020304
    across = int.from_bytes(first.to_bytes(8, "little")[4:] + second.to_bytes(8, "little")[:4], "little")
    with DigestSet() as known:
        # The set takes one digest, and then two in one slot of the filter make it say "several".
        assert known.add([0]) == []
        assert known.add([0x44, first, second]) == []
        assert across not in known
        assert known.add([first, second]) == [0, 1]
        assert known.add([across]) == []
        assert across in known


@pytest.mark.parametrize("edge", [0, -1, 2**63 - 1, -(2**63)])
def test_the_edges(edge: int) -> None:
    with DigestSet() as known:
        assert edge not in known
        assert known.add([edge, edge]) == [1]
        assert edge in known


def test_a_digest_is_of_the_text() -> None:
    assert digest_of(b"a text") == digest_of(bytes(bytearray(b"a text")))
    assert digest_of(b"a text") != digest_of(b"a test")


@pytest.mark.slow
def test_memory_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "FIRST_DIGESTS", 10_000)
    monkeypatch.setattr(seen, "PARTITION_ENTRIES", 64)
    with DigestSet() as known:
        tracemalloc.start()
        held = []
        for seed in (1, 2):
            for part in range(20):
                known.add(numbers(10_000, seed * 100 + part))
            held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    # 200,000 digests more are 1.6 MB in the file; in memory, the places of their partitions only.
    assert held[1] - held[0] < 1_000_000
