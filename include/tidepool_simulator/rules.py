"""Rules that the Platform has on another day: its validators change, and clients learn of it by a 400.

Or what its storage cannot take is another thing than is known of it, and clients learn of it by a 500.
"""

from __future__ import annotations

import threading
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from tidepool_ingest.model import Problem


class Rule(BaseModel):
    """One rule more than the model knows: data that break it are rejected.

    :param type: type of datum that it is about; any when empty.
    :param pointer: JSON pointer to the field inside the datum, such as ``/value`` or ``/bolus/normal``.
    :param above: numbers larger than this break it.
    :param equals: this value breaks it.
    :param code: the error code.
    :param in_storage: whether the validators let it pass and the database cannot take it: 500 for the
        whole request.
    :param in_parsing: whether it is broken already when the datum is parsed, which hides what validation
        would find, in every datum of the request.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = ""
    pointer: str = Field(pattern=r"^(/[^/]+)+$")
    above: float | None = None
    equals: JsonValue = None
    code: str = "value-out-of-range"
    in_parsing: bool = False
    in_storage: bool = False

    @model_validator(mode="after")
    def _says_what_breaks_it(self) -> Rule:
        if (self.above is None) == (self.equals is None):
            raise ValueError("a rule says either `above` or `equals`")
        return self

    def is_broken_by(self, datum: Any) -> bool:
        """Whether a datum breaks the rule."""
        if not isinstance(datum, dict) or (self.type and datum.get("type") != self.type):
            return False
        value: Any = datum
        for part in self.pointer.split("/")[1:]:
            value = value.get(part) if isinstance(value, dict) else None
        if self.above is not None:
            return isinstance(value, (int, float)) and value > self.above
        return bool(value == self.equals)


class Rules:
    """The rules in force; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: tuple[Rule, ...] = ()

    def add(self, *rules: Rule) -> None:
        """Put rules into force."""
        with self._lock:
            self._rules += rules

    def clear(self) -> None:
        """Withdraw all rules."""
        with self._lock:
            self._rules = ()

    def broken_by(self, datum: Any) -> tuple[list[Problem], list[Problem]]:
        """Return what a datum breaks: when it is parsed, and when it is validated."""
        rules = (rule for rule in self._rules if not rule.in_storage)
        broken = [rule for rule in rules if rule.is_broken_by(datum)]
        parsing = [Problem(rule.code, rule.pointer) for rule in broken if rule.in_parsing]
        return parsing, [Problem(rule.code, rule.pointer) for rule in broken if not rule.in_parsing]

    def break_storage(self, datum: Any) -> bool:
        """Return whether the database cannot take a datum that the validators accept."""
        return any(rule.in_storage and rule.is_broken_by(datum) for rule in self._rules)
