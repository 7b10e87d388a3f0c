"""``tidepool-ingest inspect``: what data files are, and what would become of them, before they are staged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from upath import UPath

from tidepool_ingest.cli.arguments import check_standard_input, data_file, reading_data_file
from tidepool_ingest.cli.reading import add_reading, check_taken, format_of, reading_options
from tidepool_ingest.formats import FORMATS, recognized_format
from tidepool_ingest.inspection.findings import Inspection, Inspections
from tidepool_ingest.inspection.inspecting import Source, inspect_source

SOMETHING_IS_WRONG = 1
"""Exit code if a run would stop at a file, or reject a record of it."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Say what data files are, by their content: which device, days and records, what would be refused or "
        "left out and why, which time zone fits, and what looks wrong. Nothing is uploaded, and nothing "
        "leaves this machine. Exit code 1 if a run would stop at a file or reject a record; 2 if the command "
        "cannot be carried out."
    )
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="a data file (.gz and .zst too; - for the standard input)"
    )
    add_reading(command)
    command.add_argument("--json", action="store_true", help="write what is found as JSON")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Inspect the files."""
    check_standard_input(options.files)
    with ExitStack() as stack:
        paths = [stack.enter_context(data_file(text)) for text in options.files]
        with reading_data_file():
            found = [
                inspection for source in _sources(paths, options) for inspection in inspect_source(source)
            ]
    print(Inspections(inspections=tuple(found)).model_dump_json(by_alias=True, indent=2))
    return SOMETHING_IS_WRONG if any(map(_is_wrong, found)) else 0


def _is_wrong(inspection: Inspection) -> bool:
    return bool(inspection.holds or inspection.rejected)


def _sources(paths: Sequence[UPath], options: argparse.Namespace) -> list[Source]:
    """Return the files, together where their format joins them."""
    given = reading_options(options)
    groups: dict[object, list[int]] = {}
    formats = []
    for index, path in enumerate(paths):
        name = format_of(path, options, recognized_format)
        check_taken(name, given)
        formats.append(name)
        groups.setdefault(name if FORMATS[name].joins_files else index, []).append(index)
    return [
        Source(
            paths=[paths[index] for index in group],
            names=[options.files[index] for index in group],
            format=formats[group[0]],
            options=given,
            meant_as=tuple(options.meant_as),
        )
        for group in groups.values()
    ]
