"""Small made-up files, each with one trap that real exports have."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tidepool_simulator.sample.vendor_files import CLARITY_COLUMNS, HOME, LIBREVIEW_COLUMNS

EGV = "{stamp},EGV,,,,phone,{value},,,,,{ticks},{transmitter}"


@dataclass(frozen=True)
class Twin:
    """A file, and what its manifest says of it.

    :param content: its text, or its bytes where they are not UTF-8.
    :param options: further keys of its entry in the manifest.
    :param meant_as: codes that the manifest says are meant so.
    """

    format: str
    content: str | bytes
    options: dict[str, Any] = field(default_factory=dict)
    meant_as: tuple[str, ...] = ()

    @property
    def data(self) -> bytes:
        """Its bytes."""
        return self.content.encode() if isinstance(self.content, str) else self.content

    @property
    def entry(self) -> dict[str, Any]:
        """Its entry in the manifest, but for name and format."""
        return {"timezone": HOME} | self.options


def clarity(*rows: str, columns: int = 14, units: str = "mg/dL") -> str:
    """Return an export of some rows, to which their numbers are added."""
    title = ",".join(CLARITY_COLUMNS[:columns]).replace("mg/dL", units)
    numbered = (f"{number},{row}" for number, row in enumerate(rows, 1))
    return "\r\n".join((title, *numbered)) + "\r\n"


def readings(
    start: str, count: int, *, value: int = 100, ticks: int = 1000, transmitter: str = "8A"
) -> list[str]:
    """Return rows five minutes apart, by stamp and by the transmitter's count."""
    first = datetime.fromisoformat(start)
    return [
        EGV.format(
            stamp=(first + timedelta(minutes=5 * number)).isoformat(),
            value=value + number,
            ticks=ticks + 300 * number,
            transmitter=transmitter,
        )
        for number in range(count)
    ]


def entered(
    stamp: str, kind: str, sub_kind: str = "", *, insulin: str = "", carbs: str = "", glucose: str = ""
) -> str:
    """Return a row that a person entered."""
    duration = "0:30:00" if kind in ("Exercise", "Activity") else ""
    return f"{stamp},{kind},{sub_kind},,,phone,{glucose},{insulin},{carbs},{duration},,,"


JOURNEY = [
    *readings("2025-06-01T10:00:00", 30),
    # An hour back, and three on: the count goes on.
    *readings("2025-06-01T11:30:00", 20, value=200, ticks=1000 + 30 * 300),
    *readings("2025-06-01T16:10:00", 40, value=300, ticks=1000 + 50 * 300),
]

CLARITY = {
    "twelve columns, no count": Twin(
        "clarity",
        "\ufeff"
        + clarity(*(row.rsplit(",", 2)[0] for row in readings("2025-10-26T01:40:00", 20)), columns=12),
    ),
    "count without transmitter": Twin(
        "clarity", clarity(*(row.rsplit(",", 1)[0] for row in sorted(JOURNEY)), columns=13)
    ),
    "a journey in order of stamps": Twin("clarity", clarity(*sorted(JOURNEY))),
    "both passes of an hour": Twin(
        "clarity",
        clarity(
            *sorted(
                [
                    *readings("2025-10-26T01:00:00", 24),
                    *readings("2025-10-26T02:00:00", 24, value=200, ticks=1000 + 24 * 300),
                ]
            )
        ),
    ),
    "what differs from the zone goes on with the next transmitter": Twin(
        "clarity",
        clarity(
            *sorted(
                [
                    *readings("2025-06-01T10:00:00", 60),
                    *readings("2025-06-01T14:00:00", 10, ticks=1000 + 60 * 300),
                    *readings("2025-06-01T15:00:00", 30, ticks=77_000, transmitter="8B"),
                    *readings("2025-06-01T18:30:00", 9, ticks=77_000 + 30 * 300, transmitter="8B"),
                ]
            )
        ),
    ),
    "a mark that was encoded twice": Twin(
        "clarity", "\u00ef\u00bb\u00bf" + clarity(*readings("2025-06-01T10:00:00", 3))
    ),
    "blanks, short hours and no end of line": Twin(
        "clarity",
        clarity(*(row.replace("T", " ", 1).replace(" 0", " ") for row in readings("2025-06-01T07:00:00", 3)))
        + "\r\n\r\n4,2025-06-01 7:30:00,EGV,,,,phone,101,,,,,2800,8A",
    ),
    "all that a person enters": Twin(
        "clarity",
        clarity(
            *readings("2025-06-01T10:00:00", 12),
            entered("2025-06-01T10:01:00", "Insulin", "Fast-Acting", insulin="3.50"),
            entered("2025-06-01T10:01:00", "Insulin", "Fast-Acting", insulin="4.00"),
            entered("2025-06-01T10:01:00", "Insulin", "Fast-Acting", insulin="4.00"),
            entered("2025-06-01T10:02:00", "Insulin", "Long-Acting", insulin="12"),
            entered("2025-06-01T10:03:00", "Carbs", carbs="40"),
            entered("2025-06-01T10:04:00", "Exercise", "Light"),
            entered("2025-06-01T10:04:30", "Exercise", "Medium"),
            entered("2025-06-01T10:05:00", "Activity", "Heavy"),
            *(
                entered("2025-06-01T10:06:00", "Health", state)
                for state in ("Alcohol", "Cycle", "Illness", "Stress", "Low Symptoms", "High Symptoms")
            ),
            entered("2025-06-01T10:07:00", "Calibration", glucose="99"),
            entered("2025-06-01T10:08:00", "Fasting Glucose", glucose="88"),
            entered("2025-06-01T10:09:00", "Notes", "a note"),
        ),
    ),
    "entered beside a journey": Twin(
        "clarity",
        clarity(
            *sorted(
                [
                    *JOURNEY,
                    *(
                        entered(f"2025-06-01T{clock}:00", "Carbs", carbs="10")
                        for clock in ("09:00", "11:00", "11:50", "12:40", "13:00", "15:00", "17:00", "23:00")
                    ),
                ]
            )
        ),
    ),
    "beyond what is shown, mmol/L": Twin(
        "clarity",
        clarity(
            *(
                EGV.format(
                    stamp=f"2025-06-01T10:0{number}:00",
                    value=value,
                    ticks=1000 + 60 * number,
                    transmitter="8A",
                )
                for number, value in enumerate(("Low", "High", "5.5", "low", "HIGH"))
            ),
            units="mmol/L",
        ),
    ),
    "rows that cannot be read": Twin(
        "clarity",
        clarity(
            *readings("2025-06-01T10:00:00", 4),
            "2025-06-31T10:00:00,EGV,,,,phone,100,,,,,9000,8A",
            "2025-06-01T10:30:00,EGV,,,,phone,1o0,,,,,2800,8A",
            "2025-06-01T10:35:00,EGV,,,,phone,,,,,,3100,8A",
            entered("2025-06-01T10:36:00", "Insulin", "Fast-Acting"),
            entered("2025-06-01T10:36:00", "Insulin", "Sideways", insulin="2"),
            entered("2025-06-01T10:37:00", "Carbs"),
            entered("2025-06-01T10:38:00", "Somersault"),
            entered("2025-06-01T10:38:00", "Exercise", "Light").replace("0:30:00", "half an hour"),
            "2025-06-01T10:40:00,EGV,,,,phone,1\0000,,,,,3400,8A",
        ),
    ),
    "kept notes": Twin(
        "clarity",
        clarity(*readings("2025-06-01T10:00:00", 3), entered("2025-06-01T10:04:00", "Notes", "a note")),
        {"keepNotes": True},
    ),
    "metadata between readings": Twin(
        "clarity",
        clarity(
            ",FirstName,,X,,,,,,,,,",
            *readings("2025-06-01T10:00:00", 2),
            ",Device,,,Dexcom G7,phone,,,,,,,",
            *readings("2025-06-01T10:20:00", 2, ticks=2200),
        ),
    ),
    "periods": Twin(
        "clarity",
        clarity(*(row.rsplit(",", 2)[0] for row in readings("2025-06-01T10:00:00", 9)), columns=12),
        {"timezone": [{"zone": "Europe/London", "until": "2025-06-01T10:20:00"}, {"zone": "Europe/Moscow"}]},
    ),
    "an hour that is left out, and no count": Twin(
        "clarity",
        clarity(*(row.rsplit(",", 2)[0] for row in readings("2025-03-30T01:40:00", 9)), columns=12),
    ),
    "an hour that is left out, as it is meant": Twin(
        "clarity",
        clarity(*(row.rsplit(",", 2)[0] for row in readings("2025-03-30T01:40:00", 9)), columns=12),
        meant_as=("clock-not-in-zone",),
    ),
    "another language": Twin(
        "clarity",
        clarity(*readings("2025-06-01T10:00:00", 3)).replace("Event Type", "Tipo").replace(",", ";"),
    ),
    "no units": Twin("clarity", clarity(*readings("2025-06-01T10:00:00", 3)).replace("mg/dL", "glucose")),
    "no zone": Twin("clarity", clarity(*readings("2025-06-01T10:00:00", 3)), {"timezone": None}),
}


def libreview(
    *rows: str, title: str = "20-12-2025 18:10 UTC", units: str = "mmol/L", before: str = ""
) -> str:
    """Return an export of some rows."""
    columns = ",".join(LIBREVIEW_COLUMNS).replace("Glucose mmol/L", f"Glucose {units}")
    return "\n".join((f"Glucose Data,Generated on,{title},Generated by,X{before}", columns, *rows)) + "\n"


def row(
    stamp: str, kind: int, *, serial: str = "AB-1", device: str = "FreeStyle Libre 2", **cells: str
) -> str:
    """Return a row whose cells are named by their columns, as ``c4``."""
    whole = [device, serial, stamp, str(kind), *[""] * 15]
    for name, value in cells.items():
        whole[int(name[1:])] = value
    return ",".join(whole)


def history(
    start: str,
    count: int,
    *,
    minutes: int = 15,
    form: str = "%d-%m-%Y %H:%M",
    value: float = 5.0,
    **options: str,
) -> list[str]:
    """Return readings some minutes apart."""
    first = datetime.fromisoformat(start)
    return [
        row(
            (first + timedelta(minutes=minutes * number)).strftime(form),
            0,
            c4=f"{value + number / 10:.1f}",
            **options,
        )
        for number in range(count)
    ]


SCANS = [row("13-06-2025 10:20", 1, c5="5.5"), row("13-06-2025 10:50", 1, c5="6.5")]
US = "%m-%d-%Y %I:%M %p"

LIBREVIEW = {
    "scans": Twin("libreview", libreview(*history("2025-06-13T10:00", 9), *SCANS)),
    "views": Twin("libreview", libreview(*history("2025-06-13T10:00", 9, minutes=5), *SCANS)),
    "views of an app": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 9, minutes=5, device="Libre app"), *SCANS),
    ),
    "month first, half days": Twin(
        "libreview",
        libreview(
            *history("2025-06-13T09:30", 30, form=US, value=99),
            title="12-20-2025 06:10 PM UTC",
            units="mg/dL",
        ),
    ),
    "dates that only continuity tells": Twin(
        "libreview",
        libreview(*history("2025-06-05T10:00", 300), title="09-06-2025 18:10 UTC"),
    ),
    "dates that only continuity tells, month first": Twin(
        "libreview",
        libreview(*history("2025-06-05T10:00", 300, form="%m-%d-%Y %H:%M"), title="06-09-2025 18:10 UTC"),
    ),
    "order of dates as stated": Twin(
        "libreview",
        libreview(*history("2025-06-05T10:00", 4), title="09-12-2025 18:10 UTC"),
        {"dateOrder": "dmy"},
    ),
    "year first": Twin("libreview", libreview(*history("2025-06-13T10:00", 4, form="%Y-%m-%d %H:%M"))),
    "days and months swapped": Twin(
        "libreview",
        libreview(
            *history("2025-05-13T10:00", 4), *history("2025-01-05T10:00", 4), *history("2025-05-20T10:00", 4)
        ),
    ),
    "days and months swapped, as it is meant": Twin(
        "libreview",
        libreview(
            *history("2025-05-13T10:00", 4), *history("2025-01-05T10:00", 4), *history("2025-05-20T10:00", 4)
        ),
        meant_as=("dates-swapped",),
    ),
    "later than its own title": Twin(
        "libreview", libreview(*history("2025-06-13T10:00", 4), title="13-06-2025 08:29 UTC")
    ),
    "as late as its own title": Twin(
        "libreview", libreview(*history("2025-06-13T10:00", 4), title="13-06-2025 08:45 UTC")
    ),
    "an hour that is left out": Twin("libreview", libreview(*history("2025-03-30T01:40", 9))),
    "an hour that is left out, as it is meant": Twin(
        "libreview", libreview(*history("2025-03-30T01:40", 9)), meant_as=("clock-not-in-zone",)
    ),
    "an hour that is there twice": Twin("libreview", libreview(*history("2025-10-26T01:40", 9))),
    "title filled up, and a line about the patient": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4), before="," * 14 + "\nPatient,X Y,1990-01-01"),
    ),
    "French": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4, value=90), units="mg/dL")
        .replace("Glucose Data,Generated on", "Valeur de glycémie,Créé le")
        .replace("Historic Glucose", "Historique de la glycémie"),
    ),
    "decimal commas in quotes": Twin(
        "libreview", libreview(row("13-06-2025 10:00", 0, c4='"5,5"'), row("13-06-2025 10:15", 0, c4='"6,5"'))
    ),
    "decimal commas in two cells": Twin(
        "libreview",
        libreview(
            *history("2025-06-13T10:00", 4),
            row("13-06-2025 11:00", 4, c7="2", c8="5"),
            row("13-06-2025 11:01", 4, c12="12", c13="5"),
            row("13-06-2025 11:02", 3, c15="0", c16="1"),
            row("13-06-2025 11:03", 4, c7="2"),
        ),
    ),
    "beyond what is shown": Twin(
        "libreview",
        libreview(
            *(
                row(f"13-06-2025 1{number}:00", 0, c4=value)
                for number, value in enumerate(("2.2", "2.3", "27.7", "27.8", "2.1", "28.5"))
            ),
            row("13-06-2025 10:01", 1, c5="2.2"),
            row("13-06-2025 11:01", 1, c5="27.8"),
            *(
                row(f"13-06-2025 1{number}:02", 2, c14=value)
                for number, value in enumerate(("1.0", "1.1", "1.2", "27.7", "27.8"))
            ),
            *(
                row(f"13-06-2025 1{number}:03", 3, c15=value)
                for number, value in enumerate(("0.1", "7.9", "8.0"))
            ),
        ),
    ),
    "beyond what is shown, mg/dL": Twin(
        "libreview",
        libreview(
            *(
                row(f"13-06-2025 1{number}:00", 0, c4=value)
                for number, value in enumerate(("39", "40", "41", "499", "500"))
            ),
            *(
                row(f"13-06-2025 1{number}:02", 2, c14=value)
                for number, value in enumerate(("19", "20", "21", "499", "500"))
            ),
            units="mg/dL",
        ),
    ),
    "two serials, the first": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4), *history("2025-06-13T10:30", 6, serial="CD-2", value=5.2)),
        {"serial": "AB-1"},
    ),
    "two serials, the second": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4), *history("2025-06-13T10:30", 6, serial="CD-2", value=5.2)),
        {"serial": "CD-2"},
    ),
    "the other serial not in its zone": Twin(
        "libreview",
        libreview(*history("2025-03-30T01:40", 9), *history("2025-06-13T12:00", 6, serial="CD-2")),
        {"serial": "CD-2"},
    ),
    "the other serial with days and months swapped": Twin(
        "libreview",
        libreview(
            *history("2025-05-13T10:00", 4),
            *history("2025-01-05T10:00", 4),
            *history("2025-05-20T10:00", 4),
            *history("2025-06-13T12:00", 6, serial="CD-2"),
        ),
        {"serial": "CD-2"},
    ),
    "the other serial later than the title": Twin(
        "libreview",
        libreview(
            *history("2025-06-13T10:00", 4),
            *history("2025-05-13T12:00", 6, serial="CD-2"),
            title="13-06-2025 08:29 UTC",
        ),
        {"serial": "CD-2"},
    ),
    "two serials, none chosen": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4), *history("2025-06-13T12:00", 6, serial="CD-2")),
    ),
    "what is entered": Twin(
        "libreview",
        libreview(
            *history("2025-06-13T10:00", 4),
            row("13-06-2025 11:00", 4, c7="3"),
            row("13-06-2025 11:00", 4, c12="3"),
            row("13-06-2025 11:00", 4, c12="3"),
            row("13-06-2025 11:01", 4, c6="1"),
            row("13-06-2025 11:00", 5, c9="30"),
            row("13-06-2025 11:01", 5, c10="2"),
            row("13-06-2025 11:02", 5, c8="1"),
            row("13-06-2025 11:03", 6),
            row("13-06-2025 11:04", 6, c13="a note"),
            row("13-06-2025 11:05", 9),
            row("31-06-2025 11:05", 5, c9="3"),
        ),
    ),
    "an hour that is there twice, in order": Twin(
        "libreview",
        libreview(*history("2025-10-26T01:40", 5), *history("2025-10-26T02:00", 9, value=7.0)),
    ),
    "both insulins in one row, and what a calculator said": Twin(
        "libreview",
        libreview(
            *history("2025-06-13T10:00", 4),
            row("13-06-2025 11:00", 4, c7="3", c12="9"),
            row("13-06-2025 11:10", 4, c7="5", c16="4", c17="1"),
        ),
    ),
    "kept notes": Twin(
        "libreview",
        libreview(*history("2025-06-13T10:00", 4), row("13-06-2025 11:04", 6, c13="a note")),
        {"keepNotes": True},
    ),
    "a day that may be of two months": Twin(
        "libreview",
        libreview(*history("2025-06-05T10:00", 4), title="13-06-2025 18:10 UTC").replace("13-06-2025", "x"),
    ),
    "wrapped in quotes": Twin(
        "libreview",
        "\n".join(f'"{line}"' for line in libreview(*history("2025-06-13T10:00", 4)).splitlines()) + "\n",
    ),
}


def mapping(*rules: dict[str, Any], time: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """Return a mapping of some rules."""
    return {
        "time": time or {"column": "t", "format": "iso"},
        "records": [{"record": rule} for rule in rules],
        **keys,
    }


GLUCOSE = {"type": "cbg", "units": "mmol/L", "value": {"column": "v"}}
BEYOND = {
    "column": "v",
    "low": {"below": 2.3, "value": 2.2, "threshold": 2.3},
    "high": {"above": 27.7, "value": 27.8, "threshold": 27.7},
}

LATE = ("03:10", "02:50", "02:10", "02:40", "02:05")

TABLE = {
    "local times": Twin(
        "table", "t,v\n2025-06-01T10:00:00,5.5\n2025-06-01 10:05:00,6\n", {"table": mapping(GLUCOSE)}
    ),
    "an hour that is there twice": Twin(
        "table", "t,v\n2025-10-26T02:10:00,5.5\n2025-10-26T03:10:00,5.5\n", {"table": mapping(GLUCOSE)}
    ),
    "an hour that is left out": Twin("table", "t,v\n2025-03-30T02:10:00,5.5\n", {"table": mapping(GLUCOSE)}),
    "an hour that is left out, as it is meant": Twin(
        "table",
        "t,v\n2025-03-30T02:10:00,5.5\n",
        {"table": mapping(GLUCOSE)},
        ("clock-not-in-zone",),
    ),
    "offsets of their own": Twin(
        "table",
        "t, v\n2025-06-01T10:00+01:00,5.5\n2025-06-01T10:00-05:00,6.5\n",
        {"table": mapping(GLUCOSE, time={"column": "t", "format": "%Y-%m-%dT%H:%M%z"})},
    ),
    "seconds since 1970": Twin(
        "table",
        "t,v\n1748772000,5.5\n1748772300,6.5\n",
        {"table": mapping(GLUCOSE, time={"column": "t", "format": "epoch-s"})},
    ),
    "milliseconds since 1970": Twin(
        "table",
        "t,v\n1748772000123,5.5\n",
        {"table": mapping(GLUCOSE, time={"column": "t", "format": "epoch-ms"})},
    ),
    "two columns, half days": Twin(
        "table",
        "d\tc\tv\n06/01/2025\t1:05 PM\t5.5\n06/01/2025\t12:05 AM\t5.5\n",
        {"table": mapping(GLUCOSE, time={"columns": ["d", "c"], "format": "%m/%d/%Y %I:%M %p"})},
    ),
    "clamped numbers": Twin(
        "table",
        "t,v\n"
        + "".join(f"2025-06-01T10:0{n}:00,{v}\n" for n, v in enumerate(("2.2", "2.3", "27.7", "27.8"))),
        {"table": mapping({**GLUCOSE, "value": BEYOND})},
    ),
    "not a number": Twin(
        "table",
        't,v\n2025-06-01T10:00:00,x\n2025-06-01T10:01:00,\n2025-06-01T10:02:00,"5,5"\nnever,5.5\n'
        "2025-06-01T10:04:00,5.5,6\n2025-06-01T10:05:00\n",
        {"table": mapping(GLUCOSE)},
    ),
    "numbers of lines": Twin(
        "table",
        "n,t,v\n1,2025-06-01T10:00:00,5.5\n2,2025-06-01T10:00:00,5.5\n",
        {"table": mapping(GLUCOSE, rowNumber=["n"])},
    ),
    "rates that last until the next one": Twin(
        "table",
        "t,r,g\n"
        + "".join(
            f"2025-06-01T{clock}:00,{rate},{grams}\n"
            for clock, rate, grams in (
                ("10:00", "0.5", ""),
                ("10:05", "", "30"),
                ("10:20", "0.75", ""),
                ("12:00", "0", "1.50"),
                ("12:10", "x", ""),
                ("12:15", "1", ""),
            )
        ),
        {
            "table": mapping(
                {
                    "type": "basal",
                    "deliveryType": "automated",
                    "rate": {"column": "r", "times": 0.1},
                    "duration": {"toNext": {"max": "PT30M", "to": "ms"}},
                },
                {"type": "food", "nutrition": {"carbohydrate": {"units": "grams", "net": {"column": "g"}}}},
                time={"column": "t", "format": "iso", "order": "oldest-first"},
            )
        },
    ),
    "newest first, through an hour that is there twice": Twin(
        "table",
        "t,v\n" + "".join(f"2025-10-26T{clock}:00,5\n" for clock in LATE),
        {"table": mapping(GLUCOSE, time={"column": "t", "format": "iso", "order": "newest-first"})},
    ),
    "several records of a row that has a name": Twin(
        "table",
        "n,t,v,g\nA1,2025-06-01T10:00:00,5.5,30\n,2025-06-01T10:05:00,5.5,30\nA3,2025-06-01T10:10:00,,9\n",
        {
            "table": mapping(
                GLUCOSE,
                {"type": "food", "nutrition": {"carbohydrate": {"units": "grams", "net": {"column": "g"}}}},
                id=["n"],
            )
        },
    ),
    "one device of two": Twin(
        "table",
        "s,t,v\nA,2025-06-01T10:00:00,5.5\nB,2025-06-01T10:00:00,5.6\n,2025-06-01T10:00:00,5.7\n",
        {"table": mapping(GLUCOSE, deviceId={"column": "s", "prefix": "Meter-"}), "serial": "B"},
    ),
    "two devices, none chosen": Twin(
        "table",
        "s,t,v\nA,2025-06-01T10:00:00,5.5\nB,2025-06-01T10:00:00,5.6\n",
        {"table": mapping(GLUCOSE, deviceId={"column": "s", "prefix": "Meter-"})},
    ),
    "words, defaults and lengths of time": Twin(
        "table",
        "t,d,i,l\n2025-06-01T10:00:00,00:45:30,hard,n/a\n2025-06-01T11:00:00,1:00:00,easy,2\n"
        "2025-06-01T12:00:00,an hour,easy,2\n2025-06-01T13:00:00,0:30:00,so so,2\n",
        {
            "table": mapping(
                {
                    "type": "physicalActivity",
                    "name": {"column": "i", "as": "text"},
                    "reportedIntensity": {"column": "i", "map": {"hard": "high", "easy": "low"}},
                    "duration": {"units": "minutes", "value": {"column": "d", "as": "hh:mm:ss", "to": "min"}},
                    "flight": {"count": {"column": "l", "missing": ["n/a"], "default": 1}},
                }
            )
        },
    ),
    "a column that is not there": Twin(
        "table", "t,w\n2025-06-01T10:00:00,5.5\n", {"table": mapping(GLUCOSE)}
    ),
    "periods": Twin(
        "table",
        "t,v\n2025-06-01T10:00:00,5.5\n2025-06-01T11:00:00,5.5\n",
        {
            "table": mapping(GLUCOSE),
            "timezone": [{"zone": "Europe/London", "until": "2025-06-01T11:00:00"}, {"zone": "Asia/Kolkata"}],
        },
    ),
}

TWINS = [
    named
    for files in (CLARITY, LIBREVIEW, TABLE)
    for named in ((f"{twin.format}: {name}", twin) for name, twin in files.items())
]
"""All of them, each with what to call it."""


REJECTED = "rejected"
