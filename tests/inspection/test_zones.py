"""Which time zone files are in: small made-up ones, and what is seen of their clocks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from upath import UPath

from tests.formats.clarity_files import export, reading
from tidepool_ingest.formats.reader import ClockSigns
from tidepool_ingest.inspection.clocks import Clocks
from tidepool_ingest.inspection.findings import ZoneFinding
from tidepool_ingest.inspection.inspecting import Source, inspect_source
from tidepool_ingest.inspection.known_zones import minutes_ahead, rank, zones_told_apart
from tidepool_ingest.inspection.zones import CANDIDATES_MAX, find_zone, with_rhythm, zone_of
from tidepool_ingest.local_times import Period
from tidepool_ingest.staging.manifest import FileOptions
from tidepool_ingest.staging.source_file import SourceFile
from tidepool_ingest.staging.storage import GIVEN

BERLIN, LONDON, NEW_YORK = "Europe/Berlin", "Europe/London", "America/New_York"
SPRING, AUTUMN = datetime(2026, 3, 29), datetime(2026, 10, 25)
"""Sundays on which clocks change in Europe."""


def hours(first: datetime, count: int, readings: int = 12) -> Counter[str]:
    return Counter({(first + timedelta(hours=hour)).isoformat()[:13]: readings for hour in range(count)})


def local(hours_: Counter[str], *zone: str | Period, **signs: Any) -> ZoneFinding:
    periods = tuple(Period(one) if isinstance(one, str) else one for one in zone)
    return zone_of(Clocks(is_local=True, hours=hours_, signs=ClockSigns(**signs)), periods)


def said(finding: ZoneFinding) -> list[tuple[str, str]]:
    return [(seen.kind, seen.supports) for seen in finding.evidence]


# ---------------------------------------------------------------- hours that are left out, or there twice


def test_a_week_without_a_change_narrows_nothing() -> None:
    found = local(hours(datetime(2026, 6, 1), 7 * 24), BERLIN)

    assert (found.verdict, found.candidates, found.evidence) == ("open", (), ())
    assert local(hours(datetime(2026, 6, 1), 7 * 24)).used == "Etc/UTC"


def test_years_that_no_clock_has_seen_narrow_nothing() -> None:
    found = hours(datetime(1, 1, 1), 48) + hours(datetime(9999, 12, 1), 48) + Counter({"2026-02-30T10": 9})

    assert local(found, BERLIN).verdict == "open"
    assert local(found).candidates == ()


def spring(*missing: int) -> Counter[str]:
    """Return full hours around a change to summer time, without some of that Sunday."""
    found = hours(SPRING - timedelta(days=3), 6 * 24)
    for hour in missing:
        del found[(SPRING + timedelta(hours=hour)).isoformat()[:13]]
    return found


def test_an_hour_that_is_left_out_speaks_for_its_zones() -> None:
    found = local(spring(2), BERLIN)

    assert found.verdict == "fits"
    assert said(found) == [("summer-time", "for")]
    assert found.evidence[0].at == "2026-03-29T02:00:00"
    assert found.candidates[:2] == (BERLIN, "Europe/Paris")
    assert not {LONDON, "Europe/Athens", "Etc/UTC"} & set(found.candidates)


def test_readings_in_an_hour_that_is_left_out_speak_against_it() -> None:
    found = local(spring(2), LONDON)

    assert found.verdict == "contradicted"
    assert said(found) == [("summer-time", "against")]
    (seen,) = found.evidence
    assert "12 readings are between 01:00 and 02:00 on 2026-03-29" in seen.sentence
    assert (
        "--timezone Europe/London@2026-03-29T01:00:00 --timezone Etc/UTC@<when it was set> "
        "--timezone Europe/London"
    ) in seen.sentence


def test_one_reading_is_enough() -> None:
    found = spring(2)
    found["2026-03-29T02"] = 1

    assert "1 reading is" in local(found, BERLIN).evidence[0].sentence
    assert BERLIN not in local(found).candidates


def test_a_sensor_that_was_off_around_a_change_says_nothing() -> None:
    assert local(spring(1, 2, 3), BERLIN).verdict == "open"
    assert local(spring(0, 1, 2), BERLIN).verdict == "open"


def test_few_readings_say_nothing() -> None:
    sparse = Counter({hour: 1 for hour in spring(2)})

    assert local(sparse, BERLIN).verdict == "open"


def autumn(number: int) -> Counter[str]:
    found = hours(AUTUMN - timedelta(days=3), 6 * 24)
    found["2026-10-25T02"] = number
    return found


@pytest.mark.parametrize(
    ("number", "verdict"), [(24, "fits"), (12, "contradicted"), (5, "open"), (17, "open")]
)
def test_an_hour_that_is_there_twice_has_twice_as_many_readings(number: int, verdict: str) -> None:
    assert local(autumn(number), BERLIN).verdict == verdict


@pytest.mark.parametrize(("number", "verdict"), [(24, "contradicted"), (12, "open"), (17, "open")])
def test_an_hour_that_is_there_twice_speaks_against_a_zone_that_has_it_once(
    number: int, verdict: str
) -> None:
    found = local(autumn(number), "Africa/Lagos")

    assert found.verdict == verdict
    assert said(found) == ([("summer-time", "against")] if verdict == "contradicted" else [])
    doubled = autumn(24) + Counter({"2026-10-25T01": 12, "2026-10-25T03": 12})  # two sensors at a time
    assert local(doubled, "Africa/Lagos").verdict == "open"


def test_who_says_none_gets_the_zone_of_most_people_that_fits() -> None:
    found = local(spring(2))

    assert (found.needed, found.stated, found.used) == (True, None, BERLIN)
    assert found.verdict == "open"  # it is one of several, and nobody has said it


def test_each_of_several_periods_counts_in_its_own_time() -> None:
    late = Period(LONDON, "2026-03-29T01:00:00"), Period("Etc/UTC", "2026-03-29T12:00:00")

    assert local(spring(2), *late, Period(LONDON)).verdict == "open"
    assert local(spring(2), LONDON).verdict == "contradicted"


# ---------------------------------------------------------------- when the file was generated


def generated(at: str, latest: str, *zone: str) -> ZoneFinding:
    return local(
        hours(datetime(2026, 6, 1), 48),
        *zone,
        generated=datetime.fromisoformat(at).replace(tzinfo=UTC),
        latest=latest,
    )


def test_a_file_is_generated_after_its_latest_row() -> None:
    found = generated("2026-06-02T18:10", "2026-06-02T20:00:00", NEW_YORK)

    assert (found.verdict, said(found)) == ("contradicted", [("generated-on", "against")])
    assert "5 h 50 min after it was generated" in found.evidence[0].sentence
    assert NEW_YORK not in found.candidates
    assert found.candidates[0] == BERLIN  # where it was made ten minutes after it


def test_a_file_that_is_generated_at_once_tells_its_zone() -> None:
    found = generated("2026-06-02T18:10", "2026-06-02T20:08:00", BERLIN)

    assert (found.verdict, said(found)) == ("fits", [("generated-on", "for")])


def test_a_file_that_is_generated_days_later_tells_nothing() -> None:
    found = generated("2026-06-09T18:10", "2026-06-02T20:08:00", BERLIN)

    assert (found.verdict, found.candidates, found.evidence) == ("open", (), ())


# ---------------------------------------------------------------- the transmitter's clock


def clarity(folder: Path, jumps: Iterable[tuple[datetime, int]], zone: str | None = None) -> SourceFile:
    """Write readings of two days; from some instants on, the clock is so many minutes further ahead."""
    ahead = [(datetime.min, 0), *jumps]
    rows = []
    begin = SPRING - timedelta(days=1)
    for step in range(2 * 24 * 12):
        true = begin + timedelta(minutes=5 * step)
        minutes = next(minutes for since, minutes in reversed(ahead) if true >= since)
        shown = true + timedelta(minutes=minutes)
        rows.append(reading(shown.isoformat(), 1_000 + 300 * step))
    path = folder / "clarity.csv"
    path.write_bytes(export(sorted(rows)))
    options = FileOptions(timezone=zone)
    return SourceFile(UPath(path), "clarity", below_root=GIVEN, options=options)


def test_a_transmitter_shows_when_the_clock_was_set(tmp_path: Path) -> None:
    file = clarity(tmp_path, [(SPRING + timedelta(hours=2), 60)], BERLIN)

    found = find_zone([file])

    assert (found.verdict, said(found)) == ("fits", [("transmitter-clock", "for")])
    assert found.candidates[0] == BERLIN
    for other in (LONDON, "Europe/Athens", "Etc/UTC", "Asia/Tokyo"):
        assert find_zone([clarity(tmp_path, [(SPRING + timedelta(hours=2), 60)], other)]).verdict == (
            "contradicted"
        ), other


def test_a_clock_that_nobody_set_speaks_against_a_change(tmp_path: Path) -> None:
    found = find_zone([clarity(tmp_path, [], BERLIN)])

    assert (found.verdict, said(found)) == ("contradicted", [("transmitter-clock", "against")])
    assert find_zone([clarity(tmp_path, [], "Asia/Tokyo")]).verdict == "open"


def test_a_journey_is_no_contradiction(tmp_path: Path) -> None:
    """From Athens to Berlin at noon; there the clocks change when they do at home."""
    jumps = [(SPRING - timedelta(hours=12), -60), (SPRING + timedelta(hours=3), 0)]

    assert find_zone([clarity(tmp_path, jumps, "Europe/Athens")]).verdict != "contradicted"
    assert find_zone([clarity(tmp_path, jumps, BERLIN)]).verdict == "fits"
    assert find_zone([clarity(tmp_path, jumps[:1], "Asia/Tokyo")]).verdict == "open"


# ---------------------------------------------------------------- what rows and profiles state


def written(folder: Path, name: str, documents: list[dict[str, Any]]) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return path


def test_records_that_state_offsets_tell_the_zone(tmp_path: Path) -> None:
    start, zone = datetime(2026, 1, 5, 12, tzinfo=UTC), ZoneInfo(NEW_YORK)
    records = [
        {
            "type": "cbg",
            "time": f"{at:%Y-%m-%dT%H:%M:%SZ}",
            "timezoneOffset": int(ahead.total_seconds() // 60),
        }
        for at in (start + timedelta(days=day) for day in range(200))
        if (ahead := at.astimezone(zone).utcoffset()) is not None
    ]
    file = SourceFile(UPath(written(tmp_path, "r.ndjson", records)), "ndjson", below_root=GIVEN)

    found = find_zone([file])

    assert (found.needed, found.used, found.verdict) == (False, NEW_YORK, "fits")
    assert said(found) == [("stated", "for")]
    assert "America/Chicago" not in found.candidates


def test_zones_in_which_few_people_live_have_an_order_too() -> None:
    zones = zones_told_apart()

    assert zones == tuple(sorted(zones, key=lambda zone: (rank(zone), zone)))


def test_the_first_zones_that_have_the_stated_offset_are_named(tmp_path: Path) -> None:
    records = [{"type": "cbg", "time": "2026-01-05T12:00:00Z", "timezoneOffset": 60}]
    file = SourceFile(UPath(written(tmp_path, "r.ndjson", records)), "ndjson", below_root=GIVEN)
    noon = datetime(2026, 1, 5, 12, tzinfo=UTC)

    fitting = [zone for zone in zones_told_apart() if minutes_ahead(noon.astimezone(ZoneInfo(zone))) == 60]

    assert len(fitting) > CANDIDATES_MAX
    assert find_zone([file]).candidates == tuple(fitting[:CANDIDATES_MAX])


def test_records_that_name_a_zone_tell_it(tmp_path: Path) -> None:
    records = [{"type": "upload", "time": "2026-03-05T10:00:00Z", "timezone": LONDON}]
    file = SourceFile(UPath(written(tmp_path, "r.ndjson", records)), "ndjson", below_root=GIVEN)

    assert find_zone([file]).candidates == (LONDON,)


PROFILE = {
    "_id": "0123456789abcdef01234567",
    "defaultProfile": "Default",
    "startDate": "2026-03-01T00:00:00.000Z",
    "store": {"Default": {"timezone": BERLIN, "units": "mg/dl", "basal": [{"time": "00:00", "value": 1}]}},
}


@pytest.mark.parametrize(("zone", "supports"), [(None, "for"), (BERLIN, "for"), (NEW_YORK, "against")])
def test_a_profile_of_nightscout_names_the_zone(tmp_path: Path, zone: str | None, supports: str) -> None:
    path = written(tmp_path, "profile.json", [PROFILE])
    options = FileOptions(timezone=zone)

    found = find_zone([SourceFile(UPath(path), "nightscout", below_root=GIVEN, options=options)])

    assert (found.needed, found.used) == (False, zone or BERLIN)
    assert said(found) == [("stated", supports)]


def test_entries_of_nightscout_state_offsets(tmp_path: Path) -> None:
    first = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp() * 1000)
    entries = [
        {
            "_id": f"{day:024x}",
            "type": "sgv",
            "sgv": 120,
            "date": first + day * 86_400_000 + 43_200_000,
            "utcOffset": 60 if day < 9 else 120,
        }
        for day in range(20)
    ]
    path = written(tmp_path, "entries.json", entries)

    found = find_zone([SourceFile(UPath(path), "nightscout", below_root=GIVEN)])

    assert (found.used, found.verdict) == (BERLIN, "fits")


# ---------------------------------------------------------------- meals


def test_meals_are_a_hint_where_nothing_else_is_known() -> None:
    unknown, meals = ZoneFinding(needed=False), [0, 0, 0, 0, 0, 0, 5, 9, *[5] * 13, 1, 1, 1]

    found = with_rhythm(unknown, [*meals[5:], *meals[:5]])

    assert said(found) == [("daily-rhythm", "neither")]
    assert "5 h ahead of UTC: a hint only" in found.evidence[0].sentence
    assert with_rhythm(unknown, [3] * 24) == unknown
    assert with_rhythm(ZoneFinding(needed=False, candidates=(BERLIN,)), meals).evidence == ()


# ---------------------------------------------------------------- in an inspection


def test_a_file_without_a_zone_is_read_in_the_best_one(tmp_path: Path) -> None:
    file = clarity(tmp_path, [(SPRING + timedelta(hours=2), 60)])

    (found,) = inspect_source(Source([file.path], ["clarity.csv"], "clarity", FileOptions()))

    assert (found.zone.used, found.zone.verdict) == (BERLIN, "open")
    assert found.first == datetime(2026, 3, 27, 23, tzinfo=UTC)
    assert found.warnings == ()
