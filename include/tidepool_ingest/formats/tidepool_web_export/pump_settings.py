"""Pump settings of a web export: a row for each entry of a schedule becomes one record again.

All rows of one record have the same fields beside those of their entry. A first pass counts them, so that the
record is complete, and memory free again, with the last of them, wherever in the file it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.tidepool_export.platform_fields import SHOWN_ONLY
from tidepool_ingest.formats.tidepool_export.telling import ExportKindError
from tidepool_ingest.formats.tidepool_export.web_fields import PIECES, is_piece
from tidepool_ingest.formats.tidepool_web_export.restoring import (
    UNCLEAR,
    NotRestorableError,
    object_of,
    restored_fields,
)
from tidepool_ingest.model import MG_PER_DL_UNITS, MMOL_PER_L_UNITS, decode
from tidepool_ingest.staging.splice import members

MAX_OPEN_BYTES: Final = 64 * 1024 * 1024
"""Rows of incomplete pump settings held at a time."""

_OF_ENTRY: Final = frozenset({"type", "scheduleName"}) | SHOWN_ONLY
_WITHOUT_GLUCOSE: Final = frozenset({"basalSchedules", "carbRatio", "carbRatios"})
_GLUCOSE_UNITS: Final = (*MG_PER_DL_UNITS, *MMOL_PER_L_UNITS)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_START: Final = "start"


Rows = list[tuple[int, bytes]]
"""Position and text of some rows."""


class SettingsJoiner:
    """Puts the rows of one file together, record by record.

    :param file_number: number of the file in its manifest, for errors.
    """

    def __init__(self, file_number: int | None) -> None:
        self._file_number = file_number
        self._expected: Counter[int] = Counter()
        self._labels: set[str] = set()
        self._open: dict[int, Rows] = {}
        self._open_bytes = 0

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a row in the first pass, and see in which unit the page has written glucose.

        :param row: any row of the file, decoded.
        """
        if is_piece(row.get("type")):
            self._expected[_key(row)] += 1
        if row.get("type") != "bloodKetone":
            labels = (row.get("units"), row.get("units.bg"))
            self._labels.update(label for label in labels if label in _GLUCOSE_UNITS)

    @property
    def is_in_mmol(self) -> bool:
        """Whether all glucose of the file is in mmol/L, so that the page has converted nothing."""
        return bool(self._labels) and self._labels <= {*MMOL_PER_L_UNITS}

    def add(self, position: int, line: bytes, row: Mapping[str, Any]) -> Rows | None:
        """Add a row, and return the rows of the settings that it completes.

        :param position: which row of the file.
        :param line: its text.
        :param row: the same, decoded.
        :raises ExportKindError: ``export-scattered``: too many are incomplete to be held in memory.
        """
        key = _key(row)
        rows = self._open.setdefault(key, [])
        rows.append((position, line))
        self._open_bytes += len(line)
        if len(rows) >= self._expected[key]:
            del self._open[key]
            self._open_bytes -= sum(len(line) for _position, line in rows)
            return rows
        if self._open_bytes > MAX_OPEN_BYTES:
            raise ExportKindError("export-scattered", file_number=self._file_number)
        return None


def _key(row: Mapping[str, Any]) -> int:
    """Return a digest of what all rows of the same settings share."""
    shared = {name: row[name] for name in sorted(row) if "." not in name and name not in _OF_ENTRY}
    return digest_of(dumps(shared))


def settings_of(rows: Rows, *, is_in_mmol: bool) -> tuple[bytes, set[str]]:
    """Return the record that some rows make, and which of its fields the export had changed.

    :param rows: all rows of the record.
    :param is_in_mmol: whether the page has left glucose as it was. It converts that of settings without
        a unit too, and does not say so.
    :raises NotRestorableError: they contradict each other, one of them is not as the export writes it, or the
        unit of their glucose is not known.
    """
    merged = _Merged()
    for _position, line in rows:
        merged.add(line)
    if merged.has_unlabelled_glucose and not is_in_mmol:
        raise NotRestorableError(UNCLEAR)
    return merged.record()


class _Merged:
    """The settings as far as their rows have been read."""

    def __init__(self) -> None:
        self._fields: dict[str, bytes] = {}
        self._changed: set[str] = set()
        self._units: dict[str, bytes] | None = None
        self._schedules: dict[str, dict[str | None, dict[Any, bytes]]] = {}
        self._is_labelled = False

    @property
    def has_unlabelled_glucose(self) -> bool:
        """Whether there are glucose values whose unit the settings do not name."""
        return not (self._is_labelled or self._schedules.keys() <= _WITHOUT_GLUCOSE)

    def add(self, line: bytes) -> None:
        """Add the entry of a row, and what it says of the settings if it is the first."""
        row: Mapping[str, Any] = decode(line)
        piece = PIECES[row["type"]]
        is_first = not self._fields
        fields, changed = restored_fields(line, row, None if is_first else {"units", piece.entry})
        self._is_labelled = self._is_labelled or "units.bg" in row
        self._add_units({name: fields[name] for name in fields.keys() & {"units"}})
        name = row.get("scheduleName")
        if (piece.is_named and not isinstance(name, str)) or piece.entry not in fields:
            raise NotRestorableError(UNCLEAR)
        start, entry = _entry(fields[piece.entry])
        entries = self._schedules.setdefault(piece.schedules, {}).setdefault(
            name if piece.is_named else None, {}
        )
        if entries.setdefault(start, entry) != entry:
            raise NotRestorableError(UNCLEAR)
        if is_first:
            left = {"scheduleName", "units", piece.entry}
            self._fields = {name: text for name, text in fields.items() if name not in left}
            self._fields["type"] = b'"pumpSettings"'
            self._changed = changed - left

    def _add_units(self, units: Mapping[str, bytes]) -> None:
        if not units:
            return
        if self._units is None:
            self._units = dict(units)
        if self._units != units:
            raise NotRestorableError(UNCLEAR)

    def record(self) -> tuple[bytes, set[str]]:
        """Return the record, and which of its fields the export had changed."""
        fields = {**self._fields, **(self._units or {})}
        for name, schedules in self._schedules.items():
            texts = {schedule: _array(entries.values()) for schedule, entries in schedules.items()}
            fields[name] = (
                texts[None] if None in texts else object_of({str(one): text for one, text in texts.items()})
            )
        return object_of(fields), self._changed | self._schedules.keys() | (self._units or {}).keys()


def _entry(text: bytes) -> tuple[int, bytes]:
    """Return the start of an entry in milliseconds, and the entry with it."""
    found = {member.name: text[member.value_start : member.end] for member in members(text) or ()}
    start = decode(found.get(_START, b"null"))
    try:
        moment = datetime.fromisoformat(start) if isinstance(start, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise NotRestorableError(UNCLEAR)
    since = moment - _EPOCH
    ms = (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000
    found[_START] = b"%d" % ms
    return ms, object_of(found)


def _array(items: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(items) + b"]"
