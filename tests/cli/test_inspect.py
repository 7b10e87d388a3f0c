"""``inspect`` on a terminal: what a file is, a picture of its days, what is wrong, and what to type next."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import PROJECT
from tests.cli.commands import DEVICE, USER, Run, cbg, ndjson
from tests.cli.made_up import HELD, KNOWN, day, days, inspection
from tests.factories import found, set_batch_state
from tidepool_ingest.cli.inspect_next import Invocation
from tidepool_ingest.cli.inspect_text import inspections_as_text
from tidepool_ingest.cli.terminal import Colours, Sheet, Terminal, columns_of, printable
from tidepool_ingest.inspection.findings import ColumnFound, Gap, Inspection, Inspections, UnmappedTable
from tidepool_ingest.ledger import BatchState, Ledger
from tidepool_ingest.local_times import zone_named
from tidepool_simulator.sample.clarity_weeks import clarity_weeks
from tidepool_simulator.sample.vendor_files import (
    VENDOR_FILES,
    VendorFile,
    clarity_export,
    libreview_export,
    meter_mapping,
    meter_table,
    nightscout_site,
)

ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
BERLIN = ("--timezone", "Europe/Berlin")
HEAVY = ("sqlalchemy", "requests", "rich", "jinja2", "tidepool_ingest.ledger", "tidepool_ingest.client")

WHOLE = """\
Dexcom Clarity export, CSV
export.csv

  Device     Dexcom G6, id Dexcom-8T
  Days       1 Mar to 4 Apr 2026: 34 of 35 days with data (Europe/Berlin)
  Records    9,500 sensor readings (one every 5 minutes), 140 insulin doses
  Glucose    mean 151 mg/dL, from 41 to 388
  In range   71 % (70 to 180), under 1 % below, 29 % above
  Insulin    30.0 units a day, 9.0 bolus and 21.0 basal, on 31 days
  Carbs      150 g a day, on 31 days

  00   ████████████  ████████████████████████  ████████████████████████████
       ████████████  ████████████████████████  ████████████████████████████
       ████████████░░████████████████████████  ████████████████████████████
  06   ██████████████████████████████████████  ████████████████████████████
     ▒▒██████████████████████████████████████  ████████████████████████████
     ▓▓██████████████████████████████████████  ████████████████████████████
  12 ████████████████████████████████████████  ████████████████████████████
     ████████████████████████!!██████████████  ████████████████████████████
     ████████████████████████████████████████  ████████████████████████████
  18 ████████████████████████████████████████  ████████████████████████████
     ████████████████████████████████████████  ████████████████████████████
     ████████████████████████████████████████  ████████████████████████████
     1 Mar           9 Mar         16 Mar        23 Mar        30 Mar
     ░▒▓█ up to 12 readings an hour  ! more than usual  blank: none

Rejected: 3 of 9,650 rows
  2  value-out-of-range (cbg /value)
     The number is smaller or larger than Tidepool takes. Check whether the unit
     is right: mmol/L and mg/dL, minutes and milliseconds. Otherwise correct it.
     lines 7, 40
  1  staged-not-a-number
     The cell that should hold a number or a duration holds neither, nor a word
     that stands for one. Correct the cell; of a table, the mapping may name
     such words under `missing`, `low` and `high`.
     line 99

No reading, and left out: 7 rows
  7  metadata
     The row is about the person, the device or its settings, and no event.

A run would stop at it
  A file has times in an hour that its time zone leaves out (2 rows, first at
  line 12) [clock-not-in-zone].
  Correct the time zone.

Time zone
  Europe/Berlin, as given: what the file shows agrees.
  +  No reading is in the hour that was left out on 29 March.
  fits:  Europe/Berlin, Europe/Paris

7 gaps without readings, 2 d 4 h in all
      25 h  from 20 Mar 2026 23:55 to 22 Mar 2026 01:05
  and 6 shorter

Valid, but looks wrong
  !  An hour has twice as many readings as others (12 records, first on 13 Mar
     2026 14:00).

In the ledger
  2026-03-09 Dexcom G6 aaaaaaaaaa  verified: 9 same days, 1 Mar to 9 Mar 2026,
                                   2,400 records

Next
  If it is right as it is, say so:
  tidepool-ingest stage export.csv --timezone Europe/Berlin \\
    --meant-as clock-not-in-zone --root STAGING --user USER_ID
"""


def shown(
    *inspections: Inspection, terminal: Terminal | None = None, invocation: Invocation | None = None
) -> str:
    return inspections_as_text(inspections, terminal or Terminal(), invocation or Invocation())


def widest(text: str) -> int:
    return max(columns_of(ESCAPES.sub("", line)) for line in text.splitlines())


def write(folder: Path, *files: VendorFile) -> list[str]:
    for file in files:
        (folder / file.name).write_bytes(file.content)
    return [file.name for file in files]


# ---------------------------------------------------------------- the whole


def test_everything_in_order() -> None:
    invocation = Invocation(timezone=BERLIN)

    assert shown(inspection(holds=(HELD,), overlaps=(KNOWN,)), invocation=invocation) == WHOLE


@pytest.mark.parametrize("colours", [Colours.NONE, Colours.FEW, Colours.ALL])
@pytest.mark.parametrize("width", [80, 60, 40])
def test_no_line_is_wider_than_the_terminal(width: int, colours: Colours) -> None:
    text = shown(
        inspection(holds=(HELD,), overlaps=(KNOWN,)),
        terminal=Terminal(width, colours),
        invocation=Invocation(timezone=BERLIN),
    )

    assert widest(text) <= width


def test_colours_change_no_word() -> None:
    coloured = shown(inspection(), terminal=Terminal(colours=Colours.MANY))
    words = re.findall(r"[A-Za-z0-9:%]+", ESCAPES.sub("", coloured))

    assert words == re.findall(r"[A-Za-z0-9:%]+", shown(inspection()))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "cp1252"])
@pytest.mark.parametrize("colours", [Colours.NONE, Colours.MANY])
def test_what_the_encoding_lacks_is_spelt_in_what_it_has(encoding: str, colours: Colours) -> None:
    device = {"deviceId": "Größe 血糖 \udcff"}
    named = inspection(devices=(inspection().devices[0].but(fields=device),))

    text = shown(named, terminal=Terminal(colours=colours, encoding=encoding))

    assert "up to 12 readings an hour" in text
    assert widest(text) <= 80
    assert text.encode(encoding)


# ---------------------------------------------------------------- the picture


def levels(line: str) -> list[tuple[str, str]]:
    """Return the signs of a coloured line, each with its style."""
    found: list[tuple[str, str]] = []
    style = ""
    for sequence, sign in re.findall(r"\x1b\[([0-9;]*)m|(.)", line):
        if sign:
            found.append((sign, style))
        else:
            style = "" if sequence == "0" else sequence
    return found


def the_map(text: str) -> list[str]:
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if "00" in ESCAPES.sub("", line)[:5])
    return lines[at : at + 12]


def test_with_colours_each_half_of_a_block_is_an_hour() -> None:
    text = shown(
        inspection(days=(day(0, (0, 12, 12, 0, 12, 2, 24, *FULL_REST)),)),
        terminal=Terminal(colours=Colours.FEW),
    )
    cells = [levels(line)[5] for line in the_map(text)]

    assert cells[:4] == [("▄", "32"), ("▀", "32"), ("▀", "32;100"), ("▀", "35;42")]
    assert cells[4:] == [("█", "32")] * 8


FULL_REST = (12,) * 17


def test_a_long_gap_is_one_column_that_shows() -> None:
    found = (*days(), day(400))

    text = shown(inspection(days=found))

    assert "┊" in the_map(text)[0]
    assert "a long time without any" in text
    assert "5 Apr 2027" in text


def test_a_gap_in_which_clocks_went_back_says_so() -> None:
    gap = Gap(
        start=datetime(2026, 10, 25, 0, 54, tzinfo=UTC),
        end=datetime(2026, 10, 25, 2, 4, tzinfo=UTC),
        hours=1.2,
    )

    text = shown(inspection(gaps=(gap,)))

    assert "from 25 Oct 2026 02:54 to 25 Oct 2026 03:04 (clocks went back)" in " ".join(text.split())
    assert gap.clocks_in(zone_named("Etc/UTC")) == ""


def test_many_days_share_columns() -> None:
    text = shown(inspection(days=tuple(day(ahead) for ahead in range(400))))

    assert "one column is 6 days" in text
    assert "1 May" in text
    assert "Jan 2027" in text


# ---------------------------------------------------------------- what a terminal can do


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize(
    ("is_terminal", "environ", "colours"),
    [
        (True, {"TERM": "xterm"}, Colours.FEW),
        (True, {"TERM": "xterm-256color"}, Colours.MANY),
        (True, {"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Colours.ALL),
        (True, {"TERM": "dumb"}, Colours.NONE),
        (True, {}, Colours.NONE),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, Colours.NONE),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, Colours.FEW),
        (True, {"TERM": "xterm", "CLICOLOR": "0"}, Colours.NONE),
        (False, {"TERM": "xterm"}, Colours.NONE),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, Colours.FEW),
        (False, {"FORCE_COLOR": "0", "TERM": "xterm"}, Colours.NONE),
        (False, {"CLICOLOR_FORCE": "1", "TERM": "dumb"}, Colours.FEW),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, Colours.NONE),
    ],
)
def test_colours_are_for_terminals_and_for_who_asks(
    is_terminal: bool, environ: dict[str, str], colours: Colours
) -> None:
    assert Terminal.of(Stream(is_terminal), environ).colours is colours


def test_a_terminal_is_at_most_80_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("200", 80), ("61", 61), ("7", 40)):
        monkeypatch.setenv("COLUMNS", columns)
        assert Terminal.of(Stream(True), {}).width == width


def test_wide_signs_take_two_columns() -> None:
    sheet = Sheet(Terminal(width=30))
    sheet.text("血糖値の記録 " * 8)

    assert widest(str(sheet)) <= 30
    assert str(sheet).count("血糖値の記録") == 8


# ---------------------------------------------------------------- escapes


def test_nothing_from_a_file_moves_the_cursor() -> None:
    evil = "a\x1b]0;x\x07\x9b31m\u202eb\r"
    assert printable(evil) == r"a\x1b]0;x\x07\x9b31m\u202eb\r"
    first = inspection().files[0].but(name=evil)
    device = inspection().devices[0].but(serial=evil, fields={"deviceId": evil})
    zone = inspection().zone.but(stated=evil, candidates=(evil,))
    table = UnmappedTable(
        columns=(ColumnFound(name=evil, holds="text"),),
        rows=1,
        draft={"time": {"column": evil, "format": "iso"}},
        questions=(evil,),
    )

    for evil_one in (
        inspection(files=(first,), devices=(device,), zone=zone, overlaps=(KNOWN,)),
        inspection(files=(first,), table=table),
    ):
        text = shown(evil_one, evil_one)
        assert not [sign for sign in text if sign != "\n" and not sign.isprintable()]
    draft = text[text.index("{") : text.index("\n\nNext")]
    assert json.loads(draft) == table.draft


def test_a_name_that_is_no_text_is_shown(tmp_path: Path) -> None:
    name = b"caf\xe9\x1b.ndjson"
    (tmp_path / name.decode(errors="surrogateescape")).write_bytes(ndjson(cbg()))
    command = [sys.executable, "-m", "tidepool_ingest", "inspect", os.fsdecode(name)]

    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env=environment(), check=False)

    as_json = subprocess.run(
        [*command, "--json"], cwd=tmp_path, capture_output=True, env=environment(), check=False
    )
    assert (ran.returncode, as_json.returncode) == (0, 0), ran.stderr + as_json.stderr
    assert json.loads(as_json.stdout)["inspections"][0]["files"][0]["name"] == os.fsdecode(name)
    assert rb"caf\udce9\x1b.ndjson" in ran.stdout
    assert rb"$'caf\xe9\x1b.ndjson'" in ran.stdout


def environment(**more: str) -> dict[str, str]:
    return {"PYTHONPATH": ":".join(str(PROJECT / part) for part in ("include", "plugins", ".")), **more}


# ---------------------------------------------------------------- what to type next


def test_the_next_command_says_again_what_was_said(run: Run, tmp_path: Path) -> None:
    (name,) = write(tmp_path, libreview_export())

    ran = run("inspect", name, *BERLIN, "--serial", "MTWN202-B0002", "--keep-notes", "--user", USER, "--json")
    text = run("inspect", name, *BERLIN, "--serial", "MTWN202-B0002", "--keep-notes", "--user", USER).out

    assert ran.code == 1
    command = text[text.index("Next") :].replace("\\\n", "")
    assert " ".join(command.split()[-12:]) == (
        f"tidepool-ingest stage {name} --timezone Europe/Berlin --serial MTWN202-B0002 "
        f"--keep-notes --root STAGING --user {USER}"
    )


def next_of(found: Inspection, **invocation: Any) -> str:
    text = shown(found, invocation=Invocation(**invocation))
    return " ".join(text.partition("\nNext\n")[2].replace("\\\n", "").split())


def test_what_has_to_be_decided_comes_first() -> None:
    zone = inspection().zone.but(stated=None, verdict="open")

    several = inspection(zone=zone)
    assert next_of(several) == (
        "Choose the zone that the device's clock was set to, for example: "
        "tidepool-ingest inspect export.csv --timezone Europe/Berlin"
    )
    one = inspection(zone=zone.but(candidates=("Europe/London",)))
    assert next_of(one, has_root=True) == (
        "If the device's clock was set to Europe/London: "
        "tidepool-ingest stage export.csv --timezone Europe/London --user USER_ID"
    )
    none = inspection(zone=zone.but(candidates=()))
    assert next_of(none).endswith("tidepool-ingest inspect export.csv --timezone Area/City")
    contradicted = inspection(zone=inspection().zone.but(verdict="contradicted"))
    assert next_of(contradicted, timezone=("--timezone", "Asia/Tokyo")) == (
        "Look at it in a zone that fits: tidepool-ingest inspect export.csv --timezone Europe/Berlin"
    )
    mended_elsewhere = inspection(holds=(HELD.but(code="glucose-units-implausible"),))
    assert next_of(mended_elsewhere) == "First mend what a run would stop at, above."
    assert next_of(inspection(accepted=0)).startswith("Nothing in it would be taken")
    assert next_of(inspection(rejected=0)) == (
        "tidepool-ingest stage export.csv --root STAGING --user USER_ID"
    )
    assert "stage export.csv --device-id ID --root" in next_of(inspection(rejected=0, devices=()))
    assert "'a file.csv'" in next_of(inspection(files=(inspection().files[0].but(name="a file.csv"),)))


def test_a_row_that_is_wrong_in_two_places_is_named_once(run: Run, tmp_path: Path) -> None:
    basal = {"type": "basal", "deliveryType": "temp", "rate": 1e6, "duration": 1e12}
    (tmp_path / "a.ndjson").write_bytes(
        ndjson(cbg(time="2026-01-01T10:00:00Z"), cbg(time="2026-01-01T10:05:00Z", **basal))
    )

    text = run("inspect", "a.ndjson").out

    assert "     line 2\n" in text
    assert "up to 1 reading an hour" in text


def test_records_of_no_device_among_others_are_staged_by_the_next_command(run: Run, tmp_path: Path) -> None:
    nameless = cbg(time="2026-01-01T10:05:00Z", deviceId=None)
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg(time="2026-01-01T10:00:00Z"), nameless))

    text = run("inspect", "a.ndjson").out

    assert "not named" in text
    command = text[text.index("\nNext\n") :].replace("\\\n", " ").split()[2:]
    assert command[:4] == ["stage", "a.ndjson", "--device-id", "ID"]
    named = [{"ID": "a-meter", "USER_ID": USER}.get(word, word) for word in command]
    (tmp_path / "STAGING").mkdir()
    assert run(*named).code == 0


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("make", VENDOR_FILES)
def test_made_up_vendor_files(make: Any, run: Run, tmp_path: Path) -> None:
    file = make()
    (name,) = write(tmp_path, file)
    options = [*BERLIN]
    if "table" in file.options:
        (tmp_path / "mapping.json").write_text(json.dumps(file.options["table"]))
        options += ["--mapping", "mapping.json"]

    ran = run("inspect", name, *options)

    assert ran.err == ""
    assert f"{file.rows:,} rows" in ran.out or not file.refused
    assert widest(ran.out) <= 80
    assert not [text for text in file.private if text in ran.out]
    assert "tidepool-ingest stage" in ran.out
    assert "Traceback" not in ran.out


def test_of_several_devices_each_is_shown_and_the_file_once(run: Run, tmp_path: Path) -> None:
    (name,) = write(tmp_path, libreview_export())

    text = run("inspect", name, *BERLIN).out

    assert text.count("LibreView export, CSV") == 1
    assert "Device 1   Abbott FreeStyle Libre, serial number JTWN101-A0001" in text
    assert "Device 2   Abbott FreeStyle Libre 2" in text
    assert text.count("\nNext\n") == text.count("\nTime zone\n") == 1
    assert "other-device" not in text


def test_a_device_that_is_not_in_the_file_is_said_not_to_be(run: Run, tmp_path: Path) -> None:
    (name,) = write(tmp_path, libreview_export())

    ran = run("inspect", name, *BERLIN, "--serial", "NONE")

    assert (ran.code, ran.err) == (1, "")
    assert "[file-several-devices]" in ran.out


def test_whoever_has_to_say_the_zone_is_told_by_the_exit_code(run: Run, tmp_path: Path) -> None:
    (name,) = write(tmp_path, clarity_weeks())

    assert run("inspect", name).code == 1
    assert run("inspect", name, *BERLIN).code == 0


def test_several_files_each_in_its_turn_and_a_summary(run: Run, tmp_path: Path) -> None:
    names = write(tmp_path, *nightscout_site(), clarity_export())
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7\n")

    ran = run("inspect", "letter.pdf", names[0], names[3], *names[1:3], *BERLIN)

    titles = [line for line in ran.lines if line.endswith((", CSV", ", 3 files", "data that can be read"))]
    assert titles == [
        "No data that can be read",
        "Nightscout site, JSON, 3 files",
        "Dexcom Clarity export, CSV",
    ]
    summary = ran.out[ran.out.index("\nAll files\n") :]
    assert "letter.pdf: No data that can be read" in summary
    assert "entries.json + treatments.json + profile.json: Nightscout site" in " ".join(summary.split())
    assert ran.code == 1


def test_what_is_no_data_is_called_what_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7\n")

    ran = run("inspect", "letter.pdf")

    assert (ran.code, ran.err) == (1, "")
    assert "It cannot be read" in ran.out
    assert "it is a PDF document: get the data in another form" in " ".join(ran.out.split())
    assert "\nNext\n" not in ran.out
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(clarity_export().content)[:900])
    assert "The data file ends in the middle" in run("inspect", "cut.csv.gz").out
    assert run("inspect", str(tmp_path)).out.count("It cannot be read") == 2
    assert run("inspect", "missing.csv").error.endswith("Check the path.")
    assert run("inspect", "missing.csv", "--format", "clarity").error.endswith("Check the path.")


@pytest.mark.parametrize("content", [b"\0" * 5000, "time;value\n".encode("utf-16-le") * 9])
def test_utf_16_without_a_mark_of_its_byte_order_cannot_be_read(
    content: bytes, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    mapping = {
        "csv": {"encoding": "utf-16"},
        "time": {"column": "time", "format": "iso"},
        "records": [{"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "value"}}}],
    }
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))

    ran = run("inspect", "table.csv")
    mapped = run("inspect", "table.csv", "--mapping", "mapping.json", *BERLIN)

    assert (ran.code, ran.err, "It cannot be read" in ran.out) == (1, "", True)
    assert (mapped.code, mapped.err, "byte order mark" in " ".join(mapped.out.split())) == (1, "", True)


def test_the_standard_input_and_pipes(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = io.BytesIO(clarity_export().content)

    monkeypatch.setattr(sys, "stdin", Input())

    text = run("inspect", "-", *BERLIN).out

    assert text.startswith("Dexcom Clarity export, CSV\n-\n")
    assert "\x1b" not in text
    assert "tidepool-ingest stage - " in text


def test_colour_is_asked_for_by_the_environment_and_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, clarity_export())
    code = (
        "import sys; from tidepool_ingest.cli import main; main(); "
        f"print(*[name for name in sys.modules if name.startswith({HEAVY})], sep='', end='', file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "inspect", clarity_export().name, *BERLIN]
    env = environment(FORCE_COLOR="1", PYTHONIOENCODING="ascii", COLUMNS="60")

    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, env=env, check=False)

    assert ran.stderr == b""
    assert b"\x1b[1m" in ran.stdout
    assert widest(ran.stdout.decode("ascii")) <= 60


# ---------------------------------------------------------------- tables without a mapping

TABLES: list[tuple[str, bytes, dict[str, Any], list[str]]] = [
    (
        "ISO",
        b"Timestamp,Glucose (mg/dL),Carbohydrates (g),Note\n2026-03-05T07:05:00,112,40,x\n",
        {
            "time": {"column": "Timestamp", "format": "iso"},
            "records": [
                {"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "Glucose (mg/dL)"}}},
                {
                    "when": {"column": "Carbohydrates (g)", "above": 0},
                    "record": {
                        "type": "food",
                        "nutrition": {
                            "carbohydrate": {"units": "grams", "net": {"column": "Carbohydrates (g)"}}
                        },
                    },
                },
            ],
        },
        [],
    ),
    (
        "German",
        b"Bericht;;\nZeitstempel;Glukosewert;Seriennummer\n22.06.2026 23:55;5,4;K\n",
        {
            "csv": {"headerRow": 2, "decimal": ","},
            "time": {"column": "Zeitstempel", "format": "%d.%m.%Y %H:%M"},
            "deviceId": {"column": "Seriennummer"},
            "records": [{"record": {"type": "cbg", "units": "mmol/L", "value": {"column": "Glukosewert"}}}],
        },
        ["The unit of Glukosewert is not named; its values look like mmol/L."],
    ),
    (
        "Windows-1252",
        "Größe;Datum;Uhrzeit;Glukose mmol/L\nx;5.3.2026;7:05;5.4\nü;6.3.2026;7:10;LO\n".encode("cp1252")
        + b"x;6.3.2026;7:15;5.5\n" * 9,
        {
            "csv": {"encoding": "cp1252"},
            "time": {"columns": ["Datum", "Uhrzeit"], "format": "%d.%m.%Y %H:%M"},
            "records": [
                {"record": {"type": "cbg", "units": "mmol/L", "value": {"column": "Glukose mmol/L"}}}
            ],
        },
        ["Some cells of Glukose mmol/L are words (LO)"],
    ),
    (
        "day or month first",
        b"time\tBG mg/dl\n05/03/2026 07:05\t112\n06/03/2026 07:05\t0\n",
        {
            "time": {"column": "time", "format": "%d/%m/%Y %H:%M"},
            "records": [
                {
                    "when": {"column": "BG mg/dl", "above": 0},
                    "record": {
                        "type": "smbg",
                        "subType": "manual",
                        "units": "mg/dL",
                        "value": {"column": "BG mg/dl"},
                    },
                }
            ],
        },
        ["may begin with the day or with the month: %d/%m/%Y %H:%M or %m/%d/%Y %H:%M"],
    ),
    (
        "a count",
        b"time,glucose\n1675209784,78\n1675210084,70\n",
        {
            "time": {"column": "time", "format": "epoch-s"},
            "records": [{"record": {"type": "cbg", "units": "mg/dL", "value": {"column": "glucose"}}}],
        },
        ["The unit of glucose is not named; its values look like mg/dL."],
    ),
]


@pytest.mark.parametrize(("content", "draft", "questions"), [table[1:] for table in TABLES])
def test_a_table_gets_a_draft_of_a_mapping_that_works(
    run: Run, tmp_path: Path, content: bytes, draft: dict[str, Any], questions: Sequence[str]
) -> None:
    (tmp_path / "t.csv").write_bytes(content)

    ran = run("inspect", "t.csv")

    assert (ran.code, ran.err) == (1, "")
    words = " ".join(ran.out.split())
    for question in questions:
        assert question in words
    text = ran.out[ran.out.index("\n{") : ran.out.index("\n\nNext")]
    assert json.loads(text) == draft
    assert "tidepool-ingest inspect t.csv --mapping mapping.json" in words
    assert ("--timezone Area/City" in words) == (draft["time"]["format"] != "epoch-s")
    (tmp_path / "mapping.json").write_text(text)
    again = run("inspect", "t.csv", "--mapping", "mapping.json", *BERLIN, "--json")
    assert json.loads(again.out)["inspections"][0]["accepted"] >= 1


def test_times_of_day_alone_give_no_draft(run: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"timestamp,glucose_value_mg_dl\n00:00:14,86.0\n00:05:14,81.0\n")

    ran = run("inspect", "t.csv")

    assert "Times of day without a date cannot be uploaded" in ran.out
    assert "no draft" in ran.out
    assert "\nNext\n" not in ran.out


def test_the_format_table_alone_asks_for_a_mapping(run: Run, tmp_path: Path) -> None:
    (name,) = write(tmp_path, meter_table())

    assert "\nColumns, what they hold" in run("inspect", name, "--format", "table").out
    (tmp_path / "m.json").write_text(json.dumps(meter_mapping()))
    assert "Table, CSV" in run("inspect", name, "--mapping", "m.json", *BERLIN).out


# ---------------------------------------------------------------- the ledger


@pytest.fixture
def ledger(tmp_path: Path, run: Run) -> str:
    address = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(address)
    ledger.migrate()
    for number, (user, device, state) in enumerate(
        [
            (USER, DEVICE, BatchState.VERIFIED),
            ("aaaaaaaaaa", DEVICE, BatchState.HELD),
            (USER, "another", BatchState.VERIFIED),
            (USER, DEVICE, BatchState.OVERWRITTEN),
        ]
    ):
        batch = ledger.batches.register(
            found(
                content_key=str(number) * 64,
                batch_id=f"b{number}",
                user_id=user,
                device_id=device,
                label=f"2026-03-02 Dexcom G6 number{number}",
            )
        ).id
        ledger.batch_days.replace_for_batch(
            batch, {date(2026, 2, 28): {"cbg": 9}, date(2026, 3, 1): {"cbg": 5, "food": 2}}
        )
        set_batch_state(ledger, batch, state)
    ledger.close()
    return address


def test_uploads_of_the_same_device_and_days_are_named(run: Run, tmp_path: Path, ledger: str) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg(), cbg(time="2026-03-05T10:00:00Z")))

    both = json.loads(run("inspect", "a.ndjson", "--ledger", ledger, "--json").out)["inspections"][0]
    one = run("inspect", "a.ndjson", "--ledger", ledger, "--user", USER).out

    assert [(known["label"][-7:], known["state"]) for known in both["overlaps"]] == [
        ("number1", "held"),
        ("number0", "verified"),
    ]
    assert both["overlaps"][0] == {
        "label": "2026-03-02 Dexcom G6 number1",
        "state": "held",
        "firstDay": "2026-03-01",
        "lastDay": "2026-03-01",
        "days": 1,
        "records": 7,
    }
    assert (
        "number0  verified: 1 same day, 1 Mar 2026, 7 records" in " ".join(one.split("  "))
        or "number0" in one
    )
    assert "number1" not in one


def test_without_a_ledger_none_is_asked(
    run: Run, tmp_path: Path, ledger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.ndjson").write_bytes(ndjson(cbg(time="2026-01-01T10:00:00Z")))

    assert "ledger" not in run("inspect", "a.ndjson").out
    monkeypatch.setenv("TIDEPOOL_LEDGER", ledger)
    assert "No upload of this device is known on these days." in run("inspect", "a.ndjson").out
    none = run("inspect", "a.ndjson", "--ledger", f"sqlite:///{tmp_path}/none.db")
    assert none.code == 0
    assert none.err.startswith("There is no ledger at this address yet")  # a remark, and no error
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "bad.db").write_bytes(b"no database at all" * 100)
    assert "SQLite" in run("inspect", "a.ndjson", "--ledger", f"sqlite:///{tmp_path}/bad.db").error


# ---------------------------------------------------------------- JSON


def test_json_names_files_as_they_were_typed(run: Run, tmp_path: Path) -> None:
    write(tmp_path, clarity_export())

    ran = run("inspect", f"./{clarity_export().name}", *BERLIN, "--json")

    (one,) = msgspec.json.decode(ran.out, type=Inspections).inspections
    assert (one.files[0].name, one.files[0].kind) == (f"./{clarity_export().name}", "CSV")
    assert one.utc_days[0] == date(2025, 3, 29)
    assert ran.code == 1
