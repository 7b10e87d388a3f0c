"""What still runs: looked for in three ways, because a process that was left behind may hide from each."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil

PATIENCE_SECONDS = 30.0
"""How long the system may take to remove what has ended."""


def children_of(pid: int) -> list[psutil.Process]:
    """Everything that a process has started, directly or not, and that has not left its family."""
    return psutil.Process(pid).children(recursive=True)


def of_folder(folder: Path) -> list[psutil.Process]:
    """Every process that names a folder in its environment or its arguments, or works in it."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.environ().values(), *process.cmdline(), process.cwd()]
            if any(str(folder) in word for word in words):
                found.append(process)
    return found


def remaining_of(processes: list[psutil.Process], folder: Path) -> list[str]:
    """Which of these processes, or of a folder's, still run after a moment's patience."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while remaining := [process for process in [*processes, *of_folder(folder)] if _runs(process)]:
        if time.monotonic() > give_up:
            break
        time.sleep(0.1)
    return sorted({str(process) for process in remaining})


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
