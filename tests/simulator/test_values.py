"""The small pieces: times, request bodies, selectors."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidepool_simulator.bodies import MalformedError, decode, decode_first
from tidepool_simulator.instants import milliseconds_of, utc_of, utc_text
from tidepool_simulator.selectors import InvalidSelectorsError, selection_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1, 1, 1), timezones=st.just(UTC)))
def test_times_are_written_as_python_writes_them(moment: datetime) -> None:
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    text = utc_text(milliseconds)
    assert milliseconds_of(text) == milliseconds
    assert text[:19] == moment.isoformat()[:19]
    assert not text.endswith("0Z") or "." not in text


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("2024-05-01T12:00:00+02:00", "2024-05-01T10:00:00Z"),
        ("2024-05-01T10:00:00,1239Z", "2024-05-01T10:00:00.123Z"),
        ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
        ("2024-05-01T9:00:00Z", "2024-05-01T09:00:00Z"),
        ("no time", "no time"),
    ],
)
def test_times_come_back_in_utc(sent: str, shown: str) -> None:
    assert utc_of(sent) == shown


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b" [1, 2.5] \n", [1, 2.5]),
        (b"null", None),
        (b'["d\xff\xc3("]', ["d\ufffd\ufffd("]),
        (b'["\xe2\x82("]', ["\ufffd\ufffd("]),
        (rb'["\ud800"]', ["\ufffd"]),
        (rb'["\ud83d\ude00"]', ["\U0001f600"]),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b"[12345678901234567890]", [12345678901234567168.0]),
    ],
)
def test_bodies_are_read_as_go_reads_them(body: bytes, value: object) -> None:
    assert decode(body) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[",
        b"[] []",
        b"\xef\xbb\xbf[]",
        b"NaN",
        b"[1e400]",
        b"[-1e400]",
        b"9" * 400,
        b"[" * 100_000,
        b'"\n"',
        b"[01]",
    ],
)
def test_bodies_that_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedError):
        decode(body)


def test_what_follows_the_first_value_may_be_left_alone() -> None:
    assert decode_first(b"[1] junk") == [1]


ID = "0123456789abcdefghijklmnopqrstuv"


@pytest.mark.parametrize(
    ("body", "column", "values"),
    [
        ([{"id": ID}], "id", (ID,)),
        ([{"id": ID, "time": "2024-05-01T10:00:00Z", "type": "cbg"}], "id", (ID,)),
        (
            [{"origin": {"id": "a"}}, {"origin": {"id": "b", "time": "2024-05-01T10:00:00Z"}}],
            "origin_id",
            ("a", "b"),
        ),
        ([{"deduplicator": {"hash": "h"}}], "hash", ("h",)),
        ([{"id": ID, "origin": None}], "id", (ID,)),
    ],
)
def test_selectors(body: object, column: str, values: tuple[str, ...]) -> None:
    assert selection_of(body) == (column, values)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"id": ID},
        [None],
        ["x"],
        [{}],
        [{"id": ID.upper()}],
        [{"id": 1}],
        [{"id": ID, "time": "yesterday"}],
        [{"id": ID, "time": "0001-01-01T00:00:00Z"}],
        [{"id": ID, "origin": {"id": "a"}}],
        [{"id": ID}, {"origin": {"id": "a"}}],
        [{"origin": {"id": ""}}],
        [{"origin": {"id": "a" * 101}}],
        [{"origin": {"id": "a", "time": "x"}}],
        [{"origin": {"id": "a"}, "time": "2024-05-01T10:00:00Z"}],
        [{"origin": "a"}],
        [{"deduplicator": {}}],
    ],
)
def test_selectors_that_are_rejected(body: object) -> None:
    with pytest.raises(InvalidSelectorsError):
        selection_of(body)
