"""The mapping of a table: a record as Tidepool documents it, with ``{"column": …}`` where a cell goes.

A mapping is data. It has no expressions, no templates and no code, so that there is nothing in it that has
to be secured or versioned, and nothing that could quote a cell in an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NoReturn, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tidepool_ingest.formats.table.stamps import PatternError, Unit, iso_seconds, stamp_reader
from tidepool_ingest.model import masked_pointer
from tidepool_ingest.staging.manifest import ManifestModel

RULES_MAX: Final = 100
DEPTH_MAX: Final = 20
"""Objects and lists inside each other in a record; none of Tidepool's types has half as many."""

Decimals: TypeAlias = Literal[".", ","]
Steps: TypeAlias = tuple[int | str, ...]

_Words = tuple[str, ...]
_Column = Annotated[str, AfterValidator(str.strip), Field(min_length=1)]


def _a_scalar(value: object) -> object:
    if not isinstance(value, str | bool | int | float):
        raise PydanticCustomError("scalar", "is no text, number, true or false")
    return value


def _a_number(value: object) -> object:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise PydanticCustomError("number", "is no number")
    return value


_Scalar = Annotated[Any, AfterValidator(_a_scalar)]
_Number = Annotated[Any, AfterValidator(_a_number)]
"""As the mapping spells it, for that is how it is written."""


class MappingError(ValueError):
    """A mapping cannot be used.

    :param steps: keys and indexes that lead to what is wrong.
    :param problem: what is wrong, in words of this project and Tidepool's own names.
    """

    def __init__(self, steps: Steps, problem: str) -> None:
        self.steps = steps
        self.problem = problem
        super().__init__(f"{pointer_of(steps)}: {problem}" if steps else problem)


def _a_delimiter(sign: str) -> str:
    if sign in '"\r\n\0' or sign.isalnum():
        raise PydanticCustomError("delimiter", "is no character that can stand between two cells")
    return sign


class Layout(ManifestModel):
    """How a file is cut into cells; what is left out is found by its content.

    :param delimiter: what stands between two cells.
    :param encoding: what the file is written in; UTF-8 if left out.
    :param decimal: the sign between units and tenths.
    :param header_row: number of the line that has the columns' names; what is above it is no row.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_a_delimiter)] | None = None
    encoding: Literal["utf-8", "cp1252", "iso-8859-1", "utf-16"] | None = None
    decimal: Decimals = "."
    header_row: Annotated[int, Field(ge=1, le=1000)] = 1


class Condition(ManifestModel):
    """What one cell of a row must be; exactly one of the tests is given."""

    column: _Column
    is_: Annotated[str | None, Field(alias="is", repr=False)] = None
    in_: Annotated[tuple[str, ...] | None, Field(alias="in", min_length=1, repr=False)] = None
    not_in: Annotated[tuple[str, ...] | None, Field(min_length=1, repr=False)] = None
    present: bool | None = None
    above: _Number = None
    below: _Number = None

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        tests = (self.is_, self.in_, self.not_in, self.present, self.above, self.below)
        if sum(test is not None for test in tests) != 1:
            raise PydanticCustomError(
                "condition", "needs exactly one of is, in, notIn, present, above and below"
            )
        return self


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, dict) else value


Conditions = Annotated[tuple[Condition, ...], BeforeValidator(_as_list)]


class Bound(ManifestModel):
    """Which cells mean that a value is beyond what the device measures, and what is written for them.

    :param words: cells that say so.
    :param value: what is written in their place; a number is kept if this is left out.
    :param threshold: the last value that the device measures, for the annotation.
    """

    words: _Words = ()
    value: _Number = None
    threshold: _Number = None

    @model_validator(mode="after")
    def _has_value(self) -> Bound:
        if self.words and self.value is None:
            raise PydanticCustomError("bound", "has words, and no value to write for them")
        if not self.words and self.limit is None:
            raise PydanticCustomError("bound", "needs words, or the limit beyond which numbers are meant")
        return self

    @property
    def limit(self) -> float | None:
        """Numbers beyond this are meant, too."""
        return None


class Low(Bound):
    """Values too low to be measured; also numbers below a limit."""

    below: _Number = None

    @property
    def limit(self) -> float | None:
        """Numbers below this are meant, too."""
        limit: float | None = self.below
        return limit


class High(Bound):
    """Values too high to be measured; also numbers above a limit."""

    above: _Number = None

    @property
    def limit(self) -> float | None:
        """Numbers above this are meant, too."""
        limit: float | None = self.above
        return limit


class Cell(ManifestModel):
    """A cell that goes into a record.

    :param column: its column.
    :param as_: how it is read.
    :param to: the unit of a duration in the record.
    :param times: what a number is multiplied with.
    :param decimal: as for :class:`Layout`, of this column only.
    :param map: what is written for each word; another word is refused.
    :param missing: words that mean that there is no value, as an empty cell does.
    :param default: what is written if there is no value; without it, there is no record then.
    :param low: which cells are too low to be measured.
    :param high: which cells are too high to be measured.
    """

    column: _Column
    as_: Annotated[Literal["number", "text", "hh:mm:ss", "iso-duration"], Field(alias="as")] = "number"
    to: Unit | None = None
    times: _Number = None
    decimal: Decimals | None = None
    map: Annotated[dict[str, _Scalar] | None, Field(min_length=1, repr=False)] = None
    missing: Annotated[_Words, Field(repr=False)] = ()
    default: Annotated[_Scalar, Field(repr=False)] = None
    low: Low | None = None
    high: High | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> Cell:
        is_number = self.as_ == "number" and self.map is None
        if self.map is not None and "as" in self.given:
            raise PydanticCustomError("cell", "has both as and map, and a mapped cell is read as a word")
        if self.is_duration and self.to is None:
            raise PydanticCustomError("cell", "needs `to`, the unit of the duration: ms, s or min")
        if self.to is not None and not self.is_duration:
            raise PydanticCustomError("cell", "has `to`, which is for durations: as hh:mm:ss or iso-duration")
        for name in ("times", "decimal", "low", "high"):
            if name in self.given and not is_number:
                raise PydanticCustomError("cell", "has {name}, which is for numbers", {"name": name})
        if self.times is not None and (self.low or self.high):
            raise PydanticCustomError("cell", "has times beside low or high, whose order would be unclear")
        if self.times == 0:
            raise PydanticCustomError("cell", "makes every number 0")
        return self

    @property
    def is_duration(self) -> bool:
        """Whether the cell is a length of time."""
        return self.as_ in ("hh:mm:ss", "iso-duration")

    @property
    def given(self) -> set[str]:
        """Names of the keys that are there."""
        return {name.removesuffix("_") for name in self.model_fields_set}


def _a_duration(text: str) -> str:
    if not iso_seconds(text):
        raise PydanticCustomError("duration", "is no ISO 8601 duration in days and less, such as PT30M")
    return text


class ToNext(ManifestModel):
    """How long it is until the next row that gives a record of the same rule.

    :param max: what is written at most.
    :param to: the unit in the record.
    """

    max: Annotated[str, AfterValidator(_a_duration)]
    to: Unit

    @property
    def seconds(self) -> Decimal:
        """``max`` in seconds."""
        return iso_seconds(self.max) or Decimal(0)


class TimeColumns(ManifestModel):
    """Where the time of a row stands, and how it is written.

    :param column: its column; or ``columns``, whose cells are joined by a blank.
    :param format: ``iso``, ``epoch-s``, ``epoch-ms``, or a pattern as of ``strptime``.
    :param order: whether rows are in the order of events, which decides about hours that are there twice.
    """

    column: _Column | None = None
    columns: Annotated[tuple[_Column, ...] | None, Field(min_length=1, max_length=5)] = None
    format: Annotated[str, Field(min_length=1, max_length=100)]
    order: Literal["oldest-first", "newest-first"] | None = None

    @model_validator(mode="after")
    def _readable(self) -> TimeColumns:
        if (self.column is None) == (self.columns is None):
            raise PydanticCustomError("time", "needs either column or columns")
        try:
            stamp_reader(self.format)
        except PatternError as error:
            raise PydanticCustomError("time", "{problem}", {"problem": f"format {error}"}) from None
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return self.columns or (self.column or "",)


class DeviceColumn(ManifestModel):
    """The column that tells devices apart, and what its cell becomes a ``deviceId`` with.

    :param column: a serial number, or what else is of one device only.
    :param prefix: what is put before it.
    """

    column: _Column
    prefix: Annotated[str, Field(max_length=100)] = ""


class _Rule(ManifestModel):
    when: Conditions = ()
    record: Annotated[dict[str, Any], Field(repr=False)]


class _Table(ManifestModel):
    csv: Layout = Layout()
    sheet: Annotated[str | None, Field(min_length=1, max_length=100, repr=False)] = None
    where: Conditions = ()
    row_number: tuple[_Column, ...] = ()
    time: TimeColumns
    records: Annotated[tuple[_Rule, ...], Field(min_length=1, max_length=RULES_MAX)]
    device_id: DeviceColumn | None = None
    id: Annotated[tuple[_Column, ...], Field(max_length=10)] = ()


@dataclass(frozen=True)
class RecordRule:
    """A record that a row gives.

    :param when: what the row must be.
    :param record: the record as JSON has it, with a :class:`Cell` or :class:`ToNext` where something of the
        table goes.
    """

    when: tuple[Condition, ...]
    record: dict[str, Any] = field(repr=False)

    @property
    def type(self) -> str:
        """The type of the record."""
        return str(self.record["type"])

    def leaves(self) -> list[tuple[Steps, Any]]:
        """Return what of the record is no object and no list, with the keys and indexes that lead to it."""
        return list(_leaves(self.record, ()))


@dataclass(frozen=True)
class TableMapping:
    """What a row of a table means.

    :param csv: how the file is cut into cells.
    :param where: what a row must be to be looked at.
    :param row_number: columns that only count rows.
    :param time: where the time stands.
    :param rules: the records.
    :param device: the column that tells devices apart.
    :param id: columns that name a row for ever.
    :param sheet: the sheet of a workbook, if it has several.
    """

    csv: Layout
    where: tuple[Condition, ...]
    row_number: tuple[str, ...]
    time: TimeColumns
    rules: tuple[RecordRule, ...]
    device: DeviceColumn | None
    id: tuple[str, ...]
    sheet: str | None = None

    def columns(self) -> Iterator[tuple[Steps, str]]:
        """Yield each column that is named, after the keys and indexes that lead to it."""
        yield from _condition_columns(("where",), self.where)
        yield from ((("rowNumber", at), name) for at, name in enumerate(self.row_number))
        if self.time.column is not None:
            yield ("time", "column"), self.time.column
        yield from ((("time", "columns", at), name) for at, name in enumerate(self.time.columns or ()))
        for number, rule in enumerate(self.rules):
            yield from _condition_columns(("records", number, "when"), rule.when)
            for steps, leaf in rule.leaves():
                if isinstance(leaf, Cell):
                    yield ("records", number, "record", *steps, "column"), leaf.column
        if self.device is not None:
            yield ("deviceId", "column"), self.device.column
        yield from ((("id", at), name) for at, name in enumerate(self.id))


def parse_mapping(raw: object) -> TableMapping:
    """Check a mapping.

    :param raw: it as JSON has it.
    :raises MappingError: it cannot be used.
    """
    if not isinstance(raw, dict):
        raise MappingError((), "a mapping is a JSON object")
    try:
        table = _Table.model_validate(_with_tuples(raw))
    except ValidationError as error:
        _raise(error, raw)
    rules = []
    for number, rule in enumerate(table.records):
        steps = ("records", number, "record")
        rules.append(RecordRule(rule.when, _with_cells(rule.record, steps, DEPTH_MAX)))
    mapping = TableMapping(
        table.csv,
        table.where,
        table.row_number,
        table.time,
        tuple(rules),
        table.device_id,
        table.id,
        table.sheet,
    )
    if table.time.order is None:
        for number, made in enumerate(rules):
            if any(isinstance(leaf, ToNext) for _, leaf in made.leaves()):
                problem = "has toNext, which needs `order` of the time: oldest-first or newest-first"
                raise MappingError(("records", number, "record"), problem)
    return mapping


def pointer_of(steps: Iterable[int | str]) -> str:
    """Return the JSON pointer to a place in a mapping: what is neither our key nor Tidepool's field is ``*``.

    :param steps: keys and indexes.
    """
    shown = (str(step) if isinstance(step, int) or step in _KEYS else masked_pointer(step) for step in steps)
    return "".join(f"/{step}" for step in shown)


def unknown_key(
    steps: Steps, names: Iterable[str], unknown: str, known: Iterable[str], *, what: str = "is not known here"
) -> NoReturn:
    """Raise the error about a key that is not known: by its number, for it may be a misplaced value.

    :param steps: where the object is.
    :param names: its keys.
    :param unknown: the one that is not known.
    :param known: those that could be there.
    :param what: what is wrong with it.
    """
    at = list(names).index(unknown) + 1
    near = difflib.get_close_matches(unknown, sorted(known), n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise MappingError(steps, f"key {at} {what}{hint}; known are {', '.join(sorted(known))}")


def _leaves(value: Any, steps: Steps) -> Iterator[tuple[Steps, Any]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(member, (*steps, name))
    elif isinstance(value, list):
        for at, member in enumerate(value):
            yield from _leaves(member, (*steps, at))
    else:
        yield steps, value


def _condition_columns(steps: Steps, conditions: tuple[Condition, ...]) -> Iterator[tuple[Steps, str]]:
    for number, condition in enumerate(conditions):
        yield (*steps, *((number,) if len(conditions) > 1 else ()), "column"), condition.column


def _with_cells(value: Any, steps: Steps, depth: int) -> Any:
    """Return a part of a record with cells for the objects that stand for them."""
    if not depth:
        raise MappingError(steps, "is nested too deeply")
    if isinstance(value, list):
        return [_with_cells(member, (*steps, at), depth - 1) for at, member in enumerate(value)]
    if not isinstance(value, dict):
        if value is None:
            raise MappingError(steps, "is null, which Tidepool takes for a field that is not there")
        return value
    if "column" in value:
        return _parsed(Cell, value, steps)
    if "toNext" in value:
        if len(value) > 1:
            unknown = next(name for name in value if name != "toNext")
            unknown_key(steps, value, unknown, ["toNext"])
        return _parsed(ToNext, value["toNext"], (*steps, "toNext"))
    return {name: _with_cells(member, (*steps, name), depth - 1) for name, member in value.items()}


def _parsed(model: type[ManifestModel], raw: object, steps: Steps) -> Any:
    try:
        return model.model_validate(_with_tuples(raw))
    except ValidationError as error:
        _raise(error, raw, steps, model)


def _with_tuples(value: Any) -> Any:
    """Return JSON with tuples for lists outside of records: strict models take lists for no tuples."""
    if isinstance(value, dict):
        return {name: member if name == "record" else _with_tuples(member) for name, member in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


def _raise(
    error: ValidationError, raw: Any, before: Steps = (), model: type[ManifestModel] = _Table
) -> NoReturn:
    """Raise the first problem that a model found."""
    problem = error.errors(include_url=False, include_input=False)[0]
    loc = problem["loc"]
    steps: list[int | str] = []
    inside = raw
    for step in loc:
        if step == 0 and isinstance(inside, dict):
            continue  # one condition without a list around it
        steps.append(step)
        try:
            inside = inside[step]
        except (KeyError, IndexError, TypeError):
            inside = None
    place = (*before, *steps)
    if problem["type"] == "extra_forbidden":
        container = raw
        for step in steps[:-1]:
            container = container[step]
        if steps[-1] == "zone":
            text = "the time zone is the file's `timezone` in the manifest (`--timezone`), not in the mapping"
            raise MappingError(place, text) from None
        known = sorted(_known_in(model, tuple(steps[:-1])))
        unknown_key((*before, *steps[:-1]), container, str(steps[-1]), known)
    message = problem["msg"].removeprefix("Value error, ")
    for of_python, of_json in _WORDS_OF_JSON.items():
        message = message.replace(of_python, of_json)
    raise MappingError(place, f"{message[:1].lower()}{message[1:]}") from None


_WORDS_OF_JSON: Final = {
    "Tuple should": "List should",
    " after validation": "",
    "a valid tuple": "a list",
    "a valid dictionary": "a JSON object",
}


def _keys_of(model: type[ManifestModel]) -> set[str]:
    return {item.alias or name for name, item in model.model_fields.items()}


_BY_NAME: Final[Mapping[str, type[ManifestModel]]] = {
    "csv": Layout,
    "where": Condition,
    "when": Condition,
    "time": TimeColumns,
    "records": _Rule,
    "deviceId": DeviceColumn,
    "low": Low,
    "high": High,
}
"""The model of what stands under a key, whatever is around it."""

_MODELS: Final[tuple[type[ManifestModel], ...]] = (_Table, *_BY_NAME.values(), Cell, ToNext)
_KEYS: Final = frozenset({"toNext", "zone"}.union(*(_keys_of(model) for model in _MODELS)))


def _known_in(model: type[ManifestModel], steps: Steps) -> set[str]:
    named = [step for step in steps if isinstance(step, str)]
    return _keys_of(_BY_NAME[named[-1]] if named else model)
