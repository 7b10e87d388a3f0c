"""What the files of a Nightscout site say, read a second time, in memory and simply.

Written from the description of the format in docs/formats.md. All documents are held; what was delivered is
found by looking at every moment at which something changes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise, zip_longest
from typing import Any

from tidepool_simulator.sample.checker.cells import Clock, Record, RowError
from tidepool_simulator.sample.checker.files import UnreadableError
from tidepool_simulator.sample.checker.nightscout_documents import (
    DEVICE,
    FASTEST_PUMP,
    GOES_ON,
    MG_IN_MMOL,
    MINUTE,
    OF_A_PUMP,
    RUNS,
    SECOND,
    SENSOR_ERRORS,
    STOPPED,
    STOPS,
    TRENDS,
    UNKNOWN,
    WEEK,
    Document,
    Event,
    Program,
    Rows,
    Told,
    by_a_loop,
    calculation_of,
    default_of,
    documents_of,
    dose_fields,
    dose_of,
    event_of,
    in_use,
    inside,
    is_other_entry,
    kind_of,
    lasting,
    milliseconds,
    moment,
    number,
    plain,
    schedule_of,
    settings_of,
    stores_of,
    target_of,
    text,
    unit_named,
    units_of,
    written,
    zone_meant,
)


def nightscout_rows(
    files: Sequence[tuple[bytes, Mapping[str, Any]]], timezone: object, device_id: str | None
) -> list[Rows]:
    """Return what each document of each file becomes.

    :param files: content, and entry in the manifest, of all the batch's files of this format.
    :param timezone: of the data set; None when it names none.
    :param device_id: of the data set.
    :raises UnreadableError: a file cannot be read.
    """
    zones = next((entry["timezone"] for _content, entry in files if entry.get("timezone")), timezone)
    site = _Site(device_id or DEVICE, Clock(zones) if zones else None)
    placed: list[list[Told | None]] = []
    for content, entry in files:
        rows: list[Told | None] = []
        for document in documents_of(content):
            rows.append(None if document is None else site.see(document, bool(entry.get("keepNotes"))))
        if rows and not any(row is not None and row.kind for row in rows):
            raise UnreadableError
        placed.append(rows)
    site.settle()
    return [[[None] if row is None else row.records for row in rows] for rows in placed]


class _Site:
    """All documents of a batch."""

    def __init__(self, device_id: str, clock: Clock | None) -> None:
        self.device_id = device_id
        self.clock = clock
        self.all: list[Told] = []
        self.usual: str | None = None
        self.changes: list[tuple[datetime, Program | None]] = []
        self.doses: dict[tuple[datetime, float], list[Told]] = defaultdict(list)
        self.carbs: dict[tuple[datetime, float], list[Told]] = defaultdict(list)

    def see(self, document: Document, keeps_notes: bool) -> Told:
        """Take a document, and find when it was."""
        kind = kind_of(document)
        told = Told(document, kind, datetime.min, keeps_notes=keeps_notes)
        names: tuple[str, ...] = ("created_at", "date", "mills", "timestamp", "eventTime")
        if kind == "entry":
            names = ("date", "mills", "dateString", "sysTime", "created_at")
        elif kind == "profile":
            names = ("startDate", "mills", "created_at", "date")
        try:
            if not kind:
                raise RowError
            if kind == "entry" and (not told.is_valid or is_other_entry(document)):
                return told
            if kind != "status":
                told.at = moment(document, *names)
        except RowError:
            if kind != "profile" and told.is_valid:
                told.records = [None]
                return told
        named = (plain(document.get(name)) for name in ("identifier", "syncIdentifier", "id", "_id"))
        told.name = next((str(name).strip() for name in named if name not in (None, "")), "")
        told.event = " ".join(text(document, "eventType").lower().split())
        self.all.append(told)
        return told

    def settle(self) -> None:
        """Find what each document becomes."""
        self._name()
        self._entries()
        treatments = [told for told in self.all if told.kind == "treatment" and told.is_valid]
        self._profiles(treatments)
        for told in treatments:
            try:
                self._see_amounts(told)
            except RowError:
                told.records = [None]
        treatments = [told for told in treatments if told.records != [None]]
        events = self._basal_events(treatments)
        self._fingers(treatments)
        for told in treatments:
            try:
                self._amounts(told)
            except RowError:
                told.records = [None]
        self._deliver(events, treatments)
        self._targets(treatments)
        for told in treatments:
            self._note(told)

    # ------------------------------------------------------------------ names

    def _name(self) -> None:
        """Keep the newest of several versions of a document, and name what has no name."""
        by_name: dict[tuple[bool, str], list[Told]] = defaultdict(list)
        nameless: dict[tuple[str, datetime], int] = defaultdict(int)
        for told in self.all:
            if told.name:
                by_name[(told.kind == "entry", told.name)].append(told)
            else:
                key = (told.kind, told.at)
                told.name = written(told.at) + ("" if told.kind == "profile" else f":{nameless[key]}")
                nameless[key] += 1
        for (is_entry, name), same in by_name.items():
            if is_entry or len(same) < 2:
                continue
            own = {str(plain(told.document.get("_id"))) for told in same}
            if len(own) > 1 and len({told.at for told in same}) > 1:
                for told in same:
                    other = text(told.document, "_id")
                    told.name = other if other not in ("", name) else f"{name}:{written(told.at)}"
                continue
            newest = max(
                enumerate(same), key=lambda each: (number(each[1].document, "srvModified") or 0, each[0])
            )[1]
            self.all = [told for told in self.all if told not in same or told is newest]

    def _put(self, told: Told, kind: str, *names: str, at: datetime | None = None, **more: Any) -> Record:
        record = self._record(kind, at or told.at, ":".join((kind, *(names or (told.name,)))), more)
        told.records.append(record)
        return record

    def _record(self, kind: str, at: datetime, name: str, more: Mapping[str, Any]) -> Record:
        record: Record = {"type": kind, "time": written(at), "deviceId": self.device_id}
        program = self._program(at)
        clock = program.clock if program is not None else self.clock
        if clock is not None:
            ahead = clock.offset_at(at, at)
            record["deviceTime"] = (at + ahead).replace(microsecond=0).isoformat()
            record["timezoneOffset"] = round(ahead / MINUTE)
        return {**record, **more, "origin": {"id": name}}

    # ------------------------------------------------------------------ entries

    def _entries(self) -> None:
        first: dict[tuple[str, datetime, float], Told] = {}
        read: dict[int, tuple[str, float, str]] = {}
        for told in self.all:
            if told.kind != "entry":
                continue
            document = told.document
            kind = "mbg" if document.get("type") == "mbg" or "sgv" not in document else "sgv"
            units = unit_named(text(document, "units")) or "mg/dL"
            try:
                value = number(document, kind)
                if value is None or (kind == "mbg" and value <= 0):
                    raise RowError
                if kind == "sgv" and units == "mg/dL" and value <= SENSOR_ERRORS:
                    raise RowError
            except RowError:
                told.records = [None]
                continue
            read[id(told)] = kind, value, units
            key = kind, told.at, value
            first[key] = min(first.get(key, told), told, key=lambda each: each.name)
        self.measured = []
        self.profile_entries = []
        for (kind, at, value), told in first.items():
            self.profile_entries.append((told, *read[id(told)]))
            if kind == "mbg":
                units = read[id(told)][2]
                self.measured.append((at, value if units == "mmol/L" else value / MG_IN_MMOL))

    def _write_entries(self) -> None:
        for told, kind, value, units in self.profile_entries:
            if kind == "mbg":
                self._put(told, "smbg", units=units, value=value)
                continue
            more: Record = {"units": units, "value": value}
            if trend := TRENDS.get(str(told.document.get("direction")).lower()):
                more["trend"] = trend
            raw = {}
            for name in ("noise", "filtered", "unfiltered", "rssi"):
                try:
                    said = number(told.document, name)
                except RowError:
                    continue
                if said is not None:
                    raw[name] = said
            more |= {"payload": raw} if raw else {}
            self._put(told, "cbg", **more)

    # ------------------------------------------------------------------ profiles

    def _profiles(self, treatments: Sequence[Told]) -> None:
        """Find which profile was in force when, and write the records of entries, which need its clock."""
        documents = [told for told in self.all if told.kind == "profile" and told.is_valid]
        stored = sorted(((told, stores_of(told.document)) for told in documents), key=lambda one: one[0].at)
        named = {
            unit_named(text(one, "units"))
            for told, stores in stored
            for one in (told.document, *stores.values())
        } - {None}
        self.usual = named.pop() if len(named) == 1 else None
        switches = sorted(
            (told for told in treatments if told.event == "profile switch"), key=lambda told: told.at
        )
        ends = [
            told.at + lasting(told.document) if lasting(told.document) else datetime.max for told in switches
        ]
        moments = {told.at for told in (*documents, *switches)} | (set(ends) - {datetime.max})
        for at in sorted(moments):
            begun = [(told, stores) for told, stores in stored if told.at <= at]
            known = {
                name: program
                for name, store in (begun[-1][1] if begun else {}).items()
                if (program := self._program_of(name, store)) is not None
            }
            default = text(begun[-1][0].document, "defaultProfile") if begun else ""
            if not default and len(known) == 1:
                (default,) = known
            self.changes.append((at, self._chosen(known, default, switches, ends, at)))
        self._write_entries()
        last: object = None
        for told, stores in stored:
            same = (default_of(told.document, stores), text(told.document, "units"), stores)
            if same != last and told.at > datetime.min:
                self._settings(told, stores)
            last = same

    def _chosen(
        self,
        known: Mapping[str, Program],
        default: str,
        switches: Sequence[Told],
        ends: Sequence[datetime],
        at: datetime,
    ) -> Program | None:
        """Return the program in force at a moment: of the latest switch that has not ended, else the default.

        One for good has ended those before it.
        """
        running: list[Told] = []
        for told, end in zip(switches, ends, strict=True):
            if told.at <= at:
                running = [*([] if end == datetime.max else running), told]
        while running and ends[switches.index(running[-1])] <= at:
            running.pop()
        if not running:
            return known.get(default)
        document = running[-1].document
        name = text(document, "originalProfileName") or text(document, "profile")
        brought = inside(document, "profileJson")
        base = self._program_of(name, brought) if brought else known.get(name)
        if base is None:
            return None
        share = (number(document, "percentage") or 100) / 100
        shift = number(document, "timeshift", "timeShift") or 0
        later = round(shift * 3600 if abs(shift) <= 24 else shift / 1000)
        rates = sorted(((second + later) % 86400, round(rate * share, 6)) for second, rate in base.rates)
        return Program(base.name, base.clock, tuple(rates))

    def _program_of(self, name: str, store: Document) -> Program | None:
        try:
            rates = schedule_of(store, "basal")
        except RowError:
            return None
        zone = text(store, "timezone")
        clock = self.clock
        if zone:
            try:
                clock = Clock(zone_meant(zone))
            except UnreadableError:
                clock = self.clock
        return None if any(rate < 0 for _second, rate in rates) else Program(name, clock, tuple(rates))

    def _program(self, at: datetime) -> Program | None:
        found = None
        for since, program in self.changes:
            if since <= at:
                found = program
        return found

    def _settings(self, told: Told, stores: Mapping[str, Document]) -> None:
        default = default_of(told.document, stores)
        said = {unit_named(text(one, "units")) for one in (told.document, *stores.values())} - {None}
        if len(said) != 1 or not default:
            told.records = [None]
            return
        try:
            record = settings_of(default, said.pop(), stores)
        except RowError:
            told.records = [None]
            return
        self._put(told, "pumpSettings", **record)

    # ------------------------------------------------------------------ amounts

    def _see_amounts(self, told: Told) -> None:
        if dose := dose_of(told):
            self.doses[(told.at, dose)].append(told)
        if carbs := number(told.document, "carbs"):
            self.carbs[(told.at, carbs)].append(told)

    def _amounts(self, told: Told) -> None:
        document, dose, carbs = told.document, dose_of(told), number(told.document, "carbs")
        calculated = calculation_of(document, self.usual)
        if dose:
            same = self.doses[(told.at, dose)]
            if told is min(same, key=lambda each: each.name):
                kind, names, fields = dose_fields(told, dose, automated=any(map(by_a_loop, same)))
                if calculated and kind == "bolus":
                    calculated["bolus"] = self._record(kind, told.at, f"bolus:{told.name}", fields)
                else:
                    self._put(told, kind, *names, **fields)
        if calculated:
            self._put(told, "wizard", **calculated)
        self._food(told, carbs)
        if (value := self.fingers.get(id(told))) is not None:
            self._put(told, "smbg", units=value[1], value=value[0])

    def _food(self, told: Told, carbs: float | None) -> None:
        document, nutrition = told.document, dict[str, Any]()
        if carbs and told is min(self.carbs[(told.at, carbs)], key=lambda each: each.name):
            nutrition["carbohydrate"] = {"net": carbs, "units": "grams"}
        if not carbs or nutrition:
            for part in ("fat", "protein"):
                if grams := number(document, part):
                    nutrition[part] = {"total": grams, "units": "grams"}
        if nutrition:
            if minutes := number(document, "absorptionTime"):
                nutrition["estimatedAbsorptionDuration"] = round(minutes * 60)
            name = text(document, "foodType")
            more: Record = {"name": name} if 0 < len(name) <= 100 else {}
            self._put(told, "food", nutrition=nutrition, **more)

    def _fingers(self, treatments: Sequence[Told]) -> None:
        """Find the finger values that are told by no entry, and by no treatment before."""
        self.fingers: dict[int, tuple[float, str]] = {}
        known = list(self.measured)
        for told in sorted(treatments, key=lambda each: (each.at, each.name)):
            if text(told.document, "glucoseType").lower() != "finger":
                continue
            try:
                value = number(told.document, "glucose")
                if not value or value < 0:
                    continue
                units = units_of(told.document, [value], self.usual)
            except RowError:
                told.records = [None]
                continue
            in_mmol = value if units == "mmol/L" else value / MG_IN_MMOL
            if any(abs(at - told.at) <= MINUTE and abs(one - in_mmol) < 0.051 for at, one in known):
                continue
            known.append((told.at, in_mmol))
            self.fingers[id(told)] = value, units

    # ------------------------------------------------------------------ basal

    def _basal_events(self, treatments: Sequence[Told]) -> list[Event]:
        events = []
        for told in treatments:
            try:
                event = event_of(told)
            except RowError:
                told.records = [None]
                continue
            if event is not None:
                events.append(event)
        rates = [event for event in events if event.order == RUNS and event.rate]
        for writer in {event.writer for event in rates}:
            own = [event for event in rates if event.writer == writer]
            high = [event for event in own if (event.rate or 0) > FASTEST_PUMP]
            for event in own if len(high) >= 3 and 2 * len(high) > len(own) else high:
                event.order, event.is_refused = UNKNOWN, True
        return events

    def _deliver(self, events: list[Event], treatments: Sequence[Told]) -> None:
        signs = sorted(
            {
                told.at
                for told in treatments
                if told.event in OF_A_PUMP
                or told.document.get("pumpId")
                or (dose_of(told) and by_a_loop(told))
            }
        )
        events.sort(key=lambda event: (event.at, event.order, event.told.name))
        kept: list[Event] = []
        for event in events:
            if kept and kept[-1].at == event.at:
                before = kept.pop()
                said = (event.order, event.until, event.rate, event.share)
                if said == (before.order, before.until, before.rate, before.share):
                    before.automated |= event.automated
                    event = before
            kept.append(event)
        ends = []
        for event, after in zip_longest(kept, kept[1:]):
            ends.append(self._place(event, after.at if after is not None else None))
        self._fill(kept, ends, signs)
        for event in events:
            if (event.is_refused or event.order == UNKNOWN) and not event.told.records:
                event.told.records = [None]

    def _fill(self, kept: Sequence[Event], ends: Sequence[datetime], signs: Sequence[datetime]) -> None:
        """Write what was scheduled between what an event has begun and the next one."""
        before_this: Told | None = None
        for (event, end), (after, _end) in pairwise(zip(kept, ends, strict=True)):
            refused = event.is_refused or event.order == UNKNOWN
            before_this = before_this if refused else event.told
            after_refused = after.is_refused or after.order == UNKNOWN
            carrier = before_this or (None if after_refused else after.told)
            if event.order != STOPPED and carrier is not None:
                for start, until in in_use([end, *(at for at in signs if end < at < after.at), after.at]):
                    for begins, ceases, rate, name in self._rates(start, until):
                        self._scheduled(carrier, begins, ceases, rate, name)

    def _scheduled(self, told: Told, begins: datetime, ceases: datetime, rate: float, name: str) -> None:
        while begins < ceases:
            ends = min(ceases, begins + WEEK)
            more: Record = {"duration": milliseconds(ends - begins), "rate": rate}
            more |= {"scheduleName": name} if name else {}
            self._put(
                told, "basal", "scheduled", written(begins), at=begins, deliveryType="scheduled", **more
            )
            begins = ends

    def _place(self, event: Event, after: datetime | None) -> datetime:
        """Write what an event begins, and return when that ends."""
        until = event.until or event.at
        if event.order == STOPPED:
            if after is not None and event.at < after <= event.at + WEEK:
                ms = milliseconds(after - event.at)
                self._put(event.told, "basal", deliveryType="suspend", duration=ms)
            return after or event.at
        if event.order == UNKNOWN:
            return until if after is None else min(until, after)
        if event.order != RUNS:
            return event.at
        is_cut = after is not None and until + SECOND > after
        end = after if is_cut and after is not None else until
        planned, lasted = until - event.at, end - event.at
        fields: dict[str, Any] = {"deliveryType": "automated" if event.automated else "temp"}
        expected = {"expectedDuration": milliseconds(planned)} if lasted < planned <= WEEK else {}
        if event.share is None:
            if lasted > timedelta():
                fields |= {"duration": milliseconds(lasted), "rate": event.rate} | expected
                self._put(event.told, "basal", **fields)
            return end
        parts = list(self._rates(event.at, min(end, event.at + WEEK)))
        if not parts or parts[0][0] != event.at:
            event.is_refused = True
            return end
        for piece, (begins, ceases, rate, _name) in enumerate(parts if after is not None else parts[:1]):
            record = fields | {
                "duration": milliseconds(ceases - begins),
                "rate": round(rate * event.share, 6),
                "suppressed": {"type": "basal", "deliveryType": "scheduled", "rate": rate},
            }
            record |= expected if len(parts) == 1 else {}
            record |= {"percent": event.share} if not event.automated else {}
            names = (event.told.name, *([str(piece)] if piece else []))
            self._put(event.told, "basal", *names, at=begins, **record)
        return end

    def _rates(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, float, str]]:
        """Yield which scheduled rate was in force from when until when, where it is known."""
        if start >= end:
            return
        moments = {start, end} | {at for at, _program in self.changes if start < at < end}
        for at in sorted(moments - {end}):
            program = self._program(at)
            day = at
            while program is not None and program.rates and day < end + timedelta(days=1):
                moments |= {begins for begins, _rate in program.begins(day) if start < begins < end}
                day += timedelta(days=1)
        open_part: tuple[datetime, datetime, float, str] | None = None
        for begins, ceases in pairwise(sorted(moments)):
            program = self._program(begins)
            rate = program.at(begins) if program is not None and program.rates else None
            if program is None or rate is None:
                continue
            if open_part is not None and open_part[1:] == (begins, rate, program.name):
                open_part = (open_part[0], ceases, rate, program.name)
                continue
            if open_part is not None:
                yield open_part
            open_part = (begins, ceases, rate, program.name)
        if open_part is not None:
            yield open_part

    # ------------------------------------------------------------------ events

    def _targets(self, treatments: Sequence[Told]) -> None:
        """Write what is neither an amount nor basal, and how long targets were in force."""
        for told in treatments:
            event = told.event
            if event in STOPS or event in GOES_ON:
                status = "suspended" if event in STOPS else "resumed"
                reason = {status: "unknown"}
                self._put(told, "deviceEvent", subType="status", status=status, reason=reason)
            elif event in ("site change", "cannula change", "pod change"):
                self._put(told, "deviceEvent", subType="prime", primeTarget="cannula")
            if event in ("insulin change", "insulin cartridge change", "reservoir change"):
                self._put(told, "deviceEvent", subType="reservoirChange")
            elif event == "pod change":
                self._put(told, "deviceEvent", told.name, "reservoir", subType="reservoirChange")
            elif event == "exercise":
                minutes = lasting(told.document) / MINUTE
                more: Record = {"duration": {"units": "minutes", "value": minutes}} if minutes else {}
                self._put(told, "physicalActivity", **more)
        for words in (("temporary target", "temp target"), ("temporary override",)):
            temporary = [told for told in treatments if told.event.startswith(words)]
            temporary.sort(key=lambda told: told.at)
            for told, after in zip_longest(temporary, temporary[1:]):
                try:
                    self._target(told, after)
                except RowError:
                    told.records = [None]

    def _target(self, told: Told, after: Told | None) -> None:
        """Write a temporary target or override, until the next one of its kind."""
        planned = lasting(told.document)
        is_override = "override" in told.event
        endless = is_override and number(told.document, "duration", "durationInMilliseconds") is None
        if told.event.endswith("cancel") or not (planned or endless):
            return
        fields = target_of(told.document, self.usual, is_override=is_override)
        if after is not None and (endless or told.at + planned > after.at):
            fields["duration"] = round((after.at - told.at) / SECOND)
            if planned > after.at - told.at:
                fields["expectedDuration"] = round(planned / SECOND)
        elif planned:
            fields["duration"] = round(planned / SECOND)
        self._put(told, "deviceEvent", **fields)

    def _note(self, told: Told) -> None:
        notes = text(told.document, "notes") if told.keeps_notes else ""
        if not notes or told.records == [None]:
            return
        pieces = [notes[start : start + 1000] for start in range(0, len(notes), 1000)][:100]
        if told.records and told.records[0] is not None:
            told.records[0]["notes"] = pieces
        elif told.event in ("note", "announcement", "question", "d.a.d. alert"):
            states = [{"state": "other", "stateOther": "note"}]
            self._put(told, "reportedState", states=states, notes=pieces)
