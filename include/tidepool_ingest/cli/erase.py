"""``tidepool-ingest erase``: remove a person from the ledger, staging and work areas."""

from __future__ import annotations

import argparse

from tidepool_ingest.cli.arguments import CommandError, add_ledger, add_root, given_upath, table, user
from tidepool_ingest.cli.ledgers import NO_LEDGER, opened, who_runs
from tidepool_ingest.maintenance.erasure import PersonData, PersonErasure
from tidepool_ingest.privacy import short_hash

COLUMNS = ("Tidepool", "data set", "state")


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Remove everything that is stored here about one person: staged folders, work areas with quarantine "
        "files, and the ledger's rows. Without --yes, only show what there is. The person's data sets at "
        "Tidepool stay, and are listed."
    )
    command.add_argument(
        "--user", type=user, required=True, metavar="ID", help="Tidepool user id of the person"
    )
    add_root(command)
    add_ledger(command)
    command.add_argument("--yes", action="store_true", help="remove it; this cannot be undone")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Remove the person, or report what would be removed."""
    with opened(options.ledger) as ledger:
        if ledger is None:
            raise CommandError(
                NO_LEDGER, "Give --ledger: only the ledger knows which work areas are the person's."
            )
        erasure = PersonErasure(ledger, given_upath(options.root), options.user)
        found = erasure.run(who_runs()) if options.yes else erasure.find()
    print(_report(found, options.user, removed=options.yes))
    return 0


def _report(found: PersonData, user_id: str, *, removed: bool) -> str:
    who = f"user {short_hash(user_id)}"
    if found.is_empty:
        return f"Nothing is known of {who}."
    counted = f"{len(found.folders)} staged folders, {len(found.batches)} batches with their work areas"
    lines = [f"Removed for {who}: {counted}." if removed else f"Found for {who}: {counted}."]
    if found.remaining:
        lines += [
            "",
            f"Tidepool still has {len(found.remaining)} data sets. The person, or whoever uploaded them, can "
            "delete them there; keep this list, because the ledger no longer names the person:"
            if removed
            else f"Tidepool has {len(found.remaining)} data sets, which would stay there:",
            "",
            table(COLUMNS, found.remaining),
        ]
    if not removed:
        lines += [
            "",
            "Nothing was removed. To remove it, pause the DAGs and add --yes; this cannot be undone.",
        ]
    return "\n".join(lines)
