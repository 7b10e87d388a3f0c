"""Inspections as text for a terminal: from what a file is to what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, tzinfo
from typing import Final

from tidepool_ingest.cli.heat_map import day_text, draw
from tidepool_ingest.cli.inspect_next import (
    Invocation,
    files_of,
    is_broken,
    show_next,
)
from tidepool_ingest.cli.inspect_table import show_table
from tidepool_ingest.cli.terminal import BAD, BOLD, DIM, GOOD, Sheet, Terminal, printable
from tidepool_ingest.codes import explained
from tidepool_ingest.codes.left_out import NOTHING_TO_DO
from tidepool_ingest.errors import as_sentence
from tidepool_ingest.formats.row_counts import OTHER_DEVICE
from tidepool_ingest.inspection.findings import Gap, Inspection, ReasonFound, ZoneFinding
from tidepool_ingest.inspection.gathering import SENSOR, coverage_of
from tidepool_ingest.inspection.inspecting import RELEASABLE, title_of
from tidepool_ingest.local_times import zone_named

MOST_REASONS: Final = 12
MOST_PLACES: Final = 5
MOST_GAPS: Final = 5
MOST_CANDIDATES: Final = 6
MOST_OVERLAPS: Final = 8

UTC_ZONE: Final = "Etc/UTC"

TYPES_IN_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "alert": ("alert", "alerts"),
    "basal": ("basal rate", "basal rates"),
    "bloodKetone": ("ketone reading", "ketone readings"),
    "bolus": ("bolus", "boluses"),
    "cbg": ("sensor reading", "sensor readings"),
    "cgmSettings": ("set of sensor settings", "sets of sensor settings"),
    "deviceEvent": ("device event", "device events"),
    "dosingDecision": ("dosing decision", "dosing decisions"),
    "food": ("meal", "meals"),
    "insulin": ("insulin dose", "insulin doses"),
    "physicalActivity": ("activity", "activities"),
    "pumpSettings": ("set of pump settings", "sets of pump settings"),
    "reportedState": ("reported state", "reported states"),
    "smbg": ("meter reading", "meter readings"),
    "unreadable": ("unreadable row", "unreadable rows"),
    "wizard": ("bolus calculation", "bolus calculations"),
}

_COMPRESSIONS: Final = {"gz": "gzip", "zst": "zstd"}


def inspections_as_text(inspections: Sequence[Inspection], terminal: Terminal, invocation: Invocation) -> str:
    """Return what was found, in words and with a picture.

    :param inspections: of each file, or of several that are read together; of each device in them.
    :param terminal: where the text goes.
    :param invocation: what was typed.
    """
    sheet = Sheet(terminal)
    groups = _by_files(inspections)
    for number, group in enumerate(groups):
        if number:
            sheet.blank()
            sheet.raw(terminal.styled(("─" if terminal.can_show("─") else "-") * terminal.width, DIM))
            sheet.blank()
        for at, inspection in enumerate(group, 1):
            showing = _Showing(inspection, sheet)
            showing.show_what_it_is(at, len(group))
            if len(group) == 1:
                _show_common(group, sheet)
            showing.show_what_to_look_at()
        if len(group) > 1:
            _show_common(group, sheet)
        show_next(group, sheet, invocation)
    if len(groups) > 1:
        _show_summary(groups, sheet)
    return str(sheet)


def _by_files(inspections: Sequence[Inspection]) -> list[list[Inspection]]:
    groups: list[list[Inspection]] = []
    for inspection in inspections:
        if groups and _is_next_device(inspection, groups[-1]):
            groups[-1].append(inspection)
        else:
            groups.append([inspection])
    return groups


def _is_next_device(inspection: Inspection, group: Sequence[Inspection]) -> bool:
    """Return whether an inspection is of the same files as those before it, and of another device."""
    serials = {device.serial for one in group for device in one.devices}
    own = {device.serial for device in inspection.devices}
    return (
        files_of(inspection) == files_of(group[0]) and bool(own) and "" not in own and own.isdisjoint(serials)
    )


def names_of(inspection: Inspection) -> str:
    """Return the names of the files as they were typed, printable."""
    return ", ".join(printable(file.name) for file in inspection.files)


class _Showing:
    """Writes one inspection.

    :param found: it.
    :param sheet: where it goes.
    """

    def __init__(self, found: Inspection, sheet: Sheet) -> None:
        self._found = found
        self._sheet = sheet
        self._zone: tzinfo = zone_named(found.zone.used)

    def show_what_it_is(self, number: int, of: int) -> None:
        """Write what the file is, what is in it, and what of it is not taken.

        :param number: which device of the file.
        :param of: how many there are.
        """
        if number == 1:
            self._show_title()
        elif of > 1:
            self._sheet.blank()
        self._show_device(number, of)
        if self._found.table is not None:
            show_table(self._found.table, self._sheet)
        elif self._found.is_readable:
            self._show_numbers()
            self._show_map()
            self._show_reasons()

    def show_what_to_look_at(self) -> None:
        """Write what somebody should look at, although nothing is rejected for it."""
        if self._found.is_readable and self._found.table is None:
            self._show_gaps()
            self._show_suspicions()
            self._show_overlaps()

    def _show_title(self) -> None:
        found, sheet = self._found, self._sheet
        kinds = dict.fromkeys(file.kind for file in found.files if file.kind)
        packed = dict.fromkeys(_COMPRESSIONS.get(file.compression, "") for file in found.files)
        words = [title_of(found), *kinds, *filter(None, packed)]
        if len(found.files) > 1:
            words.append(f"{len(found.files)} files")
        sheet.heading(", ".join(words))
        sheet.text(names_of(found), DIM)
        sheet.blank()

    def _show_device(self, number: int, of: int) -> None:
        devices = self._found.devices
        if not devices:
            return
        label = f"Device {number}" if of > 1 else "Device"
        named = [printable(_device_name(device.fields, device.serial)) for device in devices]
        shown = named[:5]
        if len(named) > len(shown):
            shown.append(f"and {len(named) - len(shown)} more")
        self._sheet.labelled(label, "; ".join(shown))

    def _show_numbers(self) -> None:
        found, sheet = self._found, self._sheet
        if found.days:
            first, last = found.days[0].day, found.days[-1].day
            whole = (last - first).days + 1
            if len(found.days) == whole:
                days = _counted(whole, "day")
            else:
                days = f"{len(found.days):,} of {_counted(whole, 'day')} with data"
            sheet.labelled("Days", f"{_span(first, last)}: {days}{self._whose_time()}")
        every = f" (one every {found.reading_minutes} minutes)" if found.reading_minutes else ""
        taken = [
            _of_type(kind.type, kind.accepted) + (every if kind.type == SENSOR else "")
            for kind in found.types
            if kind.accepted
        ]
        sheet.labelled("Records", ", ".join(taken) or "none that Tidepool would take")
        if found.duplicates:
            sheet.labelled("", f"{found.duplicates:,} more are equal to another one, and count once")
        self._show_glucose()
        self._show_amounts()

    def _whose_time(self) -> str:
        zone = self._found.zone
        if zone.needed and zone.stated is None and zone.used == UTC_ZONE:
            return " (as the clock showed them)"
        return f" ({printable(zone.used)})"

    def _show_glucose(self) -> None:
        glucose = self._found.glucose
        if glucose is None:
            return
        digits, limits = (0, "70 to 180") if glucose.unit == "mg/dL" else (1, "3.9 to 10.0")
        span = f"from {glucose.lowest:.{digits}f} to {glucose.highest:.{digits}f}"
        self._sheet.labelled("Glucose", f"mean {glucose.mean:.{digits}f} {glucose.unit}, {span}")
        shares = f"{_percent(glucose.in_range)} ({limits}), {_percent(glucose.below)} below"
        self._sheet.labelled("In range", f"{shares}, {_percent(glucose.above)} above")

    def _show_amounts(self) -> None:
        days = self._found.days
        with_insulin = [day for day in days if day.bolus or day.basal]
        if with_insulin:
            count = len(with_insulin)
            bolus = sum(day.bolus for day in with_insulin) / count
            basal = sum(day.basal for day in with_insulin) / count
            text = f"{bolus + basal:.1f} units a day"
            if bolus and basal:
                text += f", {bolus:.1f} bolus and {basal:.1f} basal"
            self._sheet.labelled("Insulin", f"{text}, on {_counted(count, 'day')}")
        with_carbs = [day for day in days if day.carbs]
        if with_carbs:
            carbs = sum(day.carbs for day in with_carbs) / len(with_carbs)
            self._sheet.labelled("Carbs", f"{carbs:.0f} g a day, on {_counted(len(with_carbs), 'day')}")

    def _show_map(self) -> None:
        if not self._found.days:
            return
        has_sensor = any(any(day.readings) for day in self._found.days)
        self._sheet.blank()
        what = "readings" if has_sensor else "records"
        draw(coverage_of(self._found.days), self._sheet, what, self._zone)

    def _show_reasons(self) -> None:
        found, sheet = self._found, self._sheet
        if found.rejections:
            sheet.heading(f"Rejected: {found.rejected:,} of {_counted(found.rows, 'row')}", BAD)
            self._show_each(found.rejections)
        if found.warnings:
            sheet.heading("Taken, but reported", sheet.terminal.warning)
            self._show_each(found.warnings)
        # Of each device's view, the rows of the others are none; they are shown with their own.
        left_out = {code: number for code, number in found.left_out.items() if code != OTHER_DEVICE}
        if left_out:
            total = sum(left_out.values())
            sheet.heading(f"No reading, and left out: {_counted(total, 'row')}")
            ordered = sorted(left_out.items(), key=lambda item: (-item[1], item[0]))
            self._show_counted([(number, code, _meaning(code), "") for code, number in ordered])

    def _show_each(self, reasons: Sequence[ReasonFound]) -> None:
        by_code: dict[str, list[ReasonFound]] = {}
        for reason in reasons:
            by_code.setdefault(reason.code, []).append(reason)
        rows = []
        for code, same in by_code.items():
            kinds = ", ".join(dict.fromkeys(_about(reason, len(same) > 1) for reason in same))
            number = sum(reason.count for reason in same)
            places = list(dict.fromkeys(place for reason in same for place in reason.places))
            head = f"{code} ({kinds})" if kinds else code
            has_more = len(places) > MOST_PLACES or any(one.count > len(one.places) for one in same)
            where = _places(places[:MOST_PLACES], has_more=has_more)
            rows.append((number, printable(head), _meaning(code), printable(where)))
        rows.sort(key=lambda row: -row[0])
        self._show_counted(rows)

    def _show_counted(self, rows: Sequence[tuple[int, str, str, str]]) -> None:
        """Write what there is several times: how often, what, in words, and where."""
        sheet = self._sheet
        shown = rows[:MOST_REASONS]
        wide = max(len(f"{number:,}") for number, *_ in shown)
        for number, head, meaning, where in shown:
            sheet.item(f"{number:,}".rjust(wide), head)
            if meaning:
                sheet.text(meaning, DIM, indent=wide + 4)
            if where:
                sheet.text(where, indent=wide + 4)
        if len(rows) > len(shown):
            sheet.text(f"and {len(rows) - len(shown)} more reasons; --json has all of them", indent=2)

    def _show_gaps(self) -> None:
        gaps = self._found.gaps
        if not gaps:
            return
        number = max(self._found.gap_count, len(gaps))
        whole = f", {_length(self._found.gap_hours)} in all" if number > 1 and self._found.gap_hours else ""
        self._sheet.heading(f"{_counted(number, 'gap')} without readings{whole}")
        for gap in gaps[:MOST_GAPS]:
            self._sheet.item(_length(gap.hours).rjust(8), self._from_to(gap))
        if number > (shown := min(MOST_GAPS, len(gaps))):
            self._sheet.text(f"and {number - shown:,} shorter", indent=2)

    def _from_to(self, gap: Gap) -> str:
        clocks = gap.clocks_in(self._zone)
        text = f"from {self._moment(gap.start)} to {self._moment(gap.end)}"
        return f"{text} ({clocks})" if clocks else text

    def _moment(self, instant: datetime) -> str:
        local = instant.astimezone(self._zone)
        return f"{day_text(local.date(), with_year=True)} {local:%H:%M}"

    def _show_suspicions(self) -> None:
        if not self._found.suspicions:
            return
        sheet = self._sheet
        sheet.heading("Valid, but looks wrong", sheet.terminal.warning)
        for suspicion in self._found.suspicions:
            first = f", first on {self._moment(suspicion.first)}" if suspicion.first else ""
            count = f" ({_counted(suspicion.count, 'record')}{first})" if suspicion.count else ""
            text = f"{suspicion.sentence.rstrip('.')}{count}."
            sheet.item("!", printable(text), sheet.terminal.warning)

    def _show_overlaps(self) -> None:
        overlaps, sheet = self._found.overlaps, self._sheet
        if overlaps is None:
            return
        sheet.heading("In the ledger")
        if not overlaps:
            sheet.text("No upload of this device is known on these days.", indent=2)
        for overlap in overlaps[:MOST_OVERLAPS]:
            days = _span(overlap.first_day, overlap.last_day)
            records = _counted(overlap.records, "record")
            text = f"{overlap.state}: {_counted(overlap.days, 'same day')}, {days}, {records}"
            sheet.item(printable(overlap.label), text)
        if len(overlaps) > MOST_OVERLAPS:
            sheet.text(f"and {len(overlaps) - MOST_OVERLAPS} more", indent=2)


def _show_common(group: Sequence[Inspection], sheet: Sheet) -> None:
    """Write what is true of files as a whole, whatever device: why a run would stop, and their time zone."""
    found = group[0]
    if found.table is not None:
        return
    for hold in dict.fromkeys(hold for inspection in group for hold in inspection.holds):
        is_over = not found.is_readable and hold.code not in RELEASABLE
        sheet.heading("It cannot be read" if is_over else "A run would stop at it", BAD)
        detail = f" ({hold.detail})" if hold.detail else ""
        sheet.text(f"{hold.what.rstrip('.')}{printable(detail)} [{hold.code}].", indent=2)
        sheet.text(hold.remedy, indent=2)
    for zone in dict.fromkeys(inspection.zone for inspection in group if not is_broken(inspection)):
        if zone.needed or zone.evidence or zone.candidates:
            _show_zone(zone, sheet)


def _show_zone(zone: ZoneFinding, sheet: Sheet) -> None:
    style = {"fits": GOOD, "contradicted": BAD}.get(zone.verdict, "")
    if zone.needed and zone.stated is None and zone.verdict != "fits":
        style = sheet.terminal.warning
    sheet.heading("Time zone", style)
    sheet.text(_zone_sentence(zone), indent=2)
    for seen in zone.evidence:
        sign, colour = {"for": ("+", GOOD), "against": ("-", BAD)}.get(seen.supports, ("?", DIM))
        sheet.item(sign, printable(seen.sentence), colour)
    if zone.candidates and zone.candidates != (zone.stated,):
        shown = [printable(name) for name in zone.candidates[:MOST_CANDIDATES]]
        more = len(zone.candidates) - len(shown)
        sheet.item("fits:", ", ".join(shown) + (f" and {more} more" if more else ""), GOOD)


def _zone_sentence(zone: ZoneFinding) -> str:
    if zone.stated is not None:
        verdict = {
            "fits": "what the file shows agrees.",
            "contradicted": "what the file shows contradicts it.",
            "open": "nothing in the file speaks for or against it.",
        }
        return f"{printable(zone.stated)}, as given: {verdict[zone.verdict]}"
    if not zone.needed:
        return "Each time says which instant it is."
    counted = f" Counted here in {printable(zone.used)}." if zone.used != UTC_ZONE else ""
    return f"Its times are local, and the file does not say of which zone.{counted}"


def _meaning(code: str) -> str:
    """Return what a code means, and what to do about it if there is anything."""
    explanation = explained(code)
    remedy = "" if explanation.remedy == NOTHING_TO_DO else explanation.remedy
    return f"{as_sentence(explanation.sentence)} {remedy}".strip()


def _about(reason: ReasonFound, is_one_of_several: bool) -> str:
    about = " ".join(filter(None, (reason.type, reason.field)))
    return f"{reason.count:,} {about}" if about and is_one_of_several else about


def _places(places: Sequence[str], *, has_more: bool) -> str:
    """Return the first places in short: `lines 3, 5, …` for `line 3`, `line 5`."""
    if not places:
        return ""
    more = ", …" if has_more else ""
    split = [place.rpartition(" ") for place in places]
    head = split[0][0]
    if len(places) > 1 and all(before == head and last.isdigit() for before, _, last in split):
        numbers = sorted(int(last) for _, _, last in split)
        return f"{head}s {', '.join(map(str, numbers))}{more}"
    return "; ".join(places) + more


# ---------------------------------------------------------------- several files


def _show_summary(groups: Sequence[Sequence[Inspection]], sheet: Sheet) -> None:
    terminal = sheet.terminal
    sheet.blank()
    sheet.raw(terminal.styled(("─" if terminal.can_show("─") else "-") * terminal.width, DIM))
    sheet.heading("All files")
    rows = [_summary_of(group) for group in groups]
    wide = max(len(f"{records:,}") for _, _, records, _, _ in rows)
    for name, what, records, verdict, style in rows:
        text = terminal.encodable(f"{name}: {what}")
        sheet.item(f"{records:,}".rjust(wide), f"{text}, {verdict}", BOLD, style=style)
    sheet.text("The numbers are records that Tidepool would take.", DIM, indent=2)


def _summary_of(group: Sequence[Inspection]) -> tuple[str, str, int, str, str]:
    found = group[0]
    accepted = sum(inspection.accepted for inspection in group)
    rejected = sum(inspection.rejected for inspection in group)
    name = " + ".join(printable(file.name.rsplit("/", 1)[-1]) for file in found.files)
    what = title_of(found)
    if found.table is not None:
        return name, what, 0, "needs a mapping", ""
    if any(inspection.holds for inspection in group):
        codes = dict.fromkeys(hold.code for inspection in group for hold in inspection.holds)
        return name, what, accepted, f"a run would stop at it: {', '.join(codes)}", BAD
    if found.zone.needed and found.zone.stated is None:
        return name, what, accepted, "needs a time zone", ""
    if rejected:
        return name, what, accepted, f"{rejected:,} rejected", ""
    return name, what, accepted, "ready to be staged", GOOD


# ---------------------------------------------------------------- words


def _device_name(fields: Mapping[str, object], serial: str) -> str:
    makers = fields.get("deviceManufacturers")
    maker = str(makers[0]) if isinstance(makers, list | tuple) and makers else ""
    model = str(fields.get("deviceModel") or "")
    name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}".strip()
    device_id = str(fields.get("deviceId") or "")
    number = str(fields.get("deviceSerialNumber") or serial or "")
    words = [name] if name else []
    if number and number not in name:
        words.append(f"serial number {number}")
    if device_id and device_id != number:
        words.append(f"id {device_id}" if words else device_id)
    return ", ".join(words) or "not named"


def _of_type(kind: str, count: int) -> str:
    one, many = TYPES_IN_WORDS.get(kind, (printable(kind), printable(kind)))
    return f"{count:,} {one if count == 1 else many}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _percent(share: float) -> str:
    if 0 < share < 0.01:
        return "under 1\N{NO-BREAK SPACE}%"
    if 0.99 < share < 1:
        return "over 99\N{NO-BREAK SPACE}%"
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _span(first: date, last: date) -> str:
    if first == last:
        return day_text(first, with_year=True)
    return f"{day_text(first, with_year=first.year != last.year)} to {day_text(last, with_year=True)}"


def _length(hours: float) -> str:
    if hours >= 48:
        days, rest = divmod(round(hours), 24)
        return f"{days} d {rest} h" if rest and days < 10 else f"{days} d"
    whole, minutes = divmod(round(hours * 60), 60)
    return f"{whole} h {minutes:02} m" if minutes and whole < 10 else f"{whole} h"
