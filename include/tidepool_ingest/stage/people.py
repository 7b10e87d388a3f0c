"""Splitting one table with the rows of several people into tables of one person and device each.

The table is read once. What it has of each person is compressed in private local files, in bounded memory and
with none of them held open; each is then staged as an export of that person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tidepool_ingest.formats.delimited import DelimitedText, Rows
from tidepool_ingest.formats.table import TableReader, mapping_of, open_table
from tidepool_ingest.formats.table.files import TableFile
from tidepool_ingest.formats.table.mapping import TableMapping
from tidepool_ingest.privacy import is_user_id
from tidepool_ingest.stage import SPOOL_BYTES, Output
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN, StoragePath

if TYPE_CHECKING:
    from pydantic import JsonValue

MAX_PEOPLE: Final = 10_000
"""Most people in one file, and most ids in it that are nobody's; more mean that a column is another one."""

SPOOL_TOTAL_BYTES: Final = 16 * 1024**2
"""Text of all people gathered before it is compressed: short rows take three times as much."""

MAX_PARTS: Final = 20_000
"""Most people and devices together."""


@dataclass(frozen=True)
class Person:
    """What a table has of one person and device, as a table of its own.

    :param study_id: who it is in the table.
    :param user_id: who it is at Tidepool.
    :param path: the table.
    :param rows: how many rows it has.
    """

    study_id: str = field(repr=False)
    user_id: str = field(repr=False)
    path: Path = field(repr=False)
    rows: int


@dataclass(frozen=True)
class People:
    """A table, split.

    :param parts: what it has of each person and device, in order of appearance.
    :param mapping: how each part is to be read, as JSON has it.
    :param strangers: rows of people whose Tidepool user is not known, by their id in the table.
    :param without_id: rows whose person or device nobody can tell, by what is wrong with them.
    :param absent: people that are known and have no row.
    :param rows: how many rows the table has.
    """

    parts: Sequence[Person]
    mapping: Mapping[str, JsonValue] = field(repr=False)
    strangers: Counter[str] = field(repr=False)
    without_id: Counter[str]
    absent: Sequence[str] = field(repr=False)
    rows: int


def read_users(path: StoragePath) -> dict[str, str]:
    """Read who is who: two columns below their names, the id in the table and the Tidepool user.

    :param path: a CSV.
    :raises BatchError: ``stage-users``, saying in which line; or the file cannot be read.
    """
    users: dict[str, str] = {}
    names: tuple[str, str] | None = None
    for study_id, user_id, line in _pairs(path):
        if names is None:
            if is_user_id(user_id):
                _refuse(line, "the first row has to be the names of the columns, and holds a user")
            names = study_id, user_id
            continue
        if not is_user_id(user_id):
            _refuse(line, "its second cell is no Tidepool user id: 10 hex digits or a UUID")
        if study_id in users:
            _refuse(line, "its first cell is there twice")
        users[study_id] = user_id
        if len(users) > MAX_PEOPLE:
            _refuse(line, f"there are more than {MAX_PEOPLE} people")
    seen = Counter(user_id.lower() for user_id in users.values())
    if twice := sum(count > 1 for count in seen.values()):
        detail = f"{twice} Tidepool users are there twice, and two people cannot be one"
        raise BatchError("stage-users", detail=detail)
    if not users:
        raise BatchError("stage-users", detail="it names nobody")
    return users


def _pairs(path: StoragePath) -> Iterator[tuple[str, str, int]]:
    for rows in DelimitedText(SourceFile(path, TableReader.name, below_root=GIVEN)).rows():
        for line, *_ in rows.rejected:
            _refuse(line, "it cannot be read")
        for row, line in zip(rows.cells, rows.lines, strict=True):
            cells = [cell.strip() for cell in row]
            if len(cells) != 2 or not all(cells):
                _refuse(line, "it has not two cells, the id in the table and the Tidepool user")
            yield cells[0], cells[1], line


def _refuse(line: int, problem: str) -> NoReturn:
    raise BatchError("stage-users", detail=f"line {line}: {problem}")


def split(
    source: StoragePath,
    raw: Mapping[str, JsonValue],
    split_by: Sequence[str],
    users: Mapping[str, str],
    folder: Path,
) -> People:
    """Split a table into one for each person and device.

    :param source: the table, of whatever kind.
    :param raw: its mapping, as JSON has it.
    :param split_by: the column that tells people apart, and perhaps the one that tells devices apart, which
        is that of the mapping's ``deviceId``, and counts even if it is left out here.
    :param users: Tidepool users by the ids in that column.
    :param folder: a private local folder.
    :raises BatchError: the table cannot be read, or has no such columns.
    """
    mapping = mapping_of(dict(raw))
    table = open_table(SourceFile(source, TableReader.name, below_root=GIVEN), mapping)
    try:
        splitting = _Splitting(table, mapping, split_by, users, folder)
        for rows in table.rows():
            splitting.add(rows)
        return splitting.finish(raw)
    finally:
        table.close()


class _Splitting:
    """Takes the rows of a table, each once."""

    def __init__(
        self,
        table: TableFile,
        mapping: TableMapping,
        split_by: Sequence[str],
        users: Mapping[str, str],
        folder: Path,
    ) -> None:
        self._table = table
        self._users = users
        self._folder = folder
        self._columns = _columns_of(mapping, split_by)
        self._indexes: tuple[int, ...] = ()
        self._width = 0
        self._outputs: dict[tuple[str, ...], Output] = {}
        self._waiting_bytes = 0
        self._strangers: Counter[str] = Counter()
        self._without_id: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Take some rows."""
        if not self._indexes:
            self._bind()
        self._rows += len(rows)
        for line, *_ in rows.rejected:
            self._leave_out("cannot be read", line)
        person = self._indexes[0]
        for cells, text, line in zip(rows.cells, rows.texts, rows.lines, strict=True):
            if not self._width >= len(cells) > max(self._indexes):
                self._leave_out("do not have as many cells as the header", line)
                continue
            key = tuple([cells[at].strip() for at in self._indexes])
            if not all(key):
                which = "person" if not cells[person].strip() else "device"
                self._leave_out(f"do not say whose they are: the cell of the {which} is empty", line)
            elif key[0] not in self._users:
                self._strangers[key[0]] += 1
                if len(self._strangers) > MAX_PEOPLE:
                    detail = f"the column of people has more than {MAX_PEOPLE} ids without a user"
                    raise BatchError("stage-arguments", detail=detail)
            else:
                self._keep(key, text)
        if self._waiting_bytes >= SPOOL_TOTAL_BYTES:
            for output in self._outputs.values():
                output.flush()
            self._waiting_bytes = 0

    def finish(self, raw: Mapping[str, JsonValue]) -> People:
        """Return what there is of each person."""
        for output in self._outputs.values():
            output.flush()
        parts = [
            Person(key[0], self._users[key[0]], output.path, output.records)
            for key, output in self._outputs.items()
        ]
        if not self._rows:
            raise BatchError("file-empty")
        have = {key[0] for key in self._outputs}
        place = self._table.place
        without_id = {
            f"{what} (the first is {place} {self._first[what]})": n for what, n in self._without_id.items()
        }
        return People(
            parts,
            _mapping_of_parts(raw, self._table.delimiter),
            self._strangers,
            Counter(without_id),
            [study_id for study_id in self._users if study_id not in have],
            self._rows,
        )

    def _bind(self) -> None:
        names = [name.strip() for name in self._table.names or ()]
        for column in self._columns:
            if names.count(column) != 1:
                found = "twice" if column in names else "not"
                detail = f"a column of --split-by is {found} in the header of the table"
                raise BatchError("stage-arguments", detail=detail)
        self._indexes = tuple(names.index(column) for column in self._columns)
        self._width = len(names)

    def _leave_out(self, what: str, line: int) -> None:
        self._without_id[what] += 1
        self._first.setdefault(what, line)

    def _keep(self, key: tuple[str, ...], text: bytes) -> None:
        output = self._outputs.get(key)
        if output is None:
            if len(self._outputs) >= MAX_PARTS:
                raise BatchError("stage-too-many-devices")
            path = self._folder / f"{len(self._outputs)}.csv.gz"
            output = self._outputs[key] = Output(path, "", TableReader.name)
            output.buffered.append(self._table.header_text)
        output.add(text)
        self._waiting_bytes += len(text)
        if output.buffered_bytes >= SPOOL_BYTES:
            self._waiting_bytes -= output.buffered_bytes
            output.flush()


def _columns_of(mapping: TableMapping, split_by: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that tell people and devices apart.

    :raises BatchError: ``stage-arguments``.
    """
    columns = [column.strip() for column in split_by]
    device = None if mapping.device is None else mapping.device.column
    if not columns[0] or len(columns) > 2:
        _reject_columns("takes the column of people, and at most that of devices: PtID,Serial")
    if len(columns) == 2 and columns[1] != device:
        _reject_columns("names as second column another one than `deviceId` of the mapping does")
    if columns[0] == device:
        _reject_columns("names the column of devices as that of people")
    return (columns[0],) if device is None else (columns[0], device)


def _reject_columns(problem: str) -> NoReturn:
    raise BatchError("stage-arguments", detail=f"--split-by {problem}")


def _mapping_of_parts(raw: Mapping[str, JsonValue], delimiter: str) -> dict[str, Any]:
    """Return the mapping for the parts: the same, but that they are UTF-8, and begin with their header."""
    layout = raw.get("csv")
    kept = (
        {name: value for name, value in layout.items() if name == "decimal"}
        if isinstance(layout, dict)
        else {}
    )
    return {**raw, "csv": {**kept, "delimiter": delimiter}}
