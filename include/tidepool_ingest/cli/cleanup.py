"""``tidepool-ingest tidy``: what the maintenance DAG tidies away, by hand."""

from __future__ import annotations

import argparse
import os

from tidepool_ingest.cli.arguments import (
    NO_LEDGER,
    CommandError,
    add_ledger,
    add_root,
    days,
    opened,
    place,
    table,
)
from tidepool_ingest.maintenance.cleanup import Keeping, Tidying
from tidepool_ingest.options import QUARANTINE_DAYS, WORK_DAYS

WORK_VARIABLE = "TIDEPOOL_KEEP_WORK_DAYS"
QUARANTINE_VARIABLE = "TIDEPOOL_KEEP_QUARANTINE_DAYS"

WHAT = {
    "accepted": "work areas whose refused records stay",
    "areas": "whole work areas",
    "parts": "half-written files",
    "file_digests": "digests of files",
    "manifests": "manifests that were read",
    "chunks": "requests of data sets that were given up",
    "refusals": "refused records of batches that do not show",
    "busy": "work areas left alone: a task is at work",
    "later": "storage did not answer: run it again",
}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Empty the work areas of batches that are done for long, and let the ledger forget what can be made "
        "anew. Staged data and the batches in the ledger stay. The DAG tidepool_reconcile does the same."
    )
    add_root(command)
    add_ledger(command)
    for option, variable, usual, what in (
        ("--keep-work-days", WORK_VARIABLE, WORK_DAYS, "accepted"),
        ("--keep-quarantine-days", QUARANTINE_VARIABLE, QUARANTINE_DAYS, "refused"),
    ):
        command.add_argument(
            option,
            type=days,
            metavar="DAYS",
            default=os.environ.get(variable) or str(usual),
            help=f"how long {what} records stay after their batch is done, 0 for ever (default: ${variable}, "
            f"or {usual})",
        )
    command.add_argument("--dry-run", action="store_true", help="only count what would go")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tidy away, or count."""
    keeping = Keeping(options.keep_work_days, options.keep_quarantine_days)
    with opened(options.ledger) as ledger:
        if ledger is None:
            raise CommandError(
                NO_LEDGER, "Give --ledger: without it nobody knows which work areas are over and done with."
            )
        tidying = Tidying(place(options.root), ledger, keeping, dry_run=options.dry_run)
        counted = tidying.run().summary()
    if counted:
        print(table(("number", "what"), [(number, WHAT[name]) for name, number in counted.items()]))
    print("Nothing was removed." if options.dry_run or not counted else "Removed.")
    return 0
