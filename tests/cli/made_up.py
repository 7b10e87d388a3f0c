"""Made-up inspections, with everything in them that can be shown."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from tidepool_ingest.inspection.findings import (
    DayFound,
    Gap,
    GlucoseFound,
    Hold,
    InspectedDevice,
    InspectedFile,
    Inspection,
    Overlap,
    ReasonFound,
    Suspicion,
    TypeFound,
    ZoneEvidence,
    ZoneFinding,
)

FIRST = date(2026, 3, 1)
FULL = (12,) * 24


def day(ahead: int, readings: tuple[int, ...] = FULL, **more: Any) -> DayFound:
    return DayFound(
        day=FIRST + timedelta(days=ahead),
        records=readings,
        types={"cbg": sum(readings)},
        readings=readings,
        **more,
    )


def days() -> tuple[DayFound, ...]:
    """Five weeks: with a half day, a night without readings, a day missing, and an hour that is doubled."""
    found = [day(ahead, bolus=9, basal=21, carbs=150) for ahead in range(35) if ahead != 20]
    found[0] = day(0, (0,) * 9 + (6,) * 3 + (12,) * 12)
    found[7] = day(7, (0,) * 5 + (3,) * 1 + (12,) * 18)
    found[12] = day(12, (12,) * 14 + (24,) + (12,) * 9)
    return tuple(found)


def inspection(**changes: Any) -> Inspection:
    """Return what a Clarity export may show."""
    found: dict[str, Any] = {
        "files": (
            InspectedFile(name="export.csv", format="clarity", kind="CSV", compression="none", rows=9_650),
        ),
        "format": "clarity",
        "devices": (
            InspectedDevice(
                fields={"deviceId": "Dexcom-8T", "deviceModel": "G6", "deviceManufacturers": ["Dexcom"]}
            ),
        ),
        "zone": ZoneFinding(
            needed=True,
            stated="Europe/Berlin",
            used="Europe/Berlin",
            verdict="fits",
            candidates=("Europe/Berlin", "Europe/Paris"),
            evidence=(
                ZoneEvidence(
                    kind="summer-time",
                    sentence="No reading is in the hour that was left out on 29 March.",
                    at="2026-03-29T02:00",
                    supports="for",
                ),
            ),
        ),
        "first": datetime(2026, 3, 1, 8, tzinfo=UTC),
        "last": datetime(2026, 4, 4, 22, tzinfo=UTC),
        "rows": 9_650,
        "accepted": 9_640,
        "rejected": 3,
        "types": (
            TypeFound(type="cbg", accepted=9_500, rejected=2),
            TypeFound(type="insulin", accepted=140),
            TypeFound(type="unreadable", accepted=0, rejected=1),
        ),
        "rejections": (
            ReasonFound(
                code="value-out-of-range", type="cbg", field="/value", count=2, places=("line 40", "line 7")
            ),
            ReasonFound(code="staged-not-a-number", count=1, places=("line 99",)),
        ),
        "left_out": {"metadata": 7},
        "days": days(),
        "utc_days": tuple(one.day for one in days()),
        "gaps": (
            Gap(
                start=datetime(2026, 3, 20, 22, 55, tzinfo=UTC),
                end=datetime(2026, 3, 22, 0, 5, tzinfo=UTC),
                hours=25.2,
            ),
        ),
        "gap_count": 7,
        "gap_hours": 51.5,
        "reading_minutes": 5,
        "suspicions": (
            Suspicion(
                kind="doubled-rows",
                sentence="An hour has twice as many readings as others.",
                count=12,
                first=datetime(2026, 3, 13, 13, tzinfo=UTC),
            ),
        ),
        "glucose": GlucoseFound(
            unit="mg/dL",
            readings=9_500,
            lowest=41,
            highest=388,
            mean=151.3,
            below=0.004,
            in_range=0.71,
            above=0.286,
        ),
    }
    return Inspection(**(found | changes))


HELD = Hold(
    code="clock-not-in-zone",
    what="A file has times in an hour that its time zone leaves out.",
    remedy="Correct the time zone.",
    detail="2 rows, first at line 12",
)
KNOWN = Overlap(
    label="2026-03-09 Dexcom G6 aaaaaaaaaa",
    state="verified",
    first_day=date(2026, 3, 1),
    last_day=date(2026, 3, 9),
    days=9,
    records=2_400,
)
