"""Rows whose columns lie together, as in Parquet: what is the same in many rows is looked at once.

A column knows its different texts, and where each stands; one of times knows the hours that it is in. What
rows mean is not known here (:mod:`~tidepool_ingest.formats.table.column_pass`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from tidepool_ingest.formats.delimited import Rows
from tidepool_ingest.formats.reader import BLOCK_RECORDS
from tidepool_ingest.formats.table.stamps import AFTER_HOUR, StampFormat
from tidepool_ingest.local_times import HOUR

Array: TypeAlias = Any
"""One of Arrow's, whose library is imported only where such a file is read."""

HOUR_SECONDS: Final = 3600
LAST_SECOND: Final = ":59:59"
_LAST_MINUTE: Final = ":59:00"
_COUNTS_END: Final = 250_000_000_000
"""Seconds since 1970 up to which a calendar goes for certain: the year 9892."""

WITHIN_HOUR: Final = tuple(f":{second // 60:02}:{second % 60:02}" for second in range(HOUR_SECONDS))
_THOUSANDTHS: Final = ("", *(f".{part:03}" for part in range(1, 1000)))
_BETWEEN: Final = "\x1f"
_COUNTED: Final = {"epoch-s": 1, "epoch-ms": 1000}


class Split(NamedTuple):
    """Counts since 1970, cut into hours.

    :param hours: the different ones.
    :param indices: for each row, which of them.
    :param seconds: for each row, which second of its hour.
    :param parts: for each row, how many units after that; ``None`` if all are whole seconds.
    :param valid: for each row, whether it has a count at all; ``None`` if all have.
    """

    hours: list[int]
    indices: Array
    seconds: Array
    parts: Array | None
    valid: Array | None


class Clock(NamedTuple):
    """The times of some rows by their hours.

    :param starts: of each hour, the text of its first second.
    :param ends: the same of the last second, or minute, that such texts can show.
    :param end: what is after the hour in the latter, in seconds.
    :param indices: for each row, which hour.
    :param rests: for each row, ``:mm:ss``.
    :param fractions: for each row, thousandths with their point; ``None`` if there are none.
    :param valid: for each row, whether this is what its text says; ``None`` if it is of all.
    """

    starts: list[str]
    ends: list[str]
    end: str
    indices: Array
    rests: Array
    fractions: Array | None
    valid: Array | None


HourTexts: TypeAlias = Callable[[int], "tuple[str, str] | None"]
"""Returns how all times of an hour since 1970 begin and end, ``None`` if that is not the same for all."""


class Column:
    """One column of some rows.

    :param arrow: the library.
    :param texts: an array of texts, one a row; or of different ones and where they stand. None is null.
    :param counts: an array of whole numbers, where it is one, or of counts since 1970.
    :param per_second: how many of these a second has; ``None`` for other numbers.
    :param hour_texts: for counts whose texts are ISO.
    """

    def __init__(
        self,
        arrow: Any,
        texts: Array,
        counts: Array | None = None,
        per_second: int | None = None,
        hour_texts: HourTexts | None = None,
    ) -> None:
        self._arrow = arrow
        self._texts = texts
        self._counts = counts
        self._per_second = per_second
        self._hour_texts = hour_texts

    @cached_property
    def texts(self) -> Array:
        """The text of each row."""
        is_distinct = self._arrow.types.is_dictionary(self._texts.type)
        return self._texts.dictionary_decode() if is_distinct else self._texts

    @cached_property
    def distinct(self) -> tuple[list[str], Array]:
        """The different texts, and for each row which of them."""
        found = self._texts
        if not self._arrow.types.is_dictionary(found.type) or len(found.dictionary) > len(found):
            found = self.texts.dictionary_encode()
        return found.dictionary.to_pylist(), found.indices

    def clock(self, form: StampFormat, written: str) -> Clock | None:
        """Return the times of the column, ``None`` if nothing is known of all of them.

        :param form: how they are read.
        :param written: the same as the mapping says it.
        """
        if self._counts is not None:
            if written == "iso" and self._hour_texts is not None and self._per_second is not None:
                return self._clock_of_counts(self._hour_texts, self._per_second)
            if written in _COUNTED and self._hour_texts is None:
                return self._clock_of_counts(None, _COUNTED[written])
        return clock_of_texts(self._arrow, self.texts, form, written)

    def _clock_of_counts(self, hour_texts: HourTexts | None, per_second: int) -> Clock | None:
        split = split_counts(self._arrow, self._counts, per_second)
        if split is None:
            return None
        arrow, starts, ends = self._arrow, [], []
        for hour in split.hours:
            if hour_texts is None:
                first = hour * HOUR_SECONDS * per_second
                starts.append(str(first))
                ends.append(str(first + (HOUR_SECONDS - 1) * per_second))
                continue
            start, end = hour_texts(hour) or ("", "")
            starts.append(f"{start}{WITHIN_HOUR[0]}{end}")
            ends.append(f"{start}{LAST_SECOND}{end}")
        fractions = None
        if split.parts is not None:
            parts = arrow.compute.divide(arrow.compute.multiply(split.parts, 1000), per_second)
            fractions = arrow.array(_THOUSANDTHS).take(parts)
        rests = rests_of(arrow, split.seconds)
        return Clock(starts, ends, LAST_SECOND, split.indices, rests, fractions, split.valid)


def split_counts(arrow: Any, counts: Array, per_second: int) -> Split | None:
    """Cut counts since 1970 into hours, ``None`` if some are of no such hour, or none is there.

    :param arrow: the library.
    :param counts: whole numbers of 64 bits.
    :param per_second: how many a second has.
    """
    compute, valid = arrow.compute, None
    bounds = compute.min_max(counts)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or low < 0 or high >= _COUNTS_END * per_second:
        return None
    if counts.null_count:
        valid, counts = counts.is_valid(), compute.fill_null(counts, low)
    hours = compute.divide(counts, HOUR_SECONDS * per_second)
    rest = compute.subtract(counts, compute.multiply(hours, HOUR_SECONDS * per_second))
    seconds, parts = rest, None
    if per_second > 1:
        seconds = compute.divide(rest, per_second)
        parts = compute.subtract(rest, compute.multiply(seconds, per_second))
        if not compute.max(parts).as_py():
            parts = None
    found = hours.dictionary_encode()
    return Split(found.dictionary.to_pylist(), found.indices, seconds, parts, valid)


def joined_lines(arrow: Any, texts: Array) -> bytes:
    """Return texts as lines.

    :param arrow: the library.
    :param texts: at least one.
    """
    lists = arrow.ListArray.from_arrays(arrow.array([0, len(texts)], arrow.int32()), texts)
    joined: bytes = arrow.compute.binary_join(lists, "\n").buffers()[2].to_pybytes()
    return joined


def rests_of(arrow: Any, seconds: Array) -> Array:
    """Return seconds of an hour as ``:mm:ss``.

    :param arrow: the library.
    :param seconds: whole numbers.
    """
    return _after_hour(arrow, len(LAST_SECOND)).take(seconds)


def clock_of_texts(arrow: Any, texts: Array, form: StampFormat, written: str) -> Clock | None:
    """Return the times of texts in which nothing but minutes and seconds comes after the hour.

    :param arrow: the library.
    :param texts: of each row.
    :param form: how they are read.
    :param written: the same as the mapping says it; in ISO times, an offset may follow.
    """
    after = form.after_hour
    if not after:
        return None
    compute = arrow.compute
    if written == "iso":
        return _clock_of_iso(arrow, texts)
    hours = compute.utf8_slice_codeunits(texts, 0, -after).dictionary_encode()
    rests = compute.utf8_slice_codeunits(texts, -after)
    valid = _is_after_hour(arrow, rests, after)
    if form.seconds:
        rests = compute.binary_join_element_wise(rests, form.seconds, "")
    end = _LAST_MINUTE if form.seconds else LAST_SECOND
    begins = hours.dictionary.to_pylist()
    return Clock(
        [f"{begin}{WITHIN_HOUR[0][:after]}" for begin in begins],
        [f"{begin}{end[:after]}" for begin in begins],
        end,
        hours.indices,
        rests,
        None,
        valid,
    )


def _clock_of_iso(arrow: Any, texts: Array) -> Clock:
    compute = arrow.compute
    hours = compute.utf8_slice_codeunits(texts, 0, HOUR)
    rests = compute.utf8_slice_codeunits(texts, HOUR, HOUR + len(LAST_SECOND))
    ends = compute.utf8_slice_codeunits(texts, HOUR + len(LAST_SECOND))
    found = compute.binary_join_element_wise(hours, ends, _BETWEEN).dictionary_encode()
    parts = [text.split(_BETWEEN) for text in found.dictionary.to_pylist()]
    return Clock(
        [WITHIN_HOUR[0].join(part) for part in parts],
        [LAST_SECOND.join(part) for part in parts],
        LAST_SECOND,
        found.indices,
        rests,
        None,
        _is_after_hour(arrow, rests, len(LAST_SECOND)),
    )


def _is_after_hour(arrow: Any, rests: Array, length: int) -> Array:
    return arrow.compute.is_in(rests, value_set=_after_hour(arrow, length))


@lru_cache(maxsize=4)
def _after_hour(arrow: Any, length: int) -> Array:
    if length == len(LAST_SECOND):
        return arrow.array(WITHIN_HOUR)
    return arrow.array(sorted(rest for rest in AFTER_HOUR if len(rest) == length))


class ColumnRows:
    """Some consecutive rows of which no cell needs quotes in a CSV, nor is damaged.

    It is read column by column, or as the same :class:`~tidepool_ingest.formats.delimited.Rows`.

    :param arrow: the library.
    :param columns: the columns.
    :param data: the rows as lines of CSV.
    :param first: number of the first row.
    :param count: how many there are.
    :param place: what a person calls their numbers.
    """

    def __init__(
        self, arrow: Any, columns: Sequence[Column], data: bytes, first: int, count: int, place: str
    ) -> None:
        self.arrow = arrow
        self.columns = columns
        self.place = place
        self._data = data
        self._first = first
        self._count = count

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    @property
    def lines(self) -> range:
        """The number of each row."""
        return range(self._first, self._first + self._count)

    @property
    def everything(self) -> Array:
        """An array that chooses all of them."""
        return self.arrow.array([True] * self._count)

    @cached_property
    def texts(self) -> list[bytes]:
        """Each row as a line of CSV."""
        return self._data.split(b"\n")

    def cells_of(self, index: int) -> list[str]:
        """Return the cells of one row.

        :param index: which one, from 0.
        """
        return self.texts[index].decode().split(",")

    def clock(self, at: Sequence[int], form: StampFormat, written: str) -> Clock | None:
        """Return the times of the rows, ``None`` if nothing is known of all of them.

        :param at: numbers of the columns that they are in.
        :param form: how they are read.
        :param written: the same as the mapping says it.
        """
        if len(at) == 1:
            return self.columns[at[0]].clock(form, written)
        texts = self.arrow.compute.binary_join_element_wise(*(self.columns[one].texts for one in at), " ")
        return clock_of_texts(self.arrow, texts, form, written)

    def pieces(self) -> Iterator[Rows]:
        """Yield the same rows by their cells, some at a time."""
        lines = self._data.decode().split("\n")
        for at in range(0, self._count, BLOCK_RECORDS):
            end = min(at + BLOCK_RECORDS, self._count)
            cells = [line.split(",") for line in lines[at:end]]
            numbers = list(range(self._first + at, self._first + end))
            yield Rows(cells, self.texts[at:end], numbers, place=self.place)


def pieces_of(rows: Rows | ColumnRows) -> Iterator[Rows]:
    """Yield rows by their cells, some at a time.

    :param rows: the rows.
    """
    if isinstance(rows, ColumnRows):
        yield from rows.pieces()
    else:
        yield rows
