"""Formats that only tests know: each needs of the seam what none of today's formats does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from tests.factories import DEVICE, minute_of
from tidepool_ingest.formats.holds import DATES_SWAPPED, hold_unless_meant
from tidepool_ingest.formats.reader import Block, Device, Reader, ReadingContext, RejectedRow
from tidepool_ingest.local_times import LocalTimes
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.source_file import SourceFile

BROKEN, UNKNOWN = "staged-test-broken", "staged-test-unknown"

BLOCK_ROWS = 4
"""Rows of a block: so few that a file has several."""


def record(value: object, minute: int, kind: str = "cbg") -> bytes:
    return json.dumps(
        {"type": kind, "time": minute_of(minute), "deviceId": DEVICE, "units": "mmol/L", "value": value}
    ).encode()


def lines_in(file: SourceFile) -> list[bytes]:
    return b"".join(file.text()).splitlines()


class TableReader(Reader):
    """Rows ``minute;sensor;meter``: a record for each value. A row that starts with # is a note.

    The file is recognized by its first row, and its rows are staged as they stand.
    """

    name = "test-table"
    stages_rows = True

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        return start.startswith(b"#table")

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        rows = list(enumerate(lines_in(file)))
        for start in range(0, len(rows), BLOCK_ROWS):
            yield self._block(start, rows[start : start + BLOCK_ROWS])

    def rows(self, file: SourceFile) -> Iterator[Block]:
        yield Block(0, lines_in(file))

    def _block(self, start: int, rows: list[tuple[int, bytes]]) -> Block:
        block = Block(start, [])
        found: list[tuple[bytes, bytes, int]] = []
        for position, row in rows:
            cells = row.split(b";")
            if row.startswith(b"#"):
                block.skipped["note"] = block.skipped.get("note", 0) + 1
            elif len(cells) != 3:
                block.rejected.append(RejectedRow(position, BROKEN, row, f"line {position + 1}"))
            else:
                for kind, value in zip(("cbg", "smbg"), cells[1:], strict=True):
                    if value:
                        found.append((record(float(value), int(cells[0]), kind), row, position))
                if not (cells[1] or cells[2]):
                    block.skipped["empty"] = block.skipped.get("empty", 0) + 1
        return Block(
            start,
            [line for line, _row, _position in found],
            block.rejected,
            staged=[row for _line, row, _position in found],
            positions=[position for _line, _row, position in found],
            where=[f"line {position + 1}" for _line, _row, position in found],
            skipped=block.skipped,
        )


class FooterReader(Reader):
    """Records anywhere in the file, found by a list of ``[offset, length]`` at its end."""

    name = "test-footer"

    def rows(self, file: SourceFile) -> Iterator[Block]:
        with file.seekable() as copy:
            copy.seek(-8, 2)
            size = int(copy.read())
            copy.seek(-8 - size, 2)
            for position, (offset, length) in enumerate(json.loads(copy.read(size))):
                copy.seek(offset)
                yield Block(position, [copy.read(length)])


def with_footer(records: Sequence[bytes]) -> bytes:
    """Return a file for ``FooterReader``, the records in it in the opposite order."""
    text, places = b"", []
    for line in reversed(records):
        places.append((len(text), len(line)))
        text += line + b"\0\xff"
    footer = json.dumps(places[::-1]).encode()
    return text + footer + b"%08d" % len(footer)


class JoinedReader(Reader):
    """Values by name in one file, ``name=value``, and the minutes of them in another: ``name@minute``.

    All files are one source. They are read twice, the first time only for the names; values without a minute
    are rejected when all files were read.
    """

    name = "test-joined"
    joins_files = True

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._values: dict[bytes, float] = {}
        self._used: set[bytes] = set()
        self._unused: list[RejectedRow] = []
        self._unused_in = 0

    def survey(self) -> None:
        for file in self.files:
            for row in lines_in(file):
                name, is_value, value = row.partition(b"=")
                if is_value:
                    self._values[name] = float(value)
                else:
                    self._used.add(row.partition(b"@")[0])

    def rows(self, file: SourceFile) -> Iterator[Block]:
        yield Block(0, lines_in(file))

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        records: list[tuple[bytes, bytes, int]] = []
        block: dict[str, Any] = {"skipped": {}, "rejected": []}
        for position, row in enumerate(lines_in(file)):
            name, is_minute, minute = row.partition(b"@")
            if not is_minute and row.partition(b"=")[0] in {*self._values} - self._used:
                self._unused.append(RejectedRow(position, UNKNOWN, row))
                self._unused_in = file.number or 0
            elif not is_minute:
                block["skipped"]["value"] = block["skipped"].get("value", 0) + 1
            elif name not in self._values:
                block["rejected"].append(RejectedRow(position, UNKNOWN, row))
            else:
                records.append((record(self._values[name], int(minute)), row, position))
        lines, staged, positions = zip(*records, strict=True) if records else ((), (), ())
        yield Block(0, list(lines), staged=list(staged), positions=list(positions), **block)
        if file is self.files[-1] and self._unused:
            yield Block(0, [], self._unused, file_number=self._unused_in)


class VendorReader(Reader):
    """A vendor's export: ``serial,name,time,value``, in local times, and the rows of several devices.

    A value that is no number is refused, a row without one is a note, and ``swapped`` holds the file.
    """

    name = "test-vendor"
    version = 1
    added: ClassVar[float] = 0.0
    """What this version of the reader adds to a value."""
    has_own_rows = True
    options = frozenset({"timezone", "serial", "keep_notes"})
    HEADING = b"serial,name,time,value"

    def __init__(self, files: Sequence[SourceFile], context: ReadingContext) -> None:
        super().__init__(files, context)
        self._serials: dict[str, None] = {}
        self._named = False

    @classmethod
    def recognizes(cls, start: bytes) -> bool:
        return start.startswith(cls.HEADING)

    def survey(self) -> None:
        for file in self.files:
            self.context.periods_of(file)
            for serial, name, _time, value in self._cells(file):
                self._serials[serial] = None
                self._named = self._named or bool(name)
                if value == "swapped":
                    hold_unless_meant(DATES_SWAPPED, self.context.meant_as, file_number=file.number)

    @property
    def has_names(self) -> bool:
        return self._named

    def devices(self) -> list[Device]:
        return [
            Device(serial if len(self._serials) > 1 else "", self._fields(serial)) for serial in self._serials
        ]

    @staticmethod
    def _fields(serial: str) -> dict[str, Any]:
        return {
            "deviceId": f"Vendor-{serial}",
            "deviceModel": "Vendor One",
            "deviceManufacturers": ["Vendor"],
            "deviceSerialNumber": serial,
            "deviceTags": ["cgm"],
            "timeProcessing": "across-the-board-timezone",
        }

    @staticmethod
    def _cells(file: SourceFile) -> list[list[str]]:
        rows = b"".join(file.text(is_table=True)).decode().splitlines()
        if rows[:1] != [VendorReader.HEADING.decode()]:
            raise BatchError("file-other-format", file_number=file.number)
        return [row.split(",") for row in rows[1:]]

    def rows(self, file: SourceFile) -> Iterator[Block]:
        return self.blocks(file)

    def blocks(self, file: SourceFile) -> Iterator[Block]:
        chosen = file.options.serial
        if file.staged is not None and len(self._serials) > 1 and chosen is None:
            raise BatchError("file-several-devices", file_number=file.number)
        times = LocalTimes(self.context.periods_of(file))
        for position, cells in enumerate(self._cells(file)):
            yield self._block(position, cells, chosen, times)

    def _block(self, position: int, cells: list[str], chosen: str | None, times: LocalTimes) -> Block:
        serial, name, local, value = cells
        row, where = ",".join(cells).encode(), f"line {position + 2}"
        if chosen not in (None, serial):
            return Block(position, [], skipped={"other-device": 1})
        if not value:
            return Block(position, [], skipped={"note": 1})
        try:
            number = float(value) + self.added
        except ValueError:
            return Block(position, [], [RejectedRow(position, "staged-not-a-number", row, where)])
        moment = times.read(local)
        made = {
            "type": "cbg",
            "time": moment.time,
            "deviceId": self.context.device_id or f"Vendor-{serial}",
            "deviceTime": local,
            "timezoneOffset": moment.offset,
            "units": "mmol/L",
            "value": number,
            **({"origin": {"id": name}} if name else {}),
        }
        return Block(position, [json.dumps(made).encode()], staged=[row], positions=[position], where=[where])


def vendor_file(*rows: str) -> bytes:
    """Return a file for ``VendorReader``; each row is ``serial,name,time,value``."""
    return b"".join(line + b"\n" for line in (VendorReader.HEADING, *(row.encode() for row in rows)))


READERS: tuple[type[Reader], ...] = (TableReader, FooterReader, JoinedReader)
