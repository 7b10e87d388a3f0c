"""What the commands share that look into the ledger: its options, how it is opened, and who is asking."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tidepool_ingest.cli.arguments import LEDGER_VARIABLE, CommandError
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.ledger.database import (
    HEAD_REVISION,
    LedgerUnavailableError,
    current_revision,
    ledger_url,
)

NO_LEDGER = "There is no ledger at this address yet: the first upload creates it."


def add_connection(command: argparse.ArgumentParser) -> None:
    """Add the option for the connection to Tidepool; a secret is never an argument."""
    # Loaded only here: who looks into the ledger asks nobody else.
    from tidepool_ingest.client.connections import CONNECTION_VARIABLE

    command.add_argument(
        "--connection",
        metavar="FILE",
        help="the Tidepool connection as JSON, in a file that nobody else may read "
        f"(default: ${CONNECTION_VARIABLE}, as JSON)",
    )


@contextmanager
def opened(address: str) -> Iterator[Ledger | None]:
    """Open the ledger for the length of a ``with`` block; ``None`` if there is none; none is created.

    :param address: the ledger's address.
    :raises CommandError: if it is another version's, or does not respond.
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
                "The ledger's tables belong to another version of this project.",
                "Run a DAG, or `upload`, once with this version; that migrates older tables.",
                "ledger-version",
            )
        yield None if revision is None else ledger
    except LedgerUnavailableError as error:
        raise CommandError(error.what, f"Check --ledger or ${LEDGER_VARIABLE}.", error.code) from None
    finally:
        ledger.close()


def who_runs() -> str:
    """Return what the audit log calls whoever runs a command: an account of a container may have no name."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    return f"{name} (command line)"
