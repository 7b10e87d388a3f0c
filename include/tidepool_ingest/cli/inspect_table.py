"""A table without a mapping, as text for a terminal: its columns, and a draft of the mapping to copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tidepool_ingest.cli.terminal import DIM, GOOD, Sheet, columns_of, printable
from tidepool_ingest.inspection.findings import ColumnFound, UnmappedTable

if TYPE_CHECKING:
    from pydantic import JsonValue

WIDEST_NAME: Final = 40


def show_table(table: UnmappedTable, sheet: Sheet) -> None:
    """Write what a table holds, and what a mapping of it may be.

    :param table: the table.
    :param sheet: where it goes.
    """
    rows = f"{table.rows:,} row" if table.rows == 1 else f"{table.rows:,} rows"
    sheet.labelled("Rows", f"{rows}, {len(table.columns)} columns, no headings that a known format has")
    sheet.heading("Columns, what they hold, and what they seem to be")
    _show_columns(table.columns, sheet)
    if table.questions:
        sheet.heading("To find out", sheet.terminal.warning)
        for question in table.questions:
            sheet.item("?", printable(question), sheet.terminal.warning)
    if table.draft is None:
        sheet.blank()
        sheet.text("So there is no draft of a mapping. docs/formats.md (Tables) says how one is written.")
        return
    sheet.heading("Draft of a mapping")
    for line in json_lines(table.draft, sheet.terminal.width):
        sheet.raw(_escaped(line, sheet.terminal.can_show))


def _show_columns(columns: Sequence[ColumnFound], sheet: Sheet) -> None:
    terminal = sheet.terminal
    names = [terminal.encodable(printable(column.name)) or "(no name)" for column in columns]
    wide = min(WIDEST_NAME, max(map(columns_of, names)), terminal.width - 24)
    for name, column in zip(names, columns, strict=True):
        held = f"{column.holds.ljust(12)}  {column.meaning}".rstrip()
        style = GOOD if column.meaning else DIM
        if columns_of(name) > wide:
            sheet.text(name, indent=2)
            sheet.raw(" " * (wide + 4) + terminal.styled(held, style))
        else:
            sheet.raw(f"  {name}{' ' * (wide - columns_of(name))}  {terminal.styled(held, style)}")


def json_lines(value: JsonValue, width: int, indent: int = 0, before: str = "") -> list[str]:
    """Return JSON in lines: what fits into one stays in one.

    :param value: the value.
    :param width: columns of a line; a long text may take more.
    :param indent: blanks before the first line.
    :param before: a key with its colon, on the first line.
    """
    whole = _json(value)
    margin = " " * indent
    if columns_of(margin + before + whole) < width or not isinstance(value, dict | list) or not value:
        return [margin + before + whole]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    if isinstance(value, dict):
        members = [
            json_lines(member, width - 1, indent + 2, f"{_json(key)}: ") for key, member in value.items()
        ]
    else:
        members = [json_lines(member, width - 1, indent + 2) for member in value]
    lines = [margin + before + opening]
    for number, member in enumerate(members, 1):
        comma = "," if number < len(members) else ""
        lines += [*member[:-1], member[-1] + comma]
    return [*lines, margin + closing]


def _json(value: JsonValue) -> str:
    """Return JSON in one line, what cannot be printed escaped."""
    return _escaped(json.dumps(value, ensure_ascii=False), str.isprintable)


def _escaped(text: str, is_kept: Callable[[str], bool]) -> str:
    """Return JSON with some of its signs escaped, as JSON spells them."""
    return "".join(sign if is_kept(sign) else _spelt(sign) for sign in text)


def _spelt(sign: str) -> str:
    units = sign.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
