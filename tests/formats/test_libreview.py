"""The format ``libreview``, on small made-up files with the traps of real ones."""

from __future__ import annotations

import gc
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from tests import PROJECT
from tests.factories import DEVICE
from tests.formats.libreview_files import HEADER, NAME, TITLE
from tests.world import World
from tidepool_ingest.errors import IngestError
from tidepool_ingest.formats import SourceReader, guess_format
from tidepool_ingest.formats.holds import FileHeldError
from tidepool_ingest.formats.libreview import LibreViewReader
from tidepool_ingest.formats.libreview.records import SENSOR_LIMITS, Values
from tidepool_ingest.formats.libreview.stamps import Calendar
from tidepool_ingest.formats.reader import BLOCK_RECORDS, Device, ReadingContext, RejectedRow
from tidepool_ingest.model import validate_lines
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile

CZECH = (
    "Zařízení,Sériové číslo,Časové razítko zařízení,Typ záznamu,Historie glukózy {units},"
    "Sken glukózy {units},Nečíselný rychlý inzulín,Rychlý inzulín (jednotky),Nečíselné jídlo,"
    "Sacharidy (gramy),Sacharidy (porce),Nečíselný dlouhý inzulín,Dlouhý inzulín (jednotky),Poznámky,"
    "Glukóza z proužku {units},Keton mmol/L,Inzulín k jídlu,Korekční inzulín,Změna inzulínu uživatelem"
)
READER, PHONE = "MADE-UP-1", "MADE-UP-2"
GENERATED = "20-03-2026 12:00 UTC"
ZONE = "Europe/Berlin"


def row(
    stamp: str, kind: int | str, serial: str = READER, device: str = "FreeStyle Libre 2", **cells: object
) -> str:
    """Return a row; ``c7="2"`` fills the cell 7, counting from 0."""
    filled = [device, serial, stamp, str(kind), *[""] * 15]
    for place, cell in cells.items():
        filled[int(place[1:])] = str(cell)
    return ",".join(filled)


def stamps(start: str, count: int, minutes: int = 15, spelling: str = "%d-%m-%Y %H:%M") -> list[str]:
    first = datetime.fromisoformat(start)
    return [f"{first + timedelta(minutes=minutes * step):{spelling}}" for step in range(count)]


def sensor(start: str, count: int, minutes: int = 15, **more: Any) -> list[str]:
    spelling = more.pop("spelling", "%d-%m-%Y %H:%M")
    days = stamps(start, count, minutes, spelling)
    return [row(stamp, 0, c4=f"{4 + step % 50 / 10}", **more) for step, stamp in enumerate(days)]


def text(rows: Iterable[str], units: str = "mmol/L", generated: str = GENERATED, header: str = HEADER) -> str:
    return "\n".join([TITLE.format(generated=generated), header.format(units=units), *rows]) + "\n"


@dataclass
class Read:
    """What a file gave."""

    records: list[dict[str, Any]] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: list[RejectedRow] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    rows: int = 0
    devices: list[Device] = field(default_factory=list)

    @property
    def codes(self) -> list[tuple[str, str]]:
        return [(one.where, one.code) for one in self.rejected]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["type"] == kind]


def source(path: Path, content: str | bytes, options: dict[str, Any]) -> SourceFile:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    chosen = FileOptions.model_validate({"timezone": ZONE} | options)
    return SourceFile(UPath(path), LibreViewReader.name, 1, below_root=1, options=chosen)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(
        content: str | bytes, *, device_id: str | None = None, meant_as: tuple[str, ...] = (), **options: Any
    ) -> Read:
        found = Read()
        file = source(tmp_path / "export.csv", content, options)
        reader = LibreViewReader((file,), ReadingContext(device_id=device_id, meant_as=meant_as))
        positions: list[int] = []
        try:
            reader.survey()
            for block in reader.blocks(file):
                found.lines += block.lines
                found.skipped.update(block.skipped)
                found.rejected += block.rejected
                found.where += block.where or []
                found.rows += block.rows
                positions += [*(block.positions or []), *(one.position for one in block.rejected)]
        finally:
            reader.close()
        assert all(0 <= position < found.rows for position in positions)
        found.records = [json.loads(line) for line in found.lines]
        found.devices = reader.devices()
        assert NAME.encode() not in b"".join(found.lines)
        assert [one.problems for one in validate_lines(found.lines) if one.problems] == []
        return found

    return read


# ---------------------------------------------------------------- layout


def test_a_reading_of_the_sensor(read: Any) -> None:
    found = read(text(sensor("2026-03-05T10:00:00", 2)))

    assert found.lines[0] == (
        b'{"type":"cbg","time":"2026-03-05T09:00:00Z","deviceId":"LibreView-MADE-UP-1",'
        b'"deviceTime":"2026-03-05T10:00:00","timezoneOffset":60,"units":"mmol/L","value":4.0}'
    )
    assert found.where == ["line 3", "line 4"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda good: "\ufeff" + good + "\n", id="byte order mark, blank last line"),
        pytest.param(lambda good: good.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(lambda good: good.replace(NAME, NAME + "," * 14), id="padded title"),
        pytest.param(
            lambda good: good.replace("\nDevice", f"\n{NAME},01-01-1980\nDevice"), id="patient line"
        ),
        pytest.param(
            lambda good: good.replace(",\n", ",,,\n").replace("(units)\n", "(units),X,Y\n"), id="columns"
        ),
        pytest.param(lambda good: good.replace(",15-03-2026 10:00,", ", 15-03-2026 10:00 ,"), id="blanks"),
        pytest.param(lambda good: good.replace("15-03-2026", "15/03/2026"), id="slashes"),
        pytest.param(lambda good: good.replace("15-03-2026", "15.3.2026"), id="dots, no zeros"),
        pytest.param(lambda good: good.replace("15-03-2026", "2026-03-15"), id="year first"),
        pytest.param(lambda good: good.replace("15-03-2026 10:0", "15-03-2026 10:00:0"), id="seconds"),
        pytest.param(
            lambda good: good.replace(":00,", ":00 AM,").replace(":15,", ":15\u202fam,"), id="12-hour clock"
        ),
        pytest.param(lambda good: good.replace(",", ";"), id="semicolons"),
        pytest.param(lambda good: good.replace(",", "\t"), id="tabs"),
        pytest.param(lambda good: good.replace(",,,\n", "\n"), id="trailing cells left out"),
        pytest.param(lambda good: good.replace("4.0", '"4,0"').replace("4.1", '"4,1"'), id="decimal comma"),
        pytest.param(lambda good: good.partition("\n")[2], id="no title"),
        pytest.param(
            lambda good: "".join(f'"{line}"\n' for line in good.splitlines()), id="lines wrapped in quotes"
        ),
    ],
)
def test_the_same_file_resaved_gives_the_same_records(read: Any, change: Any) -> None:
    good = text([*sensor("2026-03-15T10:00:00", 2), row("15-03-2026 10:00", 1, c5="5.5")])

    found, changed = read(good), read(change(good), dateOrder=None)

    assert changed.lines == found.lines
    assert changed.skipped == found.skipped == {}
    assert changed.rejected == []


def test_any_language_is_read_by_position(read: Any, tmp_path: Path) -> None:
    rows = [*sensor("2026-03-05T10:00:00", 3), row("05-03-2026 12:30", 4, c7="2,5".replace(",", "."))]
    czech = "\n".join(f'"{line}"' for line in text(rows, header=CZECH).splitlines())

    assert read(czech).lines == read(text(rows)).lines
    for content in (czech, text(rows)):
        (tmp_path / "any.csv").write_text(content)
        assert guess_format(UPath(tmp_path / "any.csv")) == "libreview"


def test_rows_of_joined_exports_repeat_titles_that_are_counted_and_not_kept(read: Any) -> None:
    first, second = (text(sensor(f"2026-03-{day:02}T10:00:00", 2)) for day in (15, 16))

    found = read(first + second)

    assert len(found.records) == 4
    assert found.skipped == {"metadata": 2}
    assert found.rejected == []


def test_names_in_titles_never_leave_the_reader(read: Any) -> None:
    damaged = text(sensor("2026-03-15T10:00:00", 2)).encode().replace(NAME.encode(), b"\0 " + NAME.encode())

    found = read(damaged)

    assert len(found.records) == 2
    assert found.rejected == []


# ---------------------------------------------------------------- units


def test_the_unit_comes_from_the_header(read: Any) -> None:
    found = read(text([row("15-03-2026 10:00", 0, c4=114)], units="mg/dL"))

    assert [(one["units"], one["value"]) for one in found.records] == [("mg/dL", 114)]


@pytest.mark.parametrize(
    ("values", "units"), [((5.5, 12.0), "mmol/L"), ((114, 20), "mg/dL"), ((5.5, 114), ""), ((20, 25), "")]
)
def test_without_a_unit_the_values_tell_or_nothing_is_read(
    read: Any, values: Sequence[float], units: str
) -> None:
    rows = [row(f"15-03-2026 1{hour}:00", 0, c4=value) for hour, value in enumerate(values)]
    content = text(rows, units="")

    if units:
        assert {one["units"] for one in read(content).records} == {units}
    else:
        with pytest.raises(BatchError) as caught:
            read(content)
        assert caught.value.code == "file-other-format"


@pytest.mark.parametrize(
    ("old", "new"), [("Strip Glucose mmol/L", "Strip Glucose mg/dL"), ("Ketone mmol/L", "Ketone mg/dL")]
)
def test_a_header_of_two_units_is_refused(read: Any, old: str, new: str) -> None:
    with pytest.raises(BatchError, match="file-other-format"):
        read(text(sensor("2026-03-15T10:00:00", 2)).replace(old, new))


# ---------------------------------------------------------------- the order of dates


@pytest.mark.parametrize("spelling", ["%d-%m-%Y %H:%M", "%m-%d-%Y %I:%M %p"])
def test_without_a_day_above_12_the_rows_as_a_whole_tell_the_order(read: Any, spelling: str) -> None:
    rows = sensor("2026-03-02T10:00:00", 4 * 96, spelling=spelling)
    generated = f"{datetime(2026, 3, 6, 12):{spelling}} UTC"

    found = read(text(rows, generated=generated))

    assert (found.records[0]["deviceTime"], found.records[-1]["deviceTime"]) == (
        "2026-03-02T10:00:00",
        "2026-03-06T09:45:00",
    )


def test_readings_that_go_on_over_midnight_tell_the_order(read: Any) -> None:
    found = read(text(sensor("2026-03-02T20:00:00", 40), generated="03-03-2026 12:00 UTC"))

    assert found.records[0]["deviceTime"] == "2026-03-02T20:00:00"


def test_days_of_wear_far_apart_tell_the_order(read: Any) -> None:
    rows = [*sensor("2026-01-02T10:00:00", 300), *sensor("2026-09-02T10:00:00", 300)]

    found = read(text(rows, generated="06-10-2026 12:00 UTC"), timezone="Etc/GMT")

    assert [found.records[place]["time"][:10] for place in (0, -1)] == ["2026-01-02", "2026-09-05"]


def test_one_day_may_be_either_and_is_held(read: Any) -> None:
    content = text(sensor("2026-03-02T10:00:00", 8), generated="02-03-2026 12:00 UTC")

    with pytest.raises(FileHeldError) as caught:
        read(content)

    assert caught.value.code == "date-order-unclear"
    assert read(content, dateOrder="dmy").records[0]["deviceTime"] == "2026-03-02T10:00:00"
    assert read(content, dateOrder="mdy", meant_as=("zone-implausible",)).records[0]["deviceTime"] == (
        "2026-02-03T10:00:00"
    )


def test_readings_of_the_same_day_of_two_months_are_held(read: Any) -> None:
    # Under the other order they are of two days in a row, which says nothing if nobody measured at midnight.
    rows = [row(f"0{day}-03-2026 10:00", 2, c14="5.5") for day in (2, 3)]

    with pytest.raises(FileHeldError, match="date-order-unclear"):
        read(text(rows, generated="04-03-2026 10:00 UTC"))


def test_the_date_in_the_title_may_tell_unless_the_rows_contradict(read: Any) -> None:
    assert read(text(sensor("2026-03-02T10:00:00", 2))).records[0]["deviceTime"] == "2026-03-02T10:00:00"
    with pytest.raises(FileHeldError, match="date-order-unclear"):
        read(text(sensor("2026-03-02T10:00:00", 400), generated="03-20-2026 10:00 UTC"))


def test_a_day_that_is_its_months_number_needs_no_order(read: Any) -> None:
    found = read(text(sensor("2026-03-03T10:00:00", 2), generated="03-03-2026 12:00 UTC"))

    assert found.records[0]["deviceTime"] == "2026-03-03T10:00:00"


def test_dates_of_two_orders_are_held_and_the_stated_one_refuses_the_others(read: Any) -> None:
    rows = [row("13-03-2026 10:00", 0, c4=5), row("03-14-2026 10:00", 0, c4=5)]

    with pytest.raises(FileHeldError, match=r"no order fits all of them.*date-order-unclear"):
        read(text(rows))

    found = read(text(rows), dateOrder="dmy")
    assert len(found.records) == 1
    assert found.codes == [("line 4", "staged-time-unreadable")]


def test_an_order_that_no_date_is_in_is_no_option(read: Any) -> None:
    with pytest.raises(BatchError, match="file-other-format"):
        read(text(sensor("2026-03-15T10:00:00", 2)), dateOrder="mdy")


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "32-01-2026 10:00",
        "30-02-2026 10:00",
        "15-03-26 10:00",
        "15-03-2026",
        "15-03-2026 24:00",
        "15-03-2026 13:00 PM",
        "15-03/2026 10:00",
        "15-03-2026 1\uff10:00",
        "15-03-1026 10:00",
    ],
)
def test_a_time_that_is_none_refuses_its_row(read: Any, stamp: str) -> None:
    found = read(text([*sensor("2026-03-15T10:00:00", 2), row(stamp, 0, c4="5.5")]))

    assert len(found.records) == 2
    assert found.codes == [("line 5", "staged-time-unreadable")]
    assert found.rejected[0].text == row(stamp, 0, c4="5.5").encode()


# ---------------------------------------------------------------- the clock


def test_days_and_months_that_a_spreadsheet_swapped_hold_the_file(read: Any) -> None:
    scans = [row(f"{day:02}-03-2026 10:00", 1, c5="5.5") for day in range(9, 16)]
    swapped = [
        line.replace(f"{day:02}-03", f"03-{day:02}") for day, line in zip(range(9, 16), scans, strict=True)
    ]
    rows = [*sensor("2026-03-09T10:00:00", 600), *swapped[:4], *scans[4:]]

    with pytest.raises(FileHeldError) as caught:
        read(text(rows))

    assert caught.value.code == "dates-swapped"
    meant = ("dates-swapped", "zone-implausible")
    assert len(read(text(rows), meant_as=meant).records) == len(rows)
    # A clock that was set back, or a journey, is no swap.
    back = [*sensor("2026-03-15T10:00:00", 4), *sensor("2026-03-14T10:00:00", 4)]
    assert len(read(text(back)).records) == 8


def test_times_after_the_file_was_made_show_a_wrong_zone(read: Any) -> None:
    content = text(sensor("2026-03-15T10:00:00", 9), generated="15-03-2026 10:52 UTC")

    assert len(read(content).records) == 9
    with pytest.raises(FileHeldError) as caught:
        read(content, timezone="Europe/London")
    assert caught.value.code == "zone-implausible"
    assert len(read(content, timezone="Europe/London", meant_as=("zone-implausible",)).records) == 9


def test_a_spreadsheet_leaves_the_title_as_it_was(read: Any) -> None:
    for generated in ("03-20-2026 11:05 AM UTC", "04-03-2026 11:05 AM UTC"):
        content = text(sensor("2026-03-15T10:00:00", 9), generated=generated)
        assert len(read(content.replace("15-03-2026", "15/03/2026")).records) == 9


def test_an_hour_that_does_not_exist_holds_the_file(read: Any) -> None:
    content = text(sensor("2026-03-29T01:30:00", 8), generated="30-03-2026 10:00 UTC")

    with pytest.raises(FileHeldError) as caught:
        read(content)

    assert caught.value.code == "clock-not-in-zone"
    assert "4 rows, first at line 5" in str(caught.value)
    found = read(content, meant_as=("clock-not-in-zone",))
    doubtful = [{"code": "uncertain-timestamp"}]
    assert [one.get("annotations") for one in found.records] == [None] * 2 + [doubtful] * 4 + [None] * 2
    assert [one["time"][11:16] for one in found.records[1:4]] == ["00:45", "01:00", "01:15"]
    # A reader that was set an hour late is in another zone until then.
    late = ({"until": "2026-03-29T12:00:00", "zone": "Etc/GMT-1"}, {"zone": ZONE})
    assert [one["timezoneOffset"] for one in read(content, timezone=late).records] == [60] * 8


def test_the_doubled_hour_is_ordered_by_the_file(read: Any) -> None:
    hour = ["01:45", "02:00", "02:30", "02:00", "02:30", "03:00"]
    rows = [row(f"25-10-2026 {time}", 0, c4=f"{5 + place}.5") for place, time in enumerate(hour)]
    scans = [row(f"25-10-2026 {time}", 1, c5="5.5") for time in ("02:10", "02:20")]

    found = read(text([*rows, *scans], generated="26-10-2026 10:00 UTC"))

    times = [one["time"][11:16] for one in found.records]
    assert times == ["23:45", "00:00", "00:30", "01:00", "01:30", "02:00", "00:10", "00:20"]
    assert ["annotations" in one for one in found.records] == [False] * 6 + [True] * 2
    assert found.records[4]["timezoneOffset"] == 60
    assert found.records[6]["annotations"] == [{"code": "uncertain-timestamp"}]


def test_rows_sorted_newest_first_order_no_doubled_hour(read: Any) -> None:
    hours = [*sensor("2026-10-24T20:00:00", 20), *sensor("2026-10-25T01:00:00", 12)]
    looks = [row("25-10-2026 02:10", 1, c5="5.5")]

    found = read(text([*hours[::-1], *looks], generated="26-10-2026 10:00 UTC"))

    doubtful = [one for one in found.records if "annotations" in one]
    assert [one["deviceTime"][11:16] for one in doubtful] == ["02:45", "02:30", "02:15", "02:00", "02:10"]
    assert len(found.of("smbg")) == 1


@pytest.mark.parametrize(
    ("zone", "time"), [("Asia/Kolkata", "2026-03-14T18:45:00Z"), ("Pacific/Auckland", "2026-03-14T11:15:00Z")]
)
def test_instants_may_be_of_another_day(read: Any, zone: str, time: str) -> None:
    assert read(text(sensor("2026-03-15T00:15:00", 1)), timezone=zone).records[0]["time"] == time


def test_seconds_are_kept(read: Any) -> None:
    (record,) = read(text([row("15-03-2026 10:00:30", 0, c4="5.5")])).records

    assert (record["time"], record["deviceTime"]) == ("2026-03-15T09:00:30Z", "2026-03-15T10:00:30")
    (old,) = read(text([row("15-03-1971 10:00", 0, c4="5.5")]), timezone="Africa/Monrovia").records
    assert old["time"] == "1971-03-15T10:44:30Z"


def test_a_journey_of_some_hours(read: Any) -> None:
    there = (
        {"until": "2026-03-15T10:00:00", "zone": ZONE},
        {"until": "2026-03-15T11:00:00", "zone": "Asia/Kolkata"},
    )

    found = read(text(sensor("2026-03-15T09:00:00", 3, 60)), timezone=(*there, {"zone": ZONE}))

    assert [one["timezoneOffset"] for one in found.records] == [60, 330, 60]


def test_without_a_zone_nothing_is_read(read: Any) -> None:
    with pytest.raises(BatchError, match="timezone-missing"):
        read(text(sensor("2026-03-15T10:00:00", 1)), timezone=None)


# ---------------------------------------------------------------- record types


def values(records: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(one["type"], one.get("subType"), one.get("units"), one.get("value")) for one in records]


def test_scans_strips_and_ketones(read: Any) -> None:
    rows = [*sensor("2026-03-15T10:00:00", 5), row("15-03-2026 10:05", 1, c5="5.5")]
    rows += [row("15-03-2026 10:06", 2, c14="6.5"), row("15-03-2026 10:07", 3, c15="0.4")]

    assert values(read(text(rows)).records[5:]) == [
        ("smbg", "scanned", "mmol/L", 5.5),
        ("smbg", "manual", "mmol/L", 6.5),
        ("bloodKetone", None, "mmol/L", 0.4),
    ]


def test_a_look_at_a_sensor_that_sends_by_itself_is_no_scan_whatever_its_name(read: Any) -> None:
    looks = [row(f"15-03-2026 1{hour}:03", 1, device="Libre app", c5="5.5") for hour in (0, 1)]

    found = read(text([*sensor("2026-03-15T10:00:00", 30, 5, device="Libre app"), *looks]))

    assert found.of("smbg") == []
    assert found.skipped == {"view": 2}
    kept = read(text([*sensor("2026-03-15T10:00:00", 30, 15, device="FreeStyle Libre 3"), *looks]))
    assert len(kept.of("smbg")) == 2


def test_one_app_may_read_both_kinds_of_sensor(read: Any) -> None:
    rows = [*sensor("2026-03-01T10:00:00", 300, 15), *sensor("2026-03-10T10:00:00", 300, 5)]
    scans = [f"{day:02}-03-2026 14:00" for day in (1, 2, 5, 9, 10, 11, 15)]

    found = read(text([*rows, *(row(stamp, 1, c5="5.5") for stamp in scans)]))

    assert [one["deviceTime"][8:10] for one in found.of("smbg")] == ["01", "02", "05"]
    assert found.skipped == {"view": 4}


@pytest.mark.parametrize(("device", "scans"), [("FreeStyle Libre 3", 0), ("FreeStyle LibreLink", 1)])
def test_without_a_reading_of_the_sensor_its_name_tells(read: Any, device: str, scans: int) -> None:
    assert len(read(text([row("15-03-2026 10:00", 1, device=device, c5="5.5")])).records) == scans


@pytest.mark.parametrize(
    ("kind", "cell", "value", "side", "threshold"),
    [
        (0, "2.2", 2.2, "low", 2.3),
        (0, "LO", 2.2, "low", 2.3),
        (0, "2.3", 2.3, "", 0),
        (1, "27.8", 27.8, "high", 27.7),
        (1, "hi", 27.8, "high", 27.7),
        (2, "1.1", 1.1, "low", 1.1),
        (2, "1.2", 1.2, "", 0),
        (2, "HI", 27.8, "high", 27.8),
        (3, "8.0", 8.0, "high", 8.0),
        (3, "HI", 8.0, "high", 8.0),
        (3, "0", 0, "", 0),
    ],
)
def test_what_a_device_cannot_measure_is_annotated(
    read: Any, kind: int, cell: str, value: float, side: str, threshold: float
) -> None:
    place = {0: "c4", 1: "c5", 2: "c14", 3: "c15"}[kind]
    (record,) = read(text([row("15-03-2026 10:00", kind, **{place: cell})])).records

    code = "ketone/out-of-range" if kind == 3 else "bg/out-of-range"
    expected = [{"code": code, "value": side, "threshold": threshold}] if side else None
    assert (record["value"], record.get("annotations")) == (value, expected)


@pytest.mark.parametrize(("cell", "side"), [("40", "low"), ("41", ""), ("499", ""), ("500", "high")])
def test_limits_in_mg_per_dl(read: Any, cell: str, side: str) -> None:
    (record,) = read(text([row("15-03-2026 10:00", 0, c4=cell)], units="mg/dL")).records

    assert [one["value"] for one in record.get("annotations", [])] == ([side] if side else [])


def test_insulin_of_two_kinds_in_one_row_and_in_two(read: Any) -> None:
    rows = [
        row("15-03-2026 10:00", 4, c7="4", c12="11.5"),
        row("15-03-2026 10:00", 4, c7="2.5", c16="2", c17="0.5"),
    ]

    found = read(text(rows)).records

    assert [(one["dose"], one["formulation"]["simple"]["actingType"]) for one in found] == [
        ({"total": 4, "units": "Units"}, "rapid"),
        ({"total": 11.5, "units": "Units"}, "long"),
        ({"total": 2.5, "units": "Units", "food": 2, "correction": 0.5}, "rapid"),
    ]


def test_food_in_grams(read: Any) -> None:
    (record,) = read(text([row("15-03-2026 10:00", 5, c9="12.5", c10="1")])).records

    assert record["nutrition"] == {"carbohydrate": {"net": 12.5, "units": "grams"}}


@pytest.mark.parametrize(
    ("kind", "cells", "code"),
    [
        (0, {}, "staged-not-a-number"),
        (0, {"c4": "x5"}, "staged-not-a-number"),
        (0, {"c4": "-1"}, "staged-not-a-number"),
        (0, {"c4": "1e3"}, "staged-not-a-number"),
        (0, {"c4": "\u0665"}, "staged-not-a-number"),
        (3, {"c15": "LO"}, "staged-not-a-number"),
        (4, {"c7": "two"}, "staged-not-a-number"),
        (4, {"c6": "1"}, "staged-no-amount"),
        (4, {"c11": "1"}, "staged-no-amount"),
        (4, {}, "staged-no-amount"),
        (5, {"c8": "Soup"}, "staged-no-amount"),
        (5, {"c10": "2"}, "staged-no-amount"),
        (5, {"c9": "some"}, "staged-not-a-number"),
        (7, {"c4": "5.5"}, "staged-event-unknown"),
        ("", {"c4": "5.5"}, "staged-event-unknown"),
    ],
)
def test_a_row_without_what_it_is_about_is_refused(
    read: Any, kind: Any, cells: dict[str, str], code: str
) -> None:
    found = read(text([*sensor("2026-03-15T10:00:00", 1), row("15-03-2026 10:05", kind, **cells)]))

    assert found.codes == [("line 4", code)]
    assert len(found.records) == 1


@pytest.mark.parametrize(
    ("kind", "place"), [(0, 4), (1, 5), (2, 14), (3, 15), (4, 7), (4, 12), (4, 16), (5, 9)]
)
@pytest.mark.parametrize("width", [20, 24])
def test_a_decimal_comma_without_quotes_never_loses_what_is_behind_it(
    read: Any, kind: int, place: int, width: int
) -> None:
    more = {"c7": "4"} if place == 16 else {}
    cells = row("15-03-2026 10:05", kind, **{f"c{place}": "2,5"}, **more)
    padding = "," * (width - 20)
    rows = [line + "," + padding for line in sensor("2026-03-15T10:00:00", 1)]

    found = read(text([*rows, cells + padding]))

    assert found.codes == [("line 4", "staged-split-decimal")]
    assert len(found.records) == 1


def test_notes_are_counted_or_kept(read: Any) -> None:
    rows = [row("15-03-2026 10:05", 6, c13="slept badly"), row("15-03-2026 10:06", 6)]
    rows += [row("15-03-2026 10:07", 5, c9="20", c13="x" * 2500)]

    assert read(text(rows)).skipped == {"note": 1, "empty-event": 1}
    kept = read(text(rows), keepNotes=True)
    assert kept.skipped == {"empty-event": 1}
    assert kept.records[0]["states"] == [{"state": "other", "stateOther": "note"}]
    assert kept.records[0]["notes"] == ["slept badly"]
    assert list(map(len, kept.records[1]["notes"])) == [1000, 1000, 500]


def test_identical_rows_are_one(read: Any) -> None:
    same = row("15-03-2026 10:00", 1, c5="5.5")
    rows = [*sensor("2026-03-15T10:00:00", 5), same, row("15-03-2026 10:00", 1, c5="5.6"), same + " ", same]
    rows += [row("15-03-2026 10:00", 6)] * 3

    found = read(text(rows))

    assert [one["value"] for one in found.of("smbg")] == [5.5, 5.6]
    assert found.skipped == {"duplicate-row": 4, "empty-event": 1}


# ---------------------------------------------------------------- devices


def two_devices() -> list[str]:
    shared = [row(stamp, 0, c4="5.5") for stamp in stamps("2026-03-15T10:00:00", 4)]
    rows = [
        *shared,
        *sensor("2026-03-16T10:00:00", 3),
        row("16-03-2026 10:00", 2, c14="6.5"),
        row("16-03-2026 10:01", 6),
    ]
    own = [
        row("15-03-2026 10:00", 0, serial=PHONE, c4="9.9"),
        row("15-03-2026 10:00", 2, serial=PHONE, c14="5.5"),
    ]
    again = [line.replace(READER, PHONE).replace("Libre 2", "LibreLink") for line in shared]
    return [
        *rows,
        *again,
        *own,
        *sensor("2026-03-17T10:00:00", 2, serial=PHONE, device="FreeStyle LibreLink"),
    ]


def test_each_record_is_of_its_device(read: Any) -> None:
    found = read(text(two_devices()))

    assert Counter(one["deviceId"] for one in found.records) == {
        "LibreView-MADE-UP-1": 8,
        "LibreView-MADE-UP-2": 8,
    }
    assert [device.serial for device in found.devices] == [READER, PHONE]
    assert found.devices[0].fields == {
        "deviceId": "LibreView-MADE-UP-1",
        "deviceManufacturers": ["Abbott"],
        "deviceModel": "FreeStyle Libre 2",
        "deviceSerialNumber": READER,
        "deviceTags": ["bgm", "cgm"],
        "timeProcessing": "across-the-board-timezone",
    }
    assert READER not in repr(found.devices)


def test_a_batch_is_of_one_device(read: Any) -> None:
    with pytest.raises(BatchError) as caught:
        read(text(two_devices()), device_id="LibreView-MADE-UP-1")
    assert caught.value.code == "file-several-devices"
    with pytest.raises(BatchError, match="file-several-devices"):
        read(text(two_devices()), serial="MADE-UP-3")
    one = read(text(sensor("2026-03-16T10:00:00", 3)), device_id="mine")
    assert {record["deviceId"] for record in one.records} == {"mine"}


def test_a_row_under_two_serial_numbers_is_of_the_first(read: Any) -> None:
    first, second = (read(text(two_devices()), serial=serial, device_id=serial) for serial in (READER, PHONE))

    assert (len(first.records), first.skipped) == (8, {"empty-event": 1, "other-device": 8})
    assert (len(second.records), second.skipped) == (4, {"other-device": 9, "under-other-serial": 4})
    assert (first.rows, second.rows) == (17, 17)


def test_a_file_without_serial_numbers_is_of_one_device(read: Any) -> None:
    found = read(text(sensor("2026-03-15T10:00:00", 2, serial="")))

    assert {one["deviceId"] for one in found.records} == {"LibreView"}
    assert "deviceSerialNumber" not in found.devices[0].fields


def test_what_another_device_shows_holds_no_batch(read: Any) -> None:
    missing = [row("29-03-2026 02:30", 0, serial=PHONE, c4="5.5")]
    content = text([*sensor("2026-03-15T10:00:00", 3), *missing], generated="30-03-2026 10:00 UTC")

    with pytest.raises(FileHeldError):
        read(content)
    assert len(read(content, serial=READER).records) == 3
    with pytest.raises(FileHeldError):
        read(content, serial=PHONE)


def test_a_batch_keeps_refused_rows_as_staged_with_their_lines(world: World) -> None:
    refused = row("15-03-2026 12:00", 5, c8="Soup")
    content = text([*sensor("2026-03-15T10:00:00", 3), refused, row("15-03-2026 12:00", 6)]).encode()

    number = world.ready(
        [],
        content=content,
        name="export.csv",
        file={"format": "libreview", "timezone": ZONE},
        max_quarantined_percent=100,
    )

    prepared = world.prepared(number)
    assert (prepared.records, prepared.quarantined, prepared.skipped) == (4, 1, {"empty-event": 1})
    assert {json.loads(line)["deviceId"] for line in world.accepted(number)} == {DEVICE}
    (entry,) = world.quarantine(number)
    assert (entry["position"], entry["where"], entry["recordText"]) == (3, "line 6", refused)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file-empty"),
        (b"\n\n", "file-empty"),
        (text([]), "file-empty"),
        ("a,b,c\n1,2,3\n", "file-other-format"),
        (",".join("abcdefghijklmnopqrstuvwxyz") + "\n" + ",".join("1" * 26) + "\n", "file-other-format"),
        (text([row("", "")]), "file-other-format"),
        ("\n".join([sensor("2026-03-15T10:00:00", 1)[0], text([])]), "file-other-format"),
        (text(sensor("2026-03-15T10:00:00", 3)).encode("utf-16"), "file-encoding"),
        (text(sensor("2026-03-15T10:00:00", 3), header=CZECH).encode("cp1250", "replace"), "file-encoding"),
        (text([row("15-03-2026 10:00", 0, serial=f"S{n}", c4=5) for n in range(300)]), "file-other-format"),
        (b"PK\x03\x04" + b"x" * 99, "file-not-records"),
    ],
)
def test_what_is_no_such_file_is_one_clear_error(tmp_path: Path, content: str | bytes, code: str) -> None:
    file = source(tmp_path / "export.csv", content, {})
    with pytest.raises(BatchError) as caught, SourceReader([file]) as reader:
        list(reader)
    assert caught.value.code == code


def test_damaged_rows_are_refused_by_themselves(read: Any) -> None:
    rows = [*sensor("2026-03-15T10:00:00", 2), "only,three,cells", "FreeStyle\0,S,15-03-2026 10:00,0,5"]
    rows += [
        ",".join([""] * 19),
        row("15-03-2026 11:00", 0, c4="5.5"),
        row("15-03-2026 11:00", 0, "", c4="5.5"),
    ]

    found = read(text(rows))

    assert found.codes == [
        ("line 5", "staged-row-ragged"),
        ("line 6", "staged-nul"),
        ("line 9", "staged-row-ragged"),
    ]
    assert found.skipped == {"empty-event": 1}
    assert (found.rows, len(found.records)) == (7, 3)


PIECES = (
    *("", " ", "0", "1", "4", "5", "6", "7", "5,5", "5.5", "LO", "HI", "x" * 300, "'", "\\", "é"),
    *("\0", "\r", "\u202e", "🙂", "15-03-2026 10:00", "03-15-2026 10:00 PM", "2026-03-15T10:00", "=1+1"),
    *("99-99-9999 99:99", "01-01-0001 00:00", "29-03-2026 02:30", "25-10-2026 02:30", "31-12-2199 23:59"),
    *("1e999", "-0", "NaN", "S" * 40, '"5,5"'),
)
SECRET = "SECRETCELL"


@pytest.mark.parametrize("seed", range(20))
def test_fuzzed_rows_raise_nothing_but_our_own_errors_and_no_cell_is_told(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = []
    times = stamps("2026-03-01T10:00:00", 1000)
    for number in range(1000):
        cells = sensor("2026-03-15T10:00:00", 1)[0].split(",")
        cells[1] = chance.choice([READER, PHONE])
        cells[2] = times[0] if number % 2 else times[number]
        cells[3] = str(chance.randrange(7))
        cells[13] = SECRET
        for _ in range(chance.choice([0, 0, 1, 3, 19])):
            cells[chance.randrange(len(cells))] = chance.choice(PIECES)
        if not chance.randrange(20):
            cells = cells[: chance.randrange(20)] if chance.randrange(2) else [*cells, chance.choice(PIECES)]
        if not chance.randrange(200):
            cells[-1:] = ['"']
        rows.append(",".join(cells))
    options = {"dateOrder": chance.choice(["dmy", None]), "keepNotes": chance.random() < 0.5}
    options["serial"] = chance.choice([READER, None])
    meant = ("dates-swapped", "zone-implausible", "clock-not-in-zone") if seed % 2 else ()
    file = source(tmp_path / "export.csv", text(rows).encode("utf-8", "surrogatepass"), options)
    lines: list[bytes] = []
    raised = ""
    try:
        with SourceReader([file], ReadingContext(meant_as=meant)) as reader:
            for block in reader:
                lines += block.lines
                assert SECRET not in repr(block)
            assert reader.rows[1] > 800
    except IngestError as error:
        raised = str(error)
    assert not raised or seed % 2 == 0 or options["dateOrder"] is None
    assert SECRET not in raised
    assert READER not in raised
    assert all(SECRET not in str(one.problems) for one in validate_lines(lines))
    assert all(json.loads(line)["deviceTime"] for line in lines)


# ---------------------------------------------------------------- overlapping exports, memory


def life(seed: int) -> list[tuple[datetime, str]]:
    """Return the rows of four weeks with two sensors, in the order of their kinds, each with its time."""
    chance = random.Random(seed)
    rows: list[tuple[datetime, int, str]] = []
    start = datetime(2026, 3, 1, 10)
    for days, minutes in ((14, 15), (13, 5)):
        for step in range(days * 24 * 60 // minutes):
            moment = start + timedelta(minutes=step * minutes)
            if not 2 <= moment.hour < 3:
                rows.append((moment, 0, f"c4={4 + chance.randrange(90) / 10}"))
        for _ in range(days * 8):
            moment = start + timedelta(minutes=chance.randrange(60, days * 24 * 60))
            if moment.hour != 2:
                kind, cell = chance.choice(
                    [(1, "c5=5.5"), (2, "c14=6.1"), (4, "c7=3"), (4, "c12=9"), (5, "c9=20")]
                )
                rows += [(moment, kind, cell)] * chance.choice([1, 1, 2])
        start += timedelta(days=14)
    made = []
    for moment, kind, cell in sorted(rows, key=lambda one: (one[1], one[0])):
        place, _, value = cell.partition("=")
        made.append((moment, row(f"{moment:%d-%m-%Y %H:%M}", kind, **{place: value})))
    return made


@pytest.mark.parametrize("seed", range(2))
def test_any_two_overlapping_exports_give_the_records_of_the_whole(read: Any, seed: int) -> None:
    rows = life(seed)
    whole = read(text([line for _moment, line in rows], generated="29-03-2026 20:00 UTC"))
    assert len(whole.records) > 4000
    first, last = rows[0][0], max(moment for moment, _line in rows)
    chance = random.Random(seed)
    for _ in range(4):
        cut = first + (last - first) * chance.random()
        overlap = timedelta(hours=chance.choice([0, 1, 30, 200]))
        halves = [
            [line for moment, line in rows if moment < cut + overlap],
            [line for moment, line in rows if moment >= cut],
        ]
        found = [
            read(text(half, generated="29-03-2026 20:00 UTC"), dateOrder="dmy").lines
            for half in halves
            if half
        ]
        assert set().union(*found) == set(whole.lines)


def held_after(path: Path, days: int) -> int:
    """Return how much memory the library holds when the last row of a file of so many days has been read.

    What else allocates meanwhile, such as the threads that talk to the runner of tests, does not count.
    """
    rows = sensor("1950-01-01T10:00:00", days * 12, 120)
    rows += [line.replace(",0,", ",1,,").replace(",,,,", ",,,", 1) for line in rows]
    file = source(path, text(rows, generated="01-01-2190 10:00 UTC"), {})
    tracemalloc.start()
    reader = LibreViewReader((file,), ReadingContext())
    reader.survey()
    for number, _block in enumerate(reader.blocks(file), 1):
        if number * BLOCK_RECORDS >= len(rows):
            break
    gc.collect()
    own = tracemalloc.Filter(inclusive=True, filename_pattern=f"{PROJECT}/include/*")
    held = sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([own]).traces)
    tracemalloc.stop()
    return held


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.local_times.HOURS_MAX", 20)
    monkeypatch.setattr("tidepool_ingest.formats.libreview.DAYS_MAX", 20)
    monkeypatch.setattr("tidepool_ingest.formats.libreview.stamps.DAYS_MAX", 20)
    held_after(tmp_path / "warm.csv", 125)

    small, large = (held_after(tmp_path / f"{days}.csv", days) for days in (125, 500))

    assert 1_000 < large < small + 60_000


def test_cells_of_any_length_are_not_remembered() -> None:
    values, calendar = Values("bg/out-of-range", "mg/dL", SENSOR_LIMITS["mg/dL"]), Calendar()
    for number in range(3):
        assert values.ends(f"{number}{'x' * 100_000}") is None
        assert calendar.time(f"1{number}:00{'x' * 100_000}") is None

    assert sum(map(len, [*values._known, *calendar.times])) < 1_000
