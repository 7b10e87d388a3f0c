"""All treatments and profiles of a batch, read together: first each is seen, then each gives its records.

The same dose stands in a site under two event types, with two offsets, because two programs have uploaded it;
so do carbohydrates and finger values. Each is told once: by its instant and its amount.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.nightscout.delivery import (
    DUPLICATE,
    PERCENT_AS_RATE,
    PROFILE_MISSING,
    BasalEvent,
    Delivery,
)
from tidepool_ingest.formats.nightscout.profiles import (
    Profiles,
    Switch,
    pump_settings,
    starts_of,
    stores_of,
    switch_of,
    units_meant,
)
from tidepool_ingest.formats.nightscout.records import DocumentRecords, Writer, notes_of
from tidepool_ingest.formats.nightscout.times import StatedClocks
from tidepool_ingest.formats.nightscout.treatments import (
    AMOUNTS,
    CALCULATIONS,
    EMPTY,
    LEFT_OUT,
    NOTE,
    OF_A_PUMP,
    TIMES,
    UNKNOWN,
    Event,
    activity_fields,
    basal_event,
    bolus_fields,
    carbs_of,
    dose_of,
    event_of,
    finger_of,
    food_fields,
    insulin_fields,
    is_finger,
    is_injected,
    is_priming,
    is_smb,
    is_target_end,
    target_fields,
    wizard_fields,
)
from tidepool_ingest.formats.nightscout.values import (
    MINUTE_MS,
    NO_AMOUNT,
    Document,
    RefusedDocumentError,
    flag,
    instant,
    minutes_in,
    name_of,
    number,
    plain,
    text,
)
from tidepool_ingest.model import to_mmol_per_l
from tidepool_ingest.model.glucose import MMOL_PER_L

if TYPE_CHECKING:
    from pydantic import JsonValue

DELETED: Final = "deleted"
UNCHANGED: Final = "unchanged-profile"
UNDATED: Final = "undated-profile"

SAME_FINGER_MMOL: Final = 0.051
"""By how much one finger value differs from itself in the other unit, to one digit."""

_TARGETS: Final = (Event.TARGET, Event.TARGET_END)
_OVERRIDES: Final = (Event.OVERRIDE, Event.OVERRIDE_END)
_CODES: Final = (PERCENT_AS_RATE, PROFILE_MISSING)


class _Known(NamedTuple):
    """A document that has a name."""

    row: int
    modified: float
    at: int
    own: int


class _Sign(NamedTuple):
    """A treatment of a pump shows it to be in use."""

    row: int
    at: int


class _Amount(NamedTuple):
    """A dose or carbohydrates, as one document tells it."""

    name: str
    row: int
    at: int
    amount: float
    is_dose: bool
    automated: bool = False


class _Measured(NamedTuple):
    """A treatment that may have a finger value."""

    row: int
    at: int
    name: str
    document: Document


class _Target(NamedTuple):
    """A temporary target or override, or the end of one."""

    row: int
    family: str
    at: int
    planned: int
    is_end: bool


_Fact: TypeAlias = _Sign | _Amount | Switch | _Measured | _Target | BasalEvent


class TooManyError(Exception):
    """There are more treatments and profiles than are held in memory."""


class Joined:
    """All treatments and profiles of a batch.

    :param profiles: fills with those of the batch.
    :param writer: writes records.
    :param most: documents that are held.
    """

    def __init__(self, profiles: Profiles, writer: Writer, *, most: int) -> None:
        self._profiles = profiles
        self._writer = writer
        self._most = most
        self._delivery = Delivery(profiles)
        self._seen = 0
        self._facts: list[_Fact] = []
        self._known: dict[int, _Known] = {}
        self._repeated: set[int] = set()
        self._shared: set[int] = set()
        self._nameless: Counter[int] = Counter()
        self._ordinals: dict[int, int] = {}
        self._doses: dict[tuple[int, float], _Amount] = {}
        self._carbs: dict[tuple[int, float], _Amount] = {}
        self._told_twice: set[tuple[bool, int]] = set()
        self._fingers_told: set[int] = set()
        self._units: set[str | None] = set()
        self.has_pump = False

    # ---------------------------------------------------------------- the first pass

    def see_profile(self, row: int, document: Document) -> None:
        """See a profile document.

        :param row: number of its row in the batch.
        :raises TooManyError: there are more documents than can be held.
        """
        self._count()
        if flag(document, "isValid") is False:
            return
        if (name := name_of(document)) and self._is_older(row, document, 0, name):
            return
        stores = stores_of(document)
        self._units |= {units_meant(text(one, "units")) for one in (document, *stores.values())} - {None}
        self._profiles.add(row, document)

    def see_treatment(self, row: int, document: Document) -> None:
        """See a treatment.

        :param row: number of its row in the batch.
        :raises TooManyError: there are more documents than can be held.
        """
        self._count()
        try:
            at = instant(document, *TIMES)
            name = name_of(document)
            if name:
                self._is_older(row, document, at, name)
            else:
                name = self._nameless_name(row, at)
            if flag(document, "isValid") is False:
                return
            self._note_facts(row, document, at, name)
        except RefusedDocumentError:
            return  # the second pass says so

    def _count(self) -> None:
        self._seen += 1
        if self._seen > self._most:
            raise TooManyError

    def _nameless_name(self, row: int, at: int) -> str:
        ordinal = self._nameless[at]
        self._nameless[at] += 1
        self._ordinals[row] = ordinal
        return f"{self._writer.written(at)}:{ordinal}"

    def _is_older(self, row: int, document: Document, at: int, name: str) -> bool:
        """Return whether a newer version of a document is known; of two, the older one is set aside."""
        modified = 0.0
        if "srvModified" in document:
            with suppress(RefusedDocumentError):
                modified = float(number(document, "srvModified") or 0)
        key = digest_of(name)
        own = key if document.get("_id") == name else digest_of(_own_name(document))
        known = self._known.get(key)
        this = _Known(row, modified, at, own)
        if known is None:
            self._known[key] = this
            return False
        is_other = known.own != own or (document.get("_id") is None and modified == known.modified)
        if is_other and known.at != at:
            # One program gives the same id to several events.
            self._shared.add(key)
            return False
        if modified < known.modified:
            self._repeated.add(row)
            return True
        self._repeated.add(known.row)
        self._known[key] = this
        return False

    def _note_facts(self, row: int, document: Document, at: int, name: str) -> None:
        event = event_of(document)
        facts: list[_Fact] = []
        if event is Event.PROFILE_SWITCH:
            facts.append(switch_of(row, at, document))
        dose = dose_of(document, event)
        automated = bool(dose) and is_smb(document)
        if event in OF_A_PUMP or automated or document.get("pumpId"):
            facts.append(_Sign(row, at))
        if (basal := basal_event(document, event, at, name, row)) is not None:
            facts.append(basal)
        if event in _TARGETS or event in _OVERRIDES:
            planned = minutes_in(document)
            is_end = is_target_end(document, event, planned)
            family = "target" if event in _TARGETS else "override"
            facts.append(_Target(row, family, at, planned, is_end))
        if dose:
            facts.append(_Amount(name, row, at, dose, True, automated))
        if carbs := carbs_of(document):
            facts.append(_Amount(name, row, at, carbs, False))
        if is_finger(document):
            said = {key: document.get(key) for key in ("glucose", "glucoseType", "units")}
            facts.append(_Measured(row, at, name, said))
        self._facts += facts

    def settle(self, stated: StatedClocks, fingers: Sequence[tuple[int, float]]) -> None:
        """Put together what was seen.

        :param stated: zones for profiles that name none.
        :param fingers: when which values were measured by a meter, by the entries.
        :raises NoZoneError: a profile cannot be laid out.
        """
        measured: list[tuple[int, str, int, float]] = []
        for fact in self._facts:
            if fact.row in self._repeated:
                continue
            match fact:
                case _Sign(_, at):
                    self._delivery.add_sign(at)
                case BasalEvent():
                    self._delivery.add(fact)
                case _Amount():
                    self._tell(fact)
                case _Target(row, family, at, planned, is_end):
                    self._delivery.add_target(family, at, row, planned, is_end=is_end)
                case Switch():
                    self._profiles.add_switch(fact)
                case _Measured(row, at, name, document):
                    measured += self._measured(row, at, name, document)
            self.has_pump = self.has_pump or isinstance(fact, _Sign | BasalEvent)
        self._facts = []
        self._settle_fingers(measured, sorted(fingers))
        self._profiles.settle(stated)
        self._delivery.settle()

    @property
    def usual_units(self) -> str | None:
        """The unit of all profiles, ``None`` if they have none or both."""
        return next(iter(self._units)) if len(self._units) == 1 else None

    def _measured(
        self, row: int, at: int, name: str, document: Document
    ) -> list[tuple[int, str, int, float]]:
        try:
            finger = finger_of(document, self.usual_units)
        except RefusedDocumentError:
            return []
        if finger is None:
            return []
        in_mmol = finger.value if finger.units == MMOL_PER_L else to_mmol_per_l(finger.value)
        return [(at, name, row, in_mmol)]

    def _tell(self, fact: _Amount) -> None:
        """Remember an amount; told twice, it keeps the name that comes first in the alphabet."""
        known = self._doses if fact.is_dose else self._carbs
        key = fact.at, fact.amount
        before = known.get(key)
        if before is None:
            known[key] = fact
            return
        first, second = sorted((before, fact))
        known[key] = first._replace(automated=first.automated or second.automated)
        self._told_twice.add((fact.is_dose, second.row))

    def _settle_fingers(
        self, measured: list[tuple[int, str, int, float]], entries: Sequence[tuple[int, float]]
    ) -> None:
        kept = list(entries)
        for at, _name, row, value in sorted(measured):
            index = bisect_left(kept, (at - MINUTE_MS, 0.0))
            while index < len(kept) and kept[index][0] <= at + MINUTE_MS:
                if abs(kept[index][1] - value) < SAME_FINGER_MMOL:
                    self._fingers_told.add(row)
                    break
                index += 1
            else:
                kept.insert(bisect_left(kept, (at, value)), (at, value))

    # ---------------------------------------------------------------- the second pass

    def profile(self, row: int, document: Document) -> bytes | str:
        """Return the record of a profile document, or the reason why it is only counted.

        :param row: number of its row in the batch.
        :raises RefusedDocumentError: it gives no record.
        """
        if flag(document, "isValid") is False:
            return DELETED
        if row in self._repeated:
            return DUPLICATE
        at = starts_of(document)
        if at is None:
            return UNDATED
        if row in self._profiles.unchanged:
            return UNCHANGED
        name = name_of(document) or self._writer.written(at)
        return self._writer.record("pumpSettings", at, pump_settings(document), name)

    def treatment(self, row: int, document: Document, *, keep_notes: bool) -> list[bytes] | str:
        """Return the records of a treatment, or the reason why it is only counted.

        :param row: number of its row in the batch.
        :param keep_notes: whether free text is taken along.
        :raises RefusedDocumentError: it gives no record.
        """
        if flag(document, "isValid") is False:
            return DELETED
        if row in self._repeated:
            return DUPLICATE
        at = instant(document, *TIMES)
        name = name_of(document)
        if not name:
            name = f"{self._writer.written(at)}:{self._ordinals.get(row, 0)}"
        elif self._shared and digest_of(name) in self._shared:
            own = _own_name(document)
            name = own if own != name else f"{name}:{self._writer.written(at)}"
        event = event_of(document)
        made = DocumentRecords(self._writer, at, name, notes_of(document) if keep_notes else [])
        outcome = "" if _carries_nothing(document) else self._amounts(row, document, event, made)
        outcome = self._basals(row, made) or outcome
        self._events(row, document, event, made)
        if made.lines:
            return made.lines
        if outcome in _CODES:
            raise RefusedDocumentError(outcome)
        if outcome:
            return outcome
        return self._left_out(event, document, made)

    def _left_out(self, event: Event | None, document: Document, made: DocumentRecords) -> list[bytes] | str:
        """Return why a treatment gives no record, or the record of its note."""
        if event is Event.NOTE and made.notes:
            made.add("reportedState", {"states": [{"state": "other", "stateOther": NOTE}]})
            return made.lines
        if event in (Event.TEMP_BASAL, Event.RESUME):
            if event is Event.TEMP_BASAL and minutes_in(document):
                raise RefusedDocumentError(NO_AMOUNT)
            return LEFT_OUT[Event.BASAL_END]
        if event in (Event.TARGET, Event.OVERRIDE):
            return LEFT_OUT[Event.TARGET_END]
        return UNKNOWN if event is None else LEFT_OUT.get(event, EMPTY)

    def _amounts(self, row: int, document: Document, event: Event | None, made: DocumentRecords) -> str:
        """Add what a treatment carries, whatever its event type; return why it adds nothing of it."""
        outcome = ""
        dose, carbs = dose_of(document, event), carbs_of(document)
        bolus: dict[str, JsonValue] = {}
        if dose and (True, row) in self._told_twice:
            outcome = DUPLICATE
        elif dose:
            bolus = self._dose(document, event, dose, made)
        wizard = wizard_fields(document, self.usual_units)
        if wizard:
            made.add("wizard", wizard, bolus=bolus)
        elif bolus:
            made.add("bolus", bolus)
        if carbs and (False, row) in self._told_twice:
            outcome = DUPLICATE
        elif food := food_fields(document, carbs):
            made.add("food", food)
        finger = finger_of(document, self.usual_units)
        if finger is not None and row in self._fingers_told:
            outcome = DUPLICATE
        elif finger is not None:
            made.add("smbg", {"units": finger.units, "value": finger.value})
        return outcome

    def _dose(
        self, document: Document, event: Event | None, dose: float, made: DocumentRecords
    ) -> dict[str, JsonValue]:
        """Return the fields of a bolus; of another dose the record is added, and there are none."""
        if is_priming(document):
            made.add("deviceEvent", {"subType": "prime", "primeTarget": "cannula", "volume": dose}, "volume")
            return {}
        if is_injected(document):
            made.add("insulin", insulin_fields(document, dose))
            return {}
        told = self._doses.get((made.at, dose))
        automated = is_smb(document) if told is None else told.automated
        return bolus_fields(document, event, dose, automated=automated)

    def _basals(self, row: int, made: DocumentRecords) -> str:
        for basal in self._delivery.basals.get(row, ()):
            made.add_basal(basal)
        return self._delivery.outcomes.get(row, "")

    def _events(self, row: int, document: Document, event: Event | None, made: DocumentRecords) -> None:
        """Add what the event type of a treatment says."""
        if event in (Event.SUSPEND, Event.RESUME):
            status = "suspended" if event is Event.SUSPEND else "resumed"
            made.add("deviceEvent", {"subType": "status", "status": status, "reason": {status: "unknown"}})
        elif event in (Event.SITE, Event.POD):
            made.add("deviceEvent", {"subType": "prime", "primeTarget": "cannula"})
        if event is Event.RESERVOIR:
            made.add("deviceEvent", {"subType": "reservoirChange"})
        elif event is Event.POD:
            made.add("deviceEvent", {"subType": "reservoirChange"}, "reservoir")
        elif event is Event.EXERCISE:
            made.add("physicalActivity", activity_fields(document))
        elif event in (Event.TARGET, Event.OVERRIDE) and row in self._delivery.spans:
            fields = target_fields(document, event, self.usual_units)
            span = self._delivery.spans[row]
            if span.duration is not None:
                fields["duration"] = round(span.duration / 1000)
            if span.expected > (span.duration or 0):
                fields["expectedDuration"] = round(span.expected / 1000)
            made.add("deviceEvent", fields)


def _carries_nothing(document: Document) -> bool:
    """Return whether a treatment has none of what makes a record by itself."""
    return not any(map(document.get, AMOUNTS)) and CALCULATIONS.isdisjoint(document)


def _own_name(document: Document) -> str:
    """Return the name that the database has given a document, or its other one."""
    own = plain(document.get("_id"))
    return own.strip() if isinstance(own, str) and own.strip() else name_of(document)
