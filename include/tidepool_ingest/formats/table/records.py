"""Whether the records that a mapping describes can be Tidepool's, before a row is read.

The model says it. Each record is made with values of every size in place of its cells: what is wrong with
all of these is wrong with the mapping, and what is wrong with some is the matter of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from tidepool_ingest.formats.table.mapping import (
    Cell,
    MappingError,
    RecordRule,
    Steps,
    TableMapping,
    ToNext,
    parse_mapping,
    unknown_key,
)
from tidepool_ingest.model import KNOWN_TYPES, validate_datum
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.specification import Kind, fields_of, literal_fields

WRITTEN_BY_READER: Final = frozenset({"time", "deviceTime", "timezoneOffset", "deviceId", "id", "origin"})
"""Fields that come from the time, the device and the name of a row, and not from the mapping's record."""

_GLUCOSE_TYPES: Final = ("cbg", "smbg", "bloodKetone", "deviceEvent")

_NUMBERS: Final = (100, 5.5, 1, 0, 20, 0.5, 300, 3600, 60_000, 3_600_000, -1)
_TEXTS: Final = ("a", "2026-03-05T10:00:00Z", "0" * 32)
_SAMPLES: Final = 40
"""Most combinations of values that a record is made with."""

_FREE: Final = (Kind.FREE_OBJECT, Kind.FREE_OBJECTS)
_MAPS: Final = (Kind.OBJECT_MAP, Kind.OBJECTS_MAP)
_WRONG_TYPE: Final = "type-not-"


def checked_mapping(raw: object) -> TableMapping:
    """Check a mapping, and its records against the model.

    :param raw: the mapping as JSON has it.
    :raises MappingError: it cannot be used.
    """
    mapping = parse_mapping(raw)
    for number, rule in enumerate(mapping.rules):
        _check(rule, ("records", number, "record"))
    return mapping


def _check(rule: RecordRule, place: Steps) -> None:
    if not isinstance(rule.record, dict):
        raise MappingError(place, "is a cell, and no record")
    type_name = rule.record.get("type")
    if not isinstance(type_name, str) or type_name not in KNOWN_TYPES:
        raise MappingError((*place, "type"), f"is none of Tidepool's types: {', '.join(sorted(KNOWN_TYPES))}")
    for name in rule.record:
        if name in WRITTEN_BY_READER:
            raise MappingError((*place, name), "comes from `time`, `deviceId` and `id`: leave it out here")
    leaves = rule.leaves()
    for steps, leaf in leaves:
        if isinstance(leaf, Cell | ToNext) and steps[0] == "annotations":
            raise MappingError((*place, *steps), "an annotation is the same for every row, without cells")
        is_value = type_name in _GLUCOSE_TYPES and steps == ("value",)
        if isinstance(leaf, Cell) and (leaf.low or leaf.high) and not is_value:
            raise MappingError((*place, *steps), "low and high are for a glucose or ketone reading's value")
    if sum(isinstance(leaf, ToNext) for _, leaf in leaves) > 1:
        raise MappingError(place, "has toNext twice")
    _check_names(rule.record, _models_of(rule.record), place)
    _check_values(rule, place)


def _models_of(record: dict[str, Any]) -> Sequence[type[Record]]:
    """Return the models that a record may be of: one, if it says its kind."""
    of_type = [model for model in DATUM_MODELS if literal_fields(model)["type"] == record["type"]]
    kinds = [literal_fields(model) for model in of_type]
    fitting = [
        model
        for model, kind in zip(of_type, kinds, strict=True)
        if all(
            record.get(name) == value or not isinstance(record.get(name), str) for name, value in kind.items()
        )
    ]
    return fitting or of_type


def _check_names(value: Any, models: Sequence[type[Record]], place: Steps) -> None:
    """Refuse fields that Tidepool does not know, and would leave out without a word."""
    if not isinstance(value, dict):
        return
    specs = {spec.name: spec for model in models for spec in fields_of(model)}
    known = {*specs, *(name for model in models for name in literal_fields(model))}
    inner: dict[str, list[type[Record]]] = {}
    for model in models:
        for spec in fields_of(model):
            inner.setdefault(spec.name, []).extend(spec.models)
    for name, member in value.items():
        if name not in known:
            fields = known - WRITTEN_BY_READER
            unknown_key(place, value, name, fields, what="is no field that Tidepool knows here")
        kind = specs[name].kind if name in specs else Kind.TEXT
        if kind in _FREE or not inner.get(name):
            continue
        members = member.values() if kind in _MAPS and isinstance(member, dict) else (member,)
        for one in members:
            for item in one if isinstance(one, list) else (one,):
                _check_names(item, inner[name], (*place, name))


def _check_values(rule: RecordRule, place: Steps) -> None:
    cells = [(steps, leaf) for steps, leaf in rule.leaves() if isinstance(leaf, Cell | ToNext)]
    candidates = {steps: _candidates(leaf) for steps, leaf in cells}
    found = [_problems(rule.record, candidates, turn) for turn in range(_turns(candidates.values()))]
    in_all = [problem for problem in found[0] if all(problem in others for others in found)]
    for code, pointer in in_all:
        steps = tuple(pointer.split("/")[1:])
        cell = next((leaf for at, leaf in cells if tuple(map(str, at)) == steps), None)
        if cell is None:
            raise MappingError((*place, *_numbered(steps)), f"Tidepool would reject it: {code}")
        if code.startswith(_WRONG_TYPE):
            raise MappingError(
                (*place, *_numbered(steps)), f"Tidepool would reject what the cell gives: {code}{_hint(code)}"
            )
    _check_words(rule, place, cells, candidates)


def _check_words(
    rule: RecordRule,
    place: Steps,
    cells: list[tuple[Steps, Any]],
    candidates: dict[Steps, Sequence[Any]],
) -> None:
    """Check what is written for each word, whatever the other cells are."""
    for steps, leaf in cells:
        if not isinstance(leaf, Cell):
            continue
        pointer = "".join(f"/{step}" for step in steps)
        for number, value in enumerate(_written(leaf)):
            chosen = {**candidates, steps: (value,)}
            turns = range(_turns(chosen.values()))
            problems = [
                [p for p in _problems(rule.record, chosen, turn) if p[1] == pointer] for turn in turns
            ]
            if all(problems):
                code = problems[0][0][0]
                raise MappingError(
                    (*place, *steps), f"Tidepool would reject value {number + 1} of it: {code}"
                )


def _written(cell: Cell) -> list[Any]:
    """Return what the mapping itself writes in the place of a cell."""
    values = list((cell.map or {}).values())
    values += [bound.value for bound in (cell.low, cell.high) if bound and bound.value is not None]
    return [*values, *([] if cell.default is None else [cell.default])]


def _candidates(leaf: Cell | ToNext) -> Sequence[Any]:
    if isinstance(leaf, ToNext) or (leaf.map is None and leaf.as_ != "text"):
        return _NUMBERS
    return _TEXTS if leaf.map is None else list(leaf.map.values())


def _turns(candidates: Iterable[Sequence[Any]]) -> int:
    return min(max((len(one) for one in candidates), default=1), _SAMPLES)


def _problems(
    record: dict[str, Any], candidates: dict[Steps, Sequence[Any]], turn: int
) -> list[tuple[str, str]]:
    made = _filled(record, (), candidates, turn)
    datum = {**made, "time": "2026-03-05T10:00:00Z", "deviceId": "d"}
    return [(problem.code, problem.pointer) for problem in validate_datum(datum)]


def _filled(value: Any, steps: Steps, candidates: dict[Steps, Sequence[Any]], turn: int) -> Any:
    if isinstance(value, dict):
        return {name: _filled(inner, (*steps, name), candidates, turn) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, (*steps, at), candidates, turn) for at, inner in enumerate(value)]
    if isinstance(value, Cell | ToNext):
        choice = candidates[steps]
        return choice[turn % len(choice)]
    return value


def _numbered(steps: Sequence[str]) -> Steps:
    return tuple(int(step) if step.isascii() and step.isdigit() else step for step in steps)


def _hint(code: str) -> str:
    if code == "type-not-string":
        return ' (a cell is read as a number; say `"as": "text"` or give a map)'
    return " (a cell that is no number needs a map)" if code.startswith("type-not-") else ""
