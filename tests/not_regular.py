"""What lies in staging and is no regular file."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

PATIENCE_SECONDS = 10.0


@contextmanager
def no_waiting(*pipes: Path) -> Iterator[None]:
    """Let whoever waits for a named pipe after all go on, so that a failure is one and not a hang."""

    def release() -> None:
        for pipe in pipes:
            with suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))

    timer = Timer(PATIENCE_SECONDS, release)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def lay_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        before = Path.cwd()
        os.chdir(path.parent)  # the name of a socket may have a hundred characters
        try:
            made.bind(path.name)
        finally:
            os.chdir(before)
