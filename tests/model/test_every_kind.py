"""What holds of every type and sub-kind alike."""

from __future__ import annotations

import pytest

from tests.model.examples import EXAMPLES, GONE, example, verdict
from tidepool_ingest.model import EMBEDDING_TYPES, masked_pointer, stored_form, validate_datum
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.fields import Record, SplitOff
from tidepool_ingest.model.specification import field_names, fields_of, literal_fields

KINDS = sorted(EXAMPLES)
TYPES = sorted({record["type"] for record in EXAMPLES.values()})


def test_there_is_an_example_of_every_kind() -> None:
    assert {tuple(literal_fields(model).values()) for model in DATUM_MODELS} == {
        tuple(name.split(" ")) for name in EXAMPLES
    }


def test_the_types_that_embed_another_datum_are_those_whose_models_do() -> None:
    assert {
        literal_fields(model)["type"]
        for model in DATUM_MODELS
        if any(spec.limit(SplitOff) for spec in fields_of(model))
    } == EMBEDDING_TYPES


@pytest.mark.parametrize("model", DATUM_MODELS)
def test_the_names_of_fields_are_those_of_what_is_read_of_them(model: type[Record]) -> None:
    read = {spec.name for spec in fields_of(model)}

    assert len(read) > 10
    assert field_names(model) == read | literal_fields(model).keys()


def test_the_platform_takes_nineteen_types() -> None:
    assert len(TYPES) == 19


@pytest.mark.parametrize("name", KINDS)
def test_the_example_is_accepted(name: str) -> None:
    assert verdict(name) == set()


@pytest.mark.parametrize("name", KINDS)
def test_time_is_required(name: str) -> None:
    assert verdict(name, {"time": GONE}) == {("value-not-exists", "/time")}


@pytest.mark.parametrize("name", KINDS)
def test_an_unknown_field_is_ignored_and_not_stored(name: str) -> None:
    assert verdict(name, {"notAField": {"a": [1]}}) == set()
    assert "notAField" not in stored_form(example(name, {"notAField": 1}))[0]


@pytest.mark.parametrize("name", KINDS)
def test_null_is_missing(name: str) -> None:
    assert verdict(name, {"deviceId": None, "timezone": None, "time": None}) == {
        ("value-not-exists", "/time")
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_wrong_type_hides_whatever_else_is_wrong(name: str) -> None:
    assert verdict(name, {"deviceId": 7, "id": "no id", "time": GONE}) == {("type-not-string", "/deviceId")}


@pytest.mark.parametrize("name", [name for name in KINDS if " " in name])
def test_the_kind_is_required_and_must_be_known(name: str) -> None:
    field = "deliveryType" if name.startswith("basal") else "subType"
    assert verdict(name, {field: GONE, "id": 7}) == {("value-not-exists", f"/{field}")}
    assert verdict(name, {field: "injected"}) == {("value-not-allowed", f"/{field}")}
    assert verdict(name, {field: 7}) == {("type-not-string", f"/{field}"), ("value-not-exists", f"/{field}")}


@pytest.mark.parametrize(
    ("datum", "expected"),
    [
        (None, []),
        (5, [("type-not-object", "")]),
        ([], [("type-not-object", "")]),
        ("cbg", [("type-not-object", "")]),
        (True, [("type-not-object", "")]),
        ({}, [("value-not-exists", "/type")]),
        ({"type": None}, [("value-not-exists", "/type")]),
        ({"type": 1}, [("type-not-string", "/type"), ("value-not-exists", "/type")]),
        ({"type": ""}, [("value-not-allowed", "/type")]),
        *(
            ({"type": name, "time": 7}, [("value-not-allowed", "/type")])
            for name in ("upload", "urineKetone", "deviceStatus", "settings", "note", "grabbag", "CBG")
        ),
    ],
)
def test_what_is_no_datum(datum: object, expected: list[tuple[str, str]]) -> None:
    assert list(validate_datum(datum)) == expected


@pytest.mark.parametrize("name", KINDS)
def test_pointers_of_a_kind_are_shown_unmasked(name: str) -> None:
    assert masked_pointer("/time") == "/time"
    for field in EXAMPLES[name]:
        assert masked_pointer(f"/{field}") == f"/{field}"


def test_problems_come_in_the_order_of_the_platform() -> None:
    record = example(
        "cbg", {"value": -1, "units": "g", "deviceId": "", "time": GONE, "trend": "up", "tags": []}
    )
    assert [problem.pointer for problem in validate_datum(record)] == [
        "/deviceId",
        "/tags",
        "/time",
        "/units",
        "/trend",
    ]
