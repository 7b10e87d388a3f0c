"""What the models' annotations say, in a form that can be worked with.

This is the one reader of the annotations. The verdict, the fast path, the stored form and the masking of
pointers are made from what it finds, so that none of them can have a rule of its own.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from inspect import get_annotations
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from annotated_types import GroupedMetadata

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
        _field(tidepool_name(name), annotation, is_required=not hasattr(model, name))
        for name, annotation in _annotations(model).items()
        if tidepool_name(name) not in skipped
    )


def field_names(model: type[Record]) -> set[str]:
    """Return the names of a model's fields, with those that tell kinds apart, as Tidepool spells them.

    No annotation is looked into further than that.

    :param model: the model.
    """
    return {
        tidepool_name(name)
        for base in model.__mro__
        for name, text in get_annotations(base).items()
        if not text.startswith("ClassVar")
    }


@cache
def literal_fields(model: type[Record]) -> dict[str, str]:
    """Read which texts make an object one of this model.

    They are in ``type`` and, where there is one, in its kind's field.

    :param model: the model.
    :return: the texts by Tidepool name, ``type`` first.
    """
    found = {}
    for name in filter(None, ("type", model.kind_field)):
        annotation = _annotation(model, name)
        if get_origin(annotation) is Literal and len(get_args(annotation)) == 1:
            (found[name],) = get_args(annotation)
    return found


@cache
def contains_itself(model: type[Record]) -> bool:
    """Return whether objects of a model can be inside each other without end.

    :param model: the model.
    """
    found: set[type[Record]] = set()
    waiting = [model]
    while waiting:
        inside = _models_in(waiting.pop()) - found
        found |= inside
        waiting += inside
    return model in found


@cache
def _models_in(model: type[Record]) -> frozenset[type[Record]]:
    return frozenset(inner for spec in fields_of(model) for inner in spec.models)


def tidepool_name(name: str) -> str:
    """Return how Tidepool spells the name of a field.

    :param name: in Python; one that is a keyword there has an underscore at its end.
    """
    first, *others = name.removesuffix("_").split("_")
    return "".join((first, *map(str.capitalize, others)))


@cache
def _annotations(model: type[Record]) -> dict[str, Any]:
    """Return the annotations of a model's fields by their Python names, inherited ones first."""
    found: dict[str, Any] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, Record):
            found |= _own_annotations(base)
    return found


@cache
def _own_annotations(model: type[Record]) -> dict[str, Any]:
    own = {name: _evaluated(model, text) for name, text in get_annotations(model).items()}
    return {name: annotation for name, annotation in own.items() if get_origin(annotation) is not ClassVar}


def _annotation(model: type[Record], name: str) -> Any:
    """Return the annotation of one field by its Tidepool name, ``None`` if there is no such field.

    The others are left alone: of most types of data, no record is ever met.
    """
    for base in model.__mro__:
        for own, text in get_annotations(base).items():
            if tidepool_name(own) == name:
                return _evaluated(base, text)
    return None


def _evaluated(model: type, text: str) -> Any:
    """Return what an annotation stands for, as :func:`typing.get_type_hints` does for all of a class."""
    return eval(text, vars(sys.modules[model.__module__]))


def _field(name: str, annotation: Any, *, is_required: bool) -> FieldSpec:
    base, marks = _unwrap(annotation)
    kind, models, item = _kind(base, marks)
    item_base, item_marks = _unwrap(item)
    return FieldSpec(
        name=name,
        kind=kind,
        required=is_required,
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
