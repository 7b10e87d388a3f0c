"""Bodies of as many levels as Go reads, and no more."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.deep_values import BROKEN, nested
from tests.factories import HASH
from tests.simulator.api_user import ApiUser
from tidepool_ingest.client.responses import Response
from tidepool_simulator import deep_json
from tidepool_simulator.bodies import MalformedError, decode


@pytest.mark.parametrize("seed", range(30))
def test_the_slow_ways_give_what_the_fast_ones_give(seed: int) -> None:
    value = nested(random.Random(seed), depth=15)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))

    assert deep_json._deep_text(value) == text
    for spaced in (text, json.dumps(value, indent=1)):
        assert deep_json._scan_deep(f"{spaced} ,", 0, json.JSONDecoder()) == (value, len(spaced))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_go_reads_ten_thousand_levels(opening: str, closing: str) -> None:
    def body(levels: int) -> bytes:
        return f"{opening * levels}1{closing * levels}".encode()

    assert deep_json.dumps(decode(body(10_000))).encode() == body(10_000)
    with pytest.raises(MalformedError):
        decode(body(10_001))


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_malformed_is_so_at_any_depth(broken: str) -> None:
    for text in (
        "[" * 3_000 + broken + "]" * 3_000,
        "[" * 3_000 + broken,
        "[" * 3_000 + "]" * 3_000 + broken,
    ):
        with pytest.raises(MalformedError):
            decode(text.encode())


def test_texts_and_names_lose_their_lone_surrogates_at_any_depth() -> None:
    deep = '[{"\\ud800":["\\udfff",' * 3_000 + "1" + "]}]" * 3_000

    value: Any = decode(deep.encode())

    for _ in range(3_000):
        (inner,) = value
        assert list(inner) == ["\ufffd"]
        assert inner["\ufffd"][0] == "\ufffd"
        value = [inner["\ufffd"][1]] if isinstance(inner["\ufffd"][1], dict) else inner["\ufffd"][1]


def test_a_data_set_with_a_deep_client_is_made_and_listed(owner: ApiUser) -> None:
    private = '{"a":' + "[" * 2_000 + "]" * 2_000 + "}"
    client = f'{{"name":"org.example.deep","version":"1.2.3","private":{private}}}'
    body = f'{{"deviceId":"{owner.device}","deduplicator":{{"name":"{HASH}"}},"client":{client}}}'
    path = f"/v1/users/{owner.user}/data_sets"

    made = owner.request("POST", path, data=body)
    assert (made.status_code, private in made.text) == (201, True)
    data_set = Response(201, {}, made.content).json()["data"]["uploadId"]
    owner.close(data_set)

    listed = owner.request("GET", f"{path}?client.name=org.example.deep")
    (found,) = Response(200, {}, listed.content).json()
    assert found["uploadId"] == data_set
