"""What an inspection finds: the models that every way of showing it draws from, and the schema of ``--json``.

They hold health data. They go to the terminal or the file of whoever asked, and nowhere else.
"""

from __future__ import annotations

from datetime import date, datetime, tzinfo
from typing import Any, Literal, Self

from msgspec import Struct, field
from msgspec.structs import replace

SCHEMA_VERSION = 1
"""Of the JSON; counted up when a member goes or changes its meaning, not when one comes."""


class DescribedModel(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A model whose schema says what its docstring does; of what ``--json`` of a command writes."""

    def but(self, **changes: Any) -> Self:
        """Return the same with other values.

        :param changes: these, by field.
        """
        return replace(self, **changes)


class InspectedFile(DescribedModel, frozen=True, kw_only=True):
    """One of the files.

    :param name: as it was typed.
    :param format: its format, told by its content; empty where it is none that is known.
    :param kind: what such a file is: ``CSV``, ``JSON``, ``Parquet`` or ``Excel``; empty for other ones.
    :param compression: ``none``, ``gz`` or ``zst``.
    :param rows: rows that were read.
    """

    name: str
    format: str
    kind: str = ""
    compression: str
    rows: int


class InspectedDevice(DescribedModel, frozen=True, kw_only=True):
    """A device of which the files hold rows.

    :param serial: what distinguishes its rows, for ``--serial``; empty where the files know one device only.
    :param fields: what the files tell of it, as the body of a data set has it.
    """

    serial: str = ""
    fields: dict[str, Any] = {}


class TypeFound(DescribedModel, frozen=True, kw_only=True):
    """Records of one type.

    :param type: Tidepool's type.
    :param accepted: how many Tidepool would take.
    :param rejected: how many it would not, or we would not.
    :param first: instant of the first accepted one, in UTC.
    :param last: instant of the last.
    """

    type: str
    accepted: int
    rejected: int = 0
    first: datetime | None = None
    last: datetime | None = None


class ReasonFound(DescribedModel, frozen=True, kw_only=True):
    """Records or rows that are not taken, or are taken with a warning, for one reason.

    :param code: the reason, see docs/codes.md.
    :param type: the records' type; empty for rows that no record can be read from.
    :param field: where in a record, as a JSON pointer without names that a person chose.
    :param count: how many.
    :param places: the first few of them, such as ``line 21``.
    """

    code: str
    type: str = ""
    field: str = ""
    count: int
    places: tuple[str, ...] = ()


class Hold(DescribedModel, frozen=True, kw_only=True):
    """Why a run would stop at the files as they are.

    :param code: of docs/errors.md.
    :param what: what is the matter, in a sentence.
    :param remedy: what to do.
    :param detail: where, or how often.
    """

    code: str
    what: str
    remedy: str
    detail: str = ""


class ZoneEvidence(DescribedModel, frozen=True, kw_only=True):
    """Something that the files show of the zone that their local times are in.

    :param kind: ``summer-time`` (a change of clocks that is in the data, or is not), ``generated-on`` (when
        the file says it was made), ``transmitter-clock``, ``stated`` (rows or profiles name a zone or an
        offset), or ``daily-rhythm`` (meals and sleep: a hint only).
    :param sentence: what is seen, for people.
    :param at: the local time at which it is seen, if at one.
    :param supports: whether it speaks for the zone in question, against it, or only narrows the choice.
    """

    kind: Literal["summer-time", "generated-on", "transmitter-clock", "stated", "daily-rhythm"]
    sentence: str
    at: str | None = None
    supports: Literal["for", "against", "neither"] = "neither"


class ZoneFinding(DescribedModel, frozen=True, kw_only=True):
    """Which time zone the files' times are in.

    :param needed: whether the format's rows are local times, so that somebody has to say the zone.
    :param stated: the zone that was given.
    :param used: the zone in which days and hours are counted here.
    :param verdict: of the zone in question: ``fits``, ``contradicted``, or ``open`` where nothing speaks for
        or against it, or where nobody has said which one of several that fit it is.
    :param candidates: the zones that fit all that is seen, those of most people first; empty where nothing
        narrows the choice.
    :param evidence: what is seen.
    """

    needed: bool
    stated: str | None = None
    used: str = "Etc/UTC"
    verdict: Literal["fits", "contradicted", "open"] = "open"
    candidates: tuple[str, ...] = ()
    evidence: tuple[ZoneEvidence, ...] = ()


class Gap(DescribedModel, frozen=True, kw_only=True):
    """A time without readings of a sensor that sends regularly.

    :param start: instant of the last reading before it.
    :param end: instant of the first one after it.
    :param hours: how long it is.
    """

    start: datetime
    end: datetime
    hours: float

    def clocks_in(self, zone: tzinfo) -> str:
        """Return in words whether clocks changed in it, so that local times alone do not give its length.

        :param zone: the zone that it is shown in.
        """
        before, after = (moment.astimezone(zone).utcoffset() for moment in (self.start, self.end))
        if before is None or after is None or before == after:
            return ""
        return "clocks went forward" if before < after else "clocks went back"


class Suspicion(DescribedModel, frozen=True, kw_only=True):
    """Values that are valid and look wrong.

    :param kind: ``units`` (some look like mmol/L), ``converted`` (multiplied by 18), ``flat-line``,
        ``doubled-rows``, ``spikes``, ``interpolated``, ``future``, or ``clock`` (far from all others, or from
        before there were such devices).
    :param sentence: what is seen, for people.
    :param count: how many records show it.
    :param first: instant of the first of them.
    """

    kind: str
    sentence: str
    count: int
    first: datetime | None = None


class HourOfDay(DescribedModel, frozen=True, kw_only=True):
    """Glucose in one hour of the day, in the unit of :class:`GlucoseFound`.

    :param hour: from 0 to 23.
    :param readings: how many.
    :param percentiles: the 5th, 25th, 50th, 75th and 95th.
    """

    hour: int
    readings: int
    percentiles: tuple[float, float, float, float, float]


class GlucoseFound(DescribedModel, frozen=True, kw_only=True):
    """Glucose values, of sensors if there are any, else of meters.

    :param unit: the unit in which most records state them, ``mg/dL`` or ``mmol/L``; that of all numbers here.
    :param readings: how many.
    :param lowest: the lowest value.
    :param highest: the highest.
    :param mean: their mean.
    :param below: share below 70 mg/dL (3.9 mmol/L), from 0 to 1.
    :param in_range: share from 70 to 180 mg/dL (3.9 to 10.0 mmol/L).
    :param above: share above.
    :param hours: by hour of the day, those with readings.
    """

    unit: Literal["mg/dL", "mmol/L"]
    readings: int
    lowest: float
    highest: float
    mean: float
    below: float
    in_range: float
    above: float
    hours: tuple[HourOfDay, ...] = ()


class DayFound(DescribedModel, frozen=True, kw_only=True):
    """One local day.

    :param day: which.
    :param records: accepted records of all types by hour, 24.
    :param types: accepted records by type.
    :param readings: glucose readings of sensors by hour, 24.
    :param bolus: insulin delivered at once, in units.
    :param basal: insulin delivered over time, or injected for it, in units.
    :param carbs: carbohydrate in grams.
    """

    day: date
    records: tuple[int, ...]
    types: dict[str, int]
    readings: tuple[int, ...]
    bolus: float = 0
    basal: float = 0
    carbs: float = 0


class Overlap(DescribedModel, frozen=True, kw_only=True):
    """An upload that the ledger knows, of the same device and of some of the same days.

    :param label: its label.
    :param state: its state.
    :param first_day: first UTC day that both have.
    :param last_day: last one.
    :param days: how many days both have.
    :param records: its accepted records on these days.
    """

    label: str
    state: str
    first_day: date
    last_day: date
    days: int
    records: int


class ColumnFound(DescribedModel, frozen=True, kw_only=True):
    """A column of a table that no mapping explains.

    :param name: as the header has it.
    :param holds: what its cells are: ``times``, ``dates``, ``times of day``, ``numbers``, ``text`` or
        ``nothing``.
    :param meaning: what it seems to be, by name and cells: ``time``, ``glucose``, ``carbs``, ``insulin``,
        ``device``, or empty.
    """

    name: str
    holds: Literal["times", "dates", "times of day", "numbers", "text", "nothing"]
    meaning: Literal["", "time", "glucose", "carbs", "insulin", "device"] = ""


class UnmappedTable(DescribedModel, frozen=True, kw_only=True):
    """A table of no format that is told by its headings: what a mapping of it may be.

    :param columns: its columns, in their order.
    :param rows: rows below the header.
    :param draft: a mapping to be corrected; ``None`` where no column of times, or no value, was recognized.
    :param needs_zone: whether its times are local, so that somebody has to say of which zone.
    :param questions: what somebody has to find out, a sentence each.
    """

    columns: tuple[ColumnFound, ...]
    rows: int
    draft: dict[str, Any] | None = None
    needs_zone: bool = False
    questions: tuple[str, ...] = ()


class Inspection(DescribedModel, frozen=True, kw_only=True):
    """What one file is, or several that are read together.

    :param files: them.
    :param format: their format; empty where it is none that is known.
    :param holds: why a run would stop at them as they are; what follows is as if they were meant so.
    :param is_readable: whether they could be read to the end, so that what follows is there.
    :param devices: the devices in them.
    :param zone: the time zone.
    :param first: instant of the first accepted record, in UTC.
    :param last: instant of the last.
    :param rows: rows in all files.
    :param accepted: records that Tidepool would take.
    :param rejected: records and rows that it would not take, or we would not.
    :param duplicates: records that are equal to another one.
    :param types: records by type.
    :param rejections: why records and rows are not taken.
    :param warnings: what is reported about records that are taken.
    :param left_out: rows that are no reading, by reason.
    :param days: the local days with records, in order.
    :param utc_days: the UTC days with records, by which uploads are compared.
    :param gaps: times without readings, the longest first; at most 50 of them.
    :param reading_minutes: usual minutes between readings of a sensor; 0 where they are not regular.
    :param gap_count: how many gaps there are.
    :param gap_hours: how long they are together.
    :param suspicions: values that look wrong.
    :param glucose: glucose values, if there are any.
    :param overlaps: what the ledger knows of the same days; ``None`` where none was asked.
    :param table: what a table without a mapping holds.
    """

    files: tuple[InspectedFile, ...]
    format: str
    holds: tuple[Hold, ...] = ()
    is_readable: bool = True
    devices: tuple[InspectedDevice, ...] = ()
    zone: ZoneFinding = field(default_factory=lambda: ZoneFinding(needed=False))
    first: datetime | None = None
    last: datetime | None = None
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    types: tuple[TypeFound, ...] = ()
    rejections: tuple[ReasonFound, ...] = ()
    warnings: tuple[ReasonFound, ...] = ()
    left_out: dict[str, int] = {}
    days: tuple[DayFound, ...] = ()
    utc_days: tuple[date, ...] = ()
    gaps: tuple[Gap, ...] = ()
    reading_minutes: int = 0
    gap_count: int = 0
    gap_hours: float = 0
    suspicions: tuple[Suspicion, ...] = ()
    glucose: GlucoseFound | None = None
    overlaps: tuple[Overlap, ...] | None = None
    table: UnmappedTable | None = None


class Inspections(DescribedModel, frozen=True, kw_only=True):
    """What ``tidepool-ingest inspect --json`` writes. It holds health data.

    :param version: of this schema; counted up when a member goes or changes its meaning, not when one comes.
    :param inspections: one for each file, or for several that are read together.
    """

    version: int = SCHEMA_VERSION
    inspections: tuple[Inspection, ...]
