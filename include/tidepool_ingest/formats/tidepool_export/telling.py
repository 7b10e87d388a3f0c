"""Which of Tidepool's exports a file is: what the data API shows, or what the web page's Export button gives.

They have the same records under the same names, and mean different things by them: 30 is half an hour in one
and the blink of an eye in the other, and the Platform accepts both. Neither says what it is, but its rows do:

- Only the web page writes names with a dot, rows of type ``pumpSettings.…``, JSON in strings, and durations
  that are no whole number.
- Only the data API shows objects and arrays as such, the fields that the web page has no column for, and
  durations longer than a day or week would have minutes.
- A basal usually ends where the device's next one begins: its duration is the distance, in minutes or in
  milliseconds.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any, Final

from tidepool_ingest.digests import digest_of
from tidepool_ingest.errors import Fault, of_file
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.reader import Block
from tidepool_ingest.formats.tidepool_export.platform_fields import HIDDEN_PREFIX, PLATFORM_FIELDS
from tidepool_ingest.formats.tidepool_export.web_fields import (
    IN_STRINGS,
    KEPT,
    MINUTES,
    TYPES_IN_MINUTES,
    is_piece,
)
from tidepool_ingest.model import NotDecodableError, decode
from tidepool_ingest.model.datum import DATUM_MODELS
from tidepool_ingest.model.gotime import Instant, parse_instant
from tidepool_ingest.model.specification import field_names

MS_PER_MINUTE: Final = 60_000

MOST_MINUTES: Final = {"basal": 7 * 24 * 60, "bolus": 24 * 60}
"""The longest durations that the Platform accepts, in minutes: longer ones are milliseconds. It has none for
events; but those that last show by their ``reason`` which export they are of."""

UPLOAD_ID: Final = "uploadId"
"""What every row of both exports has."""

MAX_BASALS: Final = 50_000
"""Basals whose distances are looked at, at 24 bytes each."""

DISTANCE_MS: Final = 1_000
"""How far a basal's duration may be from the distance to the next; a shorter distance shows nothing."""

CLEARLY: Final = 10
"""How many times as many distances have to be in one unit as in the other."""

_DOTTED: Final = frozenset(name for name in KEPT if "." in name)


@cache
def _known() -> frozenset[str]:
    """Return the names of all fields of Tidepool's."""
    return PLATFORM_FIELDS.union(*map(field_names, DATUM_MODELS))


@cache
def _objects() -> frozenset[str]:
    """Return what a name with a dot begins with, if an export has written it."""
    return _known().union(name.partition(".")[0] for name in KEPT)


@cache
def _never_kept() -> frozenset[str]:
    """Return the names of Tidepool's that no row of a web export has."""
    return _known() - KEPT


class ExportKind(Enum):
    """Which export the rows of a file are from."""

    DATA_API = "of the data API"
    WEB_PAGE = "of the web page"
    MIXED = "of both"
    UNCLEAR = "of either, and its durations may be in minutes or in milliseconds"
    EITHER = "of either, and it does not matter"


CODES: Final = {
    ExportKind.WEB_PAGE: "export-of-web-page",
    ExportKind.DATA_API: "export-of-data-api",
    ExportKind.MIXED: "export-mixed",
    ExportKind.UNCLEAR: "export-unclear",
}
"""Why a file is held that was said to be of another kind."""


EXPORT_FAULTS: dict[str, Fault] = {
    "export-of-web-page": Fault(
        "a file is an export of Tidepool's web page, in minutes, and its format says otherwise",
        "Let its format be `tidepool-web-export`, or stage it again, which finds that out.",
        mends=of_file("format", "--format", "tidepool-web-export"),
    ),
    "export-of-data-api": Fault(
        "a file is an export of Tidepool's data API, in milliseconds, and its format says otherwise",
        "Let its format be `tidepool-export`, or stage it again, which finds that out.",
        mends=of_file("format", "--format", "tidepool-export"),
    ),
    "export-mixed": Fault(
        "a file mixes exports of Tidepool's web page and its data API: durations in minutes and milliseconds",
        "Stage the records of each as a file of its own: `tidepool-web-export` for those of the web page, "
        "`tidepool-export` for those of the data API.",
    ),
    "export-unclear": Fault(
        "nothing in an export of Tidepool shows whether its durations are in minutes or in milliseconds",
        "Find out how it was made. If by the Export button of the web page, let its format be "
        "`tidepool-web-export`; if not, stage it together with other records of the same export.",
        mends=of_file("format", "--format", "tidepool-web-export", is_example=True),
    ),
    "export-scattered": Fault(
        "the rows of pump settings in an export of Tidepool's web page are too far apart to be put together",
        "Sort the file by `id`, or export it again.",
    ),
}
"""Every code of :class:`ExportKindError`."""


class ExportKindError(FileHeldError):
    """A file is not of the export that the manifest names, or it cannot be told of which it is."""

    faults = EXPORT_FAULTS


class ExportSigns:
    """Collects from the rows of one file what shows which export they are from; memory is bounded."""

    def __init__(self) -> None:
        self._web: int | None = None
        self._api: int | None = None
        self._has_small = False
        self._typed = self._with_upload_id = 0
        self._has_web_names = False
        self._devices = array("q")
        self._times = array("q")
        self._durations = array("d")

    def see(self, row: object, position: int) -> None:
        """Look at one row.

        :param row: the row, decoded; it may be anything.
        :param position: which row of the file, counting from 0.
        """
        if not isinstance(row, Mapping):
            return
        kind = row.get("type")
        self._typed += kind is not None
        self._with_upload_id += kind is not None and UPLOAD_ID in row
        self._has_web_names = self._has_web_names or is_piece(kind) or not _DOTTED.isdisjoint(row)
        if self._web is None and _is_of_web_page(row, kind):
            self._web = position
        if self._api is None and _is_of_data_api(row):
            self._api = position
        if isinstance(kind, str) and kind in TYPES_IN_MINUTES:
            self._see_durations(row, kind, position)

    def see_block(self, block: Block) -> None:
        """Look at the rows of a block that are valid JSON."""
        for line, position in zip(block.lines, block.row_positions, strict=True):
            try:
                self.see(decode(line), position)
            except NotDecodableError:
                continue

    def kind(self, *, is_export: bool = True) -> ExportKind:
        """Return which export the rows are from.

        :param is_export: whether they are said to be of one of them. If not, they have to show that first:
            data of anybody else may have objects too, or by mistake what looks like minutes.
        """
        is_from_tidepool = self._has_web_names or 0 < self._typed == self._with_upload_id
        if not (is_export or is_from_tidepool):
            return ExportKind.EITHER
        in_minutes, in_ms = self._distances()
        web = self._web is not None or in_minutes > CLEARLY * in_ms
        api = self._api is not None or in_ms > CLEARLY * in_minutes
        if web or api:
            return ExportKind.MIXED if web and api else ExportKind.WEB_PAGE if web else ExportKind.DATA_API
        return ExportKind.UNCLEAR if self._has_small else ExportKind.EITHER

    def check(self, named: ExportKind, file_number: int | None = None) -> None:
        """Hold a file that is not of the export that was named, or may not be.

        Durations as small as minutes, and nothing else to go by, are believed to be minutes if the file is
        said to be of the web page. That all of them are some milliseconds long is not believed so easily.

        :param named: which export it is said to be.
        :param file_number: number of the file in its manifest.
        :raises ExportKindError: saying which format to name, or what to find out.
        """
        found = self.kind()
        if found is ExportKind.UNCLEAR and named is ExportKind.WEB_PAGE:
            return
        if found not in (named, ExportKind.EITHER):
            raise ExportKindError(CODES[found], file_number=file_number, detail=self._where())

    def check_plain(self, file_number: int) -> None:
        """Hold a file that is said to be no export, and has durations in minutes, or may have.

        :param file_number: number of the file in its manifest.
        :raises ExportKindError: saying which format to name, or what to find out.
        """
        found = self.kind(is_export=False)
        if found not in (ExportKind.EITHER, ExportKind.DATA_API):
            raise ExportKindError(CODES[found], file_number=file_number)

    def _where(self) -> str:
        """Return where the first row of each kind is."""
        found = (("web page", self._web), ("data API", self._api))
        return ", ".join(f"record {at} is of the {name}" for name, at in found if at is not None)

    def _see_durations(self, row: Mapping[str, Any], kind: str, position: int) -> None:
        for name in MINUTES:
            value = row.get(name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or value <= 0:
                continue
            if value > MOST_MINUTES.get(kind, math.inf):
                self._api = position if self._api is None else self._api
            elif value != int(value):
                self._web = position if self._web is None else self._web
            elif kind in MOST_MINUTES:
                self._has_small = True
        duration, time, device = row.get("duration"), row.get("time"), row.get("deviceId")
        if kind == "basal" and isinstance(duration, (int, float)) and len(self._times) < MAX_BASALS:
            instant = parse_instant(time) if isinstance(time, str) else None
            if instant is not None:
                self._devices.append(digest_of(device if isinstance(device, str) else ""))
                self._times.append(_ms_of(instant))
                self._durations.append(duration)

    def _distances(self) -> tuple[int, int]:
        """Return how many basals last until the next one in minutes, and how many do in milliseconds."""
        in_minutes = in_ms = 0
        order = sorted(range(len(self._times)), key=lambda index: (self._devices[index], self._times[index]))
        for this, following in pairwise(order):
            distance = self._times[following] - self._times[this]
            duration = self._durations[this]
            if self._devices[this] != self._devices[following] or distance <= DISTANCE_MS:
                continue
            in_minutes += abs(distance - duration * MS_PER_MINUTE) <= DISTANCE_MS
            in_ms += abs(distance - duration) <= DISTANCE_MS
        return in_minutes, in_ms


def _ms_of(instant: Instant) -> int:
    seconds, nanoseconds = instant.moment
    return seconds * 1_000 + nanoseconds // 1_000_000


def _is_of_web_page(row: Mapping[str, Any], kind: object) -> bool:
    if is_piece(kind) or any("." in name and name.partition(".")[0] in _objects() for name in row):
        return True
    in_strings = IN_STRINGS.get(kind, frozenset()) if isinstance(kind, str) else frozenset()
    if any(isinstance(row.get(name), str) and row[name][:1] in ("{", "[") for name in in_strings):
        return True
    return kind == "physicalActivity" and type(row.get("duration")) in (int, float)


def _is_of_data_api(row: Mapping[str, Any]) -> bool:
    never_kept = _never_kept()
    return any(
        name in never_kept
        or name.startswith(HIDDEN_PREFIX)
        or (isinstance(value, (dict, list)) and bool(value))
        for name, value in row.items()
    )
