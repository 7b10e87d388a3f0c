"""Times as Go reads, compares and writes them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_ingest.model.gotime import (
    SURE_INSTANT,
    SURE_LOCAL_TIME,
    parse_instant,
    parse_local_time,
)


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ("2017-02-05T13:26:51.000Z", "2017-02-05T13:26:51Z"),
        ("2017-02-05T13:26:51.120Z", "2017-02-05T13:26:51.12Z"),
        ("2017-02-05T13:26:51,5Z", "2017-02-05T13:26:51.5Z"),
        ("2017-02-05T13:26:51.1234567891Z", "2017-02-05T13:26:51.123456789Z"),
        ("2017-02-05T3:26:51Z", "2017-02-05T03:26:51Z"),
        ("2017-02-05T13:26:51+11:00", "2017-02-05T13:26:51+11:00"),
        ("2017-02-05T13:26:51-00:30", "2017-02-05T13:26:51-00:30"),
        ("2017-02-05T13:26:51-00:00", "2017-02-05T13:26:51Z"),
        ("2017-02-05T13:26:51+01:60", "2017-02-05T13:26:51+02:00"),
        ("2017-02-05T13:26:51+24:00", "2017-02-05T13:26:51+24:00"),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
        ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_instants(sent: str, written: str) -> None:
    instant = parse_instant(sent)
    assert instant is not None
    assert instant.text == written
    assert instant.moment == parse_instant(written).moment  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2017-02-05",
        "2017-02-05T13:26:51",
        "2017-02-05 13:26:51Z",
        "2017-02-05t13:26:51Z",
        "2017-02-05T13:26:51z",
        "2017-02-05T13:26Z",
        "2017-02-05T13:26:51.Z",
        "2017-02-05T13:26:51+0100",
        "2017-02-05T13:26:51+01",
        "2017-02-05T13:26:51+25:00",
        "2017-02-05T13:26:51+01:61",
        "2017-02-05T13:26:60Z",
        "2017-02-05T13:60:00Z",
        "2017-02-05T24:00:00Z",
        "2017-02-05T013:26:51Z",
        "2017-02-30T00:00:00Z",
        "2017-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2017-02-00T00:00:00Z",
        "2017-13-01T00:00:00Z",
        "2017-00-01T00:00:00Z",
        "2017-2-05T00:00:00Z",
        "17-02-05T00:00:00Z",
        "12017-02-05T00:00:00Z",
        "2017-02-05T13:26:51Z ",
        "2017-02-05T13:26:51Z\n",
        " 2017-02-05T13:26:51Z",
        "\uff12017-02-05T13:26:51Z",
    ],
)
def test_what_is_no_instant(text: str) -> None:
    assert parse_instant(text) is None


def test_instants_compare_by_the_moment() -> None:
    first, second = parse_instant("2017-02-05T13:26:51Z"), parse_instant("2017-02-05T14:26:51.0+01:00")
    later = parse_instant("2017-02-05T13:26:51.000000001Z")
    assert first is not None
    assert second is not None
    assert later is not None
    assert first.moment == second.moment < later.moment


def test_the_zero_time_in_any_zone() -> None:
    for text in ("0001-01-01T00:00:00Z", "0001-01-01T01:00:00.000+01:00", "0000-12-31T23:59:00-00:01"):
        instant = parse_instant(text)
        assert instant is not None
        assert instant.is_zero


def test_local_times() -> None:
    assert parse_local_time("2017-02-05T13:26:51") == parse_instant("2017-02-05T13:26:51Z")
    assert parse_local_time("2017-02-05T13:26:51,5") == parse_instant("2017-02-05T13:26:51.5Z")
    assert parse_local_time("2017-02-05T13:26:51Z") is None


@given(
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),
    st.integers(-23 * 60, 23 * 60),
)
def test_order_is_that_of_datetime(one: datetime, other: datetime, offset: int) -> None:
    first = one.replace(tzinfo=timezone(timedelta(minutes=offset)))
    second = other.replace(tzinfo=timezone.utc)  # noqa: UP017
    ours, theirs = parse_instant(first.isoformat()), parse_instant(second.isoformat())
    assert ours is not None
    assert theirs is not None
    assert (ours.moment < theirs.moment) == (first < second)
    seconds, nanoseconds = (mine - yours for mine, yours in zip(ours.moment, theirs.moment, strict=True))
    assert timedelta(seconds=seconds, microseconds=nanoseconds // 1000) == first - second


@given(st.one_of(st.from_regex(SURE_INSTANT, fullmatch=True), st.from_regex(SURE_LOCAL_TIME, fullmatch=True)))
def test_what_is_sure_is_a_time_and_not_the_zero_one(text: str) -> None:
    instant = parse_instant(text) if text.endswith("Z") else parse_local_time(text)
    assert instant is not None
    assert not instant.is_zero
    assert re.fullmatch(r"[^\s]+", text)
