"""``tidepool-ingest stage``: turn a data file into ready batches, one for each device found in it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from upath import UPath

from tidepool_ingest.cli.arguments import (
    CommandError,
    add_root,
    check_standard_input,
    data_file,
    day,
    given_folder,
    place,
    reading_data_file,
)
from tidepool_ingest.cli.reading import add_reading, check_taken, format_of, reading_options, zones_of
from tidepool_ingest.codes import PAGE
from tidepool_ingest.formats import FORMATS, RECORDS_FORMAT, is_export, read_manifest
from tidepool_ingest.formats.holds import CLOCK_FAULTS
from tidepool_ingest.formats.row_counts import UNDER_OTHER_SERIAL
from tidepool_ingest.formats.table import TableReader
from tidepool_ingest.model import masked_pointer, validate_data_set
from tidepool_ingest.model.deduplicators import deduplicator_named
from tidepool_ingest.stage import stage
from tidepool_ingest.stage.people import People, read_users, split
from tidepool_ingest.stage.vendor import (
    Description,
    PeopleHeldError,
    StagedDevice,
    stage_export,
    stage_people,
)
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import (
    DEFAULT_CONTINUOUS_DEDUPLICATOR,
    DEFAULT_DEDUPLICATOR,
    FileOptions,
    Manifest,
    RecordEdits,
    StrictJsonError,
    strict_json,
)

BESIDE = (
    "Its rows have no names of their own: of a later export, only what is equal takes their place, and what "
    "differs shows beside them, as with another time zone. --replaces puts it in the place of a batch."
)
"""What is said of an export whose later ones do not replace it by themselves."""


def describe(command: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    command.description = (
        "Write one ready batch for each deviceId found in a data file, and print their folders. "
        "Records keep their bytes, and an export whose rows are not records goes into each batch as it is; "
        "nothing appears in staging until the whole file has been read."
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="NDJSON, a JSON array or an export, plain, .gz or .zst; - for the standard input. Several files "
        "are staged one by one, but those of one Nightscout site together",
    )
    whose = command.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", metavar="ID", help="Tidepool user id whose data these are")
    whose.add_argument(
        "--like",
        metavar="FOLDER",
        help="batch folder whose manifest describes this batch too, for its corrected quarantine file",
    )
    whose.add_argument(
        "--users",
        metavar="FILE",
        help="CSV that says who is who, for --split-by: below the names of its two columns, the id in the "
        "table and the Tidepool user of each person",
    )
    command.add_argument(
        "--split-by",
        metavar="COLUMN[,COLUMN]",
        help="of a table with several people (--mapping, --users), the column that tells them apart; a "
        "second one is that of their devices, which `deviceId` of the mapping names",
    )
    add_root(command)
    command.add_argument("--day", type=day, metavar="YYYY-MM-DD", help="date folder (default: today in UTC)")
    command.add_argument(
        "--normal",
        action="store_true",
        help="make normal batches of an export whose rows have names of their own, and none of a feed",
    )
    command.add_argument(
        "--batch-id", metavar="NAME", help="name of the batch folder (default: time and content)"
    )
    command.add_argument(
        "--replaces",
        metavar="FOLDER",
        help="batch folder, or its name, of the verified batch of this device whose place the new one takes "
        "once it is visible",
    )
    command.add_argument(
        "--connection", metavar="NAME", help="Airflow connection to upload through, if not the DAG's own"
    )
    add_reading(command)
    _add_device(command)
    _add_edits(command)
    command.set_defaults(run=run)


def _add_device(command: argparse.ArgumentParser) -> None:
    device = command.add_argument_group("what Tidepool is told about the device")
    device.add_argument("--device-id", metavar="ID", help="for records that name no deviceId")
    device.add_argument("--device-model", metavar="NAME", help="as Tidepool and the report show it")
    device.add_argument("--device-serial-number", metavar="NUMBER", help="as printed on the device")
    device.add_argument(
        "--device-manufacturer", action="append", metavar="NAME", help="who made it; may be repeated"
    )
    device.add_argument(
        "--device-tag",
        action="append",
        metavar="TAG",
        help="activity-monitor, bgm, cgm or insulin-pump; may be repeated",
    )
    device.add_argument(
        "--time-processing", metavar="HOW", help="none, utc-bootstrapping or across-the-board-timezone"
    )
    device.add_argument(
        "--deduplicator",
        metavar="NAME",
        help=f"full name (default: {DEFAULT_DEDUPLICATOR}, and {DEFAULT_CONTINUOUS_DEDUPLICATOR} for a feed)",
    )


def _add_edits(command: argparse.ArgumentParser) -> None:
    edits = command.add_argument_group("edits that the manifest will ask for, each counted in the report")
    edits.add_argument(
        "--drop", action="append", default=[], metavar="FIELD", help="leave a field out; may be repeated"
    )
    edits.add_argument(
        "--set", action="append", default=[], metavar="FIELD=JSON", help="set a field; may be repeated"
    )
    edits.add_argument(
        "--glucose-units",
        choices=("mg/dL", "mmol/L"),
        help="the unit that glucose values are in, whatever their label",
    )


def run(options: argparse.Namespace) -> int:
    """Stage the file and print the folders."""
    if options.users or options.split_by:
        return _run_split(options)
    data_set, edits = _data_set(options), _edits(options)
    given = reading_options(options)
    root = place(options.root)
    like = read_manifest(given_folder(place(options.like)), None) if options.like else None
    replaces = None if options.replaces is None else place(options.replaces).name
    padding: Counter[str] = Counter()
    check_standard_input(options.files)
    with reading_data_file(), ExitStack() as stack:
        sources = [stack.enter_context(data_file(text)) for text in options.files]
        groups = list(_groups(sources, options, like))
        if options.batch_id and len(groups) > 1:
            raise CommandError("--batch-id names one batch.", "Give its files, or leave it out.")
        if replaces is not None and len(groups) > 1:
            raise CommandError("--replaces is for one batch.", "Give its files, or leave it out.")
        for name, together in groups:
            if like is None and FORMATS[name].has_own_rows:
                check_taken(name, given)
                staged = stage_export(
                    together,
                    root,
                    options.user,
                    name,
                    _description(options, given, data_set, edits, replaces),
                    padding=padding,
                )
                _tell_of_export(staged, name, is_told=not (options.format or options.mapping))
                if replaces is None and not any(one.has_names for one in staged):
                    print(BESIDE, file=sys.stderr)
                _show(one.folder for one in staged)
                continue
            _check_of_records(options, given, name)
            for source in together:
                batches = stage(
                    source,
                    root,
                    like.user_id if like else options.user,
                    day=options.day,
                    data_set=data_set,
                    file_format=options.format,
                    batch_id=options.batch_id,
                    edits=edits,
                    connection=options.connection,
                    like=like,
                    replaces=replaces,
                    meant_as=options.meant_as,
                    padding=padding,
                )
                _show(batches)
                staged_as = read_manifest(batches[0].path, None).files[0].format
                if is_export(staged_as) and staged_as != options.format and like is None:
                    print(
                        f"By its records, this is an export of Tidepool: staged as {staged_as}.",
                        file=sys.stderr,
                    )
    if padding.total():
        fields = ", ".join(f"{number} values of {name}" for name, number in sorted((+padding).items()))
        print(
            f"U+0000 at the end, which pads a field of fixed width, is left out of the manifests: {fields}. "
            "Records keep theirs. Where their deviceId then differs from their data set's, the report says "
            "so (device-id-differs); --set 'deviceId=\"…\"' would set the same one in each record.",
            file=sys.stderr,
        )
    return 0


def _description(
    options: argparse.Namespace,
    given: FileOptions,
    data_set: dict[str, Any],
    edits: RecordEdits | None,
    replaces: str | None = None,
) -> Description:
    """Return what is said of an export's batches."""
    return Description(
        options=given.model_copy(update={"timezone": None}) if _is_one_zone(given) else given,
        meant_as=tuple(options.meant_as),
        day=options.day,
        data_set=data_set,
        batch_id=options.batch_id,
        edits=edits,
        connection=options.connection,
        normal=options.normal,
        replaces=replaces,
    )


def _show(batches: Iterable[BatchFolder]) -> None:
    for batch in batches:
        print(batch.path)


def _groups(
    sources: Sequence[UPath], options: argparse.Namespace, like: Manifest | None
) -> Iterator[tuple[str, list[UPath]]]:
    """Yield the files that are staged together, with their format."""
    joined: dict[str, list[UPath]] = {}
    for source in sources:
        name = (options.format or RECORDS_FORMAT) if like else format_of(source, options)
        if FORMATS[name].joins_files:
            joined.setdefault(name, []).append(source)
        else:
            yield name, [source]
    yield from joined.items()


def _run_split(options: argparse.Namespace) -> int:
    """Stage the rows of each person in a table, print the folders, and list what was not staged."""
    whole = options.users and options.split_by and options.mapping
    if not whole or options.serial or len(options.files) > 1:
        raise CommandError(
            "One table of several people takes --split-by, --users and --mapping, and no --serial.",
            "Give these three, or --user if it is of one person.",
        )
    data_set, edits, given = _data_set(options), _edits(options), reading_options(options)
    if options.format not in (None, TableReader.name) or not isinstance(given.table, dict):
        raise CommandError("Only a table can be split.", "Leave --format out.")
    check_taken(TableReader.name, given)
    users = read_users(place(options.users))
    split_by = options.split_by.split(",")
    with tempfile.TemporaryDirectory(prefix="tidepool-split-") as folder:
        with reading_data_file(), data_file(options.files[0]) as source:
            people = split(source, given.table, split_by, users, Path(folder))
        _tell_of_people(people)
        try:
            description = _description(options, given, data_set, edits)
            staged = stage_people(people, place(options.root), description)
        except PeopleHeldError as error:
            for study_id, reason in error.people:
                print(f"{_printable(study_id)}: {reason}", file=sys.stderr)
            raise
    _show(one.folder for one in staged)
    return 0


def _tell_of_people(people: People) -> None:
    """Say on standard error what is staged and what is not: to whoever has the table, and in no log."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    kept = sum(part.rows for part in people.parts)
    count = len({part.user_id for part in people.parts})
    say(f"{kept} of {people.rows} rows are of {count} people in --users, in {len(people.parts)} parts.")
    for what, number in people.without_id.items():
        say(f"  not staged: {number} rows that {what}")
    for study_id, number in people.strangers.items():
        say(f"  not staged: {number} rows of {_printable(study_id)}, who is not in --users")
    for study_id in people.absent:
        say(f"  no rows of {_printable(study_id)}")


def _is_one_zone(given: FileOptions) -> bool:
    """Return whether the zone is one name: then the data set has it, and its file need not say it."""
    return isinstance(given.timezone, str)


def _check_of_records(options: argparse.Namespace, given: FileOptions, name: str) -> None:
    """Make sure that nothing is said of a file of records that is for exports only."""
    check_taken(name, given.model_copy(update={"timezone": None}) if _is_one_zone(given) else given)
    for code in options.meant_as:
        if code in CLOCK_FAULTS:
            raise CommandError(
                f"--meant-as {code} is for an export, whose rows are not records.", "Leave it out."
            )
    deduplicator = deduplicator_named(options.deduplicator or DEFAULT_DEDUPLICATOR)
    if deduplicator is None or "normal" not in deduplicator.works_for:
        _reject("Tidepool has no such --deduplicator for normal data sets")


def _tell_of_export(staged: Sequence[StagedDevice], name: str, *, is_told: bool) -> None:
    """Say on standard error what was found in an export: to whoever has the file, and in no log."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    if is_told:
        say(f"By its content, this is an export of format {name}.")
    for number, one in enumerate(staged, 1):
        place_of = f"Device {number} of {len(staged)}, " if len(staged) > 1 else ""
        serial = f", serial number {_printable(one.serial)}" if one.serial else ""
        model = _printable(str(one.body.get("deviceModel") or "unknown model"))
        say(f"{place_of}{model}{serial}: {one.counts.readings} of {one.counts.rows} rows are readings.")
        for line in one.counts.described():
            say(f"  {line}")
        if twice := one.counts.skipped[UNDER_OTHER_SERIAL]:
            say(f"  {twice} rows stand under another serial number as well, and are taken from there.")
    if any(one.counts.rejected or one.counts.skipped for one in staged):
        say(f"{PAGE} explains each code and reason.")
    if feeds := [one.client_name for one in staged if one.client_name]:
        say(
            f"Its rows have names of their own, so it is staged for the feed {', '.join(feeds)}: a later "
            "export replaces what it has in common with this one. --normal would make normal batches."
        )
    elif any(one.has_names for one in staged):
        say(
            "Its rows have names of their own, which normal batches do without: what a later export has "
            "otherwise will show beside this one."
        )


def _printable(text: str) -> str:
    return "".join(sign for sign in text if sign.isprintable())


def _data_set(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of the create body, which Tidepool would accept."""
    zones = zones_of(options)
    fields = {
        "deviceId": options.device_id,
        "deviceModel": options.device_model,
        "deviceSerialNumber": options.device_serial_number,
        "deviceManufacturers": options.device_manufacturer,
        "deviceTags": options.device_tag,
        "timezone": zones if zones is None or isinstance(zones, str) else zones[-1].zone,
        "timeProcessing": options.time_processing,
        "deduplicator": {"name": options.deduplicator} if options.deduplicator else None,
    }
    body = {name: value for name, value in fields.items() if value is not None}
    if problems := validate_data_set(body):
        _reject(
            f"Tidepool would reject {', '.join(f'{code} at {masked_pointer(at)}' for code, at in problems)}"
        )
    return body


def _edits(options: argparse.Namespace) -> RecordEdits | None:
    if not (options.drop or options.set or options.glucose_units):
        return None
    try:
        return RecordEdits(
            drop=tuple(options.drop),
            set_fields=dict(map(_assignment, options.set)),
            glucose_units=options.glucose_units,
        )
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if "drop" in problem["loc"]:
            _reject("--drop takes the name of a field")
        _reject(f"a manifest with these edits {problem['msg']}")


def _assignment(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    try:
        if not separator:
            raise StrictJsonError("it contains no =")
        return name, strict_json(value.encode(errors="surrogateescape"))
    except StrictJsonError as error:
        _reject(f"--set takes FIELD=JSON, for example 'units=\"mg/dL\"'; here {error.detail}")


def _reject(detail: str) -> NoReturn:
    raise BatchError("stage-arguments", detail=detail) from None
