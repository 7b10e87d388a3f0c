"""``tidepool-ingest retract``: stage a batch that retracts another one of its feed."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime

from tidepool_ingest.cli.arguments import add_root, given_folder, given_upath
from tidepool_ingest.cli.given import about
from tidepool_ingest.maintenance.retracting import stage_retraction
from tidepool_ingest.staging.batches import BatchFolder


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Stage a batch that deletes from Tidepool what another batch of its feed has brought in, and print "
        "its folder. A run of tidepool_continuous_upload, or `upload`, carries it out. A batch of a normal "
        "data set is withdrawn on the uploads page."
    )
    command.add_argument("folder", help="batch folder, <root>/<YYYY-MM-DD>/<user id>/<batch id>")
    add_root(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Stage the batch, and say what is going to happen."""
    name = "/".join(given_folder(given_upath(options.folder)).parts[-3:])
    folder = BatchFolder.at(given_upath(options.root), name)
    with about("", folder.path):
        staged = stage_retraction(given_upath(options.root), folder, datetime.now(UTC))
    print(staged.path)
    print(
        f"The next run of tidepool_continuous_upload that takes {staged.day} deletes every record that batch "
        f"{folder.day}/{folder.label} has brought in; what other batches have written stays. No run uploads "
        "that batch again, unless forced. A version that it had replaced does not come back by itself: stage "
        "the batch that holds it again.",
        file=sys.stderr,
    )
    return 0
