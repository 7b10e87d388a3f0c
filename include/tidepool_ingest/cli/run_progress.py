"""How far a run has come, on the last line of a terminal; nothing where nobody sits at one."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, RLock, Thread
from typing import Self

from tidepool_ingest.cli.terminal import Terminal

AFTER_SECONDS = 2.0
"""From when on a run says how far it has come."""

EVERY_SECONDS = 0.5

_ERASE = "\r\x1b[K"


class RunProgress:
    """Shows how far a run has come; to be used in a ``with`` statement.

    :param batches: how many it takes.
    """

    def __init__(self, batches: int) -> None:
        self._batches = batches
        self._lock = RLock()
        self._is_shown = False
        self._over = Event()
        self._thread: Thread | None = None
        self._step = "preparing"
        self._settled = 0
        self._to_store: dict[int, int] = {}
        self._stored: dict[int, int] = {}
        self._sending_since: float | None = None
        self._sent_for = 0.0

    def __enter__(self) -> Self:
        """Begin to show it, if standard error is a terminal that can rewrite a line."""
        if is_terminal():
            self._thread = Thread(target=self._show_again, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()
            self._erase()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the terminal to what is printed, or asked, in a ``with`` block."""
        with self._lock:
            self._erase()
            yield

    # ---------------------------------------------------------------- what the run tells

    def preparing(self, label: str) -> None:
        """Note which batch is being prepared."""
        self._sending(is_so=False)
        self._step = f"preparing {label}"

    def waiting(self, what_for: str) -> None:
        """Note what the run waits for."""
        self._sending(is_so=False)
        self._step = f"waiting, {what_for}"

    def uploading(self, records: Mapping[int, int]) -> None:
        """Note that prepared batches are uploaded from now on.

        :param records: how many records each has, by its number.
        """
        self._sending(is_so=True)
        self._step = "uploading"
        with self._lock:
            self._to_store |= records

    def begins(self, batch: int) -> None:
        """Note that the upload of a batch begins, or begins once more: what Tidepool holds is told again."""
        with self._lock:
            self._stored[batch] = 0

    def stored(self, batch: int, records: int) -> None:
        """Note that Tidepool has stored records of a batch, or is found to hold them."""
        with self._lock:
            self._stored[batch] = min(self._stored[batch] + records, self._to_store[batch])

    def settled(self) -> None:
        """Note that the run has nothing more to do with a batch."""
        with self._lock:
            self._settled += 1

    # ---------------------------------------------------------------- what is shown

    def line(self, columns: int) -> str:
        """Return what is shown now.

        :param columns: how wide it may be.
        """
        with self._lock:
            stored, of = sum(self._stored.values()), sum(self._to_store.values())
            seconds = self._seconds_sent()
        parts = [self._step]
        if self._step == "uploading":
            parts = [f"sending {stored:,} of {of:,} records"]
            if 0 < stored < of and seconds > 0:
                parts.append(f"{stored / seconds:,.0f} a second")
                parts.append(f"{clock((of - stored) * seconds / stored)} left")
            elif stored == of:
                parts.append("verifying")
        return f"{self._settled:,} of {self._batches:,} done; {', '.join(parts)}"[:columns]

    def _sending(self, *, is_so: bool) -> None:
        """Begin to measure how long records are being sent, or pause."""
        with self._lock:
            self._sent_for = self._seconds_sent()
            self._sending_since = time.monotonic() if is_so else None

    def _seconds_sent(self) -> float:
        since = self._sending_since
        return self._sent_for + (0.0 if since is None else time.monotonic() - since)

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


def is_terminal() -> bool:
    """Return whether standard error is a terminal that can rewrite a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def clock(seconds: float) -> str:
    """Return a time as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
