"""What can go wrong between us and Tidepool, by what can be done about it.

::

    TidepoolError
    ├── TidepoolConfigurationError      fatal      a setting of the connection is wrong
    ├── TidepoolAuthenticationError     fatal      there is no valid token
    ├── TidepoolPermissionError         fatal      the account may not do this for that user
    ├── TidepoolNotFoundError           fatal      no such data set or user
    ├── TidepoolDataSetClosedError      fatal      the data set takes no more data
    ├── TidepoolUnexpectedAnswerError   fatal      not a response that the contract defines
    ├── TidepoolRejectedError           data       the Platform's validators rejected what was sent
    ├── TidepoolBusyError               retriable  not now (HTTP 429); nothing was done
    └── TidepoolUnreachableError        retriable  no usable response; ``in_doubt``: it may have been done

Nothing here contains a token, a record value, a user or device id, or the text (``title``, ``detail``,
``message``, ``reason``) that a server wrote: such text quotes the value it complains about. The one thing
taken from a response is its code, a fixed word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from tidepool_ingest.errors import Disposition, IngestError

CODES_SHOWN = 6
"""How many different codes a message counts before it says "and more"."""

CHECK_FIRST = (
    "Check what Tidepool holds before sending it again: an upload that is resumed does so by itself."
)
"""What to do about a request in doubt."""


class TidepoolError(IngestError):
    """Base of every error of this package.

    :param operation: what was attempted, as it reads after "could not": ``open a data set``.
    :param reason: what prevented it; the class's own sentence if left out.
    :param place: the host, and the data set or the short hash of the user it was about.
    :param status: HTTP status of the response, ``None`` if there was none.
    :param codes: the Platform's error codes in the response.
    :param trace_id: Tidepool's or our own id of the request, for their support.
    :param remedy: what to do; the class's own if left out.
    """

    disposition: Disposition = Disposition.FATAL

    def __init__(
        self,
        operation: str,
        *,
        reason: str = "",
        place: str = "",
        status: int | None = None,
        codes: Iterable[str] = (),
        trace_id: str = "",
        remedy: str = "",
    ) -> None:
        self.operation = operation
        self.reason = reason or self.sentence
        self.place = place
        self.status = status
        self.codes = tuple(dict.fromkeys(codes))
        self.trace_id = trace_id
        super().__init__(self._message(), remedy=remedy)

    def _message(self) -> str:
        facts = [f"HTTP {self.status}"] if self.status is not None else []
        facts += self._counted_codes()
        self.particulars = ": ".join(filter(None, (f"could not {self.operation}", ", ".join(facts))))
        facts += [f"trace {self.trace_id}"] if self.trace_id else []
        where = f" ({self.place})" if self.place else ""
        return f"Could not {self.operation}{where}: {self.reason}" + (
            f" [{', '.join(facts)}]." if facts else "."
        )

    def _counted_codes(self) -> list[str]:
        return _shortened(list(self.codes))


class TidepoolConfigurationError(TidepoolError):
    """A setting is missing or unusable.

    :param fields: the names of the settings to correct, as the connection form calls them.
    """

    code = "tidepool-configuration"
    sentence = "a setting is missing or unusable"
    remedy = "Correct the Tidepool connection."

    def __init__(self, operation: str, *, fields: Iterable[str] = (), **parts: Any) -> None:
        self.fields = tuple(fields)
        super().__init__(operation, **parts)


class TidepoolAuthenticationError(TidepoolError):
    """The credentials, or the token made from them, are not accepted."""

    code = "tidepool-authentication"
    sentence = "Tidepool does not accept the credentials or the token"
    remedy = "Check the credentials in the Tidepool connection, and that they are for this environment."


class TidepoolPermissionError(TidepoolError):
    """The account is known, but may not do this for that user."""

    code = "tidepool-permission"
    sentence = "this account may not do that for that user"
    remedy = "Have the user (or the clinic) grant the uploading account the right to upload and view."


class TidepoolNotFoundError(TidepoolError):
    """The Platform itself says that there is no such data set or user."""

    code = "tidepool-not-found"
    sentence = "Tidepool knows no such data set or user"
    remedy = "Check that the connection names the environment in which it was created."


class TidepoolDataSetClosedError(TidepoolError):
    """The data set is closed and takes no more data.

    After a close whose response was lost this means "read back", not "done": the Platform records the close
    before it makes the data visible.
    """

    code = "tidepool-data-set-closed"
    sentence = "the data set is closed already"
    remedy = "Read back what became visible, or open a new data set."


class TidepoolUnexpectedAnswerError(TidepoolError):
    """The response is not one that the contract defines, and trying again would give the same."""

    code = "tidepool-unexpected-answer"
    sentence = "the response is not one that Tidepool gives"
    remedy = "Check the API host, and any proxy in front of it."


class Problem(NamedTuple):
    """One complaint of the Platform's validators.

    :param index: position of the record in the array that was sent, from 0; ``None`` if about the whole.
    :param code: the Platform's error code.
    :param pointer: JSON pointer to the field inside the record, as ``/value``; empty for the record itself.
        It can hold keys that a person chose (names of schedules): fit for the quarantine file only.
    """

    index: int | None  # type: ignore[assignment]  # nobody searches in a problem
    code: str
    pointer: str

    def __repr__(self) -> str:
        """Show the pointer without keys that a person may have chosen."""
        return f"Problem(index={self.index!r}, code={self.code!r}, pointer={self.without_names().pointer!r})"

    def without_names(self) -> Problem:
        """Return the problem with every key below the record's own field shown as ``*``."""
        steps = self.pointer.split("/")
        masked = [*steps[:2], *(step if step.isdecimal() else "*" for step in steps[2:])]
        return self._replace(pointer="/".join(masked))


class TidepoolRejectedError(TidepoolError):
    """The Platform rejected what was sent, and stored none of it.

    A pickled copy keeps index and code of each problem, but shows user-made keys of its pointer as ``*``.

    :param problems: each complaint, in the Platform's order; empty if the response named none.
    """

    disposition: Disposition = Disposition.DATA
    code = "tidepool-rejected"
    sentence = "the Platform's validators rejected it and stored nothing"
    remedy = "Correct or leave out the records named by the problems' positions, then send the rest again."

    def __init__(self, operation: str, *, problems: Iterable[Problem] = (), **parts: Any) -> None:
        self.problems = tuple(problems)
        codes = (*parts.pop("codes", ()), *(problem.code for problem in self.problems))
        super().__init__(operation, codes=codes, **parts)

    @property
    def indexes(self) -> frozenset[int]:
        """Positions of the rejected records in the array that was sent."""
        return frozenset(problem.index for problem in self.problems if problem.index is not None)

    def _counted_codes(self) -> list[str]:
        counted = Counter(problem.code for problem in self.problems)
        return _shortened([f"{code} x{counted[code]}" if code in counted else code for code in self.codes])

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave user-made keys out: a pickled error ends up in places where only short hashes may be."""
        restore, (kind, args, state) = super().__reduce__()
        return restore, (
            kind,
            args,
            {**state, "problems": tuple(problem.without_names() for problem in self.problems)},
        )


class TidepoolBusyError(TidepoolError):
    """Too many requests: nothing was done, and Tidepool asks for a pause.

    :param retry_after: seconds that the response asks to wait, ``None`` if it does not say.
    """

    disposition: Disposition = Disposition.RETRIABLE
    code = "tidepool-busy"
    sentence = "Tidepool asks to slow down"
    remedy = (
        "Nothing to do: it is tried again later. If this persists, lower the number of parallel requests."
    )

    def __init__(self, operation: str, *, retry_after: float | None = None, **parts: Any) -> None:
        self.retry_after = retry_after
        super().__init__(operation, **parts)


class TidepoolUnreachableError(TidepoolError):
    """No usable response arrived: no connection, a timeout, a cut response, or a 5xx.

    :param in_doubt: the request changes something, and may have been carried out all the same. It must not
        be sent again before reading back what Tidepool holds.
    :param retry_after: seconds that the response asks to wait, ``None`` if it does not say.
    """

    disposition: Disposition = Disposition.RETRIABLE
    code = "tidepool-unreachable"
    sentence = "no usable response arrived"
    remedy = "Nothing to do if Tidepool or the network is down: it is tried again later."

    def __init__(
        self, operation: str, *, in_doubt: bool = False, retry_after: float | None = None, **parts: Any
    ) -> None:
        self.in_doubt = in_doubt
        self.retry_after = retry_after
        super().__init__(operation, **{"remedy": CHECK_FIRST if in_doubt else "", **parts})

    def _message(self) -> str:
        doubt = " It may have been carried out all the same." if self.in_doubt else ""
        return super()._message() + doubt


def _shortened(codes: list[str]) -> list[str]:
    return codes if len(codes) <= CODES_SHOWN else [*codes[:CODES_SHOWN], "and more"]
