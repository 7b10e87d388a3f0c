"""Exports of a Nightscout site that overlap, uploaded one after the other to the simulated Tidepool."""

from __future__ import annotations

from tests.formats.nightscout_sites import (
    Document,
    holes_and_overlaps,
    profile,
    sgv,
    temp,
    text_of,
    treatment,
)
from tests.world import FeedWorld

PROFILES = [profile(rates={"00:00": 1, "13:00": 1.5}, zone="Europe/Berlin")]
SITE: list[Document] = [
    *(sgv(minute, 100 + minute) for minute in range(0, 100, 5)),
    treatment(1, "SMB", insulin=0.2),
    temp(2, 2, 30, enteredBy="Loop"),
    treatment(20, "Meal Bolus", insulin=3, carbs=30),
    temp(50, 0.5, 60, enteredBy="Loop"),
    temp(90, 3, 30, enteredBy="Loop"),
]


def uploaded(world: FeedWorld, documents: list[Document], batch: str) -> list[dict[str, object]]:
    world.feed(
        [],
        batch,
        content=text_of([*documents, *PROFILES]),
        name="export.csv",
        file={"format": "nightscout"},
        data_set={"deviceId": "Nightscout"},
    )
    return sorted(
        ({key: row[key] for key in row if key not in ("id", "uploadId", "createdTime", "modifiedTime")}
         for row in world.visible()),
        key=lambda row: str(row["origin"]),
    )  # fmt: skip


def test_two_that_overlap_are_visible_as_one(feed_world: FeedWorld) -> None:
    uploaded(feed_world, [one for one in SITE if one["_id"] != "t90"], "b-0001")
    shown = uploaded(feed_world, SITE[8:], "b-0002")

    names = [str(row["origin"]["id"]) for row in shown if isinstance(row["origin"], dict)]
    assert len(names) == len(set(names)) == 20 + 1 + 3 + 1 + 2 + 1
    basals = sorted(
        (str(row["deliveryType"]), str(row["time"]), int(str(row["duration"])) / 60_000, row["rate"])
        for row in shown
        if row["type"] == "basal"
    )
    basals.sort(key=lambda basal: basal[1])
    assert [(kind, minutes) for kind, _time, minutes, _rate in basals] == [
        ("automated", 30),
        ("scheduled", 18),
        ("automated", 40),
        ("automated", 30),
    ]
    assert holes_and_overlaps(basals) == []
