"""Every fault that a schedule may hold, by the name under which it is counted.

What strikes at Tidepool's side are faults of the simulator; what strikes at ours is done to the worker's
process by itself (see :mod:`.gremlins`) or by its supervisor.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from tidepool_simulator import Fault, ResponseFault, Work

LATEST_COMMIT = 0.5
"""Seconds, at most, that work is done after its response was cut; the workers' bound on a doubt is longer."""

VISIBLE_WAIT = 0.5
"""Seconds that the workers wait for rows to become visible, as long as no more do."""

LATEST_SHOWN = 0.8 * VISIBLE_WAIT
"""Seconds, at most, that nothing is shown of what is visible."""

WRITES = ("create", "post", "delete-data", "close", "delete")
"""The requests that change something, by their names in the simulator."""

Make = Callable[[random.Random, int], Fault]
"""Makes a fault from draws, and from how many matching requests pass before it strikes."""


class Local(StrEnum):
    """What goes wrong at our side."""

    KILL_AT_REQUEST = "SIGKILL at a request"
    KILL_AT_LEDGER = "SIGKILL at a ledger write"
    KILL_ANYWHERE = "SIGKILL at any moment"
    TERMINATE = "SIGTERM (marked failed, on_kill)"
    STALL = "stalled past its lease, taken over"
    FREEZE_AT_REQUEST = "frozen at a request, past its leases"
    FREEZE_ANYWHERE = "frozen at any moment, past its leases"
    LEDGER_LOCKED = "ledger locked"
    LEDGER_AWAY = "ledger away"
    LEDGER_ANSWER_LOST = "ledger away after it committed"
    READ_FAILS = "staging read fails"
    DISK_FULL = "disk full"
    TWICE = "same batch started twice"
    CLEAR_TASK = "cleared: one mapped task"
    CLEAR_RUN = "cleared: whole run"
    POISON = "poison: a record answered with 500 each time"
    FILE_REMOVED = "damaged work area: a file removed"
    FILE_TRUNCATED = "damaged work area: a file truncated"
    BIT_FLIPPED = "damaged work area: a bit flipped"
    LEDGER_LOST = "ledger lost"
    LEDGER_RESTORED = "ledger restored from a backup"
    SECOND_DEPLOYMENT = "second deployment at once"


class Proxied(StrEnum):
    """What goes wrong at a proxy between us and Tidepool, in the schedules that are played behind one."""

    ANSWER_CUT = "proxy: answer cut off"
    ANSWER_RESET = "proxy: answer reset"
    REUSED_CUT = "proxy: answer cut off on a reused connection"
    REUSED_RESET = "proxy: answer reset on a reused connection"
    REQUEST_RESET = "proxy: request reset on its way"
    HANDSHAKE_CUT = "proxy: handshake cut off"
    REFUSED = "proxy: tunnel refused"
    SLOW = "proxy: tunnel slower than a request may wait"


REPLACED_LEDGERS = (Local.LEDGER_LOST, Local.LEDGER_RESTORED)
"""Everything stands still when they strike: nobody replaces a database under tasks at work."""

OF_LEDGERS = (*REPLACED_LEDGERS, Local.SECOND_DEPLOYMENT)
"""What leaves data sets at Tidepool that a ledger does not know; done by the supervisor."""

FREEZES = (Local.FREEZE_AT_REQUEST, Local.FREEZE_ANYWHERE)

DAMAGES = (Local.FILE_REMOVED, Local.FILE_TRUNCATED, Local.BIT_FLIPPED)

OVERTAKEN = frozenset({Local.TWICE, Local.STALL, *FREEZES})
"""After these, two processes work on one task: Airflow takes one that stands still for dead."""

KILLS = (Local.KILL_AT_REQUEST, Local.KILL_AT_LEDGER, Local.KILL_ANYWHERE)


@dataclass(frozen=True)
class Kind:
    """One kind of fault at Tidepool's side.

    :param name: how it is counted.
    :param operation: the request it strikes.
    :param make: makes one.
    """

    name: str
    operation: str
    make: Make


def _late(operation: str, status: int | None) -> Make:
    def make(chance: random.Random, skip: int) -> Fault:
        steps = chance.randrange(4) if operation == "close" else 0
        delay = round(chance.uniform(0.1, LATEST_COMMIT), 2)
        return Fault.late_commit(operation, delay, status=status, steps=steps, skip=skip)

    return make


def _partial(operation: str, status: int, steps: int) -> Make:
    def make(chance: random.Random, skip: int) -> Fault:
        share = round(chance.uniform(0.1, 0.9), 2)
        return Fault.partial(operation, steps=steps, share=share, status=status, skip=skip)

    return make


def _plain(kind: Callable[..., Fault], operation: str, *values: object, **fields: object) -> Make:
    return lambda chance, skip: kind(operation, *values, skip=skip, **fields)


def _refused(operation: str, status: int, retry_after: str | None = None, times: int = 1) -> Make:
    return lambda chance, skip: Fault.refused(
        operation, status, retry_after=retry_after, skip=skip, times=times
    )


def _shown_late(operation: str, longest: float, *, gradually: bool) -> Make:
    def make(chance: random.Random, skip: int) -> Fault:
        seconds = round(chance.uniform(0.1, longest), 2)
        return Fault.shown_late(operation, seconds, gradually=gradually, skip=skip)

    return make


def _late_visibility(operation: str) -> Iterator[Kind]:
    """Yield what shows late what a request has made visible: at once, or more and more of it."""
    yield Kind(
        f"late visibility: {operation}", operation, _shown_late(operation, LATEST_SHOWN, gradually=False)
    )
    yield Kind(
        f"late visibility, more and more: {operation}",
        operation,
        _shown_late(operation, 2 * VISIBLE_WAIT, gradually=True),
    )


def _cut(operation: str, answer: ResponseFault) -> Make:
    return lambda chance, skip: Fault(operation=operation, answer=answer, delay=0.3, skip=skip)


def _kinds() -> list[Kind]:
    kinds = []
    for operation in (*WRITES, "read-back"):
        kinds.append(Kind(f"answer lost: {operation}", operation, _plain(Fault.lost_answer, operation)))
        kinds.append(Kind(f"request lost: {operation}", operation, _plain(Fault.lost_request, operation)))
    for operation in WRITES:
        kinds.append(Kind(f"late commit after a reset: {operation}", operation, _late(operation, None)))
        kinds.append(Kind(f"late commit after a 504: {operation}", operation, _late(operation, 504)))
    kinds.append(Kind("stored in part, then 500: post", "post", _partial("post", 500, 0)))
    kinds.append(
        Kind("removed in part, then 500: delete-data", "delete-data", _partial("delete-data", 500, 0))
    )
    kinds.append(Kind("row made, then 500: create", "create", _partial("create", 500, 1)))
    for steps in range(2):
        kinds.append(
            Kind(
                f"deleted in part, then 500: delete ({steps} writes)",
                "delete",
                _partial("delete", 500, steps),
            )
        )
    kinds.extend(_late_visibility("close"))
    kinds.append(Kind("504 before the work: close", "close", _refused("close", 504)))
    for steps in range(4):
        kinds.append(
            Kind(f"504 in the middle: close ({steps} writes)", "close", _partial("close", 504, steps))
        )
    for operation in WRITES:
        kinds.append(
            Kind(f"504 after the work: {operation}", operation, _plain(Fault.failed_after, operation))
        )
    for operation in ("create", "post", "close", "read-back"):
        kinds.append(Kind(f"401: {operation}", operation, _refused(operation, 401)))
        kinds.append(Kind(f"401 twice: {operation}", operation, _refused(operation, 401, times=2)))
        kinds.append(Kind(f"429: {operation}", operation, _refused(operation, 429)))
        kinds.append(Kind(f"429 with Retry-After: {operation}", operation, _refused(operation, 429, "1")))
        kinds.extend(
            Kind(f"{status}: {operation}", operation, _refused(operation, status))
            for status in (500, 502, 503)
        )
        kinds.append(
            Kind(f"body cut off: {operation}", operation, _cut(operation, ResponseFault.TRUNCATED_BODY))
        )
        kinds.append(Kind(f"body reset: {operation}", operation, _cut(operation, ResponseFault.RESET_BODY)))
        kinds.append(Kind(f"slow body: {operation}", operation, _cut(operation, ResponseFault.SLOW_BODY)))
        kinds.append(Kind(f"hang, nothing done: {operation}", operation, _plain(Fault.hang, operation)))
        kinds.append(
            Kind(f"hang, all done: {operation}", operation, _plain(Fault.hang, operation, work=Work.ALL))
        )
    for status in (500, 503):
        kinds.append(Kind(f"{status}: token", "token", _refused("token", status)))
    kinds.append(Kind("hang, nothing done: token", "token", _plain(Fault.hang, "token")))
    return kinds


LISTS = (
    Kind("500: list", "list", _refused("list", 500)),
    Kind("429: list", "list", _refused("list", 429)),
    Kind("401: list", "list", _refused("list", 401)),
    Kind("body cut off: list", "list", _cut("list", ResponseFault.TRUNCATED_BODY)),
    Kind("answer lost: list", "list", _plain(Fault.lost_answer, "list")),
    Kind("hang, nothing done: list", "list", _plain(Fault.hang, "list")),
)
"""Faults of the list in which a data set is looked for."""

REMOTE = (*_kinds(), *LISTS)
"""All kinds at Tidepool's side."""

BY_NAME = {kind.name: kind for kind in REMOTE}

FEED_REMOTE = (
    *(kind for kind in REMOTE if kind.operation not in ("close", "delete")),
    *_late_visibility("post"),
)
"""All kinds that a feed can meet: its data set is looked for in a list, never closed and never deleted."""

REMOTE_OF = {"normal": REMOTE, "continuous": FEED_REMOTE, "backlog": REMOTE}

LOCAL_OF = {
    "normal": tuple(Local),
    "continuous": tuple(Local),
    "backlog": tuple(kind for kind in Local if kind is not Local.SECOND_DEPLOYMENT),
}
"""All kinds at our side. A ledger orders its own batches: two deployments at once have no common order."""

DOUBTS = tuple(
    kind
    for kind in REMOTE
    if kind.operation == "post"
    and kind.make is not None
    and kind.name.startswith(("answer lost", "late commit", "stored in part", "504 after", "hang", "body"))
)
"""Faults that leave a chunk in doubt, so that the ones of ``delete-data`` have a request to strike."""

HALF_CLOSES = tuple(kind for kind in REMOTE if kind.name.startswith("504 in the middle: close"))
"""Faults that leave a set closed by half, so that the ones of ``delete`` have a request to strike."""
