"""What every error of this project tells: what happened, whether trying again can help, what to do."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Disposition(StrEnum):
    """What an error means for the attempt that met it."""

    FATAL = "fatal"
    """Trying again cannot help until a person has changed something."""
    RETRIABLE = "retriable"
    """The same attempt may well succeed later."""
    DATA = "data"
    """The staged batch has to be corrected; every other batch goes on."""


class IngestError(Exception):
    """Base of this project's errors: built from parts, safe to log, able to cross processes.

    A message never holds a record value, a user or device id, a token, or text that a server sent.

    :param what: what happened and where, one sentence.
    :param remedy: what to do about it, one sentence; empty when there is nothing to do but wait.
    :param code: short stable name of the cause, for the ledger and the report.
    """

    disposition: Disposition = Disposition.FATAL

    def __init__(self, what: str, *, remedy: str = "", code: str = "") -> None:
        super().__init__(f"{what} {remedy}".strip())
        self.what = what
        self.remedy = remedy
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state: Airflow passes exceptions between processes, and constructors differ."""
        return _restored, (type(self), self.args, dict(self.__dict__))


def _restored(kind: type[IngestError], args: tuple[Any, ...], state: dict[str, Any]) -> IngestError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
