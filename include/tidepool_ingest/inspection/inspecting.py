"""Looking at data files before anything is staged: what they are, what of them would be taken, and why not.

Files are read as a run would read them, and judged as ``prepare`` would judge their records. Where a run
would stop, that is said, and they are read on as if they were meant so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, get_args

from tidepool_ingest.errors import IngestError, as_sentence
from tidepool_ingest.formats import FORMATS, TABLE_FORMAT
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import Block, Device, ReadingContext, RejectedRow, Row
from tidepool_ingest.formats.row_counts import place_of
from tidepool_ingest.inspection.findings import (
    Hold,
    InspectedDevice,
    InspectedFile,
    Inspection,
    ReasonFound,
    ZoneFinding,
)
from tidepool_ingest.inspection.gathering import Gathering, moment_of
from tidepool_ingest.inspection.suspicions import Suspecting
from tidepool_ingest.inspection.zones import find_zone, with_rhythm
from tidepool_ingest.model import Problem, glucose_readings, type_of
from tidepool_ingest.model.glucose_levels import GlucoseHistogram
from tidepool_ingest.prepare.classify import RecordClassifier
from tidepool_ingest.prepare.reading import RecordReader
from tidepool_ingest.prepare.reasons import Reasons
from tidepool_ingest.prepare.record_checks import RecordChecker
from tidepool_ingest.staging.compression import compression_of
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest_terms import MeantAs
from tidepool_ingest.staging.source_file import PARQUET_MAGIC, WORKBOOK_MAGIC, SourceFile, given_files
from tidepool_ingest.staging.storage import StoragePath

if TYPE_CHECKING:
    from tidepool_ingest.staging.manifest import FileOptions

RELEASABLE: Final = frozenset(get_args(MeantAs))
"""Codes of what holds a batch until somebody says that it is meant so."""


@dataclass(frozen=True)
class Source:
    """Files that are inspected together.

    :param paths: the files, the endings of which show the compression.
    :param names: what they are called by whoever asked, in the same order.
    :param format: their format.
    :param options: how they are to be read, if anything is said about it.
    :param meant_as: codes of what would hold a batch of them and is as it is meant to be.
    """

    paths: Sequence[StoragePath]
    names: Sequence[str]
    format: str
    options: FileOptions | None
    meant_as: tuple[str, ...] = ()

    def files(self, **options: object) -> list[SourceFile]:
        """Return the files to be read, with some options changed."""
        files = [(path, self.format) for path in self.paths]
        if not options:
            return given_files(files, self.options)
        # Loaded only here: records need no options.
        from tidepool_ingest.staging.manifest import FileOptions

        return given_files(files, (self.options or FileOptions()).model_copy(update=options))


def inspect_source(source: Source) -> list[Inspection]:
    """Inspect files: one inspection for each device in them, as ``stage`` would make a batch for each.

    :param source: the files.
    """
    zone = find_zone(source.files())
    meant = list(source.meant_as)
    holds: list[Hold] = []
    while True:
        try:
            return _inspected(source, zone, tuple(meant), holds)
        except (BatchError, FileHeldError) as error:
            holds.append(hold_of(error))
            if error.code not in RELEASABLE or error.code in meant:
                return [_unreadable(source, zone, holds)]
            meant.append(error.code)


def title_of(found: Inspection) -> str:
    """Return what inspected files are, as a heading."""
    return FORMATS[found.format].title if found.format in FORMATS else "No data that can be read"


def hold_of(error: IngestError) -> Hold:
    """Return why a run would stop, in words.

    :param error: a hold, or why a file cannot be read.
    """
    sentence = error.faults[error.code].sentence if error.code in error.faults else error.sentence
    return Hold(
        code=error.code,
        what=as_sentence(sentence),
        remedy=error.remedy,
        detail=str(getattr(error, "detail", "") or ""),
    )


def _unreadable(source: Source, zone: ZoneFinding, holds: Sequence[Hold]) -> Inspection:
    files = _inspected_files(source, Counter())
    return Inspection(files=files, format=source.format, holds=tuple(holds), is_readable=False, zone=zone)


def _inspected_files(source: Source, rows: Counter[int]) -> tuple[InspectedFile, ...]:
    return tuple(
        InspectedFile(
            name=name,
            format=source.format,
            kind=kind_of(file, source.format),
            compression=compression_of(file.path.name),
            rows=rows[file.number or 1],
        )
        for file, name in zip(source.files(), source.names, strict=True)
    )


def _named_by_records(gathered: Gathering) -> tuple[InspectedDevice, ...]:
    """Return the devices that records name, where the file itself tells of none.

    Records that name none, among others that do, are of one more device: it has to be named to stage them.
    """
    named = sorted(name for name in gathered.device_ids if name)
    devices = [InspectedDevice(fields={"deviceId": name}) for name in named]
    if named and gathered.device_ids[""]:
        devices.append(InspectedDevice())
    return tuple(devices)


def kind_of(file: SourceFile, name: str) -> str:
    """Return what kind of file one is: ``CSV``, ``JSON``, ``Parquet`` or ``Excel``; empty for other ones.

    :param file: the file.
    :param name: its format, empty where it is none that is known.
    """
    try:
        start = file.start().lstrip()
    except BatchError:
        return ""
    if start.startswith(PARQUET_MAGIC):
        return "Parquet"
    if start.startswith(WORKBOOK_MAGIC):
        return "Excel" if name == TABLE_FORMAT else ""
    return "JSON" if start[:1] in (b"{", b"[") else "CSV" if name else ""


def _inspected(
    source: Source, zone: ZoneFinding, meant_as: tuple[str, ...], holds: Sequence[Hold]
) -> list[Inspection]:
    options: dict[str, object] = {} if zone.stated or not zone.needed else {"timezone": zone.used}
    context = ReadingContext(meant_as=meant_as)
    files = source.files(**options)
    with RecordReader(files, context=context) as reader:
        devices = reader.devices()
        if len(devices) < 2 or (source.options and source.options.serial is not None):
            return [_one(source, zone, holds, reader, devices)]
    made = []
    for device in devices:
        own = replace(context, device_id=str(device.fields.get("deviceId") or "") or None)
        with RecordReader(source.files(**options, serial=device.serial), context=own) as reader:
            made.append(_one(source, zone, holds, reader, [device]))
    return made


def _one(
    source: Source,
    zone: ZoneFinding,
    holds: Sequence[Hold],
    reader: RecordReader,
    devices: Sequence[Device],
) -> Inspection:
    judging = _Judging(zone.used, source.names)
    judging.take(reader)
    gathered = judging.gathered
    first, last = (moment_of(text) for text in gathered.span) if gathered.span else (None, None)
    found_holds = [*holds, *judging.holds()]
    days, gaps = gathered.days(), gathered.gaps()
    return Inspection(
        files=_inspected_files(source, reader.rows),
        format=source.format,
        holds=tuple(found_holds),
        devices=tuple(InspectedDevice(serial=device.serial, fields=dict(device.fields)) for device in devices)
        or _named_by_records(gathered),
        zone=with_rhythm(zone, gathered.meals),
        first=first,
        last=last,
        rows=reader.rows.total(),
        accepted=judging.accepted,
        rejected=judging.rejected.total(),
        duplicates=judging.duplicates,
        types=gathered.types(judging.rejected),
        rejections=tuple(ReasonFound(**vars(one)) for one in judging.rejections.found()),
        warnings=tuple(ReasonFound(**vars(one)) for one in judging.warnings.found()),
        left_out=dict(sorted(judging.left_out.items())),
        days=days,
        utc_days=gathered.utc_days(),
        gaps=gaps.longest,
        reading_minutes=gaps.interval,
        gap_count=gaps.number,
        gap_hours=gaps.hours,
        suspicions=judging.suspecting.found(gathered, days),
        glucose=gathered.glucose(),
    )


class _Judging:
    """Judges records as ``prepare`` does, and counts them."""

    def __init__(self, zone: str, names: Sequence[str]) -> None:
        self.gathered = Gathering(zone)
        self.suspecting = Suspecting()
        self.accepted = self.duplicates = 0
        self.rejected: Counter[str] = Counter()
        self.rejections, self.warnings = Reasons(), Reasons()
        self.left_out: Counter[str] = Counter()
        self._levels = GlucoseHistogram()
        self._names = names

    def take(self, reader: RecordReader) -> None:
        # What the deduplicator needs, the manifest says; here each record is judged on its own.
        with RecordClassifier(RecordChecker(), reader.embedded) as classifier:
            for block in reader:
                self._take(block, classifier)

    def _take(self, block: Block, classifier: RecordClassifier) -> None:
        judged = classifier.classify(block.lines)
        self.left_out.update(block.skipped)
        for index, record in judged.exceptions.items():
            kind = type_of(record.datum)
            if record.identical:
                self.duplicates += 1
            elif record.problems or record.datum is None:
                self.rejected[kind] += 1
                self.rejections.add(kind, record.problems, self._place(block, index))
            elif record.warnings:
                self.warnings.add(kind, record.warnings, self._place(block, index))
        for row in block.rejected:
            self.rejected["unreadable"] += 1
            place = self._place_of(block, row)
            self.rejections.add("", [Problem(row.code, "")], place)
        data = judged.data_to_upload()
        self.accepted += len(data)
        if block.warning:
            left_out = set(judged.left_out())
            for index in (index for index in range(len(judged.lines)) if index not in left_out):
                warned = [Problem(block.warning, "")]
                self.warnings.add(type_of(judged.data[index]), warned, self._place(block, index))
        self.gathered.see(data)
        self.suspecting.see(data)
        self._levels.add(glucose_readings(data))

    def _place(self, block: Block, index: int) -> str:
        return self._place_of(block, block.row(index))

    def _place_of(self, block: Block, row: Row | RejectedRow) -> str:
        return place_of(block, row, several=len(self._names) > 1, names=self._names)

    def holds(self) -> list[Hold]:
        """Return what only all records together show to hold a batch."""
        found = self._levels.implausible()
        if found is None:
            return []
        # Loaded only here, for it comes with all that guards ask the ledger.
        from tidepool_ingest.guards.glucose import GlucoseUnitsError

        return [hold_of(GlucoseUnitsError("of this file", *found))]
