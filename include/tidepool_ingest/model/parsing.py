"""The first stage: every field must be of the type that it should be.

The Platform parses all fields of a record before it validates any. A record with parse problems is not
validated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeAlias

from tidepool_ingest.model.fields import Free, Moment, Record
from tidepool_ingest.model.problems import (
    NOT_ALLOWED,
    NOT_EXISTS,
    NOT_PARSABLE,
    TYPE_NOT_ARRAY,
    TYPE_NOT_BOOL,
    TYPE_NOT_FLOAT,
    TYPE_NOT_INT,
    TYPE_NOT_OBJECT,
    TYPE_NOT_STRING,
    TYPE_NOT_TIME,
    Problem,
    Problems,
)
from tidepool_ingest.model.specification import FieldSpec, Kind, contains_itself, fields_of, literal_fields

Parser: TypeAlias = Callable[[Any, str, Problems], Any]
"""Gets a value that is not null, the pointer to it, and the problems; returns what it parsed, or ``None``."""

FLOAT_MAX: Final = sys.float_info.max
FLOAT_EXACT_MAX: Final = 2**53
"""Integers up to this, of either sign, are exact in float64, which the Platform reads every number as."""
INT_MIN: Final = -(2**63)
INT_END: Final = 2**63


class Parsed(NamedTuple):
    """An object that has been parsed.

    :param model: what it is.
    :param values: its fields by Tidepool name: texts, numbers, instants, objects, lists; missing ones are
        absent.
    """

    model: type[Record]
    values: dict[str, Any]

    def __repr__(self) -> str:
        """Leave the values out."""
        return f"Parsed(model={self.model.__name__})"


def escape(name: str) -> str:
    """Spell a field name as part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def go_int(number: float) -> int:
    """Convert as Go does on amd64: what does not fit becomes the smallest integer.

    Go has it as float64, in which the last 512 integers that would fit are 2**63, which does not.
    """
    return int(float(number)) if INT_MIN <= number < INT_END and float(number) < INT_END else INT_MIN


def _typed(expected: type, code: str) -> Parser:
    def parse(raw: Any, pointer: str, problems: Problems) -> Any:
        if type(raw) is expected:
            return raw
        problems.append(Problem(code, pointer))
        return None

    return parse


parse_text: Final = _typed(str, TYPE_NOT_STRING)
parse_flag: Final = _typed(bool, TYPE_NOT_BOOL)
_parse_object: Final = _typed(dict, TYPE_NOT_OBJECT)


def _parse_number(raw: Any, pointer: str, problems: Problems) -> float | None:
    if type(raw) is float or (type(raw) is int and -FLOAT_MAX <= raw <= FLOAT_MAX):
        return raw
    problems.append(Problem(TYPE_NOT_FLOAT, pointer))
    return None


def _parse_integer(raw: Any, pointer: str, problems: Problems) -> int | None:
    if type(raw) is int:
        return raw if -FLOAT_EXACT_MAX <= raw <= FLOAT_EXACT_MAX else go_int(raw)
    if type(raw) is float and raw.is_integer():
        return go_int(raw)
    problems.append(Problem(TYPE_NOT_INT, pointer))
    return None


def _moment_parser(moment: Moment) -> Parser:
    def parse(raw: Any, pointer: str, problems: Problems) -> Any:
        if type(raw) is not str:
            problems.append(Problem(TYPE_NOT_TIME, pointer))
            return None
        instant = moment.parse(raw)
        if instant is None:
            problems.append(Problem(NOT_PARSABLE, pointer))
        return instant

    return parse


def _parse_texts(raw: Any, pointer: str, problems: Problems) -> list[str] | None:
    if type(raw) is not list:
        problems.append(Problem(TYPE_NOT_ARRAY, pointer))
        return None
    # Go has no null in a list of strings: it becomes an empty one.
    return [
        "" if item is None else parse_text(item, f"{pointer}/{index}", problems) or ""
        for index, item in enumerate(raw)
    ]


def _parse_free_object(raw: Any, pointer: str, problems: Problems) -> dict[str, Any] | None:
    if type(raw) is dict:
        return {name: value for name, value in raw.items() if value is not None}
    problems.append(Problem(TYPE_NOT_OBJECT, pointer))
    return None


def _list_of(parse_item: Parser) -> Parser:
    def parse(raw: Any, pointer: str, problems: Problems) -> Any:
        if type(raw) is not list:
            problems.append(Problem(TYPE_NOT_ARRAY, pointer))
            return None
        return [
            None if item is None else parse_item(item, f"{pointer}/{index}", problems)
            for index, item in enumerate(raw)
        ]

    return parse


def _map_of(parse_item: Parser) -> Parser:
    def parse(raw: Any, pointer: str, problems: Problems) -> Any:
        if type(raw) is not dict:
            problems.append(Problem(TYPE_NOT_OBJECT, pointer))
            return None
        return {
            name: None if item is None else parse_item(item, f"{pointer}/{escape(name)}", problems)
            for name, item in raw.items()
        }

    return parse


@cache
def object_parser(model: type[Record]) -> Parser:
    """Make the parser of an object.

    :param model: its model.
    :return: a parser that returns :class:`Parsed`.
    """
    literals = literal_fields(model)
    parsers: tuple[tuple[str, str, Parser], ...] = ()
    is_endless: bool | None = None

    def parse_fields(raw: dict[str, Any], values: dict[str, Any], pointer: str, problems: Problems) -> None:
        nonlocal parsers
        if not parsers:
            # At the first call, because a model may contain itself.
            specs = fields_of(model)
            parsers = tuple((spec.name, f"/{escape(spec.name)}", field_parser(spec)) for spec in specs)
        for name, suffix, parse_field in parsers:
            value = raw.get(name)
            if value is not None:
                parsed = parse_field(value, pointer + suffix, problems)
                if parsed is not None:
                    values[name] = parsed

    def parse(raw: Any, pointer: str, problems: Problems) -> Parsed | None:
        if type(raw) is not dict:
            problems.append(Problem(TYPE_NOT_OBJECT, pointer))
            return None
        nonlocal is_endless
        if is_endless is None:
            # At the first call, too: of most models no object is ever met.
            is_endless = contains_itself(model)
        values: dict[str, Any] = dict(literals)
        if is_endless:
            problems.put_off(partial(parse_fields, raw, values), pointer)
        else:
            parse_fields(raw, values, pointer, problems)
        return Parsed(model, values)

    return parse


def variant_parser(models: Iterable[type[Record]]) -> Parser:
    """Make the parser of an object that is one of several kinds.

    :param models: the models of all the kinds; each states its ``type`` and, where there is one, its kind.
    :return: a parser that returns :class:`Parsed`.
    """
    families: dict[str, tuple[str | None, dict[str, Parser]]] = {}
    for model in models:
        type_name, *kind = literal_fields(model).values()
        _, parsers = families.setdefault(type_name, (model.kind_field, {}))
        parsers[kind[0] if kind else ""] = object_parser(model)

    def choose(
        raw: dict[str, Any], name: str, choices: Iterable[str], pointer: str, problems: Problems
    ) -> str | None:
        chosen = raw.get(name)
        if chosen is not None:
            chosen = parse_text(chosen, f"{pointer}/{name}", problems)
        if chosen is None:
            problems.append(Problem(NOT_EXISTS, f"{pointer}/{name}"))
        elif chosen not in choices:
            problems.append(Problem(NOT_ALLOWED, f"{pointer}/{name}"))
            return None
        return chosen

    def parse(raw: Any, pointer: str, problems: Problems) -> Parsed | None:
        if _parse_object(raw, pointer, problems) is None:
            return None
        type_name = choose(raw, "type", families, pointer, problems)
        if type_name is None:
            return None
        kind_field, parsers = families[type_name]
        kind = "" if kind_field is None else choose(raw, kind_field, parsers, pointer, problems)
        return None if kind is None else parsers[kind](raw, pointer, problems)

    return parse


def field_parser(spec: FieldSpec) -> Parser:
    """Make the parser of a field.

    :param spec: what is said about it.
    """
    if spec.kind is Kind.INSTANT:
        return _moment_parser(spec.limit(Moment))
    if spec.kind is Kind.FREE_OBJECT:
        return _parse_free_object if spec.limit(Free).drops_null else _parse_object
    if spec.kind is Kind.VARIANT:
        return variant_parser(spec.models)
    return (
        _PARSERS[spec.kind]
        if spec.kind in _PARSERS
        else _MODEL_PARSERS[spec.kind](object_parser(spec.models[0]))
    )


_PARSERS: Final[dict[Kind, Parser]] = {
    Kind.TEXT: parse_text,
    Kind.NUMBER: _parse_number,
    Kind.INTEGER: _parse_integer,
    Kind.FLAG: parse_flag,
    Kind.TEXTS: _parse_texts,
    Kind.FREE_OBJECTS: _list_of(_parse_free_object),
}
_MODEL_PARSERS: Final[dict[Kind, Callable[[Parser], Parser]]] = {
    Kind.OBJECT: lambda parse: parse,
    Kind.OBJECTS: _list_of,
    Kind.OBJECT_MAP: _map_of,
    Kind.OBJECTS_MAP: lambda parse: _map_of(_list_of(parse)),
}
