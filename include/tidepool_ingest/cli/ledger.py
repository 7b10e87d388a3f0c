"""How commands reach the ledger."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidepool_ingest.cli.errors import CommandError
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.database import ledger_url
from tidepool_ingest.ledger.errors import LedgerUnavailableError
from tidepool_ingest.ledger.migrating import HEAD_REVISION, current_revision

LEDGER_VARIABLE = "TIDEPOOL_LEDGER"
"""Environment variable with the ledger's address."""

DEFAULT_LEDGER = "sqlite:///.local/demo/airflow/tidepool_ledger.db"
"""Where `make demo` keeps the ledger; `make up` gives a shell beside it the variable."""

NO_LEDGER = "There is no ledger at this address yet: the first run of the DAG makes it."


def add_ledger(command: argparse.ArgumentParser) -> None:
    """Add the option that says where the ledger is."""
    command.add_argument(
        "--ledger",
        metavar="URL",
        default=os.environ.get(LEDGER_VARIABLE) or DEFAULT_LEDGER,
        help="the ledger's database, sqlite:///file or postgresql://user@host/name; a password is better "
        f"kept in the environment (default: ${LEDGER_VARIABLE}, or {DEFAULT_LEDGER})",
    )


@contextmanager
def opened(address: str) -> Iterator[Ledger | None]:
    """Open the ledger for the length of a ``with`` block, ``None`` when there is none: this never makes one.

    :param address: the ledger's address.
    :raises CommandError: if it is another version's, or does not answer.
    """
    url = ledger_url(address)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        yield None
        return
    ledger = Ledger(address)
    try:
        revision = current_revision(ledger.database.engine)
        if revision not in (None, HEAD_REVISION):
            raise CommandError(
                "The ledger's tables are those of another version of this project.",
                "Run the DAG once with this version, which brings older ones up to date.",
                "ledger-version",
            )
        yield None if revision is None else ledger
    except LedgerUnavailableError as error:
        raise CommandError(error.what, f"Check --ledger or ${LEDGER_VARIABLE}.", error.code) from None
    finally:
        ledger.close()
