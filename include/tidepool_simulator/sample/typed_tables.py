"""Tables that are no text, made up: a study's in Parquet, and a diary that somebody keeps in Excel.

Each has what its kind of file is read wrongly by: types in Parquet; in a workbook a title, a hidden sheet,
and dates that are numbers. The same seed always gives the same bytes.
"""

from __future__ import annotations

import io
import math
import random
import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from tidepool_simulator.sample.vendor_files import HOME, NOTE_TEXT, PATIENT_NAMES, VendorFile
from tidepool_simulator.sample.write import DEFAULT_SEED

STUDY_ZONE = "America/New_York"

_EXCEL_EPOCH = datetime(1899, 12, 30)
_ZIP_DATE = (2026, 1, 1, 0, 0, 0)

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_KINDS = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def study_table(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a study's table in Parquet: one person's pump and sensor, the night that summer time ends too.

    Rows stand in the order of events; the rate of basal insulin lasts until the next row that has one.
    """
    import pyarrow.parquet  # type: ignore[import-untyped]  # an extra

    chance = random.Random(f"{seed} study")
    start = datetime(2025, 11, 1, 20, tzinfo=UTC)
    rows: list[tuple[Any, ...]] = []
    for number in range(12 * 18):
        at = (start + timedelta(minutes=5 * number)).astimezone(ZoneInfo(STUDY_ZONE)).replace(tzinfo=None)
        glucose: float | None = round(130 + 55 * math.sin(number / 17) + chance.gauss(0, 4))
        if number % 60 in (31, 32):
            glucose = None if number % 60 == 31 else math.nan  # both are no value
        rate = 0.8 if number % 24 < 12 else 0.65
        units = (number % 4 + 1.1) if number % 36 == 18 else None
        kind = None if units is None else "Extended" if number == 126 else "Normal"
        grams = 40 + number % 7 if number % 36 == 17 else None
        rows.append((number, at, glucose, rate, units, kind, grams))
    rows.insert(6, (len(rows), *rows[5][1:]))  # the same under another number
    types = {
        "Row": pyarrow.int32(),
        "DeviceDtTm": pyarrow.timestamp("us"),
        "Glucose": pyarrow.float64(),
        "Rate": pyarrow.float32(),
        "Bolus": pyarrow.float64(),
        "BolusType": pyarrow.dictionary(pyarrow.int8(), pyarrow.string()),
        "Carbs": pyarrow.int16(),
    }
    cells = zip(*rows, strict=True)
    columns = [pyarrow.array(column, kind) for column, kind in zip(cells, types.values(), strict=True)]
    written = io.BytesIO()
    table = pyarrow.Table.from_arrays(columns, names=list(types))
    pyarrow.parquet.write_table(table, written, row_group_size=100, compression="zstd")
    # One bolus is of a type that the mapping does not know.
    return VendorFile(
        "study.parquet",
        "table",
        written.getvalue(),
        rows=len(rows),
        refused=1,
        skipped=1,
        timezone=STUDY_ZONE,
        options={"table": study_mapping()},
        private=(),
    )


def study_mapping() -> dict[str, Any]:
    """Return the mapping of :func:`study_table`, as it stands in a manifest."""
    net = {"units": "grams", "net": {"column": "Carbs"}}
    lasting = {"toNext": {"max": "PT1H", "to": "ms"}}
    kinds = {"Normal": "normal"}
    return {
        "rowNumber": ["Row"],
        "time": {"column": "DeviceDtTm", "format": "iso", "order": "oldest-first"},
        "records": [
            {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "Glucose"}}},
            {"record": {"type": "food", "nutrition": {"carbohydrate": net}}},
            {
                "when": {"column": "Bolus", "above": 0},
                "record": {
                    "type": "bolus",
                    "subType": {"column": "BolusType", "map": kinds},
                    "normal": {"column": "Bolus"},
                },
            },
            {
                "record": {
                    "type": "basal",
                    "deliveryType": "automated",
                    "rate": {"column": "Rate"},
                    "duration": lasting,
                }
            },
        ],
    }


def diary_workbook(seed: int = DEFAULT_SEED) -> VendorFile:
    """Return a diary in Excel: a title with a name, dates and times in cells of their own, a hidden sheet."""
    chance = random.Random(f"{seed} diary")
    entries: list[tuple[Any, ...]] = []
    start = date(2025, 10, 20)
    for number in range(60):
        day, hour = start + timedelta(days=number // 4), (7, 12, 18, 22)[number % 4]
        at = time(hour, chance.randrange(60))
        value: Any = round(5.2 + 3 * math.sin(number / 5) + chance.random(), 1)
        if number in (9, 30):
            value = "LO" if number == 9 else "HI"
        units = round(2 + chance.random() * 6) / 2 if hour != 22 else 18
        entries.append((number + 1, day, at, value, units, "Lantus" if hour == 22 else "Rapid"))
    entries.append((61, start, time(9), _Error("#DIV/0!"), None, None))  # and no reading
    entries.append(entries[3])
    rows: list[Sequence[Any]] = [[f"{' '.join(PATIENT_NAMES)}: {NOTE_TEXT}"], []]
    rows.append(["No", "Day", "Clock", "Glucose", "Insulin", "Kind"])
    rows += entries
    rows.insert(20, [])
    content = _workbook({"Diary": rows, "Old": [["Day", "Glucose"], [start, 99.0]]}, hidden={"Old"})
    return VendorFile(
        "diary.xlsx",
        "table",
        content,
        rows=len(entries),
        refused=1,
        skipped=1,
        timezone=HOME,
        options={"table": diary_mapping()},
        private=(*PATIENT_NAMES, NOTE_TEXT),
    )


def diary_mapping() -> dict[str, Any]:
    """Return the mapping of :func:`diary_workbook`, as it stands in a manifest."""
    beyond = {
        "low": {"words": ["LO"], "value": 1.1, "threshold": 1.1},
        "high": {"words": ["HI"], "value": 33.3, "threshold": 33.3},
    }
    acting = {"column": "Kind", "map": {"Rapid": "rapid", "Lantus": "long"}}
    dose = {"units": "Units", "total": {"column": "Insulin"}}
    return {
        "csv": {"headerRow": 3},
        "time": {"columns": ["Day", "Clock"], "format": "%Y-%m-%d %H:%M:%S"},
        "id": ["No"],
        "records": [
            {
                "record": {
                    "type": "smbg",
                    "subType": "manual",
                    "units": "mmol/L",
                    "value": {"column": "Glucose", **beyond},
                }
            },
            {"record": {"type": "insulin", "dose": dose, "formulation": {"simple": {"actingType": acting}}}},
        ],
    }


class _Error(str):
    """What a formula came to that cannot be calculated."""

    __slots__ = ()


def _workbook(sheets: dict[str, list[Sequence[Any]]], hidden: set[str]) -> bytes:
    """Return a workbook of some sheets."""
    names = list(sheets)
    hiding = {name: "hidden" if name in hidden else "visible" for name in names}
    listed = "".join(
        f'<sheet name="{name}" sheetId="{number}" state="{hiding[name]}" r:id="rId{number}"/>'
        for number, name in enumerate(names, 1)
    )
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_KINDS}.sheet.main+xml"/>'
        f'<Override PartName="/xl/styles.xml" ContentType="{_KINDS}.styles+xml"/>'
        + "".join(
            f'<Override PartName="/xl/worksheets/sheet{number}.xml" ContentType="{_KINDS}.worksheet+xml"/>'
            for number in range(1, len(names) + 1)
        )
        + "</Types>",
        "_rels/.rels": _relations([("officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": _relations(
            [("worksheet", f"worksheets/sheet{number}.xml") for number in range(1, len(names) + 1)]
            + [("styles", "styles.xml")]
        ),
        # What a number shows: itself, a day, a time of day.
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><numFmts count="1">'
        '<numFmt numFmtId="164" formatCode="dd\\.mm\\.yyyy"/></numFmts>'
        '<fonts count="1"><font/></fonts><fills count="1"><fill><patternFill/></fill></fills>'
        '<borders count="1"><border/></borders>'
        '<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="3"><xf numFmtId="0"/>'
        '<xf numFmtId="164"/><xf numFmtId="20"/></cellXfs>'
        '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
    }
    for number, rows in enumerate(sheets.values(), 1):
        lines = "".join(
            f'<row r="{at}">{"".join(_cells(at, row))}</row>' for at, row in enumerate(rows, 1) if row
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{_MAIN}"><sheetData>{lines}</sheetData></worksheet>'
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), head + text, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _relations(targets: list[tuple[str, str]]) -> str:
    entries = "".join(
        f'<Relationship Id="rId{number}" Type="{_RELATIONS}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(targets, 1)
    )
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{entries}</Relationships>'


def _cells(number: int, row: Sequence[Any]) -> Iterator[str]:
    for letter, value in zip("ABCDEFGH", row, strict=False):
        start = f'<c r="{letter}{number}"'
        if isinstance(value, _Error):
            yield f'{start} t="e"><f>1/0</f><v>{value}</v></c>'
        elif isinstance(value, str):
            yield f'{start} t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        elif isinstance(value, date):
            days = (datetime.combine(value, time()) - _EXCEL_EPOCH).days
            yield f'{start} s="1"><v>{days}</v></c>'
        elif isinstance(value, time):
            yield f'{start} s="2"><v>{(value.hour * 60 + value.minute) / 1440!r}</v></c>'
        elif isinstance(value, float):
            # Somebody's sum, and what it last came to.
            yield f"{start}><f>{value}+0</f><v>{value}</v></c>"
        elif value is not None:
            yield f"{start}><v>{value}</v></c>"
