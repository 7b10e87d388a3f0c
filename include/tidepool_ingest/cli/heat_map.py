"""Coverage as a heat map in blocks: a column for each day, or some days, and two hours a line.

With colours, each half of a block is an hour of its own. Without them, a block stands for two hours. Where
the encoding has no blocks, letters of ASCII take their place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta, tzinfo
from itertools import groupby
from typing import Final

from tidepool_ingest.cli.terminal import DIM, Colours, Sheet, Terminal, columns_of
from tidepool_ingest.coverage import (
    HOURS,
    LEVELS,
    MORE_THAN_USUAL,
    Column,
    DayHours,
    Picture,
    level_of,
    picture_of,
)
from tidepool_ingest.texts import MONTHS

MARGIN: Final = 5
"""Columns to the left, with the hours."""

WIDEST_DAY: Final = 6

_COLOURS: Final = {
    Colours.ALL: (
        "",
        "38;2;140;144;156",
        "38;2;104;152;186",
        "38;2;48;160;196",
        "38;2;0;168;150",
        "38;2;236;126;52",
    ),
    Colours.MANY: ("", "38;5;245", "38;5;67", "38;5;38", "38;5;36", "38;5;208"),
    Colours.FEW: ("", "90", "34", "36", "32", "35"),
}
"""By level. Backgrounds may be dark or light: levels differ by how vivid they are, not by how bright."""

_SHADES: Final = " ░▒▓█!"
_LETTERS: Final = " .:+#!"
"""By level, without colours."""

_BOTH, _UPPER, _LOWER = "█", "▀", "▄"
_GAP: Final = "┊"


def day_text(day: date, *, with_year: bool = False) -> str:
    """Return a day as people write it.

    :param day: the day.
    :param with_year: whether to say the year.
    """
    text = f"{day.day} {MONTHS[day.month - 1][:3]}"
    return f"{text} {day.year}" if with_year else text


def draw(days: DayHours, sheet: Sheet, what: str, zone: tzinfo) -> None:
    """Draw the map, its labels and its legend; nothing where there are no days.

    :param days: numbers of records by day and hour.
    :param sheet: where it goes.
    :param what: what is counted, in the plural with ``s``, such as ``readings``.
    :param zone: the zone of these days.
    """
    terminal = sheet.terminal
    picture = picture_of(days, columns=terminal.width - MARGIN, zone=zone)
    if not picture.columns:
        return
    wide = max(1, min(WIDEST_DAY, (terminal.width - MARGIN) // len(picture.columns)))
    for hour in range(0, HOURS, 2):
        label = f"{hour:02}" if hour % 6 == 0 else ""
        margin = terminal.styled(label.rjust(MARGIN - 1), DIM) + " "
        sheet.raw(margin + "".join(_line(picture, hour, wide, terminal)).rstrip(" "))
    sheet.raw(" " * MARGIN + terminal.styled(_dates(picture.columns, wide, terminal.width - MARGIN), DIM))
    _draw_legend(picture, sheet, what)


def _line(picture: Picture, hour: int, wide: int, terminal: Terminal) -> Iterator[str]:
    cells = [cell for column in picture.columns for cell in _cells(column, picture, hour, wide, terminal)]
    for (sign, style), same in groupby(cells):
        yield terminal.styled(sign * len(list(same)), style)


def _cells(
    column: Column, picture: Picture, hour: int, wide: int, terminal: Terminal
) -> list[tuple[str, str]]:
    """Return the signs of two hours of a column, each with its style."""
    if column.is_gap:
        sign = _GAP if terminal.can_show(_GAP) else ":"
        return [(sign, DIM), *[(" ", "")] * (wide - 1)]
    return [_cell(column, picture, hour, terminal)] * wide


def _cell(column: Column, picture: Picture, hour: int, terminal: Terminal) -> tuple[str, str]:
    upper, lower = column.levels[hour], column.levels[hour + 1]
    if terminal.colours and terminal.can_show(_BOTH + _UPPER + _LOWER):
        colours = _COLOURS[terminal.colours]
        if upper == lower:
            return (_BOTH, colours[upper]) if upper else (" ", "")
        if not (upper and lower):
            return (_UPPER, colours[upper]) if upper else (_LOWER, colours[lower])
        return _UPPER, f"{colours[upper]};{_behind(colours[lower])}"
    both = level_of(column.hours[hour] + column.hours[hour + 1], picture.full_hour, days=2 * column.days)
    if MORE_THAN_USUAL in (upper, lower):
        both = MORE_THAN_USUAL
    if terminal.colours:
        return " ", _behind(_COLOURS[terminal.colours][both])
    return shades(terminal)[both], ""


def _behind(colour: str) -> str:
    """Return the style of a background in the colour of a text."""
    if colour.startswith("38"):
        return f"48{colour[2:]}"
    return str(int(colour) + 10) if colour else ""


def shades(terminal: Terminal) -> str:
    """Return the signs of the levels without colours.

    :param terminal: where they go.
    """
    return _SHADES if terminal.can_show(_SHADES) else _LETTERS


def _dates(columns: Sequence[Column], wide: int, room: int) -> str:
    """Return the line of dates below the map: the first day, and those after it that there is room for."""
    line = ""
    for at, text in _ticks(columns, wide):
        if (not line or at >= len(line) + 2) and at + len(text) <= room:
            line = line.ljust(at) + text
    return line


def _ticks(columns: Sequence[Column], wide: int) -> Iterator[tuple[int, str]]:
    """Yield where days are named, and how: beginnings of months, or of weeks, or each day."""
    whole = (columns[-1].last_day - columns[0].first_day).days + 1
    year = columns[0].first_day.year
    for number, column in enumerate(columns):
        if column.is_gap:
            continue
        shown = _named_day(column, number == 0 or columns[number - 1].is_gap, whole)
        if shown is not None:
            is_new_year = shown.year != year
            year = shown.year
            yield number * wide, day_text(shown, with_year=is_new_year)


def _named_day(column: Column, is_first: bool, whole: int) -> date | None:
    if is_first:
        return column.first_day
    for ahead in range(column.days):
        day = column.first_day + timedelta(days=ahead)
        is_named = day.day == 1 if whole > 62 else (day.weekday() == 0 or whole <= 7)
        if is_named:
            return day
    return None


def _draw_legend(picture: Picture, sheet: Sheet, what: str) -> None:
    terminal = sheet.terminal
    full = picture.full_hour
    levels = [level for level in LEVELS if 0 < level < MORE_THAN_USUAL]
    has_more = any(MORE_THAN_USUAL in column.levels for column in picture.columns)
    parts = [
        (_swatches(levels, terminal), f"up to {full:,} {what if full != 1 else what[:-1]} an hour"),
        *([(_swatches([MORE_THAN_USUAL], terminal), "more than usual")] if has_more else []),
    ]
    notes = ["blank: none"]
    if (together := picture.days_a_column) > 1:
        notes.append(f"one column is {together} days")
    if any(column.is_gap for column in picture.columns):
        notes.append(f"{_GAP if terminal.can_show(_GAP) else ':'} a long time without any")
    if picture.is_cut:
        notes.append("the oldest days are not shown")
    pieces = [(f"{swatch} {text}", columns_of(text) + 1 + len(levels)) for swatch, text in parts]
    pieces += [(note, columns_of(note)) for note in notes]
    line, taken = "", 0
    for piece, size in pieces:
        if line and taken + 2 + size > terminal.width - MARGIN:
            sheet.raw(" " * MARGIN + line)
            line, taken = "", 0
        line, taken = (f"{line}  {piece}", taken + 2 + size) if line else (piece, size)
    sheet.raw(" " * MARGIN + line)


def _swatches(levels: Sequence[int], terminal: Terminal) -> str:
    if not terminal.colours:
        return "".join(shades(terminal)[level] for level in levels)
    colours = _COLOURS[terminal.colours]
    if terminal.can_show(_BOTH):
        return "".join(terminal.styled(_BOTH, colours[level]) for level in levels)
    return "".join(terminal.styled(" ", _behind(colours[level])) for level in levels)
