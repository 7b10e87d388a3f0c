"""Which time zone files' local times are in, by what is seen of the clocks that made them.

Zones differ by when their clocks change. Where a clock goes forward an hour is left out, and where it goes
back one is there twice: readings in the one, and only one pass through the other, speak against a zone. What
no zone explains is no contradiction: a journey, or a clock that somebody has set.

Nothing is guessed for staging: it has to be told the zone. What is found here is for whoever tells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Final, Literal, NamedTuple

from tidepool_ingest.formats.reader import ClockSigns, SteadyClock
from tidepool_ingest.inspection.clocks import UTC as UTC_NAME
from tidepool_ingest.inspection.clocks import Clocks, clocks_in
from tidepool_ingest.inspection.findings import ZoneEvidence, ZoneFinding
from tidepool_ingest.inspection.known_zones import (
    BY_PEOPLE,
    STEP,
    Change,
    are_same,
    changes_of,
    is_big,
    minutes_ahead,
    offset_before,
    rank,
    zones_told_apart,
)
from tidepool_ingest.local_times import HOUR, LocalTimes, Period, zone_named
from tidepool_ingest.staging.source_file import SourceFile

CANDIDATES_MAX: Final = 8
"""Zones that are named."""

CLOCK_AHEAD_MAX: Final = timedelta(minutes=10)
"""How far a clock may be ahead of that of whoever generated the file, as for the hold."""

LATELY: Final = timedelta(minutes=30)
"""Who exports does it often just after a reading: zones in which that was so come first."""

SOON: Final = timedelta(minutes=5)
"""A phone sends its readings at once: a file that was generated so soon after the latest row, in a zone, is
that zone's, but for one chance in twelve."""

FARTHEST_BEHIND: Final = timedelta(hours=-12)
"""No clock is further behind UTC."""

FULL_MIN: Final = 3
"""Readings in an hour from which on an hour without any says something."""

DOUBLE: Final = 1.6
"""Times as many readings as usual from which on an hour was gone through twice."""

ONCE: Final = range(75, 126)
"""Percent of the usual number that one pass through an hour has."""

NEAR_S: Final = 60
"""Seconds that a clock may have been set before or after its hour."""

SHARP_S: Final = 2 * 3600
"""Longest time without readings in which the moment when a clock was set says which zone's that was."""

HELD_S: Final = 3600
"""How long before and after a change a clock has to be seen unchanged, to show that it did not follow."""

NEARLY_ALL: Final = 0.75
"""Share of the zones of many people up to which it is said which ones fit."""

AGREEING: Final = 0.99
"""Share of the stated offsets that a zone has to have: the others are of journeys, or broken."""

MEALS_MIN: Final = 40
NIGHT_HOURS: Final = 6
NIGHT_SHARE: Final = 0.08
"""Share of meals in the six hours from midnight on, which would have a quarter of them by chance."""

YEARS: Final = range(1900, 2200)
"""In which clocks have changed, and which can be counted from."""

_POINTS_MAX: Final = 1_500
_EPOCH: Final = datetime(1970, 1, 1)
_HOUR_S: Final = 3600
_HOUR_MIN: Final = 60


_Supports = Literal["for", "against", "neither"]


class _Seen(NamedTuple):
    """What is seen of one change of a zone."""

    supports: _Supports
    sentence: str = ""


_NOTHING: Final = _Seen("neither")


def find_zone(files: Sequence[SourceFile]) -> ZoneFinding:
    """Find out in which zone files are to be read.

    :param files: the files, all of one format and read together.
    """
    return zone_of(clocks_in(files), _stated(files[0]))


def _stated(file: SourceFile) -> tuple[Period, ...]:
    stated = None if file.said is None else file.said.timezone
    if stated is None:
        return ()
    if isinstance(stated, str):
        return (Period(stated),)
    return tuple(Period(period.zone, period.until or "") for period in stated)


def zone_of(clocks: Clocks, stated: tuple[Period, ...] = ()) -> ZoneFinding:
    """Say in which zone clocks were.

    :param clocks: what was seen of them.
    :param stated: where somebody says that they were set, one zone after the other.
    """
    judge = _Judge(clocks)
    candidates = judge.candidates()
    name = stated[-1].zone if stated else candidates[0] if candidates else UTC_NAME
    evidence = judge.evidence(stated or (Period(name),))
    supports = {seen.supports for seen in evidence}
    verdict: Literal["fits", "contradicted", "open"] = "open"
    if "against" in supports:
        verdict = "contradicted"
    elif "for" in supports and (stated or len(candidates) == 1 or (candidates and not clocks.is_local)):
        verdict = "fits"
    return ZoneFinding(
        needed=clocks.is_local,
        stated=stated[-1].zone if stated else None,
        used=name,
        verdict=verdict,
        candidates=tuple(candidates),
        evidence=tuple(evidence),
    )


def with_rhythm(zone: ZoneFinding, meals: Sequence[int]) -> ZoneFinding:
    """Add what meals show of a zone that nothing else does: a hint, for people sleep when they like.

    :param zone: what is known of it.
    :param meals: how many meals and doses there are in which hour of UTC.
    """
    total = sum(meals)
    if zone.needed or zone.stated or zone.candidates or total < MEALS_MIN:
        return zone
    nights = {
        start: sum(meals[(start + hour) % len(meals)] for hour in range(NIGHT_HOURS))
        for start in range(len(meals))
    }
    start = min(nights, key=lambda start: (nights[start], start))
    if nights[start] > NIGHT_SHARE * total:
        return zone
    ahead = -start if start <= len(meals) // 2 else len(meals) - start
    where = f"{abs(ahead)} h {'ahead of' if ahead > 0 else 'behind'} UTC" if ahead else "near UTC"
    sentence = (
        f"Meals and doses are rarest from {start:02}:00 to {(start + NIGHT_HOURS) % len(meals):02}:00 UTC. "
        f"If that is at night, the clock is some {where}: a hint only."
    )
    return zone.but(evidence=(*zone.evidence, ZoneEvidence(kind="daily-rhythm", sentence=sentence)))


class _Judge:
    """Holds zones against what was seen."""

    def __init__(self, clocks: Clocks) -> None:
        self._clocks = clocks
        self._signs: ClockSigns = clocks.signs
        self._points = list(_points(clocks))
        counts = Counter(number for number in clocks.hours.values() if number >= FULL_MIN)
        self._full = min(counts, key=lambda number: (-counts[number], number)) if counts else 0
        self._stretches = [runs for runs in self._signs.steady if runs]
        self._jumps = [
            (before, after)
            for runs in self._stretches
            for before, after in pairwise(runs)
            if abs(after.offset - before.offset) == _HOUR_MIN
        ]
        self._families: dict[tuple[Change, ...], list[str]] = {}
        if self._points:
            for zone in zones_told_apart():
                self._families.setdefault(tuple(changes_of(zone, self._points)), []).append(zone)
        self._known = [
            changes for changes, zones in self._families.items() if changes and any(map(is_big, zones))
        ]
        known = {change for family in self._known for change in family}
        self._has_journeys = any(
            after.offset != before.offset
            and not any(self._explains(change, before, after) for change in known)
            for runs in self._stretches
            for before, after in pairwise(runs)
        )

    # ------------------------------------------------------------ which zones

    def candidates(self) -> list[str]:
        """Return the zones that fit best, in their order; none where all do."""
        if self._clocks.zones:
            return [zone for zone, _ in self._clocks.zones.most_common(CANDIDATES_MAX)]
        if self._clocks.offsets:
            return self._by_offsets()
        found: list[tuple[int, timedelta | None, str, tuple[Change, ...]]] = []
        for changes, zones in self._families.items():
            seen = self._of_changes(changes, "")
            if any(one.supports == "against" for one in seen):
                continue
            fors = sum(one.supports == "for" for one in seen)
            for zone in zones:
                lag = self._lag((Period(zone),))
                if lag is None or lag >= -CLOCK_AHEAD_MAX:
                    found.append((fors, lag, zone, changes))
        most = max((fors for fors, _lag, zone, _ in found if is_big(zone)), default=0)
        fitting = [one for one in found if one[0] >= most]
        left = sum(is_big(zone) for _fors, _lag, zone, _ in fitting)
        if left > NEARLY_ALL * len(BY_PEOPLE):
            return []
        return self._in_order([(lag, zone, changes) for _fors, lag, zone, changes in fitting])

    def _in_order(self, fitting: Sequence[tuple[timedelta | None, str, tuple[Change, ...]]]) -> list[str]:
        """Return zones in the order in which they are named: one of each kind first, big ones before all."""
        kinds: set[object] = set()
        ordered = []
        for lag, zone, changes in sorted(fitting, key=lambda one: (_is_late(one[0]), rank(one[1]), one[1])):
            kind = (changes, self._points and minutes_ahead(self._points[0].astimezone(zone_named(zone))))
            is_another = kind in kinds
            kinds.add(kind)
            ordered.append((not is_big(zone), _is_late(lag), is_another, rank(zone), zone))
        return [zone for *_order, zone in sorted(ordered)[:CANDIDATES_MAX]]

    def _by_offsets(self) -> list[str]:
        """Return the zones that have the stated offsets on their days; no further ones are looked at."""
        total = self._clocks.offsets.total()
        least = AGREEING * total
        agreeing = (zone for zone in zones_told_apart() if self._agreeing(zone, total - least) >= least)
        return list(islice(agreeing, CANDIDATES_MAX))

    def _agreeing(self, zone: str, most_others: float = float("inf")) -> int:
        """Return how many of the stated offsets are a zone's on their days.

        :param zone: the zone.
        :param most_others: with more that are not, it is out of the question.
        """
        info, agreeing, others = zone_named(zone), 0, 0
        for (day, offset), number in self._clocks.offsets.items():
            try:
                begins = datetime.fromisoformat(f"{day}T00:00:00+00:00")
                own = {minutes_ahead((begins + timedelta(days=days)).astimezone(info)) for days in (0, 1)}
            except (ValueError, OverflowError):
                own = set()
            if offset in own:
                agreeing += number
            else:
                others += number
            if others > most_others:
                break
        return agreeing

    # ------------------------------------------------------------ what speaks for and against one

    def evidence(self, periods: tuple[Period, ...]) -> list[ZoneEvidence]:
        """Return what speaks for and against a zone.

        :param periods: it, or several one after the other.
        """
        name = periods[-1].zone
        changes = [
            change
            for start, period in zip(["", *(period.until for period in periods)], periods, strict=False)
            for change in changes_of(period.zone, self._points)
            if start <= change.at.isoformat() < (period.until or "~")
        ]
        kind: Literal["summer-time", "transmitter-clock"]
        kind = "transmitter-clock" if self._stretches else "summer-time"
        seen = self._of_changes(changes, name)
        times = [change.at.isoformat() for change in changes] + [None] * len(seen)
        return [
            *(
                ZoneEvidence(kind=kind, sentence=one.sentence, at=at, supports=one.supports)
                for at, one in zip(times, seen, strict=False)
                if one.supports != "neither"
            ),
            *(self._twice_elsewhere(changes, name) if len(periods) == 1 and not self._stretches else ()),
            *self._by_generated(periods),
            *self._by_zones(name),
            *self._by_stated_offsets(name),
        ]

    def _lag(self, periods: tuple[Period, ...]) -> timedelta | None:
        """Return how long before the file was generated its latest row was, in a zone."""
        if not self._signs.latest or self._signs.generated is None:
            return None
        latest = LocalTimes(periods).read(self._signs.latest).time
        return self._signs.generated - datetime.fromisoformat(latest)

    def _by_generated(self, periods: tuple[Period, ...]) -> Iterator[ZoneEvidence]:
        """Yield what it says that a file was generated when it was."""
        generated, lag, name = self._signs.generated, self._lag(periods), periods[-1].zone
        if lag is None or generated is None:
            return
        latest = datetime.fromisoformat(self._signs.latest)
        ahead = latest - generated.replace(tzinfo=None)
        supports: _Supports = "neither"
        if lag < -CLOCK_AHEAD_MAX:
            supports, says = "against", f"in {name} that is {_length(-lag)} after it was generated"
        elif lag <= SOON:
            supports, says = "for", f"in {name} that is just before, as of a device that sends at once"
        elif ahead >= timedelta(0):
            says = f"the clock was at least {_length(ahead)} ahead of UTC"
        elif ahead > FARTHEST_BEHIND:
            says = f"the clock was at most {_length(-ahead)} behind UTC"
        else:
            return
        sentence = (
            f"The file was generated on {generated:%Y-%m-%d at %H:%M} UTC, and its latest row shows "
            f"{latest:%Y-%m-%d %H:%M}: {says}."
        )
        yield ZoneEvidence(kind="generated-on", sentence=sentence, at=self._signs.latest, supports=supports)

    def _by_zones(self, name: str) -> Iterator[ZoneEvidence]:
        """Yield what it says that files name zones."""
        named = self._clocks.zones.most_common(CANDIDATES_MAX)
        for zone, _number in named:
            supports: _Supports = "neither"
            if zone == name or are_same(zone, name):
                supports = "for"
            elif len(named) == 1:
                supports = "against"
            yield ZoneEvidence(
                kind="stated", sentence=f"The file itself names the time zone {zone}.", supports=supports
            )

    def _by_stated_offsets(self, name: str) -> Iterator[ZoneEvidence]:
        """Yield what it says that records state how far the clock is ahead of UTC."""
        total = self._clocks.offsets.total()
        if not total:
            return
        offsets: Counter[int] = Counter()
        for (_day, offset), number in self._clocks.offsets.items():
            offsets[offset] += number
        usual = max(offsets, key=lambda offset: (offsets[offset], offset))
        agreeing = self._agreeing(name)
        supports: _Supports = "neither"
        if agreeing >= AGREEING * total:
            supports = "for"
        elif 2 * agreeing < total and name != UTC_NAME:  # which nobody may have said
            supports = "against"
        sentence = (
            f"{_records(total)} looked at state how far the clock is ahead of UTC, most often "
            f"{usual / _HOUR_MIN:+g} h; {agreeing:,} of them as {name} was then."
        )
        yield ZoneEvidence(kind="stated", sentence=sentence, supports=supports)

    # ------------------------------------------------------------ changes of clocks

    def _of_changes(self, changes: Sequence[Change], name: str) -> list[_Seen]:
        """Return what is seen of each change, and then of clocks that were set when no change was.

        :param changes: of one zone.
        :param name: the zone's, for sentences.
        """
        if self._stretches:
            seen = [self._by_transmitter(change, name) for change in changes]
            return [*seen, *self._not_explained(changes, name)]
        return [self._by_hours(change, name) for change in changes]

    def _by_hours(self, change: Change, name: str) -> _Seen:
        """Look at how many readings there are in the hours around a change."""
        if not self._full or change.at.minute or abs(change.by) != _HOUR_MIN:
            return _NOTHING
        start = change.at if change.by > 0 else change.at - timedelta(hours=1)
        before, inside, after = (
            self._clocks.hours[(start + timedelta(hours=hours)).isoformat()[:HOUR]] for hours in (-1, 0, 1)
        )
        hour = f"between {start:%H:%M} and {start + timedelta(hours=1):%H:%M} on {start:%Y-%m-%d}"
        spare = 1 if self._full >= 2 * FULL_MIN else 0
        is_dense = min(before, after) >= self._full - spare
        if change.by > 0:
            if inside:
                were = "1 reading is" if inside == 1 else f"{inside} readings are"
                return _Seen(
                    "against",
                    f"{were} {hour}, an hour that {name} leaves out: the clock was set late, or is that of "
                    f"another zone.{self._set_late(change, name)}",
                )
            if is_dense:
                return _Seen(
                    "for", f"No reading is {hour}, which {name} leaves out; the hours around are full."
                )
        elif inside >= DOUBLE * self._full:
            return _Seen(
                "for",
                f"{inside} readings are {hour}, which {name} has twice; otherwise there are {self._full} in "
                "an hour.",
            )
        elif is_dense and round(100 * inside / self._full) in ONCE:
            return _Seen(
                "against",
                f"Only {inside} readings are {hour}, as in any other hour, and {name} has it twice: the "
                "clock was set late, or is that of another zone.",
            )
        return _NOTHING

    def _twice_elsewhere(self, changes: Sequence[Change], name: str) -> Iterator[ZoneEvidence]:
        """Yield which hours are there twice as in zones of many people, and not in this one."""
        others = {change for family in self._known for change in family} - set(changes)
        for change in sorted(change for change in others if change.by == -_HOUR_MIN):
            if self._by_hours(change, name).supports != "for":
                continue
            start = change.at - timedelta(hours=1)
            hours = [
                self._clocks.hours[(start + timedelta(hours=ahead)).isoformat()[:HOUR]]
                for ahead in (-1, 0, 1)
            ]
            if max(hours[0], hours[2]) >= DOUBLE * self._full:
                continue  # two sensors, all the time
            sentence = (
                f"{hours[1]} readings are between {start:%H:%M} and {change.at:%H:%M} on {start:%Y-%m-%d}, "
                f"which other zones have twice, and {name} does not; otherwise there are {self._full} in an "
                "hour."
            )
            yield ZoneEvidence(
                kind="summer-time", sentence=sentence, at=change.at.isoformat(), supports="against"
            )

    def _set_late(self, change: Change, name: str) -> str:
        """Say which periods explain a clock that did not go forward."""
        minutes = offset_before(name, change) if name else 1
        if minutes % _HOUR_MIN:
            return ""
        fixed = f"Etc/GMT{-minutes // _HOUR_MIN:+d}" if minutes else UTC_NAME
        return (
            f" A clock that was set late is read right with `--timezone {name}@{change.at.isoformat()} "
            f"--timezone {fixed}@<when it was set> --timezone {name}`."
        )

    def _by_transmitter(self, change: Change, name: str) -> _Seen:
        """Look at whether the clock was set at a change, as the transmitter saw it."""
        at = int((change.at - _EPOCH).total_seconds())
        moment = f"{change.at:%Y-%m-%d} at {change.at:%H:%M}"
        way = "forward" if change.by > 0 else "back"
        for before, after in self._jumps:
            if self._explains(change, before, after):
                return _Seen(
                    "for",
                    f"The transmitter shows that the clock was set {way} by an hour on {moment}, as in "
                    f"{name}.",
                )
        if self._is_set_nearby(change):
            return _NOTHING
        for runs in self._stretches:
            for run in runs:
                if run.first + HELD_S < at and run.last - HELD_S - max(0, change.by * 60) > at:
                    return _Seen(
                        "against",
                        f"The transmitter shows that the clock was not set {way} on {moment}, as that of "
                        f"{name} was.",
                    )
        return _NOTHING

    def _not_explained(self, changes: Sequence[Change], name: str) -> Iterator[_Seen]:
        """Yield where the clock was set as in zones of many people, and not in this one."""
        for before, after in self._jumps:
            if any(self._explains(change, before, after) for change in changes):
                continue
            if self._has_journeys and any(self._is_near(change, before, after) for change in changes):
                continue  # set an hour or two from when the zone is, perhaps somewhere else
            known = {
                change for family in self._known for change in family if self._explains(change, before, after)
            }
            if known and self._is_sharp(before, after):
                change = min(known)
                way = "forward" if change.by > 0 else "back"
                yield _Seen(
                    "against",
                    f"The transmitter shows that the clock was set {way} by an hour on {change.at:%Y-%m-%d} "
                    f"at {change.at:%H:%M}, when other zones change theirs, and {name} does not.",
                )

    def _is_set_nearby(self, change: Change) -> bool:
        """Return whether the clock was set within hours of a change, as it is where somebody travels."""
        return any(self._is_near(change, before, after) for before, after in self._jumps)

    @staticmethod
    def _is_sharp(before: SteadyClock, after: SteadyClock) -> bool:
        return after.first - before.last - (after.offset - before.offset) * 60 <= SHARP_S

    @staticmethod
    def _explains(change: Change, before: SteadyClock, after: SteadyClock) -> bool:
        by = after.offset - before.offset
        at = int((change.at - _EPOCH).total_seconds())
        return change.by == by and before.last - NEAR_S <= at <= after.first - by * 60 + NEAR_S

    @staticmethod
    def _is_near(change: Change, before: SteadyClock, after: SteadyClock) -> bool:
        at = int((change.at - _EPOCH).total_seconds())
        return change.by == after.offset - before.offset and abs(before.last - at) <= 3 * _HOUR_S


# ---------------------------------------------------------------- zones


def _is_late(lag: timedelta | None) -> bool:
    """Return whether a file was not generated just after its latest row."""
    return lag is None or lag > LATELY


def _points(clocks: Clocks) -> Iterator[datetime]:
    """Yield days of UTC at which offsets are compared, few of them and all near to readings."""
    spans = [
        (_EPOCH + timedelta(seconds=runs[0].first), _EPOCH + timedelta(seconds=runs[-1].last))
        for runs in clocks.signs.steady
        if runs
    ]
    for day in sorted({hour[:10] for hour in clocks.hours}):
        try:
            moment = datetime.fromisoformat(day)
        except ValueError:
            continue
        if moment.year not in YEARS:
            continue
        if not spans or moment - spans[-1][1] > STEP:
            spans.append((moment, moment))
        spans[-1] = (spans[-1][0], moment + timedelta(days=1))
    if not spans and clocks.signs.latest:
        moment = datetime.fromisoformat(clocks.signs.latest)
        spans.append((moment, moment))
    number, latest = 0, datetime.min
    for first, last in sorted(spans):
        at = max(first - timedelta(days=1), latest)
        while number < _POINTS_MAX:
            yield at.replace(tzinfo=UTC)
            number += 1
            if at > last:
                break
            at = min(at + STEP, last + timedelta(days=1))
        latest = at


def _length(time: timedelta) -> str:
    hours, minutes = divmod(time // timedelta(minutes=1), 60)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _records(number: int) -> str:
    return "1 record" if number == 1 else f"{number:,} records"
