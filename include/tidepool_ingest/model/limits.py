"""The limits of one value that depend on nothing else, as checks of that value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from annotated_types import Ge, Interval, Le, Len, MaxLen, MinLen

from tidepool_ingest.model import fields
from tidepool_ingest.model.problems import EMPTY, LENGTH, NOT_ALLOWED, NOT_VALID, OUT_OF_RANGE

Question: TypeAlias = Callable[[Any], str | None]
"""Gets a value; returns the code of what is wrong with it, or ``None``."""


def questions_about(limits: Iterable[Any], allowed: frozenset[Any] | None) -> tuple[Question, ...]:
    """Make the questions for some limits.

    :param limits: what an annotation lists; what is not a limit of one value is left out.
    :param allowed: the only values allowed, if they are listed.
    :return: the questions, in order.
    """
    questions = [_QUESTIONS[type(limit)](limit) for limit in _merged(limits) if type(limit) in _QUESTIONS]
    if allowed is not None:
        questions.append(lambda value: None if value in allowed else NOT_ALLOWED)
    return tuple(questions)


def _merged(limits: Iterable[Any]) -> list[Any]:
    """Join the two ends of a range: one check is faster than two."""
    merged: list[Any] = []
    for limit in limits:
        before = merged[-1] if merged else None
        if isinstance(before, Ge) and isinstance(limit, Le):
            merged[-1] = Interval(ge=before.ge, le=limit.le)
        elif isinstance(before, MinLen) and isinstance(limit, MaxLen):
            merged[-1] = Len(before.min_length, limit.max_length)
        else:
            merged.append(limit)
    return merged


def _within(limit: Interval) -> Question:
    low: Any = limit.ge
    high: Any = limit.le
    return lambda value: None if low <= value <= high else OUT_OF_RANGE


def _between(limit: Len) -> Question:
    shortest, longest = limit.min_length, limit.max_length or 0

    def question(value: Any) -> str | None:
        length = len(value)
        if shortest <= length <= longest:
            return None
        return EMPTY if length == 0 else LENGTH

    return question


def _at_least(limit: Ge) -> Question:
    low: Any = limit.ge
    return lambda value: None if value >= low else OUT_OF_RANGE


def _at_most(limit: Le) -> Question:
    high: Any = limit.le
    return lambda value: None if value <= high else OUT_OF_RANGE


def _not_shorter(limit: MinLen) -> Question:
    shortest = limit.min_length
    code = EMPTY if shortest == 1 else LENGTH
    return lambda value: None if len(value) >= shortest else code


def _not_longer(limit: MaxLen) -> Question:
    longest = limit.max_length
    return lambda value: None if len(value) <= longest else LENGTH


def _equals(limit: fields.Equals) -> Question:
    return lambda value: None if value == limit.text else OUT_OF_RANGE


def _matches(limit: fields.Pattern) -> Question:
    expression = re.compile(limit.expression)
    return lambda value: None if expression.fullmatch(value) else NOT_VALID


def _is_known(limit: fields.Known) -> Question:
    return lambda value: None if value in limit.names() else NOT_VALID


def _is_text(limit: fields.Text) -> Question:
    return lambda value: None if limit.is_valid(value) else NOT_VALID


def _fits_bytes(limit: fields.BytesMax) -> Question:
    return lambda value: None if len(value.encode("utf-8", "surrogatepass")) <= limit.bytes else LENGTH


def _is_moment(limit: fields.Moment) -> Question:
    def question(value: Any) -> str | None:
        instant = value if limit.in_parse_stage else limit.parse(value)
        if instant is None:
            return NOT_VALID
        return EMPTY if limit.is_zero(instant) else None

    return question


_QUESTIONS: Final[dict[type, Callable[[Any], Question]]] = {
    Interval: _within,
    Len: _between,
    Ge: _at_least,
    Le: _at_most,
    MinLen: _not_shorter,
    MaxLen: _not_longer,
    fields.Equals: _equals,
    fields.Pattern: _matches,
    fields.Known: _is_known,
    fields.Text: _is_text,
    fields.BytesMax: _fits_bytes,
    fields.Moment: _is_moment,
}
