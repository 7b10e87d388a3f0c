"""What a struct of the fast path cannot say of itself: it is asked of the annotations' own checks.

These are limits in glucose units, some of texts and lists, the conditions and the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen

from tidepool_ingest.model import fields
from tidepool_ingest.model.conditions import Condition
from tidepool_ingest.model.gojson import go_json_size
from tidepool_ingest.model.limits import Question, questions_about
from tidepool_ingest.model.specification import FieldSpec, Kind, fields_of, literal_fields
from tidepool_ingest.model.validation import not_rising

Rest: TypeAlias = Callable[[Any, str | None], bool]
"""Gets a struct and the glucose units around it; returns whether what the struct cannot say is kept.

What asks a part of it gets the value of a field, or the values that conditions and rules look at.
"""


def rest_of(model: type[fields.Record], types: Mapping[str, Any], *, whole: bool) -> Rest | None:
    """Return what asks the annotations' own checks about a struct, or ``None`` if it says everything.

    :param model: its model.
    :param types: of its fields.
    :param whole: whether only whole records pass.
    """
    of_values = list(_of_values(model, types, whole=whole))
    asked = [*_of_conditions(model), *_of_rules(model)]
    ranges = tuple(
        (spec.name, limit.ranges)
        for spec in fields_of(model)
        if (limit := spec.limit(fields.InGlucoseUnits)) and limit.ranges
    )
    if not (of_values or asked or ranges):
        return None
    required = {spec.name for spec in fields_of(model) if spec.required}
    surely_there = tuple((name, question) for name, question in of_values if name in required)
    optional = [(name, question) for name, question in of_values if name not in required]
    always = tuple(ask for names, ask in asked if not names)
    by_field = _by_field(optional, asked)
    values_of = _values_of(model)
    units_of = _units_of(model.glucose_units) if model.glucose_units else None
    further = _in_turn(
        _asks_always(always, values_of) if always else None,
        _asks_if_there(by_field, values_of) if by_field else None,
    )
    if further and not (ranges or surely_there or units_of):
        return further
    keeps_rest = _asks_all(units_of, ranges, surely_there, further)
    if surely_there or always or not by_field or not _is_reading(model, ranges):
        return keeps_rest
    return _of_readings(*ranges[0], units_of, attrgetter(*by_field), _nothing(by_field), keeps_rest)


def _asks_all(
    units_of: Callable[[Any], str | None] | None,
    ranges: Sequence[tuple[str, Mapping[str | None, fields.Range]]],
    surely_there: Sequence[tuple[str, Rest]],
    further: Rest | None,
) -> Rest:
    """Return what asks everything about a struct.

    :param units_of: returns the glucose units that are in force within it, if it has its own.
    :param ranges: of values in those units.
    :param surely_there: what is asked about required fields.
    :param further: what asks the rest of the struct.
    """

    def keeps_rest(struct: Any, units: str | None) -> bool:
        if units_of is not None:
            units = units_of(struct)
        for name, by_units in ranges:  # as InGlucoseUnits has it, which would cost calls for each reading
            value = getattr(struct, name)
            if value is not None and units in by_units:
                low, high = by_units[units]
                if not low <= value <= high:
                    return False
        for name, question in surely_there:
            if not question(getattr(struct, name), units):
                return False
        return further is None or further(struct, units)

    return keeps_rest


def _in_turn(first: Rest | None, second: Rest | None) -> Rest | None:
    """Return what asks both, if there are any."""
    if first is None or second is None:
        return first or second
    return lambda struct, units: first(struct, units) and second(struct, units)


def _asks_always(asked: Sequence[Rest], values_of: Callable[[Any], dict[str, Any]]) -> Rest:
    """Return what asks about several values of a struct, whatever is there."""

    def keeps(struct: Any, units: str | None) -> bool:
        values = values_of(struct)
        for ask in asked:  # noqa: SIM110 - all() would cost more than what is asked
            if not ask(values, units):
                return False
        return True

    return keeps


def _by_field(
    questions: Iterable[tuple[str, Rest]], asked: Iterable[tuple[tuple[str, ...], Rest]]
) -> dict[str, list[tuple[bool, Rest]]]:
    """Gather what is asked where a field is there: of its value (true), or of several values."""
    found: dict[str, list[tuple[bool, Rest]]] = {}
    for name, question in questions:
        found.setdefault(name, []).append((True, question))
    for names, ask in asked:
        for name in names:
            found.setdefault(name, []).append((False, ask))
    return found


def _nothing(names: Sized) -> tuple[None, ...] | None:
    """Return what an ``attrgetter`` of these fields gets from a struct that has none of them."""
    return (None,) * len(names) if len(names) > 1 else None


def _asks_if_there(
    by_field: Mapping[str, Sequence[tuple[bool, Rest]]], values_of: Callable[[Any], dict[str, Any]]
) -> Rest:
    """Return what asks about optional fields, where they are there.

    :param by_field: see :func:`_by_field`.
    :param values_of: returns the values of a struct that are asked about together.
    """
    get, nothing = attrgetter(*by_field), _nothing(by_field)
    questions = tuple(map(tuple, by_field.values()))

    def keeps(struct: Any, units: str | None) -> bool:
        found = get(struct)
        if found == nothing:
            return True
        values: dict[str, Any] | None = None
        for value, asks in zip(found if nothing else (found,), questions, strict=True):
            if value is not None:
                for is_of_value, ask in asks:
                    if not is_of_value and values is None:
                        values = values_of(struct)
                    if not ask(value if is_of_value else values, units):
                        return False
        return True

    return keeps


def _is_reading(model: type[fields.Record], ranges: Sequence[tuple[str, Mapping[str, fields.Range]]]) -> bool:
    """Return whether a model has one value in glucose units, and both are always there."""
    required = {spec.name: spec.allowed or {""} for spec in fields_of(model) if spec.required}
    if len(ranges) != 1 or model.glucose_units is None or model.glucose_units[0] not in required:
        return False
    name, by_units = ranges[0]
    return name in required and required[model.glucose_units[0]] <= by_units.keys()


def _of_readings(
    name: str, by_units: Mapping[str, fields.Range], units_of: Any, get: Any, nothing: Any, keeps: Rest
) -> Rest:
    """Return what answers at once about nearly all records: readings in their range and with nothing more."""
    value_of = attrgetter(name)

    def keeps_rest(struct: Any, units: str | None) -> bool:
        low, high = by_units[units_of(struct)]
        return (low <= value_of(struct) <= high and get(struct) == nothing) or keeps(struct, units)

    return keeps_rest


def _of_values(
    model: type[fields.Record], types: Mapping[str, Any], *, whole: bool
) -> Iterator[tuple[str, Rest]]:
    """Yield what is to be asked about the values of single fields."""
    for spec in fields_of(model):
        for question in _questions(spec, types[spec.name], whole=whole):
            yield spec.name, question


def _of_conditions(model: type[fields.Record]) -> Iterator[tuple[tuple[str, ...], Rest]]:
    """Yield what the conditions ask of a struct; and of which fields one must be there for it."""
    optional = {spec.name for spec in fields_of(model) if not spec.required}
    for spec in fields_of(model):
        for condition in spec.conditions:
            names = {spec.name, condition.field} if condition.asks_for_missing else {spec.name}
            says_nothing = condition.check(None, literal_fields(model)).code is None
            yield (
                tuple(names) if names <= optional and says_nothing else (),
                partial(_keeps_condition, spec.name, condition),
            )


def _keeps_condition(name: str, condition: Condition, values: dict[str, Any], _units: str | None) -> bool:
    return condition.check(values.get(name), values).code is None


def _of_rules(model: type[fields.Record]) -> Iterator[tuple[tuple[str, ...], Rest]]:
    """Yield the same about the rules."""

    def ask(values: dict[str, Any], units: str | None) -> bool:
        problems: list[str] = []
        for rule in model.rules:
            rule.check(values, units, lambda code, _field: problems.append(code))
        return not problems

    if model.rules:
        yield (), ask


def _units_of(path: tuple[str, ...]) -> Callable[[Any], str | None]:
    *outer, name = path
    if not outer:
        return attrgetter(name)

    def units_of(struct: Any) -> str | None:
        for step in outer:
            struct = getattr(struct, step)
            if struct is None:
                return None
        found: str | None = getattr(struct, name)
        return found

    return units_of


def _questions(spec: FieldSpec, found: Any, *, whole: bool) -> Iterator[Rest]:
    """Yield what is to be asked about the value of a field beyond its type."""
    if found is None:
        return
    for limit in spec.limits:
        if type(limit) in _LIMIT_QUESTIONS and not getattr(limit, "ranges", None):
            yield partial(_LIMIT_QUESTIONS[type(limit)], limit)
    for said in _asked_of_text(spec.limits):
        yield partial(_says_nothing, said)
    for said in _asked_of_text(spec.item_limits):
        yield partial(_says_nothing_of_any, said)
    if spec.kind in _FREE_SIZES and not whole:
        yield _FREE_SIZES[spec.kind]
    if spec.kind is Kind.OBJECTS_MAP:
        yield from (
            partial(_each_rises, limit) for limit in spec.item_limits if isinstance(limit, fields.Rising)
        )
    rests = {struct: struct.__dict__["rest"] for struct in _structs_in(spec, found)} if spec.models else {}
    if any(rests.values()):
        yield _INNER[spec.kind](_rest_inside(rests))


def _asked_of_text(limits: Iterable[Any]) -> tuple[Question, ...]:
    return questions_about([limit for limit in limits if isinstance(limit, _ASKED)], None)


def _says_nothing(question: Question, text: str, _units: str | None) -> bool:
    return question(text) is None


def _says_nothing_of_any(question: Question, texts: Iterable[str], _units: str | None) -> bool:
    return not any(map(question, texts))


def _is_in_units(limit: fields.InGlucoseUnits, value: float, units: str | None) -> bool:
    return limit.check(value, units) is None


def _is_unique(_limit: fields.Unique, texts: list[str], _units: str | None) -> bool:
    return len(set(texts)) == len(texts)


def _rises(limit: fields.Rising, items: Sequence[Any], _units: str | None) -> bool:
    values = enumerate(getattr(item, limit.field) for item in items)
    return next(not_rising(limit, values), None) is None


def _each_rises(limit: fields.Rising, lists: Mapping[str, Sequence[Any]], units: str | None) -> bool:
    return all(_rises(limit, items, units) for items in lists.values())


_LIMIT_QUESTIONS: Final[dict[type, Callable[[Any, Any, str | None], bool]]] = {
    fields.InGlucoseUnits: _is_in_units,
    fields.Unique: _is_unique,
    fields.Rising: _rises,
}


def _structs_in(spec: FieldSpec, found: Any) -> Sequence[Any]:
    """Return the structs that a field's type is made of."""
    while not isinstance(found, type) or get_origin(found) is not None:
        inner = get_args(found)
        if spec.kind is Kind.VARIANT:
            return inner
        found = inner[-1] if get_origin(found) is dict else inner[0]
    return (found,)


def _is_small(value: dict[str, Any], _units: str | None) -> bool:
    return go_json_size(value) <= fields.JSON_SIZE_MAX


_FREE_SIZES: Final[dict[Kind, Rest]] = {
    Kind.FREE_OBJECT: _is_small,
    Kind.FREE_OBJECTS: lambda items, units: all(_is_small(item, units) for item in items),
}
"""Not asked of whole records: the lines of those are short."""


def _rest_inside(rests: Mapping[Any, Rest | None]) -> Rest:
    """Return what asks about a struct inside another.

    :param rests: by struct that it may be, what asks about it, if anything does.
    """
    if len(rests) == 1:
        (only,) = filter(None, rests.values())
        return only

    def keeps_rest(struct: Any, units: str | None) -> bool:
        rest = rests[type(struct)]
        return rest is None or rest(struct, units)

    return keeps_rest


def _of_each(rest: Rest) -> Rest:
    """Return what asks about each struct of a list."""

    def keep_rest(structs: Iterable[Any], units: str | None) -> bool:
        for struct in structs:  # noqa: SIM110 - all() would cost more than most that is asked
            if not rest(struct, units):
                return False
        return True

    return keep_rest


def _of_values_in(rest: Rest) -> Rest:
    """Return what asks about each value of an object whose names people made up."""
    of_each = _of_each(rest)
    return lambda objects, units: of_each(objects.values(), units)


_INNER: Final[dict[Kind, Callable[[Rest], Rest]]] = {
    Kind.OBJECT: lambda rest: rest,
    Kind.VARIANT: lambda rest: rest,
    Kind.OBJECTS: _of_each,
    Kind.OBJECT_MAP: _of_values_in,
    Kind.OBJECTS_MAP: lambda rest: _of_values_in(_of_each(rest)),
}


def _values_of(model: type[fields.Record]) -> Callable[[Any], dict[str, Any]]:
    """Return what takes those values out of a struct that its conditions and rules look at.

    Missing ones are left out. Times are parsed where a condition is about them.
    """
    literals = literal_fields(model)
    related = {
        name for spec in fields_of(model) for each in spec.conditions for name in (spec.name, each.field)
    }
    names = [
        spec.name
        for spec in fields_of(model)
        if spec.name not in literals and (model.rules or spec.name in related)
    ]
    get = attrgetter(*names, "__class__")  # one name more: of a single one it would return no tuple
    parsers = [
        (spec.name, limit.parse)
        for spec in fields_of(model)
        if spec.name in related and spec.kind is Kind.INSTANT and (limit := spec.limit(fields.Moment))
    ]

    def values_of(struct: Any) -> dict[str, Any]:
        values: dict[str, Any] = dict(literals)
        for name, value in zip(names, get(struct), strict=False):
            if value is not None:
                values[name] = value
        for name, parse in parsers:
            if name in values:
                values[name] = parse(values[name])
        return values

    return values_of


_ASKED: Final = (fields.Text, fields.BytesMax)
KNOWN_LIMITS: Final = frozenset(
    {
        *(Ge, Le, MinLen, MaxLen, *_ASKED),
        *(fields.Equals, fields.Known, fields.Pattern, fields.Moment, fields.Free),
        *(fields.InGlucoseUnits, fields.Unique, fields.Rising),
        # What these say is about what is stored.
        *(fields.Sorted, fields.EmptyIsMissing, fields.StoredAs, fields.StoredUnder),
        *(fields.SplitOff, fields.ConvertedBy),
    }
)
"""A field with any other limit has to be missing."""
