"""Rows by their columns: what each is, and its records, as many at once as are as simple as others.

What this way cannot vouch for goes the way of single rows, a row or a block of them: it is the one that says
what a row means, and the records are the same, byte for byte.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from typing import Any, Final, NamedTuple

from tidepool_ingest.formats.delimited import DUPLICATE_ROW
from tidepool_ingest.formats.reader import BLOCK_RECORDS, Block, RejectedRow
from tidepool_ingest.formats.row_counts import OTHER_DEVICE
from tidepool_ingest.formats.table.cells import Cells, RefusedError, RuleParts, Test, origin_id
from tidepool_ingest.formats.table.column_hours import Hour, Hours, known_times, last_time
from tidepool_ingest.formats.table.columns import Array, Clock, ColumnRows, joined_lines
from tidepool_ingest.formats.table.rows import FILTERED, NO_VALUE, BoundTable, Instant, RowPass
from tidepool_ingest.local_times import LocalTimes

_SEPARATOR: Final = "\x1f"


def verdicts(rows: ColumnRows, tests: Sequence[tuple[int, Test]]) -> Array | None:
    """Return for each row whether it keeps all conditions, null where that is for single rows to say.

    :param rows: the rows.
    :param tests: the conditions, each with its column.
    """
    arrow, found = rows.arrow, None
    for at, test in tests:
        texts, indices = rows.columns[at].distinct
        kept = arrow.array([_kept(test, at, text) for text in texts], arrow.bool_()).take(indices)
        found = kept if found is None else arrow.compute.and_(found, kept)
    return found


def _kept(test: Test, at: int, text: str) -> bool | None:
    try:
        return test({at: text})
    except RefusedError:
        return None


class Candidates(NamedTuple):
    """Rows that are to be read.

    :param meant: which are; ``None`` if all.
    :param own: which of all rows are of the device that is meant; ``None`` if all.
    :param serials: the different devices, and for each row which of them; ``None`` if no column says it.
    """

    meant: Array | None
    own: Array | None
    serials: tuple[list[str], Array] | None


def both(rows: ColumnRows, one: Array | None, other: Array | None) -> Array | None:
    """Return which rows are among both; ``None`` stands for all.

    :param rows: the rows.
    """
    if one is None or other is None:
        return other if one is None else one
    return rows.arrow.compute.and_(one, other)


class _Values(NamedTuple):
    """The cells of a column, read.

    :param texts: as JSON, by their different texts; null where there is no value.
    :param endings: annotations of these, as members.
    :param indices: for each row, which of them.
    :param given: for each row, whether it has a value; ``None`` if all have.
    :param refused: for each row, whether it cannot be read; ``None`` if all can.
    """

    texts: Array
    endings: Array | None
    indices: Array
    given: Array | None
    refused: Array | None


class ColumnPass:
    """Makes the records of a file, batch by batch.

    :param table: the bound mapping.
    :param hours: those of its times.
    :param zone: where the clock was set.
    :param row_pass: what single rows are; it goes on from here, and this from there.
    :param serial: the device whose rows are meant, empty for all.
    :param device: of all records, as a member.
    :param records: returns the records of a single row.
    """

    def __init__(
        self,
        table: BoundTable,
        hours: Hours,
        zone: LocalTimes | None,
        row_pass: RowPass,
        serial: str,
        device: str,
        records: Callable[[Cells, Instant], list[str]],
    ) -> None:
        self._table = table
        self._hours = hours
        self._zone = zone
        self._row_pass = row_pass
        self._serial = serial
        self._device = device
        self._records = records
        is_by_row = any(rule.to_next is not None for rule in table.rules)
        self._is_able = not is_by_row and len(table.row_number) < table.width
        self._rules = [rule.parts() for rule in table.rules] if self._is_able else []

    def blocks(self, rows: ColumnRows, position: int) -> list[Block] | None:
        """Return the records of some rows, ``None`` if all of these have to go the other way.

        :param rows: the rows.
        :param position: position of the first of them.
        """
        candidates = candidates_of(rows, self._table, self._serial) if self._is_able else None
        if candidates is None:
            return None
        compute, found = rows.arrow.compute, _Batch(rows)
        read = both(rows, candidates.meant, candidates.own)
        read = rows.everything if read is None else read
        clock, hours, known = self._times(rows, read)
        if clock is None:
            return None
        if candidates.meant is not None:
            found.leave_out(FILTERED, compute.invert(candidates.meant))
        if candidates.own is not None:
            others = compute.invert(candidates.own)
            found.leave_out(OTHER_DEVICE, both(rows, candidates.meant, others))
        read = self._without_known(found, read)
        doubtful = self._make(found, read, known, clock, hours)
        if doubtful.true_count:
            self._look_at(found, doubtful, position)
        if self._table.mapping.time.order and (last := last_time(clock, hours, read)):
            self._row_pass.instants.went_on_to(last)
        return list(found.blocks(position, read))

    def _make(
        self, found: _Batch, read: Array, known: Array, clock: Clock, hours: Sequence[Hour | None]
    ) -> Array:
        """Make the records of all rows that are certain; return which are not."""
        rows, compute = found.rows, found.rows.arrow.compute
        is_sure = compute.and_(read, known)
        doubtful = compute.and_not(read, known)
        names, unnamed = self._names(rows, is_sure)
        doubts = [] if unnamed is None else [compute.and_(is_sure, unnamed)]
        made = []
        for rule in self._rules:
            applies, values, unsure = self._applying(rows, rule, is_sure)
            made.append((rule, applies, values))
            doubts += unsure
        for unsure_here in doubts:
            doubtful = compute.or_(doubtful, unsure_here)
        for number, (rule, applies, values) in enumerate(made):
            certain = compute.and_not(applies, doubtful) if doubts else applies
            if certain.true_count:
                found.add(number, certain, _Making(rows, rule, self._device, clock, hours, names, values))
        found.put_in_order(len(self._rules))
        return doubtful

    def _times(self, rows: ColumnRows, read: Array) -> tuple[Clock | None, list[Hour | None], Array]:
        """Return the times of the rows, their hours, and for each row whether it is in one that is known.

        There are no times if too many are not: each may ask for the row before it.
        """
        table = self._table
        clock = rows.clock(table.time, table.format, table.mapping.time.format)
        if clock is None:
            return None, [], None
        hours = self._hours.of(clock, range(len(clock.starts)), lambda: self._zone)
        known = known_times(rows, clock, hours)
        unknown = rows.arrow.compute.and_not(read, known).true_count
        if unknown > (0 if table.mapping.time.order else len(rows) // 2):
            return None, [], None
        return clock, hours, known

    def _without_known(self, found: _Batch, read: Array) -> Array:
        """Return which rows remain without those that have come before, and remember them."""
        rows, table = found.rows, self._table
        texts: Sequence[str | bytes] = rows.texts
        if table.row_number:
            columns = ["" if at in table.row_number else one.texts for at, one in enumerate(rows.columns)]
            joined = rows.arrow.compute.binary_join_element_wise(*columns, _SEPARATOR)
            texts = joined.to_pylist()
        indexes = range(len(rows))
        if read.true_count < len(rows):
            indexes = rows.arrow.compute.indices_nonzero(read).to_pylist()
            texts = [texts[at] for at in indexes]
        known = self._row_pass.known_of(texts)
        if not known:
            return read
        duplicates = _mask(rows, (indexes[at] for at in known))
        found.leave_out(DUPLICATE_ROW, duplicates)
        return rows.arrow.compute.and_not(read, duplicates)

    def _names(self, rows: ColumnRows, read: Array) -> tuple[list[str] | None, Array | None]:
        """Return what names each row, and which of them nothing does."""
        table, compute, unnamed = self._table, rows.arrow.compute, None
        if not table.id:
            return None, None
        for at in table.named_by:
            texts, indices = rows.columns[at].distinct
            if not all(map(str.strip, texts)):
                empty = rows.arrow.array([not text.strip() for text in texts]).take(indices)
                unnamed = empty if unnamed is None else compute.or_(unnamed, empty)
        texts_of = [rows.columns[at].texts.to_pylist() for at in table.named_by]
        is_named = [True] * len(rows) if unnamed is None else compute.invert(unnamed).to_pylist()
        wanted = compute.and_(read, rows.arrow.array(is_named)).to_pylist()
        named_by = table.named_by
        names = [
            (table.row_name(dict(zip(named_by, cells, strict=True))) or "") if is_wanted else ""
            for is_wanted, cells in zip(wanted, zip(*texts_of, strict=True), strict=True)
        ]
        return names, unnamed

    def _applying(
        self, rows: ColumnRows, rule: RuleParts, read: Array
    ) -> tuple[Array, list[_Values], list[Array]]:
        """Return which rows give a record of a rule, their values, and which may be refused by it."""
        compute, unsure = rows.arrow.compute, list[Array]()
        applies = verdicts(rows, rule.tests)
        if applies is None:
            applies = read
        else:
            if applies.null_count:
                unsure.append(compute.and_(read, applies.is_null()))
                applies = compute.fill_null(applies, False)
            applies = compute.and_(read, applies)
        if not applies.true_count:
            return applies, [], unsure
        values, meant = [], applies
        for number, (at, _read) in enumerate(rule.reads):
            value = _values_of(rows, rule, number, at)
            values.append(value)
            if value.refused is not None:
                unsure.append(compute.and_(meant, value.refused))
            if value.given is not None:
                applies = compute.and_(applies, value.given)
        return applies, values, unsure

    def _look_at(self, found: _Batch, doubtful: Array, position: int) -> None:
        """Take the rows one by one that need it."""
        rows = found.rows
        for index in rows.arrow.compute.indices_nonzero(doubtful).to_pylist():
            cells = rows.cells_of(index)
            try:
                instant = self._row_pass.instant(cells)
                records = [] if isinstance(instant, str) else self._records(cells, instant)
            except RefusedError as refused:
                where = f"{rows.place} {rows.lines[index]}"
                found.rejected.append(RejectedRow(position + index, refused.code, rows.texts[index], where))
                continue
            found.add_single(index, records)
        found.merge()


def candidates_of(rows: ColumnRows, table: BoundTable, serial: str) -> Candidates | None:
    """Return which rows are to be read, ``None`` if that is for single rows to say.

    :param rows: the rows.
    :param table: the bound mapping.
    :param serial: the device whose rows are meant, empty for all.
    """
    compute = rows.arrow.compute
    meant = verdicts(rows, list(zip(table.tested, table.tests, strict=True)))
    if meant is not None and meant.null_count:
        return None
    if table.device is None:
        return Candidates(meant, None, None)
    texts, indices = rows.columns[table.device].distinct
    serials = [text.strip() for text in texts]
    if "" in serials:
        nameless = rows.arrow.array([not one for one in serials]).take(indices)
        if (nameless if meant is None else compute.and_(nameless, meant)).true_count:
            return None
    own = None
    if serial:
        own = rows.arrow.array([one == serial for one in serials]).take(indices)
    return Candidates(meant, own, (serials, indices))


def _mask(rows: ColumnRows, indexes: Iterator[int]) -> Array:
    chosen = [False] * len(rows)
    for index in indexes:
        chosen[index] = True
    return rows.arrow.array(chosen)


def _values_of(rows: ColumnRows, rule: RuleParts, number: int, at: int) -> _Values:
    arrow = rows.arrow
    texts, indices = rows.columns[at].distinct
    read = rule.reads[number][1]
    annotation = rule.annotation_of[1] if rule.annotation_of and rule.annotation_of[0] == number else None
    values, endings, refused = [], [], []
    for text in texts:
        is_refused, value = False, None
        try:
            value = read({at: text})
        except RefusedError:
            is_refused = True
        values.append(value)
        refused.append(is_refused)
        if annotation is not None:
            endings.append(_annotations(rule, "" if is_refused else annotation()))
    given = arrow.array([value is not None for value in values]).take(indices) if None in values else None
    return _Values(
        arrow.array(values, arrow.string()),
        arrow.array(endings) if annotation is not None else None,
        indices,
        given,
        arrow.array(refused).take(indices) if True in refused else None,
    )


def _annotations(rule: RuleParts, more: str) -> str:
    every = [*rule.annotations, *([more] if more else [])]
    return f',"annotations":[{",".join(every)}]' if every else ""


class _Making:
    """Makes the records of one rule."""

    def __init__(
        self,
        rows: ColumnRows,
        rule: RuleParts,
        device: str,
        clock: Clock,
        hours: Sequence[Hour | None],
        names: Sequence[str] | None,
        values: Sequence[_Values],
    ) -> None:
        self._rows, self._rule, self._device = rows, rule, device
        self._clock, self._hours, self._names, self._values = clock, hours, names, values

    def records(self, selected: Array) -> Array:
        """Return the records of some rows.

        :param selected: indexes of the rows, all of which give one.
        """
        arrow, rule, clock = self._rows.arrow, self._rule, self._clock
        is_all = len(selected) == len(self._rows)

        def of(array: Array) -> Array:
            return array if is_all else array.take(selected)

        hours, rests = of(clock.indices), of(clock.rests)
        parts: list[Any] = [rule.start]
        count = max(len(hour.members) for hour in self._hours if hour is not None)
        for number in range(count):
            # An hour that is not known is none of these rows'.
            texts = [
                hour.members[number] if hour is not None and number < len(hour.members) else ""
                for hour in self._hours
            ]
            known = {text for text, hour in zip(texts, self._hours, strict=True) if hour is not None}
            if number:
                parts.append(rests)
            if number == 1 and clock.fractions is not None:
                parts.append(of(clock.fractions))
            parts.append(known.pop() if len(known) == 1 else arrow.array(texts).take(hours))
        parts += [self._device, rule.pieces[0]]
        endings: Any = _annotations(rule, "")
        for value, piece in zip(self._values, rule.pieces[1:], strict=True):
            indices = of(value.indices)
            parts += [value.texts.take(indices), piece]
            endings = endings if value.endings is None else value.endings.take(indices)
        parts += [endings, *self._origins(selected), "}"]
        return arrow.compute.binary_join_element_wise(*_joined(parts), "")

    def _origins(self, selected: Array) -> list[Any]:
        if self._names is None:
            return []
        name = self._rule.name
        names = (origin_id(name, self._names[at]) for at in selected.to_pylist())
        return [',"origin":{"id":', self._rows.arrow.array(list(map(encode_basestring_ascii, names))), "}"]


def _joined(parts: Sequence[Any]) -> list[Any]:
    """Return parts of which no two texts are neighbours."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


class _Batch:
    """What becomes of some rows."""

    def __init__(self, rows: ColumnRows) -> None:
        self.rows = rows
        self.rejected: list[RejectedRow] = []
        self._left_out: dict[str, Array] = {}
        self._made: list[tuple[int, Array, Array]] = []
        self._lines: list[bytes] = []
        self._indexes: Sequence[int] = ()
        self._singles: list[tuple[int, bytes]] = []

    def leave_out(self, reason: str, which: Array | None) -> None:
        """Note why some rows are no reading."""
        if which is not None and which.true_count:
            self._left_out[reason] = which

    def add(self, number: int, applies: Array, making: _Making) -> None:
        """Make the records of a rule by its number."""
        selected = self.rows.arrow.compute.indices_nonzero(applies)
        self._made.append((number, selected, making.records(selected)))

    def put_in_order(self, rules: int) -> None:
        """Put the records of all rules in the order of rows, and those of a row in that of rules."""
        arrow, made = self.rows.arrow, self._made
        if not made:
            return
        compute = arrow.compute
        indexes, records = made[0][1], made[0][2]
        if len(made) > 1:
            keys = [compute.add(compute.multiply(one, rules), number) for number, one, _ in made]
            order = compute.sort_indices(arrow.concat_arrays([key.cast(arrow.int64()) for key in keys]))
            indexes = arrow.concat_arrays([one for _, one, _ in made]).take(order)
            records = arrow.concat_arrays([records for _, _, records in made]).take(order)
        self._lines = joined_lines(arrow, records).split(b"\n")
        self._indexes = indexes.to_pylist()

    def add_single(self, index: int, records: Sequence[str]) -> None:
        """Add the records of one row."""
        self._singles += [(index, record.encode()) for record in records]

    def merge(self) -> None:
        """Put these among the others."""
        if self._singles:
            every = sorted([*zip(self._indexes, self._lines, strict=True), *self._singles], key=itemgetter(0))
            self._indexes = [index for index, _ in every]
            self._lines = [line for _, line in every]

    def blocks(self, position: int, read: Array) -> Iterator[Block]:
        """Yield what became of the rows, some at a time.

        :param position: position of the first row.
        :param read: which rows may have given records.
        """
        rows, lines, indexes, at = self.rows, self._lines, self._indexes, 0
        where = [f"{rows.place} {line}" for line in rows.lines]
        texts = rows.texts
        rejected = iter([*self.rejected, None])
        waiting = next(rejected)
        for first in range(0, len(rows), BLOCK_RECORDS):
            end = min(first + BLOCK_RECORDS, len(rows))
            begin, at = at, bisect_left(indexes, end, at)
            here = []
            while waiting is not None and waiting.position < position + end:
                here.append(waiting)
                waiting = next(rejected)
            of_rows = indexes[begin:at]
            skipped = {
                reason: count
                for reason, which in self._left_out.items()
                if (count := which.slice(first, end - first).true_count)
            }
            without = read.slice(first, end - first).true_count - len(set(of_rows)) - len(here)
            if without:
                skipped[NO_VALUE] = without
            if of_rows == list(range(first, end)):  # each row has given one record
                chosen = texts[first:end], list(range(position + first, position + end)), where[first:end]
            else:
                chosen = (
                    [texts[index] for index in of_rows],
                    [position + index for index in of_rows],
                    [where[index] for index in of_rows],
                )
            staged, positions, places = chosen
            yield Block(
                position + first,
                lines[begin:at],
                here,
                staged=staged,
                positions=positions,
                where=places,
                skipped=skipped,
            )
