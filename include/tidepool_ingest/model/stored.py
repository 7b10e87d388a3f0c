"""What the Platform stores of an accepted datum (P: the Normalize methods below data/types/).

Unknown fields are dropped, glucose is converted to mmol/L, lists of tags are sorted, times are respelled, and
an embedded bolus or status becomes a record of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from tidepool_ingest.deep_json import dumps, mapped
from tidepool_ingest.digests import digest_of
from tidepool_ingest.model import fields
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.glucose import MG_PER_DL_MINUTE, MG_PER_DL_UNITS, to_mmol_per_l
from tidepool_ingest.model.gotime import parse_instant
from tidepool_ingest.model.parsing import FLOAT_EXACT_MAX, Parsed
from tidepool_ingest.model.problems import Problem
from tidepool_ingest.model.specification import FieldSpec, Kind, contains_itself, fields_of, literal_fields
from tidepool_ingest.model.validation import units_in
from tidepool_ingest.model.verdict import parse_and_validate

NewId = Callable[[], str]


class NotAcceptedError(ValueError):
    """The Platform would not accept the datum, so that it stores nothing.

    :param problems: what is wrong with it.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        codes = ", ".join(sorted({problem.code for problem in problems}))
        super().__init__(
            f"The Platform would reject the datum ({codes}). Validate a datum before storing it."
        )
        self.problems = problems

    def __reduce__(self) -> tuple[type[NotAcceptedError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


def stored_form(datum: Mapping[str, Any], new_id: NewId | None = None) -> list[dict[str, Any]]:
    """Return what the Platform stores for a datum.

    What it adds of its own is not in it: user, data set, times of creation and change, hash.

    Without ``new_id``, records without an ``id`` have none in the result. A record links to what was split
    off it by the other's ``id`` in the field that the datum was embedded in (``wizard.bolus``,
    ``alarm.status``, ``reservoirChange.status``); where that has no ``id``, and for an automated bolus, the
    field is missing.

    :param datum: an accepted datum, decoded.
    :param new_id: gives an ``id`` to each record that has none, as the Platform does.
    :return: the datum, then the records split off it.
    :raises NotAcceptedError: when the Platform would refuse it.
    """
    parsed, problems = parse_and_validate(datum)
    if parsed is None or problems:
        raise NotAcceptedError(problems)
    return _Storing(new_id).records(parsed)


EMBEDDING_TYPES: Final = frozenset({"deviceEvent", "wizard"})
"""Types of which some can hold another datum. A test compares them with the models, all of which it would
take to find them."""


@cache
def _split_off() -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return which fields hold another datum, by the texts that tell types, and kinds of types, apart."""
    return {
        tuple(literal_fields(model).values()): names
        for model in DATUM_MODELS
        if literal_fields(model)["type"] in EMBEDDING_TYPES
        and (names := tuple(spec.name for spec in fields_of(model) if spec.limit(fields.SplitOff)))
    }


_KIND_FIELDS: Final = {literal_fields(model)["type"]: model.kind_field for model in DATUM_MODELS}


def embedded_data(datum: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the fields of a datum that hold another one, which the Platform splits off.

    :param datum: a decoded datum.
    :return: the names of those that are there: ``bolus``, ``status``, or none.
    """
    return tuple(name for name in _embedding_fields(datum) if isinstance(datum.get(name), Mapping))


def _embedding_fields(datum: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the fields that hold another datum, or the id of what was split off."""
    type_name = datum.get("type")
    if not isinstance(type_name, str) or type_name not in EMBEDDING_TYPES:
        return ()
    kind_field = _KIND_FIELDS[type_name]
    kinds = [type_name, datum.get(kind_field)] if kind_field else [type_name]
    return _split_off().get(tuple(kind for kind in kinds if isinstance(kind, str)), ())


class _Storing:
    """The making of the records of one datum."""

    def __init__(self, new_id: NewId | None) -> None:
        self._new_id = new_id
        self._split_off: list[dict[str, Any]] = []
        self._waiting: list[tuple[Parsed, str | None, dict[str, Any]]] = []

    def records(self, parsed: Parsed) -> list[dict[str, Any]]:
        """Make the record of a datum, and those of what is embedded in it."""
        record = self._datum(parsed)
        while self._waiting:
            self._fill(*self._waiting.pop())
        return [record, *self._split_off]

    def _datum(self, parsed: Parsed) -> dict[str, Any]:
        record = self._object(parsed, None)
        if "id" not in record and self._new_id is not None:
            record["id"] = self._new_id()
        return record

    def _object(self, parsed: Parsed, units: str | None) -> dict[str, Any]:
        stored: dict[str, Any] = dict(literal_fields(parsed.model))
        if contains_itself(parsed.model):
            self._waiting.append((parsed, units, stored))  # at once, it would be recursion without end
        else:
            self._fill(parsed, units, stored)
        return stored

    def _fill(self, parsed: Parsed, units: str | None, stored: dict[str, Any]) -> None:
        units = units_in(parsed, units)
        for spec in fields_of(parsed.model):
            value = parsed.values.get(spec.name)
            if value is not None:
                value = self._value(spec, value, parsed, units)
            if value is not None:
                under = spec.limit(fields.StoredUnder)
                stored[under.name if under else spec.name] = value

    def _value(self, spec: FieldSpec, value: Any, parsed: Parsed, units: str | None) -> Any:
        if spec.kind in _SCALARS:
            return _SCALARS[spec.kind](spec, value, parsed, units)
        if spec.kind is Kind.OBJECT:
            return self._object(value, units)
        if spec.kind is Kind.OBJECTS:
            return [self._object(item, units) for item in value]
        if spec.kind is Kind.OBJECT_MAP:
            return {name: self._object(item, units) for name, item in value.items()}
        if spec.kind is Kind.OBJECTS_MAP:
            return {name: [self._object(item, units) for item in items] for name, items in value.items()}
        return self._variant(spec, value, units)

    def _variant(self, spec: FieldSpec, value: Parsed, units: str | None) -> Any:
        split_off = spec.limit(fields.SplitOff)
        if split_off is None:
            return self._object(value, units)
        record = self._datum(value)
        self._split_off.append(record)
        return None if value.model in split_off.without_link else record.get("id")


def _number(spec: FieldSpec, value: float, parsed: Parsed, units: str | None) -> float:
    converted_by = spec.limit(fields.ConvertedBy)
    if spec.limit(fields.InGlucoseUnits) is not None and units in MG_PER_DL_UNITS:
        return to_mmol_per_l(value)
    if converted_by is not None and parsed.values.get(converted_by.field) == MG_PER_DL_MINUTE:
        return to_mmol_per_l(value)
    return float(value) if abs(value) > FLOAT_EXACT_MAX else value


def _text(spec: FieldSpec, value: str, _parsed: Parsed, _units: str | None) -> str:
    stored_as = spec.limit(fields.StoredAs)
    return stored_as.text if stored_as is not None else value


def _texts(spec: FieldSpec, value: list[str], _parsed: Parsed, _units: str | None) -> list[str] | None:
    if not value and spec.limit(fields.EmptyIsMissing) is not None:
        return None
    return sorted(value) if spec.limit(fields.Sorted) is not None else value


def _as_float64(value: Any) -> Any:
    """Give large integers the value that float64 has for them."""
    return float(value) if type(value) is int and abs(value) > FLOAT_EXACT_MAX else value


_SCALARS: Final[dict[Kind, Callable[[FieldSpec, Any, Parsed, str | None], Any]]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.INTEGER: lambda _spec, value, _parsed, _units: value,
    Kind.FLAG: lambda _spec, value, _parsed, _units: value,
    Kind.INSTANT: lambda _spec, value, _parsed, _units: None if value.is_zero else value.text,
    Kind.TEXTS: _texts,
    Kind.FREE_OBJECT: lambda _spec, value, _parsed, _units: mapped(value, _as_float64),
    Kind.FREE_OBJECTS: lambda _spec, value, _parsed, _units: mapped(value, _as_float64),
}


# ---------------------------------------------------------------- content


def content_of(row: Mapping[str, Any]) -> int:
    """Return a digest of a row's content, the same for a row as it was sent and as Tidepool shows it.

    Its own id and the ids of what was split off it are no part of it, nor is what Tidepool adds.

    :param row: a record as in :func:`stored_form`, or as Tidepool shows it.
    :return: eight bytes, which have no meaning in another process.
    """
    links = _embedding_fields(row)
    kept = {
        name: mapped(row[name], _plain)
        for name in _content_fields().get(str(row.get("type")), frozenset())
        if row.get(name) is not None and not (name in links and isinstance(row[name], str))
    }
    return digest_of(dumps(kept, sort_keys=True))


def _plain(value: Any) -> Any:
    """Normalize values: the Platform keeps instants in milliseconds and UTC, and 6.0 as 6."""
    if isinstance(value, str):
        instant = parse_instant(value) if _LOOKS_LIKE_A_TIME.match(value) else None
        if instant is None:
            return value
        seconds, nanoseconds = instant.moment
        return [seconds, nanoseconds // _NANOSECONDS_A_MILLISECOND]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


@cache
def _content_fields() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for model in DATUM_MODELS:
        literals = literal_fields(model)
        names = found.setdefault(literals["type"], set())
        names.update(literals)
        for spec in fields_of(model):
            under = spec.limit(fields.StoredUnder)
            names.add(under.name if under else spec.name)
    return {kind: frozenset(names - {"id"}) for kind, names in found.items()}


_NANOSECONDS_A_MILLISECOND: Final = 1_000_000
_LOOKS_LIKE_A_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
