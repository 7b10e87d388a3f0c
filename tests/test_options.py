from __future__ import annotations

from datetime import date
from itertools import takewhile
from typing import Any

import pytest
from pydantic.fields import FieldInfo

from tests import PROJECT
from tidepool_ingest.options import Options, OptionsError, ReconcileOptions, RunOptions


def test_what_the_form_leaves_empty_has_its_default() -> None:
    given = {"first_day": None, "users": [], "staging_root": "", "dry_run": False}

    assert RunOptions.of_params(given) == RunOptions()


def test_days_come_as_text() -> None:
    options = RunOptions.of_params({"first_day": "2026-03-01", "last_day": "2026-03-05"})

    assert (options.first_day, options.last_day) == (date(2026, 3, 1), date(2026, 3, 5))


def test_an_unknown_parameter_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(OptionsError) as caught:
        RunOptions.of_params({"frist_day": "2026-03-01"})

    assert "frist_day" in str(caught.value)
    for name in RunOptions.model_fields:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"first_day": "2026-03-05", "last_day": "2026-03-01"},
        {"first_day": "yesterday"},
        {"look_back_days": -1},
        {"max_quarantined_percent": 101},
        {"chunk_records": 0},
        {"chunk_records": 1_001},
        {"part_records": 250_001},
        {"users": "0123456789"},
        {"users": ["not-an-id"]},
        {"users": ["0123456789", "ABCDEF0123"]},
        {"users": [" "]},
        {"dry_run": "perhaps"},
    ],
)
def test_a_value_that_cannot_be_used_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match="trigger again"):
        RunOptions.of_params(given)


def test_a_data_set_may_have_what_tidepool_can_close() -> None:
    assert RunOptions.of_params({"part_records": 250_000}).part_records == 250_000


def test_a_refused_value_is_not_repeated() -> None:
    with pytest.raises(OptionsError) as caught:
        RunOptions.of_params({"first_day": "canary-token"})

    assert "canary" not in str(caught.value)

    with pytest.raises(OptionsError, match="users: one of them is neither a short hash") as caught:
        RunOptions.of_params({"users": ["0123456789", "canary-name"]})

    assert "canary" not in str(caught.value)
    assert set(caught.value.wrong) == {"users"}


def test_a_person_is_named_by_id_or_short_hash() -> None:
    named = ["0123456789", " abcdef0123 ", "5A3C0D00-0000-4000-8000-0123456789ab"]

    assert RunOptions.of_params({"users": named}).users == tuple(text.strip() for text in named)


def as_written(default: Any) -> str:
    """Return a default as the documentation writes it."""
    match default:
        case None | ():
            return "\N{EN DASH}"
        case bool():
            return "yes" if default else "no"
        case str():
            return f"`{default}`"
        case _:
            return f"{default:,g}"


def row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {as_written(field.default)} | {field.title} | {field.description} |"


@pytest.mark.parametrize("options", [RunOptions, ReconcileOptions])
def test_the_documentation_lists_every_parameter(options: type[Options]) -> None:
    lines = (PROJECT / "docs" / "airflow.md").read_text().splitlines()
    expected = [row(name, field) for name, field in options.model_fields.items()]
    first = f"| `{next(iter(options.model_fields))}` |"
    start = next((place for place, line in enumerate(lines) if line.startswith(first)), len(lines))
    written = list(takewhile(lambda line: line.startswith("| `"), lines[start:]))

    assert written == expected, "docs/airflow.md, the rows of the table:\n" + "\n".join(expected)
