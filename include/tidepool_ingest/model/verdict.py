"""Our verdict on a record, which is the Platform's."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import Any, Final, NamedTuple, overload

import msgspec

from tidepool_ingest.model.data_set import DataSet
from tidepool_ingest.model.datum import DATUM_MODELS, parse_datum
from tidepool_ingest.model.decode import (
    FAST_ERRORS,
    FLOAT_DIGITS_MAX,
    VALUES_MAX,
    NotDecodableError,
    decode,
    fast_decode,
    may_hold_huge_integer,
)
from tidepool_ingest.model.fast_path import Outline, outline_of, surely_valid
from tidepool_ingest.model.fields import Record
from tidepool_ingest.model.parsing import Parsed
from tidepool_ingest.model.problems import (
    STAGED_TOO_MANY_VALUES,
    Problem,
    Problems,
    TooManyProblemsError,
)
from tidepool_ingest.model.specification import Kind, fields_of, literal_fields
from tidepool_ingest.model.storage import may_hold_nul, never_shown, unstorable
from tidepool_ingest.model.validation import validate

FEW_LINES: Final = 200
"""Lines, of all in a process, that are sooner validated exactly than the fast path is compiled."""
_lines_seen = 0

_NO_PROBLEMS: Final[tuple[Problem, ...]] = ()


class Validated(msgspec.Struct, frozen=True, gc=False):
    """What became of a staged line.

    :param line: the line.
    :param problems: all problems in the Platform's order; empty when the Platform accepts the record. A line
        ``null`` has none although it is no record: the Platform skips it silently.
    """

    line: bytes
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"Validated(problems={self.problems!r})"

    @property
    def datum(self) -> dict[str, Any] | None:
        """The line decoded, when it is asked for; see :func:`object_in`."""
        return object_in(self.line)


class ValidatedBlock(NamedTuple):
    """What became of staged lines, most of which are accepted.

    :param records: of each accepted record its outline, or a struct that has the same attributes; ``None``
        where there is none.
    :param problems: by index, the problems of those that have any.
    :param decoded: by index, the objects of the lines whose ``records`` do not hold all that is in them; as
        :func:`object_in` has them.
    """

    records: list[Outline | None]
    problems: dict[int, tuple[Problem, ...]]
    decoded: dict[int, dict[str, Any] | None]

    def __repr__(self) -> str:
        """Leave the records out."""
        return f"ValidatedBlock(problems={self.problems!r})"


class LineObjects(Sequence[dict[str, Any] | None]):
    """The objects in lines, each decoded when it is asked for; see :func:`object_in`.

    :param lines: the lines.
    :param decoded: by index, those that are decoded.
    """

    def __init__(self, lines: Sequence[bytes], decoded: Mapping[int, dict[str, Any] | None]) -> None:
        self._lines = lines
        self._decoded = dict(decoded)

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any] | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any] | None]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self._lines))[index]]
        index = range(len(self._lines))[index]
        if index not in self._decoded:
            self._decoded[index] = object_in(self._lines[index])
        return self._decoded[index]

    def __repr__(self) -> str:
        """Leave the records out."""
        return f"LineObjects({len(self)})"


def object_in(line: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a line; ``None`` when there is none.

    :param line: a JSON text.
    :return: the object, complete and unaltered: every field of the line by its Tidepool name, also those that
        the Platform will drop, embedded data as dicts inside.
    """
    try:
        datum = decode(line)
    except NotDecodableError:
        return None
    return datum if isinstance(datum, dict) else None


def validate_datum(datum: object) -> tuple[Problem, ...]:
    """Validate a record as the Platform does.

    Problems of the first stage, where a field is of the wrong type, hide those of the second.

    :param datum: the decoded JSON value, preferably from :func:`tidepool_ingest.model.decode.decode`.
    :return: all problems in the Platform's order; empty when it is accepted, as ``None`` is.
    """
    if datum is None:
        return _NO_PROBLEMS
    return parse_and_validate(datum)[1]


def parse_and_validate(datum: object) -> tuple[Parsed | None, tuple[Problem, ...]]:
    """Validate a record, and return it decoded as well.

    :param datum: the decoded JSON value, not ``None``.
    :return: the parsed record, if it came to that, and the problems.
    """
    problems = Problems()
    try:
        parsed: Parsed | None = parse_datum(datum, "", problems)
        problems.finish()
        if parsed is not None and not problems:
            validate(parsed, None, "", problems)
            problems.finish()
    except TooManyProblemsError:
        return None, (Problem(STAGED_TOO_MANY_VALUES, ""),)
    return parsed, tuple(problems)


def validate_lines(lines: Sequence[bytes]) -> list[Validated]:
    """Validate staged lines, one JSON text each.

    :param lines: the lines, with or without their line ends; about 1,000 at a time.
    :return: what became of each, in order.
    """
    problems = validate_block(lines).problems
    if not problems:
        return list(map(Validated, lines, repeat(_NO_PROBLEMS)))
    return [Validated(line, problems.get(index, _NO_PROBLEMS)) for index, line in enumerate(lines)]


def validate_block(lines: Sequence[bytes]) -> ValidatedBlock:
    """Validate staged lines, most of which are accepted. This is the fast path.

    A line that is short and certainly valid passes it; any other is validated exactly.

    :param lines: as for :func:`validate_lines`.
    """
    global _lines_seen
    _lines_seen += len(lines)
    problems: dict[int, tuple[Problem, ...]] = {}
    with collector_paused():
        if _lines_seen > FEW_LINES:
            records, decoded = _surely_valid(lines)
        else:
            records, decoded = [None] * len(lines), dict.fromkeys(range(len(lines)))
        for index in decoded:
            if records[index] is not None:
                continue
            datum, found = _validated(lines[index])
            decoded[index] = datum
            if found:
                problems[index] = found
            elif datum is not None:
                records[index] = outline_of(datum)
    return ValidatedBlock(records, problems, decoded)


def _surely_valid(
    lines: Sequence[bytes],
) -> tuple[list[Outline | None], dict[int, dict[str, Any] | None]]:
    """Return ``records`` and ``decoded`` of a block, as far as the fast path goes."""
    records = surely_valid(_short(lines), whole=True)
    decoded = {index: _decoded(lines[index]) for index, record in enumerate(records) if record is None}
    if decoded:
        known = [b"" if datum is None else lines[index] for index, datum in decoded.items()]
        for index, record in zip(decoded, surely_valid(known, whole=False), strict=True):
            records[index] = record
    return records, decoded


def _short(lines: Sequence[bytes]) -> Sequence[bytes]:
    """Return the lines; in place of those that are long, or need a closer look, an empty one."""
    short = [
        line
        if len(line) <= FLOAT_DIGITS_MAX or (len(line) <= VALUES_MAX and not may_hold_huge_integer(line))
        else b""
        for line in lines
    ]
    if b"\\" in b"".join(short):  # mostly none has an escape
        return [b"" if may_hold_nul(line) else line for line in short]
    return short


def _decoded(line: bytes) -> dict[str, Any] | None:
    """Decode a line of which the fast path may pass what it knows, and has not looked at the rest."""
    if len(line) > VALUES_MAX or may_hold_huge_integer(line) or may_hold_nul(line):
        return None
    try:
        datum = fast_decode(line)
    except FAST_ERRORS:
        return None
    return datum if isinstance(datum, dict) else None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the garbage collector from looking at thousands of new records that are all still in use.

    It finds no garbage in them and takes a quarter of the time. Nothing here makes any that only it could
    find.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def validate_line(line: bytes) -> Validated:
    """Validate one staged line exactly, and whether the Platform could store and show what it accepts.

    :param line: a JSON text.
    """
    return Validated(line, _validated(line)[1])


def _validated(line: bytes) -> tuple[dict[str, Any] | None, tuple[Problem, ...]]:
    """Return the object in a line, see :func:`object_in`, and its problems."""
    try:
        datum = decode(line)
    except NotDecodableError as error:
        return None, (Problem(error.code, ""),)
    if not isinstance(datum, dict):
        return None, validate_datum(datum)
    parsed, problems = parse_and_validate(datum)
    if parsed is not None and not problems:
        problems = (*(unstorable(parsed) if may_hold_nul(line) else ()), *never_shown(parsed))
    return datum, problems


MASK: Final = "*"


_LISTS: Final = (Kind.TEXTS, Kind.FREE_OBJECTS, Kind.OBJECTS)


class _Names(NamedTuple):
    """Names of fields.

    :param known: of all.
    :param maps: of those whose content people name.
    :param lists: of those that hold lists.
    :param maps_of_lists: of those that hold lists by names that people made up.
    """

    known: frozenset[str]
    maps: frozenset[str]
    lists: frozenset[str]
    maps_of_lists: frozenset[str]


@cache
def _names() -> _Names:
    known: set[str] = set()
    by_kind: dict[Kind, set[str]] = {kind: set() for kind in Kind}
    seen: set[type[Record]] = set()
    waiting: list[type[Record]] = [*DATUM_MODELS, DataSet]
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        known.update(literal_fields(model))
        for spec in fields_of(model):
            known.add(spec.name)
            waiting.extend(spec.models)
            by_kind[spec.kind].add(spec.name)
    return _Names(
        frozenset(known),
        frozenset(by_kind[Kind.OBJECT_MAP] | by_kind[Kind.OBJECTS_MAP]),
        frozenset().union(*(by_kind[kind] for kind in _LISTS)),
        frozenset(by_kind[Kind.OBJECTS_MAP]),
    )


def masked_pointer(pointer: str) -> str:
    """Replace what somebody made up in a pointer by ``*``; field names of the model and array indexes stay.

    A number is an index only where a list can be. Elsewhere, it is a name that somebody made up, and may be
    a person's id.

    :param pointer: a problem's pointer.
    """
    return "/".join(_masked(pointer.split("/")))


def _masked(parts: Iterable[str]) -> Iterable[str]:
    names = _names()
    before, is_list = "", False
    for part in parts:
        is_made_up = before in names.maps
        is_index = is_list and part.isascii() and part.isdigit()
        is_shown = not is_made_up and (part in names.known or part == "" or is_index)
        yield part if is_shown else MASK
        is_list = before in names.maps_of_lists if is_made_up else is_shown and part in names.lists
        before = part if is_shown else ""
