"""``tidepool-ingest stage``: turn a data file into ready batches, one for each device found in it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidepool_ingest.cli import FAILED, USAGE_ERROR, code_of, print_error
from tidepool_ingest.cli.arguments import (
    CommandError,
    add_root,
    day,
    given_folder,
    given_path,
    reading_data_file,
)
from tidepool_ingest.cli.device import add_device, add_edits, data_set_of, edits_of, reject
from tidepool_ingest.cli.given import Given, about, files_only, given, readable
from tidepool_ingest.cli.progress import Progress
from tidepool_ingest.cli.reading import add_reading, check_taken, format_of, reading_options
from tidepool_ingest.cli.terminal import printable
from tidepool_ingest.codes import PAGE
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import FORMATS, RECORDS_FORMAT, TABLE_FORMAT, is_export, read_manifest
from tidepool_ingest.formats.holds import CLOCK_FAULTS
from tidepool_ingest.formats.row_counts import UNDER_OTHER_SERIAL, RowCounts
from tidepool_ingest.model.deduplicators import deduplicator_named
from tidepool_ingest.stage import stage
from tidepool_ingest.stage.already import AlreadyStaged
from tidepool_ingest.staging.batches import BatchFolder
from tidepool_ingest.staging.manifest import FileOptions, Manifest, RecordEdits
from tidepool_ingest.staging.manifest_terms import DEFAULT_DEDUPLICATOR
from tidepool_ingest.staging.storage import StoragePath
from tidepool_ingest.texts import counted

if TYPE_CHECKING:
    from tidepool_ingest.stage.people import People
    from tidepool_ingest.stage.vendor import Description, StagedDevice

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
        "nothing appears in staging until the whole file has been read. What the staging root has already, "
        "with the same content, is named and not made again."
    )
    command.add_argument(
        "files",
        nargs="+",
        metavar="PATH",
        help="NDJSON, a JSON array or an export, plain, .gz or .zst; - for the standard input; a pipe; or a "
        "folder, which is the files in it, and no batch. Several files are staged one by one, but those of "
        "one Nightscout site together; if one is refused, the others are staged all the same",
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
    command.add_argument(
        "--json", action="store_true", help="write what was staged as JSON (docs/stage.schema.json)"
    )
    add_reading(command)
    add_device(command)
    add_edits(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Stage the files, print the folders, and say what was made."""
    if options.users or options.split_by:
        return _run_split(options)
    things = given(options.files)
    files_only(things, *_IS_STAGED)
    data_set, edits = data_set_of(options), edits_of(options)
    said = reading_options(options)
    like = _like(options)
    report = _Report(options, AlreadyStaged(given_path(options.root)))
    with ExitStack() as stack, Progress(things) as progress:
        groups = list(_groups(things, options, like, stack, progress, report))
        if options.batch_id and len(groups) > 1:
            raise CommandError("--batch-id names one batch.", "Give its files, or leave it out.")
        if options.replaces is not None and len(groups) > 1:
            raise CommandError("--replaces is for one batch.", "Give its files, or leave it out.")
        for group in groups:
            with about(group.typed):
                if like is None and FORMATS[group.format].has_own_rows:
                    check_taken(group.format, said)
                else:
                    _check_of_records(options, said, group.format)
        for group in groups:
            progress.at(group.first)
            try:
                only = group.paths[0] if len(group.paths) == 1 else None
                with about(group.typed, file=only), reading_data_file():
                    _stage_group(group, options, data_set, edits, like, report, progress)
            except IngestError as error:
                if len(things) == 1 and not options.json:
                    raise
                if code_of(error) == USAGE_ERROR and not report.has_batches:
                    raise
                report.refuse(group.names, error)
    return report.end()


_IS_STAGED = (
    "That is a batch, which is staged already: a run takes it once it lies in the staging root.",
    "To stage its data anew, name its data files.",
)


@dataclass(frozen=True)
class _Group:
    """Files that are staged together.

    :param format: their format.
    :param names: what they are called, as they were typed.
    :param paths: where they are.
    :param first: which of what was typed is the first of them.
    """

    format: str
    names: list[str] = field(default_factory=list)
    paths: list[StoragePath] = field(default_factory=list)
    first: int = 0

    @property
    def typed(self) -> str:
        """What an error calls them."""
        return ", ".join(self.names)


class _Report:
    """Says what was staged: folders on standard output, and what there is to say of them on standard error.

    :param options: the command line.
    :param already: knows what was staged before.
    """

    def __init__(self, options: argparse.Namespace, already: AlreadyStaged) -> None:
        self.already = already
        self.padding: Counter[str] = Counter()
        self._options = options
        self._made: list[tuple[BatchFolder, Manifest]] = []
        self._found: list[BatchFolder] = []
        self._batches: list[tuple[BatchFolder, Manifest, Sequence[str], StagedDevice | None]] = []
        self._refused: list[tuple[Sequence[str], IngestError]] = []

    @property
    def has_batches(self) -> bool:
        """Whether something was staged."""
        return bool(self._batches)

    def say(self, text: str) -> None:
        """Tell whoever asked something; a program that reads JSON needs no words."""
        if not self._options.json:
            print(printable(text), file=sys.stderr)

    def batch(self, folder: BatchFolder, names: Sequence[str], device: StagedDevice | None = None) -> None:
        """Take a batch that is staged now, whether it was made or found."""
        manifest = read_manifest(folder.path, None)
        self._batches.append((folder, manifest, names, device))
        if not self._options.json:
            print(folder.path)
        if folder in self.already.found:
            self._found.append(folder)
            self.say(f"Staged already as {folder.path}: the same content is there, and nothing was added.")
        else:
            self._made.append((folder, manifest))

    def refuse(self, names: Sequence[str], error: IngestError) -> None:
        """Take files that are not staged."""
        print_error(error)
        self._refused.append((names, error))

    def end(self) -> int:
        """Say what was made, and return the exit code."""
        if self.padding.total():
            fields = ", ".join(
                f"{number} values of {name}" for name, number in sorted((+self.padding).items())
            )
            self.say(
                "U+0000 at the end, which pads a field of fixed width, is left out of the manifests: "
                f"{fields}. Records keep theirs. Where their deviceId then differs from their data set's, "
                "the report says so (device-id-differs); --set 'deviceId=\"…\"' would set the same one in "
                "each record."
            )
        if self.already.is_blind and self._made:
            self.say(
                "Staging cannot be listed, so that nobody knows whether it has the same content already."
            )
        if self._made:
            if self.already.is_new_root:
                self.say(f"Made a new staging root: {self._options.root}")
            days = ", ".join(sorted({str(folder.day) for folder, _ in self._made}))
            # Of an export, each batch has the whole file.
            is_whole = any(FORMATS[file.format].has_own_rows for _, one in self._made for file in one.files)
            records = sum(file.records or 0 for _, manifest in self._made for file in manifest.files)
            of = "" if is_whole else f" of {counted(records, 'record')}"
            self.say(f"Staged {counted(len(self._made), 'batch')}{of}, in the day folder {days}.")
        if self._options.json:
            self._write_json()
        return FAILED if self._refused else 0

    def _write_json(self) -> None:
        # Loaded only here: nothing else needs a schema.
        from tidepool_ingest.cli.summaries import (
            NotStaged,
            StagedSummary,
            Stagings,
            refusal,
            write_json,
        )
        from tidepool_ingest.inspection.findings import ReasonFound

        batches = []
        for folder, manifest, names, device in self._batches:
            counts = device.counts if device else RowCounts()
            batches.append(
                StagedSummary(
                    folder=str(folder.path),
                    is_new=folder not in self.already.found,
                    names=tuple(names),
                    format=manifest.files[0].format,
                    rows=sum(file.records or 0 for file in manifest.files),
                    feed=manifest.client_name if manifest.data_set_type == "continuous" else None,
                    serial=device.serial if device else "",
                    rejections=tuple(
                        ReasonFound(code=code, count=count, places=tuple(counts.places_of(code)))
                        for code, count in sorted(counts.rejected.items())
                    ),
                    left_out=dict(sorted(counts.skipped.items())),
                )
            )
        write_json(
            Stagings(
                root=self._options.root,
                is_new_root=self.already.is_new_root and bool(self._made),
                batches=tuple(batches),
                not_staged=tuple(
                    NotStaged(names=tuple(names), error=refusal(error)) for names, error in self._refused
                ),
            )
        )


def _like(options: argparse.Namespace) -> Manifest | None:
    if not options.like:
        return None
    batch = given_folder(given_path(options.like))
    with about(options.like, batch):
        return read_manifest(batch, None)


def _groups(
    things: Sequence[Given],
    options: argparse.Namespace,
    like: Manifest | None,
    stack: ExitStack,
    progress: Progress,
    report: _Report,
) -> Iterator[_Group]:
    """Yield the files that are staged together, with their format; what cannot be told one is refused."""
    joined: dict[str, _Group] = {}
    for number, one in enumerate(things):
        progress.at(number)
        try:
            with about(one.typed), reading_data_file():
                path = stack.enter_context(one.file())
                name = (options.format or RECORDS_FORMAT) if like else format_of(path, options)
        except IngestError as error:
            if len(things) == 1 and not options.json:
                raise
            if code_of(error) == USAGE_ERROR:
                raise
            with progress.paused():
                report.refuse([one.typed], error)
            continue
        if not FORMATS[name].joins_files:
            yield _Group(name, [one.typed], [path], number)
            continue
        group = joined.setdefault(name, _Group(name, first=number))
        group.names.append(one.typed)
        group.paths.append(path)
    yield from joined.values()


def _stage_group(
    group: _Group,
    options: argparse.Namespace,
    data_set: dict[str, Any],
    edits: RecordEdits | None,
    like: Manifest | None,
    report: _Report,
    progress: Progress,
) -> None:
    """Stage files of one format together, and say what became of them."""
    root = given_path(options.root)
    replaces = None if options.replaces is None else given_path(options.replaces).name
    if like is None and FORMATS[group.format].has_own_rows:
        # Loaded only here, and where a table is split: records need none of it.
        from tidepool_ingest.stage.vendor import stage_export

        description = _description(options, reading_options(options), data_set, edits, replaces)
        staged = stage_export(
            group.paths,
            root,
            options.user,
            group.format,
            description,
            padding=report.padding,
            already=report.already,
        )
        with progress.paused():
            _tell_of_export(staged, group.format, report, is_told=not (options.format or options.mapping))
            if replaces is None and not any(one.has_names for one in staged):
                report.say(BESIDE)
            for one in staged:
                report.batch(one.folder, group.names, one)
        return
    for name, source in zip(group.names, group.paths, strict=True):
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
            padding=report.padding,
            already=report.already,
        )
        with progress.paused():
            for batch in batches:
                report.batch(batch, [name])
            staged_as = read_manifest(batches[0].path, None).files[0].format
            if is_export(staged_as) and staged_as != options.format and like is None:
                report.say(f"By its records, this is an export of Tidepool: staged as {staged_as}.")


def _description(
    options: argparse.Namespace,
    given: FileOptions,
    data_set: dict[str, Any],
    edits: RecordEdits | None,
    replaces: str | None = None,
) -> Description:
    """Return what is said of an export's batches."""
    from tidepool_ingest.stage.vendor import Description

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


def _run_split(options: argparse.Namespace) -> int:
    """Stage the rows of each person in a table, print the folders, and list what was not staged."""
    whole = options.users and options.split_by and options.mapping
    things = given(options.files)
    files_only(things, *_IS_STAGED)
    if not whole or options.serial or len(things) > 1:
        raise CommandError(
            "One table of several people takes --split-by, --users and --mapping, and no --serial.",
            "Give these three, or --user if it is of one person.",
        )
    # Loaded only here: nothing else needs tables.
    from tidepool_ingest.stage.people import read_users, split
    from tidepool_ingest.stage.vendor import PeopleHeldError, stage_people

    data_set, edits, said = data_set_of(options), edits_of(options), reading_options(options)
    if options.format not in (None, TABLE_FORMAT) or not isinstance(said.table, dict):
        raise CommandError("Only a table can be split.", "Leave --format out.")
    check_taken(TABLE_FORMAT, said)
    with about(options.users), readable(given_path(options.users)) as known:
        users = read_users(known)
    split_by = options.split_by.split(",")
    report = _Report(options, AlreadyStaged(given_path(options.root)))
    with Progress(things) as progress, tempfile.TemporaryDirectory(prefix="tidepool-split-") as folder:
        with about(things[0].typed), reading_data_file(), things[0].file() as source:
            people = split(source, said.table, split_by, users, Path(folder))
        with progress.paused():
            _tell_of_people(people, report)
        try:
            description = _description(options, said, data_set, edits)
            staged = stage_people(people, given_path(options.root), description, already=report.already)
        except PeopleHeldError as error:
            with progress.paused():
                for study_id, reason in error.people:
                    print(f"{printable(study_id)}: {reason}", file=sys.stderr)
            raise
    for one in staged:
        report.batch(one.folder, [things[0].typed], one)
    return report.end()


def _tell_of_people(people: People, report: _Report) -> None:
    """Say on standard error what is staged and what is not: to whoever has the table, and in no log."""
    say = report.say
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
        reject("Tidepool has no such --deduplicator for normal data sets")


def _tell_of_export(staged: Sequence[StagedDevice], name: str, report: _Report, *, is_told: bool) -> None:
    """Say on standard error what was found in an export: to whoever has the file, and in no log."""
    say = report.say
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
