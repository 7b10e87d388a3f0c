"""Time zones: which there are, which of them most people live in, and when their clocks change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from tidepool_ingest.local_times import timezone_names, zone_files, zone_named

BY_PEOPLE: Final = tuple(
    f"{area}/{place}"
    for area, places in {
        "America": "New_York Chicago Los_Angeles Denver Toronto Phoenix Vancouver Sao_Paulo Mexico_City "
        "Bogota Argentina/Buenos_Aires Lima Santiago Caracas Halifax Edmonton Winnipeg St_Johns Regina",
        "Europe": "London Berlin Paris Rome Madrid Warsaw Athens Bucharest Helsinki Kyiv Istanbul Moscow "
        "Lisbon Dublin Vienna Zurich Brussels Prague Budapest Sofia Riga Vilnius Tallinn Belgrade",
        "Asia": "Kolkata Shanghai Tokyo Seoul Jerusalem Dubai Riyadh Tehran Karachi Dhaka Bangkok Singapore "
        "Manila Jakarta Hong_Kong Taipei Kathmandu Tashkent Beirut",
        "Australia": "Sydney Melbourne Brisbane Adelaide Perth Hobart Darwin",
        "Africa": "Cairo Lagos Johannesburg Nairobi Casablanca Algiers",
        "Pacific": "Auckland Honolulu",
        "Atlantic": "Azores",
        "Etc": "UTC",
    }.items()
    for place in places.split()
)
"""Zones in which many people live who use such devices. Which of them comes first:"""

_FIRST: Final = (
    *("America/New_York", "Europe/Berlin", "Europe/London", "America/Chicago", "Europe/Paris"),
    *("America/Los_Angeles", "Europe/Rome", "Europe/Madrid", "Europe/Warsaw", "Asia/Kolkata"),
    *("Asia/Shanghai", "Asia/Tokyo", "Australia/Sydney", "America/Denver", "Europe/Athens"),
    *("Europe/Bucharest", "Europe/Helsinki", "Europe/Kyiv", "Europe/Istanbul", "America/Sao_Paulo"),
)

STEP: Final = timedelta(days=10)
"""No zone changes its clocks and changes them back within so few days."""


class Change(NamedTuple):
    """Clocks of a zone are set.

    :param at: when, by the clock that is set.
    :param by: minutes forward; negative for backward.
    """

    at: datetime
    by: int


@cache
def zones_told_apart() -> tuple[str, ...]:
    """Return the zones that the tz database tells apart, in their order, and no old names of theirs."""
    table = (zone_files() / "zone1970.tab").read_text(encoding="utf-8")
    named = {line.split("\t")[2].strip() for line in table.splitlines() if line and line[0] != "#"}
    return tuple(sorted((named | set(BY_PEOPLE)) & timezone_names(), key=lambda zone: (rank(zone), zone)))


def is_big(zone: str) -> bool:
    """Return whether many people live in a zone."""
    return rank(zone) < len(_FIRST) + len(BY_PEOPLE)


@cache
def rank(zone: str) -> int:
    """Return the place of a zone among all, those of most people first."""
    order = [*_FIRST, *BY_PEOPLE]
    return order.index(zone) if zone in order else len(order)


def changes_of(zone: str, points: Sequence[datetime]) -> Iterator[Change]:
    """Yield the changes of a zone between days that are at most some days apart.

    :param zone: its name.
    :param points: aware times in order; between two that are further apart than :data:`STEP` nothing is
        looked for.
    """
    info = zone_named(zone)
    offsets = [minutes_ahead(point.astimezone(info)) for point in points]
    for (early, before), (late, after) in pairwise(zip(points, offsets, strict=True)):
        if before == after or late - early > STEP:
            continue
        while late - early > timedelta(minutes=1):
            middle = early + (late - early) / 2
            if minutes_ahead(middle.astimezone(info)) == before:
                early = middle
            else:
                late = middle
        at = (late.replace(second=0, microsecond=0) + timedelta(minutes=before)).replace(tzinfo=None)
        yield Change(at, after - before)


def minutes_ahead(moment: datetime) -> int:
    """Return how far the clock of an aware time is ahead of UTC."""
    return round((moment.utcoffset() or timedelta()).total_seconds() / 60)


def offset_before(zone: str, change: Change) -> int:
    """Return how many minutes a zone is ahead of UTC before one of its changes."""
    return minutes_ahead((change.at - timedelta(hours=2)).replace(tzinfo=zone_named(zone)))


def are_same(one: str, other: str) -> bool:
    """Return whether two zones have been the same for years, as names of one."""
    days = [datetime(2015, 1, 1, tzinfo=UTC) + timedelta(days=15 * number) for number in range(240)]
    return all(
        minutes_ahead(day.astimezone(zone_named(one))) == minutes_ahead(day.astimezone(zone_named(other)))
        for day in days
    )
