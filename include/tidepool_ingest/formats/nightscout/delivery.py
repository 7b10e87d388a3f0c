"""What was delivered when: temporary basals cut where the next one begins, and scheduled ones between them.

A site stores what was planned. A temporary basal ends early where another one, or a suspension, begins; and
where none runs, the pump goes on with its schedule, which nothing tells but the profile. Between two events
of basal delivery this is certain. Before the first and after the last one it is not, and nothing is made up.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise, zip_longest
from typing import Final, NamedTuple

from tidepool_ingest.formats.nightscout.profiles import Profiles, Stretch
from tidepool_ingest.formats.nightscout.values import DAY_MS
from tidepool_ingest.model.basal import DURATION_MAX

IDLE_MAX_MS: Final = 7 * DAY_MS
"""Longest time without any treatment of a pump in which scheduled basal is still believed in."""

JITTER_MS: Final = 1000
"""By how much less than the time to the next event a temporary basal may last that went on until then."""

RATE_MAX: Final = 35.0
"""Units an hour that pumps can be set to: what is more is a percentage that does not say so."""

FEW: Final = 3
"""Rates beyond that by which all rates of one program are taken for percentages, if they are most of them."""

PROFILE_MISSING: Final = "staged-profile-missing"
"""Code of a temporary basal in percent of a rate that no profile tells."""

PERCENT_AS_RATE: Final = "staged-percent-as-rate"
"""Code of a temporary basal whose rate is a percentage, though it does not say so."""

DUPLICATE: Final = "duplicate-row"
SUPERSEDED: Final = "superseded"
BASAL_END: Final = "basal-end"
OVERRIDE_END: Final = "override-end"


class Step(IntEnum):
    """What an event does to basal delivery; of several at one instant the last one counts."""

    END = 0
    RESUME = 1
    UNKNOWN = 2
    TEMPORARY = 3
    SUSPEND = 4


class BasalEvent(NamedTuple):
    """An event of basal delivery.

    :param at: milliseconds since 1970.
    :param step: what it does.
    :param name: of its document.
    :param row: number of its row in the batch.
    :param planned: milliseconds that a temporary basal was to last.
    :param rate: in units an hour; a factor of the profile's where that is said.
    :param is_factor: whether it is one.
    :param is_automated: whether a loop has chosen it.
    :param program: who wrote it, as a digest.
    """

    at: int
    step: Step
    name: str
    row: int
    planned: int = 0
    rate: float = 0.0
    is_factor: bool = False
    is_automated: bool = False
    program: int = 0


class Basal(NamedTuple):
    """A time of basal delivery.

    :param kind: ``automated``, ``temp``, ``suspend`` or ``scheduled``.
    :param start: milliseconds since 1970.
    :param duration: milliseconds.
    :param name: of its document, or of the profile.
    :param rate: in units an hour.
    :param expected: milliseconds, if it was to last longer.
    :param factor: of the scheduled rate, ``None`` where it is no multiple of that.
    :param scheduled: the rate that it took the place of, where that is needed.
    :param piece: which part it is of what one event has begun.
    """

    kind: str
    start: int
    duration: int
    name: str
    rate: float = 0.0
    expected: int = 0
    factor: float | None = None
    scheduled: Stretch | None = None
    piece: int = 0


class Span(NamedTuple):
    """How long a target was in force, in milliseconds; ``expected`` if it was to be longer."""

    duration: int | None
    expected: int = 0


class Delivery:
    """All events of a batch that speak of delivery.

    :param profiles: of the batch; settled before this is.
    """

    def __init__(self, profiles: Profiles) -> None:
        self._profiles = profiles
        self._events: list[BasalEvent] = []
        self._instants = array("q")
        self._targets: dict[str, list[tuple[int, int, int, bool]]] = {}
        self.basals: dict[int, list[Basal]] = {}
        """What each row gives."""
        self.outcomes: dict[int, str] = {}
        """Why a row gives no basal: a code, or a reason for which it is only counted."""
        self.spans: dict[int, Span] = {}
        """How long the target of a row was in force."""

    def add(self, event: BasalEvent) -> None:
        """Add an event of basal delivery."""
        self._events.append(event)

    def add_sign(self, at: int) -> None:
        """Add that a treatment of a pump shows it to be in use."""
        self._instants.append(at)

    def add_target(self, family: str, at: int, row: int, planned: int, *, is_end: bool) -> None:
        """Add a temporary target, or an override, or the end of one.

        :param family: those that take each other's place.
        :param at: milliseconds since 1970.
        :param row: number of its row in the batch.
        :param planned: milliseconds; 0 for no end.
        :param is_end: whether it ends the one before.
        """
        self._targets.setdefault(family, []).append((at, row, planned, is_end))

    def settle(self) -> None:
        """Lay all of it out, now that all was added.

        :raises NoZoneError: as for :meth:`.Profiles.laid_out`.
        """
        self._settle_targets()
        events = self._without_percentages()
        events.sort(key=lambda event: (event.at, event.step, event.name, event.row))
        self._instants.extend(event.at for event in events)
        self._instants = array("q", sorted(self._instants))
        events = self._distinct(events)
        for event, until in zip_longest(events, [event.at for event in events[1:]]):
            self._place(event, until)
        for (event, after), carrier in zip(pairwise(events), self._carriers(events), strict=True):
            if carrier is not None:
                self._fill(event, after.at, carrier)
        self._events = []

    def _without_percentages(self) -> list[BasalEvent]:
        """Return the events, with what ran unknown where a rate is evidently a percentage."""
        given, above = Counter[int](), Counter[int]()
        for event in self._events:
            if event.step is Step.TEMPORARY and event.rate and not event.is_factor:
                given[event.program] += 1
                above[event.program] += event.rate > RATE_MAX
        percent = {program for program, many in above.items() if many >= FEW and 2 * many > given[program]}
        events = []
        for event in self._events:
            is_rate = event.step is Step.TEMPORARY and event.rate and not event.is_factor
            if is_rate and (event.rate > RATE_MAX or event.program in percent):
                self.outcomes[event.row] = PERCENT_AS_RATE
                event = event._replace(step=Step.UNKNOWN)
            events.append(event)
        return events

    def _distinct(self, events: list[BasalEvent]) -> list[BasalEvent]:
        """Return the events without those that another one at the same instant has overruled."""
        kept: list[BasalEvent] = []
        for event in events:
            if kept and kept[-1].at == event.at:
                before = kept.pop()
                if before.step is event.step and before[4:7] == event[4:7]:
                    # The same told twice keeps the name that comes first.
                    is_automated = before.is_automated or event.is_automated
                    self.outcomes.setdefault(event.row, DUPLICATE)
                    event = before._replace(is_automated=is_automated)
                elif before.step in (Step.TEMPORARY, Step.SUSPEND):
                    self.outcomes.setdefault(before.row, SUPERSEDED)
            kept.append(event)
        return kept

    def _place(self, event: BasalEvent, until: int | None) -> None:
        """Lay out what an event has begun.

        :param until: when the next event is; ``None`` if the batch does not tell, of the last one.
        """
        if event.step is Step.TEMPORARY:
            self._add_temporary(event, _ends(event, until), is_last=until is None)
        elif event.step is Step.SUSPEND and until is not None and until - event.at <= IDLE_MAX_MS:
            self._put(event.row, Basal("suspend", event.at, until - event.at, event.name))

    def _carriers(self, events: list[BasalEvent]) -> list[int | None]:
        """Return for each event but the last which row has the schedule between it and the next one.

        It is the event's own, unless that is refused: then another one near it.
        """
        is_refused = [self.outcomes.get(event.row) in (PERCENT_AS_RATE, PROFILE_MISSING) for event in events]
        is_refused = [
            refused or event.step is Step.UNKNOWN for refused, event in zip(is_refused, events, strict=True)
        ]
        carriers: list[int | None] = []
        before: int | None = None
        for (event, refused), (after, after_refused) in pairwise(zip(events, is_refused, strict=True)):
            before = before if refused else event.row
            carriers.append(before if before is not None else None if after_refused else after.row)
        return carriers

    def _fill(self, event: BasalEvent, until: int, carrier: int) -> None:
        """Lay out the schedule that runs from what an event has begun to the next event.

        :param until: when that is.
        :param carrier: the row whose records these are.
        """
        if event.step is Step.SUSPEND:
            return
        for start, end in self._believed(_ends(event, until), until):
            for stretch in self._profiles.laid_out(start, end):
                for begins in range(stretch.start, stretch.end, DURATION_MAX):
                    duration = min(stretch.end - begins, DURATION_MAX)
                    self._put(carrier, Basal("scheduled", begins, duration, stretch.name, stretch.units))

    def _add_temporary(self, event: BasalEvent, ends: int, *, is_last: bool = False) -> None:
        kind = "automated" if event.is_automated else "temp"
        expected = event.planned if ends < event.at + event.planned <= event.at + DURATION_MAX else 0
        if not event.is_factor:
            self._put(event.row, Basal(kind, event.at, ends - event.at, event.name, event.rate, expected))
            return
        pieces = list(self._profiles.laid_out(event.at, min(ends, event.at + DURATION_MAX)))
        if not pieces or pieces[0].start != event.at:
            self.outcomes[event.row] = PROFILE_MISSING
            return
        # Later parts have names of their own: a later export, which knows the end, must not lack any of them.
        for number, piece in enumerate(pieces[:1] if is_last else pieces):
            basal = Basal(
                kind,
                piece.start,
                piece.end - piece.start,
                event.name,
                round(piece.units * event.rate, 6),
                expected if number == 0 and len(pieces) == 1 else 0,
                event.rate,
                piece,
                number,
            )
            self._put(event.row, basal)

    def _put(self, row: int, basal: Basal) -> None:
        if basal.duration > 0:
            self.basals.setdefault(row, []).append(basal)

    def _believed(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield where from one instant to another the pump was in use, by its treatments."""
        if end - start <= IDLE_MAX_MS:
            if start < end:
                yield start, end
            return
        signs = self._instants[bisect_right(self._instants, start) : bisect_left(self._instants, end)]
        open_from = start
        for before, after in pairwise((start, *signs, end)):
            if after - before > IDLE_MAX_MS:
                if open_from < before:
                    yield open_from, before
                open_from = after
        if open_from < end:
            yield open_from, end

    def _settle_targets(self) -> None:
        for targets in self._targets.values():
            targets.sort()
            ends = [at for at, _row, _planned, _is_end in targets[1:]]
            for (at, row, planned, is_end), until in zip_longest(targets, ends):
                if is_end:
                    continue
                if until is not None and (not planned or at + planned > until):
                    self.spans[row] = Span(until - at, planned)
                else:
                    self.spans[row] = Span(planned or None)
        self._targets = {}


def _ends(event: BasalEvent, until: int | None) -> int:
    """Return when what an event has begun ends: as planned, or where the next one begins.

    Whose stamps are whole seconds leaves a part of one before the next event, in which nothing has changed.

    :param until: when the next event is; ``None`` if there is none.
    """
    planned = event.at + event.planned
    if until is None or planned + JITTER_MS <= until:
        return planned
    return until if event.step is Step.TEMPORARY else min(planned, until)
