"""Servers that tests start as processes of their own, and that are gone when the test is over."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.airflow.ports import free_port, is_open
from tidepool_airflow.local.processes import LocalProcess, end

START_SECONDS = 120.0


@contextmanager
def serving(
    command: Sequence[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[None]:
    """Run a server for the length of a ``with`` block, which begins when it listens.

    :param command: program and arguments, the port among them.
    :param port: where it will listen.
    :param log: its output is added there.
    :param environment: of its process; this one's if not given.
    """
    process = LocalProcess(command, environment=environment, log=log)
    try:
        give_up = time.monotonic() + START_SECONDS
        while not is_open(port):
            assert not process.has_ended, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        end([process])


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Run an S3 that keeps everything in memory, and return its address. It takes any credentials."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with serving(command, port, log):
        yield f"http://127.0.0.1:{port}"
