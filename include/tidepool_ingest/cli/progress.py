"""How far a command has come, on the last line of a terminal; nothing where nobody sits at one."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, RLock, Thread
from typing import Self

from tidepool_ingest.cli.given import Given
from tidepool_ingest.cli.terminal import Terminal, columns_of, printable
from tidepool_ingest.staging.storage import WATCHED, Watch

AFTER_SECONDS = 2.0
"""From when on a command says how far it has come."""

EVERY_SECONDS = 0.5

_ERASE = "\r\x1b[K"
_NAME_COLUMNS = 30


class LineOfProgress(ABC):
    """The last line of a terminal, once a command takes longer; to be used in a ``with`` statement."""

    def __init__(self) -> None:
        self._watch = Watch()
        self._began = 0.0
        self._lock = RLock()
        self._is_shown = False
        self._over = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        """Begin to watch, if standard error is a terminal that can rewrite a line."""
        if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb"):
            self._began = time.monotonic()
            self._before = WATCHED.set(self._watch)
            self._thread = Thread(target=self._show_again, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            WATCHED.reset(self._before)
            self._over.set()
            self._thread.join()
            self._erase()

    @abstractmethod
    def line(self, columns: int) -> str:
        """Return what is shown now.

        :param columns: how wide it may be.
        """

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to what is printed, or asked, in a ``with`` block."""
        with self._lock:
            self._erase()
            yield

    def _watch_anew(self) -> None:
        """Count what is read from now on."""
        self._watch, self._began = Watch(), time.monotonic()
        if self._thread is not None:
            WATCHED.set(self._watch)

    def _show_again(self) -> None:
        wait = AFTER_SECONDS
        while not self._over.wait(wait):
            with self._lock:
                terminal = Terminal.of(sys.stderr)
                self._write(f"{_ERASE}{terminal.encodable(self.line(terminal.width - 1))}")
                self._is_shown = True
            wait = EVERY_SECONDS

    def _erase(self) -> None:
        if self._is_shown:
            self._write(_ERASE)
            self._is_shown = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class Progress(LineOfProgress):
    """Shows how far the reading of some files has come.

    :param things: what is read, in order.
    """

    def __init__(self, things: Sequence[Given]) -> None:
        super().__init__()
        self._things = things
        self._sizes: list[int | None] = []
        self._at = 0

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._sizes = [one.size for one in self._things]
        return super().__enter__()

    def at(self, number: int) -> None:
        """Note which of them is read now, counting from 0."""
        self._at = number

    def line(self, columns: int) -> str:
        """Return what is shown now.

        :param columns: how wide it may be.
        """
        watch, size = self._watch, self._sizes[self._at]
        seconds = max(time.monotonic() - self._began, 0.001)
        parts = []
        if records := watch.records:
            parts += of_records(records, seconds)
        elif size:
            parts.append(f"{min(watch.position / size, 1):.0%}")
        else:
            parts.append(f"{watch.bytes_read / 1e6:,.1f} MB")
        later = self._sizes[self._at + 1 :]
        if size is not None and watch.bytes_read and None not in later:
            left = max(size - watch.position, 0) + sum(other or 0 for other in later)
            parts.append(f"{clock(left * seconds / watch.bytes_read)} left")
        of = f"{self._at + 1:,} of {len(self._things):,}, " if len(self._things) > 1 else ""
        name = printable(self._things[self._at].typed)
        room = max(columns - columns_of(f"{of}: {', '.join(parts)}"), _NAME_COLUMNS)
        if columns_of(name) > room:
            name = f"…{name[1 - room :]}"
        return fitting(f"{of}{name}: ", parts, columns)


def fitting(head: str, parts: list[str], columns: int) -> str:
    """Return a line with as many of its parts as there is room for: the rate is the first to go.

    :param head: what it begins with.
    :param parts: what it says, what matters least before the last.
    :param columns: how wide it may be.
    """
    line = f"{head}{', '.join(parts)}"
    while columns_of(line) > columns and len(parts) > 1:
        parts = [*parts[:-2], parts[-1]] if len(parts) > 2 else parts[:1]
        line = f"{head}{', '.join(parts)}"
    return line[:columns]


def of_records(records: int, seconds: float) -> list[str]:
    """Return what is said of records that were read, or sent, in a time."""
    return [f"{records:,} records", f"{records / seconds:,.0f} a second"]


def clock(seconds: float) -> str:
    """Return a time as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
