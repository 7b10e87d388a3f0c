"""The fast path: one compiled schema that accepts what is certainly valid.

pydantic-core compiles it from the same annotations that the exact validation reads, with declarative
limits only; no Python runs during the check. Where the annotations say more than it can check cheaply (a
condition on another field, a list without duplicates, a web address), it accepts a record only if that
cannot apply, mostly because the field is missing. What it does not accept is not invalid yet: it is validated
exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Final, TypeAlias

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from tidepool_ingest.model import fields
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.gojson import GROWTH_MAX
from tidepool_ingest.model.parsing import FLOAT_EXACT_MAX
from tidepool_ingest.model.preconditions import Preconditions, vacuous_preconditions
from tidepool_ingest.model.specification import FieldSpec, Kind, fields_of, literal_fields

FAST_PATH_BYTES_MAX: Final = fields.JSON_SIZE_MAX // GROWTH_MAX
"""Bytes of a line in which no free object can be larger than allowed, however Go writes it."""

Models: TypeAlias = tuple[type[fields.Record], ...]


def _object_schema(model: type[fields.Record], units: str | None, around: Models = ()) -> CoreSchema | None:
    """Make the schema of an object, or ``None`` if such objects always need the exact validation.

    :param model: the object's model.
    :param units: the glucose units in force around it, if they are known.
    :param around: the models of the objects around it, since one may contain another of its own model.
    """
    if model in around:
        return None
    schemas: list[CoreSchema | tuple[CoreSchema, str]] = [
        schema
        for preconditions in vacuous_preconditions(model)
        if (schema := _schema_under(model, preconditions, units, (*around, model))) is not None
    ]
    return core_schema.union_schema(schemas, mode="left_to_right") if schemas else None


def _schema_under(
    model: type[fields.Record], preconditions: Preconditions, units: str | None, around: Models
) -> CoreSchema | None:
    if preconditions.units_field is None:
        return _typed_dict(model, preconditions, None if model.glucose_units else units, around)
    spec = next(spec for spec in fields_of(model) if spec.name == preconditions.units_field)
    choices: dict[Any, CoreSchema] = {}
    for choice in sorted(spec.allowed or ()):
        schema = _typed_dict(model, preconditions, choice, around)
        if schema is not None:
            choices[choice] = schema
    return core_schema.tagged_union_schema(choices, discriminator=spec.name) if choices else None


def _typed_dict(
    model: type[fields.Record], preconditions: Preconditions, units: str | None, around: Models
) -> CoreSchema | None:
    members: dict[str, core_schema.TypedDictField] = {}
    for spec in fields_of(model):
        if spec.name == preconditions.units_field:
            continue  # The union around has chosen by it.
        schema = None
        if spec.name not in preconditions.missing:
            schema = _field_schema(spec, preconditions, units, around)
        required = spec.required or spec.name in preconditions.present
        if schema is None:
            if required:
                return None
            schema = core_schema.none_schema()
        elif not required:
            schema = core_schema.nullable_schema(schema)
        members[spec.name] = core_schema.typed_dict_field(schema, required=required)
    return core_schema.typed_dict_schema(members, extra_behavior="ignore", strict=True)


def _variant_schema(models: Iterable[type[fields.Record]], around: Models = ()) -> CoreSchema | None:
    """Make the schema of one of several kinds: by type, and by the kind's field within one type."""
    families: dict[str, dict[str, CoreSchema]] = {}
    kind_fields: dict[str, str | None] = {}
    for model in models:
        type_name, *kind = literal_fields(model).values()
        schema = _object_schema(model, None, around)
        if schema is not None:
            families.setdefault(type_name, {})[kind[0] if kind else ""] = schema
            kind_fields[type_name] = model.kind_field
    by_type: dict[Any, CoreSchema] = {}
    for type_name, kinds in families.items():
        kind_field = kind_fields[type_name]
        by_type[type_name] = (
            core_schema.tagged_union_schema(dict(kinds), kind_field) if kind_field else kinds[""]
        )
    return core_schema.tagged_union_schema(by_type, "type") if by_type else None


def _field_schema(
    spec: FieldSpec, preconditions: Preconditions, units: str | None, around: Models
) -> CoreSchema | None:
    if spec.kind in (Kind.OBJECT, Kind.OBJECTS):
        schema = None if spec.limit(fields.Rising) else _object_schema(spec.models[0], units, around)
        return _list_schema(spec, schema) if schema and spec.kind is Kind.OBJECTS else schema
    if spec.kind is Kind.VARIANT:
        return _variant_schema(spec.models, around)
    if spec.allowed is not None:
        allowed = spec.allowed - preconditions.excluded.get(spec.name, set())
        return core_schema.literal_schema(sorted(allowed)) if allowed else None
    if spec.kind in (Kind.NUMBER, Kind.INTEGER):
        return _number_schema(spec, preconditions, units)
    make = _SCHEMAS.get(spec.kind)
    return None if make is None else make(spec)


def _number_schema(spec: FieldSpec, preconditions: Preconditions, units: str | None) -> CoreSchema | None:
    is_integer = spec.kind is Kind.INTEGER
    # Beyond these an integer is another one for the Platform, which reads numbers as float64.
    limits: dict[str, Any] = {"ge": -FLOAT_EXACT_MAX, "le": FLOAT_EXACT_MAX} if is_integer else {}
    for limit in spec.limits:
        if isinstance(limit, Ge):
            limits["ge"] = limit.ge
        elif isinstance(limit, Le):
            limits["le"] = limit.le
        elif isinstance(limit, fields.InGlucoseUnits):
            if limit.ranges is None or units is None or units not in limit.ranges:
                return None
            limits["ge"], limits["le"] = limit.ranges[units]
    within = preconditions.range_of(spec.name, units)
    if within is not None:
        limits["ge"], limits["le"] = within
    if spec.name in preconditions.above:
        limits["gt"] = preconditions.above[spec.name]
    make = core_schema.int_schema if is_integer else core_schema.float_schema
    return make(strict=True, **limits)


def _text(limits: Iterable[Any]) -> CoreSchema | None:
    said: dict[str, Any] = {}
    for limit in limits:
        if isinstance(limit, fields.Equals):
            return core_schema.literal_schema([limit.text])
        if isinstance(limit, fields.Known):
            return core_schema.literal_schema(sorted(limit.names()))
        if isinstance(limit, (fields.Text, fields.BytesMax)):
            return None
        if isinstance(limit, MinLen):
            said["min_length"] = limit.min_length
        elif isinstance(limit, MaxLen):
            said["max_length"] = limit.max_length
        elif isinstance(limit, fields.Pattern):
            said["pattern"] = limit.expression
        elif isinstance(limit, fields.Moment):
            said["pattern"] = limit.sure
    return core_schema.str_schema(strict=True, **said)


def _text_schema(spec: FieldSpec) -> CoreSchema | None:
    return _text(spec.limits)


def _texts_schema(spec: FieldSpec) -> CoreSchema | None:
    if spec.limit(fields.Unique):
        return None
    listed = spec.item_allowed
    item = core_schema.literal_schema(sorted(listed)) if listed else _text(spec.item_limits)
    return None if item is None else _list_schema(spec, item)


def _list_schema(spec: FieldSpec, item: CoreSchema) -> CoreSchema:
    shortest, longest = spec.limit(MinLen), spec.limit(MaxLen)
    return core_schema.list_schema(
        item,
        min_length=shortest.min_length if shortest else None,
        max_length=longest.max_length if longest else None,
        strict=True,
    )


def _free_object_schema(_spec: FieldSpec) -> CoreSchema:
    # Fields that are null do not count, so there may be none. The size is bounded by that of the line.
    anything_but_null = core_schema.is_instance_schema((str, int, float, list, dict))
    return core_schema.dict_schema(values_schema=anything_but_null, min_length=1, strict=True)


_SCHEMAS: Final[dict[Kind, Callable[[FieldSpec], CoreSchema | None]]] = {
    Kind.TEXT: _text_schema,
    Kind.INSTANT: _text_schema,
    Kind.FLAG: lambda _spec: core_schema.bool_schema(strict=True),
    Kind.TEXTS: _texts_schema,
    Kind.FREE_OBJECT: _free_object_schema,
    Kind.FREE_OBJECTS: lambda spec: _list_schema(spec, _free_object_schema(spec)),
}


@cache
def compiled() -> Callable[[Any], bool]:
    """Return what says of a decoded record of at most ``FAST_PATH_BYTES_MAX`` bytes that it is surely valid.

    It is compiled once, when it is first asked for: who only reads files does without.
    """
    schema = _variant_schema(DATUM_MODELS)
    if schema is None:
        raise AssertionError("No model has a fast path: the annotations are not read as they should be.")
    return SchemaValidator(schema).isinstance_python


def surely_valid(datum: object) -> bool:
    """Return whether one record is certainly accepted, see :func:`compiled`."""
    return compiled()(datum)
