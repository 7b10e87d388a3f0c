"""What a struct of the fast path cannot say of itself: it is asked of the annotations' own checks.

These are limits in glucose units, some of texts and lists, the conditions and the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from math import isfinite
from operator import attrgetter, lt
from typing import Any, Final, TypeAlias, get_args, get_origin

import msgspec
from annotated_types import Ge, Le, MaxLen, MinLen

from tidepool_ingest.model import fields
from tidepool_ingest.model.conditions import After, Condition
from tidepool_ingest.model.gojson import GROWTH_MAX, go_json_size
from tidepool_ingest.model.limits import Question, questions_about
from tidepool_ingest.model.specification import FieldSpec, Kind, fields_of, literal_fields
from tidepool_ingest.model.validation import not_rising

Rest: TypeAlias = Callable[[Any, str | None], bool]
"""Gets a struct and the glucose units around it; returns whether what the struct cannot say is kept.

What asks a part of it gets the struct, too, or the value of a field.
"""


def rest_of(model: type[fields.Record], types: Mapping[str, Any]) -> Rest | None:
    """Return what asks the annotations' own checks about a struct, or ``None`` if it says everything.

    How large free objects are is for :func:`sizes_of` to ask.

    :param model: its model.
    :param types: of its fields.
    """
    of_values = list(_of_values(model, types))
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
    if_there = [(name, question) for name, question in of_values if name not in required]
    if_any = [(name, ask) for names, ask in asked for name in names]
    always = [ask for names, ask in asked if not names]
    units_of = _units_of(model.glucose_units) if model.glucose_units else None
    further = _in_turn(
        [*always, *_asks_if_there(if_there, of_values=True), *_asks_if_there(if_any, of_values=False)]
    )
    if further and not (ranges or surely_there or units_of):
        return further
    keeps_rest = _asks_all(units_of, ranges, surely_there, further)
    optional = dict.fromkeys(name for name, _ in (*if_there, *if_any))
    if surely_there or always or not optional or not _is_reading(model, ranges):
        return keeps_rest
    return _of_readings(*ranges[0], units_of, attrgetter(*optional), _nothing(optional), keeps_rest)


def sizes_of(model: type[fields.Record], types: Mapping[str, Any]) -> Rest | None:
    """Return what asks whether the free objects in a struct are small, or ``None`` if it has none.

    It is not to be asked about records in short lines.

    :param model: as for :func:`rest_of`.
    :param types: likewise.
    """
    asked = [
        (spec.name, question)
        for spec in fields_of(model)
        if types[spec.name] is not None
        for question in (_FREE_SIZES.get(spec.kind) or _inside(spec, types[spec.name], "sizes"),)
        if question is not None
    ]
    return _in_turn(list(_asks_if_there(asked, of_values=True)))


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


def _in_turn(asks: Sequence[Rest]) -> Rest | None:
    """Return what asks all, if there are any."""
    if len(asks) < 2:
        return asks[0] if asks else None

    def keep(struct: Any, units: str | None) -> bool:
        for ask in asks:  # noqa: SIM110 - all() would cost more than what is asked
            if not ask(struct, units):
                return False
        return True

    return keep


def _nothing(names: Sized) -> tuple[None, ...] | None:
    """Return what an ``attrgetter`` of these fields gets from a struct that has none of them."""
    return (None,) * len(names) if len(names) > 1 else None


def _asks_if_there(asked: Sequence[tuple[str, Rest]], *, of_values: bool) -> Iterator[Rest]:
    """Yield what asks about optional fields, where they are there.

    :param asked: by field, what is asked; some have several.
    :param of_values: whether it is asked of the value of the field, and not of the struct.
    """
    if not asked:
        return
    names, asks = zip(*asked, strict=True)
    if len(names) == 1:
        yield _asks_if_one_is_there(attrgetter(*names), asks[0], of_values=of_values)
        return
    get, nothing = attrgetter(*names), _nothing(names)

    def keeps(struct: Any, units: str | None) -> bool:
        found = get(struct)
        if found == nothing:
            return True
        for value, ask in zip(found, asks, strict=True):
            if value is not None and not ask(value if of_values else struct, units):
                return False
        return True

    yield keeps


def _asks_if_one_is_there(get: Callable[[Any], Any], ask: Rest, *, of_values: bool) -> Rest:
    def keeps(struct: Any, units: str | None) -> bool:
        value = get(struct)
        return value is None or ask(value if of_values else struct, units)

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


def _of_values(model: type[fields.Record], types: Mapping[str, Any]) -> Iterator[tuple[str, Rest]]:
    """Yield what is to be asked about the values of single fields."""
    for spec in fields_of(model):
        for question in _questions(spec, types[spec.name]):
            yield spec.name, question


def _of_conditions(model: type[fields.Record]) -> Iterator[tuple[set[str], Rest]]:
    """Yield what the conditions ask of a struct; and of which fields one must be there for it."""
    literals = literal_fields(model)
    specs = {spec.name: spec for spec in fields_of(model)}
    optional = {name for name, spec in specs.items() if not spec.required}
    for name, spec in specs.items():
        for condition in spec.conditions:
            in_range = _is_number(spec) and condition.sure_range is not None
            if in_range and condition.always_sure:
                continue  # the struct says it
            names = {name, condition.field} if condition.asks_for_missing else {name}
            if in_range and spec.required:
                names = {condition.field}
            says_nothing = condition.check(None, literals.get(condition.field)).code is None
            yield (
                names if names <= optional and says_nothing else set(),
                _keeps_order(spec, specs[condition.field], condition)
                if isinstance(condition, After)
                else _keeps(spec, condition),
            )


def _is_number(spec: FieldSpec) -> bool:
    return spec.kind in (Kind.NUMBER, Kind.INTEGER) and spec.allowed is None


def range_of(spec: FieldSpec) -> tuple[float | None, float | None]:
    """Return the smallest and the largest value with which a number passes.

    :param spec: what is said about its field.
    """
    low, high = spec.limit(Ge), spec.limit(Le)
    lowest, highest = [low.ge] if low else [], [high.le] if high else []
    for condition in spec.conditions:
        if condition.sure_range:
            lowest.append(condition.sure_range[0])
            highest.append(condition.sure_range[1])
    return max(lowest, default=None), min(filter(isfinite, highest), default=None)


def _keeps(spec: FieldSpec, condition: Condition) -> Rest:
    get, check = attrgetter(spec.name, condition.field), condition.check
    return lambda struct, _units: check(*get(struct)).code is None


def _keeps_order(spec: FieldSpec, sibling: FieldSpec, condition: After) -> Rest:
    """Return the same of a condition that compares times, which are sure texts here."""
    get = attrgetter(spec.name, sibling.name)
    parse, parse_sibling = (each.limit(fields.Moment).parse for each in (spec, sibling))

    def keeps(struct: Any, _units: str | None) -> bool:
        time, before = get(struct)
        if time is None or before is None or (len(time) == len(before) and time >= before):
            return True
        instant, instant_before = parse(time), parse_sibling(before)
        return bool(instant and instant_before and condition.check(instant, instant_before).code is None)

    return keeps


def _of_rules(model: type[fields.Record]) -> Iterator[tuple[set[str], Rest]]:
    """Yield the same about the rules."""
    values_of = _values_of(model)
    for rule in model.rules:
        yield set(), _has_any(rule.any_of) if rule.any_of else _keeps_rule(rule, values_of)


def _has_any(names: Sequence[str]) -> Rest:
    get, nothing = attrgetter(*names), _nothing(names)
    return lambda struct, _units: get(struct) != nothing


def _keeps_rule(rule: fields.Rule, values_of: Callable[[Any], dict[str, Any]]) -> Rest:
    def keeps(struct: Any, units: str | None) -> bool:
        try:
            rule.check(values_of(struct), units, _break)
        except _BrokenRuleError:
            return False
        return True

    return keeps


class _BrokenRuleError(Exception):
    pass


def _break(_code: str, _field: str) -> None:
    raise _BrokenRuleError


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


def _questions(spec: FieldSpec, found: Any) -> Iterator[Rest]:
    """Yield what is to be asked about the value of a field beyond its type."""
    if found is None:
        return
    for limit in spec.limits:
        if isinstance(limit, fields.InGlucoseUnits):
            if limit.among:
                yield partial(_is_in_units, limit)
        elif type(limit) in _LIMIT_QUESTIONS:
            yield partial(_LIMIT_QUESTIONS[type(limit)], limit)
    for said in _asked_of_text(spec.limits):
        yield partial(_says_nothing, said)
    for said in _asked_of_text(spec.item_limits):
        yield partial(_says_nothing_of_any, said)
    if spec.kind is Kind.OBJECTS_MAP:
        yield from (
            partial(_each_rises, limit) for limit in spec.item_limits if isinstance(limit, fields.Rising)
        )
    if inside := _inside(spec, found, "rest"):
        yield inside


def _inside(spec: FieldSpec, found: Any, what: str) -> Rest | None:
    """Return what asks about the structs in a field.

    :param what: the attribute of a struct that asks about it.
    """
    asks = {struct: struct.__dict__[what] for struct in _structs_in(spec, found)} if spec.models else {}
    return _INNER[spec.kind](_rest_inside(asks)) if any(asks.values()) else None


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
    values = [getattr(item, limit.field) for item in items]
    if values and values[0] == 0 and values[-1] <= limit.maximum and all(map(lt, values, values[1:])):
        return True  # they are whole numbers
    return next(not_rising(limit, enumerate(values)), None) is None


def _each_rises(limit: fields.Rising, lists: Mapping[str, Sequence[Any]], units: str | None) -> bool:
    return all(_rises(limit, items, units) for items in lists.values())


_LIMIT_QUESTIONS: Final[dict[type, Callable[[Any, Any, str | None], bool]]] = {
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


_encode: Final = msgspec.json.Encoder().encode


def _is_small(value: dict[str, Any], _units: str | None) -> bool:
    try:
        is_short = len(_encode(value)) * GROWTH_MAX <= fields.JSON_SIZE_MAX
    except (OverflowError, RecursionError):
        is_short = False  # it holds a whole number beyond 64 bits, or objects inside each other
    return is_short or go_json_size(value) <= fields.JSON_SIZE_MAX


_FREE_SIZES: Final[dict[Kind, Rest]] = {
    Kind.FREE_OBJECT: _is_small,
    Kind.FREE_OBJECTS: lambda items, units: all(_is_small(item, units) for item in items),
}


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
    """Return what takes out of a struct the values that rules look at; missing ones are left out."""
    literals = literal_fields(model)
    names = [spec.name for spec in fields_of(model)]
    get = attrgetter(*names, "__class__")  # one name more: of a single one it would return no tuple

    def values_of(struct: Any) -> dict[str, Any]:
        found = zip(names, get(struct), strict=False)
        return literals | {name: value for name, value in found if value is not None}

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
