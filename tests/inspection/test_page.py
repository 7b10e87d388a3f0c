"""The page of an inspection: what is on it, that it is safe to open, and small."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tidepool_ingest.cli import main
from tidepool_ingest.cli.page_file import GENERATOR
from tidepool_ingest.coverage import picture_of
from tidepool_ingest.inspection.drawing import (
    LEVELS_HEIGHT,
    MOST_YEARS,
    bars,
    column_ticks,
    days_words,
    heat_map,
    levels,
)
from tidepool_ingest.inspection.findings import (
    ColumnFound,
    DayFound,
    Gap,
    GlucoseFound,
    Hold,
    HourOfDay,
    InspectedDevice,
    InspectedFile,
    Inspection,
    Overlap,
    ReasonFound,
    Suspicion,
    TypeFound,
    UnmappedTable,
    ZoneEvidence,
    ZoneFinding,
)
from tidepool_ingest.inspection.page import MOST_BARS, page
from tidepool_ingest.local_times import zone_named
from tidepool_simulator.sample.vendor_files import clarity_export, libreview_export

START = date(2026, 3, 5)
FULL = (12,) * 24
BIG = 3 * 1024 * 1024
HOSTILE = "<script>alert('x')</script>\"' onload=\"x\x00\x1b[31m\u202egnp.\ud800"


def day(number: int, readings: tuple[int, ...] = FULL, **more: Any) -> DayFound:
    types = {"cbg": sum(readings), **more.pop("types", {})}
    return DayFound(
        day=START + timedelta(days=number), records=readings, readings=readings, types=types, **more
    )


def found(*days: DayFound, **more: Any) -> Inspection:
    moment = datetime(2026, 3, 5, 10, tzinfo=UTC)
    given: dict[str, Any] = {
        "files": (InspectedFile(name="export.csv", format="clarity", compression="none", rows=300),),
        "format": "clarity",
        "accepted": 288,
        "rows": 300,
        "days": days,
        "types": (TypeFound(type="cbg", accepted=288, first=moment, last=moment),),
        **more,
    }
    return Inspection(**given)


GLUCOSE = GlucoseFound(
    unit="mmol/L",
    readings=288,
    lowest=2.9,
    highest=16.2,
    mean=7.4,
    below=0.04,
    in_range=0.72,
    above=0.24,
    hours=tuple(HourOfDay(hour=hour, readings=12, percentiles=(3.8, 5, 6.5, 8.1, 12)) for hour in range(24)),
)


def with_all(text: str) -> Inspection:
    """Return an inspection with everything that there is, and a text wherever one may come from a file."""
    return found(
        day(0, bolus=10.5, basal=18, carbs=120),
        day(1, (0,) * 6 + (12,) * 12 + (30,) + (0,) * 5, types={text: 1}),
        files=(InspectedFile(name=text, format="clarity", compression="gz", rows=300),),
        devices=(InspectedDevice(serial=text, fields={"deviceModel": text, "deviceManufacturers": [text]}),),
        holds=(Hold(code="clock-not-in-zone", what=text, remedy=f"Say `{text}`.", detail=text),),
        zone=ZoneFinding(
            needed=True,
            stated="Europe/Berlin",
            used="Europe/Berlin",
            verdict="contradicted",
            candidates=("Europe/London", text),
            evidence=(ZoneEvidence(kind="summer-time", sentence=text, at=text, supports="against"),),
        ),
        rejected=3,
        duplicates=2,
        types=(TypeFound(type="cbg", accepted=288), TypeFound(type=text, accepted=1, rejected=3)),
        rejections=(
            ReasonFound(code="value-out-of-range", type="cbg", field=f"/{text}", count=9, places=(text,)),
        ),
        warnings=(ReasonFound(code="staged-clock-not-in-zone", count=1, places=("line 21",)),),
        left_out={"metadata": 10, text: 1},
        gaps=(Gap(start=datetime(2026, 3, 6, tzinfo=UTC), end=datetime(2026, 3, 6, 6, tzinfo=UTC), hours=6),),
        suspicions=(Suspicion(kind=text, sentence=text, count=72, first=datetime(2026, 3, 5, tzinfo=UTC)),),
        glucose=GLUCOSE,
        overlaps=(Overlap(label=text, state=text, first_day=START, last_day=START, days=1, records=280),),
    )


class Seen(HTMLParser):
    """What is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.style = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "wbr"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def test_all_that_was_found_is_told() -> None:
    seen = Seen(page([with_all("said so")]))

    for words in (
        "Dexcom Clarity export",
        "A run would stop here before it uploads anything",
        "5\N{EN DASH}6 March 2026",
        "Sensor glucose",
        "Insulin and carbohydrate per day",
        "Europe/Berlin was given. It contradicts what is in the file",
        "These zones fit all that is seen: Europe/London",
        "against it",
        "6 hours 6 March 2026, 01:00 6 March 2026, 07:00",
        "staged-clock-not-in-zone",
        "metadata 10",
        "2 records equal another one",
        "3.9\N{EN DASH}10.0 72 %",
        "What the ledger knows of these days",
    ):
        assert words in seen.text
    assert seen.text.count("said so") > 12
    assert "none 00\N{EN DASH}06" in seen.text


@pytest.mark.parametrize("inspection", [with_all("plain"), with_all(HOSTILE), found(), found(day(0))])
def test_nothing_is_loaded_and_nothing_runs(inspection: Inspection) -> None:
    text = page([inspection, inspection])
    seen = Seen(text)

    assert seen.open == []
    names = {tag for tag, _ in seen.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "use"}
    attributes = {name for _, attrs in seen.tags for name in attrs}
    assert not {name for name in attributes if name.startswith("on")}
    assert not attributes & {"src", "srcset", "style", "action", "xlink:href", "poster", "background"}
    assert all(re.fullmatch(r"#i\d+(-[a-z]+)?", value) for value in seen.values("href"))
    assert "url(" not in seen.style
    assert "@import" not in seen.style
    assert "://" not in text


def test_its_policy_allows_its_style_and_nothing_else() -> None:
    seen = Seen(page([found(day(0))]))
    (policy,) = (attrs["content"] for _, attrs in seen.tags if attrs.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()

    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def test_texts_of_files_stay_texts() -> None:
    text = page([with_all(HOSTILE)])
    seen = Seen(text)

    assert "<script>alert('x')</script>\"' onload=\"x\N{REPLACEMENT CHARACTER}" in seen.text
    assert not set("\x00\x1b\u202e\ud800") & set(text)
    text.encode()  # no half of a surrogate pair is left


def test_what_it_refers_to_is_there_once() -> None:
    seen = Seen(page([with_all("a"), with_all("b")]))
    ids = seen.values("id")

    assert len(ids) == len(set(ids))
    assert {value[1:] for value in seen.values("href")} <= set(ids)
    assert {name for value in seen.values("aria-labelledby") for name in value.split()} <= set(ids)
    assert all(attrs.get("aria-label") for tag, attrs in seen.tags if attrs.get("role") == "img")


def test_it_says_whose_it_is_on_the_screen_and_on_paper() -> None:
    seen = Seen(page([found(day(0))]))

    assert seen.text.index("This page holds health data") < seen.text.index("Dexcom Clarity export", 40)
    assert "for those who treat or look after that person" in seen.text
    assert '@bottom-left { content: "Holds health data' in seen.style


def test_the_same_findings_make_the_same_page() -> None:
    assert page([with_all("x")]) == page([with_all("x")])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "All 288 records would be taken"),
        ({"rejected": 12}, "288 records would be taken, 12 would not"),
        ({"accepted": 0}, "There is no record that Tidepool would take"),
        ({"is_readable": False, "days": (), "types": ()}, "This file cannot be read as it is"),
        ({"format": ""}, "No data that can be read"),
        ({"zone": ZoneFinding(needed=True, stated="No/Where", used="No/Where")}, "No/Where was given"),
    ],
)
def test_its_first_words_say_what_is_the_matter(more: dict[str, Any], words: str) -> None:
    assert words in Seen(page([found(**{"days": (day(0),), **more})])).text


def test_ten_years_are_a_page_of_few_megabytes() -> None:
    patchy = tuple(0 if hour % 3 else 12 for hour in range(24))
    types = {"bolus": 6, "basal": 40, "food": 4, "deviceEvent": 1}
    days = [day(number, patchy, types=types, bolus=10, basal=20, carbs=150) for number in range(3653)]
    kinds = tuple(TypeFound(type=name, accepted=3653) for name in ("cbg", *types))
    gap = Gap(start=datetime(2026, 3, 6, tzinfo=UTC), end=datetime(2026, 3, 6, 6, tzinfo=UTC), hours=6)
    text = page([found(*days, types=kinds, gaps=(gap,) * 5000, glucose=GLUCOSE)])

    assert len(text.encode()) < BIG
    seen = Seen(text)
    assert "Coverage as a table, by month" in seen.text
    assert "Each bar stands for 20 days and shows their mean." in seen.text
    assert "4,900 still shorter gaps, only counted" in seen.text


def test_gaps_that_are_only_counted_are_counted() -> None:
    gap = Gap(start=datetime(2026, 3, 5, tzinfo=UTC), end=datetime(2026, 3, 6, tzinfo=UTC), hours=24)
    text = Seen(page([found(day(0)).but(gaps=(gap,) * 50, gap_count=170)])).text

    assert "170 gaps, the longest first" in text
    assert "160 shorter gaps" in text
    assert "120 still shorter gaps, only counted." in text


def test_the_columns_of_a_table_without_a_mapping_are_listed() -> None:
    columns = (
        ColumnFound(name="<b>When", holds="times", meaning="time"),
        ColumnFound(name="Note", holds="text"),
    )
    table = UnmappedTable(columns=columns, rows=3, needs_zone=True)
    written = page([found().but(table=table, is_readable=False)])

    assert "A table that no mapping explains" in Seen(written).text
    assert "2 columns, 3 rows" in Seen(written).text
    assert "&lt;b&gt;When" in written


def test_what_has_no_room_is_said() -> None:
    days = [
        DayFound(day=date(year, 6, 1), records=FULL, readings=FULL, types={"cbg": 288})
        for year in range(1950, 1950 + MOST_YEARS + 2)
    ]

    assert "2 older years with records are left out of this picture." in Seen(page([found(*days)])).text


# ---------------------------------------------------------------- shapes


def test_few_days_are_a_row_and_many_are_months_or_years() -> None:
    kinds = []
    for number in (1, 31, 32, 365, 400):
        days = {START + timedelta(days=n): FULL for n in range(number)}
        drawn = heat_map(days, "readings")
        kinds.append((drawn.kind, len(drawn.bands)))
        assert sum(band.records for band in drawn.bands) == 288 * number
        assert sum(band.possible for band in drawn.bands) == 24 * number

    assert kinds == [("days", 1), ("days", 1), ("months", 2), ("years", 2), ("years", 2)]


def test_hours_before_the_first_reading_and_after_the_last_are_not_missing() -> None:
    drawn = heat_map(
        {START: (0,) * 20 + (12,) * 4, START + timedelta(days=1): (12,) * 3 + (0, 12) + (0,) * 19}, "readings"
    )
    (band,) = drawn.bands

    assert (band.hours, band.possible) == (8, 9)
    assert dict(band.paths) == {0: "M1.5 3v1", 4: "M0.5 20v4M1.5 0v3M1.5 4v1"}
    assert [spot.title for spot in band.spots] == [
        "Thu 5 March 2026: 48 readings in 4 of 4 hours",
        "Fri 6 March 2026: 48 readings in 4 of 5 hours; none 03\N{EN DASH}04",
    ]


def test_an_hour_that_the_zone_leaves_out_is_no_hour_without_readings() -> None:
    change, berlin = date(2026, 3, 29), zone_named("Europe/Berlin")
    counts = (12, 12, 0, *FULL[3:])

    (band,) = heat_map({change: counts}, "readings", berlin).bands
    assert (band.hours, band.possible) == (23, 23)
    assert [level for level, _path in band.paths] == [4]
    assert band.spots[0].title.endswith("276 readings in 23 of 23 hours")

    (in_utc,) = heat_map({change: counts}, "readings").bands
    assert (in_utc.hours, in_utc.possible) == (23, 24)
    (shown,) = heat_map({change: FULL}, "readings", berlin).bands  # a clock that nobody had set
    assert (shown.hours, shown.possible) == (24, 24)


def test_levels_stop_where_no_hour_has_values() -> None:
    hours = [hour for hour in GLUCOSE.hours if hour.hour not in (3, 4, 12)]
    drawn = levels(GLUCOSE.but(hours=tuple(hours)))

    assert drawn.median.count("M") == 3
    assert drawn.wide.count("z") == 3
    assert [tick.label for tick in drawn.ticks if tick.is_limit] == ["3.9", "10.0"]


def test_a_curve_stays_between_its_points() -> None:
    values = [5.0, 5.0, 15.0, 5.0] * 6
    hours = tuple(
        HourOfDay(hour=hour, readings=1, percentiles=(value,) * 5) for hour, value in enumerate(values)
    )
    drawn = levels(GLUCOSE.but(hours=hours))
    heights = [float(y) for y in re.findall(r"[\d.]+ ([\d.]+)", drawn.median)]

    assert min(heights) == round(LEVELS_HEIGHT * (1 - 15 / 16.7), 1)
    assert max(heights) == round(LEVELS_HEIGHT * (1 - 5 / 16.7), 1)


def test_a_long_time_without_records_is_one_column_of_the_bars() -> None:
    days = {START + timedelta(days=n): FULL for n in (0, 1, 90)}
    columns = picture_of(days, columns=MOST_BARS).columns
    drawn = bars(columns, lambda column: sum(column.hours), room=14)

    assert (drawn.columns, drawn.highest, drawn.paths[0].count("M")) == (14, 288, 3)
    assert [(gap.x, gap.title) for gap in drawn.gaps] == [(2, "7 March \N{EN DASH} 2 June 2026: no record")]
    assert [tick.label for tick in column_ticks(columns, 14)] == ["5 Mar", "7 Mar"]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (date(2026, 3, 5), date(2026, 3, 5), "5 March 2026"),
        (date(2026, 3, 5), date(2026, 3, 9), "5\N{EN DASH}9 March 2026"),
        (date(2026, 3, 5), date(2026, 4, 1), "5 March \N{EN DASH} 1 April 2026"),
        (date(2025, 12, 5), date(2026, 4, 1), "5 December 2025 \N{EN DASH} 1 April 2026"),
    ],
)
def test_days_are_written_as_people_do(first: date, last: date, words: str) -> None:
    assert days_words(first, last) == words


# ---------------------------------------------------------------- the file


def inspect(tmp_path: Path, out: Path | str) -> int:
    export = clarity_export()
    path = tmp_path / "clarity.csv"
    path.write_bytes(export.content)
    return main(["inspect", str(path), "--timezone", "Europe/Berlin", "--html", str(out)])


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o277])
def test_nobody_else_may_read_the_page(tmp_path: Path, mask: int) -> None:
    out = tmp_path / "page.html"
    with umask(0o022):
        out.write_text(f"<!DOCTYPE html>{GENERATOR}")
    before = out.stat().st_ino
    (tmp_path / "clarity.csv").touch()
    with umask(mask):
        inspect(tmp_path, out)
        assert os.umask(mask) == mask

    found = out.stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_ino != before
    assert {path.name for path in tmp_path.iterdir()} == {"clarity.csv", "page.html"}
    assert "Dexcom Clarity export" in Seen(out.read_text()).text


def test_another_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "other.csv"
    data.write_text("precious")

    assert inspect(tmp_path, data) == 2
    assert data.read_text() == "precious"
    assert "is no such page" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "nowhere", "dash", "empty"])
def test_it_is_written_to_a_file_only(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, target = tmp_path / "page.html", tmp_path / "elsewhere.html"
    if kind == "link":
        target.write_text(f"<!DOCTYPE html>{GENERATOR}")
    if "link" in kind:
        out.symlink_to(target)
    elif kind == "folder":
        out.mkdir()
    elif kind == "pipe":
        os.mkfifo(out)
    elif kind == "nowhere":
        out = tmp_path / "none" / "page.html"

    assert inspect(tmp_path, {"dash": "-", "empty": ""}.get(kind, out)) == 2
    assert "--html" in capsys.readouterr().err
    assert kind != "link" or target.read_text() == f"<!DOCTYPE html>{GENERATOR}"
    assert kind != "dangling link" or not target.exists()


def test_a_made_up_libreview_export_has_a_page(tmp_path: Path) -> None:
    export = libreview_export()
    path, out = tmp_path / "libre.csv", tmp_path / "page.html"
    path.write_bytes(export.content)
    main(["inspect", str(path), "--timezone", "Europe/London", "--html", str(out)])
    seen = Seen(out.read_text())

    assert "LibreView export" in seen.text
    assert "Glucose by hour of the day" in seen.text
    assert "mmol/L" in seen.text
