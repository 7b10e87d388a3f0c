"""``tidepool-ingest people``: for whom the account may upload, and who of a staging root is missing."""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext
from datetime import date

from tidepool_ingest.cli import EXIT_CODES, FAILED
from tidepool_ingest.cli.arguments import ROOT_VARIABLE, CommandError, add_ledger, table
from tidepool_ingest.cli.given import about
from tidepool_ingest.cli.ledgers import add_connection
from tidepool_ingest.cli.staged import where
from tidepool_ingest.cli.summaries import PeopleFound, write_json


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "List the user ids of those who have granted the connection's account uploading, never their names. "
        "Of a staging root, also say who has ready batches there and has not. Rights that come from being a "
        "patient of a clinic do not show here."
    )
    command.epilog = f"{EXIT_CODES} Here 1 is also for somebody of the staging root who is missing."
    command.add_argument(
        "root",
        nargs="?",
        default=os.environ.get(ROOT_VARIABLE, "").strip() or None,
        metavar="ROOT",
        help=f"staging root (default: ${ROOT_VARIABLE}, or none)",
    )
    add_connection(command)
    add_ledger(command, default=None, otherwise="none; only a connection with a refresh token needs one")
    command.add_argument("--json", action="store_true", help="print JSON (docs/people.schema.json)")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them."""
    found = _found(options)
    if options.json:
        write_json(found)
    else:
        print(_text(found))
    return FAILED if found.missing else 0


def _found(options: argparse.Namespace) -> PeopleFound:
    from tidepool_ingest.cli.tidepool import CommandConnection, migrated

    connection = CommandConnection(options.connection)
    staged = _staged(options.root) if options.root else None
    needs_ledger = connection.shares_refresh_token and options.ledger is not None
    with (
        migrated(options.ledger) if needs_ledger else nullcontext() as ledger,
        connection.client(ledger) as client,
    ):
        account, granted = client.who_am_i(), client.uploads_for()
    missing = tuple(sorted(set(staged or ()) - granted - {account}))
    return PeopleFound(
        api_host=connection.api_host,
        account=account,
        granted=tuple(sorted(granted)),
        staged=staged,
        missing=missing,
    )


def _staged(root: str) -> tuple[str, ...]:
    """Return the ids of the users with ready batches, of all days."""
    from tidepool_ingest.staging.batches import find_batches

    found = where(root)
    if found.day is not None:
        with about(root):
            raise CommandError("It is no staging root.", "Name the root, whose day folder this is in.")
    return tuple(sorted({folder.user_id for folder in find_batches(found.root, date.min, date.max)}))


def _text(found: PeopleFound) -> str:
    users = sorted({found.account, *found.granted, *(found.staged or ())})
    headings = ["user", "may be uploaded for"]
    rows: list[tuple[object, ...]] = [(user, _why(user, found)) for user in users]
    if found.staged is not None:
        headings.append("in staging")
        rows = [(*row, "yes" if row[0] in found.staged else None) for row in rows]
    return table(headings, rows)


def _why(user: str, found: PeopleFound) -> str:
    if user == found.account:
        return "yes: the account itself"
    return "yes: granted" if user in found.granted else "no: not granted"
