"""The overview: what it is asked for, devices against days as a picture, as texts and as a file.

A picture of thousands of days is put together as text here; a template would take longer than the ledger.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from html import escape
from itertools import groupby
from typing import Annotated, Any, Literal

from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tidepool_airflow.uploads_page.html import Links
from tidepool_airflow.uploads_page.received import EMPTY_IS_NONE, NO_DEVICE, Text
from tidepool_ingest.ledger import Ledger
from tidepool_ingest.reports.overview import (
    STATES_THAT_CAME,
    Cell,
    CellState,
    DeviceRow,
    Overview,
    OverviewFilter,
    Sorting,
    Trend,
)

PAGE_DEVICES = 50

STEP = 10
"""Width of a day, in the units of its shape."""

PIXELS = {2: 22, 4: 18, 8: 12, 13: 9}
"""Width of a day in pixels, by the weeks that are shown."""

WORDS = {
    CellState.FAILED: "Failed",
    CellState.HELD: "Held",
    CellState.PARTLY: "Partly",
    CellState.IN_PROGRESS: "In progress",
    CellState.VERIFIED: "Verified",
    CellState.DISMISSED: "Dismissed",
    CellState.NOTHING: "Nothing came",
    CellState.SILENT: "Silent",
}
"""The states that are shown, the worst first."""

EXPLAINED = {
    CellState.FAILED: "the last attempt ended with an error, or what is at Tidepool has changed",
    CellState.HELD: "a guard holds it until it is corrected or decided about",
    CellState.PARTLY: "records were rejected, or only some of the day\u2019s batches are verified",
    CellState.IN_PROGRESS: "a run has it in hand, or is to take it",
    CellState.VERIFIED: "all records are visible in Tidepool, each once",
    CellState.DISMISSED: "dismissed, declined or undone by a person, or replaced by another batch",
    CellState.NOTHING: "no batch, though the device has sent before",
    CellState.SILENT: "nothing since the last record of a device that has stopped sending",
}

HARMFUL = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What begins a cell that a spreadsheet would take for a formula."""

TREND_STEP, TREND_HEIGHT = 5, 22
"""Width of a day and height of the highest bar of a trend, in pixels."""


class OverviewQuery(BaseModel):
    """What the overview's form asks for; an empty field does not matter."""

    model_config = ConfigDict(extra="ignore")

    weeks: Annotated[Literal[2, 4, 8, 13], BeforeValidator(lambda value: int(value or 4))] = 4
    last_day: Annotated[date | None, EMPTY_IS_NONE] = None
    hash: Annotated[Annotated[str, Field(pattern="^ *[0-9a-fA-F]{1,10} *$")] | None, EMPTY_IS_NONE] = None
    model: Text = None
    state: Annotated[CellState | None, EMPTY_IS_NONE] = None
    attention: bool = False
    type: Text = None
    host: Text = None
    sort: Sorting = Sorting.WORST
    page: Annotated[int, Field(ge=1, le=2**31)] = 1

    def overview(self, ledger: Ledger, today: date | None = None) -> Overview:
        """Look the devices up.

        :param ledger: knows them.
        :param today: the day that is not over; by default the present one in UTC.
        """
        today = today or datetime.now(UTC).date()
        last = min(self.last_day or today, today)
        first = max(last, date.min + timedelta(weeks=13)) - timedelta(days=7 * self.weeks - 1)
        wanted = OverviewFilter(
            hash=self.hash and self.hash.strip(),
            model=self.model,
            state=self.state,
            attention=self.attention,
            data_set_type=self.type,
            api_host=self.host,
        )
        return Overview(ledger, first, last, today, wanted, self.sort)

    def link(self, **changed: Any) -> dict[str, str]:
        """Return it as the query of a link, with some fields changed; what is as usual is left out."""
        values = self.model_dump(mode="json", exclude_defaults=True, exclude={"page"}) | changed
        return {name: str(value) for name, value in values.items() if value not in (None, False, "")}

    @property
    def narrows(self) -> bool:
        """Whether it leaves devices out."""
        return any((self.hash, self.model, self.state, self.attention, self.type, self.host))


def looked_over(
    ledger: Ledger, query: OverviewQuery, links: Links, *, today: date | None = None
) -> dict[str, Any]:
    """Return all that the template needs from the ledger.

    :param ledger: knows the devices.
    :param query: which of them, and which page.
    :param links: leads to the uploads of a day.
    :param today: the day that is not over; by default the present one in UTC.
    """
    return {
        **_drawn(query.overview(ledger, today), query, links),
        "waiting": ledger.uploads.waiting(),
        "hosts": ledger.device_days.hosts(),
        "throttles": ledger.rate_limits.in_force(),
    }


def _drawn(overview: Overview, query: OverviewQuery, links: Links) -> dict[str, Any]:
    start = (query.page - 1) * PAGE_DEVICES
    rows = list(overview.rows(start, start + PAGE_DEVICES))
    days = (overview.last - overview.first).days + 1
    pixels = days * PIXELS[query.weeks]
    return {
        "overview": overview,
        "rows": [
            {
                "row": row,
                "uploads": uploads_of(row, links),
                "picture": picture(row, links, pixels),
                "summary": _summary(row),
                "days": {state: day_links(row, state, links) for state in WORDS},
            }
            for row in rows
        ],
        "pixels": pixels,
        "ticks": list(_ticks(overview.first, days)),
        "trends": [(trend, sparkline(trend), change_in_words(trend)) for trend in overview.trends()],
        "words": WORDS,
        "explained_states": EXPLAINED,
        "start": start,
        "newer": query.link(page=query.page - 1) if query.page > 1 else None,
        "older": query.link(page=query.page + 1) if start + PAGE_DEVICES < len(overview) else None,
        "earlier": query.link(last_day=overview.first - timedelta(days=1)),
        "later": query.link(last_day=overview.last + timedelta(days=days)) if query.last_day else None,
        "latest": query.link(last_day=overview.newest) if overview.newest else None,
        "sortings": Sorting,
        "shapes": shapes(),
    }


def picture(row: DeviceRow, links: Links, pixels: int) -> Markup:
    """Return a device's days as shapes, each with its numbers and, if something came, a link to it.

    It is for eyes and a pointer: the summary beside it and the table below have the same for everybody.
    """
    base = _uploads_of(row, links)
    drawn: list[str] = []
    x = 0
    for state, group in groupby(row.cells, key=lambda cell: cell.state):
        cells = list(group)
        if state in STATES_THAT_CAME:
            for place, cell in enumerate(cells):
                drawn.append(
                    f'<a href="{base}&amp;first_day={cell.day}&amp;last_day={cell.day}" tabindex="-1">'
                    f"<title>{_numbers(cell)}</title>"
                    f'<use href="#day-{state}" x="{x + STEP * place}"/></a>'
                )
        elif state is not CellState.NONE:
            width = STEP * len(cells)
            shape = "".join(
                f'<use href="#day-{state}" x="{x + STEP * place}"/>' for place in range(len(cells))
            )
            drawn.append(
                f"<g><title>{_span(cells[0].day, cells[-1].day)}: {WORDS[state].lower()}</title>"
                f'<path class="air" d="M{x} 0h{width}v{STEP}h-{width}z"/>{shape}</g>'
            )
        x += STEP * len(cells)
    return Markup(
        f'<svg class="device-days" width="{pixels}" height="{pixels * STEP // max(x, 1)}" '
        f'viewBox="0 0 {x} {STEP}" preserveAspectRatio="none" aria-hidden="true">{"".join(drawn)}</svg>'
    )


def uploads_of(row: DeviceRow, links: Links) -> str:
    """Return the URL of the uploads of a device, or of a person's batches of which no device is known."""
    return links.list({"person": row.person, "device": row.device or NO_DEVICE})


def _uploads_of(row: DeviceRow, links: Links) -> str:
    return escape(uploads_of(row, links))


def shapes() -> Markup:
    """Return the shape of each state, to be used by the pictures: no two are told apart by colour alone."""
    ground = '<path class="ground" d="M.5.5h9v9h-9z"/>'
    marks = {
        CellState.FAILED: f'{ground}<path class="mark" d="M3 3l4 4m0-4l-4 4"/>',
        CellState.HELD: f'{ground}<path class="mark" d="M3.6 2.8v4.4m2.8-4.4v4.4"/>',
        CellState.PARTLY: f'{ground}<path class="mark" d="M.5.5v9h9z"/>',
        CellState.IN_PROGRESS: f'{ground}<circle class="mark" cx="5" cy="5" r="1.7"/>',
        CellState.VERIFIED: ground,
        CellState.DISMISSED: f'{ground}<path class="mark" d="M2.5 7.5l5-5"/>',
        CellState.NOTHING: '<circle class="mark" cx="5" cy="5" r="1.2"/>',
        CellState.SILENT: '<path class="mark" d="M0 5h10"/>',
    }
    return Markup("").join(
        Markup(f'<g id="day-{state}" class="day-{state}">{mark}</g>') for state, mark in marks.items()
    )


def day_links(row: DeviceRow, state: CellState, links: Links) -> Markup:
    """Return the days of one state as text: spans of them, each with a link if something came."""
    base = _uploads_of(row, links)
    said: list[str] = []
    for is_it, group in groupby(row.cells, key=lambda cell: cell.state is state):
        cells = list(group)
        if not is_it:
            continue
        first, last = cells[0].day, cells[-1].day
        text = escape(_span(first, last))
        if state in STATES_THAT_CAME:
            text = f'<a href="{base}&amp;first_day={first}&amp;last_day={last}">{text}</a>'
        said.append(text)
    return Markup(", ".join(said))


def sparkline(trend: Trend) -> Markup:
    """Return the numbers of two weeks as bars, which a screen reader reads out."""
    highest = max(*trend.days, 1)
    bars = "".join(
        f'<rect class="{"now" if number >= len(trend.days) - 7 else "before"}" x="{number * TREND_STEP}" '
        f'y="{TREND_HEIGHT - height}" width="{TREND_STEP - 1}" height="{height}"/>'
        for number, count in enumerate(trend.days)
        if (height := max(round(TREND_HEIGHT * count / highest), 2 if count else 1))
    )
    said = f"{WORDS[trend.state]}, each of the last {len(trend.days)} days: " + ", ".join(
        map(str, trend.days)
    )
    return Markup(
        f'<svg class="trend" width="{len(trend.days) * TREND_STEP}" height="{TREND_HEIGHT}" role="img" '
        f'aria-label="{said}">{bars}</svg>'
    )


def change_in_words(trend: Trend) -> str:
    """Return how the last week compares with the one before."""
    change = trend.now - trend.before
    if not change:
        return "as many as the week before"
    return f"{abs(change):,} {'more' if change > 0 else 'fewer'} than the week before"


def csv_lines(overview: Overview) -> Iterator[str]:
    """Yield the lines of a file of all devices that match: names, numbers, and the state of each day."""
    days = [
        overview.first + timedelta(days=number) for number in range((overview.last - overview.first).days + 1)
    ]
    names = ["person", "device", "model", "api host", "data set type", "last staged day", "silent since"]
    counted = [state for state in WORDS if state is not CellState.NOTHING]
    names += ["records accepted", "records rejected", *(f"days {WORDS[state].lower()}" for state in counted)]
    yield "\ufeff" + _line([*names, *map(str, days)])
    for row in overview.rows():
        known = (row.person, row.device, row.model, row.api_host, row.data_set_type, row.last_day)
        numbers = [row.accepted, row.rejected, *(len(row.days(state)) for state in counted)]
        states = [WORDS.get(cell.state, "").lower() for cell in row.cells]
        yield _line([*known, row.silent_since or "", *numbers, *states])


def _line(values: Sequence[object]) -> str:
    written = io.StringIO()
    csv.writer(written).writerow([harmless(str(value)) for value in values])
    return written.getvalue()


def harmless(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(HARMFUL) else text


def _numbers(cell: Cell) -> str:
    batches = f"{cell.batches} batch{'' if cell.batches == 1 else 'es'}"
    return (
        f"{_day(cell.day)}: {WORDS[cell.state].lower()}; {batches}, {cell.accepted:,} accepted, "
        f"{cell.rejected:,} rejected, {cell.visible:,} visible"
    )


def _summary(row: DeviceRow) -> str:
    """Return the numbers of days of each state, for those who do not see the picture."""
    counted = {state: len(row.days(state)) for state in WORDS}
    said = [f"{number} {WORDS[state].lower()}" for state, number in counted.items() if number]
    return "Days: " + (", ".join(said) or "none yet")


@lru_cache(maxsize=400)
def _day(day: date) -> str:
    return f"{day:%a} {day.day} {day:%b}"


@lru_cache(maxsize=4_000)
def _span(first: date, last: date) -> str:
    if first == last:
        return f"{first.day} {first:%b}"
    start = f"{first.day}" if first.replace(day=1) == last.replace(day=1) else f"{first.day} {first:%b}"
    return f"{start}\N{EN DASH}{last.day} {last:%b}"


def _ticks(first: date, days: int) -> Iterator[tuple[float, str]]:
    """Yield the Mondays, each with its place in percent of the width."""
    step = 1 if days <= 28 else 2 if days <= 56 else 3
    mondays = [number for number in range(days) if (first + timedelta(days=number)).weekday() == 0]
    for number in mondays[::step]:
        day = first + timedelta(days=number)
        if number <= 0.9 * days:
            yield round(100 * number / days, 2), f"{day.day} {day:%b}"
