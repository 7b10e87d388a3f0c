"""``tidepool-ingest inspect``: what data files are, and what would become of them, before they are staged."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from upath import UPath

from tidepool_ingest.cli.arguments import (
    FILE_FAULTS,
    ROOT_VARIABLE,
    CommandError,
    add_ledger,
    check_standard_input,
    data_file,
    reading_data_file,
    user,
)
from tidepool_ingest.cli.inspect_next import Invocation
from tidepool_ingest.cli.inspect_text import inspections_as_text
from tidepool_ingest.cli.page_file import add_page_file, write_page
from tidepool_ingest.cli.reading import WRONG_USE, add_reading, check_taken, format_of, reading_options
from tidepool_ingest.cli.terminal import Terminal
from tidepool_ingest.formats import FORMATS, recognized_format
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.table import TableReader
from tidepool_ingest.inspection.findings import Inspection, Inspections, Overlap
from tidepool_ingest.inspection.inspecting import Source, inspect_source
from tidepool_ingest.inspection.unmapped import inspect_unrecognized
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.storage import local_path

if TYPE_CHECKING:
    from tidepool_ingest.ledger import Ledger

SOMETHING_IS_WRONG = 1
"""Exit code if a run would stop at a file, for want of a time zone too, or reject a record of it."""

_FAULTS = {
    **FILE_FAULTS,
    "file-not-records": ("The file holds no records", "docs/formats.md says which files are read."),
}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Say what data files are, by their content: which device, days and records, what would be rejected "
        "or left out and why, which time zone fits, what looks wrong, and what to type next. Nothing is "
        "uploaded, and nothing leaves this machine. What is shown is health data."
    )
    command.epilog = (
        "Exit codes: 0 if a run would take everything, 1 if it would stop at a file (for want of --timezone, "
        "too) or reject a record, 2 if the command cannot be carried out. Colours are for terminals only; "
        "NO_COLOR=1 leaves them out, and FORCE_COLOR=1 asks for them."
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a data file (.gz and .zst too; - for the standard input); those of one Nightscout site are "
        "read together",
    )
    add_reading(command)
    known = command.add_argument_group("for a look at what the ledger knows of the same device and days")
    add_ledger(known, default=None)
    known.add_argument("--user", type=user, metavar="ID", help="only uploads for this Tidepool user")
    command.add_argument(
        "--json", action="store_true", help="write what is found as JSON (docs/inspect.schema.json)"
    )
    add_page_file(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Inspect the files."""
    check_standard_input(options.files)
    with ExitStack() as stack:
        ledger = None
        if options.ledger is not None:
            # Loaded only here, for it takes longer than many a file.
            from tidepool_ingest.cli.ledgers import NO_LEDGER, opened

            ledger = stack.enter_context(opened(options.ledger))
            if ledger is None:
                print(NO_LEDGER, file=sys.stderr)
        paths = [stack.enter_context(data_file(text)) for text in options.files]
        with reading_data_file():
            found = list(map(_in_words_for_a_file, _inspected(paths, options)))
        if ledger is not None:
            found = [_with_overlaps(inspection, ledger, options.user) for inspection in found]
    write_page(options.html, found)
    if options.json:
        whole = Inspections(inspections=tuple(found)).model_dump(mode="json", by_alias=True)
        print(json.dumps(whole, indent=2))  # in ASCII, for any encoding, and names that are no text
    else:
        sys.stdout.write(inspections_as_text(found, Terminal.of(sys.stdout), _invocation(options)))
    return SOMETHING_IS_WRONG if any(map(_is_wrong, found)) else 0


def _in_words_for_a_file(inspection: Inspection) -> Inspection:
    """Return an inspection whose holds speak of a file, where errors of staging speak of a manifest."""
    holds = tuple(
        hold.model_copy(update={"what": f"{_FAULTS[hold.code][0]}.", "remedy": _FAULTS[hold.code][1]})
        if hold.code in _FAULTS
        else hold
        for hold in inspection.holds
    )
    return inspection.model_copy(update={"holds": holds})


def _is_wrong(inspection: Inspection) -> bool:
    needs_zone = inspection.zone.needed and inspection.zone.stated is None
    return bool(inspection.holds or inspection.rejected or needs_zone)


def _inspected(paths: Sequence[UPath], options: argparse.Namespace) -> list[Inspection]:
    """Inspect files in the order in which they were named, together where their format joins them."""
    given = reading_options(options)
    groups: dict[object, list[int]] = {}
    formats: dict[int, str] = {}
    unrecognized: dict[int, Inspection] = {}
    for index, path in enumerate(paths):
        if (local := local_path(path)) is not None and local.is_dir():
            raise CommandError("One of the files is a folder.", "Name the files in it.")
        try:
            name = format_of(path, options, recognized_format)
            if name == TableReader.name and given.table is None:
                raise BatchError("table-mapping", detail="there is none")
        except (BatchError, FileHeldError) as error:
            if error.code in WRONG_USE or options.format not in (None, TableReader.name):
                raise
            unrecognized[index] = inspect_unrecognized(path, options.files[index], error)
            groups[index] = [index]
            continue
        check_taken(name, given)
        formats[index] = name
        groups.setdefault(name if FORMATS[name].joins_files else index, []).append(index)
    found: list[Inspection] = []
    for group in groups.values():
        if group[0] in unrecognized:
            found.append(unrecognized[group[0]])
            continue
        source = Source(
            paths=[paths[index] for index in group],
            names=[options.files[index] for index in group],
            format=formats[group[0]],
            options=given,
            meant_as=tuple(options.meant_as),
        )
        made = inspect_source(source)
        for hold in (hold for inspection in made for hold in inspection.holds):
            if hold.code in WRONG_USE:
                raise BatchError(hold.code, detail=hold.detail or None)
        found += made
    return found


def _with_overlaps(inspection: Inspection, ledger: Ledger, user_id: str | None) -> Inspection:
    """Return an inspection with the uploads of the same devices on the same days."""
    named = (device.fields.get("deviceId") for device in inspection.devices)
    device_ids = {name for name in named if isinstance(name, str)}
    overlaps = tuple(
        Overlap(
            label=shared.label,
            state=str(shared.state),
            first_day=min(shared.days),
            last_day=max(shared.days),
            days=len(shared.days),
            records=sum(shared.days.values()),
        )
        for shared in ledger.devices.on_days(device_ids, inspection.utc_days, user_id)
    )
    return inspection.model_copy(update={"overlaps": overlaps})


def _invocation(options: argparse.Namespace) -> Invocation:
    """Return what was typed, for the next command."""
    words: list[str] = []
    for option in ("format", "date_order", "mapping", "serial"):
        value = getattr(options, option)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    if options.keep_notes:
        words.append("--keep-notes")
    for code in options.meant_as:
        words += ["--meant-as", code]
    return Invocation(
        words=tuple(words),
        timezone=tuple(word for zone in options.timezone or () for word in ("--timezone", zone)),
        user=options.user,
        has_root=bool(os.environ.get(ROOT_VARIABLE, "").strip()),
    )
