"""Single documents of a Nightscout site, read a second time: what they are, and what each says by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from tidepool_simulator.sample.checker.cells import Clock, Record, RowError, number_of, table_of
from tidepool_simulator.sample.checker.files import UnreadableError, values_of

Document = Mapping[str, Any]
Rows = list[list[Record | None]]
"""What each document becomes; None for one that is refused."""

MINUTE, HOUR, WEEK = timedelta(minutes=1), timedelta(hours=1), timedelta(days=7)
SECOND = timedelta(seconds=1)
NO_DATE_BEFORE = datetime(2000, 1, 1)
SENSOR_ERRORS = 12
FASTEST_PUMP = 35
HIGHEST_MMOL = 55
"""Above, a value that is said to be in mmol/L is none: the profile is refused."""
MG_IN_MMOL = 18.01559
DEVICE = "Nightscout"

TRENDS = {
    "tripleup": "rapidRise",
    "doubleup": "rapidRise",
    "singleup": "moderateRise",
    "fortyfiveup": "slowRise",
    "flat": "constant",
    "fortyfivedown": "slowFall",
    "singledown": "moderateFall",
    "doubledown": "rapidFall",
    "tripledown": "rapidFall",
}
TEMPORARY = ("temp basal", "temp basal start", "tempbasal", "temporary basal")
ENDS = ("temp basal end", "temp basal cancel")
STOPS = ("suspend pump", "pump suspend", "pumpsuspend")
GOES_ON = ("resume pump", "pump resume", "pumpresume")
OF_A_PUMP = (
    *TEMPORARY,
    *ENDS,
    *STOPS,
    *GOES_ON,
    "site change",
    "cannula change",
    "insulin change",
    "insulin cartridge change",
    "reservoir change",
    "pod change",
    "profile switch",
)
COMBO = ("combo bolus", "extended bolus", "dual bolus", "square bolus")
LOOPS = ("loop", "openaps", "androidaps", "aaps", "iaps", "trio", "freeaps", "oref")


def plain(value: Any) -> Any:
    """Return a value without MongoDB's wrapping."""
    while isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith("$"):
        (value,) = value.values()
    return value


def number(document: Document, *names: str) -> float | int | None:
    """Return the first number under some names, None if there is nothing.

    :raises RowError: something else is there.
    """
    for name in names:
        value = plain(document.get(name))
        if value in (None, ""):
            continue
        if isinstance(value, str):
            return number_of(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1e15:
            raise RowError
        return value
    return None


def text(document: Document, name: str) -> str:
    """Return the text under a name, empty if there is none."""
    value = plain(document.get(name))
    return value.strip() if isinstance(value, str) else ""


def is_true(document: Document, name: str) -> bool:
    """Return whether something is said to be so."""
    return str(document.get(name)).strip().lower() == "true"


def inside(document: Document, name: str) -> Document:
    """Return the object under a name, which may be JSON in a text."""
    value = document.get(name)
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def moment(document: Document, *names: str) -> datetime:
    """Return the first moment under some names, UTC.

    :raises RowError: there is none.
    """
    for name in names:
        value = plain(document.get(name))
        found = None
        try:
            if isinstance(value, str) and not value.replace(".", "").isdigit():
                read = datetime.fromisoformat(value.strip())
                found = read.astimezone(UTC).replace(tzinfo=None) if read.tzinfo else None
            elif isinstance(value, str | int | float) and not isinstance(value, bool):
                found = datetime(1970, 1, 1) + timedelta(milliseconds=int(float(value)))
        except (ValueError, OverflowError):
            continue
        if found is not None and NO_DATE_BEFORE <= found < datetime(2100, 1, 1):
            return found.replace(microsecond=found.microsecond // 1000 * 1000)
    raise RowError


def written(at: datetime) -> str:
    """Return a moment as names have it."""
    return at.isoformat(timespec="milliseconds" if at.microsecond else "seconds") + "Z"


def milliseconds(span: timedelta) -> int:
    """Return a span in milliseconds."""
    return span // timedelta(milliseconds=1)


def lasting(document: Document) -> timedelta:
    """Return how long something was to take.

    :raises RowError: it is no number.
    """
    ms = number(document, "durationInMilliseconds")
    ms = (number(document, "duration") or 0) * 60_000 if ms is None else ms
    return timedelta(milliseconds=max(round(ms), 0))


def units_of(document: Document, values: Sequence[float], usual: str | None) -> str:
    """Return the unit of glucose values: as named, else as the values or the profiles tell.

    :raises RowError: nothing tells.
    """
    named = unit_named(text(document, "units"))
    if named or any(value >= 40 for value in values):
        return named or "mg/dL"
    if usual is None and any(value > 20 for value in values):
        raise RowError
    return usual or "mmol/L"


_CALCULATED = {
    "bgInput": ("bg", "glucoseValue"),
    "insulinSensitivity": ("isf",),
    "insulinCarbRatio": ("ic",),
}
_RECOMMENDED = {
    "carb": ("insulincarbs", "carbsInsulin"),
    "correction": ("insulinbg", "glucoseInsulin"),
    "net": ("insulin", "totalInsulin"),
}
"""What a bolus calculation says, and under which names programs have it."""


def calculation_of(document: Document, usual: str | None) -> Record:
    """Return what a treatment says of a bolus calculation, without its carbohydrates and its bolus.

    :param usual: the unit of the profiles.
    :raises RowError: a value is no number, or its unit cannot be told.
    """
    said = (inside(document, name) for name in ("bolusCalculatorResult", "boluscalc", "wizard"))
    inputs: Document = next(filter(None, said), {})
    found = {field: number(inputs, *names) or 0 for field, names in _CALCULATED.items()}
    record: Record = {field: value for field, value in found.items() if value > 0}
    low, high = (number(inputs, name) or 0 for name in ("targetBGLow", "targetBGHigh"))
    levels = [record.get("bgInput", 0), record.get("insulinSensitivity", 0), low, high]
    levels = [value for value in levels if value > 0]
    if not levels and not record:
        return {}
    record["units"] = unit_named(text(inputs, "units")) or units_of(document, levels, usual)
    if 0 < low <= high:
        record["bgTarget"] = {"low": low, "high": high}
    on_board = number(inputs, "iob")
    if on_board is not None and on_board >= 0:
        record["insulinOnBoard"] = on_board
    advised = {field: number(inputs, *names) for field, names in _RECOMMENDED.items()}
    told = {field: dose for field, dose in advised.items() if dose is not None}
    if told.get("carb", 0) < 0:
        del told["carb"]
    return record | ({"recommended": told} if told else {})


def unit_named(word: str) -> str | None:
    """Return the unit that a word means."""
    return {"mm": "mmol/L", "mg": "mg/dL"}.get(word.lower()[:2])


@dataclass
class Told:
    """One document.

    :param at: when it was.
    :param name: its name, for ever.
    :param event: its event type in small letters.
    :param records: what it becomes.
    """

    document: Document
    kind: str
    at: datetime
    name: str = ""
    event: str = ""
    keeps_notes: bool = False
    records: list[Record | None] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether nobody has deleted it."""
        return str(self.document.get("isValid")).lower() != "false"


def kind_of(document: Document) -> str:
    """Return which collection a document is of, empty if of none."""
    if "eventType" in document:
        return "treatment"
    if document.get("type") in ("sgv", "mbg", "cal", "rawbg") or "sgv" in document or "mbg" in document:
        return "entry"
    if inside(document, "store") or {"basal", "carbratio"} <= document.keys():
        return "profile"
    if document.keys().isdisjoint(("created_at", "date", "mills", "timestamp", "dateString")):
        return ""
    if not document.keys().isdisjoint(("openaps", "loop", "pump", "uploader", "uploaderBattery", "xdripjs")):
        return "status"
    if document.get("type") in ("food", "quickpick"):
        return "status"
    amounts = ("insulin", "carbs", "glucose", "rate", "absolute", "targetTop")
    return "" if document.keys().isdisjoint(amounts) else "treatment"


def documents_of(content: bytes) -> list[Document | None]:
    """Return the documents of a file; None for what is none.

    :raises UnreadableError: it is cut off, or neither JSON nor a table.
    """
    start = content.lstrip()[:1]
    if start == b"[":
        found = list(values_of("", "json", content))
    elif start == b"{":
        try:
            whole = json.loads(content)
            result = whole.get("result") if "status" in whole else whole
            found = result if isinstance(result, list) else [result]
        except ValueError:
            found = list(values_of("", "ndjson", content))
    else:
        head, *rows = table_of(content.decode())
        found = [_of_row(head, row) for row in rows]
    return [value if isinstance(value, dict) else None for value in found]


def _of_row(head: Sequence[str], row: Sequence[str]) -> Document | None:
    document: dict[str, Any] = {}
    for name, cell in zip(head, row, strict=False):
        if not cell.strip() or cell.strip() == "null":
            continue
        try:
            value = json.loads(cell) if cell.strip()[0] in "{[" else cell.strip()
        except ValueError:
            return None
        if isinstance(value, dict) and kind_of(value):
            return value
        *outer, last = name.strip().split(".")
        place = document
        for step in outer:
            place = place.setdefault(step, {})
        place[last] = value
    return document


@dataclass
class Event:
    """Something that changes what basal insulin is delivered."""

    at: datetime
    order: int
    told: Told
    until: datetime | None = None
    rate: float | None = None
    share: float | None = None
    automated: bool = False
    writer: str = ""
    is_refused: bool = False


ENDED, RESUMED, UNKNOWN, RUNS, STOPPED = range(5)


def target_of(document: Document, usual: str | None, *, is_override: bool) -> Record:
    """Return what a temporary target says, but for how long it was."""
    reason = text(document, "reason")
    fields: Record = {"subType": "pumpSettingsOverride"}
    if reason.lower() in ("eating soon", "pre-meal", "premeal"):
        fields["overrideType"] = "preprandial"
    elif reason.lower() in ("activity", "exercise", "workout") and not is_override:
        fields["overrideType"] = "physicalActivity"
    elif reason.lower() in ("", "custom", "manual"):
        fields["overrideType"] = "custom"
    else:
        fields |= {"overrideType": "preset", "overridePreset": reason}
    low, high = number(document, "targetBottom"), number(document, "targetTop")
    if is_override:
        bounds = document.get("correctionRange")
        is_range = isinstance(bounds, list) and len(bounds) > 1
        low, high = sorted(bounds[:2]) if is_range and isinstance(bounds, list) else (None, None)
    if low and high:
        units = units_of(document, [low, high], usual)
        fields |= {"bgTarget": {"low": low, "high": high}, "units": {"bg": units}}
    scale = number(document, "insulinNeedsScaleFactor")
    if scale is not None and scale > 0:
        inverse = round(1 / scale, 6)
        fields |= {"basalRateScaleFactor": scale, "carbRatioScaleFactor": inverse}
        fields["insulinSensitivityScaleFactor"] = inverse
    return fields


def is_other_entry(document: Document) -> bool:
    """Return whether an entry is no reading."""
    kind = document.get("type")
    return kind == "cal" or (
        kind not in ("sgv", "mbg", None, "") and document.keys().isdisjoint(("sgv", "mbg"))
    )


def dose_of(told: Told) -> float:
    """Return the insulin of a treatment, 0 if it has none."""
    if told.event in (*TEMPORARY, *ENDS):
        return 0
    names = ("enteredinsulin", "insulin") if told.event in COMBO else ("insulin",)
    return number(told.document, *names) or 0


def by_a_loop(told: Told) -> bool:
    """Return whether a loop gave a bolus."""
    document = told.document
    said = is_true(document, "isSMB") or is_true(document, "automatic")
    named = "SMB" in (text(document, "type").upper(), told.event.upper())
    return said or named or is_true(inside(document, "bolus"), "isSMB")


def event_of(told: Told) -> Event | None:
    """Return what a treatment does to basal delivery."""
    document = told.document
    for order, words in ((ENDED, ENDS), (STOPPED, STOPS), (RESUMED, GOES_ON)):
        if told.event in words:
            return Event(told.at, order, told)
    if told.event not in TEMPORARY:
        return None
    planned = lasting(document)
    if not planned:
        return Event(told.at, ENDED, told)
    until, share = told.at + planned, None
    rate, percent = number(document, "absolute"), number(document, "percent")
    if rate is None and percent is not None:
        share = max(1 + percent / 100, 0)
    elif rate is None:
        rate = number(document, "rate")
        kind = text(document, "temp") or text(inside(document, "raw_rate"), "temp")
        if kind == "percent" and rate is not None:
            share, rate = max(rate / 100, 0), None
    if rate is None and share is None:
        return Event(told.at, UNKNOWN, told, until)
    writer = " ".join(text(document, name) for name in ("enteredBy", "app", "device") if name in document)
    automated = any(loop in writer.lower() for loop in LOOPS)
    if str(document.get("automatic")).lower() in ("true", "false"):
        automated = is_true(document, "automatic")
    return Event(told.at, RUNS, told, until, rate, share, automated, writer)


def in_use(moments: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Yield where a pump was in use, which something shows at least every week."""
    start = moments[0]
    for before, after in pairwise(moments):
        if after - before > WEEK:
            if start < before:
                yield start, before
            start = after
    if start < moments[-1]:
        yield start, moments[-1]


def default_of(document: Document, stores: Mapping[str, Document]) -> str:
    """Return the name of the default profile."""
    return text(document, "defaultProfile") or (next(iter(stores)) if len(stores) == 1 else "")


def stores_of(document: Document) -> dict[str, Document]:
    """Return the profiles of a document by their names."""
    store = inside(document, "store")
    if store:
        return {name: found for name in store if (found := inside(store, name))}
    parts = ("basal", "carbratio", "sens", "target_low", "target_high")
    known = {name: document[name] for name in (*parts, "timezone", "units") if name in document}
    return {text(document, "defaultProfile") or "Default": known} if known else {}


def schedule_of(store: Document, name: str) -> list[tuple[int, float]]:
    """Return seconds of the day and values.

    :raises RowError: something is no number.
    """
    found: dict[int, float] = {}
    entries = store.get(name)
    for item in entries if isinstance(entries, list) else ():
        value, second = number(item, "value"), number(item, "timeAsSeconds")
        if second is None:
            try:
                clock = datetime.strptime(text(item, "time")[:5], "%H:%M")
            except ValueError as error:
                raise RowError from error
            second = clock.hour * 3600 + clock.minute * 60
        if value is None or not 0 <= second < 86400:
            raise RowError
        found[int(second)] = value
    if found and 0 not in found:
        found[0] = found[max(found)]
    return sorted(found.items())


def step(second: int, **more: float) -> Record:
    """Return an entry of a schedule."""
    return {"start": second * 1000, **more}


def last_of(entries: Sequence[tuple[int, float]], second: int) -> float:
    """Return what a schedule says at a second of the day."""
    return [value for start, value in entries if start <= second][-1]


def zone_meant(name: str) -> str:
    """Return the zone that a profile means: ``GMT+4`` is four hours ahead."""
    word = name.upper()
    for start, flip in (
        ("ETC/GMT", {"+": "+", "-": "-"}),
        ("GMT", {"+": "-", "-": "+"}),
        ("UTC", {"+": "-", "-": "+"}),
    ):
        rest = word.removeprefix(start)
        if word.startswith(start) and rest[:1] in flip and rest[1:].split(":")[0].isdigit():
            return f"Etc/GMT{flip[rest[0]]}{int(rest[1:].split(':')[0])}"
    return name


def settings_of(default: str, units: str | None, stores: Mapping[str, Document]) -> Record:
    """Return what a profile document says as pump settings.

    :raises RowError: something is no number.
    """
    record: Record = {"activeSchedule": default, "units": {"bg": units, "carb": "grams"}}
    for name, store in stores.items():
        lows, highs = schedule_of(store, "target_low"), schedule_of(store, "target_high")
        starts = sorted({second for second, _value in (*lows, *highs)}) if lows and highs else []
        sensitivities = schedule_of(store, "sens")
        if units == "mmol/L" and any(value > HIGHEST_MMOL for _at, value in (*lows, *highs, *sensitivities)):
            raise RowError
        basal, ratios = schedule_of(store, "basal"), schedule_of(store, "carbratio")
        parts = {
            "basalSchedules": [step(second, rate=value) for second, value in basal],
            "bgTargets": [step(at, low=last_of(lows, at), high=last_of(highs, at)) for at in starts],
            "carbRatios": [step(second, amount=value) for second, value in ratios],
            "insulinSensitivities": [step(at, amount=value) for at, value in sensitivities],
        }
        for kind, entries in parts.items():
            if entries:
                record.setdefault(kind, {})[name] = entries
    return record


@dataclass(frozen=True)
class Program:
    """Basal rates as a profile has them."""

    name: str
    clock: Clock | None
    rates: tuple[tuple[int, float], ...]

    def at(self, at: datetime) -> float | None:
        """Return the rate at a moment: the one that has begun last, today or the day before."""
        begun = [(start, rate) for start, rate in self.begins(at) if start <= at]
        return max(begun)[1] if begun else None

    def begins(self, at: datetime) -> Iterator[tuple[datetime, float]]:
        """Yield when rates begin around a moment."""
        if len({rate for _second, rate in self.rates}) == 1:
            yield datetime.min, self.rates[0][1]
            return
        if self.clock is None:
            raise UnreadableError
        today = (at + self.clock.offset_at(at, at)).replace(hour=0, minute=0, second=0, microsecond=0)
        for day in (-1, 0, 1):
            for second, rate in self.rates:
                local = today + timedelta(days=day, seconds=second)
                yield self.clock.read(local).at, rate


def dose_fields(told: Told, dose: float, *, automated: bool) -> tuple[str, tuple[str, ...], Record]:
    """Return the type of the record of a dose, what names it besides the type, and its fields.

    :raises RowError: an extended bolus without a duration.
    """
    document, bolus = told.document, inside(told.document, "bolus")
    if text(document, "type").upper() == "PRIMING":
        prime: Record = {"subType": "prime", "primeTarget": "cannula", "volume": dose}
        return "deviceEvent", (told.name, "volume"), prime
    is_external = is_true(document, "isExternal") or is_true(bolus, "isExternal")
    is_long = is_true(document, "isBasalInsulin")
    if is_external or is_long or told.event == "external insulin":
        long = {"formulation": {"simple": {"actingType": "long"}}}
        return "insulin", (), {"dose": {"total": dose, "units": "Units"}} | (long if is_long else {})
    if told.event not in COMBO:
        return "bolus", (), {"subType": "automated" if automated else "normal", "normal": dose}
    now, later = number(document, "splitNow"), number(document, "splitExt")
    share = 1.0 if now is later is None else (now or 0) / 100 if later is None else 1 - later / 100
    at_once = round(dose * min(max(share, 0), 1), 5)
    extended, ms = round(dose - at_once, 5), milliseconds(lasting(document))
    if not extended:
        return "bolus", (), {"subType": "normal", "normal": dose}
    if not ms:
        raise RowError
    split: Record = {"extended": extended, "duration": ms}
    parts = {"subType": "dual/square", "normal": at_once} if at_once else {"subType": "square"}
    return "bolus", (), parts | split
