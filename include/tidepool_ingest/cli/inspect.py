"""``tidepool-ingest inspect``: what data files are, and what would become of them, before they are staged."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from tidepool_ingest.cli import EXIT_CODES, FAILED
from tidepool_ingest.cli.arguments import (
    FILE_FAULTS,
    ROOT_VARIABLE,
    add_ledger,
    given_folder,
    reading_data_file,
    user,
)
from tidepool_ingest.cli.given import WHAT_A_FOLDER_IS, Given, about, given
from tidepool_ingest.cli.inspect_next import Invocation
from tidepool_ingest.cli.inspect_text import inspections_as_text
from tidepool_ingest.cli.page_file import add_page_file, write_page
from tidepool_ingest.cli.progress import Progress
from tidepool_ingest.cli.reading import (
    WRONG_USE,
    add_reading,
    check_files,
    check_taken,
    format_of,
    said_of_reading,
)
from tidepool_ingest.cli.terminal import Terminal, printable
from tidepool_ingest.formats import FORMATS, TABLE_FORMAT, read_manifest, recognized_format
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.inspection.findings import InspectedFile, Inspection, Inspections, Overlap
from tidepool_ingest.inspection.inspecting import Source, hold_of, inspect_source
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import MANIFEST_NAME

if TYPE_CHECKING:
    from tidepool_ingest.ledger import Ledger

_FAULTS = {
    **FILE_FAULTS,
    "file-not-records": ("The file holds no records", "docs/formats.md says which files are read."),
}


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Say what data files are, by their content: which device, days and records, what would be rejected "
        "or left out and why, which time zone fits, what looks wrong, and what to type next. Nothing is "
        "uploaded, and nothing leaves this machine. What is shown is health data. "
        f"{WHAT_A_FOLDER_IS}"
    )
    command.epilog = (
        f"{EXIT_CODES} Here 1 is also for a file that a run would stop at, for want of --timezone, too. "
        "Colours are for terminals only; NO_COLOR=1 leaves them out, and FORCE_COLOR=1 asks for them."
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="PATH",
        help="a data file (.gz and .zst too; - for the standard input), a pipe or a folder; files of one "
        "Nightscout site are read together",
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
    things = given(options.files)
    check_files(things, options)
    with ExitStack() as stack:
        ledger = None
        if options.ledger is not None:
            # Loaded only here, for it takes longer than many a file.
            from tidepool_ingest.cli.ledgers import NO_LEDGER, opened

            ledger = stack.enter_context(opened(options.ledger))
            if ledger is None:
                print(NO_LEDGER, file=sys.stderr)
        with Progress(things) as progress:
            found = list(map(_in_words_for_a_file, _inspected(things, options, stack, progress)))
        if ledger is not None:
            found = [_with_overlaps(inspection, ledger, options.user) for inspection in found]
    write_page(options.html, found)
    if options.json:
        # Loaded only here: nothing else needs a schema.
        from tidepool_ingest.cli.summaries import write_json

        write_json(Inspections(inspections=tuple(found)))
    else:
        sys.stdout.write(inspections_as_text(found, Terminal.of(sys.stdout), _invocation(options, things)))
    return FAILED if any(map(_is_wrong, found)) else 0


def _in_words_for_a_file(inspection: Inspection) -> Inspection:
    """Return an inspection whose holds speak of a file, where errors of staging speak of a manifest."""
    holds = tuple(
        hold.but(what=f"{_FAULTS[hold.code][0]}.", remedy=_FAULTS[hold.code][1])
        if hold.code in _FAULTS
        else hold
        for hold in inspection.holds
    )
    return inspection.but(holds=holds)


def _is_wrong(inspection: Inspection) -> bool:
    needs_zone = inspection.zone.needed and inspection.zone.stated is None
    return bool(inspection.holds or inspection.rejected or needs_zone)


def _inspected(
    things: Sequence[Given], options: argparse.Namespace, stack: ExitStack, progress: Progress
) -> Iterator[Inspection]:
    """Yield the inspections of files in the order in which they were named; some formats join files.

    What there is to be opened is opened before anything is read.
    """
    groups: dict[object, tuple[int, list[Source] | Inspection]] = {}
    for number, one in enumerate(things):
        progress.at(number)
        with about(one.typed), reading_data_file():
            found = _of_batch(one) if one.is_batch else _of_file(one, options, stack)
        if not isinstance(found, Source):
            groups[number] = number, found
            continue
        key = found.format if FORMATS[found.format].joins_files else number
        _, sources = groups.setdefault(key, (number, []))
        if isinstance(sources, list):
            sources[:] = [_joined([*sources, found])]
    for number, group in groups.values():
        progress.at(number)
        if isinstance(group, Inspection):
            yield group
            continue
        for source in group:
            with about(", ".join(source.names)), reading_data_file():
                yield from _inspections_of(source)


def _joined(sources: Sequence[Source]) -> Source:
    """Return files of one format that are read together."""
    first = sources[0]
    paths = [path for source in sources for path in source.paths]
    names = [name for source in sources for name in source.names]
    return Source(paths, names, first.format, first.options, first.meant_as)


def _inspections_of(source: Source) -> list[Inspection]:
    """Inspect files that are read together.

    :raises BatchError: they cannot be opened.
    """
    made = inspect_source(source)
    for hold in (hold for inspection in made for hold in inspection.holds):
        if hold.code in WRONG_USE:
            raise BatchError(hold.code, detail=hold.detail or None)
    return made


def _of_file(one: Given, options: argparse.Namespace, stack: ExitStack) -> Source | Inspection:
    """Return how a file is to be read, or what can be said of one that is of no known format."""
    said = said_of_reading(options)
    path = stack.enter_context(one.file())
    try:
        name = format_of(path, options, recognized_format)
        if name == TABLE_FORMAT and (said is None or said.table is None):
            raise BatchError("table-mapping", detail="there is none")
    except (BatchError, FileHeldError) as error:
        if error.code in WRONG_USE or options.format not in (None, TABLE_FORMAT):
            raise
        from tidepool_ingest.inspection.unmapped import inspect_unrecognized

        return inspect_unrecognized(path, one.typed, error)
    check_taken(name, said)
    return Source([path], [one.typed], name, said, tuple(options.meant_as))


def _of_batch(one: Given) -> list[Source] | Inspection:
    """Return the files of a batch, to be read as its manifest says, or why its manifest cannot be read."""
    folder = given_folder(one.path)
    try:
        manifest = read_manifest(folder, None)
    except BatchError as error:
        unread = InspectedFile(name=one.typed, format="", compression="none", rows=0)
        return Inspection(files=(unread,), format="", holds=(hold_of(error),), is_readable=False)
    if manifest.edits:
        print(
            f"{printable(one.typed)}: the edits of its manifest are not made in what is shown.",
            file=sys.stderr,
        )
    from tidepool_ingest.staging.manifest import FileOptions

    sources: dict[object, Source] = {}
    for number, file in enumerate(manifest.files):
        key = file.format if FORMATS[file.format].joins_files else number
        said = FileOptions.model_validate(
            file.model_dump(include=set(FileOptions.model_fields)), by_name=True
        )
        if manifest.timezone and said.timezone is None and "timezone" in FORMATS[file.format].options:
            said = said.model_copy(update={"timezone": manifest.timezone})
        before = sources.get(key, Source([], [], file.format, said, manifest.meant_as))
        name = f"{one.typed.removesuffix(MANIFEST_NAME).rstrip('/')}/{file.name}"
        paths, names = [*before.paths, folder / file.name], [*before.names, name]
        sources[key] = Source(paths, names, file.format, before.options, manifest.meant_as)
    return list(sources.values())


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
    return inspection.but(overlaps=overlaps)


def _invocation(options: argparse.Namespace, things: Sequence[Given]) -> Invocation:
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
        is_staged=any(one.is_batch for one in things),
        has_root=bool(os.environ.get(ROOT_VARIABLE, "").strip()),
    )
