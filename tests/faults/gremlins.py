"""What goes wrong at our side, done to the worker's own process: kills, a ledger that is away, a full disk.

The code under test is not changed: it is met where it calls the network library, the ledger's database and
the file system.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import requests
from requests.adapters import HTTPAdapter
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from tests.faults.catalogue import DAMAGES, Local
from tests.faults.journal import Journal
from tests.faults.schedule import LocalFault
from tidepool_ingest.ledger import database
from tidepool_ingest.ledger.database import Database
from tidepool_ingest.staging import local, storage
from tidepool_ingest.staging.storage import WholeFileWriter

STALL_SECONDS = 3.0
"""Longer than a lease of these workers lasts."""

FREEZE_SECONDS = 3.0
"""The same for a process that is stopped altogether."""

AT_REQUEST = (Local.KILL_AT_REQUEST, Local.TERMINATE, Local.STALL, Local.FREEZE_AT_REQUEST)
SIGNALS = {Local.TERMINATE: signal.SIGTERM, Local.FREEZE_AT_REQUEST: signal.SIGSTOP}

LONGEST_SECONDS = 0.4
"""What a fault's ``seconds`` are drawn from; their share of it says which file is damaged, and where."""

REQUEST_SHARE = 20
"""A request is so many times shorter than a task: what strikes during one comes so much sooner."""


class Gremlins:
    """The local faults of one task.

    :param faults: those that strike this task.
    :param journal: gets each before it strikes.
    :param ledger: the ledger's file.
    :param areas: the work areas of the task's batch: folders that need not be there.
    """

    def __init__(
        self, faults: Sequence[LocalFault], journal: Journal, ledger: Path, areas: Sequence[Path] = ()
    ) -> None:
        self._faults = faults
        self._areas = areas
        self._journal = journal
        self._ledger = ledger
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def move_in(self) -> None:
        """Start to watch this process's calls. There is no way back: the process is a worker's."""
        signal.signal(signal.SIGTERM, _leave)
        self._watch_requests()
        self._watch_ledger()
        self._watch_files()
        for fault in self._of(Local.KILL_ANYWHERE):
            self._in_a_while(fault, fault.seconds, signal.SIGKILL)
        for fault in self._of(Local.FREEZE_ANYWHERE):
            self._in_a_while(fault, fault.seconds, signal.SIGSTOP)

    def _of(self, *kinds: Local) -> list[LocalFault]:
        return [fault for fault in self._faults if fault.kind in kinds]

    def _due(self, what: str, *kinds: Local) -> list[LocalFault]:
        """Count a call, and return the faults that strike it."""
        with self._lock:
            number = self._calls[what]
            self._calls[what] += 1
        return [fault for fault in self._of(*kinds) if fault.at == number]

    # ------------------------------------------------------------------------------------ kills

    def _die(self, fault: LocalFault, number: signal.Signals) -> None:
        self._journal.append(str(fault.kind))
        if number == signal.SIGSTOP:
            _thaw_later()
        os.kill(os.getpid(), number)

    def _in_a_while(self, fault: LocalFault, seconds: float, number: signal.Signals) -> None:
        timer = threading.Timer(seconds, self._die, (fault, number))
        timer.daemon = True
        timer.start()

    def _watch_requests(self) -> None:
        send = HTTPAdapter.send

        def watched(
            adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any
        ) -> Any:
            due = self._due("request", *AT_REQUEST, *DAMAGES)
            self._damage([fault for fault in due if fault.kind in DAMAGES])
            due = [fault for fault in due if fault.kind not in DAMAGES]
            self._at_request(due, "before")
            self._at_request(due, "during")
            response = send(adapter, request, *args, **kwargs)
            self._at_request(due, "after")
            return response

        HTTPAdapter.send = watched  # type: ignore[method-assign,assignment]

    def _at_request(self, due: Sequence[LocalFault], moment: str) -> None:
        for fault in due:
            number = SIGNALS.get(fault.kind, signal.SIGKILL)
            if fault.moment != moment:
                continue
            if fault.kind is Local.STALL:
                self._journal.append(str(fault.kind))
                time.sleep(STALL_SECONDS)
            elif moment == "during":
                self._in_a_while(fault, fault.seconds / REQUEST_SHARE, number)
            else:
                self._die(fault, number)

    def _damage(self, due: Sequence[LocalFault]) -> None:
        for fault in due:
            files = sorted(path for area in self._areas for path in area.glob("[!.]*") if path.stat().st_size)
            if files:
                share = fault.seconds / LONGEST_SECONDS
                self._journal.append(str(fault.kind))
                _damage(files[int(share * len(files)) % len(files)], fault.kind, share)

    # ------------------------------------------------------------------------------------ the ledger

    def _watch_ledger(self) -> None:
        writing = Database.writing
        kinds = (Local.LEDGER_LOCKED, Local.LEDGER_AWAY, Local.LEDGER_ANSWER_LOST)

        @contextmanager
        def watched(ledger: Database) -> Iterator[Connection]:
            # What is written together counts one by one, so that a kill strikes in between as well; all else
            # that can happen to a database happens to the whole transaction.
            due = self._due("ledger write", Local.KILL_AT_LEDGER)
            due += [] if ledger.is_together else self._due("ledger", *kinds)
            self._before_ledger(due)
            with writing(ledger) as connection:
                yield connection
                self._kill(due, "during")
            self._kill(due, "after")
            if any(fault.kind is Local.LEDGER_ANSWER_LOST for fault in due):
                self._journal.append(str(Local.LEDGER_ANSWER_LOST))
                with database.translated_errors():
                    raise _away()

        Database.writing = watched  # type: ignore[method-assign,assignment]

    def _kill(self, due: Sequence[LocalFault], moment: str) -> None:
        for fault in due:
            if fault.kind is Local.KILL_AT_LEDGER and fault.moment == moment:
                self._die(fault, signal.SIGKILL)

    def _before_ledger(self, due: Sequence[LocalFault]) -> None:
        self._kill(due, "before")
        for fault in due:
            if fault.kind is Local.LEDGER_LOCKED:
                self._journal.append(str(fault.kind))
                self._lock_ledger(fault.seconds * 2)
            elif fault.kind is Local.LEDGER_AWAY:
                self._journal.append(str(fault.kind))
                with database.translated_errors():
                    raise _away()

    def _lock_ledger(self, seconds: float) -> None:
        other = sqlite3.connect(self._ledger, isolation_level=None, check_same_thread=False, timeout=5)
        other.execute("BEGIN IMMEDIATE")

        def free() -> None:
            time.sleep(seconds)
            other.close()

        threading.Thread(target=free, daemon=True).start()

    # ------------------------------------------------------------------------------------ files

    def _watch_files(self) -> None:
        open_file, write = local.open_file, WholeFileWriter.write
        gremlins = self

        class Watched(io.BufferedReader):
            def read(self, size: int | None = -1, /) -> bytes:
                for fault in gremlins._due("read", Local.READ_FAILS):
                    gremlins._journal.append(str(fault.kind))
                    raise OSError(errno.EIO, "Input/output error", self.name)
                return super().read(size)

        def opening(path: Path, below_root: int) -> BinaryIO:
            return Watched(cast("io.BufferedReader", open_file(path, below_root)).detach())

        def filling(writer: WholeFileWriter, content: bytes) -> None:
            if self._due("write", Local.DISK_FULL):
                self._journal.append(str(Local.DISK_FULL))
                write(writer, content[: len(content) // 2])
                with storage.writing():
                    raise OSError(errno.ENOSPC, "No space left on device")
            write(writer, content)

        local.open_file = opening
        WholeFileWriter.write = filling  # type: ignore[method-assign,assignment]


def _damage(path: Path, kind: Local, share: float) -> None:
    content = bytearray(path.read_bytes())
    at = int(share * (len(content) - 1))
    if kind is Local.BIT_FLIPPED:
        content[at] ^= 1 << at % 8
    if kind is Local.FILE_REMOVED:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content if kind is Local.BIT_FLIPPED else content[:at])


def _away() -> OperationalError:
    return OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))


def _thaw_later() -> None:
    """Have another process wake this one up: it cannot do that by itself."""
    frozen = os.getpid()
    if os.fork() == 0:
        time.sleep(FREEZE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.kill(frozen, signal.SIGCONT)
        os._exit(0)


def _leave(number: int, frame: object) -> None:
    del frame
    raise SystemExit(128 + number)
