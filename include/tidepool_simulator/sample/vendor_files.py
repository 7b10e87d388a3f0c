"""Files as vendors' programs give them, made up: Clarity and LibreView exports, a table with its mapping.

Each holds the traps that real ones have. Whose data they are is told apart from the file: nobody's, and the
names in their title rows are invented.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.write import DEFAULT_SEED

CLARITY_COLUMNS = (
    "Index",
    "Timestamp (YYYY-MM-DDThh:mm:ss)",
    "Event Type",
    "Event Subtype",
    "Patient Info",
    "Device Info",
    "Source Device ID",
    "Glucose Value (mg/dL)",
    "Insulin Value (u)",
    "Carb Value (grams)",
    "Duration (hh:mm:ss)",
    "Glucose Rate of Change (mg/dL/min)",
    "Transmitter Time (Long Integer)",
    "Transmitter ID",
)
CLARITY_COLUMNS_GERMAN = (
    "Index",
    "Zeitstempel (JJJJ-MM-TTThh:mm:ss)",
    "Ereignisart",
    "Ereignis-Unterart",
    "Patienten-Info",
    "Geräteinfo",
    "Quellengerät-ID",
    "Glukosewert (mmol/L)",
    "Insulinwert (E)",
    "Kohlenh.-Wert (Gramm)",
    "Dauer (hh:mm:ss)",
    "Glukose-Änderungsgeschwindigkeit (mmol/L/min)",
    "Transmitterzeit (Lange Ganzzahl)",
    "Transmitter-ID",
)
LIBREVIEW_COLUMNS = (
    "Device",
    "Serial Number",
    "Device Timestamp",
    "Record Type",
    "Historic Glucose mmol/L",
    "Scan Glucose mmol/L",
    "Non-numeric Rapid-Acting Insulin",
    "Rapid-Acting Insulin (units)",
    "Non-numeric Food",
    "Carbohydrates (grams)",
    "Carbohydrates (servings)",
    "Non-numeric Long-Acting Insulin",
    "Long-Acting Insulin Value (units)",
    "Notes",
    "Strip Glucose mmol/L",
    "Ketone mmol/L",
    "Meal Insulin (units)",
    "Correction Insulin (units)",
    "User Change Insulin (units)",
)
TABLE_COLUMNS = ("Datum", "Uhrzeit", "Art", "Wert", "Sorte", "Seriennummer", "Satz", "Bemerkung")

PATIENT_NAMES = ("Quendolin", "Tausendschön")
"""First and last name in the files' title rows; they may stand nowhere else."""

BIRTH_DATE = "1987-06-05"
"""In the files' title rows, as the names."""

NOTE_TEXT = "Zahnarzt Ypsilon"
"""What a person wrote into notes and remarks; it is not asked to be kept."""

HOME = "Europe/Berlin"
ABROAD = "Europe/London"

TRANSMITTERS = ("8TWN01", "8TWN02")
OLD_READER, NEW_READER = "JTWN101-A0001", "MTWN202-B0002"
METER = "TWN-5512"

Cells = list[str]


@dataclass(frozen=True)
class VendorFile:
    """One made-up file.

    :param name: a name for it, as the vendor gives it.
    :param format: the name of its format in a manifest.
    :param content: its bytes.
    :param rows: its data rows, as a format counts them: not the headings, nor blank lines.
    :param refused: how many of them cannot be read as what they say they are.
    :param skipped: how many of them are no readings.
    :param timezone: where the person lives, IANA name; None where times are instants.
    :param options: further keys for the file's entry in a manifest.
    :param private: texts in it that may be seen nowhere else.
    """

    name: str
    format: str
    content: bytes
    rows: int
    refused: int
    skipped: int
    timezone: str | None = HOME
    options: dict[str, Any] = field(default_factory=dict)
    private: tuple[str, ...] = (*PATIENT_NAMES, BIRTH_DATE, NOTE_TEXT)

    def manifest_entry(self) -> dict[str, Any]:
        """Return the file's entry in a manifest."""
        zone = {} if self.timezone is None else {"timezone": self.timezone}
        return {"name": self.name, "format": self.format, **zone, **self.options}


def clarity_export(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a Clarity export of a G6: two sensors, a journey, a change to summer time and one from it.

    Rows stand in the order of their local stamps, so that both passes of the doubled hour are interleaved,
    and so are the hours that a journey westwards repeats.
    """
    chance = random.Random(f"{seed} clarity")
    dated: list[tuple[str, Cells]] = []
    for transmitter, start, hours in (
        (TRANSMITTERS[0], datetime(2025, 3, 29, 20, 0, 11, tzinfo=UTC), 40),
        (TRANSMITTERS[1], datetime(2025, 10, 25, 21, 2, 40, tzinfo=UTC), 8),
    ):
        dated += _clarity_readings(transmitter, start, hours, chance)
    dated += _clarity_events()
    dated.sort(key=lambda entry: entry[0])
    rows = [*clarity_title_rows(), *(cells for _stamp, cells in dated)]
    lines = [_quoted(CLARITY_COLUMNS)]
    for index, cells in enumerate(rows, 1):
        # Rows that a person entered end early: they have no transmitter.
        whole = [str(index), *cells]
        lines.append(_quoted(whole[:-1] if whole[2] in ("Insulin", "Carbs") else whole))
    titles, notes, repeated = len(clarity_title_rows()), 1, 1
    return VendorFile(
        "CLARITY_Export_2025.csv",
        "clarity",
        "\ufeff".encode() + "".join(f"{line}\r\n" for line in lines).encode(),
        rows=len(rows),
        refused=4,
        skipped=titles + notes + repeated,
    )


def german_clarity_export(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a Clarity export of a G7 from a German account: mmol/L, semicolons, rows of 13 cells."""
    chance = random.Random(f"{seed} german clarity")
    titles = [
        ["", "Vorname", "", PATIENT_NAMES[0]],
        ["", "Nachname", "", PATIENT_NAMES[1]],
        ["", "Geburtsdatum", "", BIRTH_DATE],
        ["", "Gerät", "", "", "Dexcom G7", "iOS G7"],
        ["", "Sensor", "", "", "G7", "iOS G7"],
        ["", "Warnung", "Fallen", "", "", "iOS G7", "", "", "", "", "0,1"],
    ]
    rows = [cells + [""] * (12 - len(cells)) for cells in titles]
    start = datetime(2025, 12, 31, 21, 4, 45, tzinfo=UTC)
    for number in range(60):
        at = start + timedelta(seconds=300 * number)
        value = f"{5 + 2 * math.sin(number / 9) + chance.random():.1f}".replace(".", ",")
        shown = {20: "Niedrig", 40: "Hoch"}.get(number, value)
        reading = [_local(at, HOME), "EGV", "", "", "", "iOS G7", shown, "", "", "", ""]
        rows.append([*reading, str(388692 + 300 * number), "990000000017"])
    lines = [_quoted(CLARITY_COLUMNS_GERMAN, ";")]
    lines += (_quoted([str(index), *cells], ";") for index, cells in enumerate(rows, 1))
    return VendorFile(
        "CLARITY_Exportieren.csv",
        "clarity",
        "".join(f"{line}\n" for line in lines).encode(),
        rows=len(rows),
        refused=0,
        skipped=len(titles),
    )


def libreview_export(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a LibreView export with two readers, the newer of which repeats an hour of the older one.

    To choose a reader is left to the manifest (``serial``): :data:`OLD_READER` or :data:`NEW_READER`.
    """
    chance = random.Random(f"{seed} libreview")
    old, new = datetime(2025, 6, 10, 6, 3), datetime(2025, 6, 12, 5, 18)
    history = _libre_history(old, 192, chance)
    rows = [_libre("FreeStyle Libre", OLD_READER, at, 0, {4: value}) for at, value in history]
    rows += [
        _libre("FreeStyle Libre", OLD_READER, at + timedelta(minutes=4), 1, {5: value})
        for at, value in history[::7]
    ]
    rows += [
        _libre("FreeStyle Libre", OLD_READER, old + timedelta(hours=2), 2, {14: "7.4"}),
        _libre("FreeStyle Libre", OLD_READER, old + timedelta(hours=3), 2, {14: "1.1"}),
        _libre("FreeStyle Libre", OLD_READER, old + timedelta(hours=4), 2, {14: "27.8"}),
        _libre("FreeStyle Libre", OLD_READER, old + timedelta(hours=5), 3, {15: "0.3"}),
    ]
    # What the person moved to the new reader stands under both.
    moved = history[-4:]
    younger = [*moved, *_libre_history(new, 96, chance)]
    rows += [_libre("FreeStyle Libre 2", NEW_READER, at, 0, {4: value}) for at, value in younger]
    rows += [
        _libre("FreeStyle Libre 2", NEW_READER, at + timedelta(minutes=6), 1, {5: value})
        for at, value in younger[8::9]
    ]
    meal = new + timedelta(hours=7)
    rows += [
        # Both kinds of insulin in one minute: only the column tells them apart.
        _libre("FreeStyle Libre 2", NEW_READER, meal, 4, {7: "3"}),
        _libre("FreeStyle Libre 2", NEW_READER, meal, 4, {12: "14"}),
        _libre("FreeStyle Libre 2", NEW_READER, meal + timedelta(hours=1), 4, {6: "1"}),
        # Unquoted, a decimal comma takes two cells, and the whole is taken for less.
        _libre("FreeStyle Libre 2", NEW_READER, meal + timedelta(hours=2), 4, {7: "2", 8: "5"}),
        _libre("FreeStyle Libre 2", NEW_READER, meal, 5, {9: "42"}),
        _libre("FreeStyle Libre 2", NEW_READER, meal + timedelta(hours=1), 5, {8: "1"}),
    ]
    rows += [
        _libre("FreeStyle Libre 2", NEW_READER, meal, 6, {}),
        _libre("FreeStyle Libre 2", NEW_READER, meal + timedelta(hours=1), 6, {13: NOTE_TEXT}),
    ]
    title = ["Glucose Data", "Generated on", "14-06-2025 18:10 UTC", "Generated by", " ".join(PATIENT_NAMES)]
    lines = [title, LIBREVIEW_COLUMNS, *rows]
    return VendorFile(
        "LibreView_glucose.csv",
        "libreview",
        "".join(",".join(cells) + "\n" for cells in lines).encode(),
        rows=len(rows),
        refused=3,
        skipped=2 + len(moved),
        private=(*PATIENT_NAMES, NOTE_TEXT),
    )


def meter_table(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a table as a European meter's program writes it: two columns of time, a decimal comma, ``;``.

    Its mapping stands in its entry of the manifest.
    """
    chance = random.Random(f"{seed} table")
    start = datetime(2025, 10, 25, 20, 4, tzinfo=UTC)
    rows: list[Cells] = []

    def row(minutes: int, kind: str, value: str, sort: str = "", remark: str = "") -> None:
        local = (start + timedelta(minutes=minutes)).astimezone(ZoneInfo(HOME))
        cells = [
            f"{local:%d.%m.%Y}",
            f"{local:%H:%M}",
            kind,
            value,
            sort,
            METER,
            str(900 + len(rows)),
            remark,
        ]
        rows.append(cells)

    for number in range(90):
        row(10 * number, "CGM", f"{7 + 3 * math.sin(number / 8) + chance.random():.1f}".replace(".", ","))
    row(905, "CGM", "LO")
    row(910, "CGM", "Hoch")
    row(915, "Finger", "6,4", remark=NOTE_TEXT)
    row(915, "Insulin", "4,5", "Bolus")
    row(916, "Insulin", "18", "Basal")
    row(917, "Insulin", "3", "Mischung")
    row(920, "Kontrolle", "5,1")
    row(925, "CGM", "6x8")
    rows.append(list(rows[0]))
    content = "".join(";".join(cells) + "\r\n" for cells in (TABLE_COLUMNS, *rows))
    return VendorFile(
        "Messwerte.csv",
        "table",
        content.encode("cp1252"),
        rows=len(rows),
        refused=2,
        skipped=2,
        options={"table": meter_mapping()},
        private=(NOTE_TEXT,),
    )


def meter_mapping() -> dict[str, Any]:
    """Return the mapping of :func:`meter_table`, as it stands in a manifest."""
    beyond = {
        "low": {"words": ["LO", "Niedrig"], "value": 2.2, "threshold": 2.2},
        "high": {"words": ["HI", "Hoch"], "value": 22.3, "threshold": 22.2},
    }
    acting = {"column": "Sorte", "map": {"Bolus": "rapid", "Basal": "long"}}
    return {
        "csv": {"delimiter": ";", "decimal": ",", "encoding": "cp1252"},
        "where": {"column": "Art", "notIn": ["Kontrolle"]},
        "time": {"columns": ["Datum", "Uhrzeit"], "format": "%d.%m.%Y %H:%M"},
        "id": ["Seriennummer", "Satz"],
        "records": [
            {
                "when": {"column": "Art", "is": "CGM"},
                "record": {"type": "cbg", "units": "mmol/L", "value": {"column": "Wert", **beyond}},
            },
            {
                "when": {"column": "Art", "in": ["Blut", "Finger"]},
                "record": {
                    "type": "smbg",
                    "subType": "manual",
                    "units": "mmol/L",
                    "value": {"column": "Wert"},
                },
            },
            {
                "when": {"column": "Art", "is": "Insulin"},
                "record": {
                    "type": "insulin",
                    "dose": {"units": "Units", "total": {"column": "Wert"}},
                    "formulation": {"simple": {"actingType": acting}},
                },
            },
        ],
    }


def nightscout_site(hours: tuple[float, float] = (0, 48), seed: int = DEFAULT_SEED) -> list[VendorFile]:
    """Return what a site's API gives for some hours of a loop: entries, treatments, and all profiles.

    :param hours: from when until when, of those that the site has.
    """
    chance = random.Random(f"{seed} nightscout")
    start = datetime(2026, 3, 28, 12, tzinfo=UTC)
    entries, treatments = [], []
    inputs = {"bg": 162, "isf": 40, "ic": 10, "targetBGLow": 100, "targetBGHigh": 110, "iob": 0.5}

    def stamp(minutes: float) -> str:
        return f"{start + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S.000Z}"

    for number in range(48 * 12):
        minutes = 5 * number
        date = round((start + timedelta(minutes=minutes)).timestamp() * 1000)
        value = 9 if number % 101 == 50 else round(140 + 60 * math.sin(number / 20) + chance.gauss(0, 5))
        entry = {"_id": f"e{number}", "type": "sgv", "sgv": value, "direction": "Flat", "date": date}
        said: dict[str, Any] = {"_id": f"t{number}", "enteredBy": "iAPS", "created_at": stamp(minutes)}
        kinds: dict[int, dict[str, Any]] = {
            3: {"eventType": "Temp Basal", "absolute": number % 4 / 2, "duration": 30},
            9: {"eventType": "SMB", "insulin": 0.1, "notes": NOTE_TEXT},
            21: {"eventType": "Meal Bolus", "insulin": 4.5, "carbs": 40, "enteredBy": PATIENT_NAMES[0]},
            27: {"eventType": "Bolus Wizard", "insulin": 2.0, "carbs": 15, "boluscalc": inputs},
            33: {"eventType": "Note", "notes": NOTE_TEXT},
            34: {"eventType": "Temp Basal", "percent": 20, "duration": 90},
        }
        if hours[0] * 60 <= minutes < hours[1] * 60:
            entries.append(entry)
            if number % 48 in kinds:
                treatments.append(said | kinds[number % 48])
            if number % 48 == 21:
                treatments.append(said | {"_id": f"u{number}", "eventType": "Bolus", "insulin": 4.5})
    rates = [{"time": at, "value": rate} for at, rate in (("00:00", 0.8), ("06:00", 1.2), ("21:30", "0.9"))]
    store = {"Default": {"timezone": HOME, "units": "mg/dl", "basal": rates}}
    profile = {"_id": "p0", "startDate": stamp(-6000), "defaultProfile": "Default", "store": store}
    told: tuple[tuple[str, list[dict[str, Any]]], ...]
    told = (("entries", entries), ("treatments", treatments), ("profile", [profile]))
    private = (NOTE_TEXT, PATIENT_NAMES[0])
    return [
        VendorFile(
            f"{name}.json",
            "nightscout",
            json.dumps(documents).encode(),
            len(documents),
            0,
            0,
            private=private,
        )
        for name, documents in told
    ]


VENDOR_FILES: tuple[Callable[[], VendorFile], ...] = (
    clarity_export,
    german_clarity_export,
    libreview_export,
    meter_table,
)
"""All of them, to be tried alike."""


def clarity_title_rows() -> list[Cells]:
    """Return the rows of a Clarity export that hold no readings: whose it is, and alerts."""
    titles = [
        ["", "FirstName", "", PATIENT_NAMES[0]],
        ["", "LastName", "", PATIENT_NAMES[1]],
        ["", "DateOfBirth", "", BIRTH_DATE],
        ["", "Device", "", "", "Dexcom G6 Mobile App", "iPhone G6"],
        ["", "Alert", "High", "", "", "iPhone G6", "200"],
        ["", "Alert", "Signal Loss", "", "", "iPhone G6", "", "", "", "00:20:00"],
    ]
    return [cells + [""] * (13 - len(cells)) for cells in titles]


def _clarity_readings(
    transmitter: str, start: datetime, hours: int, chance: random.Random
) -> Iterator[tuple[str, Cells]]:
    ticks = 600_000
    for number in range(hours * 12):
        at = start + timedelta(seconds=300 * number)
        if number % 97 in (50, 51):  # out of reach
            continue
        shown = str(round(140 + 70 * math.sin(number / 31) + chance.gauss(0, 6)))
        if number % 400 == 211:
            shown = "Low"
        elif number % 400 == 311:
            shown = "High"
        # The transmitter's clock runs ahead by some four seconds a day.
        counted = ticks + 300 * number + number // 72
        if number == 77:  # a cell that somebody typed over
            shown = "1o4"
        yield clarity_row(_carried(at), "EGV", glucose=shown, counted=str(counted), transmitter=transmitter)


def _clarity_events() -> Iterator[tuple[str, Cells]]:
    """Yield what the person entered: at home, abroad, and in the hour that is there twice."""

    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    meals = ("2025-03-29T20:32:00", "2025-03-30T17:30:00", "2025-03-31T06:40:00", "2025-10-26T04:15:00")
    for number, text in enumerate(meals):
        yield clarity_row(_carried(at(text)), "Insulin", "Fast-Acting", insulin=f"{3 + number}.50")
        yield clarity_row(_carried(at(text)), "Carbs", carbs=str(30 + number))
    for text in ("2025-03-29T21:00:00", "2025-03-30T20:00:00"):
        yield clarity_row(_carried(at(text)), "Insulin", "Long-Acting", insulin="18.00")
    yield clarity_row(
        _carried(at("2025-03-30T07:01:05")), "Calibration", glucose="121", transmitter=TRANSMITTERS[0]
    )
    yield clarity_row(_carried(at("2025-03-30T09:00:00")), "Exercise", "Medium", duration="00:45:00")
    yield clarity_row(_carried(at("2025-03-30T11:00:00")), "Health", "Illness")
    yield clarity_row(_carried(at("2025-03-30T12:00:00")), "Notes", NOTE_TEXT)
    # In hours that the phone showed twice, once at home and once abroad, or at the end of summer time.
    yield clarity_row(_carried(at("2025-03-30T14:20:00")), "Carbs", carbs="9")
    yield clarity_row(_carried(at("2025-10-26T01:15:00")), "Carbs", carbs="8")
    yield clarity_row(_carried(at("2025-03-31T07:00:00")), "Reconstitution")
    yield clarity_row(_carried(at("2025-03-31T08:00:00")), "Insulin", "Fast-Acting")
    for _ in range(2):  # printed twice
        yield clarity_row(_carried(at("2025-03-31T09:30:00")), "Carbs", carbs="12")


def clarity_row(
    stamp: str,
    kind: str,
    sub_kind: str = "",
    *,
    glucose: str = "",
    insulin: str = "",
    carbs: str = "",
    duration: str = "",
    counted: str = "",
    transmitter: str = "",
) -> tuple[str, Cells]:
    """Return the local stamp of a row, and its cells without the index."""
    values = [glucose, insulin, carbs, duration, "", counted, transmitter]
    return stamp, [stamp, kind, sub_kind, "", "", "iPhone G6", *values]


def _carried(at: datetime) -> str:
    """Return what the phone shows, which the person took to London and back."""
    away = datetime(2025, 3, 30, 14, tzinfo=UTC) <= at < datetime(2025, 3, 31, 4, tzinfo=UTC)
    return _local(at, ABROAD if away else HOME)


def _local(at: datetime, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None).isoformat()


def _libre_history(start: datetime, count: int, chance: random.Random) -> list[tuple[datetime, str]]:
    """Return local times and values a quarter of an hour apart; the lowest and highest that it shows, too."""
    values = [f"{7.5 + 3 * math.sin(number / 11) + chance.random():.1f}" for number in range(count)]
    values[5], values[6] = "2.2", "27.8"
    return [(start + timedelta(minutes=15 * number), value) for number, value in enumerate(values)]


def _libre(device: str, serial: str, at: datetime, kind: int, values: dict[int, str]) -> Cells:
    cells = [device, serial, f"{at:%d-%m-%Y %H:%M}", str(kind), *[""] * 15]
    for column, value in values.items():
        cells[column] = value
    return cells


def _quoted(cells: Sequence[str] | Iterable[str], delimiter: str = ",") -> str:
    return delimiter.join(f'"{cell}"' for cell in cells)
