"""What record a row of LibreView becomes: readings, insulin, food, notes; or why it becomes none.

A record is text put together: numbers keep the spelling of their cell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from tidepool_ingest.formats.delimited import (
    EMPTY_EVENT,
    NO_AMOUNT,
    NOT_A_NUMBER,
    NOTE,
    SHORT_CELL,
    SPLIT_DECIMAL,
)
from tidepool_ingest.formats.libreview.layout import (
    CORRECTION,
    GRAMS,
    HISTORIC,
    KETONE,
    LONG,
    MEAL,
    MG_PER_DL,
    NOTES,
    RAPID,
    SCAN,
    SERVINGS,
    STRIP,
)
from tidepool_ingest.formats.reader import TOO_LARGE
from tidepool_ingest.model.base import NOTE_LENGTH_MAX, NOTES_MAX
from tidepool_ingest.model.glucose import MMOL_PER_L

VIEW: Final = "view"

UNCERTAIN: Final = '{"code":"uncertain-timestamp"}'

VALUES_MAX: Final = 10_000
"""Spellings of values that are remembered: a sensor has some hundreds."""

_NUMBER: Final = re.compile(r"0*([0-9]{1,6}(?:[.,][0-9]{1,9})?)")
_LOW: Final = frozenset({"lo", "low"})
_HIGH: Final = frozenset({"hi", "high"})


class Limits(NamedTuple):
    """What a kind of device can measure, each as a record has it.

    :param low: the value that stands for less than it can measure; empty if it has none.
    :param high: the value that stands for more.
    :param low_threshold: below which a value is such a one, as its annotation says.
    :param high_threshold: likewise.
    """

    low: str
    high: str
    low_threshold: str
    high_threshold: str


SENSOR_LIMITS: Final = {
    MG_PER_DL: Limits("40", "500", "41", "499"),
    MMOL_PER_L: Limits("2.2", "27.8", "2.3", "27.7"),
}
"""As the Tidepool Uploader reads these files (lib/drivers/abbott/libreViewDriver.js)."""

STRIP_LIMITS: Final = {
    MG_PER_DL: Limits("20", "500", "20", "500"),
    MMOL_PER_L: Limits("1.1", "27.8", "1.1", "27.8"),
}
KETONE_LIMITS: Final = Limits("", "8.0", "", "8.0")


class Values:
    """Values of one kind of device: what stands in a cell, as the end of a record.

    :param code: of the annotation of a value out of range.
    :param units: of the values.
    :param limits: what the device can measure.
    """

    def __init__(self, code: str, units: str, limits: Limits) -> None:
        self._code = code
        self._units = units
        self._limits = limits
        self._low = float(limits.low) if limits.low else -1.0
        self._high = float(limits.high)
        self._known: dict[str, tuple[str, str] | None] = {}

    def ends(self, cell: str) -> tuple[str, str] | None:
        """Return how a record with a value ends, first as usual, then if its time is in doubt.

        :param cell: where the value stands.
        :return: ``None`` if it is no value.
        """
        try:
            return self._known[cell]
        except KeyError:
            if len(cell) > SHORT_CELL:
                return self._ends(cell)
            if len(self._known) >= VALUES_MAX:
                self._known.clear()
            ends = self._known[cell] = self._ends(cell)
            return ends

    def _ends(self, cell: str) -> tuple[str, str] | None:
        value, side = self._value(cell)
        if not value:
            return None
        annotations = []
        if side:
            threshold = self._limits.low_threshold if side == "low" else self._limits.high_threshold
            annotations.append(f'{{"code":"{self._code}","value":"{side}","threshold":{threshold}}}')
        start = f'"units":"{self._units}","value":{value}'
        return tuple(
            f'{start},"annotations":[{",".join(some)}]}}' if some else f"{start}}}"
            for some in (annotations, [*annotations, UNCERTAIN])
        )  # type: ignore[return-value] # there are two

    def _value(self, cell: str) -> tuple[str, str]:
        """Return a value as a record has it, empty if it is none, and at which end of the range it is."""
        value = number_in(cell)
        if not value:
            word = cell.strip().lower()
            if word in _HIGH:
                return self._limits.high, "high"
            return (self._limits.low, "low") if word in _LOW and self._limits.low else ("", "")
        if float(value) <= self._low:
            return value, "low"
        return value, "high" if float(value) >= self._high else ""


def number_in(cell: str) -> str:
    """Return a cell's number as JSON has it, empty if it holds none.

    :param cell: where a decimal comma may stand instead of a point.
    """
    match = _NUMBER.fullmatch(cell.strip())
    return match.group(1).replace(",", ".") if match else ""


Made: TypeAlias = list[str] | str
"""Records of a row, or the code of why it is rejected."""


class Maker:
    """Makes records of rows, by record type.

    :param units: of glucose.
    :param columns: how many columns have a title.
    :param keep_notes: whether free text becomes a record, or part of one.
    """

    def __init__(self, units: str, columns: int, *, keep_notes: bool) -> None:
        self._columns = columns
        self._keep_notes = keep_notes
        self.sensor = Values("bg/out-of-range", units, SENSOR_LIMITS[units])
        self._strip = Values("bg/out-of-range", units, STRIP_LIMITS[units])
        self._ketone = Values("ketone/out-of-range", MMOL_PER_L, KETONE_LIMITS)
        self.by_kind: dict[str, Callable[[Sequence[str], str, bool], Made]] = {
            "0": self._historic,
            "1": self._scan,
            "2": self._of_strip,
            "3": self._of_ketone_strip,
            "4": self._insulin,
            "5": self._food,
            "6": self._note,
        }
        """What makes the records of a row of each record type. It gets the row's cells, at least 19; how its
        records go on after their type, to the offset and a comma; and whether their time is in doubt."""

    def _historic(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        return self._value(cells, start, in_doubt, HISTORIC, self.sensor, '{"type":"cbg"')

    def _scan(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        return self._value(cells, start, in_doubt, SCAN, self.sensor, '{"type":"smbg","subType":"scanned"')

    def _of_strip(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        return self._value(cells, start, in_doubt, STRIP, self._strip, '{"type":"smbg","subType":"manual"')

    def _of_ketone_strip(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        return self._value(cells, start, in_doubt, KETONE, self._ketone, '{"type":"bloodKetone"')

    def _value(
        self, cells: Sequence[str], start: str, in_doubt: bool, column: int, values: Values, kind: str
    ) -> Made:
        """Make the record of a value, in whose row nothing stands right of it."""
        ends = values.ends(cells[column])
        if ends is None:
            return NOT_A_NUMBER
        if _is_number(cells[column + 1]):
            return SPLIT_DECIMAL
        return [f"{kind}{start}{self._with_notes(cells)}{ends[in_doubt]}"]

    def _insulin(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        """Make a record of each dose. The columns of a dose's shares are of a reader's calculator."""
        if any(cells[dose].strip() and _is_number(cells[dose + 1]) for dose in (RAPID, LONG)):
            return SPLIT_DECIMAL
        shares = [cells[column] for column in (MEAL, CORRECTION)]
        if len(cells) > self._columns and any(map(str.strip, [*shares, *cells[self._columns - 1 :]])):
            return SPLIT_DECIMAL
        records = []
        for column, acting in ((RAPID, "rapid"), (LONG, "long")):
            cell = cells[column].strip()
            if not cell:
                continue
            total = number_in(cell)
            if not total:
                return NOT_A_NUMBER
            dose = f'{{"total":{total},"units":"Units"'
            if column == RAPID:
                for name, share in zip(("food", "correction"), map(number_in, shares), strict=True):
                    dose += f',"{name}":{share}' if share else ""
            formulation = f'{{"simple":{{"actingType":"{acting}"}}}}'
            end = f'"dose":{dose}}},"formulation":{formulation}{_end(in_doubt)}'
            records.append(f'{{"type":"insulin"{start}{self._with_notes(cells)}{end}')
        return records or NO_AMOUNT

    def _food(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        """Make a record of grams; servings are of an unknown size."""
        cell = cells[GRAMS].strip()
        if not cell:
            return NO_AMOUNT
        if len(cells) > self._columns and _is_number(cells[SERVINGS]):
            return SPLIT_DECIMAL
        grams = number_in(cell)
        if not grams:
            return NOT_A_NUMBER
        nutrition = f'{{"carbohydrate":{{"net":{grams},"units":"grams"}}}}'
        end = f'"nutrition":{nutrition}{_end(in_doubt)}'
        return [f'{{"type":"food"{start}{self._with_notes(cells)}{end}']

    def _note(self, cells: Sequence[str], start: str, in_doubt: bool) -> Made:
        """Make a record of free text that is to be kept. What is empty or not kept has been counted."""
        notes = self._with_notes(cells)
        if len(cells[NOTES]) > NOTE_LENGTH_MAX * NOTES_MAX:
            return TOO_LARGE
        states = '"states":[{"state":"other","stateOther":"note"}]'
        return [f'{{"type":"reportedState"{start}{notes}{states}{_end(in_doubt)}']

    def skipped(self, cells: Sequence[str]) -> str:
        """Return why a row of the record type of notes is no record, empty if it is one.

        :param cells: of the row.
        """
        if not cells[NOTES].strip():
            return EMPTY_EVENT
        return "" if self._keep_notes else NOTE

    def _with_notes(self, cells: Sequence[str]) -> str:
        """Return the notes of a row as a member of its record, a comma after it; empty if there are none."""
        note = cells[NOTES].strip() if self._keep_notes else ""
        if not note:
            return ""
        pieces = [note[at : at + NOTE_LENGTH_MAX] for at in range(0, len(note), NOTE_LENGTH_MAX)]
        return f'"notes":{json.dumps(pieces[:NOTES_MAX])},'


def _end(in_doubt: bool) -> str:
    return f',"annotations":[{UNCERTAIN}]}}' if in_doubt else "}"


def _is_number(cell: str) -> bool:
    return bool(cell) and bool(number_in(cell))
