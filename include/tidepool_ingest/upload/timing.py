"""How long the steps of an upload may take, and how long their doubts last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Timing:
    """Bounds on the steps of an upload, in seconds where nothing else is said.

    :param request: the longest a request may take in all. The gateway cuts off at 60 s; the rest is the way
        there and back.
    :param begin: how long after its claims were made sure of a request may still be begun: it may have to
        wait for a token. Later it is not sent.
    :param doubt: how long a request may still be carried out after it was given up without an answer. The
        Platform's own work on it ends soon after the gateway has cut it off at 60 s; this is twice that.
    :param lease: how long a claim on a batch or a device outlives a holder that died. At least ``request``
        and ``doubt`` of it are left when a request is sent that changes something: what the dead have asked
        for is carried out by then, or never.
    :param close_turn: how long to wait for another batch of the same device to be closed and read back.
    :param attempts: how often a step in doubt is reconciled and tried again before Airflow's own retry
        takes over.
    :param pause: pause before a step is tried again, doubled each time.
    :param patience: the longest that a task waits by itself when Tidepool asks to slow down; for longer,
        Airflow's retry waits and the worker is free meanwhile.
    :param read_back: the longest that a read-back may be silent, at its start or in between.
    :param read_rows: records that are read back at once; a larger data set is read in windows of time. The
        gateway gives an answer 60 s, and Tidepool's reading service 3 minutes.
    :param visible_wait: how long to wait for rows to show after a close in doubt: the Platform may still be
        at work on it.
    :param visible_poll: pause between two read-backs.
    """

    request: float = 150.0
    begin: float = 60.0
    doubt: float = 120.0
    lease: float = 300.0
    close_turn: float = 600.0
    attempts: int = 3
    pause: float = 1.0
    patience: float = 60.0
    read_back: float = 200.0
    read_rows: int = 50_000
    visible_wait: float = 60.0
    visible_poll: float = 2.0


USUAL: Final = Timing()
"""What holds outside of tests."""
