"""The checker's own way to read what nests too deeply for the standard library."""

from __future__ import annotations

import json
import random

import pytest

from tests.deep_values import BROKEN, nested
from tidepool_simulator.sample.checker import nested as checker_json
from tidepool_simulator.sample.checker.content import row_of, same_text
from tidepool_simulator.sample.checker.files import values_of


@pytest.mark.parametrize("seed", range(30))
def test_what_is_put_together_is_the_value(seed: int) -> None:
    value = nested(random.Random(seed), depth=15)

    assert checker_json._put_together(json.dumps(value, indent=seed % 3), 10**9) == value


@pytest.mark.parametrize("file_format", ["ndjson", "json"])
def test_records_are_read_as_deep_as_the_platform_reads_them(file_format: str) -> None:
    records = [b'{"a":' + b"[" * levels + b"]" * levels + b"}" for levels in (3, 9_998, 9_999)]
    records += [b'{"a":' + b"[" * 5_000 + text.encode() + b"]" * 5_000 + b"}" for text in BROKEN[3:6]]
    ends = (b"[", b",", b"]") if file_format == "json" else (b"", b"\n", b"\n")
    content = ends[0] + ends[1].join(records) + ends[2]

    values = list(values_of("records", file_format, content))

    assert [value is not None for value in values] == [True, True, False, False, False, False]


def test_content_is_compared_at_any_depth() -> None:
    def record(inner: str, *, null: str = "") -> dict[str, object]:
        payload = '{"a":[' * 3_000 + inner + f"]{null}}}" * 3_000
        value: dict[str, object] = checker_json.loads(
            f'{{"type":"cbg","time":"2026-03-05T00:00:00Z","payload":{payload}}}'
        )
        return value

    assert row_of(record("1")) == row_of(record("1.0", null=',"b":null')) != row_of(record("2"))
    assert same_text(record("1")) == same_text(record(" 1 ")) != same_text(record('"1"'))
    assert len({row_of(record("1")), row_of(record("1"))}) == 1
