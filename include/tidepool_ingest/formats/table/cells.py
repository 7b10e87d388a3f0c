"""A mapping made into functions: what a row of cells becomes, without looking anything up again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from tidepool_ingest.formats.delimited import NOT_A_NUMBER
from tidepool_ingest.formats.table.mapping import Bound, Cell, Condition, RecordRule, ToNext
from tidepool_ingest.formats.table.stamps import clock_seconds, in_unit, iso_seconds, plain
from tidepool_ingest.staging.manifest import ORIGIN_TEXT_LENGTH

NOT_MAPPED: Final = "staged-not-mapped"
NOT_A_DURATION: Final = "staged-not-a-duration"

Cells: TypeAlias = Sequence[str]


class SomeCells(Protocol):
    """Cells of a row by the numbers of their columns: all, or those that are asked for."""

    def __getitem__(self, at: int, /) -> str:
        """Return a cell."""


Test: TypeAlias = Callable[[SomeCells], bool]
"""Whether a row keeps a condition."""
Read: TypeAlias = Callable[[SomeCells], str | None]
"""Returns a cell as JSON, ``None`` if it has no value."""
ReadText: TypeAlias = Callable[[str], str | None]
"""The same of the text of a cell, without blanks around it, that means no missing value."""
Indexes: TypeAlias = dict[str, int]
"""The number of each column, by its name."""

UNCERTAIN: Final = '{"code":"uncertain-timestamp"}'

_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,20})?").fullmatch
_NUMBER: Final = re.compile(
    r"([+-]?)0*([0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE]([+-]?[0-9]{1,2}))?"
)
_NUMBER_LENGTH: Final = 60
_GAP: Final = "\0"
"""Where a cell goes in a record whose texts are JSON, which has no such sign."""
_DIGITS: Final = 60

REMEMBERED_CELLS: Final = 5_000
"""Different cells of a column whose meaning is remembered: readings are a few hundred, again and again."""


class RefusedError(Exception):
    """A row cannot be read.

    :param code: why.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


def number_of(text: str, decimal: str) -> str:
    """Return a number as JSON spells it; its digits stay.

    :param text: the cell, without blanks around it.
    :param decimal: the sign before its tenths; the other one may not be in it, for it could mean thousands.
    :raises RefusedError: it is no number.
    """
    if decimal == ",":
        text = text.replace(",", ".") if "." not in text else ""
    if _JSON_NUMBER(text):
        return text
    match = _NUMBER.fullmatch(text) if len(text) <= _NUMBER_LENGTH else None
    if match is None:
        raise RefusedError(NOT_A_NUMBER)
    sign, digits, exponent = match.groups()
    whole, point, tenths = digits.partition(".")
    spelled = f"{whole.lstrip('0') or '0'}{point if tenths else ''}{tenths}"
    return f"{sign.strip('+')}{spelled}" + (f"e{exponent}" if exponent else "")


def condition_test(condition: Condition, indexes: Indexes, decimal: str) -> Test:
    """Make a condition a function.

    :param condition: it.
    :param indexes: the columns.
    :param decimal: the sign before the tenths of numbers.
    """
    at = indexes[condition.column]
    if (words := condition_words(condition)) is not None:
        return lambda cells: cells[at].strip() in words
    if condition.present is not None:
        present = condition.present
        return lambda cells: (not cells[at] or cells[at].isspace()) is not present
    if condition.above is not None or condition.below is not None:
        return _limit_test(at, condition.above, condition.below, decimal)
    others = frozenset(word.strip() for word in condition.not_in or ())
    return lambda cells: cells[at].strip() not in others


def condition_words(condition: Condition) -> frozenset[str] | None:
    """Return the words one of which a cell must be, ``None`` if the condition is another one.

    :param condition: it.
    """
    if condition.in_ is not None:
        return frozenset(word.strip() for word in condition.in_)
    others = (condition.present, condition.above, condition.below, condition.not_in)
    return frozenset([(condition.is_ or "").strip()]) if others == (None,) * len(others) else None


def _limit_test(at: int, above: float | None, below: float | None, decimal: str) -> Test:
    def test(cells: SomeCells) -> bool:
        text = cells[at].strip()
        if not text:
            return False
        number = float(number_of(text, decimal))
        return number > above if above is not None else below is not None and number < below

    return test


class RuleParts(NamedTuple):
    """What a rule makes records of, for whoever makes many at once.

    :param tests: what a row must be, each with its column.
    :param reads: what returns a cell as JSON, each with its column.
    :param pieces: what stands before, between and after these in the record; the first after its times.
    :param annotations: of all records.
    :param annotation_of: which of ``reads`` may have another one, and what returns that after it.
    :param start: how the record begins.
    :param name: what distinguishes it from those of other rules for the same row.
    """

    tests: list[tuple[int, Test]]
    reads: list[tuple[int, Read]]
    pieces: list[str]
    annotations: list[str]
    annotation_of: tuple[int, Callable[[], str]] | None
    start: str
    name: str


class CompiledRule:
    """Makes the record of one rule.

    :param rule: it.
    :param indexes: the columns.
    :param decimal: the sign before the tenths of numbers.
    :param name: what distinguishes its records from those of other rules for the same row.
    """

    def __init__(self, rule: RecordRule, indexes: Indexes, decimal: str, name: str) -> None:
        self.tests = tuple(condition_test(condition, indexes, decimal) for condition in rule.when)
        """What a row must be."""
        words = condition_words(rule.when[0]) if rule.when else None
        self.words = None if words is None else (indexes[rule.when[0].column], words)
        """The column of the first of them, and the words one of which must be in it, if that is it."""
        self._tested = [indexes[condition.column] for condition in rule.when]
        self._reads: list[Read] = []
        self._read_at: list[int] = []
        self._bounded: _BoundedReader | None = None
        self._bounded_read = 0
        self._kind = "ketone" if rule.type == "bloodKetone" else "bg"
        self._indexes, self._decimal = indexes, decimal
        self._name = name
        self.to_next: ToNext | None = None
        members = {key: value for key, value in rule.record.items() if key not in ("type", "annotations")}
        self._template = "".join(
            f",{_escaped(json.dumps(key))}:{self._template_of(value)}" for key, value in members.items()
        )
        self._start = f'{{"type":{json.dumps(rule.type)},'
        self._annotations = [json.dumps(one) for one in rule.record.get("annotations", ())]
        self._one = self._reads[0] if len(self._reads) == 1 else None

    def parts(self) -> RuleParts:
        """Return what the records are made of, if none of it is of another row."""
        pieces = (self._template % ((_GAP,) * len(self._reads))).split(_GAP)
        bounded = self._bounded
        return RuleParts(
            list(zip(self._tested, self.tests, strict=True)),
            list(zip(self._read_at, self._reads, strict=True)),
            pieces,
            self._annotations,
            None if bounded is None else (self._bounded_read, lambda: bounded.annotation),
            self._start,
            self._name,
        )

    def applies(self, cells: SomeCells) -> bool:
        """Return whether a row gives a record of this rule, or would if its cells could be read.

        :param cells: the row.
        """
        try:
            if not all(test(cells) for test in self.tests):
                return False
            return all(read(cells) is not None for read in self._reads)
        except RefusedError:
            return True

    def record(
        self, cells: SomeCells, head: str, uncertain: bool, row_name: str | None, duration: str | None = None
    ) -> str | None:
        """Return the record of a row as JSON, ``None`` if it gives none.

        :param cells: the row, which keeps ``tests``.
        :param head: its times and device, as members of an object.
        :param uncertain: whether its time is in doubt.
        :param row_name: what names the row for ever, if anything does.
        :param duration: how long it is until the next row, if the record says so.
        :raises RefusedError: a cell cannot be read.
        """
        if self._one is not None and self.to_next is None:
            value = self._one(cells)
            if value is None:
                return None
            body = self._template % value
        else:
            values = []
            for read in self._reads:
                value = duration if read is _LATER else read(cells)
                if value is None:
                    return None
                values.append(value)
            body = self._template % tuple(values)
        bound = "" if self._bounded is None else self._bounded.annotation
        if bound or uncertain or self._annotations:
            every = [*self._annotations, *([UNCERTAIN] if uncertain else []), *([bound] if bound else [])]
            body += f',"annotations":[{",".join(every)}]'
        if row_name is None:
            return f"{self._start}{head}{body}}}"
        name = encode_basestring_ascii(origin_id(self._name, row_name))
        return f'{self._start}{head}{body},"origin":{{"id":{name}}}}}'

    def _template_of(self, value: Any) -> str:
        if isinstance(value, ToNext):
            self.to_next = value
            self._reads.append(_LATER)
            return "%s"
        if isinstance(value, Cell):
            self._reads.append(self._read_of(value))
            self._read_at.append(self._indexes[value.column])
            return "%s"
        if isinstance(value, dict):
            members = (
                f"{_escaped(json.dumps(key))}:{self._template_of(inner)}" for key, inner in value.items()
            )
            return f"{{{','.join(members)}}}"
        if isinstance(value, list):
            return f"[{','.join(map(self._template_of, value))}]"
        return _escaped(json.dumps(value))

    def _read_of(self, cell: Cell) -> Read:
        read = self._read_present(cell)
        if cell.default is None:
            return read
        default = json.dumps(cell.default)

        def or_default(cells: SomeCells) -> str:
            value = read(cells)
            return default if value is None else value

        return or_default

    def _read_present(self, cell: Cell) -> Read:
        at = self._indexes[cell.column]
        missing = frozenset(("", *(word.strip() for word in cell.missing)))
        decimal = cell.decimal or self._decimal
        if cell.map is not None:
            return _word_reader(at, missing, cell.map)
        if cell.as_ == "text":
            return _text_reader(at, missing)
        if cell.is_duration:
            return _duration_reader(at, missing, cell)
        if cell.times is not None:
            return _product_reader(at, missing, decimal, Decimal(str(cell.times)))
        if cell.low is None and cell.high is None:
            return _number_reader(at, missing, decimal)
        self._bounded = _BoundedReader(at, missing, decimal, cell, self._kind)
        self._bounded_read = len(self._reads)
        return self._bounded.read


def origin_id(rule_name: str, row_name: str) -> str:
    """Return the name of a record: by its rule and its row, hashed where it is too long.

    :param rule_name: what distinguishes the records of a row.
    :param row_name: what names the row.
    """
    name = f"{rule_name}:{row_name}"
    if len(name) <= ORIGIN_TEXT_LENGTH:
        return name
    return f"{rule_name[:30]}:{hashlib.sha256(name.encode()).hexdigest()}"


def rule_names(rules: Sequence[RecordRule]) -> list[str]:
    """Return what distinguishes the records of each rule from those of the others for the same row.

    It is made of the type and sub-type, so that other rules may come and go.

    :param rules: the rules of a mapping.
    """
    names: list[str] = []
    for rule in rules:
        kind = next((rule.record[key] for key in ("subType", "deliveryType") if key in rule.record), "")
        plain_name = f"{rule.type}:{kind}" if isinstance(kind, str) and kind else rule.type
        earlier = sum(name.partition("#")[0] == plain_name for name in names)
        names.append(f"{plain_name}#{earlier + 1}" if earlier else plain_name)
    return names


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _LATER(_cells: SomeCells) -> str | None:  # noqa: N802 - a constant that stands for what comes with the row
    """Stand for the time to the next row, which the cells do not have."""
    return ""


def _remembering(at: int, missing: frozenset[str], read_text: ReadText) -> Read:
    """Return how to read a column in which the same cells come again and again.

    :param at: its number.
    :param missing: words that mean that there is no value.
    :param read_text: reads other ones.
    """
    known: dict[str, str] = {}

    def read(cells: SomeCells) -> str | None:
        text = cells[at]
        if (found := known.get(text)) is not None:
            return found
        stripped = text.strip()
        value = None if stripped in missing else read_text(stripped)
        if value is not None and len(text) <= _NUMBER_LENGTH:
            if len(known) >= REMEMBERED_CELLS:
                known.clear()
            known[text] = value
        return value

    return read


def _number_reader(at: int, missing: frozenset[str], decimal: str) -> Read:
    return _remembering(at, missing, lambda text: number_of(text, decimal))


def _product_reader(at: int, missing: frozenset[str], decimal: str, factor: Decimal) -> Read:
    def read_text(text: str) -> str:
        with localcontext(prec=_DIGITS):
            return plain(Decimal(number_of(text, decimal)) * factor)

    return _remembering(at, missing, read_text)


def _text_reader(at: int, missing: frozenset[str]) -> Read:
    def read(cells: SomeCells) -> str | None:
        text = cells[at].strip()
        return None if text in missing else encode_basestring(text)

    return read


def _word_reader(at: int, missing: frozenset[str], words: dict[str, Any]) -> Read:
    written = {word.strip(): json.dumps(value) for word, value in words.items()}

    def read(cells: SomeCells) -> str | None:
        text = cells[at].strip()
        found = written.get(text)
        if found is None and text not in missing:
            raise RefusedError(NOT_MAPPED)
        return found

    return read


def _duration_reader(at: int, missing: frozenset[str], cell: Cell) -> Read:
    seconds_of = clock_seconds if cell.as_ == "hh:mm:ss" else iso_seconds
    unit = cell.to or "ms"

    def read_text(text: str) -> str:
        seconds = seconds_of(text)
        if seconds is None:
            raise RefusedError(NOT_A_DURATION)
        return in_unit(seconds, unit)

    return _remembering(at, missing, read_text)


class _BoundedReader:
    """Reads a number that may be beyond what the device measures."""

    def __init__(self, at: int, missing: frozenset[str], decimal: str, cell: Cell, kind: str) -> None:
        self._at, self._missing, self._decimal = at, missing, decimal
        self._words: dict[str, tuple[str | None, str]] = {}
        self._known: dict[str, tuple[str | None, str]] = {}
        self.annotation = ""
        self._below = self._above = None
        for side, bound in (("low", cell.low), ("high", cell.high)):
            if bound is None:
                continue
            value = None if bound.value is None else json.dumps(bound.value)
            meant = (value, _out_of_range(kind, side, bound))
            self._words |= {word.strip(): meant for word in bound.words}
            if bound.limit is not None and side == "low":
                self._below = (bound.limit, *meant)
            elif bound.limit is not None:
                self._above = (bound.limit, *meant)

    def read(self, cells: SomeCells) -> str | None:
        """Return the value as JSON, ``None`` if there is none; ``annotation`` is that of this cell then."""
        text = cells[self._at]
        found = self._known.get(text)
        if found is None:
            found = self._found(text.strip())
            if len(text) <= _NUMBER_LENGTH:
                if len(self._known) >= REMEMBERED_CELLS:
                    self._known.clear()
                self._known[text] = found
        value, self.annotation = found
        return value

    def _found(self, text: str) -> tuple[str | None, str]:
        if text in self._words:
            return self._words[text]
        if text in self._missing:
            return None, ""
        number = number_of(text, self._decimal)
        if self._below is not None and float(number) < self._below[0]:
            return self._below[1] or number, self._below[2]
        if self._above is not None and float(number) > self._above[0]:
            return self._above[1] or number, self._above[2]
        return number, ""


def _out_of_range(kind: str, side: str, bound: Bound) -> str:
    annotation: dict[str, Any] = {"code": f"{kind}/out-of-range", "value": side}
    if bound.threshold is not None:
        annotation["threshold"] = bound.threshold
    return json.dumps(annotation, separators=(",", ":"))
