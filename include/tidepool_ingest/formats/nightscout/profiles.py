"""Profiles: which basal rates were programmed when, and in which time zone.

A site keeps a document for each change, in force from its ``startDate``, with several profiles by name.
``Profile Switch`` treatments choose one of them, or bring one along, perhaps for a while only, and scale and
shift it. What is known of it all is laid out over time: nothing is known before the first document.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tidepool_ingest.deep_json import dumps
from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.nightscout.times import Clock, StatedClocks, clock_in, zone_meant
from tidepool_ingest.formats.nightscout.values import (
    DAY_MS,
    NOT_A_NUMBER,
    Document,
    RefusedDocumentError,
    inner,
    instant,
    items,
    minutes_in,
    number,
    text,
)
from tidepool_ingest.model.glucose import MG_PER_DL_UNITS, MMOL_PER_L, MMOL_PER_L_MAX

if TYPE_CHECKING:
    from pydantic import JsonValue

UNITS_IMPLAUSIBLE: Final = "staged-units-implausible"
"""Code of a profile whose glucose values cannot be in the unit that it names."""

DAY_S: Final = 24 * 3600
ENTRIES_MAX: Final = 24 * 60
"""Entries of a schedule: one a minute is more than any pump has."""
MG_PER_DL: Final = MG_PER_DL_UNITS[0]
BEFORE_ALL: Final = -(1 << 62)
FOR_GOOD: Final = 1 << 62

_PERCENT: Final = 100
_SHIFT_HOURS_MAX: Final = 24
"""Hours that a profile can be shifted by; what is more is in milliseconds."""

_LEGACY: Final = ("basal", "carbratio", "sens", "target_low", "target_high")


class Rate(NamedTuple):
    """A basal rate in units an hour, from some second of the day on."""

    second: int
    units: float


class Profile(NamedTuple):
    """What of a profile says how basal insulin was programmed.

    :param name: the person's name for it.
    :param zone: IANA name of its time zone, ``None`` if it names none.
    :param rates: in the order of the day; the last one lasts until the first.
    """

    name: str
    zone: str | None
    rates: tuple[Rate, ...]

    def scaled(self, percentage: float, shift_s: int) -> Profile:
        """Return the same with its rates scaled, and later by some seconds."""
        if percentage == _PERCENT and not shift_s:
            return self
        rates = [
            Rate((rate.second + shift_s) % DAY_S, round(rate.units * percentage / _PERCENT, 6))
            for rate in self.rates
        ]
        return self._replace(rates=tuple(sorted(rates)))


class _Document(NamedTuple):
    """A profile document: what of it counts beyond its own record."""

    starts: int
    created: int
    row: int
    default: str
    profiles: dict[str, Profile]
    content: int


class Switch(NamedTuple):
    """A ``Profile Switch``."""

    row: int
    at: int
    until: int
    name: str
    brought: Profile | None
    percentage: float
    shift_s: int


class Stretch(NamedTuple):
    """A time in which one basal rate was programmed."""

    start: int
    end: int
    units: float
    name: str


def stores_of(document: Document) -> dict[str, Document]:
    """Return the profiles of a document by their names."""
    store = inner(document, "store")
    if not store and any(name in document for name in _LEGACY):
        return {text(document, "defaultProfile") or "Default": document}
    return {name: profile for name in store if (profile := inner(store, name))}


def default_of(document: Document, stores: Sequence[str]) -> str:
    """Return the name of a document's default profile."""
    return text(document, "defaultProfile") or (stores[0] if len(stores) == 1 else "")


def schedule(profile: Document, name: str) -> list[tuple[int, int | float]]:
    """Return a schedule of a profile: second of the day and value, in order, from midnight on.

    What begins later continues what the day before ended with.

    :param profile: the profile.
    :param name: the schedule's.
    :raises RefusedDocumentError: it holds something else.
    """
    found: dict[int, int | float] = {}
    for item in items(profile, name):
        if not isinstance(item, dict):
            raise RefusedDocumentError(NOT_A_NUMBER)
        value = number(item, "value")
        second = number(item, "timeAsSeconds")
        if second is None:
            second = _second(text(item, "time"))
        if value is None or not 0 <= second < DAY_S:
            raise RefusedDocumentError(NOT_A_NUMBER)
        found[int(second)] = value
    if len(found) > ENTRIES_MAX:
        raise RefusedDocumentError(NOT_A_NUMBER)
    if found and 0 not in found:
        found[0] = found[max(found)]
    return sorted(found.items())


def _second(written: str) -> int:
    parts = written.split(":")
    if not (1 < len(parts) <= 3 and all(part.isdecimal() and len(part) <= 2 for part in parts)):
        raise RefusedDocumentError(NOT_A_NUMBER)
    hours, minutes, seconds = (*map(int, parts), 0)[:3]
    return hours * 3600 + minutes * 60 + seconds


def units_meant(written: str) -> str | None:
    """Return the unit of glucose that a word means, ``None`` for another word."""
    word = written.strip().lower()
    if word.startswith("mmol"):
        return MMOL_PER_L
    return MG_PER_DL if word.startswith("mg") else None


def pump_settings(document: Document) -> dict[str, JsonValue]:
    """Return what a profile document says as a record of pump settings.

    :param document: of that kind.
    :raises RefusedDocumentError: something in it is no number, or no unit fits.
    """
    stores = stores_of(document)
    said = {units_meant(text(one, "units")) for one in (document, *stores.values())} - {None}
    default = default_of(document, list(stores))
    units = said.pop() if len(said) == 1 else units_meant(text(stores.get(default, {}), "units"))
    if units is None or not default:
        raise RefusedDocumentError(UNITS_IMPLAUSIBLE)
    schedules: dict[str, dict[str, JsonValue]] = {
        name: {} for name in ("basalSchedules", "bgTargets", "carbRatios", "insulinSensitivities")
    }
    for name, profile in stores.items():
        if units_meant(text(profile, "units")) not in (None, units):
            continue
        basal = [{"rate": value, "start": second * 1000} for second, value in schedule(profile, "basal")]
        ratios = schedule(profile, "carbratio")
        sensitivities = schedule(profile, "sens")
        lows, highs = schedule(profile, "target_low"), schedule(profile, "target_high")
        limit = MMOL_PER_L_MAX if units == MMOL_PER_L else None
        if limit is not None and any(value > limit for _s, value in (*sensitivities, *lows, *highs)):
            raise RefusedDocumentError(UNITS_IMPLAUSIBLE)
        found: dict[str, list[Any]] = {
            "basalSchedules": basal,
            "bgTargets": _targets(lows, highs),
            "carbRatios": [{"amount": value, "start": second * 1000} for second, value in ratios],
            "insulinSensitivities": [
                {"amount": value, "start": second * 1000} for second, value in sensitivities
            ],
        }
        for kind, entries in found.items():
            if entries:
                schedules[kind][name] = entries
    return {
        "activeSchedule": default,
        "units": {"bg": units, "carb": "grams"},
        **{kind: named for kind, named in schedules.items() if named},
    }


def _targets(
    lows: Sequence[tuple[int, int | float]], highs: Sequence[tuple[int, int | float]]
) -> list[dict[str, JsonValue]]:
    """Return the targets of a day: where only one of the two bounds changes, the other one goes on."""
    if not lows or not highs:
        return []
    starts = sorted({second for second, _value in (*lows, *highs)})
    return [{"start": start * 1000, "low": _at(lows, start), "high": _at(highs, start)} for start in starts]


def _at(entries: Sequence[tuple[int, int | float]], second: int) -> int | float:
    return [value for start, value in entries if start <= second][-1]


def starts_of(document: Document) -> int | None:
    """Return from when on a profile document is meant to be in force; ``None`` if it does not say when."""
    for names in (("startDate", "mills"), ("created_at", "date")):
        try:
            return instant(document, *names)
        except RefusedDocumentError:
            continue
    return None


def _instant(document: Document, *names: str) -> int:
    """Return an instant; what has no date was always in force, as Nightscout sees it."""
    try:
        return instant(document, *names)
    except RefusedDocumentError:
        return BEFORE_ALL


def switch_of(row: int, at: int, document: Document) -> Switch:
    """Return what a ``Profile Switch`` says.

    :param row: number of its row in the batch.
    :param at: when it was.
    :raises RefusedDocumentError: it holds something that is no number.
    """
    name = text(document, "originalProfileName") or text(document, "profile")
    brought = inner(document, "profileJson")
    percentage, shift = number(document, "percentage"), number(document, "timeshift", "timeShift")
    duration = minutes_in(document)
    shift_s = 0.0 if shift is None else shift * 3600 if abs(shift) <= _SHIFT_HOURS_MAX else shift / 1000
    return Switch(
        row,
        at,
        at + duration if duration else FOR_GOOD,
        name,
        _profile(name, brought) if brought else None,
        float(percentage or _PERCENT),
        round(shift_s),
    )


class Profiles:
    """All profiles of a batch, and which of them was in force when."""

    def __init__(self) -> None:
        self._documents: list[_Document] = []
        self._switches: list[Switch] = []
        self._stated = StatedClocks(())
        self._starts: list[int] = []
        self._in_force: list[Profile | None] = []
        self._boundaries: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self.unchanged: set[int] = set()
        """Rows of documents that say the same as the one before."""

    def add(self, row: int, document: Document) -> None:
        """Add a profile document.

        :param row: number of its row in the batch.
        """
        stores = stores_of(document)
        profiles = {name: found for name, store in stores.items() if (found := _profile(name, store))}
        content: dict[str, object] = {name: store for name, store in stores.items() if store is not document}
        same = content or {name: document.get(name) for name in _LEGACY}
        default = default_of(document, list(stores))
        digest = digest_of(dumps([default, text(document, "units"), same], sort_keys=True))
        starts, created = _instant(document, "startDate", "mills"), _instant(document, "created_at", "date")
        self._documents.append(_Document(starts, created, row, default, profiles, digest))

    def add_switch(self, switch: Switch) -> None:
        """Add a ``Profile Switch``."""
        self._switches.append(switch)

    def settle(self, stated: StatedClocks) -> None:
        """Lay all of them out over time.

        :param stated: zones for profiles that name none.
        """
        self._stated = stated
        self._documents.sort()
        for before, after in pairwise(self._documents):
            if before.content == after.content:
                self.unchanged.add(after.row)
        self._switches.sort(key=lambda switch: (switch.at, switch.row))
        moments = {document.starts for document in self._documents}
        for switch in self._switches:
            moments.add(switch.at)
            if switch.until < FOR_GOOD:
                moments.add(switch.until)
        self._starts = sorted(moments)
        documents, switches = iter(self._documents), iter(self._switches)
        next_document, next_switch = next(documents, None), next(switches, None)
        document: _Document | None = None
        active: list[Switch] = []
        self._in_force = []
        for moment in self._starts:
            while next_document is not None and next_document.starts <= moment:
                document, next_document = next_document, next(documents, None)
            while next_switch is not None and next_switch.at <= moment:
                if next_switch.until == FOR_GOOD:
                    active.clear()
                active.append(next_switch)
                next_switch = next(switches, None)
            while active and active[-1].until <= moment:
                active.pop()
            self._in_force.append(_chosen(document, active[-1] if active else None))

    def at(self, ms: int) -> Profile | None:
        """Return the profile in force at an instant, ``None`` if none is known."""
        index = bisect_right(self._starts, ms) - 1
        return self._in_force[index] if index >= 0 else None

    def clock_at(self, ms: int) -> Clock | None:
        """Return the clock by which the person lived at an instant, ``None`` if no zone is known."""
        profile = self.at(ms)
        if profile is not None and profile.zone is not None:
            return clock_in(profile.zone)
        return self._stated.at(ms)

    def clock_throughout(self, start: int, end: int) -> Clock | None:
        """Return the clock from one instant to another, ``None`` if it is not known or may change.

        :param start: milliseconds since 1970.
        :param end: the same, not included.
        """
        if bisect_right(self._starts, start) != bisect_left(self._starts, end):
            return None
        profile = self.at(start)
        if profile is not None and profile.zone is not None:
            return clock_in(profile.zone)
        return self._stated.throughout(start, end)

    def latest_zone(self) -> str | None:
        """Return the zone of the latest profile that names one."""
        zones = [profile.zone for profile in self._in_force if profile is not None and profile.zone]
        return zones[-1] if zones else None

    def laid_out(self, start: int, end: int) -> Iterator[Stretch]:
        """Yield how basal insulin was programmed from one instant to another, where that is known.

        :param start: milliseconds since 1970.
        :param end: the same, not included.
        :raises NoZoneError: rates change within the day, and nobody has said by which clock.
        """
        last: Stretch | None = None
        for stretch in self._stretches(start, end):
            if last is not None and (last.end, *last[2:]) == (stretch.start, *stretch[2:]):
                last = last._replace(end=stretch.end)
                continue
            if last is not None:
                yield last
            last = stretch
        if last is not None:
            yield last

    def _stretches(self, start: int, end: int) -> Iterator[Stretch]:
        at = start
        while at < end:
            index = bisect_right(self._starts, at) - 1
            until = min(end, self._starts[index + 1]) if index + 1 < len(self._starts) else end
            profile = self._in_force[index] if index >= 0 else None
            if profile is not None and profile.rates:
                yield from self._of_profile(index, profile, at, until)
            at = until

    def _of_profile(self, index: int, profile: Profile, start: int, end: int) -> Iterator[Stretch]:
        units = {rate.units for rate in profile.rates}
        if len(units) == 1:
            yield Stretch(start, end, units.pop(), profile.name)
            return
        at = start
        while at < end:
            clock = clock_in(profile.zone) if profile.zone else self._stated.at(at)
            if clock is None:
                raise NoZoneError
            boundaries = self._of_day(index, profile, clock, at)
            place = bisect_right(boundaries, (at, float("inf"))) - 1
            until = min(end, boundaries[place + 1][0])
            yield Stretch(at, until, boundaries[place][1], profile.name)
            at = until

    def _of_day(self, index: int, profile: Profile, clock: Clock, at: int) -> list[tuple[int, float]]:
        """Return at which instants rates begin, from before a local day until after it."""
        key = index, (at + clock.offset(at) * 60_000) // DAY_MS
        found = self._boundaries.get(key)
        if found is None:
            if len(self._boundaries) > _DAYS_MAX:
                self._boundaries.clear()
            found = self._boundaries[key] = _boundaries(profile, clock, clock.day(at))
        return found


_DAYS_MAX: Final = 2000
"""Days whose rates are remembered."""


class NoZoneError(Exception):
    """Rates that change within the day cannot be laid out: no time zone is known."""


def _boundaries(profile: Profile, clock: Clock, day: datetime) -> list[tuple[int, float]]:
    found: list[tuple[int, float]] = []
    for near in (day - timedelta(days=1), day, day + timedelta(days=1)):
        found += [(clock.shows(near, rate.second), rate.units) for rate in profile.rates]
    found.sort()
    return [(found[0][0] - 2 * DAY_MS, profile.rates[-1].units), *found, (found[-1][0] + 2 * DAY_MS, 0.0)]


def _profile(name: str, store: Document) -> Profile | None:
    """Return what of a profile counts for basal insulin, ``None`` if it cannot be read."""
    try:
        rates = tuple(Rate(second, float(value)) for second, value in schedule(store, "basal"))
    except RefusedDocumentError:
        return None
    if any(rate.units < 0 for rate in rates):
        return None
    return Profile(name, zone_meant(text(store, "timezone")), rates)


def _chosen(document: _Document | None, switch: Switch | None) -> Profile | None:
    known = document.profiles if document is not None else {}
    if switch is None:
        return known.get(document.default) if document is not None else None
    base = switch.brought or known.get(switch.name)
    return None if base is None else base.scaled(switch.percentage, switch.shift_s)
