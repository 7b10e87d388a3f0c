"""``tidepool-ingest sessions``: the ledger as a table or JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from tidepool_ingest.cli.arguments import count
from tidepool_ingest.cli.errors import CommandError
from tidepool_ingest.cli.table import table
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.ledger.database import ledger_url
from tidepool_ingest.ledger.errors import LedgerUnavailableError
from tidepool_ingest.ledger.migrating import HEAD_REVISION, current_revision
from tidepool_ingest.ledger.sessions import Session, sessions
from tidepool_ingest.privacy import short_hash

LEDGER_VARIABLE = "TIDEPOOL_LEDGER"
"""Environment variable with the ledger's address."""

DEFAULT_LEDGER = "sqlite:///.local/demo/airflow/tidepool_ledger.db"
"""Where `make demo` keeps the ledger; `make up` gives a shell beside it the variable."""

SESSIONS_SHOWN = 100
"""How many are shown unless asked for more."""

COLUMNS = ("batch", "user", "state", "data set", "set state", "accepted", "quarantined", "visible", "reason")


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Show what the ledger knows, newest first, and change nothing. Users stand there as short hashes; "
        "folders and user ids are shown only with --full."
    )
    command.add_argument(
        "--ledger",
        metavar="URL",
        default=os.environ.get(LEDGER_VARIABLE) or DEFAULT_LEDGER,
        help="the ledger's database, sqlite:///file or postgresql://user@host/name; a password is better "
        f"kept in the environment (default: ${LEDGER_VARIABLE}, or {DEFAULT_LEDGER})",
    )
    command.add_argument(
        "--state",
        choices=[state.value for state in BatchState],
        metavar="STATE",
        help=f"only batches in this state: {', '.join(BatchState)}",
    )
    command.add_argument("--batch", metavar="HASH", help="only batches whose label has this in it")
    command.add_argument(
        "--limit", type=count, default=SESSIONS_SHOWN, help=f"how many (default: {SESSIONS_SHOWN})"
    )
    command.add_argument("--full", action="store_true", help="also show folder and user id")
    command.add_argument("--json", action="store_true", help="a JSON array, one session a line")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the sessions."""
    found = _found(options)
    if found is None:
        print("There is no ledger at this address yet: the first run of the DAG makes it.", file=sys.stderr)
    if options.json:
        shown = (json.dumps(_shown(one, full=options.full), default=_text) for one in found or ())
        print("[" + ",\n ".join(shown) + "]")
    else:
        headings = (*COLUMNS, "folder") if options.full else COLUMNS
        print(table(headings, _rows(found or (), full=options.full)))
    return 0


def _found(options: argparse.Namespace) -> list[Session] | None:
    """Return the sessions asked for, ``None`` when there is no ledger; looking at it never makes one."""
    url = ledger_url(options.ledger)
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        return None
    ledger = Ledger(options.ledger)
    try:
        revision = current_revision(ledger.database.engine)
        if revision is None:
            return None
        if revision != HEAD_REVISION:
            raise CommandError(
                "The ledger's tables are those of another version of this project.",
                "Run the DAG once with this version, which brings older ones up to date.",
                "ledger-version",
            )
        return sessions(ledger.database, state=options.state, label_part=options.batch, limit=options.limit)
    except LedgerUnavailableError as error:
        raise CommandError(error.what, f"Check --ledger or ${LEDGER_VARIABLE}.", error.code) from None
    finally:
        ledger.close()


def _shown(session: Session, *, full: bool) -> dict[str, Any]:
    values = dict(vars(session))
    if not full:
        values["user_id"] = short_hash(session.user_id)
        del values["folder"]
    return values


def _rows(found: Sequence[Session], *, full: bool) -> Iterator[tuple[object, ...]]:
    for one in found:
        row = (
            one.label,
            one.user_id if full else short_hash(one.user_id),
            one.state,
            one.data_set_id,
            one.data_set_state,
            one.accepted,
            one.quarantined,
            one.visible_rows,
            one.reason,
        )
        yield (*row, one.folder) if full else row


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
