"""Which basal insulin was delivered when, by a site that stores only what was planned."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.formats.nightscout_sites import (
    DAY,
    Document,
    a_site,
    holes_and_overlaps,
    profile,
    read,
    read_files,
    sgv,
    temp,
    text_of,
    time_of,
    treatment,
)
from tidepool_ingest.staging.errors import BatchError
from tidepool_ingest.staging.manifest import FileOptions


def test_a_temp_basal_is_cut_where_the_next_one_begins(tmp_path: Path) -> None:
    made = read(tmp_path, temp(0, 2, 30), temp(10, "1.5", "30"), temp(30, 0, 120, enteredBy="iAPS"))

    assert made.basals() == [
        ("temp", time_of(0), 10, 2),
        ("temp", time_of(10), 20, 1.5),
        ("automated", time_of(30), 120, 0),
    ]
    assert [basal.get("expectedDuration") for basal in made.of("basal")] == [1_800_000, 1_800_000, None]


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({"enteredBy": "Loop"}, "automated"),
        ({"enteredBy": "openaps://AndroidAPS"}, "automated"),
        ({"app": "AAPS"}, "automated"),
        ({"enteredBy": "Loop", "automatic": False}, "temp"),
        ({"enteredBy": "someone", "automatic": True}, "automated"),
        ({"enteredBy": "someone"}, "temp"),
        ({}, "temp"),
    ],
)
def test_a_loop_makes_it_automated(tmp_path: Path, more: dict[str, Any], kind: str) -> None:
    assert read(tmp_path, temp(0, 1, **more)).basals()[0][0] == kind


def test_the_schedule_runs_between_temp_basals_by_the_profile_in_force(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        profile(rates={"00:00": 1, "13:00": 1.5}, zone="UTC"),
        profile(100, rates={"00:00": 2}, zone="UTC"),
        temp(0, 3, 30),
        temp(120, 3, 30),
    )

    assert made.basals() == [
        ("temp", time_of(0), 30, 3),
        ("scheduled", time_of(30), 30, 1),
        ("scheduled", time_of(60), 40, 1.5),
        ("scheduled", time_of(100), 20, 2),
        ("temp", time_of(120), 30, 3),
    ]
    filled = [basal for basal in made.of("basal") if basal["deliveryType"] == "scheduled"]
    assert [basal["origin"]["id"] for basal in filled] == [
        f"basal:scheduled:{time_of(minute)}" for minute in (30, 60, 100)
    ]
    assert {basal["scheduleName"] for basal in filled} == {"Default"}


def test_nothing_is_filled_that_is_not_known(tmp_path: Path) -> None:
    # No profile; one that comes later; no event of basal delivery; only one.
    pair = temp(0, 1), temp(120, 1)
    assert len(read(tmp_path, *pair).basals()) == 2
    assert read(tmp_path, *pair, profile(90)).basals()[1] == ("scheduled", time_of(90), 30, 1)
    boluses = [treatment(minute, "Meal Bolus", insulin=1) for minute in (0, 500)]
    assert read(tmp_path, *boluses, sgv(0), profile()).basals() == []
    assert len(read(tmp_path, *boluses, temp(100, 1), profile()).basals()) == 1
    unknown = profile(store={"basal": [{"time": "?", "value": 1}]})
    made = read(tmp_path, *pair, unknown)
    assert len(made.basals()) == 2
    assert made.rejected == [(2, "staged-not-a-number")]


def test_a_week_without_a_sign_of_the_pump_is_not_filled(tmp_path: Path) -> None:
    documents = [temp(0, 1), temp(8 * DAY, 1), profile()]
    assert len(read(tmp_path, *documents).basals()) == 2

    worn = treatment(6 * DAY, "Site Change")
    filled = read(tmp_path, *documents, worn)
    assert holes_and_overlaps(filled.basals()) == []

    late = [*documents, worn, temp(20 * DAY, 1)]
    assert holes_and_overlaps(read(tmp_path, *late).basals()) == [12 * DAY - 30]


def test_a_part_of_a_second_between_two_is_no_pause(tmp_path: Path) -> None:
    made = read(tmp_path, profile(), temp(0, 2, 4.99), temp(5, 1, 4.9), temp(10, 2))
    assert [(kind, minutes) for kind, _start, minutes, _rate in made.basals()] == [
        ("temp", 5),
        ("temp", 4.9),
        ("scheduled", 0.1),
        ("temp", 30),
    ]
    assert not any("expectedDuration" in basal for basal in made.of("basal"))


def test_a_suspension_cuts_and_is_not_filled(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        profile(),
        temp(0, 2, 60),
        treatment(20, "Suspend Pump"),
        treatment(50, "Resume Pump"),
        temp(90, 2),
        treatment(100, "Suspend Pump"),
    )

    assert made.basals() == [
        ("temp", time_of(0), 20, 2),
        ("suspend", time_of(20), 30, None),
        ("scheduled", time_of(50), 40, 1),
        ("temp", time_of(90), 10, 2),
    ]
    assert [(event["status"], event["time"]) for event in made.of("deviceEvent")] == [
        ("suspended", time_of(20)),
        ("resumed", time_of(50)),
        ("suspended", time_of(100)),
    ]


def test_the_end_of_a_temp_basal_ends_it(tmp_path: Path) -> None:
    made = read(tmp_path, profile(), temp(0, 2, 60), temp(20, 0, 0), temp(30, 2, 30))
    assert made.basals() == [
        ("temp", time_of(0), 20, 2),
        ("scheduled", time_of(20), 10, 1),
        ("temp", time_of(30), 30, 2),
    ]
    assert (made.skipped, [row for _file, row, _where in made.places]) == ({}, [0, 1, 2, 3])


def test_what_ran_without_a_rate_is_left_open(tmp_path: Path) -> None:
    made = read(tmp_path, profile(), temp(0, 2, 60), treatment(20, "Temp Basal", duration=30), temp(70, 2))
    assert made.basals() == [
        ("temp", time_of(0), 20, 2),
        ("scheduled", time_of(50), 20, 1),
        ("temp", time_of(70), 30, 2),
    ]
    assert made.rejected == [(2, "staged-no-amount")]


def test_a_percentage_is_of_the_profile(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        profile(rates={"00:00": 1, "13:00": 2}),
        treatment(30, "Temp Basal", percent=-50, duration=60),
        treatment(120, "Temp Basal", rate=150, temp="percent", duration=30, enteredBy="openaps"),
        temp(150, 1),
    )

    assert made.basals() == [
        ("temp", time_of(30), 30, 0.5),
        ("temp", time_of(60), 30, 1),
        ("scheduled", time_of(90), 30, 2),
        ("automated", time_of(120), 30, 3),
        ("temp", time_of(150), 30, 1),
    ]
    halved = made.of("basal")[0]
    assert halved["percent"] == 0.5
    assert halved["suppressed"] == {"type": "basal", "deliveryType": "scheduled", "rate": 1}
    assert len(made.by_name) == len(made.lines)


def test_a_percentage_in_the_place_of_a_rate_is_refused(tmp_path: Path) -> None:
    one = read(tmp_path, profile(), temp(0, 110, 30), temp(40, 0.8, 30))
    assert one.rejected == [(1, "staged-percent-as-rate")]
    assert one.basals() == [("scheduled", time_of(30), 10, 1), ("temp", time_of(40), 30, 0.8)]

    rates = [110, 80, 30, 150, 0]
    program = [temp(minute, rate, enteredBy="odd") for minute, rate in enumerate(rates)]
    all_of_them = read(tmp_path, *program, temp(9, 1, enteredBy="other"))
    assert [row for row, _code in all_of_them.rejected] == [0, 1, 2, 3]


def test_the_same_temp_basal_told_twice_is_one(tmp_path: Path) -> None:
    made = read(tmp_path, temp(0, 1, _id="b"), temp(0, 1, _id="a", enteredBy="Loop"), temp(20, 1))
    assert made.basals() == [("automated", time_of(0), 20, 1), ("temp", time_of(20), 30, 1)]
    assert "basal:a" in made.by_name
    assert made.skipped == {"duplicate-row": 1}

    overruled = read(tmp_path, temp(0, 1, _id="a"), treatment(0, "Suspend Pump", _id="b"), temp(20, 1))
    assert overruled.basals()[0] == ("suspend", time_of(0), 20, None)
    assert overruled.skipped == {"superseded": 1}


def test_an_invalid_temp_basal_cuts_nothing(tmp_path: Path) -> None:
    made = read(tmp_path, temp(0, 1, 60), temp(30, 5, 60, isValid=False))
    assert made.basals() == [("temp", time_of(0), 60, 1)]


# ---------------------------------------------------------------- profile switches


@pytest.mark.parametrize(
    ("switches", "rates"),
    [
        ([treatment(90, "Profile Switch", profile="Night")], [(30, 1), (30, 2), (90, 0.3)]),
        (
            [
                treatment(
                    90, "Profile Switch", profile="Night (50%)", originalProfileName="Night", percentage=50
                )
            ],
            [(30, 1), (30, 2), (90, 0.15)],
        ),
        (
            [treatment(60, "Profile Switch", profile="Default", percentage=110, duration=30)],
            [(30, 1), (30, 2.2), (90, 2)],
        ),
        (
            # An hour later: what begins at 13:00 begins at 14:00, and what begins at midnight at one.
            [treatment(0, "Profile Switch", profile="Default", timeshift=1, _id="s")],
            [(90, 1), (60, 2)],
        ),
        (
            [treatment(0, "Profile Switch", profile="Default", timeshift=3_600_000, _id="s")],
            [(90, 1), (60, 2)],
        ),
        (
            [
                treatment(
                    90,
                    "Profile Switch",
                    profile="Away",
                    profileJson=json.dumps({"timezone": "UTC", "basal": [{"time": "00:00", "value": "0.7"}]}),
                )
            ],
            [(30, 1), (30, 2), (90, 0.7)],
        ),
        ([treatment(60, "Profile Switch", profile="Gone")], [(30, 1)]),
        (
            [
                treatment(60, "Profile Switch", profile="Night"),
                treatment(90, "Profile Switch", profile="Default", percentage=50, duration=30),
            ],
            [(30, 1), (30, 0.3), (30, 1), (60, 0.3)],
        ),
    ],
)
def test_a_profile_switch_scales_shifts_and_ends(
    tmp_path: Path, switches: list[Document], rates: list[tuple[float, object]]
) -> None:
    stores = {
        "Default": {
            "timezone": "UTC",
            "basal": [{"time": "00:00", "value": 1}, {"time": "13:00", "value": 2}],
        },
        "Night": {"timezone": "UTC", "basal": [{"time": "00:00", "value": 0.3}]},
    }
    document = profile(units="mmol") | {"store": stores}

    made = read(tmp_path, document, *switches, temp(0, 9, 30), temp(180, 9, 30))

    filled = [(minutes, rate) for kind, _start, minutes, rate in made.basals() if kind == "scheduled"]
    assert _merged(filled) == _merged(rates)


def _merged(rates: list[tuple[float, object]]) -> list[tuple[float, object]]:
    merged: list[tuple[float, object]] = []
    for minutes, rate in rates:
        if merged and merged[-1][1] == rate:
            merged[-1] = merged[-1][0] + minutes, rate
        else:
            merged.append((minutes, rate))
    return merged


# ---------------------------------------------------------------- zones


@pytest.mark.parametrize(
    ("zone", "noon"),
    [
        ("America/New_York", 17 * 60),
        ("GMT+4", 8 * 60),
        ("ETC/GMT+5", 17 * 60),
        ("Asia/Kathmandu", 6 * 60 + 15),
    ],
)
def test_a_schedule_is_that_of_the_profiles_clock(tmp_path: Path, zone: str, noon: int) -> None:
    made = read(tmp_path, profile(rates={"00:00": 1, "12:00": 2}, zone=zone), temp(-720, 9), temp(720, 9))

    begins = [start for _kind, start, _minutes, rate in made.basals() if rate == 2]
    assert time_of(noon - 720) in begins
    assert holes_and_overlaps(made.basals()) == []


def test_a_schedule_follows_its_clock_over_summer_time(tmp_path: Path) -> None:
    # In Berlin clocks go forward on 29 March 2026 at 01:00 UTC.
    document = profile(rates={"00:00": 1, "06:00": 2}, zone="Europe/Berlin")
    start = 23 * DAY  # noon of the 28th
    made = read(tmp_path, document, temp(start, 9), temp(start + DAY, 9))

    assert [(begins, minutes, rate) for _kind, begins, minutes, rate in made.basals()[1:-1]] == [
        (time_of(start + 30), 630, 2),
        ("2026-03-28T23:00:00Z", 300, 1),
        ("2026-03-29T04:00:00Z", 480, 2),
    ]


def test_a_schedule_needs_a_clock(tmp_path: Path) -> None:
    documents = [profile(rates={"00:00": 1, "13:00": 2}, zone="?"), temp(0, 9), temp(120, 9)]
    with pytest.raises(BatchError) as caught:
        read(tmp_path, *documents)
    assert caught.value.code == "timezone-missing"

    for more in ({"timezone": "UTC"}, {"options": FileOptions(timezone="UTC")}):
        made = read(tmp_path, *documents, **more)
        assert made.basals()[1:3] == [
            ("scheduled", time_of(30), 30, 1),
            ("scheduled", time_of(60), 60, 2),
        ]
    # One rate all day is the same by every clock.
    assert len(read(tmp_path, profile(zone="?"), temp(0, 9), temp(120, 9)).basals()) == 3
    # And nothing is laid out where nothing is to be filled.
    assert len(read(tmp_path, documents[0], temp(0, 9)).basals()) == 1


# ---------------------------------------------------------------- the whole of it


@pytest.mark.parametrize("seed", range(6))
def test_delivery_has_neither_holes_nor_overlaps(tmp_path: Path, seed: int) -> None:
    treatments, profiles = a_site(seed)

    made = read(tmp_path, *treatments, *profiles)

    basals = made.basals()
    assert len(basals) > 20
    assert {basal[0] for basal in basals} >= {"automated", "scheduled", "suspend"}
    assert holes_and_overlaps(basals) == []
    assert len(made.by_name) == len(made.lines)


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_documents_and_files_changes_nothing(tmp_path: Path, seed: int) -> None:
    treatments, profiles = a_site(seed)
    expected = read(tmp_path, *treatments, *profiles).by_name
    shuffled = [*treatments, *profiles]
    random.Random(seed).shuffle(shuffled)
    files = {"a.json": text_of(shuffled[::2]), "b.json": text_of(shuffled[1::2])}

    assert read_files(tmp_path, files).by_name == expected


STARTS = ("Temp Basal", "Suspend Pump", "Resume Pump")


@pytest.mark.parametrize("seed", range(40))
def test_two_exports_that_overlap_end_as_one_does(tmp_path: Path, seed: int) -> None:
    chosen = random.Random(seed)
    treatments, profiles = a_site(seed, days=1)
    whole = read(tmp_path, *treatments, *profiles).by_name
    # They have at least one event of basal delivery in common, and the same profiles.
    common = chosen.choice([t for t in treatments if t["eventType"] in STARTS])["created_at"]
    times = [t["created_at"] for t in treatments]
    begins = chosen.choice([time for time in times if time <= common])
    ends = chosen.choice([time for time in times if time >= common])
    older = [t for t in treatments if t["created_at"] <= ends]
    newer = [t for t in treatments if t["created_at"] >= begins]

    feed = read(tmp_path, *older, *profiles).by_name | read(tmp_path, *newer, *profiles).by_name

    assert feed == whole


def test_a_schedule_filled_up_to_the_edge_gives_way_to_what_came_after(tmp_path: Path) -> None:
    first = [profile(), temp(0, 2), temp(60, 2)]
    later = [*first, temp(40, 3, 10, _id="late"), temp(90, 2)]

    feed = read(tmp_path, *first).by_name | read(tmp_path, *later).by_name

    assert feed == read(tmp_path, *later).by_name
