"""The fast path: one compiled pass that parses a record and accepts what is certainly valid.

msgspec decodes a line into a struct of its type. The structs are made from the same annotations that the
exact validation reads, so that types, lists of values and plain limits are checked while the text is parsed;
what a struct cannot say (limits in glucose units, conditions, rules) is asked of the annotations' own checks.
What does not pass is not invalid yet: it is validated exactly.

A record is *whole* if it has no unknown field and none that is ``null``: then its struct holds all that is in
the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, reduce
from math import ceil, floor
from operator import attrgetter, or_
from threading import Lock
from typing import Annotated, Any, Final, Literal, NewType, TypeAlias, get_args

import msgspec
from annotated_types import MaxLen, MinLen

from tidepool_ingest.model import fields
from tidepool_ingest.model.base import Datum
from tidepool_ingest.model.datum import DATUM_MODELS, KNOWN_TYPES
from tidepool_ingest.model.decode import FAST_ERRORS
from tidepool_ingest.model.gojson import GROWTH_MAX
from tidepool_ingest.model.gotime import SURE_INSTANT, SURE_LOCAL_TIME
from tidepool_ingest.model.parsing import FLOAT_EXACT_MAX
from tidepool_ingest.model.specification import (
    FieldSpec,
    Kind,
    contains_itself,
    fields_of,
    literal_fields,
)
from tidepool_ingest.model.struct_checks import KNOWN_LIMITS, range_of, rest_of, sizes_of

SHORT_LINE_BYTES: Final = fields.JSON_SIZE_MAX // GROWTH_MAX
"""Bytes of a line in which no free object can be larger than allowed, however Go writes it."""

Models: TypeAlias = tuple[type[fields.Record], ...]

LEVELS_MAX: Final = 3
"""Objects inside each other, of a model that may contain itself, that pass."""


class Outline(msgspec.Struct, gc=False):
    """What is read of every accepted record, by Tidepool's names; ``None``: not there.

    The structs of the types have the same attributes.
    """

    type: str
    time: str
    subType: str | None = None  # noqa: N815
    id: str | None = None
    deviceId: str | None = None  # noqa: N815
    deviceTime: str | None = None  # noqa: N815
    timezoneOffset: float | None = None  # noqa: N815
    conversionOffset: float | None = None  # noqa: N815
    clockDriftOffset: float | None = None  # noqa: N815
    units: str | None = None
    value: float | None = None

    def __repr__(self) -> str:
        """Leave the record out."""
        return "Outline()"


def outline_of(datum: Mapping[str, Any]) -> Outline:
    """Return the outline of an accepted record.

    :param datum: the record, decoded.
    """
    values: Iterable[Any] = map(datum.get, Outline.__struct_fields__)
    return Outline(*values)


_BLOCK_TIMES: Final = {
    name: (attrgetter(name), re.compile(sure), re.compile(f"(?:{sure}\n)*+"))
    for name, sure in (("time", SURE_INSTANT), ("deviceTime", SURE_LOCAL_TIME))
}
"""Times that nearly every record has: what gets one, what certainly is one, and what certainly is lines of
them. They are looked at a block at a time, which is faster."""


# --- Structs ---


class _Hidden(msgspec.Struct, gc=False):
    """Base of the structs."""

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"{type(self).__name__}()"


@cache
def _struct(
    model: type[fields.Record], tag: str | None, *, whole: bool, inside: Models = (), outer: bool = False
) -> type[msgspec.Struct]:
    """Make the struct of a model.

    :param model: the model.
    :param tag: the field by which it is chosen among others.
    :param whole: whether only whole records pass.
    :param inside: the models around it that may contain themselves.
    :param outer: whether it is the record, and not inside one.
    """
    if contains_itself(model):
        inside = (*inside, model)
    types = {spec.name: _field_type(spec, whole, inside, outer=outer) for spec in fields_of(model)}
    literals = literal_fields(model)
    members: list[Any] = [(name, Literal[text]) for name, text in literals.items() if name != tag]
    for spec in fields_of(model):
        found = types[spec.name]
        if spec.required:
            members.append((spec.name, msgspec.UnsetType if found is None else found))
        else:
            members.append((spec.name, _optional(found, whole), None))
    missing = dict.fromkeys(Outline.__struct_fields__) if outer else {}
    for name, *_ in members:
        missing.pop(name, None)
    return msgspec.defstruct(
        model.__name__,
        members,
        bases=(_Hidden,),
        namespace={
            **missing,
            **({tag: literals[tag]} if tag else {}),
            "rest": rest_of(model, types),
            "sizes": sizes_of(model, types),
        },
        tag_field=tag,
        tag=literals[tag] if tag else None,
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=whole,
        gc=False,
    )


def _optional(found: Any, whole: bool) -> Any:
    if found is None:
        return msgspec.UnsetType if whole else None
    return found if whole else found | None


def _field_type(spec: FieldSpec, whole: bool, inside: Models, *, outer: bool) -> Any:
    """Return the type of a field; ``None`` if it has to be missing."""
    if not set(map(type, (*spec.limits, *spec.item_limits))) <= KNOWN_LIMITS:
        return None
    if spec.kind is Kind.VARIANT:
        return _variant(spec.models, whole=whole, inside=inside)
    if spec.models:
        if inside.count(spec.models[0]) >= LEVELS_MAX:
            return None
        inner = _struct(spec.models[0], None, whole=whole, inside=inside)
        return _CONTAINERS[spec.kind](spec, inner)
    if spec.allowed is not None:
        return Literal[tuple(sorted(spec.allowed))]
    if outer and spec.name in _BLOCK_TIMES:
        return str
    return _SINGLE[spec.kind](spec)


def _variant(
    models: Sequence[type[fields.Record]], *, whole: bool, inside: Models = (), outer: bool = False
) -> Any:
    """Return the type of an object of one of several kinds of one type."""
    # Of one struct alone, msgspec lets its tag be missing: it has no tag.
    tag = models[0].kind_field if len(models) > 1 else None
    return reduce(or_, (_struct(model, tag, whole=whole, inside=inside, outer=outer) for model in models))


def _number(spec: FieldSpec) -> Any:
    low, high = range_of(spec)
    of_float = msgspec.Meta(ge=None if low is None else float(low), le=None if high is None else float(high))
    of_int = msgspec.Meta(ge=None if low is None else ceil(low), le=None if high is None else floor(high))
    return Annotated[int, of_int] | Annotated[float, of_float]


def _integer(spec: FieldSpec) -> Any:
    low, high = range_of(spec)
    # Beyond these an integer is another one for the Platform, which reads numbers as float64.
    lowest = -FLOAT_EXACT_MAX if low is None else max(-FLOAT_EXACT_MAX, ceil(low))
    highest = FLOAT_EXACT_MAX if high is None else min(FLOAT_EXACT_MAX, floor(high))
    return Annotated[int, msgspec.Meta(ge=lowest, le=highest)]


def _text(limits: Iterable[Any]) -> Any:
    said: dict[str, Any] = {}
    for limit in limits:
        if isinstance(limit, fields.Equals):
            return Literal[limit.text]
        if isinstance(limit, fields.Known):
            return _one_of(tuple(sorted(limit.names())))
        if isinstance(limit, MinLen):
            said["min_length"] = limit.min_length
        elif isinstance(limit, MaxLen):
            said["max_length"] = limit.max_length
        elif isinstance(limit, fields.Pattern):
            said["pattern"] = _whole_text(limit.expression.removeprefix("^").removesuffix("$"))
        elif isinstance(limit, fields.Moment):
            said["pattern"] = _whole_text(limit.sure)
    return Annotated[str, msgspec.Meta(**said)] if said else str


@cache
def _one_of(texts: tuple[str, ...]) -> Any:
    """Return the type of texts so many that it has a name: each struct would look at all of them again."""
    return NewType("_Known", Literal[texts])


def _whole_text(expression: str) -> str:
    return rf"\A(?:{expression})\Z"  # "$" would let a line end pass


def _texts(spec: FieldSpec) -> Any:
    listed = spec.item_allowed
    item = Literal[tuple(sorted(listed))] if listed else _text(spec.item_limits)
    return _list(spec, item)


def _list(spec: FieldSpec, item: Any) -> Any:
    shortest, longest = spec.limit(MinLen), spec.limit(MaxLen)
    return Annotated[
        list[item],
        msgspec.Meta(
            min_length=shortest.min_length if shortest else None,
            max_length=longest.max_length if longest else None,
        ),
    ]


_FREE_OBJECT: Final = Annotated[
    dict[str, str | int | float | bool | list[Any] | dict[str, Any]], msgspec.Meta(min_length=1)
]
"""Fields that are null do not count, so there may be none. The size is bounded by that of the line."""

_SINGLE: Final[dict[Kind, Callable[[FieldSpec], Any]]] = {
    Kind.TEXT: lambda spec: _text(spec.limits),
    Kind.INSTANT: lambda spec: _text(spec.limits),
    Kind.NUMBER: _number,
    Kind.INTEGER: _integer,
    Kind.FLAG: lambda _spec: bool,
    Kind.TEXTS: _texts,
    Kind.FREE_OBJECT: lambda _spec: _FREE_OBJECT,
    Kind.FREE_OBJECTS: lambda spec: _list(spec, _FREE_OBJECT),
}
_CONTAINERS: Final[dict[Kind, Callable[[FieldSpec, Any], Any]]] = {
    Kind.OBJECT: lambda _spec, inner: inner,
    Kind.OBJECTS: _list,
    Kind.OBJECT_MAP: lambda _spec, inner: dict.__class_getitem__((str, inner)),
    Kind.OBJECTS_MAP: lambda _spec, inner: dict.__class_getitem__((str, list.__class_getitem__(inner))),
}


# --- The pass ---


class _OfType(msgspec.Struct, gc=False):
    type: str | None = None


class _OfNoType(msgspec.Struct, gc=False, tag_field="type", tag=""):
    """Is among the structs of all types, and never passes: of one alone, msgspec lets its tag be missing."""


_type_of: Final[Callable[[bytes], _OfType]] = msgspec.json.Decoder(_OfType).decode

_MAKING: Final = Lock()
"""Held while structs and decoders are made: msgspec crashes where two threads make use of a new struct."""


@cache
def _models_by_type() -> dict[str, list[type[Datum]]]:
    found: dict[str, list[type[Datum]]] = {}
    for model in DATUM_MODELS:
        found.setdefault(literal_fields(model)["type"], []).append(model)
    return found


class _Decoders:
    """Decodes records into the structs of their types, each made when the first record of its type comes.

    :param whole: whether only whole records pass.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole
        self._structs: dict[str, Any] = {}
        self._kinds: dict[Any, Callable[[bytes], Any]] = {}
        self._rests: dict[Any, Callable[..., Any] | None] = {type(None): None, _OfNoType: _never_passes}
        # What decodes, and the types that it knows: read at once, since other threads make further ones.
        self._made: tuple[Callable[[bytes], Any] | None, frozenset[str]] = None, frozenset()

    def records(self, lines: Sequence[bytes]) -> list[Any]:
        """Decode lines; what does not pass is ``None``."""
        records = self._decoded(lines)
        rests, kinds = self._rests, self._kinds
        for index, record in enumerate(records):
            rest = rests[type(record)]
            if rest is _of_kind:
                records[index] = _of_kind(kinds[type(record)], rests, lines[index])
            elif rest is not None and not rest(record, None):
                records[index] = None
        for index in _long(lines):
            sizes = getattr(type(records[index]), "sizes", None)
            if sizes is not None and not sizes(records[index], None):
                records[index] = None
        there = [record for record in records if record is not None]
        for name in _BLOCK_TIMES:
            _check_times(name, records, there)
        return records

    def _decoded(self, lines: Sequence[bytes]) -> list[Any]:
        """Decode lines into structs of which nothing further has been asked, with all structs they need."""
        decode, known = self._made
        records, failed = _decoded(decode, lines)
        if failed and len(known) < len(KNOWN_TYPES):
            found, _failed = _decoded(_type_of, [lines[index] for index in failed])
            types = {record.type for record in found if record is not None}
            if new := types & KNOWN_TYPES - known:
                records, _failed = _decoded(self._with(new), lines)
        return records

    def _with(self, types: Iterable[str]) -> Callable[[bytes], Any]:
        """Make the structs of further types; return what decodes those of all types so far."""
        with _MAKING:
            for name in sorted(types):
                if name not in self._structs:
                    self._structs[name] = self._struct_of(name)
            decode = msgspec.json.Decoder(reduce(or_, self._structs.values(), _OfNoType)).decode
            self._made = decode, frozenset(self._structs)
            return decode

    def _struct_of(self, name: str) -> Any:
        """Make the structs of a type; return the one that a record of it is decoded into first."""
        models = _models_by_type()[name]
        if models[0].kind_field is None:
            found = _struct(models[0], "type", whole=self._whole, outer=True)
            self._rests[found] = found.__dict__["rest"]
            return found
        kinds = _variant(models, whole=self._whole, outer=True)
        found = msgspec.defstruct(name, (), tag_field="type", tag=name)  # reads no more than the type
        self._kinds[found] = msgspec.json.Decoder(kinds).decode
        self._rests |= {struct: struct.__dict__["rest"] for struct in get_args(kinds) or (kinds,)}
        self._rests[found] = _of_kind
        return found


def _long(lines: Sequence[bytes]) -> Sequence[int]:
    """Return the indexes of the lines in which a free object may be too large."""
    if max(map(len, lines), default=0) <= SHORT_LINE_BYTES:
        return ()
    return [index for index, line in enumerate(lines) if len(line) > SHORT_LINE_BYTES]


def _never_passes(_record: Any, _units: str | None) -> bool:
    return False


def _of_kind(decode: Callable[[bytes], Any], rests: Mapping[Any, Any], line: bytes) -> Any:
    """Decode a record of a type of which there are several kinds: before, only its type was read."""
    try:
        record = decode(line)
    except FAST_ERRORS:
        return None
    rest = rests[type(record)]
    return record if rest is None or rest(record, None) else None


def _decoded(
    decode: Callable[[bytes], Any] | None, lines: Sequence[bytes]
) -> tuple[list[Any], Sequence[int]]:
    """Decode lines; return what they are, ``None`` where that fails, and the indexes of these."""
    if decode is None:
        return [None] * len(lines), range(len(lines))
    records: list[Any] = []
    failed: list[int] = []
    decoding = map(decode, lines)
    while len(records) < len(lines):
        try:
            records.extend(decoding)  # those before one that cannot be decoded stay
        except FAST_ERRORS:
            failed.append(len(records))
            records.append(None)
    return records, failed


def _check_times(name: str, records: list[Any], there: Sequence[Any]) -> None:
    """Let only those records pass of which one time is a sure one, or not there.

    :param there: those that may pass.
    """
    get, sure, all_sure = _BLOCK_TIMES[name]
    times = [time for time in map(get, there) if time is not None]
    text = "\n".join((*times, ""))
    if all_sure.fullmatch(text) and text.count("\n") == len(times):
        return
    for index, record in enumerate(records):
        if record is not None and (time := get(record)) is not None and not sure.fullmatch(time):
            records[index] = None


_DECODERS: Final = {whole: _Decoders(whole=whole) for whole in (True, False)}


def surely_valid(lines: Sequence[bytes], *, whole: bool) -> list[Any]:
    """Decode those lines that are certainly accepted.

    :param lines: JSON texts without huge integers.
    :param whole: whether only whole records pass. Of others, unknown fields have not been looked at: they may
        hold what Go does not read.
    :return: for each, the struct of its type; ``None`` if it is not certain.
    """
    return _DECODERS[whole].records(lines)
