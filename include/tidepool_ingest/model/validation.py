"""The second stage: every field of a parsed object must keep its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeAlias

from tidepool_ingest.model import fields
from tidepool_ingest.model.conditions import Condition
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.model.limits import Question, questions_about
from tidepool_ingest.model.parsing import Parsed, escape
from tidepool_ingest.model.problems import (
    DUPLICATE,
    EMPTY,
    NOT_EXISTS,
    OUT_OF_RANGE,
    SIZE,
    Problem,
    Problems,
)
from tidepool_ingest.model.specification import FieldSpec, Kind, contains_itself, fields_of

Check: TypeAlias = Callable[[Any, str | None, str, Problems], None]
"""Gets a value, the glucose units in force, the pointer to the value, and the list of problems."""


def validate(parsed: Parsed, units: str | None, pointer: str, problems: Problems) -> None:
    """Hold a parsed object against its model; :meth:`Problems.finish` does what this puts off.

    :param parsed: the object.
    :param units: the glucose units of the object around it; ``None``: unknown.
    :param pointer: the pointer to the object.
    :param problems: the list to which problems are added.
    """
    _object_check(parsed.model)(parsed, units, pointer, problems)


def units_in(parsed: Parsed, units: str | None) -> str | None:
    """Find the glucose units in force in an object.

    :param parsed: the object.
    :param units: those of the object around it.
    """
    path = parsed.model.glucose_units
    if path is None:
        return units
    *outer, name = path
    for step in outer:
        inner = parsed.values.get(step)
        if inner is None:
            return None
        parsed = inner
    found: str | None = parsed.values.get(name)
    return found


class _FieldCheck(NamedTuple):
    """How one field of an object is checked.

    :param name: the field.
    :param suffix: what it adds to the pointer.
    :param required: whether it must be there.
    :param conditions: its limits that depend on other fields.
    :param checks: its other limits.
    """

    name: str
    suffix: str
    required: bool
    conditions: tuple[Condition, ...]
    checks: tuple[Check, ...]


@cache
def _object_check(model: type[fields.Record]) -> Check:
    check = _check_at_once(model)
    if not contains_itself(model):
        return check

    def check_later(parsed: Parsed, units: str | None, pointer: str, problems: Problems) -> None:
        problems.put_off(partial(check, parsed, units), pointer)

    return check_later


def _check_at_once(model: type[fields.Record]) -> Check:
    field_checks: tuple[_FieldCheck, ...] | None = None

    def check(parsed: Parsed, units: str | None, pointer: str, problems: Problems) -> None:
        nonlocal field_checks
        if field_checks is None:
            # At the first call, because a model may contain itself.
            field_checks = tuple(map(_field_check, fields_of(model)))
        units = units_in(parsed, units)
        values = parsed.values
        for name, suffix, required, conditions, checks in field_checks:
            value = values.get(name)
            if value is None:
                if required:
                    problems.append(Problem(NOT_EXISTS, pointer + suffix))
                elif conditions:
                    _keeps(conditions, None, values, pointer + suffix, problems)
            elif not conditions or _keeps(conditions, value, values, pointer + suffix, problems):
                for check_value in checks:
                    check_value(value, units, pointer + suffix, problems)
        for rule in model.rules:
            rule.check(
                values,
                units,
                lambda code, field: problems.append(
                    Problem(code, f"{pointer}/{field}" if field else pointer)
                ),
            )

    return check


def _field_check(spec: FieldSpec) -> _FieldCheck:
    return _FieldCheck(
        spec.name, f"/{escape(spec.name)}", spec.required, spec.conditions, _value_checks(spec)
    )


def _keeps(
    conditions: tuple[Condition, ...], value: Any, values: fields.Values, pointer: str, problems: Problems
) -> bool:
    """Report what the conditions say; return whether the field is to be checked further."""
    for condition in conditions:
        opinion = condition.check(value, values.get(condition.field))
        if opinion.code is not None:
            problems.append(Problem(opinion.code, pointer))
        if not opinion.goes_on:
            return False
    return True


def _value_checks(spec: FieldSpec) -> tuple[Check, ...]:
    checks: list[Check] = []
    if spec.kind in _SINGLE:
        questions = questions_about(spec.limits, spec.allowed)
        if questions:
            checks.append(_first(questions))
    for limit in spec.limits:
        if isinstance(limit, fields.InGlucoseUnits):
            checks.append(_glucose_check(limit))
    if spec.kind not in _SINGLE:
        checks.extend(_LIST_CHECKS[spec.kind](spec))
    return tuple(checks)


def _first(questions: tuple[Question, ...]) -> Check:
    """Report the first problem of a value: on the Platform, no two limits of one value report together."""

    def check(value: Any, _units: str | None, pointer: str, problems: Problems) -> None:
        for question in questions:
            code = question(value)
            if code is not None:
                problems.append(Problem(code, pointer))
                return

    return check


_SINGLE: Final = frozenset({Kind.TEXT, Kind.NUMBER, Kind.INTEGER, Kind.FLAG, Kind.INSTANT})


def _glucose_check(limit: fields.InGlucoseUnits) -> Check:
    def check(value: Any, units: str | None, pointer: str, problems: Problems) -> None:
        code = limit.check(value, units)
        if code is not None:
            problems.append(Problem(code, pointer))

    return check


# --- Limits of lists, objects and maps ---


def _text_list_checks(spec: FieldSpec) -> list[Check]:
    length = _first(questions_about(spec.limits, None))
    item = _first(questions_about(spec.item_limits, spec.item_allowed))
    unique = spec.limit(fields.Unique) is not None

    def check(texts: list[str], units: str | None, pointer: str, problems: Problems) -> None:
        length(texts, units, pointer, problems)
        for index, text in enumerate(texts):
            item(text, units, f"{pointer}/{index}", problems)
        if unique and len(set(texts)) < len(texts):
            seen: set[str] = set()
            for index, text in enumerate(texts):
                if text in seen:
                    problems.append(Problem(DUPLICATE, f"{pointer}/{index}"))
                seen.add(text)

    return [check]


def _check_free_object(value: dict[str, Any], _units: str | None, pointer: str, problems: Problems) -> None:
    if not value:
        problems.append(Problem(EMPTY, pointer))
    elif go_json_size(value) > fields.JSON_SIZE_MAX:
        problems.append(Problem(SIZE, pointer))


def _items_check(check_item: Check) -> Check:
    def check(items: list[Any], units: str | None, pointer: str, problems: Problems) -> None:
        for index, item in enumerate(items):
            if item is None:
                problems.append(Problem(NOT_EXISTS, f"{pointer}/{index}"))
            else:
                check_item(item, units, f"{pointer}/{index}", problems)

    return check


def _free_list_checks(spec: FieldSpec) -> list[Check]:
    return [_first(questions_about(spec.limits, None)), _items_check(_check_free_object)]


def _object_list_checks(spec: FieldSpec) -> list[Check]:
    checks = [_first(questions_about(spec.limits, None)), _items_check(validate)]
    rising = spec.limit(fields.Rising)
    return [*checks, _rising_check(rising)] if rising else checks


def _map_checks(spec: FieldSpec) -> list[Check]:
    if spec.kind is Kind.OBJECT_MAP:
        item_checks: list[Check] = [validate]
    else:
        item_checks = [_items_check(validate)]
        item_checks += [
            _rising_check(limit) for limit in spec.item_limits if isinstance(limit, fields.Rising)
        ]

    def check(objects: dict[str, Any], units: str | None, pointer: str, problems: Problems) -> None:
        for name in sorted(objects):
            at = f"{pointer}/{escape(name)}"
            if objects[name] is None:
                problems.append(Problem(NOT_EXISTS, at))
            else:
                for item_check in item_checks:
                    item_check(objects[name], units, at, problems)

    return [check]


def _rising_check(limit: fields.Rising) -> Check:
    def check(items: list[Parsed | None], _units: str | None, pointer: str, problems: Problems) -> None:
        there = (
            (index, item.values.get(limit.field)) for index, item in enumerate(items) if item is not None
        )
        for index in not_rising(limit, there):
            problems.append(Problem(OUT_OF_RANGE, f"{pointer}/{index}/{limit.field}"))

    return check


def not_rising(limit: fields.Rising, values: Iterable[tuple[int, float | None]]) -> Iterator[int]:
    """Yield the indexes of the items of a list that do not rise as they should.

    :param limit: how they should.
    :param values: of each item that is there its index, and its value of the field that the limit is about;
        ``None``: missing.
    """
    minimum: float = 0
    for index, value in values:
        # A minimum of 0 means "0 exactly", also after an item at -1: so it is on the Platform.
        maximum = limit.maximum if minimum else 0
        if value is not None and not minimum <= value <= maximum:
            yield index
        if index == 0:
            minimum = 1
        elif value is not None:
            minimum = value + 1


_LIST_CHECKS: Final[dict[Kind, Callable[[FieldSpec], list[Check]]]] = {
    Kind.TEXTS: _text_list_checks,
    Kind.FREE_OBJECT: lambda _spec: [_check_free_object],
    Kind.FREE_OBJECTS: _free_list_checks,
    Kind.OBJECT: lambda _spec: [validate],
    Kind.OBJECTS: _object_list_checks,
    Kind.OBJECT_MAP: _map_checks,
    Kind.OBJECTS_MAP: _map_checks,
    Kind.VARIANT: lambda _spec: [validate],
}
