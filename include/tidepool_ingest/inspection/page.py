"""One page that shows what an inspection found: self-contained, without a script, all its text escaped.

It holds health data, and says so. What it shows depends on nothing but the findings: no clock, no machine.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from tidepool_ingest.codes import explained
from tidepool_ingest.coverage import HOURS, Column, picture_of
from tidepool_ingest.inspection.drawing import (
    BARS_HEIGHT,
    LEVELS_HEIGHT,
    Bars,
    HeatMap,
    Levels,
    Span,
    Spot,
    Tick,
    bars,
    column_ticks,
    day_words,
    days_words,
    heat_map,
    levels,
)
from tidepool_ingest.inspection.findings import DayFound, Gap, Inspection
from tidepool_ingest.inspection.gathering import METER, SENSOR, coverage_of
from tidepool_ingest.inspection.inspecting import title_of
from tidepool_ingest.local_times import zone_named

MOST_BARS: Final = 186
"""Bars side by side: half a year by day; of longer files each bar stands for several days."""

FEWEST_BARS: Final = 14
"""Bars that there is room for at least, so that those of few days stay narrow."""

MOST_DAYS_LISTED: Final = 100
"""Days that tables list one by one; of more, each month is a line."""

MOST_MONTHS_LISTED: Final = 240
"""Months that tables list, the latest ones."""

MOST_LISTED: Final = 100
"""Gaps, reasons, uploads and the like that are listed."""

TYPE_TITLES: Final = {
    "alert": "Alerts",
    "basal": "Basal insulin",
    "bloodKetone": "Blood ketones",
    "bolus": "Boluses",
    SENSOR: "Sensor glucose",
    "cgmSettings": "Sensor settings",
    "controllerSettings": "Controller settings",
    "controllerStatus": "Controller status",
    "deviceEvent": "Device events",
    "dosingDecision": "Dosing decisions",
    "food": "Food",
    "insulin": "Injected insulin",
    "physicalActivity": "Physical activity",
    "pumpSettings": "Pump settings",
    "pumpStatus": "Pump status",
    "reportedState": "Reported states",
    METER: "Meter glucose",
    "unknown": "Unknown types",
    "unreadable": "Rows that cannot be read",
    "water": "Water",
    "wizard": "Bolus calculations",
}

_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def page(inspections: Sequence[Inspection]) -> str:
    """Return the page, as HTML.

    :param inspections: what was found, of one file or several.
    """
    css = files(__package__).joinpath("templates", "page.css").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    shown = [_Shown(inspection, number) for number, inspection in enumerate(inspections, 1)]
    names = {file.name for inspection in inspections for file in inspection.files}
    return (
        _environment()
        .get_template("page.html")
        .render(
            shown=shown,
            heading=f"Inspection of {_several(len(names), 'file')}"
            + (f" with {len(shown)} devices" if len(shown) > len(names) else ""),
            css=Markup(css),
            css_digest=digest,
        )
        .lstrip()
    )


def printable(value: Any) -> Any:
    """Return a value with signs in the place of what would change how the text around it is read.

    :param value: what a template shows: control characters, changes of direction and halves of a pair of
        surrogates in a text become U+FFFD.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if sign in _BIDI or unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp", "Cn")
        else sign
        for sign in value
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tidepool_ingest.inspection"),
        autoescape=True,
        finalize=printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=lambda value: f"{value:,}",
        amount=_amount,
        percent=_percent,
        several=_several,
        marked=_marked,
        breakable=lambda text: Markup("/<wbr>").join(str(printable(text)).split("/")),
        type_title=lambda kind: TYPE_TITLES.get(kind, kind),
        day=day_words,
        hours=_hours,
        iso=lambda day: day.isoformat(),
    )
    environment.globals.update(
        bars_height=BARS_HEIGHT,
        levels_height=LEVELS_HEIGHT,
        most_listed=MOST_LISTED,
        hours_of_day=range(HOURS),
        explained=explained,
    )
    return environment


def _several(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _marked(text: str) -> Markup:
    """Return an escaped text in which what stands between backticks is code."""
    pieces = str(printable(text)).split("`")
    if len(pieces) % 2 == 0:
        pieces = ["`".join(pieces)]
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece)
        for index, piece in enumerate(pieces)
    )


def _amount(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}".removesuffix(".0")


def _percent(share: float) -> str:
    """Return a share in per cent; all and nothing only where it is so."""
    if 0 < share < 0.01:
        return "<\N{NO-BREAK SPACE}1\N{NO-BREAK SPACE}%"
    return f"{min(round(100 * share), 99 if share < 1 else 100)}\N{NO-BREAK SPACE}%"


def _hours(value: float) -> str:
    if value >= 48:
        return f"{value / 24:,.1f}".removesuffix(".0") + " days"
    return f"{value:,.1f}".removesuffix(".0") + (" hour" if value == 1 else " hours")


# ---------------------------------------------------------------- what the template shows of an inspection


@dataclass(frozen=True)
class _Line:
    """A line of a table: a day, or a month of many."""

    title: str
    days: int = 0
    hours: list[int] = field(default_factory=lambda: [0] * HOURS)
    filled: int = 0
    bolus: float = 0.0
    basal: float = 0.0
    carbs: float = 0.0

    @property
    def records(self) -> int:
        return sum(self.hours)


@dataclass(frozen=True)
class _TypeBars:
    """A type, with bars."""

    type: str
    accepted: int
    rejected: int
    days: int
    first: str
    last: str
    bars: Bars
    spots: tuple[Spot, ...]


@dataclass(frozen=True)
class _Amounts:
    """An amount per day, as bars."""

    title: str
    unit: str
    parts: tuple[str, ...]
    bars: Bars
    days: int
    spots: tuple[Spot, ...]


class _Shown:
    """An inspection, with its pictures.

    :param inspection: it.
    :param number: which one of the page, from 1.
    """

    def __init__(self, inspection: Inspection, number: int) -> None:
        self.found = inspection
        self.id = f"i{number}"
        try:
            self._zone = zone_named(inspection.zone.used)
        except KeyError:  # one was given that there is not, which is among the holds
            self._zone = zone_named("Etc/UTC")
        self._by_day = {day.day: day for day in inspection.days}
        self.has_sensor = any(any(day.readings) for day in inspection.days)
        self.noun = "readings" if self.has_sensor else "records"
        self._coverage = {day: counts for day, counts in coverage_of(inspection.days).items() if any(counts)}
        self.heat: HeatMap | None = (
            heat_map(self._coverage, self.noun, self._zone) if self._coverage else None
        )
        self.picture = picture_of({day.day: day.records for day in inspection.days}, columns=MOST_BARS)
        self.amount_picture = picture_of(
            {day.day: day.records for day in inspection.days if day.bolus or day.basal or day.carbs},
            columns=MOST_BARS,
        )

    # ------------------------------------------------------------ in words

    @property
    def title(self) -> str:
        """What it is."""
        return "A table that no mapping explains" if self.found.table else title_of(self.found)

    @property
    def device(self) -> str:
        """Which device, or which ones."""
        return "; ".join(filter(None, (_device_words(device.fields) for device in self.found.devices)))

    @property
    def facts_of_devices(self) -> list[tuple[str, str]]:
        """What the files tell of the devices, by field."""
        return [
            (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
            for device in self.found.devices
            for name, value in device.fields.items()
        ]

    @property
    def span(self) -> str:
        """From which day to which."""
        days = self.found.days
        return days_words(days[0].day, days[-1].day) if days else ""

    @property
    def calendar_days(self) -> int:
        """How many days there are from the first to the last."""
        days = self.found.days
        return (days[-1].day - days[0].day).days + 1 if days else 0

    @property
    def tone(self) -> str:
        """How much is the matter: ``bad``, ``care`` or ``good``."""
        if self.found.holds or not self.found.is_readable:
            return "bad"
        wrong = self.found.rejected or self.found.suspicions or self.found.zone.verdict == "contradicted"
        return "care" if wrong or not self.found.accepted else "good"

    def moment(self, instant: datetime) -> str:
        """Return an instant as the zone's clocks show it.

        :param instant: in UTC.
        """
        try:
            local = instant.astimezone(self._zone)
        except OverflowError:
            local = instant
        return f"{day_words(local.date())}, {local:%H:%M}"

    def end_of(self, gap: Gap) -> str:
        """Return when a gap ends, and whether clocks changed in it.

        :param gap: the gap.
        """
        clocks = gap.clocks_in(self._zone)
        return f"{self.moment(gap.end)} ({clocks})" if clocks else self.moment(gap.end)

    @property
    def concerns(self) -> list[tuple[str, str]]:
        """What somebody should look at, with the part of the page that has it."""
        found, zone = self.found, self.found.zone
        told = []
        if found.rejected:
            told.append((f"{found.rejected:,} rejected: why, and which ones", "rejected"))
        if zone.verdict == "contradicted":
            told.append((f"The times do not fit {zone.used}", "zone"))
        elif zone.needed and not zone.stated:
            told.append(("No time zone was given", "zone"))
        if found.suspicions:
            told.append((f"{_several(len(found.suspicions), 'thing')} that may be wrong", "suspicions"))
        if warned := sum(reason.count for reason in found.warnings):
            told.append((_several(warned, "warning"), "rejected"))
        if found.gaps:
            told.append((f"{_several(self.gap_count, 'gap')} in the readings", "gaps"))
        return told

    @property
    def gap_count(self) -> int:
        """How many gaps there are; the shortest of many are only counted."""
        return max(self.found.gap_count, len(self.found.gaps))

    # ------------------------------------------------------------ in pictures and tables

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Days along the bars of the types."""
        return column_ticks(self.picture.columns, FEWEST_BARS)

    @property
    def amount_ticks(self) -> tuple[Tick, ...]:
        """Days along the bars of insulin and carbohydrate."""
        return column_ticks(self.amount_picture.columns, FEWEST_BARS)

    @property
    def possible(self) -> int:
        """How many hours there are from the first one with a reading to the last."""
        return Span.of(self._coverage).hours(self._coverage, self._zone) if self._coverage else 0

    @property
    def filled(self) -> int:
        """How many of them have a record."""
        return sum(sum(map(bool, counts)) for counts in self._coverage.values())

    @property
    def days_with(self) -> int:
        """How many days the coverage has."""
        return len(self._coverage)

    @property
    def types(self) -> list[_TypeBars]:
        """The types with their days."""
        return [
            _TypeBars(
                type=kind.type,
                accepted=kind.accepted,
                rejected=kind.rejected,
                days=sum(kind.type in day.types for day in self.found.days),
                first=self.moment(kind.first) if kind.first else "",
                last=self.moment(kind.last) if kind.last else "",
                bars=bars(self.picture.columns, self._records_of(kind.type), room=FEWEST_BARS),
                spots=self._spots_of(kind.type),
            )
            for kind in self.found.types
        ]

    @property
    def glucose(self) -> Levels | None:
        """Glucose by hour of the day."""
        return levels(self.found.glucose) if self.found.glucose and self.found.glucose.hours else None

    @property
    def is_of_sensor(self) -> bool:
        """Whether glucose is a sensor's."""
        return any(kind.type == SENSOR and kind.accepted for kind in self.found.types)

    @property
    def amounts(self) -> list[_Amounts]:
        """Insulin and carbohydrate per day, if there is any."""
        return list(self._amounts())

    def _amounts(self) -> Iterator[_Amounts]:
        days = self.found.days
        insulin = [day for day in days if day.bolus or day.basal]
        if insulin:
            parts = tuple(name for name in ("basal", "bolus") if any(getattr(day, name) for day in insulin))
            yield self._amount("Insulin", "U", parts, len(insulin))
        if carbs := sum(1 for day in days if day.carbs):
            yield self._amount("Carbohydrate", "g", ("carbs",), carbs)

    def _amount(self, title: str, unit: str, parts: tuple[str, ...], days: int) -> _Amounts:
        def mean(part: str) -> Callable[[Column], float]:
            def of(column: Column) -> float:
                own = [day for day in self._days_of(column) if any(getattr(day, name) for name in parts)]
                return sum(getattr(day, part) for day in own) / len(own) if own else 0.0

            return of

        spots = tuple(
            Spot(x, f"{_column_words(column)}: " + ", ".join(told))
            for x, column in enumerate(self.amount_picture.columns)
            if (
                told := [
                    f"{name} {_amount(mean(name)(column))} {unit}" for name in parts if mean(name)(column)
                ]
            )
        )
        drawn = bars(self.amount_picture.columns, *map(mean, parts), room=FEWEST_BARS)
        return _Amounts(title, unit, parts, drawn, days, spots)

    def _records_of(self, kind: str) -> Callable[[Column], float]:
        return lambda column: sum(day.types.get(kind, 0) for day in self._days_of(column)) / column.days

    def _spots_of(self, kind: str) -> tuple[Spot, ...]:
        counts = [
            sum(day.types.get(kind, 0) for day in self._days_of(column)) for column in self.picture.columns
        ]
        return tuple(
            Spot(x, f"{_column_words(column)}: {count:,}")
            for x, (column, count) in enumerate(zip(self.picture.columns, counts, strict=True))
            if count
        )

    def _days_of(self, column: Column) -> list[DayFound]:
        if column.is_gap:
            return []
        first = column.first_day.toordinal()
        days = (date.fromordinal(first + ahead) for ahead in range(column.days))
        return [self._by_day[day] for day in days if day in self._by_day]

    @property
    def lists_months(self) -> bool:
        """Whether tables have a line for each month."""
        return len(self.found.days) > MOST_DAYS_LISTED

    @property
    def lines(self) -> list[_Line]:
        """The days, or the months, as lines of a table."""
        groups: dict[str, list[DayFound]] = {}
        for day in self.found.days:
            title = f"{day.day:%Y-%m}" if self.lists_months else day.day.isoformat()
            groups.setdefault(title, []).append(day)
        return [self._line(title, days) for title, days in list(groups.items())[-MOST_MONTHS_LISTED:]]

    def _line(self, title: str, days: Sequence[DayFound]) -> _Line:
        counted = [self._coverage[day.day] for day in days if day.day in self._coverage]
        return _Line(
            title=title,
            days=len(days),
            hours=[sum(column) for column in zip(*counted, strict=True)] or [0] * HOURS,
            filled=sum(sum(map(bool, counts)) for counts in counted),
            bolus=sum(day.bolus for day in days),
            basal=sum(day.basal for day in days),
            carbs=sum(day.carbs for day in days),
        )


def _device_words(fields: Mapping[str, Any]) -> str:
    makers = fields.get("deviceManufacturers")
    words = [*makers] if isinstance(makers, list) else []
    model = fields.get("deviceModel") or fields.get("deviceId") or ""
    serial = fields.get("deviceSerialNumber")
    named = " ".join(str(word) for word in (*words, model) if word)
    return f"{named}, serial number {serial}" if serial else named


def _column_words(column: Column) -> str:
    return days_words(column.first_day, column.last_day)
