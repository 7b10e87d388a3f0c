"""``tidepool-ingest ledger rebuild``: fill a lost ledger from staging and Tidepool."""

from __future__ import annotations

import argparse

from tidepool_ingest.auth_modes import AUTH_MODES
from tidepool_ingest.cli.arguments import (
    CommandError,
    add_connection,
    add_ledger,
    add_root,
    count,
    place,
    table,
)
from tidepool_ingest.client import ClientSettings, connect, environment, host_of
from tidepool_ingest.client.connections import settings_from_environment, settings_from_file
from tidepool_ingest.ledger import Ledger
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
from tidepool_ingest.options import PART_RECORDS
from tidepool_ingest.upload import UploadContext, UploadOptions

WHAT = {
    FOUND: "found at Tidepool, compared and taken over",
    IN_PART: "found in part: the next run completes them",
    NOT_THERE: "not at Tidepool: the next run uploads them",
    UNDONE: "undone or replaced: no run uploads them",
    KNOWN: "known to the ledger: left as they are",
    UNREADABLE: "unreadable, or of another connection",
    FEEDS: "for continuous data sets, which the next run finds by their client names",
}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = "What is done to a ledger as a whole."
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION", help="what to do")
    rebuild = actions.add_parser("rebuild", help="fill a lost ledger from staging and Tidepool")
    rebuild.description = (
        "Register what is in staging, and take over the data sets that Tidepool has of it, once they are "
        "compared record by record. Nothing is opened, sent or closed. Pause the DAGs first, and wait ten "
        "minutes after their last request. It can be repeated if it was interrupted."
    )
    add_root(rebuild)
    add_ledger(rebuild)
    add_connection(rebuild)
    rebuild.add_argument(
        "--part-records",
        type=count,
        default=PART_RECORDS,
        metavar="NUMBER",
        help=f"records a part of a giant batch, as your runs have it (default: {PART_RECORDS})",
    )
    rebuild.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fill the ledger, and print what became of how many batches."""
    settings = _settings(options.connection)
    root = place(options.root)
    ledger = Ledger(options.ledger)
    try:
        ledger.migrate()
        with connect(settings) as client:
            context = UploadContext(
                client=client,
                ledger=ledger,
                settings=settings,
                root=root,
                # Tidepool is asked about any number of records that a data set lacks.
                options=UploadOptions(max_rejected_percent=100),
            )
            api_host = host_of(environment(settings.environment).api)
            counted = LedgerRebuild(root, context, api_host, options.part_records).run()
    finally:
        ledger.close()
    rows = [(number, WHAT.get(name, f"stopped: {name}")) for name, number in counted.items()]
    print(table(("batches", "what"), rows) if rows else "There is no ready batch in staging.")
    return 0


def _settings(file: str | None) -> ClientSettings:
    settings = settings_from_environment() if file is None else settings_from_file(file)
    if AUTH_MODES[settings.auth_mode].shares_refresh_token:
        raise CommandError(
            "A refresh token belongs to the tasks: using it here would sign them out.",
            "Give a connection of another auth mode, for example one with a token.",
            "refresh-token",
        )
    return settings
