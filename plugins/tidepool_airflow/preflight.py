"""Whether a deployment can start: ``airflow-init`` runs this before anything else, a line for each failure.

``python -m tidepool_airflow.preflight`` ends with 1 if anything is in the way. No line holds a value: secrets
are among them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from tidepool_airflow.settings import (
    DEFAULT_CONN_ID,
    PREFIX,
    SettingsError,
    deployment,
    ledger_address,
    staging_root,
)
from tidepool_ingest.client.connections import client_settings
from tidepool_ingest.errors import IngestError
from tidepool_ingest.ledger.database import ledger_url
from tidepool_ingest.staging.encryption import KEYS_VARIABLE, is_key
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import entries_of_root, local_path

if TYPE_CHECKING:
    from upath import UPath

PASSWORDS = ("POSTGRES_PASSWORD", "AIRFLOW_DB_PASSWORD", "LEDGER_DB_PASSWORD", "REDIS_PASSWORD")
SECRETS = (*PASSWORDS, "AIRFLOW_FERNET_KEY", "AIRFLOW_JWT_SECRET", "AIRFLOW_API_SECRET_KEY", "ADMIN_PASSWORD")
"""Environment variables of ``airflow-init``: docker-compose.yml passes them on for this check."""

IN_ENV = {"ADMIN_PASSWORD": "AIRFLOW_ADMIN_PASSWORD", "POOL_SLOTS": f"{PREFIX}POOL_SLOTS"}
"""What ``.env`` calls those that have another name here."""

PARTS_OF_URLS = PASSWORDS[1:]
FERNET_KEYS = ("AIRFLOW_FERNET_KEY", KEYS_VARIABLE)
"""Lists of keys, the newest first."""

SHORTEST_SECRET = 16
"""Characters."""

NUMBERS = ("POOL_SLOTS", "WORKER_CONCURRENCY")
"""Whole numbers from 1, in the environment variables of ``airflow-init``."""

MEMORY_GB = 4
MEMORY_LEFT = 0.9
"""How much a machine shows of the memory that it was given; its firmware and kernel keep the rest."""

STORE_SECONDS = 120.0
"""How long an object store may take to answer: it, or the network, may be starting at the same time."""

STORE_POLL_SECONDS = 2.0


def failures(environment: Mapping[str, str], memory: int) -> Iterator[str]:
    """Yield what is in the way of a start, and what to do about it, each in one line without values.

    :param environment: the environment variables of this process.
    :param memory: bytes of this machine.
    """
    yield from _secrets(environment)
    yield from _numbers(environment)
    yield from _connections(environment)
    try:
        deployment()
    except SettingsError as error:
        yield from error.mistakes.values()
    else:
        yield from _staging(environment)
    if memory < MEMORY_GB * MEMORY_LEFT * 1e9:
        yield (
            f"This machine, or the virtual machine that containers run in, has {memory / 1e9:.1f} GB of "
            f"memory: give it at least {MEMORY_GB} GB, or tasks are killed at work."
        )


# ---------------------------------------------------------------- what .env says


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    values = {name: environment.get(name, "").strip() for name in SECRETS}
    for name, value in values.items():
        if not value:
            yield f"{_in_env(name)} is not set: add it to .env, as .env.example says."
        elif len(value) < SHORTEST_SECRET:
            yield (
                f"{_in_env(name)} is shorter than {SHORTEST_SECRET} characters: give a longer one, such as "
                "`openssl rand -hex 32` makes."
            )
        if name in PARTS_OF_URLS and not re.fullmatch(r"[A-Za-z0-9._~-]*", value):
            yield f"{_in_env(name)} has a sign that means something in a URL: give letters and digits only."
    keys = {
        name: [key.strip() for key in environment.get(name, "").split(",") if key.strip()]
        for name in FERNET_KEYS
    }
    if not all(map(is_key, keys["AIRFLOW_FERNET_KEY"])):
        yield (
            "AIRFLOW_FERNET_KEY is no Fernet key, or list of them: give 32 bytes in URL-safe base64, as the "
            "command in docs/deployment.md makes them."
        )
    given = [(name, value) for name, value in values.items() if name not in FERNET_KEYS and value]
    given += [(name, key) for name in FERNET_KEYS for key in keys[name]]
    for (one, first), (other, second) in combinations(given, 2):
        if first == second:
            pair = f"{_in_env(one)} and {_in_env(other)} are" if one != other else f"Two keys of {one} are"
            yield f"{pair} the same: make another one for each."


def _numbers(environment: Mapping[str, str]) -> Iterator[str]:
    for name in NUMBERS:
        if not re.fullmatch(r"0*[1-9]\d{0,5}", environment.get(name, "1").strip()):
            yield f"{_in_env(name)} is no whole number from 1: correct it in .env, or leave it out."


def _in_env(name: str) -> str:
    return IN_ENV.get(name, name)


# ---------------------------------------------------------------- connections


def _connections(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield which connections of the environment cannot be used; those of Airflow's UI are not known yet."""
    try:
        ledger_url(ledger_address())
    except IngestError as error:
        yield _line(error)
    variable = _variable_of(DEFAULT_CONN_ID)
    if environment.get(variable, "").strip():
        try:
            client_settings(BaseHook.get_connection(DEFAULT_CONN_ID))
        except AirflowNotFoundException:
            yield f"{variable} is no connection: write it as JSON, as docs/deployment.md does."
        except IngestError as error:
            yield f"{variable}: {_line(error)}"


def _variable_of(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def _line(error: IngestError) -> str:
    return " ".join(str(error).split())


# ---------------------------------------------------------------- staging


def _staging(environment: Mapping[str, str]) -> Iterator[str]:
    address = (deployment().staging_root or "").partition("://")[2]
    conn_id, named, _ = address.partition("/")[0].rpartition("@")
    if named and not environment.get(_variable_of(conn_id), "").strip():
        # Whoever starts for the first time can only make it once Airflow runs.
        print(
            "preflight: the staging root's connection is to be made in Airflow's UI, so it was not checked."
        )
        return
    try:
        root = staging_root()
        _await_answer(root)
    except BatchError as error:
        yield f"TIDEPOOL_STAGING_ROOT: {_line(error)}"
        return
    folder = local_path(root)
    if folder is None:
        return
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        yield (
            f"TIDEPOOL_STAGING_ROOT: user {os.geteuid()} cannot write there ({error.strerror}): set "
            "AIRFLOW_UID to the owner of the folder, or let group 0 write into it."
        )


def _await_answer(root: UPath) -> None:
    """List a staging root.

    :raises BatchError: if it is not there or does not answer; a store only after ``STORE_SECONDS``.
    """
    give_up = time.monotonic() + (STORE_SECONDS if local_path(root) is None else 0)
    while True:
        try:
            entries_of_root(root)
            return
        except BatchError:
            if time.monotonic() > give_up:
                raise
        time.sleep(STORE_POLL_SECONDS)


def main() -> int:
    """Check this deployment, print what is in the way, and return the exit code."""
    found = list(failures(os.environ, psutil.virtual_memory().total))
    for line in found:
        print(f"preflight: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
