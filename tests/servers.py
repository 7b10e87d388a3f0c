"""Servers that tests start as processes of their own, and that are gone when the test is over."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from dev.processes import LocalProcess, end
from sqlalchemy import create_engine, make_url, text

from tests.ports import free_port, is_open

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
    with _running(command, log, lambda: is_open(port), environment):
        yield


@contextmanager
def _running(
    command: Sequence[str],
    log: Path,
    is_up: Callable[[], object],
    environment: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Run a server for the length of a ``with`` block, which begins when it is up."""
    process = LocalProcess(command, environment=environment, log=log)
    try:
        give_up = time.monotonic() + START_SECONDS
        while not is_up():
            assert not process.has_ended, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        end([process])


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Run an S3 that keeps everything in memory, and return its address. It takes any credentials."""
    # It takes a free port and prints which: one that was found free before may be another's by now.
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", "0"]
    before = log.stat().st_size if log.exists() else 0

    def addresses() -> list[str]:
        output = log.read_bytes()[before:].decode()
        return re.findall(r"Running on (http://127\.0\.0\.1:\d+)\n", output)

    with _running(command, log, addresses):
        yield addresses()[0]


@contextmanager
def google_server(log: Path, bucket: str) -> Iterator[str]:
    """Run a Google Cloud Storage that keeps everything in memory, and return its address.

    The test is skipped where its packages are not installed. This server cannot end an upload that it has
    started (501), which its client tries again for a minute.
    """
    # Asked by gRPC for the kind of a bucket, which it is otherwise, this server never answers.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for package in ("gcp_storage_emulator", "gcsfs", "airflow.providers.google"):
        pytest.importorskip(package, reason=f"{package} is not installed: staging on gs:// was not tested")
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1", "--in-memory"]
    with serving([*command, "--port", str(port), "--default-bucket", bucket], port, log):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def azure_server(log: Path) -> Iterator[str]:
    """Run an Azure Blob Storage that keeps everything in memory, and return its connection string.

    The test is skipped where its packages are not installed.
    """
    for package in ("adlfs", "airflow.providers.microsoft.azure"):
        pytest.importorskip(package, reason=f"{package} is not installed: staging on abfs:// was not tested")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed (npm package azurite): staging on abfs:// was not tested")
    port = free_port()
    account, key = "practice", base64.b64encode(b"a key of nobody").decode()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    environment = {**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"}
    with serving([*command, "--skipApiVersionCheck", "--disableTelemetry"], port, log, environment):
        endpoint = f"BlobEndpoint=http://127.0.0.1:{port}/{account}"
        yield f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};{endpoint}"


@contextmanager
def postgresql_database(server: str) -> Iterator[str]:
    """Make an empty database on a server, and return its address."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"ledger_{secrets.token_hex(4)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
