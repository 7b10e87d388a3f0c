"""Our verdict on a record, which is the Platform's."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Final, NamedTuple

from tidepool_ingest.model.data_set import DataSet
from tidepool_ingest.model.datum import DATUM_MODELS, parse_datum
from tidepool_ingest.model.decode import (
    FAST_ERRORS,
    FLOAT_DIGITS_MAX,
    NotDecodableError,
    decode,
    fast_decode,
    may_hold_huge_integer,
)
from tidepool_ingest.model.fast_path import FAST_PATH_BYTES_MAX, compiled
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

_NO_PROBLEMS: Final[tuple[Problem, ...]] = ()


class Validated(NamedTuple):
    """What became of a staged line.

    :param datum: the decoded record, complete and unaltered: every field of the line by its Tidepool name,
        also those that the Platform will drop, embedded data as dicts inside; ``None`` when it is no JSON
        object.
    :param problems: all problems in the Platform's order; empty when the Platform accepts the record. A line
        ``null`` has none although it is no record: the Platform skips it silently.
    """

    datum: dict[str, Any] | None
    problems: tuple[Problem, ...]

    def __repr__(self) -> str:
        """Leave the record out."""
        return f"Validated(problems={self.problems!r})"


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
    data, problems = validate_block(lines)
    return [Validated(datum, problems.get(index, _NO_PROBLEMS)) for index, datum in enumerate(data)]


def validate_block(
    lines: Sequence[bytes],
) -> tuple[list[dict[str, Any] | None], dict[int, tuple[Problem, ...]]]:
    """Validate staged lines, most of which are accepted. This is the fast path.

    A line that is short and certainly valid passes the compiled schema; any other is validated exactly.

    :param lines: as for :func:`validate_lines`.
    :return: each line decoded, as in :class:`Validated`; and by index the problems of those that have any.
    """
    data: list[dict[str, Any] | None] = []
    problems: dict[int, tuple[Problem, ...]] = {}
    with collector_paused():
        for line in lines:
            size = len(line)
            if size <= FLOAT_DIGITS_MAX or (size <= FAST_PATH_BYTES_MAX and not may_hold_huge_integer(line)):
                try:
                    data.append(fast_decode(line))
                    continue
                except FAST_ERRORS:
                    pass
            data.append(None)
        unsure = [
            index
            for index, sure in enumerate(map(compiled(), data))
            if not sure or may_hold_nul(lines[index])
        ]
        for index in unsure:
            data[index], found = validate_line(lines[index])
            if found:
                problems[index] = found
    return data, problems


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
    try:
        datum = decode(line)
    except NotDecodableError as error:
        return Validated(None, (Problem(error.code, ""),))
    if not isinstance(datum, dict):
        return Validated(None, validate_datum(datum))
    parsed, problems = parse_and_validate(datum)
    if parsed is not None and not problems:
        problems = (*(unstorable(parsed) if may_hold_nul(line) else ()), *never_shown(parsed))
    return Validated(datum, problems)


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
