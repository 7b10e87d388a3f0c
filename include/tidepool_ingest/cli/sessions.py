"""``tidepool-ingest sessions``: the ledger as a table or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from tidepool_ingest.cli.arguments import add_ledger, count, table
from tidepool_ingest.cli.ledgers import NO_LEDGER, opened
from tidepool_ingest.ledger import BatchState, DataSetState, Ledger, Purged, Upload
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.staging.storage import IN_BATCH

SESSIONS_SHOWN = 100
"""How many are shown by default."""

COLUMNS = ("batch", "user", "state", "data set", "set state", "accepted", "quarantined", "visible", "reason")

FIELDS = (
    "batch",
    "api_host",
    "label",
    "day",
    "user_id",
    "folder",
    "state",
    "reason",
    "staged",
    "accepted",
    "quarantined",
    "identical",
    "updated_at",
    "data_set_id",
    "data_set_state",
    "visible_rows",
    "dag_id",
    "run_id",
    "map_index",
    "try_number",
    "opened_at",
    "verified_at",
)
"""What ``--json`` shows of each."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Show what the ledger knows, newest first. Users appear as short hashes; folders and user ids are "
        "shown only with --full. Of a batch with rejected records, the path of its quarantine file is shown: "
        "whoever opens that sees health data."
    )
    add_ledger(command)
    command.add_argument(
        "--state",
        choices=[state.value for state in BatchState],
        metavar="STATE",
        help=f"only batches in this state: {', '.join(BatchState)}",
    )
    command.add_argument("--batch", metavar="HASH", help="only batches whose label contains this")
    command.add_argument(
        "--limit", type=count, default=SESSIONS_SHOWN, help=f"how many (default: {SESSIONS_SHOWN})"
    )
    command.add_argument("--full", action="store_true", help="also show folder and user id")
    command.add_argument("--json", action="store_true", help="print a JSON array, one session per line")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the sessions."""
    with opened(options.ledger) as ledger:
        if ledger is None:
            print(NO_LEDGER, file=sys.stderr)
        found = [] if ledger is None else _found(ledger, options)
        files = {} if ledger is None else _quarantine_files(ledger, found)
    if options.json:
        shown = (json.dumps(_shown(one, files, full=options.full), default=_text) for one in found)
        print("[" + ",\n ".join(shown) + "]")
    else:
        headings = (*COLUMNS, "folder") if options.full else COLUMNS
        print(table(headings, _rows(found, full=options.full)))
        if files:
            print()
            print(
                table(
                    ("batch", "quarantine file"),
                    [(one.label, files[one.batch]) for one in found if one.batch in files],
                )
            )
    return 0


def _quarantine_files(ledger: Ledger, found: Sequence[Upload]) -> dict[int, str]:
    """Return where the rejected records of batches are, by number, as long as they are kept."""
    files = {}
    for upload in found:
        if not upload.quarantined:
            continue
        # Loaded only here: of most batches no record is rejected.
        from tidepool_ingest.staging.storage import as_upath
        from tidepool_ingest.staging.work_area import WorkArea

        row = ledger.batches.get(upload.part_of or upload.batch)  # all parts share one
        if row.purged is not Purged.ALL:
            root = as_upath(row.folder.rsplit("/", maxsplit=IN_BATCH - 1)[0])
            files[upload.batch] = str(WorkArea(root, row.content_key).quarantine_path)
    return files


def _found(ledger: Ledger, options: argparse.Namespace) -> list[Upload]:
    return ledger.uploads.last_changed(state=options.state, label_part=options.batch, limit=options.limit)


def _shown(upload: Upload, files: Mapping[int, str], *, full: bool) -> dict[str, Any]:
    values = {name: getattr(upload, name) for name in FIELDS}
    values |= {"visible_rows": _visible(upload), "quarantine_file": files.get(upload.batch)}
    if not full:
        values["user_id"] = short_hash(upload.user_id)
        del values["folder"]
    return values


def _rows(found: Sequence[Upload], *, full: bool) -> Iterator[tuple[object, ...]]:
    for upload in found:
        row = (
            upload.label,
            upload.user_id if full else short_hash(upload.user_id),
            upload.state,
            upload.data_set_id,
            upload.data_set_state,
            upload.accepted,
            upload.quarantined,
            _visible(upload),
            upload.reason,
        )
        yield (*row, upload.folder) if full else row


def _visible(upload: Upload) -> int | None:
    """Return how many rows are visible: none once the data set is deleted.

    Of a retracted batch, that depends on the one that retracts it, which has a line of its own.
    """
    if upload.data_set_state == DataSetState.ABANDONED:
        return None
    return 0 if upload.data_set_state == DataSetState.DELETED else upload.visible_rows


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
