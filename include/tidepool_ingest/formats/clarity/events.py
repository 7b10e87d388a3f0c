"""What the rows of a Clarity file say, by position: its words are translated, its columns never move."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.formats.delimited import (
    EMPTY_EVENT,
    EVENT_UNKNOWN,
    METADATA,
    NO_AMOUNT,
    NOT_A_NUMBER,
    NOTE,
    SPLIT_DECIMAL,
)
from tidepool_ingest.model.base import NOTE_LENGTH_MAX
from tidepool_ingest.model.glucose import MG_PER_DL_UNITS, MMOL_PER_L

STAMP, KIND, SUBTYPE, PERSON, DEVICE, SOURCE = range(1, 7)
GLUCOSE, INSULIN, CARBS, DURATION, RATE, COUNT, TRANSMITTER = range(7, 14)

COLUMNS_MIN: Final = RATE + 1
COLUMNS_MAX: Final = TRANSMITTER + 1

MG_PER_DL: Final = MG_PER_DL_UNITS[0]

SAMPLE_INTERVAL_MS: Final = 5 * 60 * 1000
"""Milliseconds from one reading of a Dexcom sensor to the next."""

_NUMBER: Final = re.compile(r"(-?)0*([0-9]+)(?:[.,]([0-9]+))?|(-?)[.,]([0-9]+)")
_DIGITS_MAX: Final = 40
_DURATION: Final = re.compile(r"([0-9]{1,3}):([0-5]?[0-9]):([0-5]?[0-9])")
_LETTERS: Final = re.compile(r"[\W_]+")


class Kind(Enum):
    """What a row with a stamp is."""

    READING = auto()
    CALIBRATION = auto()
    INSULIN = auto()
    CARBS = auto()
    ACTIVITY = auto()
    HEALTH = auto()
    METER = auto()
    NOTES = auto()
    SETTING = auto()


_KIND_WORDS: Final = {
    Kind.READING: "egv",
    Kind.CALIBRATION: "calibration kalibrierung",
    Kind.INSULIN: "insulin",
    Kind.CARBS: "carbs kohlenhydrate kohlenh",
    Kind.ACTIVITY: "exercise activity training sport aktivität bewegung",
    Kind.HEALTH: "health gesundheit",
    Kind.METER: "fastingglucose nüchternglukose nüchternblutzucker",
    Kind.NOTES: "note notes notiz notizen",
    Kind.SETTING: "alert device sensor warnung gerät",
}
"""How Clarity writes each kind in English and German, in small letters without blanks and hyphens. Alerts,
devices and sensors are settings, whether they have a stamp or not."""

KINDS: Final = {word: kind for kind, words in _KIND_WORDS.items() for word in words.split()}

_ACTING: Final = {
    "": "",
    "fastacting": "rapid",
    "schnellwirkend": "rapid",
    "schnellwirkendes": "rapid",
    "longacting": "long",
    "langwirkend": "long",
    "langwirkendes": "long",
}
_INTENSITIES: Final = {
    "": "",
    "light": "low",
    "leicht": "low",
    "medium": "medium",
    "mittel": "medium",
    "heavy": "high",
    "schwer": "high",
    "intensiv": "high",
}
_STATES: Final = {
    "alcohol": "alcohol",
    "alkohol": "alcohol",
    "cycle": "cycle",
    "zyklus": "cycle",
    "illness": "illness",
    "krankheit": "illness",
    "lowsymptoms": "hypoglycemiaSymptoms",
    "highsymptoms": "hyperglycemiaSymptoms",
    "stress": "stress",
}

_LOW_WORDS: Final = "low lo niedrig tief bas faible bajo baja basso bassa laag låg lågt lav lavt baixo matala"
_HIGH_WORDS: Final = "high hi hoch élevé élevée haut alto alta hoog hög högt høj højt høy høyt elevado korkea"


class RefusedRowError(Exception):
    """A row gives no record.

    :param code: why.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Event(NamedTuple):
    """What a row says besides its time.

    :param name: type, and what else distinguishes it from others of the same minute; of no content.
    :param kind: the record's type, as JSON.
    :param fields: those of its type, as JSON members with a comma before each.
    :param annotation: what is remarkable about it, one JSON object; may be empty.
    """

    name: str
    kind: str
    fields: str
    annotation: str = ""


def number(cell: str) -> str:
    """Return a number of a cell as JSON has it, with the cell's own digits.

    :param cell: with a decimal point or comma.
    :raises RefusedRowError: it is none.
    """
    text = cell.strip()
    match = _NUMBER.fullmatch(text) if len(text) <= _DIGITS_MAX else None
    if match is None:
        raise RefusedRowError(NOT_A_NUMBER)
    sign, whole, part, other_sign, only_part = match.groups()
    if whole is None:
        return f"{other_sign}0.{only_part}"
    return f"{sign}{whole}.{part}" if part else f"{sign}{whole}"


def word(cell: str) -> str:
    """Return a word of a cell without what differs from one export to the next."""
    return _LETTERS.sub("", cell).lower()


def is_note(cells: Sequence[str]) -> bool:
    """Return whether a row is a note, whose text alone may have several lines."""
    return (
        COLUMNS_MIN <= len(cells) <= COLUMNS_MAX
        and KINDS.get(word(cells[KIND])) is Kind.NOTES
        and not any("\n" in cell for index, cell in enumerate(cells) if index not in (SUBTYPE, PERSON))
    )


class Glucose:
    """Reads glucose values in the unit of a file's header.

    :param units: ``mg/dL`` or ``mmol/L``.
    """

    def __init__(self, units: str) -> None:
        self.units = units
        low, low_bound, high, high_bound = (
            ("2.2", "2.2", "22.3", "22.2") if units == MMOL_PER_L else ("39", "40", "401", "400")
        )
        self._words = {
            **dict.fromkeys(_LOW_WORDS.split(), (low, _out_of_range("low", low_bound))),
            **dict.fromkeys(_HIGH_WORDS.split(), (high, _out_of_range("high", high_bound))),
        }

    def value(self, cell: str) -> tuple[str, str]:
        """Return unit and value as JSON members with a comma before each, and the annotation.

        :param cell: a number, or a word for what is below or above what a sensor shows.
        :raises RefusedRowError: it is neither.
        """
        if not cell or cell.isspace():
            raise RefusedRowError(NO_AMOUNT)
        value, annotation = self._words.get(cell.strip().lower()) or (number(cell), "")
        return f',"units":"{self.units}","value":{value}', annotation


def _out_of_range(side: str, bound: str) -> str:
    return f'{{"code":"bg/out-of-range","value":"{side}","threshold":{bound}}}'


def read(kind: Kind, cells: Sequence[str], glucose: Glucose, *, keep_notes: bool) -> Event | str:
    """Return what a row says that is no sensor reading, or the reason why it is counted only.

    :param kind: what it is.
    :param cells: the row's, at least up to ``RATE``.
    :param glucose: reads glucose values.
    :param keep_notes: whether free text becomes records.
    :raises RefusedRowError: it gives no record.
    """
    if kind is Kind.SETTING:
        return METADATA
    if kind is Kind.NOTES:
        text = next((cell.strip() for cell in (cells[SUBTYPE], cells[PERSON]) if cell.strip()), "")
        if not text:
            return EMPTY_EVENT
        return _note(text) if keep_notes else NOTE
    if kind is Kind.HEALTH:
        state = _known(_STATES, cells[SUBTYPE])
        fields = f',"states":[{{"state":"{state}"}}]'
        return Event(f"reportedState:{state}", "reportedState", fields)
    if kind is Kind.ACTIVITY:
        return _activity(cells)
    if kind is Kind.INSULIN:
        acting = _known(_ACTING, cells[SUBTYPE])
        dose = _amount(cells, INSULIN)
        formulation = f',"formulation":{{"simple":{{"actingType":"{acting}"}}}}' if acting else ""
        fields = f',"dose":{{"units":"Units","total":{dose}}}{formulation}'
        return Event(f"insulin:{acting}", "insulin", fields)
    if kind is Kind.CARBS:
        carbs = _amount(cells, CARBS)
        fields = f',"nutrition":{{"carbohydrate":{{"units":"grams","net":{carbs}}}}}'
        return Event("food:", "food", fields)
    if cells[INSULIN].strip():
        raise RefusedRowError(SPLIT_DECIMAL)
    value, annotation = glucose.value(cells[GLUCOSE])
    if kind is Kind.METER:
        return Event("smbg:manual", "smbg", f',"subType":"manual"{value}', annotation)
    return Event("deviceEvent:calibration", "deviceEvent", f',"subType":"calibration"{value}', annotation)


def _known(words: dict[str, str], cell: str) -> str:
    found = words.get(word(cell))
    if found is None:
        raise RefusedRowError(EVENT_UNKNOWN)
    return found


def _amount(cells: Sequence[str], column: int) -> str:
    """Return a dose or an amount; to its right there is nothing, unless a decimal comma was cut in two."""
    if cells[column + 1].strip():
        raise RefusedRowError(SPLIT_DECIMAL)
    if not cells[column].strip():
        raise RefusedRowError(NO_AMOUNT)
    return number(cells[column])


def _activity(cells: Sequence[str]) -> Event:
    intensity = _known(_INTENSITIES, cells[SUBTYPE])
    fields = f',"reportedIntensity":"{intensity}"' if intensity else ""
    if text := cells[DURATION].strip():
        match = _DURATION.fullmatch(text)
        if match is None:
            raise RefusedRowError(NOT_A_NUMBER)
        hours, minutes, seconds = map(int, match.groups())
        fields += f',"duration":{{"units":"seconds","value":{hours * 3600 + minutes * 60 + seconds}}}'
    return Event(f"physicalActivity:{intensity}", "physicalActivity", fields)


def _note(text: str) -> Event:
    """Return a note whole, in as many pieces as the Platform needs."""
    pieces = [text[at : at + NOTE_LENGTH_MAX] for at in range(0, len(text), NOTE_LENGTH_MAX)]
    notes = dumps(pieces)
    return Event(
        "reportedState:other",
        "reportedState",
        f',"states":[{{"state":"other","stateOther":"note"}}],"notes":{notes}',
    )
