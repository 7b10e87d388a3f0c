"""Devices against staged days, for a glance: what came of whom on which day, and how it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from weakref import WeakKeyDictionary

from tidepool_ingest.ledger import DeviceKey, DeviceSpan, Ledger, Standing
from tidepool_ingest.ledger.database import batched
from tidepool_ingest.ledger.device_days import DayOfDevice
from tidepool_ingest.privacy import short_hash
from tidepool_ingest.reports.inactive_devices import (
    InactiveDevice,
    inactive_among,
    model_of,
    possibly_inactive,
)

TREND_DAYS = 14
"""Days of the trend: a week, and the week before."""


class CellState(StrEnum):
    """How a device's staged day stands, the worst first."""

    FAILED = "failed"
    HELD = "held"
    PARTLY = "partly"
    """Records were rejected, or only some of the day's batches are verified."""
    IN_PROGRESS = "in-progress"
    VERIFIED = "verified"
    DISMISSED = "dismissed"
    """A person has dismissed, declined or undone all of it, or other batches have replaced it."""
    NOTHING = "nothing"
    """Nothing came, though the device has sent before."""
    SILENT = "silent"
    """Nothing came since the last record of a device that has stopped sending."""
    NONE = "none"
    """The day is before the device's first batch, or is not over."""


OF_STANDING = {
    Standing.FAILED: CellState.FAILED,
    Standing.HELD: CellState.HELD,
    Standing.PARTLY: CellState.PARTLY,
    Standing.IN_PROGRESS: CellState.IN_PROGRESS,
    Standing.VERIFIED: CellState.VERIFIED,
    Standing.DISMISSED: CellState.DISMISSED,
}

STATES_THAT_CAME = tuple(OF_STANDING.values())
"""States of a day on which something came, the worst first."""


class Sorting(StrEnum):
    """What devices are sorted by."""

    WORST = "worst"
    NAME = "name"
    LAST = "last"
    """When something last came, the longest ago first."""
    RECORDS = "records"
    """How many records were accepted in these weeks, most first."""


@dataclass(frozen=True, kw_only=True)
class OverviewFilter:
    """Which devices are looked for; what is ``None`` does not matter.

    :param hash: short hash of a person or of a device, or its beginning.
    :param model: a part of the device's model, in any case of its letters.
    :param state: devices with a day of this state, or that are silent.
    :param attention: only devices with a day that failed or is held, or that are silent.
    """

    hash: str | None = None
    model: str | None = None
    state: CellState | None = None
    attention: bool = False
    data_set_type: str | None = None
    api_host: str | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One staged day of a device.

    :param batches: how many came.
    :param accepted: records of theirs that were accepted.
    :param rejected: records of theirs in quarantine.
    :param visible: rows that Tidepool shows of them, when last counted.
    """

    day: date
    state: CellState
    batches: int = 0
    accepted: int = 0
    rejected: int = 0
    visible: int = 0


@dataclass(frozen=True)
class DeviceRow:
    """One device of a person, with its days; it is named by short hashes.

    :param last_day: the staged day on which something last came.
    :param silent_since: UTC day of its last record, if it has stopped sending.
    :param cells: its days, once they are looked up.
    """

    person: str
    device: str
    model: str
    api_host: str
    data_set_type: str
    last_day: date
    silent_since: date | None
    cells: tuple[Cell, ...] = ()

    @property
    def accepted(self) -> int:
        """Records that were accepted on these days."""
        return sum(cell.accepted for cell in self.cells)

    @property
    def rejected(self) -> int:
        """Records that were rejected."""
        return sum(cell.rejected for cell in self.cells)

    def days(self, state: CellState) -> list[date]:
        """Return the days of a state."""
        return [cell.day for cell in self.cells if cell.state is state]


@dataclass(frozen=True)
class Trend:
    """How many batches of each staged day are in a state.

    :param days: numbers of the last :data:`TREND_DAYS` days, the oldest first.
    """

    state: CellState
    days: tuple[int, ...]

    @property
    def now(self) -> int:
        """How many there are of the last week."""
        return sum(self.days[-7:])

    @property
    def before(self) -> int:
        """How many there are of the week before."""
        return sum(self.days[:-7])


class Overview:
    """The devices that match, in their order; the days of some of them are looked up when asked for.

    :param ledger: knows them.
    :param first: the first staged day of the picture.
    :param last: its last one.
    :param today: the day that is not over.
    :param wanted: which devices.
    :param sorting: their order.
    """

    def __init__(
        self,
        ledger: Ledger,
        first: date,
        last: date,
        today: date,
        wanted: OverviewFilter,
        sorting: Sorting = Sorting.WORST,
    ) -> None:
        self._ledger, self.first, self.last, self._today = ledger, first, last, today
        limits = {"api_host": wanted.api_host, "data_set_type": wanted.data_set_type}
        spans = ledger.device_days.spans(**limits)
        self.newest = max((span.last_day for span in spans), default=None)
        self._silent = _silent(ledger, today, spans)
        # What came in these weeks, and who should have sent in them.
        shown = [
            span
            for span in spans
            if span.first_day <= last and (span.last_day >= first or span.key[:3] in self._silent)
        ]
        self.devices = len(shown)
        self._troubled = ledger.device_days.troubled(first, last, **limits)
        matching = [span for span in shown if self._matches(span, wanted)]
        if wanted.state in (CellState.VERIFIED, CellState.NOTHING, CellState.NONE):
            matching = self._with_day(matching, wanted.state)
        self._sorted = self._in_order(matching, sorting)

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def silent(self) -> int:
        """How many devices have stopped sending, whatever is looked for."""
        return len(self._silent)

    @property
    def newly_silent(self) -> int:
        """How many of them would not have been called so a week ago."""
        week_ago = 7
        return sum(device.inactive_days - week_ago <= device.allowed_days for device in self._silent.values())

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[DeviceRow]:
        """Yield devices with their days.

        :param start: the place of the first one.
        :param stop: the place after the last one.
        """
        for some in batched(self._sorted[start:stop]):
            found = self._ledger.device_days.of_devices([span.key for span in some], self.first, self.last)
            for span in some:
                row = self._row(span)
                yield replace(row, cells=tuple(self._cells(span, row, found[span.key])))

    def trends(self) -> list[Trend]:
        """Return the numbers of batches of the last two weeks, by state; whatever is looked for."""
        days = [self._today - timedelta(days=ago) for ago in reversed(range(TREND_DAYS))]
        by_day = self._ledger.device_days.by_day(days[0], days[-1])
        return [
            Trend(state, tuple(by_day.get(day, {}).get(standing, 0) for day in days))
            for standing, state in OF_STANDING.items()
        ]

    def _row(self, span: DeviceSpan) -> DeviceRow:
        key = span.key
        inactive = self._silent.get(key[:3])
        return DeviceRow(
            person=short_hash(key.user_id),
            device=short_hash(key.device_id) if key.device_id else "",
            model=model_of(span.label),
            api_host=key.api_host,
            data_set_type=key.data_set_type,
            last_day=span.last_day,
            silent_since=inactive.last_day if inactive else None,
        )

    def _cells(self, span: DeviceSpan, row: DeviceRow, found: Mapping[date, DayOfDevice]) -> Iterator[Cell]:
        for number in range((self.last - self.first).days + 1):
            day = self.first + timedelta(days=number)
            came = found.get(day)
            if came is not None:
                state = OF_STANDING[came.standing]
                yield Cell(day, state, came.batches, came.accepted, came.rejected, came.visible)
            elif row.silent_since is not None and row.silent_since < day <= self._today:
                yield Cell(day, CellState.SILENT)
            elif day < span.first_day or day >= self._today:
                yield Cell(day, CellState.NONE)
            else:
                yield Cell(day, CellState.NOTHING)

    def _matches(self, span: DeviceSpan, wanted: OverviewFilter) -> bool:
        key = span.key
        if wanted.model is not None and wanted.model.casefold() not in model_of(span.label).casefold():
            return False
        if wanted.hash is not None:
            hashes = short_hash(key.user_id), short_hash(key.device_id)
            if not any(one.startswith(wanted.hash.casefold()) for one in hashes):
                return False
        is_silent = key[:3] in self._silent
        numbers = self._troubled.get(key, ())
        troubles = {OF_STANDING[standing] for standing, days in zip(Standing, numbers, strict=False) if days}
        if wanted.attention and not (is_silent or troubles & {CellState.FAILED, CellState.HELD}):
            return False
        if wanted.state is CellState.SILENT:
            return is_silent
        if wanted.state in (None, CellState.VERIFIED, CellState.NOTHING, CellState.NONE):
            return True
        return wanted.state in troubles

    def _with_day(self, spans: Sequence[DeviceSpan], state: CellState) -> list[DeviceSpan]:
        """Return the devices that have a day of a state which their days alone tell."""
        found: list[DeviceSpan] = []
        for some in batched(spans):
            days = self._ledger.device_days.of_devices([span.key for span in some], self.first, self.last)
            found += [
                span
                for span in some
                if any(cell.state is state for cell in self._cells(span, self._row(span), days[span.key]))
            ]
        return found

    def _in_order(self, spans: Sequence[DeviceSpan], sorting: Sorting) -> list[DeviceSpan]:
        def name(span: DeviceSpan) -> tuple[str, str, str, DeviceKey]:
            key = span.key
            return (
                model_of(span.label).casefold(),
                short_hash(key.device_id),
                short_hash(key.user_id),
                key,
            )

        named = sorted(spans, key=name)
        if sorting is Sorting.LAST:
            return sorted(named, key=lambda span: span.last_day)
        if sorting is Sorting.RECORDS:
            accepted = self._ledger.device_days.accepted(self.first, self.last)
            return sorted(named, key=lambda span: -accepted.get(span.key, 0))
        if sorting is Sorting.WORST:
            return sorted(named, key=self._badness, reverse=True)
        return named

    def _badness(self, span: DeviceSpan) -> tuple[int, ...]:
        """Return on how many days a device failed, is held, and so on; a silent one comes after those."""
        _, _, in_progress, partly, held, failed = self._troubled.get(span.key, _NO_TROUBLE)
        return failed, held, int(span.key[:3] in self._silent), partly, in_progress


_NO_TROUBLE = (0,) * len(Standing)

_Device = tuple[str, str, str]

_Verdict = InactiveDevice | None

_VERDICTS: WeakKeyDictionary[Ledger, tuple[date, dict[DeviceSpan, _Verdict]]] = WeakKeyDictionary()
"""Which devices were judged inactive today: read again once something newer of a device has come."""


def _silent(ledger: Ledger, today: date, spans: Sequence[DeviceSpan]) -> dict[_Device, InactiveDevice]:
    """Return the devices that have stopped sending.

    What a device usually does follows from all that it has sent in a year, so it is not read at each look.
    """
    of_day, judged = _VERDICTS.get(ledger, (today, {}))
    if of_day != today:
        judged = {}
    quiet = possibly_inactive(today, spans)
    unknown = [span for span in quiet if span not in judged]
    new = set(unknown)
    found = {
        (device.api_host, device.user_id, device.device_id): device
        for device in inactive_among(ledger, today, unknown)
    }
    # Only what was asked for now is kept: what has sent again meanwhile is left out.
    verdicts = {span: found.get(span.key[:3]) if span in new else judged[span] for span in quiet}
    _VERDICTS[ledger] = (today, verdicts)
    return {span.key[:3]: device for span, device in verdicts.items() if device is not None}
