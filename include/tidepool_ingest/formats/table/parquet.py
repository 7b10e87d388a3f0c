"""Tables in Parquet: a batch of rows at a time, whatever the size of the file and of its row groups."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.reader import BLOCK_RECORDS
from tidepool_ingest.formats.table.columns import (
    HOUR_SECONDS,
    WITHIN_HOUR,
    Column,
    ColumnRows,
    Split,
    joined_lines,
    pieces_of,
    rests_of,
    split_counts,
)
from tidepool_ingest.formats.table.files import (
    TableFile,
    checked_rows,
    decimal_signs,
    library,
    offset_text,
    plain_stamp,
)
from tidepool_ingest.formats.table.mapping import TableMapping
from tidepool_ingest.local_times import timezone_names, zone_named
from tidepool_ingest.staging.compression import MAX_EXPANDED_BYTES, MAX_RATIO, RATIO_FROM_BYTES
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import PARQUET_MAGIC, SourceFile

"""Begins and ends such a file."""

_ROWS_READ: Final = 8 * BLOCK_RECORDS
_LINE_MAX: Final = 100_000
"""Bytes of a row up to which no cell of it can be too long."""
_READ_AHEAD_BYTES: Final = 256 * 1024
_METADATA_BYTES: Final = 64 * 1024 * 1024
"""Largest part of the metadata that is read: names and statistics of columns."""

_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS: Final = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_EPOCH: Final = datetime(1970, 1, 1)
_HOURS_KEPT: Final = 10_000

Texts = Callable[[Any], Any]
"""Returns the texts of a column: as Arrow's array of strings without nulls, or of different ones and where
they stand; as a list; or as a column that knows more."""


class ParquetTable(TableFile):
    """A Parquet file, of whatever compression inside."""

    place = "row"
    ending = "parquet"
    damaged = "Parquet that cannot be decoded, or is encrypted"

    def __init__(self, file: SourceFile, mapping: TableMapping) -> None:
        super().__init__(file, mapping)
        self._stack = ExitStack()
        self._arrow: Any = None
        self._opened: Any = None
        self._columns: list[Texts] = []

    def close(self) -> None:
        """Remove the copy that was read."""
        self._stack.close()
        self._opened = None

    def rows(self) -> Iterator[Rows]:
        """Yield all rows by their cells.

        :raises BatchError: as for :meth:`batches`.
        """
        for rows in self.batches():
            yield from pieces_of(rows)

    def batches(self) -> Iterator[Rows | ColumnRows]:
        """Yield all rows, by their columns where each could stand in a CSV without quotes.

        :raises BatchError: ``table-library``, ``file-truncated``, ``file-damaged`` or ``file-bomb``.
        """
        if self._opened is None:
            self._open()
        number = 1
        for batch in self._batches():
            if not self._columns:
                break
            with self.reading():
                columns = [
                    self._column(texts, column)
                    for texts, column in zip(self._columns, batch.columns, strict=True)
                ]
                found = self._plain(columns, batch.num_rows, number)
            if found is not None:
                yield found
            else:
                yield from self._slow(columns, number)
            number += batch.num_rows

    def _open(self) -> None:
        number = self.file.number
        self._arrow = library("pyarrow", "parquet", number)
        parquet = library("pyarrow.parquet", "parquet", number)
        self._arrow.compute = library("pyarrow.compute", "parquet", number)
        self._stack.close()
        copy = self._stack.enter_context(self.file.seekable())
        size = copy.seek(0, 2)
        copy.seek(max(0, size - len(PARQUET_MAGIC)))
        if copy.read() != PARQUET_MAGIC or size < 3 * len(PARQUET_MAGIC):
            raise BatchError("file-truncated", file_number=number)
        copy.seek(0)
        with self.reading():
            opened = parquet.ParquetFile(
                copy,
                buffer_size=_READ_AHEAD_BYTES,
                pre_buffer=False,
                thrift_string_size_limit=_METADATA_BYTES,
                page_checksum_verification=True,
            )
            metadata, schema = opened.metadata, opened.schema_arrow
            groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
            expanded = sum(group.total_byte_size for group in groups)
        if expanded > min(MAX_EXPANDED_BYTES, max(RATIO_FROM_BYTES, size * MAX_RATIO)):
            raise BatchError(
                "file-bomb", file_number=number, detail=f"its metadata say {expanded} bytes of {size}"
            )
        self._opened = opened
        with self.reading():
            self._see_columns(schema)

    def _see_columns(self, schema: Any) -> None:
        signs = decimal_signs(self.mapping)
        kinds = _Kinds(self._arrow)
        names, nested = [], set()
        for column in schema:
            texts = kinds.texts_of(column.type, signs.get(column.name.strip(), "."))
            if texts is None:
                nested.add(column.name.strip())
            else:
                names.append(column.name)
                self._columns.append(texts)
        self.names, self.nested = names, frozenset(nested)

    def _batches(self) -> Iterator[Any]:
        # Columns that no cell can show are not read; of the others even those that nobody names, because
        # rows that differ in one of them are not the same.
        with self.reading():
            batches = self._opened.iter_batches(
                _ROWS_READ, columns=self.names if self.nested else None, use_threads=False
            )
        while True:
            with self.reading():
                batch = next(batches, None)
                if batch is not None and batch.schema.names != self.names:
                    raise ValueError("two columns of one name beside nested ones")
            if batch is None:
                return
            yield batch

    def _column(self, texts: Texts, column: Any) -> Column:
        found = texts(column)
        if isinstance(found, list):
            return Column(self._arrow, self._arrow.array(found, self._arrow.string()))
        return found if isinstance(found, Column) else Column(self._arrow, found)

    def _plain(self, columns: list[Column], count: int, first: int) -> ColumnRows | None:
        """Return rows of which no cell needs quotes or is damaged, ``None`` if some are others."""
        arrow = self._arrow
        if len(columns) < 2 or not count:
            return None
        joined = arrow.compute.binary_join_element_wise(*(column.texts for column in columns), ",")
        if arrow.compute.max(arrow.compute.binary_length(joined)).as_py() > _LINE_MAX:
            return None
        data = joined_lines(arrow, joined)
        if (
            any(sign in data for sign in (b'"', b"\r", b"\0"))
            or data.count(b",") != count * (len(columns) - 1)
            or data.count(b"\n") != count - 1
        ):
            return None
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                return None
        return ColumnRows(arrow, columns, data, first, count, self.place)

    def _slow(self, columns: list[Column], first: int) -> Iterator[Rows]:
        with self.reading():
            binary = self._arrow.binary()
            lists = [
                [value.decode(errors="surrogateescape") for value in column.texts.cast(binary).to_pylist()]
                for column in columns
            ]
        cells = [list(row) for row in zip(*lists, strict=True)]
        for at in range(0, len(cells), BLOCK_RECORDS):
            some = cells[at : at + BLOCK_RECORDS]
            yield checked_rows(some, range(first + at, first + at + len(some)), self.place)


class _Kinds:
    """Knows for each type of column how its values become texts."""

    def __init__(self, arrow: Any) -> None:
        self._arrow = arrow

    def texts_of(self, kind: Any, decimal: str) -> Texts | None:
        """Return what makes texts of a type, ``None`` if its values fit into no cell.

        :param kind: Arrow's type.
        :param decimal: the sign before tenths.
        """
        types = self._arrow.types
        if types.is_dictionary(kind):
            return self._by_number(self.texts_of(kind.value_type, decimal))
        if isinstance(kind, self._arrow.BaseExtensionType):
            if kind.extension_name == "arrow.uuid":
                return lambda column: _uuids(column.storage.to_pylist())
            return _after(lambda column: column.storage, self.texts_of(kind.storage_type, decimal))
        if types.is_floating(kind) or types.is_decimal(kind):
            return self._numbers(kind, decimal)
        if types.is_temporal(kind) and not types.is_date(kind):
            return self._times(kind)
        if self._is(kind, "binary", "large_binary", "binary_view", "fixed_size_binary"):
            return self._of_bytes
        if types.is_integer(kind) and not types.is_uint64(kind):
            return self._whole
        texts = ("string", "large_string", "string_view", "date", "null", "integer", "boolean")
        return self._cast if self._is(kind, *texts) else None

    def _is(self, kind: Any, *names: str) -> bool:
        return any(getattr(self._arrow.types, f"is_{name}")(kind) for name in names)

    def _times(self, kind: Any) -> Texts | None:
        types = self._arrow.types
        if types.is_timestamp(kind):
            stamps = _Stamps(kind.unit, kind.tz)
            return lambda column: self._stamps(stamps, column.cast(self._arrow.int64()))
        if types.is_duration(kind):
            per_second = _PER_SECOND[kind.unit]
            return lambda column: [_duration(value, per_second) for value in self._integers(column)]
        if types.is_time(kind):
            return lambda column: [_time(text) for text in self._cast(column).to_pylist()]
        return None

    def _stamps(self, stamps: _Stamps, counts: Any) -> Column:
        arrow = self._arrow
        split = split_counts(arrow, counts, stamps.per_second)
        texts = None if split is None else stamps.texts(arrow, split)
        if texts is None:
            texts = arrow.array([stamps.text(value) for value in self._integers(counts)], arrow.string())
        return Column(arrow, texts, counts, stamps.per_second, stamps.hour)

    def _whole(self, column: Any) -> Column:
        return Column(self._arrow, self._cast(column), column.cast(self._arrow.int64()))

    def _by_number(self, texts: Texts | None) -> Texts | None:
        """Return texts of a dictionary, each of whose values is looked at once."""
        if texts is None:
            return None

        def of_dictionary(column: Any) -> Any:
            if len(column.dictionary) > len(column):
                column = column.dictionary_decode().dictionary_encode()
            return self._at(texts(column.dictionary), column.indices)

        return of_dictionary

    def _at(self, texts: Any, indices: Any) -> Any:
        """Return the texts at these places; where none is said, it is empty."""
        arrow = self._arrow
        if isinstance(texts, Column):
            texts = texts.texts
        elif isinstance(texts, list):
            texts = arrow.array(texts, arrow.string())
        elif arrow.types.is_dictionary(texts.type):
            texts = texts.dictionary_decode()
        whole = indices.cast(arrow.int32())
        if whole.null_count:
            whole = arrow.compute.fill_null(whole, len(texts))
            texts = arrow.concat_arrays([texts, arrow.array([""], arrow.string())])
        return arrow.DictionaryArray.from_arrays(whole, texts)

    def _by_value(self, column: Any, texts: Callable[[Any], list[str]]) -> Any:
        """Return texts of numbers, of which the same ones, bit by bit, are looked at once."""
        found = column.dictionary_encode(null_encoding="encode")
        return self._at(texts(found.dictionary), found.indices)

    def _cast(self, column: Any) -> Any:
        text = self._arrow.string()
        return self._arrow.compute.fill_null(column if column.type == text else column.cast(text), "")

    def _of_bytes(self, column: Any) -> Any:
        """Older programs write texts without saying that they are."""
        values = column.cast(self._arrow.binary())
        filled = self._arrow.compute.fill_null(values, b"")
        return self._arrow.Array.from_buffers(
            self._arrow.string(), len(filled), filled.buffers(), offset=filled.offset
        )

    def _integers(self, column: Any) -> Sequence[int | None]:
        whole = column.cast(self._arrow.int64())
        if whole.null_count:
            found: list[int | None] = whole.to_pylist()
            return found
        return self._native(whole, "q")

    def _native(self, column: Any, code: str) -> list[Any]:
        """Return numbers of 8 bytes, none of which is null: several times as fast as one by one."""
        values = memoryview(column.buffers()[1] or b"")
        numbers: Any = values.cast("q") if code == "q" else values.cast("d")
        found: list[Any] = numbers[column.offset : column.offset + len(column)].tolist()
        return found

    def _numbers(self, kind: Any, decimal: str) -> Texts:
        arrow = self._arrow

        def of_doubles(column: Any) -> list[str]:
            filled = arrow.compute.fill_null(column.view(arrow.float64()), float("nan"))
            texts = list(map(repr, self._native(filled, "d")))
            return ["" if text == "nan" else text for text in texts] if "nan" in texts else texts

        def of_floats(column: Any) -> list[str]:
            shortest = column.cast(arrow.string()).to_pylist()
            return ["" if text in (None, "nan") else repr(float(text)) for text in shortest]

        def of_decimals(column: Any) -> list[str]:
            return ["" if value is None else f"{Decimal(value):f}" for value in column.to_pylist()]

        def with_sign(texts: list[str]) -> list[str]:
            return texts if decimal == "." else [text.replace(".", decimal) for text in texts]

        if arrow.types.is_decimal(kind):
            return lambda column: self._by_value(column, lambda one: with_sign(of_decimals(one)))
        if arrow.types.is_float64(kind):
            bits = arrow.int64()
            return lambda column: self._by_value(column.view(bits), lambda one: with_sign(of_doubles(one)))
        singles = arrow.float32()
        return lambda column: self._by_value(
            column.cast(singles).view(arrow.int32()), lambda one: with_sign(of_floats(one.view(singles)))
        )


def _after(before: Callable[[Any], Any], texts: Texts | None) -> Texts | None:
    """Return texts of what is first made of a column, ``None`` if that has none."""
    return None if texts is None else lambda column: texts(before(column))


def _uuids(values: list[bytes | None]) -> list[str]:
    return ["" if value is None else str(uuid.UUID(bytes=value)) for value in values]


def _time(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _duration(value: int | None, per_second: int) -> str:
    return "" if value is None else f"PT{Decimal(value) / per_second:f}S"


class _Stamps:
    """Writes timestamps as ISO text; with the offset of their zone, if they have one.

    :param unit: of the count since 1970.
    :param zone: name of the zone, ``None`` for local times.
    """

    def __init__(self, unit: str, zone: str | None) -> None:
        self.per_second = _PER_SECOND[unit]
        self._per_hour = self.per_second * HOUR_SECONDS
        self._digits = _DIGITS[unit]
        self._zone = None if zone is None else _zone(zone)
        self._hours: dict[int, tuple[str, str] | None] = {}
        self._days: dict[int, str] = {}

    def text(self, value: int | None) -> str:
        """Return the text of a count, which is itself where no calendar has it."""
        if value is None:
            return ""
        number, rest = divmod(value, self._per_hour)
        hour = self.hour(number)
        second, part = divmod(rest, self.per_second)
        fraction = f".{part:0{self._digits}}".rstrip("0") if part else ""
        if hour is not None:
            return f"{hour[0]}{WITHIN_HOUR[second]}{fraction}{hour[1]}"
        at = self._local(number * HOUR_SECONDS + second)
        if at is None:
            return str(value)
        text = plain_stamp(at.replace(tzinfo=None))
        return f"{text}{fraction}{'' if self._zone is None else offset_text(at.utcoffset() or timedelta())}"

    def _local(self, seconds: int) -> datetime | None:
        try:
            at = _EPOCH + timedelta(seconds=seconds)
            if self._zone is None:
                return at
            local = at.replace(tzinfo=UTC).astimezone(self._zone)
            # Before time zones, offsets had seconds, which no offset in a text has.
            is_whole = not (local.utcoffset() or timedelta()) % timedelta(minutes=1)
            return local if is_whole else at.replace(tzinfo=UTC)
        except OverflowError:
            return None

    def texts(self, arrow: Any, split: Split) -> Any:
        """Return the texts of counts, ``None`` where they are not that simple.

        :param arrow: the library.
        :param split: the counts.
        """
        hours = [self.hour(number) for number in split.hours]
        if split.parts is not None or None in hours:
            return None
        starts = arrow.array([hour[0] for hour in hours if hour]).take(split.indices)
        ends = [hour[1] for hour in hours if hour]
        end = ends[0] if len(set(ends)) == 1 else arrow.array(ends).take(split.indices)
        texts = arrow.compute.binary_join_element_wise(starts, rests_of(arrow, split.seconds), end, "")
        return texts if split.valid is None else arrow.compute.if_else(split.valid, texts, "")

    def hour(self, number: int) -> tuple[str, str] | None:
        """Return how all times of an hour begin and end, ``None`` if it is not that simple.

        :param number: hours since 1970.
        """
        if self._zone is None:
            return self._plain_hour(number)
        try:
            return self._hours[number]
        except KeyError:
            return self._remember(number)

    def _plain_hour(self, number: int) -> tuple[str, str] | None:
        day, hour = divmod(number, 24)
        date = self._days.get(day)
        if date is None:
            local = self._local(number * HOUR_SECONDS)
            if local is None:
                return None
            if len(self._days) >= _HOURS_KEPT:
                self._days.clear()
            date = self._days[day] = local.date().isoformat()
        return f"{date}T{hour:02}", ""

    def _remember(self, number: int) -> tuple[str, str] | None:
        if len(self._hours) >= _HOURS_KEPT:
            self._hours.clear()
        first, last = self._local(number * HOUR_SECONDS), self._local((number + 1) * HOUR_SECONDS - 1)
        hour = None
        if first is not None and last is not None and first.minute == 0 and first.hour == last.hour:
            suffix = "" if self._zone is None else offset_text(first.utcoffset() or timedelta())
            if first.utcoffset() == last.utcoffset():
                hour = (first.replace(tzinfo=None).isoformat()[:13], suffix)
        self._hours[number] = hour
        return hour


@lru_cache(maxsize=100)
def _zone(name: str) -> tzinfo:
    """Return a zone by its name or offset; UTC where nobody knows it, which is the same instant."""
    sign, hours, minutes = name[:1], name[1:3], name[-2:]
    if sign in "+-" and hours.isdecimal() and minutes.isdecimal():
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    return zone_named(name) if name in timezone_names() else UTC
