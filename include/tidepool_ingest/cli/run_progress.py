"""How far a run has come, on the last line of a terminal; nothing where nobody sits at one."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tidepool_ingest.cli.progress import LineOfProgress, clock, fitting, of_records

_PREPARING, _UPLOADING = "preparing", "uploading"


class RunProgress(LineOfProgress):
    """Shows how far a run has come.

    :param batches: how many it takes.
    """

    def __init__(self, batches: int) -> None:
        super().__init__()
        self._batches = batches
        self._step = _PREPARING
        self._settled = 0
        self._to_store: dict[int, int] = {}
        self._stored: dict[int, int] = {}
        self._sent = 0
        self._sending_since: float | None = None
        self._sent_for = 0.0

    # ---------------------------------------------------------------- what the run tells

    def preparing(self, label: str) -> None:
        """Note which batch is being prepared."""
        self._sending(is_so=False)
        self._step = f"{_PREPARING} {label}"
        self._watch_anew()

    def waiting(self, what_for: str) -> None:
        """Note what the run waits for."""
        self._sending(is_so=False)
        self._step = f"waiting, {what_for}"

    def uploading(self, records: Mapping[int, int]) -> None:
        """Note that prepared batches are uploaded from now on.

        :param records: how many records each has, by its number.
        """
        self._sending(is_so=True)
        self._step = _UPLOADING
        with self._lock:
            self._to_store |= records

    def found(self, batch: int, records: int) -> None:
        """Note that the upload of a batch begins, or begins once more, and how much Tidepool holds of it."""
        with self._lock:
            self._stored[batch] = records

    def stored(self, batch: int, records: int) -> None:
        """Note that Tidepool has stored more records of a batch."""
        with self._lock:
            self._sent += records
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
            sent, seconds = self._sent, self._seconds_sent()
        parts = [self._step]
        if self._step == _UPLOADING:
            parts = [f"sending {stored:,} of {of:,} records"]
            if sent and stored < of and seconds > 0:
                parts.append(f"{sent / seconds:,.0f} a second")
                parts.append(f"{clock((of - stored) * seconds / sent)} left")
            elif stored == of:
                parts.append("verifying")
        elif self._step.startswith(_PREPARING) and (read := self._watch.records):
            parts += of_records(read, max(time.monotonic() - self._began, 0.001))
        return fitting(f"{self._settled:,} of {self._batches:,} done; ", parts, columns)

    def _sending(self, *, is_so: bool) -> None:
        """Begin to measure how long records are being sent, or pause."""
        with self._lock:
            self._sent_for = self._seconds_sent()
            self._sending_since = time.monotonic() if is_so else None

    def _seconds_sent(self) -> float:
        since = self._sending_since
        return self._sent_for + (0.0 if since is None else time.monotonic() - since)
