"""``tidepool-ingest cleanup``: the maintenance DAG's cleanup, by hand."""

from __future__ import annotations

import argparse
import os
from functools import partial

from tidepool_ingest.cli.arguments import CommandError, add_ledger, add_root, given_upath, table
from tidepool_ingest.cli.ledgers import NO_LEDGER, opened
from tidepool_ingest.maintenance.cleanup import Cleanup, RetentionPolicy
from tidepool_ingest.options import MAX_KEEP_DAYS, QUARANTINE_DAYS, WORK_DAYS

WORK_VARIABLE = "TIDEPOOL_KEEP_WORK_DAYS"
QUARANTINE_VARIABLE = "TIDEPOOL_KEEP_QUARANTINE_DAYS"

WHAT = {
    "accepted": "work areas whose rejected records stay",
    "areas": "whole work areas",
    "parts": "half-written files",
    "file_digests": "digests of files",
    "manifests": "saved contents of manifests",
    "chunks": "requests of abandoned data sets",
    "rejections": "records that Tidepool rejected, of batches that are not visible",
    "busy": "work areas that a task is using",
    "later": "storage did not respond: run this again",
}


def days(text: str) -> int:
    """Parse a number of days; 0 means forever."""
    if not text.isascii() or not text.isdigit() or int(text) > MAX_KEEP_DAYS:
        raise argparse.ArgumentTypeError(f"give a whole number of days up to {MAX_KEEP_DAYS}, or 0 for ever")
    return int(text)


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Empty the work areas of batches that finished long ago, and purge ledger data that can be "
        "read again. "
        "Staged data and the ledger's batches stay. The DAG tidepool_reconcile does the same."
    )
    add_root(command)
    add_ledger(command)
    for option, variable, usual, what in (
        ("--keep-work-days", WORK_VARIABLE, WORK_DAYS, "accepted"),
        ("--keep-quarantine-days", QUARANTINE_VARIABLE, QUARANTINE_DAYS, "rejected"),
    ):
        command.add_argument(
            option,
            type=partial(_days, variable),
            metavar="DAYS",
            default=os.environ.get(variable, "").strip() or str(usual),
            help=f"how many days {what} records stay after their batch is done, 0 for ever "
            f"(default: ${variable}, or {usual})",
        )
    command.add_argument("--dry-run", action="store_true", help="only count what would be removed")
    command.set_defaults(run=run)


def _days(variable: str, text: str) -> int:
    """Parse a number of days, which may come from an environment variable."""
    try:
        return days(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} (without the option, {variable} holds)") from None


def run(options: argparse.Namespace) -> int:
    """Clean up, or count."""
    policy = RetentionPolicy(options.keep_work_days, options.keep_quarantine_days)
    with opened(options.ledger) as ledger:
        if ledger is None:
            raise CommandError(NO_LEDGER, "Give --ledger: only the ledger knows which batches are done.")
        cleanup = Cleanup(given_upath(options.root), ledger, policy, dry_run=options.dry_run)
        counted = cleanup.run().summary()
    if counted:
        print(table(("number", "what"), [(number, WHAT[name]) for name, number in counted.items()]))
    print("Nothing was removed." if options.dry_run or not counted else "Removed.")
    return 0
