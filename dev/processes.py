"""Processes of a local run, each ended together with everything it started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command in a terminal: Ctrl-C, ``kill``, and closing the terminal."""

STOP_SECONDS = 15.0
"""How long a process may take to end by itself."""

POLL_SECONDS = 0.05


class LocalProcess:
    """A command that runs as a session of its own, so that everything it starts can be found again.

    A process group would not do: Airflow gives each running task a group of its own, but the same session.
    A terminal's Ctrl-C does not reach the session, so whoever started it decides what ends when.

    :param command: program and arguments.
    :param environment: the process's environment; this process's own if not given.
    :param log: file to append its output to; without one, its errors go where this process's go.
    """

    def __init__(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        with ExitStack() as stack:
            output = stack.enter_context(log.open("ab")) if log else None
            stack.enter_context(uninterrupted())
            self._leader = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output or subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """Whether the command itself has ended."""
        return self._leader.poll() is not None

    def members(self) -> list[int]:
        """Return the ids of all processes that the command has started and that still run, with its own."""
        self._leader.poll()
        found = []
        for pid in psutil.pids():
            # A process may end meanwhile.
            with suppress(ProcessLookupError, PermissionError, psutil.Error):
                if (
                    os.getsid(pid) == self._leader.pid
                    and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(pid)
        return found

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to everything that still runs."""
        for pid in self.members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def end(processes: Sequence[LocalProcess], within: float = STOP_SECONDS) -> None:
    """End processes and everything they started; kill what has not ended in time.

    :param processes: the processes, all ended at once.
    :param within: how long they may take, in seconds.
    """
    with uninterrupted():
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in processes:
                process.signal(number)
            give_up = time.monotonic() + within
            while any(process.members() for process in processes):
                if time.monotonic() > give_up:
                    break
                time.sleep(POLL_SECONDS)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Postpone signals that end this process until the end of a ``with`` block.

    Between starting a process and knowing it, or while ending one, an interrupt would leave it behind.
    For the main thread only, like all of :mod:`signal`.
    """
    postponed: list[int] = []
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        signal.signal(number, lambda received, _frame: postponed.append(received))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if postponed:
            signal.raise_signal(postponed[0])
