"""What a struct of the fast path cannot say of itself: it is asked of the annotations' own checks.

These are limits in glucose units, some of texts and lists, the conditions and the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
"""Gets a struct and the glucose units around it; returns whether what the struct cannot say is kept."""


def rest_of(model: type[fields.Record], types: Mapping[str, Any], *, whole: bool) -> Rest | None:
    """Return what asks the annotations' own checks about a struct, or ``None`` if it says everything.

    :param model: its model.
    :param types: of its fields.
    :param whole: whether only whole records pass.
    """
    asked = [*_of_values(model, types, whole=whole), *_of_conditions(model), *_of_rules(model)]
    ranges = tuple(
        (spec.name, limit.ranges)
        for spec in fields_of(model)
        if (limit := spec.limit(fields.InGlucoseUnits)) and limit.ranges
    )
    if not (asked or ranges):
        return None
    always = tuple(ask for names, ask in asked if not names)
    mostly_not = tuple(ask for names, ask in asked if names)
    needed = sorted({name for names, _ in asked for name in names})
    get = attrgetter(*needed) if needed else None
    nothing = (None,) * len(needed) if len(needed) > 1 else None
    units_of = _units_of(model.glucose_units) if model.glucose_units else None

    def keeps_rest(struct: Any, units: str | None) -> bool:
        if units_of is not None:
            units = units_of(struct)
        for name, by_units in ranges:  # as InGlucoseUnits has it, which would cost calls for each reading
            value = getattr(struct, name)
            if value is not None and units in by_units:
                low, high = by_units[units]
                if not low <= value <= high:
                    return False
        for ask in always:
            if not ask(struct, units):
                return False
        return get is None or get(struct) == nothing or all(ask(struct, units) for ask in mostly_not)

    if get is None or always or not _is_reading(model, ranges):
        return keeps_rest
    return _of_readings(*ranges[0], units_of, get, nothing, keeps_rest)


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
) -> Iterator[tuple[tuple[str, ...], Rest]]:
    """Yield what is to be asked about single fields; and of which fields one must be there for it."""
    for spec in fields_of(model):
        for question in _questions(spec, types[spec.name], whole=whole):
            yield () if spec.required else (spec.name,), _about(spec.name, question)


def _about(name: str, question: Rest) -> Rest:
    def ask(struct: Any, units: str | None) -> bool:
        value = getattr(struct, name)
        return value is None or question(value, units)

    return ask


def _of_conditions(model: type[fields.Record]) -> Iterator[tuple[tuple[str, ...], Rest]]:
    """Yield the same about the conditions."""
    optional = {spec.name for spec in fields_of(model) if not spec.required}
    for spec in fields_of(model):
        for condition in spec.conditions:
            names = {spec.name, condition.field} if condition.asks_for_missing else {spec.name}
            says_nothing = condition.check(None, literal_fields(model)).code is None
            ask = _keeps_condition(spec.name, condition, _values_of(model, (spec.name, condition.field)))
            yield tuple(names) if names <= optional and says_nothing else (), ask


def _keeps_condition(name: str, condition: Condition, values_of: Callable[[Any], dict[str, Any]]) -> Rest:
    def ask(struct: Any, _units: str | None) -> bool:
        values = values_of(struct)
        return condition.check(values.get(name), values).code is None

    return ask


def _of_rules(model: type[fields.Record]) -> Iterator[tuple[tuple[str, ...], Rest]]:
    """Yield the same about the rules."""
    if not model.rules:
        return
    values_of = _values_of(model, [spec.name for spec in fields_of(model)], parsed=False)

    def ask(struct: Any, units: str | None) -> bool:
        values = values_of(struct)
        problems: list[str] = []
        for rule in model.rules:
            rule.check(values, units, lambda code, _field: problems.append(code))
        return not problems

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
    if said := _asked_of_text(spec.limits):
        yield lambda text, _units: not any(question(text) for question in said)
    if of_item := _asked_of_text(spec.item_limits):
        yield lambda texts, _units: not any(question(text) for text in texts for question in of_item)
    if spec.kind in _FREE_SIZES and not whole:
        yield _FREE_SIZES[spec.kind]
    if spec.kind is Kind.OBJECTS_MAP:
        yield from (
            partial(_each_rises, limit) for limit in spec.item_limits if isinstance(limit, fields.Rising)
        )
    if spec.models and any(struct.rest is not None for struct in _structs_in(spec, found)):
        yield _INNER[spec.kind]


def _asked_of_text(limits: Iterable[Any]) -> tuple[Question, ...]:
    return questions_about([limit for limit in limits if isinstance(limit, _ASKED)], None)


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


def keeps_rest(struct: Any, units: str | None = None) -> bool:
    """Return whether a struct keeps what it cannot say."""
    return struct.rest is None or struct.rest(units)


def _all_keep_rest(structs: Iterable[Any], units: str | None) -> bool:
    return all(struct.rest is None or struct.rest(units) for struct in structs)


_INNER: Final[dict[Kind, Rest]] = {
    Kind.OBJECT: keeps_rest,
    Kind.VARIANT: keeps_rest,
    Kind.OBJECTS: _all_keep_rest,
    Kind.OBJECT_MAP: lambda objects, units: _all_keep_rest(objects.values(), units),
    Kind.OBJECTS_MAP: lambda lists, units: all(_all_keep_rest(items, units) for items in lists.values()),
}


def _values_of(
    model: type[fields.Record], names: Iterable[str], *, parsed: bool = True
) -> Callable[[Any], dict[str, Any]]:
    """Return what takes the values of some fields out of a struct, missing ones left out.

    :param model: the model of the struct.
    :param names: of the fields.
    :param parsed: whether times are parsed.
    """
    literals = literal_fields(model)
    moments = {spec.name: spec.limit(fields.Moment) for spec in fields_of(model) if spec.kind is Kind.INSTANT}
    parsers = tuple(
        (name, moments[name].parse if parsed and name in moments else None)
        for name in names
        if name not in literals
    )

    def values_of(struct: Any) -> dict[str, Any]:
        values: dict[str, Any] = dict(literals)
        for name, parse in parsers:
            value = getattr(struct, name)
            if value is not None:
                values[name] = value if parse is None else parse(value)
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
