"""What is too deep for the standard library is decoded and encoded to the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.deep_values import BROKEN, nested
from tidepool_ingest import deep_json

DEPTH = 10_000
TEXTS = [
    "[" * DEPTH + "]" * DEPTH,
    '{"a":' * DEPTH + "1" + "}" * DEPTH,
    ' [ {"a" : [1, -2.5e3, "b\\u00e9", null, {}, [ ] ] , "a": ' * 2_000 + "0" + " }\n]" * 2_000 + "\t",
]


def levels(value: Any) -> int:
    """Count the levels along the last item of each container."""
    found = 0
    while isinstance(value, (dict, list)):
        found += 1
        items = list(value.values()) if isinstance(value, dict) else value
        value = items[-1] if items else None
    return found


@pytest.mark.parametrize("text", TEXTS)
def test_it_decodes_and_encodes_ten_thousand_levels(text: str) -> None:
    value = deep_json.loads(text)
    again = deep_json.dumps(value, separators=(",", ":"))

    assert levels(value) >= 4_000
    assert deep_json.dumps(deep_json.loads(again), separators=(",", ":")) == again
    assert deep_json.loads(text.encode()) is not None


@pytest.mark.parametrize("seed", range(40))
def test_walking_gives_what_the_library_gives(seed: int) -> None:
    value = nested(random.Random(seed), depth=20)
    for sort_keys in (False, True):
        for ensure_ascii in (False, True):
            how: dict[str, Any] = {"sort_keys": sort_keys, "ensure_ascii": ensure_ascii}
            text = json.dumps(value, **how)
            encode = json.JSONEncoder(**how).encode
            assert "".join(deep_json._pieces(value, encode, (", ", ": "), sort_keys=sort_keys)) == text
            assert deep_json._walk(text + " x", 0, json.JSONDecoder()) == (json.loads(text), len(text))


DEEP = "[" * 5_000


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_json_is_none_however_deep(broken: str) -> None:
    for text in (DEEP + broken + "]" * 5_000, DEEP + broken, DEEP + "]" * 5_000 + broken, DEEP):
        with pytest.raises(json.JSONDecodeError):
            deep_json.loads(text)


def test_an_array_of_which_one_element_is_deep_ends_where_it_ends() -> None:
    text = "[1," + TEXTS[0] + ',{"a":2}] rest'

    value, end = deep_json.raw_decode(text)

    assert (value[0], value[2], text[end:]) == (1, {"a": 2}, " rest")


def test_each_value_is_changed_at_any_depth_and_names_are_not() -> None:
    value = deep_json.loads('{"a":[1,' * 3_000 + "2" + "]}" * 3_000)

    changed = deep_json.mapped(value, lambda item: item + 1)

    assert deep_json.dumps(changed, separators=(",", ":")) == '{"a":[2,' * 3_000 + "3" + "]}" * 3_000
    assert deep_json.dumps(value, separators=(",", ":")).startswith('{"a":[1,')
    assert deep_json.mapped({"b": {}, "a": [[], None]}, repr) == {"b": {}, "a": [[], "None"]}
