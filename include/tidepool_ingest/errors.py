"""What every error of this project says: what happened, whether a retry can help, what to do.

The code of a cause, its sentence and its remedy are declared on the class of the error, or in the class's
table of faults. The message of an error, the uploads page and the documentation take them from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple


class Disposition(StrEnum):
    """What an error means for the attempt that it ended."""

    FATAL = "fatal"
    """A retry cannot help until a person has changed something."""
    RETRIABLE = "retriable"
    """The same attempt may well succeed later."""
    DATA = "data"
    """The staged batch has to be corrected; every other batch goes on."""


class MendPlace(StrEnum):
    """Where something belongs that lets a batch go on."""

    MANIFEST = "manifest.json"
    """A key of the manifest, as it stands there."""
    FILE = "manifest.json, its file"
    """A key of one of the manifest's files, as it stands there."""
    STAGE = "tidepool-ingest stage"
    """An option of the command with which it is staged again."""
    RUN = "run parameters"
    """Parameters of a run of its day, as JSON."""


class Mend(NamedTuple):
    """Something that lets a batch go on, ready to be copied.

    :param place: where it belongs.
    :param text: what stands there.
    :param is_example: whether the value is one of several, and a person has to choose.
    """

    place: MendPlace
    text: str
    is_example: bool = False


def meant_as(code: str) -> tuple[Mend, ...]:
    """Return what lets a batch go on that is held for a code, and is as it is meant to be."""
    return (
        Mend(MendPlace.MANIFEST, f'"meantAs": ["{code}"]'),
        Mend(MendPlace.STAGE, f"--meant-as {code}"),
    )


def of_file(key: str, option: str, value: str, *, is_example: bool = False) -> tuple[Mend, ...]:
    """Return what lets a batch go on once something is said of its file.

    :param key: of a file in the manifest.
    :param option: of the command ``stage``.
    :param value: what is said.
    """
    return (
        Mend(MendPlace.FILE, f'"{key}": "{value}"', is_example),
        Mend(MendPlace.STAGE, f"{option} {value}", is_example),
    )


def run_with(*parameters: str) -> tuple[Mend, ...]:
    """Return that a run of a batch's day with some parameters lets it go on."""
    return (Mend(MendPlace.RUN, json.dumps(dict.fromkeys(parameters, True))),)


class Fault(NamedTuple):
    """One cause of an error, in words that fit every batch that stopped for it.

    :param sentence: what happened: a clause without a capital letter and a full stop.
    :param remedy: what to do about it, one or two whole sentences.
    :param retriable: whether an unchanged retry can help.
    :param mends: what of the remedy can be copied, if that is what the person wants.
    """

    sentence: str
    remedy: str
    retriable: bool = False
    mends: tuple[Mend, ...] = ()


FAULTS_BY_CODE: dict[str, Fault] = {}
"""The causes that the error classes imported so far declare."""


class IngestError(Exception):
    """Base of this project's errors: built from parts, safe to log, able to cross processes.

    A message never holds a record value, a user or device id, a token, or text that a server sent.

    :cvar code: short stable name of the cause, for the ledger and the report.
    :cvar sentence: what happened, as in :class:`Fault`.
    :cvar remedy: what to do about it.
    :cvar mends: what of the remedy can be copied.
    :cvar faults: in a class of several causes, these by their codes.
    :cvar waits: whether nothing has failed: something else has to end first, and ``retry_after`` seconds are
        a good time to see whether it has.
    :ivar particulars: what is true of this batch alone: positions and counts in words of this project, which
        the ledger keeps and the uploads page shows; never a value.
    :ivar on_terminal: what only the terminal of the command shows that met the error, a whole sentence: it
        may quote the file. No part of the message, and left behind when the error crosses processes.
    :ivar typed: the file or folder that it is about, as whoever ran a command has typed it: for that terminal
        alone, too.
    :param what: what happened and where, a whole sentence; by default the class's own.
    :param remedy: what to do about it this time; by default the class's own.
    :param code: the cause, in a class of several.
    """

    disposition: Disposition = Disposition.FATAL
    code: str = ""
    sentence: ClassVar[str] = ""
    remedy: str = ""
    mends: ClassVar[tuple[Mend, ...]] = ()
    particulars: str = ""
    on_terminal: str = ""
    typed: str = ""
    faults: ClassVar[Mapping[str, Fault]] = {}
    waits: ClassVar[bool] = False
    retry_after: float | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Register the causes that a class declares.

        :raises TypeError: a code has no sentence or no remedy, or another class gives it other ones.
        """
        super().__init_subclass__(**kwargs)
        own: dict[str, Fault] = {}
        if "code" in vars(cls):
            own[cls.code] = Fault(
                cls.sentence, cls.remedy, cls.disposition is Disposition.RETRIABLE, cls.mends
            )
        if "faults" in vars(cls):
            own.update(cls.faults)
        for code, fault in own.items():
            if not (code and fault.sentence and fault.remedy):
                raise TypeError(f"{cls.__name__}: a code comes with a sentence and a remedy")
            if FAULTS_BY_CODE.setdefault(code, fault) != fault:
                raise TypeError(f"{cls.__name__}: another class gives {code} another sentence or remedy")

    def __init__(self, what: str = "", *, remedy: str = "", code: str = "") -> None:
        self.what = what or as_sentence(self.sentence)
        self.remedy = remedy or self.remedy
        self.code = code or self.code
        super().__init__(f"{self.what} {self.remedy}".strip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by state: Airflow passes exceptions between processes, and constructors differ."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("on_terminal", "typed")}
        return _restored, (type(self), self.args, state)


class HeldError(IngestError):
    """The batch could be uploaded, but a person has to look at it first; no data set is left open."""

    disposition: Disposition = Disposition.DATA


def as_sentence(clause: str) -> str:
    """Return a clause with a capital letter and a full stop."""
    return f"{clause[:1].upper()}{clause[1:]}."


def _restored(kind: type[IngestError], args: tuple[Any, ...], state: dict[str, Any]) -> IngestError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
