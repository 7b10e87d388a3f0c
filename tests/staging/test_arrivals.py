"""Manifests that land in staging are told once each, on every storage."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest
from upath import UPath

from tidepool_ingest.staging.batches import Arrivals
from tidepool_ingest.staging.storage import remove_file

USER = "aaaaaaaaaa"
FIRST, LAST = date(2026, 1, 1), date(2026, 1, 8)
Put = Callable[[UPath, bytes], UPath]


@pytest.fixture
def land(root: UPath, put: Put) -> Callable[..., UPath]:
    """Let the manifest of a batch land."""

    def land(batch: str, *, day: str = "2026-01-02", content: bytes = b"{}") -> UPath:
        return put(root / day / USER / batch / "manifest.json", content)

    return land


def test_what_lies_there_is_told_once(root: UPath, land: Callable[..., UPath], put: Put) -> None:
    arrivals = Arrivals(root)
    root.fs.makedirs(root.path, exist_ok=True)
    assert arrivals.look(FIRST, LAST) == 0
    land("one")
    land("two", day="2026-01-03")
    put(root / f"2026-01-02/{USER}/unfinished/data.ndjson", b"{}")

    assert [arrivals.look(FIRST, LAST) for _ in range(2)] == [2, 0]
    land("unfinished")
    assert [arrivals.look(FIRST, LAST) for _ in range(2)] == [1, 0]


def test_a_manifest_that_is_written_anew_is_told_again(root: UPath, land: Callable[..., UPath]) -> None:
    arrivals = Arrivals(root)
    land("one")
    assert arrivals.look(FIRST, LAST) == 1

    land("one", content=b'{"longer": 1}')

    assert arrivals.look(FIRST, LAST) == 1


def test_one_that_goes_away_is_not_told(root: UPath, land: Callable[..., UPath]) -> None:
    arrivals = Arrivals(root)
    land("one")
    gone = land("two")
    arrivals.look(FIRST, LAST)

    remove_file(gone)

    assert arrivals.look(FIRST, LAST) == 0


def test_days_outside_the_window_are_not_told(root: UPath, land: Callable[..., UPath]) -> None:
    arrivals = Arrivals(root)
    land("old", day="2025-12-31")
    land("new", day="2026-01-09")

    assert arrivals.look(FIRST, LAST) == 0
    assert arrivals.look(FIRST, date(2026, 1, 9)) == 1


def test_somebody_else_goes_on_from_what_was_seen(root: UPath, land: Callable[..., UPath]) -> None:
    first = Arrivals(root)
    land("one")
    land("two", day="2026-01-03")
    first.look(FIRST, LAST)
    seen = dict(first.seen)
    land("three", day="2026-01-03")

    second = Arrivals(root, seen)

    # Of a day that has changed it cannot tell which manifests are the new ones.
    assert [second.look(FIRST, LAST) for _ in range(2)] == [2, 0]
    assert Arrivals(root, second.seen).look(FIRST, LAST) == 0


def test_a_look_lists_and_opens_nothing(bucket: UPath, put: Put) -> None:
    arrivals = Arrivals(bucket)
    for day in range(1, 9):
        put(bucket / f"2026-01-0{day}" / USER / "one" / "manifest.json", b"{}")
    bucket.fs.calls.clear()

    assert arrivals.look(FIRST, LAST) == 8
    assert dict(bucket.fs.calls) == {"list": 1 + 8}


def test_what_is_kept_names_nobody_and_does_not_grow(root: UPath, land: Callable[..., UPath]) -> None:
    arrivals = Arrivals(root)
    for number in range(20):
        land(f"batch-{number}")
    arrivals.look(FIRST, LAST)
    kept = dict(arrivals.seen)

    assert list(kept) == ["2026-01-02"]
    assert len(kept["2026-01-02"]) == 32
    assert USER not in str(kept)
    arrivals.look(date(2026, 1, 5), date(2026, 1, 12))
    assert arrivals.seen == {}
