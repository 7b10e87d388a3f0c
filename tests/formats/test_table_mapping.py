"""What a mapping may say, and how it is told what it may not."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.formats.tables import CBG, mapping
from tidepool_ingest.formats.table import mapping_of
from tidepool_ingest.staging.errors import BatchError

Json = Any

BOLUS = {"record": {"type": "bolus", "subType": "normal", "normal": {"column": "b"}}}
BASAL = {
    "record": {
        "type": "basal",
        "deliveryType": "automated",
        "rate": {"column": "r"},
        "duration": {"toNext": {"max": "PT30M", "to": "ms"}},
    }
}
PEN: Json = {
    "when": [{"column": "k", "in": ["R", "L"]}, {"column": "d", "above": 0}],
    "record": {
        "type": "insulin",
        "dose": {"units": "Units", "total": {"column": "d"}},
        "formulation": {"simple": {"actingType": {"column": "k", "map": {"R": "rapid", "L": "long"}}}},
    },
}
EVERYTHING = mapping(
    {
        "when": {"column": "k", "is": "x"},
        "record": CBG["record"]
        | {
            "value": {
                "column": "v",
                "decimal": ",",
                "missing": ["-"],
                "low": {"words": ["Low"], "below": 40, "value": 39, "threshold": 40},
                "high": {"above": 400, "threshold": 400},
            }
        },
    },
    BOLUS,
    BASAL,
    PEN,
    csv={"delimiter": ";", "encoding": "cp1252", "decimal": ",", "headerRow": 2},
    where={"column": "k", "present": True},
    rowNumber=["n"],
    time={"columns": ["t", "u"], "format": "%d.%m.%Y %H:%M", "order": "oldest-first"},
    deviceId={"column": "s", "prefix": "Meter-"},
    id=["s", "n"],
)


def refusal(raw: Json) -> str:
    with pytest.raises(BatchError) as caught:
        mapping_of(raw, 1)
    assert caught.value.code == "table-mapping"
    assert not {"tuple", "dictionary", "validation"}.intersection(str(caught.value.detail).split())
    assert ": : " not in str(caught.value)
    return str(caught.value.detail)


def cell(**more: Json) -> Json:
    return mapping({"record": CBG["record"] | {"value": {"column": "v"} | more}})


def record(**fields: Json) -> Json:
    return mapping({"record": CBG["record"] | fields})


def test_everything_that_a_mapping_may_say() -> None:
    found = mapping_of(EVERYTHING)

    assert [column for _, column in found.columns()] == [
        *["k", "n", "t", "u", "k", "v", "b", "r", "k", "d", "d", "k", "s", "s", "n"]
    ]


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "there is none"),
        ([], "a mapping is a JSON object"),
        ({"records": [CBG]}, "/time: field required"),
        (
            mapping(secret=1),
            "key 3 is not known here (did you mean sheet?); known are csv, deviceId, id, records",
        ),
        (mapping(csv={"delim": ","}), "/csv: key 1 is not known here (did you mean delimiter?); known are"),
        (mapping(zone="Secret/City"), "/zone: the time zone is the file's `timezone`"),
        (
            mapping(time={"column": "t", "format": "iso", "zone": "Secret/City"}),
            "/time/zone: the time zone is the file's `timezone` in the manifest (`--timezone`), not in",
        ),
        (mapping(time={"format": "iso"}), "/time: needs either column or columns"),
        (mapping(time={"column": "t", "columns": ["t"], "format": "iso"}), "/time: needs either"),
        (mapping(time={"column": "t", "format": "%H:%M"}), "/time: format has no date"),
        (mapping(time={"column": "t", "format": "%Y-%m-%d"}), "/time: format has no hour (%H)"),
        (mapping(time={"column": "t", "format": "%d.%m.%Y %I:%M"}), "/time: format needs %p with %I"),
        (mapping(time={"column": "t", "format": "%d.%m.%Y %H:%M %Q"}), "/time: format has a directive"),
        (mapping(time={"column": "t", "format": "%d.%m.%Y %d %H:%M"}), "/time: format has a directive twice"),
        (
            mapping(time={"column": "t", "format": "secret"}),
            "/time: format is neither iso, epoch-s, epoch-ms",
        ),
        (mapping(csv={"delimiter": ";;"}), "/csv/delimiter: string should have at most 1 character"),
        (mapping(csv={"delimiter": "x"}), "/csv/delimiter: is no character that can stand between"),
        (mapping(csv={"encoding": "secret"}), "/csv/encoding: input should be 'utf-8', 'cp1252', 'iso-8859"),
        (mapping(csv={"headerRow": 0}), "/csv/headerRow: input should be greater than or equal to 1"),
        (mapping(where={"column": "secret"}), "/where: needs exactly one of is, in, notIn, present, above"),
        (mapping(where={"column": "secret", "is": "a", "in": ["b"]}), "/where: needs exactly one of is"),
        (mapping(where={"column": "secret", "in": []}), "/where/in: list should have at least 1 item, not 0"),
        (mapping(where={"column": "secret", "like": "a"}), "/where: key 2 is not known here; known are"),
        (mapping(where=[{"column": "k", "is": 5}]), "/where/0/is: input should be a valid string"),
        (mapping(deviceId="secret"), "/deviceId: input should be a JSON object"),
        (mapping(deviceId={"text": "{secret}"}), "/deviceId/column: field required"),
        ({"time": {"column": "t", "format": "iso"}, "records": []}, "/records: list should have at least 1"),
        (
            mapping({"record": {"units": "mg/dL"}}),
            "/records/0/record/type: is none of Tidepool's types: alert",
        ),
        (record(type="secret"), "/records/0/record/type: is none of Tidepool's types"),
        (record(type={"column": "secret"}), "/records/0/record/type: is none of Tidepool's types"),
        (
            record(vlaue=5),
            "/records/0/record: key 4 is no field that Tidepool knows here (did you mean value?",
        ),
        (record(units="secret"), "/records/0/record/units: Tidepool would reject it: value-not-allowed"),
        (record(payload=None), "/records/0/record/payload: is null"),
        (record(time="2026-03-05T10:00:00Z"), "/records/0/record/time: comes from `time`, `deviceId` and"),
        (record(deviceId={"column": "secret"}), "/records/0/record/deviceId: comes from"),
        (record(origin={"id": "x"}), "/records/0/record/origin: comes from"),
        (
            record(annotations=[{"code": {"column": "c"}}]),
            "/records/0/record/annotations/0/code: an annotation",
        ),
        (
            mapping({"record": {"type": "cbg", "value": {"column": "v"}}}),
            "/records/0/record/units: Tidepool wo",
        ),
        (
            mapping({"record": {"type": "cbg", "units": "mg/dL"}}),
            "/records/0/record/value: Tidepool would rej",
        ),
        (
            cell(**{"as": "secret"}),
            "/records/0/record/value/as: input should be 'number', 'text', 'hh:mm:ss'",
        ),
        (
            cell(**{"as": "text"}),
            "/records/0/record/value: Tidepool would reject what the cell gives: type-no",
        ),
        (cell(**{"as": "hh:mm:ss"}), "/records/0/record/value: needs `to`, the unit of the duration"),
        (cell(to="s"), "/records/0/record/value: has `to`, which is for durations"),
        (cell(map={"secret": 5}, **{"as": "text"}), "/records/0/record/value: has both as and map"),
        (cell(map={"secret": [5]}), "/records/0/record/value/map/*: is no text, number, true or false"),
        (cell(map={"secret": -5}), "/records/0/record/value: Tidepool would reject value 1 of it: value-out"),
        (cell(map={"a": 5}, times=2), "/records/0/record/value: has times, which is for numbers"),
        (cell(times=0), "/records/0/record/value: makes every number 0"),
        (cell(times=True), "/records/0/record/value/times: is no number"),
        (
            cell(default=-1),
            "/records/0/record/value: Tidepool would reject value 1 of it: value-out-of-range",
        ),
        (cell(expression="x * 2"), "/records/0/record/value: key 2 is not known here; known are as, column"),
        (cell(low={"words": ["Low"]}), "/records/0/record/value/low: has words, and no value to write"),
        (cell(low={"value": 39}), "/records/0/record/value/low: needs words, or the limit"),
        (cell(low={"above": 40, "value": 39}), "/records/0/record/value/low: key 1 is not known here"),
        (
            cell(high={"words": ["High"], "value": 99999}),
            "/records/0/record/value: Tidepool would reject val",
        ),
        (cell(high={"above": 400}, times=2), "/records/0/record/value: has times beside low or high"),
        (
            mapping({"record": BOLUS["record"] | {"normal": {"column": "b", "low": {"below": 1}}}}),
            "/records/0/record/normal: low and high are for a glucose or ketone reading's value",
        ),
        (
            mapping({"record": BOLUS["record"] | {"subType": "secret"}}),
            "/records/0/record/subType: Tidepool w",
        ),
        (
            mapping({"record": BOLUS["record"] | {"normal": {"column": "b", "map": {"a": "x"}}}}),
            "/records/0/record/normal: Tidepool would reject what the cell gives: type-not-float64",
        ),
        (mapping(BASAL), "/records/0/record: has toNext, which needs `order` of the time"),
        (
            mapping({"record": BASAL["record"] | {"duration": {"toNext": {"max": "1h", "to": "ms"}}}}),
            "/records/0/record/duration/toNext/max: is no ISO 8601 duration in days and less",
        ),
        (
            mapping(
                {"record": BASAL["record"] | {"duration": {"toNext": {"max": "PT1H", "to": "ms"}, "to": 5}}}
            ),
            "/records/0/record/duration: key 2 is not known here",
        ),
        (
            mapping({"record": PEN["record"] | {"dose": {"unit": "Units", "total": {"column": "d"}}}}),
            "/records/0/record/dose: key 1 is no field that Tidepool knows here (did you mean units?)",
        ),
    ],
)
def test_what_is_refused_is_said_with_its_place_and_without_what_it_says(raw: Json, said: str) -> None:
    detail = refusal(raw)

    assert said in detail
    assert "secret" not in detail.lower()


def test_a_record_is_not_nested_without_end() -> None:
    inner: Json = {"a": 1}
    for _ in range(200):
        inner = {"a": inner}

    assert "is nested too deeply" in refusal(record(payload=inner))


def test_what_may_be_right_is_not_refused() -> None:
    """A value that only some cells make wrong is the matter of the rows."""
    mapping_of(mapping(CBG, BOLUS, PEN))
    sub_types = {"N": "normal", "S": "square"}
    mapping_of(
        mapping(
            {
                "record": {
                    "type": "bolus",
                    "subType": {"column": "k", "map": sub_types},
                    "normal": {"column": "n"},
                    "extended": {"column": "e"},
                    "duration": {"column": "d", "times": 60_000},
                }
            }
        )
    )
    mapping_of(record(payload={"anything": {"column": "x", "as": "text"}, "column2": [1, {"b": True}]}))
    mapping_of(record(annotations=[{"code": "study/checked"}]))


# ---------------------------------------------------------------- fuzzed mappings

CANARY = "Canary-7713"
_WORDS: list[Json] = [CANARY, "", "iso", "text", "cbg", 0, -1, 2.5, 10**40, True, None, [], {}, [CANARY]]
_KEYS = ["column", "toNext", "map", "as", "when", "zone", "type", "low", "record", "is", CANARY]


def _places(value: Json) -> list[tuple[Json, Json]]:
    """Return every place in a mapping, as container and key."""
    members = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = [(value, key) for key, _ in members]
    return found + [
        place for _, inner in members if isinstance(inner, dict | list) for place in _places(inner)
    ]


def _break(raw: Json, chance: random.Random) -> None:
    container, key = chance.choice(_places(raw))
    how = chance.randrange(5)
    if how == 0:
        del container[key]
    elif how == 1 and isinstance(container, dict):
        container[chance.choice(_KEYS)] = container.pop(key)
    elif how == 2 and isinstance(container, dict):
        container[chance.choice(_KEYS)] = copy.deepcopy(chance.choice(_WORDS))
    elif how == 3:
        other, other_key = chance.choice(_places(raw))
        container[key] = copy.deepcopy(other[other_key])
    else:
        container[key] = copy.deepcopy(chance.choice(_WORDS))


def fuzz(rounds: int, seed: int, use: Callable[[Json], Json]) -> tuple[int, int]:
    """Break mappings in one to four places; return how many were taken and how many were refused."""
    chance = random.Random(seed)
    taken = refused = 0
    for _ in range(rounds):
        raw = copy.deepcopy(EVERYTHING)
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            _break(raw, chance)
            if not _places(raw):
                break
        raw = json.loads(json.dumps(raw))
        try:
            use(raw)
            taken += 1
        except BatchError as error:
            refused += error.code == "table-mapping" and CANARY not in str(error)
    return taken, refused


def test_no_mapping_raises_anything_but_our_own_error_nor_is_it_quoted() -> None:
    taken, refused = fuzz(300, 1, mapping_of)

    assert taken > 20
    assert taken + refused == 300
