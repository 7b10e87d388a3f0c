"""``tidepool-ingest ledger``: fill a lost ledger from staging and Tidepool, show and lift throttles."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

from tidepool_ingest.cli import EXIT_CODES
from tidepool_ingest.cli.arguments import CommandError, add_ledger, add_root, count, given_upath, table
from tidepool_ingest.cli.ledgers import NO_LEDGER, add_connection, opened, who_runs
from tidepool_ingest.cli.tidepool import CommandConnection, migrated
from tidepool_ingest.ledger import ActionKind, ActionStatus, Ledger
from tidepool_ingest.maintenance.rebuild import (
    FEEDS,
    FOUND,
    IN_PART,
    KNOWN,
    NOT_THERE,
    UNDONE,
    UNREADABLE,
    LedgerRebuild,
)
from tidepool_ingest.options import PART_RECORDS, PART_RECORDS_MAX
from tidepool_ingest.rejection_limit import RejectionLimit
from tidepool_ingest.upload import UploadOptions

WHAT = {
    FOUND: "found at Tidepool, compared and adopted",
    IN_PART: "found in part: the next run completes them",
    NOT_THERE: "not at Tidepool: the next run uploads them",
    UNDONE: "undone or replaced: no run uploads them",
    KNOWN: "known to the ledger: left as they are",
    UNREADABLE: "unreadable, or for another connection",
    FEEDS: "for continuous data sets, which the next run finds by their client names",
}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = "Work on a ledger as a whole."
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION", help="what to do")
    rebuild = actions.add_parser("rebuild", help="fill a lost ledger from staging and Tidepool")
    rebuild.description = (
        "Register what is in staging, and adopt the data sets that Tidepool has of it, once they are "
        "compared record by record. No batch is uploaded. Second data sets for one batch, and what is left "
        "of undone or replaced ones, are deleted. Pause the DAGs first, and wait ten minutes after their "
        "last request. If this is interrupted, run it again."
    )
    rebuild.epilog = EXIT_CODES
    add_root(rebuild)
    add_ledger(rebuild)
    add_connection(rebuild)
    rebuild.add_argument(
        "--part-records",
        type=_part_rows,
        default=PART_RECORDS,
        metavar="NUMBER",
        help=f"rows per part of a giant batch, as in your runs (default: {PART_RECORDS})",
    )
    rebuild.set_defaults(run=run_rebuild)
    throttles = actions.add_parser("throttles", help="show the pauses that Tidepool asked for, or lift one")
    throttles.description = (
        "Show the API hosts that have asked all tasks to pause (429), and for how much longer. "
        "With --lift, tasks send requests to a host again at once; if it is still busy, it asks again."
    )
    throttles.epilog = EXIT_CODES
    add_ledger(throttles)
    throttles.add_argument("--lift", metavar="HOST", help="lift the throttle of this API host")
    throttles.set_defaults(run=run_throttles)


def run_throttles(options: argparse.Namespace) -> int:
    """Print what is in force, or lift one throttle."""
    with opened(options.ledger) as ledger:
        if ledger is None:
            raise CommandError(NO_LEDGER, "Give --ledger: the ledger holds the throttles.")
        if options.lift is not None:
            return _lift(ledger, options.lift)
        rows = [(host, math.ceil(seconds)) for host, seconds in ledger.rate_limits.in_force().items()]
    print(table(("API host", "seconds left"), rows) if rows else "No throttle is in force.")
    return 0


def _lift(ledger: Ledger, api_host: str) -> int:
    if not ledger.rate_limits.lift(api_host):
        raise CommandError(
            "No throttle of this host is in force.", "Run the command without --lift: it lists what is."
        )
    ledger.actions.record(
        who_runs(),
        ActionKind.LIFT,
        detail=f"of {api_host}",
        status=ActionStatus.DONE,
    )
    print(f"Tasks may send requests to {api_host} again.")
    return 0


def _part_rows(text: str) -> int:
    """Parse a number of rows that a data set may have and still be closed."""
    number = count(text)
    if number > PART_RECORDS_MAX:
        raise argparse.ArgumentTypeError(f"give at most {PART_RECORDS_MAX}: Tidepool cannot close much more")
    return number


def run_rebuild(options: argparse.Namespace) -> int:
    """Fill the ledger, and print what became of how many batches."""
    connection = CommandConnection(options.connection)
    root = given_upath(options.root)
    # However many records a data set lacks, Tidepool is asked whether it rejects them.
    any_number = UploadOptions(rejection_limit=RejectionLimit(percent=100))
    with migrated(options.ledger) as ledger, connection.client(ledger) as client:
        context = replace(connection.context(client, ledger, root), options=any_number)
        counted = LedgerRebuild(root, context, connection.api_host, options.part_records).run()
    rows = [(number, WHAT.get(name, f"stopped: {name}")) for name, number in counted.items()]
    print(table(("batches", "what"), rows) if rows else "There is no ready batch in staging.")
    return 0
