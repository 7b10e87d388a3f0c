"""A large data set is read back in windows of time, which leave nothing out and show nothing twice."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.factories import cbg, wizard
from tests.happenings import NEXT, double, in_the_store, lose, recheck, verified
from tests.world import World
from tidepool_ingest.upload import ChangedSinceError
from tidepool_ingest.upload.read_back import A_MILLISECOND, IdCounter, ReadBack, ShownRow, windows_of

DAYS = {date(2026, 3, day): {"cbg": 200, "bolus": 40} for day in (1, 2, 3, 5, 9)}


def reads(world: World) -> int:
    return sum(request.operation == "read-back" for request in world.simulator.requests)


@pytest.mark.parametrize("limit", [1, 7, 240, 241, 500, 1_199, 1_200, 10_000])
def test_windows_follow_each_other_without_a_gap_from_ever_to_ever(limit: int) -> None:
    windows = list(windows_of(DAYS, limit))

    assert windows[0][0] is None
    assert windows[-1][1] is None
    for (_, end), (start, _) in pairwise(windows):
        assert end is not None
        assert start == end + A_MILLISECOND
        assert start.microsecond == 0
    starts = [start for start, _ in windows[1:]]
    assert starts == sorted(set(starts), key=lambda start: start or datetime.min)


@pytest.mark.parametrize(("limit", "windows"), [(240, 5), (500, 3), (1_200, 1), (120, 10)])
def test_a_window_has_what_an_answer_may_have(limit: int, windows: int) -> None:
    found = list(windows_of(DAYS, limit))

    assert len(found) == windows
    for start, end in found:
        first, last = start or datetime.min.replace(tzinfo=UTC), end or datetime.max.replace(tzinfo=UTC)
        evenly = sum(
            10
            for day in DAYS
            for hour in range(24)
            if first <= datetime(day.year, day.month, day.day, hour, tzinfo=UTC) <= last
        )
        assert evenly <= limit


def test_without_any_day_there_is_one_window() -> None:
    assert list(windows_of({}, 10)) == [(None, None)]


def boundaries() -> list[dict[str, Any]]:
    """Return readings on both sides of each border, to the millisecond, and some with data inside."""
    midnights = [datetime(2026, 3, day, tzinfo=UTC) for day in range(1, 9)]
    moments = [
        midnight + step for midnight in midnights for step in (timedelta(), A_MILLISECOND, -A_MILLISECOND)
    ]
    readings = [
        cbg(0) | {"time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
        for moment in moments
    ]
    zoned = cbg(0) | {"time": "2026-03-05T01:59:59.9995+02:00"}
    return [*readings, zoned, *(wizard(1439 + 1440 * day) for day in range(6))]


@pytest.mark.parametrize("rows", [1, 3, 10, 1_000])
def test_what_lies_at_the_borders_is_seen_once(world: World, rows: int) -> None:
    world.timed(read_rows=rows)
    number = world.ready(boundaries())

    summary = world.upload(number)

    assert summary.visible_rows == summary.expected_rows == 25 + 12
    assert len(world.sets(number)) == 1
    assert reads(world) == (
        1 if rows == 1_000 else 1 + len(list(windows_of(world.prepared(number).days, rows)))
    )
    assert world.all_right()


def test_rows_beyond_all_windows_are_found_too(world: World) -> None:
    world.timed(read_rows=3)
    number = world.ready(boundaries())
    world.upload(number)
    data_set_id = world.sets(number)[0].data_set_id
    for time_ms in (-62_135_596_800_000, 4_102_444_800_000):
        double(world, number)
        moved = "UPDATE data SET time_ms = ?, upload_id = ? WHERE seq = (SELECT max(seq) FROM data)"
        assert in_the_store(world, moved, time_ms, data_set_id) == 1

    with pytest.raises(ChangedSinceError) as caught:
        recheck(world, number)

    assert caught.value.comparison.visible == 25 + 12 + 2
    assert len(caught.value.comparison.double) == 1


def test_a_row_that_is_missing_in_one_window_is_missed(world: World) -> None:
    world.timed(read_rows=100)
    number = world.ready([cbg(30 * place) for place in range(480)])
    world.upload(number)
    lose(world, number, 30 * 250)

    with pytest.raises(ChangedSinceError) as caught:
        recheck(world, number)

    assert caught.value.comparison.missing == (250,)


def test_what_a_later_upload_shows_is_found_in_windows_too(world: World) -> None:
    world.timed(read_rows=40)
    days = [cbg(360 * place) for place in range(120)]
    older = verified(world, days)
    verified(world, [{**day} for day in days[10:110]], "two", day=NEXT)
    before = reads(world)

    found = recheck(world, older)

    assert (found.comparison.visible, found.comparison.superseded) == (20, 100)
    assert reads(world) - before > 6


def test_a_set_that_is_marked_as_deleted_is_so_in_windows_too(world: World) -> None:
    world.timed(read_rows=3)
    number = world.ready(boundaries())
    world.upload(number)
    deleted = "UPDATE data_sets SET document = json_set(document, '$.deletedTime', '2026-03-09T00:00:00Z')"
    assert in_the_store(world, deleted) == 1

    with pytest.raises(ChangedSinceError) as caught:
        recheck(world, number)

    assert caught.value.comparison.deleted


def test_rows_are_counted_as_they_are_shown() -> None:
    shown = [ShownRow(type="cbg", id=f"{number % 700:032x}") for number in range(1_000)]

    rows = ReadBack([shown[:300], [*shown[300:], ShownRow(type="upload", id="ff")]]).rows

    assert len(rows) == 1_000
    counted = Counter({f"{number:032x}": rows.count(f"{number:032x}") for number in range(1_000)})
    assert sorted(counted.values()) == [0] * 300 + [1] * 400 + [2] * 300


@pytest.mark.parametrize(
    ("shown", "is_same"),
    [
        (["a", "b", "c"], True),
        (["c", "a", "b"], True),
        (["a", "b"], False),
        (["a", "b", "c", "c"], False),
        (["a", "a", "c"], False),
        (["a", "b", "d"], False),
    ],
)
def test_identifiers_are_the_same_if_each_is_there_as_often(shown: list[str], is_same: bool) -> None:
    sent, seen = IdCounter(), IdCounter()
    sent.add(["a", "b", "c"])
    seen.add(shown)

    assert (sent == seen) is is_same
    assert [seen.count(own) for own in "abcd"] == [shown.count(own) for own in "abcd"]
