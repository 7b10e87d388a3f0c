"""What the models' annotations say, in a form that can be worked with.

This is the one reader of the annotations. The verdict, the fast path, the stored form and the masking of
pointers are made from what it finds, so that none of them can have a rule of its own.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import GroupedMetadata
from pydantic.fields import FieldInfo

from tidepool_ingest.model.conditions import Condition
from tidepool_ingest.model.fields import Free, Moment, Record


class Kind(Enum):
    """What a field's JSON value is."""

    TEXT = auto()
    NUMBER = auto()
    INTEGER = auto()
    FLAG = auto()
    INSTANT = auto()
    """A text read as a time in the parse stage."""
    TEXTS = auto()
    FREE_OBJECT = auto()
    FREE_OBJECTS = auto()
    OBJECT = auto()
    OBJECTS = auto()
    OBJECT_MAP = auto()
    """Objects by names that people made up."""
    OBJECTS_MAP = auto()
    """Lists of objects by names that people made up."""
    VARIANT = auto()
    """An object of one of several kinds, distinguished by its ``type`` and the kind's field."""


@dataclass(frozen=True)
class FieldSpec:
    """What the annotations say about one field.

    :param name: Tidepool's name.
    :param kind: what its JSON value is.
    :param required: whether it must be there whatever the others are.
    :param limits: the limits of its value, in order.
    :param conditions: the limits that depend on other fields, in order.
    :param item_limits: the limits of each text of a list.
    :param allowed: the only values allowed, if they are listed.
    :param models: the model of the object or of each item; several for a variant.
    """

    name: str
    kind: Kind
    required: bool
    limits: tuple[Any, ...]
    conditions: tuple[Condition, ...]
    item_limits: tuple[Any, ...] = ()
    allowed: frozenset[Any] | None = None
    item_allowed: frozenset[str] | None = None
    models: tuple[type[Record], ...] = ()

    def limit(self, *kinds: type) -> Any:
        """Return the first limit of these kinds, or ``None``."""
        return next((limit for limit in self.limits if isinstance(limit, kinds)), None)


@cache
def fields_of(model: type[Record]) -> tuple[FieldSpec, ...]:
    """Read a model's annotations.

    :param model: the model.
    :return: its fields in the order of declaration, inherited ones first, without those that tell kinds
        apart.
    """
    skipped = tuple(literal_fields(model))
    return tuple(
        _field(field.alias or name, field)
        for name, field in model.model_fields.items()
        if (field.alias or name) not in skipped
    )


@cache
def literal_fields(model: type[Record]) -> dict[str, str]:
    """Read which texts make an object one of this model.

    They are in ``type`` and, where there is one, in its kind's field.

    :param model: the model.
    :return: the texts by Tidepool name, ``type`` first.
    """
    names = [name for name in ("type", model.kind_field) if name]
    annotations = {field.alias or name: field.annotation for name, field in model.model_fields.items()}
    return {
        name: get_args(annotations[name])[0]
        for name in names
        if name in annotations
        and get_origin(annotations[name]) is Literal
        and len(get_args(annotations[name])) == 1
    }


@cache
def contains_itself(model: type[Record]) -> bool:
    """Return whether objects of a model can be inside each other without end.

    :param model: the model.
    """
    found: set[type[Record]] = set()
    waiting = [model]
    while waiting:
        inside = {inner for spec in fields_of(waiting.pop()) for inner in spec.models} - found
        found |= inside
        waiting += inside
    return model in found


def _field(name: str, field: FieldInfo) -> FieldSpec:
    base, marks = _unwrap(field.annotation)
    marks = (*marks, *_flat(field.metadata))
    kind, models, item = _kind(base, marks)
    item_base, item_marks = _unwrap(item)
    return FieldSpec(
        name=name,
        kind=kind,
        required=field.is_required(),
        limits=tuple(mark for mark in marks if not isinstance(mark, Condition)),
        conditions=tuple(mark for mark in marks if isinstance(mark, Condition)),
        item_limits=item_marks,
        allowed=_listed(base),
        item_allowed=_listed(item_base),
        models=models,
    )


def _flat(marks: Iterable[Any]) -> Iterator[Any]:
    for mark in marks:
        if GroupedMetadata in type(mark).__mro__:  # it is a protocol, as which it would be looked at for long
            yield from mark
        else:
            yield mark


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Take ``Annotated`` and ``| None`` off an annotation."""
    marks: tuple[Any, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *more = get_args(annotation)
            marks = (*_flat(more), *marks)
        elif get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
            rest = [part for part in get_args(annotation) if part is not type(None)]
            annotation = Union[tuple(rest)]  # noqa: UP007
        else:
            return annotation, marks


def _listed(base: Any) -> frozenset[Any] | None:
    return frozenset(get_args(base)) if get_origin(base) is Literal else None


_SCALARS = {float: Kind.NUMBER, int: Kind.INTEGER, bool: Kind.FLAG}


def _kind(base: Any, marks: tuple[Any, ...]) -> tuple[Kind, tuple[type[Record], ...], Any]:
    """Return the kind of a field, its models, and the annotation of its items."""
    if base is str:
        parsed = any(isinstance(mark, Moment) and mark.in_parse_stage for mark in marks)
        return (Kind.INSTANT if parsed else Kind.TEXT), (), None
    if base in _SCALARS:
        return _SCALARS[base], (), None
    if get_origin(base) is Literal:
        return (Kind.INTEGER if isinstance(get_args(base)[0], int) else Kind.TEXT), (), None
    if get_origin(base) is list:
        return _list_kind(get_args(base)[0])
    if get_origin(base) is dict:
        return _dict_kind(get_args(base)[1], marks)
    models = get_args(base) if get_origin(base) in (Union, types.UnionType) else (base,)
    return (Kind.VARIANT if literal_fields(models[0]) else Kind.OBJECT), models, None


def _list_kind(item: Any) -> tuple[Kind, tuple[type[Record], ...], Any]:
    base, marks = _unwrap(item)
    if isinstance(base, type) and issubclass(base, Record):
        return Kind.OBJECTS, (base,), None
    if any(isinstance(mark, Free) for mark in marks):
        return Kind.FREE_OBJECTS, (), None
    return Kind.TEXTS, (), item


def _dict_kind(item: Any, marks: tuple[Any, ...]) -> tuple[Kind, tuple[type[Record], ...], Any]:
    if any(isinstance(mark, Free) for mark in marks):
        return Kind.FREE_OBJECT, (), None
    base, _ = _unwrap(item)
    if get_origin(base) is list:
        # The marks of the inner list are the limits of each list; they are kept as those of the items.
        return Kind.OBJECTS_MAP, (_unwrap(get_args(base)[0])[0],), item
    return Kind.OBJECT_MAP, (base,), None
