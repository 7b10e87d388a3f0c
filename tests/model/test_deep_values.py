"""Verdict and stored form of what nests deeply, and of integers that are none for the Platform."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.examples import example, passes
from tidepool_ingest.deep_json import dumps, loads
from tidepool_ingest.model import content_of, stored_form, validate_datum, validate_lines
from tidepool_ingest.model import problems as problems_module
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.prepare import digests

DEPTH = 3_000
SMALLEST = -(2**63)


def line(kind: str, member: str) -> bytes:
    return (dumps(example(kind, {}))[:-1] + f",{member}}}").encode()


def ingredients(levels: int, *, each: str, inmost: str) -> str:
    return f'"ingredients":[{{{each},' * levels + inmost + "}]" * levels


def test_problems_of_nested_objects_are_in_the_order_of_the_platform() -> None:
    def pointer(level: int, name: str) -> str:
        return "/ingredients/0" * level + f"/{name}"

    member = ingredients(DEPTH, each='"brand":"","name":"n"', inmost='"code":"","nutrition":{"fat":{}}')
    (judged,) = validate_lines([line("food", member)])

    assert [problem.code for problem in judged.problems[:2]] == ["value-empty", "value-empty"]
    assert list(judged.problems) == [
        *(("value-empty", pointer(level, "brand")) for level in range(1, DEPTH + 1)),
        ("value-empty", pointer(DEPTH, "code")),
        ("value-not-exists", pointer(DEPTH, "nutrition/fat/total")),
        ("value-not-exists", pointer(DEPTH, "nutrition/fat/units")),
    ]


def test_what_is_wrong_on_both_sides_of_a_nested_object_keeps_its_order() -> None:
    inner = {"brand": "", "ingredients": [{"brand": ""}, {"code": ""}], "name": ""}
    food = example("food", {"ingredients": [inner, {"name": ""}], "name": ""})

    assert [problem.pointer for problem in validate_datum(food)] == [
        "/ingredients/0/brand",
        "/ingredients/0/ingredients/0/brand",
        "/ingredients/0/ingredients/1/code",
        "/ingredients/0/name",
        "/ingredients/1/name",
        "/name",
    ]


def test_a_problem_of_the_first_stage_hides_the_others_at_any_depth() -> None:
    member = ingredients(DEPTH, each='"brand":""', inmost='"name":7')
    (judged,) = validate_lines([line("food", member)])

    assert judged.problems == (("type-not-string", "/ingredients/0" * DEPTH + "/name"),)


def test_problems_that_would_fill_the_memory_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    member = ingredients(DEPTH, each='"name":"n"', inmost='"ingredients":[' + ",".join("7" * 300) + "]")
    food = line("food", member)
    assert len(validate_lines([food])[0].problems) == 300

    monkeypatch.setattr(problems_module, "POINTERS_MAX", 2_000_000)
    assert validate_lines([food])[0].problems == (("staged-too-many-values", ""),)
    wide = line("food", ingredients(DEPTH, each='"name":"n"', inmost=f'"ingredients":[{"{}," * 300}{{}}]'))
    assert validate_lines([wide])[0].problems == (("staged-too-many-values", ""),)


@pytest.mark.parametrize(
    ("kind", "member"),
    [
        ("food", ingredients(DEPTH, each='"name":"n"', inmost='"brand":"b"')),
        (
            "insulin",
            '"formulation":' + '{"compounds":[{"amount":1,"formulation":' * DEPTH
            + '{"name":"n"}' + "}]}" * DEPTH,
        ),
        ("cbg", '"payload":{"a":' + '[{"b":' * 400 + "12345678901234567890" + "}]" * 400 + "}"),
    ],
)  # fmt: skip
def test_what_is_accepted_is_stored(kind: str, member: str) -> None:
    (judged,) = validate_lines([line(kind, member)])
    assert judged.problems == ()
    assert judged.datum is not None

    (stored,) = stored_form(judged.datum)

    assert dumps(stored, sort_keys=True).count("[") == dumps(judged.datum).count("[")
    assert content_of(stored) == content_of(loads(dumps(stored)))
    assert content_of(stored) != content_of(
        loads(dumps(stored).replace(': "n"', ': "m"').replace("e+19", "e+18"))
    )


def test_a_digest_is_the_same_for_every_spelling_however_deep() -> None:
    inside = "[" * DEPTH + "%s" + "]" * DEPTH
    texts = [f'{{"a":{inside % inner},"b":2}}' for inner in ("1,{}", "1, { }", "1,[]")]
    records = [*map(loads, texts), loads(f'{{"b":2,"a":{inside % "1,{}"}}}')]
    found = [digests.content_digest(b"", record) for record in records]

    assert found[0] == found[1] == found[3] != found[2]
    assert digests.content_digests([b""] * 4, records) == found


@pytest.mark.parametrize("value", [{"a": [{"b": [1, "é", None, {}]}, []]}, list(range(70_000)), {"x": 1.5} | {
    "ab"[i % 2] * i: i for i in range(1, 40)
}])  # fmt: skip
def test_a_digest_does_not_depend_on_the_stack(value: Any) -> None:
    assert b"".join(digests._pieces(value)) == digests._encode(value)


def test_the_size_of_what_nests_deeply_is_known() -> None:
    assert go_json_size(loads('{"a":[' * DEPTH + '"<",1' + "]}" * DEPTH)) == 8 * DEPTH + len('"\\u003c",1')


@pytest.mark.parametrize("number", [2**63 - 512, 2**63 - 1, 2**63, float(2**63), SMALLEST, -(2**64)])
@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("bolus square", "duration"),
        ("basal scheduled", "duration"),
        ("cbg", "sampleInterval"),
        ("cbg", "clockDriftOffset"),
    ],
)
def test_an_integer_that_float64_rounds_up_is_the_smallest_one(kind: str, field: str, number: float) -> None:
    record = example(kind, {field: number})

    assert ("value-out-of-range", f"/{field}") in validate_datum(record)
    assert not passes(record)


def test_where_there_is_no_bound_such_an_integer_is_stored_as_the_smallest_one() -> None:
    for number, stored in ((2**63 - 513, 2**63 - 1024), (2**63 - 512, SMALLEST), (2**63 - 1, SMALLEST)):
        (row,) = stored_form(example("cbg", {"conversionOffset": number}))
        assert row["conversionOffset"] == stored
