"""Faults: what may go wrong with a request, and which requests it strikes.

A fault says two independent things. ``work``: how much of what the request asks for is done.
``answer``: what the client gets to see of it. Most outages a client meets are a pair of the two, and the
interesting ones are those where the pair does not match: done and yet no response, no response and done
seconds later, half done and a 500.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

OPERATIONS = frozenset({
    "associated-users", "check-token", "close", "create", "create-user", "delete", "delete-data",
    "delete-user-data", "discovery", "get", "info", "list", "login", "logout", "post", "read-back", "refresh",
    "server-login", "time", "token", "unknown", "user", "userinfo",
})  # fmt: skip
"""What a request can be. ``delete`` deletes a data set, ``delete-data`` data by selectors, ``close`` is any
PUT of a data set, ``token`` the OIDC token endpoint, ``login`` and ``refresh`` the legacy ones."""
ANY_OPERATION = "*"

DEFAULT_DELAY = 1.0
"""Seconds that late work is held and a slow body takes, unless the fault says otherwise."""


class Work(StrEnum):
    """How much of a request is done."""

    ALL = "all"
    NONE = "none"
    PART = "part"
    """Some writes (``steps``), and a share of the next one."""
    LATE = "late"
    """Everything, but held for ``delay`` seconds before the write number ``steps`` + 1, after the checks."""


class ResponseFault(StrEnum):
    """What the client gets."""

    NORMAL = "normal"
    RESET = "reset"
    """The connection is reset, nothing of a response was sent."""
    HANG = "hang"
    """Nothing, and the connection stays open."""
    SLOW_BODY = "slow-body"
    """The body in small pieces, over ``delay`` seconds."""
    TRUNCATED_BODY = "truncated-body"
    """Half of the body, then an orderly end of the connection."""
    RESET_BODY = "reset-body"
    """Half of the body, then a reset."""
    STATUS = "status"
    """``status`` instead of the true response."""


_NEED_A_RESPONSE = frozenset({
    ResponseFault.NORMAL, ResponseFault.SLOW_BODY, ResponseFault.TRUNCATED_BODY, ResponseFault.RESET_BODY,
})  # fmt: skip


class Fault(BaseModel):
    """One fault, and whom it strikes.

    :param operation: one of :data:`OPERATIONS`, or ``*``.
    :param user: only requests about this user's data (id).
    :param data_set: only requests about this data set (upload id).
    :param skip: matching requests that pass before the first is struck.
    :param times: how many are struck; None for no limit.
    :param chance: of each matching request to be struck, 0 to 1; drawn from the seed.
    :param latency: seconds before the request is looked at. Those of all matching faults add up.
    :param status: what is answered when ``answer`` is ``status``: 401, 429, 500, 502, 503, 504, or any other.
    :param retry_after: value of the header ``Retry-After`` beside the status; None for none.
    :param steps: writes that are done before work stops or is held. A close writes the state, hides older
        data (hash) or removes them (truncate: data, then sets), activates the set, then its data. A create
        writes the row, then opens it. Posting writes once, but origin deduplicators mark, insert and destroy.
        Deleting a set gives back what it hid (hash), removes its data, then marks it.
    :param share: how much of the write after them is done, when only part of the work is: 0 to 1.
    :param delay: seconds; see ``Work.LATE`` and ``ResponseFault.SLOW_BODY``.
    :param shown_after: seconds for which the read-back does not show yet what the request has made visible.
    :param gradually: whether it shows more and more of it during that time, rather than nothing.
    :param name: its name in the counts; made of the rest if empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str = ANY_OPERATION
    work: Work = Work.ALL
    answer: ResponseFault = ResponseFault.NORMAL
    status: int | None = Field(default=None, ge=400, le=599)
    retry_after: str | None = None
    latency: float = Field(default=0.0, ge=0)
    steps: int = Field(default=0, ge=0)
    share: float = Field(default=0.0, ge=0, lt=1)
    delay: float = Field(default=DEFAULT_DELAY, ge=0)
    shown_after: float = Field(default=0.0, ge=0)
    gradually: bool = False
    user: str | None = None
    data_set: str | None = None
    skip: int = Field(default=0, ge=0)
    times: int | None = Field(default=1, ge=1)
    chance: float = Field(default=1.0, gt=0, le=1)
    name: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> Fault:
        if self.operation != ANY_OPERATION and self.operation not in OPERATIONS:
            raise ValueError(f"no operation {self.operation!r}; there are {', '.join(sorted(OPERATIONS))}")
        if self.work is not Work.ALL and self.answer in _NEED_A_RESPONSE:
            raise ValueError(
                f"work {self.work!s} has no answer of its own: answer must be reset, hang or status"
            )
        if (self.answer is ResponseFault.STATUS) != (self.status is not None):
            raise ValueError("a status goes with answer 'status', and with no other")
        if self.shown_after and not (self.work is Work.ALL and self.operation in ("close", "post")):
            raise ValueError("only what a whole close or post has made visible is shown late")
        return self

    @property
    def label(self) -> str:
        """What counts call this fault."""
        what = str(self.status) if self.status else str(self.answer)
        if self.only_slows:
            what = "latency"
        if self.shown_after:
            what = "shown late"
        work = "" if self.work is Work.ALL else f" work {self.work}"
        return self.name or f"{self.operation} {what}{work}"

    @property
    def only_slows(self) -> bool:
        """Whether the request is as any other, only later."""
        is_normal = self.work is Work.ALL and self.answer is ResponseFault.NORMAL
        return is_normal and not self.shown_after

    @classmethod
    def slow(cls, seconds: float, operation: str = ANY_OPERATION, **match: Any) -> Fault:
        """Every matching request takes longer."""
        return cls(operation=operation, latency=seconds, **({"times": None} | match))

    @classmethod
    def lost_request(cls, operation: str, **match: Any) -> Fault:
        """The connection is reset before anything is done."""
        return cls(operation=operation, work=Work.NONE, answer=ResponseFault.RESET, **match)

    @classmethod
    def lost_answer(cls, operation: str, **match: Any) -> Fault:
        """Everything is done, then the connection is reset."""
        return cls(operation=operation, answer=ResponseFault.RESET, **match)

    @classmethod
    def late_commit(cls, operation: str, delay: float, *, status: int | None = None, **fields: Any) -> Fault:
        """The connection is reset, or the gateway answers a status, and everything is done only later."""
        return cls(
            operation=operation, work=Work.LATE, delay=delay, status=status, answer=_cut(status), **fields
        )

    @classmethod
    def shown_late(cls, operation: str, seconds: float, *, gradually: bool = False, **match: Any) -> Fault:
        """Everything is done and confirmed, but the read-back shows it only later."""
        return cls(operation=operation, shown_after=seconds, gradually=gradually, **match)

    @classmethod
    def partial(
        cls, operation: str, *, steps: int = 0, share: float = 0.5, status: int = 500, **fields: Any
    ) -> Fault:
        """Part of the work is done, then the server fails."""
        return cls(
            operation=operation, work=Work.PART, steps=steps, share=share, answer=ResponseFault.STATUS,
            status=status, **fields,
        )  # fmt: skip

    @classmethod
    def refused(cls, operation: str, status: int, *, retry_after: str | None = None, **match: Any) -> Fault:
        """Nothing is done and a status is answered: 401, 429, 500, 502, 503, 504."""
        return cls(
            operation=operation, work=Work.NONE, answer=ResponseFault.STATUS, status=status,
            retry_after=retry_after, **match,
        )  # fmt: skip

    @classmethod
    def failed_after(cls, operation: str, status: int = 504, **match: Any) -> Fault:
        """Everything is done, yet a status is answered: a gateway that did not wait."""
        return cls(operation=operation, answer=ResponseFault.STATUS, status=status, **match)

    @classmethod
    def hang(cls, operation: str, *, work: Work = Work.NONE, **fields: Any) -> Fault:
        """There is no response."""
        return cls(operation=operation, work=work, answer=ResponseFault.HANG, **fields)


def _cut(status: int | None) -> ResponseFault:
    return ResponseFault.RESET if status is None else ResponseFault.STATUS


@dataclass
class _Installed:
    id: int
    fault: Fault
    matched: int = 0
    struck: int = 0

    @property
    def is_spent(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times


@dataclass(frozen=True)
class Struck:
    """What happens to one request.

    :param latency: seconds before it is looked at.
    :param fault: what strikes it; None when nothing does but the latency.
    """

    latency: float = 0.0
    fault: Fault | None = None


class Faults:
    """The faults that wait for requests; safe to use from several threads.

    :param seed: of the draws for faults with a ``chance``.
    """

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._installed: list[_Installed] = []
        self._next_id = 1
        self.counts: Counter[str] = Counter()
        """How often faults of each label struck, cleared ones too."""

    def add(self, *faults: Fault) -> list[int]:
        """Install faults; of several that match a request the first added strikes.

        :return: their ids, for :meth:`remove`.
        """
        with self._lock:
            added = [_Installed(self._next_id + index, fault) for index, fault in enumerate(faults)]
            self._next_id += len(added)
            self._installed += added
        return [installed.id for installed in added]

    def remove(self, fault_id: int) -> None:
        """Remove one fault."""
        with self._lock:
            self._installed = [installed for installed in self._installed if installed.id != fault_id]

    def clear(self) -> None:
        """Remove all faults; the counts stay."""
        with self._lock:
            self._installed.clear()

    def strike(self, operation: str, data_set: str | None, user: Callable[[], str | None]) -> Struck:
        """Return what happens to a request, and count it.

        :param user: returns whose data it is about; called only when a fault needs it.
        """
        latency, striking = 0.0, None
        with self._lock:
            for installed in self._installed:
                if not self._hits(installed, operation, data_set, user):
                    continue
                if striking is None or installed.fault.only_slows:
                    installed.struck += 1
                    self.counts[installed.fault.label] += 1
                    latency += installed.fault.latency
                if striking is None and not installed.fault.only_slows:
                    striking = installed.fault
        return Struck(latency, striking)

    def as_json(self) -> list[dict[str, Any]]:
        """Return the waiting and the spent faults with how often each matched and struck."""
        with self._lock:
            return [
                installed.fault.model_dump(mode="json")
                | {"id": installed.id, "matched": installed.matched, "struck": installed.struck}
                for installed in self._installed
            ]

    def _hits(
        self, installed: _Installed, operation: str, data_set: str | None, user: Callable[[], str | None]
    ) -> bool:
        fault = installed.fault
        if installed.is_spent or fault.operation not in (ANY_OPERATION, operation):
            return False
        if fault.data_set not in (None, data_set) or (fault.user is not None and fault.user != user()):
            return False
        installed.matched += 1
        return installed.matched > fault.skip and (fault.chance >= 1 or self._random.random() < fault.chance)
