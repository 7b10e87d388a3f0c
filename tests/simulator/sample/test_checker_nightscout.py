"""The checker and the converter, which know nothing of each other, make the same of a Nightscout site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.formats.nightscout_sites import Made, a_site, profile, read_files, sgv, temp, text_of, treatment
from tests.simulator.sample.vendor_twins import REJECTED
from tidepool_simulator.sample.checker.content import rows_of
from tidepool_simulator.sample.checker.nightscout import nightscout_rows
from tidepool_simulator.sample.vendor_files import nightscout_site

ZONE = "Europe/Berlin"


def of_the_checker(files: Mapping[str, bytes]) -> dict[tuple[int, int], list[Any]]:
    read: dict[tuple[int, int], list[Any]] = {}
    made = nightscout_rows([(content, {}) for content in files.values()], ZONE, None)
    for number, rows in enumerate(made, 1):
        for position, records in enumerate(rows):
            for record in records:
                said = REJECTED if record is None else [record["origin"]["id"], *rows_of(record)]
                read.setdefault((number, position), []).append(said)
    return read


def of_the_converter(made: Made) -> dict[tuple[int, int], list[Any]]:
    read: dict[tuple[int, int], list[Any]] = {}
    for (number, position, _where), record in zip(made.places, made.records, strict=True):
        read.setdefault((number, position), []).append([record["origin"]["id"], *rows_of(record)])
    return read


def differences(folder: Path, files: Mapping[str, bytes]) -> list[Any]:
    mine = of_the_checker(files)
    made = read_files(folder, files, timezone=ZONE, is_checked=False)
    theirs = of_the_converter(made)
    refused = sorted(place[1] for place, said in mine.items() if said == [REJECTED])
    assert refused == sorted(position for position, _code in made.rejected)
    accepted = {place: said for place, said in mine.items() if said != [REJECTED]}
    places = sorted(accepted.keys() | theirs.keys())
    return [
        (place, accepted.get(place), theirs.get(place))
        for place in places
        if accepted.get(place) != theirs.get(place)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_they_agree_about_made_up_sites(tmp_path: Path, seed: int) -> None:
    treatments, profiles = a_site(seed)
    readings = [sgv(5 * number, 5 + number) for number in range(60)]
    files = {"entries.json": readings, "treatments.json": treatments, "profile.json": profiles}

    assert differences(tmp_path, {name: text_of(documents) for name, documents in files.items()}) == []


CALCULATED = {"bg": 180, "isf": 50, "ic": 10, "targetBGLow": 100, "targetBGHigh": 110, "iob": 0.5}


def test_they_agree_about_each_trap(tmp_path: Path) -> None:
    documents = [
        profile(rates={"00:00": 1, "13:00": 1.5}, zone="GMT+4"),
        profile(60, rates={"00:00": 1, "13:00": 1.5}, zone="GMT+4"),
        sgv(0, "120"),
        sgv(0, 120, _id="again"),
        sgv(5, 9),
        sgv(10, 101, noise=1, filtered=0, direction="NOT COMPUTABLE"),
        {"_id": "m", "type": "mbg", "mbg": 130, "date": sgv(20)["date"]},
        {"_id": "c", "type": "cal", "slope": 1, "date": sgv(20)["date"]},
        treatment(20.5, "BG Check", glucose=7.2, glucoseType="Finger", units="mmol"),
        treatment(40, "BG Check", glucose=150, glucoseType="Finger"),
        treatment(41, "Meal Bolus", insulin=2.5, carbs=30, _id="a", created_at="2026-03-05T13:41:00+01:00"),
        treatment(41, "Correction Bolus", insulin=2.5, carbs=30, _id="b"),
        treatment(42, "Correction Bolus", insulin=0.1, isSMB=True),
        treatment(43, "Combo Bolus", enteredinsulin=4, splitNow=60, splitExt=40, duration=120),
        treatment(44, "Combo Bolus", insulin=4, splitNow=0, splitExt=100, duration=0),
        treatment(45, "Bolus", insulin=4, isValid=False),
        treatment(46, "External Insulin", insulin=4),
        treatment(47, "", carbs="12,5", foodType="Apfel", absorptionTime=90),
        treatment(47.5, "Bolus Wizard", insulin=3, carbs=20, boluscalc=CALCULATED | {"insulincarbs": 2}),
        treatment(47.6, "Bolus Wizard", bolusCalculatorResult='{"glucoseValue": 180, "ic": 9, "iob": -1}'),
        treatment(47.7, "Bolus Wizard", insulin=1, boluscalc={}),
        treatment(47.8, "Bolus Wizard", wizard={"bg": "much", "ic": 9}),
        treatment(48, "Site Change"),
        treatment(49, "Pod Change"),
        treatment(50, "Exercise", duration=30),
        treatment(51, "Note", notes="secret"),
        treatment(52, "Temporary Target", targetTop=140, targetBottom=140, duration=60, reason="Activity"),
        treatment(70, "Temporary Target", duration=0),
        temp(60, 1.2, 30, enteredBy="Loop"),
        temp(70, 0, 60),
        treatment(75, "Temp Basal", percent=-50, duration=30),
        treatment(200, "Temp Basal", percent=20, duration=30),
        treatment(210, "Suspend Pump"),
        treatment(220, "Resume Pump"),
        treatment(230, "Temp Basal", duration=30),
        temp(300, 80, 30),
        treatment(300, "Bolus", insulin="much"),
        treatment(310, "Meal Bolus", insulin=1, created_at="2026-03-05T12:00:00"),
        temp(400, 1, 30),
        {"_id": "d", "created_at": sgv(0)["date"], "openaps": {}},
    ]

    assert differences(tmp_path, {"site.json": text_of(documents)}) == []


@pytest.mark.parametrize("hours", [(0, 48), (20, 30)])
def test_they_agree_about_the_site_that_is_staged(tmp_path: Path, hours: tuple[float, float]) -> None:
    files = {file.name: file.content for file in nightscout_site(hours)}

    assert differences(tmp_path, files) == []
