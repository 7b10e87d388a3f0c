"""Plain text tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows under headings, columns of numbers to the right, ``None`` as a dash.

    :param headings: one a column.
    :param rows: as many cells each.
    """
    given = [tuple(row) for row in rows]
    columns = list(zip(headings, *given, strict=True))
    return "\n".join("  ".join(line).rstrip() for line in zip(*map(_column, columns), strict=True))


def _column(column: Sequence[object]) -> list[str]:
    """Return heading, rule and cells of one column, all of one width."""
    heading, *values = column
    cells = ["-" if value is None else str(value) for value in values]
    width = max(len(text) for text in (str(heading), *cells))
    to_right = bool(values) and all(value is None or isinstance(value, int) for value in values)
    align = str.rjust if to_right else str.ljust
    return [align(str(heading), width), "-" * width, *(align(cell, width) for cell in cells)]
