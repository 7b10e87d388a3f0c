"""Treatments: what one says, by what it carries. Its event type is a word that programs use as they like."""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

from tidepool_ingest.digests import digest_of
from tidepool_ingest.formats.nightscout.delivery import BasalEvent, Step
from tidepool_ingest.formats.nightscout.profiles import units_meant
from tidepool_ingest.formats.nightscout.records import units_of
from tidepool_ingest.formats.nightscout.values import (
    MINUTE_MS,
    NO_AMOUNT,
    Document,
    RefusedDocumentError,
    flag,
    inner,
    items,
    minutes_in,
    number,
    text,
)
from tidepool_ingest.model.base import NAME_LENGTH_MAX

if TYPE_CHECKING:
    from pydantic import JsonValue

NOTE: Final = "note"
EMPTY: Final = "empty-event"
UNKNOWN: Final = "unknown-event"

TIMES: Final = ("created_at", "date", "mills", "timestamp", "eventTime")


class Event(Enum):
    """What an event type stands for beside the amounts of its document."""

    __hash__ = object.__hash__  # that of Enum is a function in Python, and slow

    AMOUNTS = auto()
    COMBO = auto()
    TEMP_BASAL = auto()
    BASAL_END = auto()
    SUSPEND = auto()
    RESUME = auto()
    TARGET = auto()
    OVERRIDE = auto()
    TARGET_END = auto()
    OVERRIDE_END = auto()
    SITE = auto()
    RESERVOIR = auto()
    POD = auto()
    EXERCISE = auto()
    NOTE = auto()
    PROFILE_SWITCH = auto()
    SENSOR = auto()
    BATTERY = auto()
    LOOP = auto()


_WORDS: Final = {
    Event.AMOUNTS: "bolus, smb, correction bolus, meal bolus, snack bolus, bolus wizard, carb correction, "
    "carbs, carb entry, bg check, external insulin, insulin, <none>",
    Event.COMBO: "combo bolus, extended bolus, dual bolus, square bolus",
    Event.TEMP_BASAL: "temp basal, temp basal start, tempbasal, temporary basal",
    Event.BASAL_END: "temp basal end, temp basal cancel",
    Event.SUSPEND: "suspend pump, pump suspend, pumpsuspend",
    Event.RESUME: "resume pump, pump resume, pumpresume",
    Event.TARGET: "temporary target, temp target",
    Event.TARGET_END: "temporary target cancel, temp target cancel",
    Event.OVERRIDE: "temporary override",
    Event.OVERRIDE_END: "temporary override cancel",
    Event.SITE: "site change, cannula change",
    Event.RESERVOIR: "insulin change, insulin cartridge change, reservoir change",
    Event.POD: "pod change",
    Event.EXERCISE: "exercise",
    Event.NOTE: "note, announcement, question, d.a.d. alert",
    Event.PROFILE_SWITCH: "profile switch",
    Event.SENSOR: "sensor start, sensor change, sensor stop, sensor insert",
    Event.BATTERY: "pump battery change, battery change",
    Event.LOOP: "openaps offline, aps offline",
}

EVENTS: Final = {word: event for event, words in _WORDS.items() for word in words.split(", ")}
"""How event types are written, in small letters."""
_AS_USUAL: Final = {
    written: event for word, event in EVENTS.items() for written in (word.title(), word.upper(), word)
}

LEFT_OUT: Final = {
    Event.NOTE: NOTE,
    Event.SENSOR: "sensor-event",
    Event.BATTERY: "battery-change",
    Event.LOOP: "loop-state",
    Event.PROFILE_SWITCH: "profile-switch",
    Event.BASAL_END: "basal-end",
    Event.TARGET_END: "override-end",
    Event.OVERRIDE_END: "override-end",
}
"""Why a treatment that carries no amount gives no record."""

AMOUNTS: Final = ("insulin", "carbs", "enteredinsulin", "glucose", "fat", "protein")
"""Names of what makes a record by itself, whatever the event type."""

CALCULATIONS: Final = frozenset({"boluscalc", "bolusCalculatorResult", "wizard"})
"""Names of the inputs of a bolus calculation."""

OF_A_PUMP: Final = frozenset(
    {
        Event.TEMP_BASAL,
        Event.BASAL_END,
        Event.SUSPEND,
        Event.RESUME,
        Event.SITE,
        Event.RESERVOIR,
        Event.POD,
        Event.PROFILE_SWITCH,
    }
)
"""What only who wears a pump has."""

_STEPS: Final = {Event.BASAL_END: Step.END, Event.SUSPEND: Step.SUSPEND, Event.RESUME: Step.RESUME}

_LOOPS: Final = re.compile("loop|openaps|androidaps|aaps|iaps|trio|freeaps|oref", re.IGNORECASE)
"""What the names of programs have in them that choose temporary basals themselves."""

_WRITERS: Final = ("enteredBy", "app", "device")
_FINGER: Final = "finger"
_EXERCISES: Final = ("activity", "exercise", "workout")
_PREPRANDIAL: Final = ("eating soon", "pre-meal", "premeal")
_CUSTOM: Final = ("", "custom", "manual")


def event_of(document: Document) -> Event | None:
    """Return what the event type of a treatment stands for, ``None`` if nobody knows it."""
    written = document.get("eventType")
    if isinstance(written, str) and (event := _AS_USUAL.get(written)) is not None:
        return event
    word = " ".join(text(document, "eventType").lower().split())
    return EVENTS.get(word) if word else Event.AMOUNTS


def is_smb(document: Document) -> bool:
    """Return whether a loop gave a bolus, whatever its event type."""
    return (
        flag(document, "isSMB") is True
        or flag(document, "automatic") is True
        or text(document, "type").upper() == "SMB"
        or text(document, "eventType").upper() == "SMB"
        or flag(inner(document, "bolus"), "isSMB") is True
    )


def is_injected(document: Document) -> bool:
    """Return whether insulin was given by pen or syringe."""
    return (
        flag(document, "isExternal") is True
        or flag(document, "isBasalInsulin") is True
        or text(document, "eventType").lower() == "external insulin"
        or flag(inner(document, "bolus"), "isExternal") is True
    )


def is_priming(document: Document) -> bool:
    """Return whether insulin only filled the infusion set: AndroidAPS stores that as a bolus, too."""
    return text(document, "type").upper() == "PRIMING"


def dose_of(document: Document, event: Event | None) -> float:
    """Return the insulin of a treatment in units, 0 if it has none.

    Of an extended bolus ``insulin`` may be the part given at once, and then ``enteredinsulin`` is all.

    :raises RefusedDocumentError: it is no number.
    """
    if event in (Event.TEMP_BASAL, Event.BASAL_END):
        return 0
    names = ("enteredinsulin", "insulin") if event is Event.COMBO else ("insulin",)
    return number(document, *names) or 0


def carbs_of(document: Document) -> float:
    """Return the carbohydrates of a treatment in grams, 0 if it has none.

    :raises RefusedDocumentError: it is no number.
    """
    return number(document, "carbs") or 0


def bolus_fields(
    document: Document, event: Event | None, dose: float, *, automated: bool
) -> dict[str, JsonValue]:
    """Return what a bolus record says.

    :param dose: all of it, in units.
    :param automated: whether a loop gave it.
    :raises RefusedDocumentError: an extended bolus without a duration.
    """
    if event is not Event.COMBO:
        return {"subType": "automated" if automated else "normal", "normal": dose}
    now, later = number(document, "splitNow"), number(document, "splitExt")
    if now is None and later is None:
        now, later = 100, 0
    share = (now or 0) / 100 if later is None else 1 - later / 100
    at_once = round(dose * min(max(share, 0.0), 1.0), 5)
    extended = round(dose - at_once, 5)
    if not extended:
        return {"subType": "normal", "normal": dose}
    duration = minutes_in(document)
    if not duration:
        raise RefusedDocumentError(NO_AMOUNT)
    if not at_once:
        return {"subType": "square", "extended": extended, "duration": duration}
    return {"subType": "dual/square", "normal": at_once, "extended": extended, "duration": duration}


def insulin_fields(document: Document, dose: float) -> dict[str, JsonValue]:
    """Return what a record of injected insulin says."""
    fields: dict[str, JsonValue] = {"dose": {"total": dose, "units": "Units"}}
    if flag(document, "isBasalInsulin") is True:
        fields["formulation"] = {"simple": {"actingType": "long"}}
    return fields


def food_fields(document: Document, carbs: float) -> dict[str, JsonValue]:
    """Return what a record of food says; empty if the treatment has none.

    :param carbs: in grams.
    :raises RefusedDocumentError: something in it is no number.
    """
    nutrition: dict[str, JsonValue] = {}
    if carbs:
        nutrition["carbohydrate"] = {"net": carbs, "units": "grams"}
    for name in ("fat", "protein"):
        if grams := number(document, name):
            nutrition[name] = {"total": grams, "units": "grams"}
    if not nutrition:
        return {}
    if minutes := number(document, "absorptionTime"):
        nutrition["estimatedAbsorptionDuration"] = round(minutes * 60)
    fields: dict[str, JsonValue] = {"nutrition": nutrition}
    name = text(document, "foodType")
    if 0 < len(name) <= NAME_LENGTH_MAX:
        fields["name"] = name
    return fields


class Finger(NamedTuple):
    """A finger value, in its unit."""

    value: float
    units: str


def is_finger(document: Document) -> bool:
    """Return whether a treatment says that its glucose is of a finger."""
    return document.get("glucoseType") is not None and text(document, "glucoseType").lower() == _FINGER


def finger_of(document: Document, usual: str | None) -> Finger | None:
    """Return the finger value of a treatment, ``None`` if it has none.

    :param usual: the unit of the site's profiles, if all have one.
    :raises RefusedDocumentError: it is no number, or its unit is not known.
    """
    if not is_finger(document):
        return None
    value = number(document, "glucose")
    if not value or value < 0:
        return None
    return Finger(value, units_of(document, [value], usual))


def _rate_of(document: Document) -> tuple[float | None, bool]:
    """Return the rate of a temporary basal that tells no absolute one, and whether it is a factor.

    :raises RefusedDocumentError: something in it is no number.
    """
    rate, percent = number(document, "rate"), number(document, "percent")
    if percent is not None:
        return 1 + percent / 100, True  # it is what is added to the profile's rate
    kind = text(document, "temp") or text(inner(document, "raw_rate"), "temp")
    if kind == "percent" and rate is not None:
        return rate / 100, True  # a pump's own history has the whole percentage
    return rate, False


def basal_event(document: Document, event: Event | None, at: int, name: str, row: int) -> BasalEvent | None:
    """Return what a treatment does to basal delivery, ``None`` if it does nothing.

    :param at: when, in milliseconds since 1970.
    :param name: of the document.
    :param row: number of its row in the batch.
    :raises RefusedDocumentError: something in it is no number.
    """
    if event is not Event.TEMP_BASAL:
        step = None if event is None else _STEPS.get(event)
        return None if step is None else BasalEvent(at, step, name, row)
    planned = minutes_in(document)
    if not planned:
        return BasalEvent(at, Step.END, name, row)
    rate, is_factor = number(document, "absolute"), False
    if rate is None:
        rate, is_factor = _rate_of(document)
    if rate is None:
        return BasalEvent(at, Step.UNKNOWN, name, row, planned)
    writer = " ".join([text(document, name) for name in _WRITERS if name in document])
    automatic = flag(document, "automatic")
    is_automated = _LOOPS.search(writer) is not None if automatic is None else automatic
    return BasalEvent(
        at,
        Step.TEMPORARY,
        name,
        row,
        planned,
        max(rate, 0.0) if is_factor else rate,
        is_factor,
        is_automated,
        digest_of(writer),
    )


def is_target_end(document: Document, event: Event | None, planned: int) -> bool:
    """Return whether a target or override only ends the one before.

    :param planned: milliseconds that it is to last.
    :raises RefusedDocumentError: something in it is no number.
    """
    if event in (Event.TARGET_END, Event.OVERRIDE_END):
        return True
    if planned:
        return False
    if event is Event.TARGET:
        return True
    return number(document, "duration", "durationInMilliseconds") is not None


def target_fields(document: Document, event: Event | None, usual: str | None) -> dict[str, JsonValue]:
    """Return what a record of a temporary target or override says, but for how long it was.

    :param usual: the unit of the site's profiles, if all have one.
    :raises RefusedDocumentError: something in it is no number, or its unit is not known.
    """
    reason = text(document, "reason")
    word = reason.lower()
    fields: dict[str, JsonValue] = {"subType": "pumpSettingsOverride"}
    if word in _PREPRANDIAL:
        fields["overrideType"] = "preprandial"
    elif word in _EXERCISES and event is Event.TARGET:
        fields["overrideType"] = "physicalActivity"
    elif word in _CUSTOM or len(reason) > NAME_LENGTH_MAX:
        fields["overrideType"] = "custom"
    else:
        fields |= {"overrideType": "preset", "overridePreset": reason}
    bounds = [number(document, "targetBottom"), number(document, "targetTop")]
    if event is Event.OVERRIDE:
        given = list(items(document, "correctionRange"))[:2]
        bounds = [number({"value": bound}, "value") for bound in given] if len(given) > 1 else [None, None]
        bounds.sort(key=lambda bound: bound or 0)
    low, high = bounds
    if low and high:
        units = units_of(document, [low, high], usual)
        fields |= {"bgTarget": {"low": low, "high": high}, "units": {"bg": units}}
    scale = number(document, "insulinNeedsScaleFactor")
    if scale is not None and scale > 0:
        fields |= {
            "basalRateScaleFactor": scale,
            "carbRatioScaleFactor": round(1 / scale, 6),
            "insulinSensitivityScaleFactor": round(1 / scale, 6),
        }
    return fields


def activity_fields(document: Document) -> dict[str, JsonValue]:
    """Return what a record of exercise says.

    :raises RefusedDocumentError: something in it is no number.
    """
    duration = minutes_in(document)
    return {"duration": {"units": "minutes", "value": duration / MINUTE_MS}} if duration else {}


def wizard_fields(document: Document, usual: str | None) -> dict[str, JsonValue]:
    """Return what a record of a bolus calculation says; empty if the treatment tells none of its inputs.

    Its carbohydrates are left out: they are in the record of food, and Tidepool adds up both.

    :param usual: the unit of the site's profiles, if all have one.
    :raises RefusedDocumentError: something in it is no number.
    """
    if CALCULATIONS.isdisjoint(document):
        return {}
    inputs = next((found for name in sorted(CALCULATIONS) if (found := inner(document, name))), None)
    if inputs is None:
        return {}
    glucose = number(inputs, "bg", "glucoseValue")
    sensitivity, ratio = number(inputs, "isf"), number(inputs, "ic")
    low, high = number(inputs, "targetBGLow"), number(inputs, "targetBGHigh")
    values = [value for value in (glucose, sensitivity, low, high) if value is not None and value > 0]
    if not values and not ratio:
        return {}
    units = units_meant(text(inputs, "units")) or units_of(document, values, usual)
    fields: dict[str, JsonValue] = {"units": units}
    if glucose is not None and glucose > 0:
        fields["bgInput"] = glucose
    if sensitivity is not None and sensitivity > 0:
        fields["insulinSensitivity"] = sensitivity
    if ratio is not None and ratio > 0:
        fields["insulinCarbRatio"] = ratio
    if low and high and 0 < low <= high:
        fields["bgTarget"] = {"low": low, "high": high}
    on_board = number(inputs, "iob")
    if on_board is not None and on_board >= 0:
        fields["insulinOnBoard"] = on_board
    recommended: dict[str, JsonValue] = {
        name: amount
        for name, keys in _RECOMMENDED.items()
        if (amount := number(inputs, *keys)) is not None and (name != "carb" or amount >= 0)
    }
    if recommended:
        fields["recommended"] = recommended
    return fields


_RECOMMENDED: Final = {
    "carb": ("insulincarbs", "carbsInsulin"),
    "correction": ("insulinbg", "glucoseInsulin"),
    "net": ("insulin", "totalInsulin"),
}
