"""The day folders that a run looks into."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

SECONDS_A_DAY = 86_400

A_DAY = timedelta(days=1)


def moments_of(first: date, last: date) -> tuple[datetime | None, datetime | None]:
    """Return moments that enclose all of some UTC days, with a day of margin on either side.

    :param first: the first day.
    :param last: the last day.
    :return: ``None`` for a moment beyond what a ``datetime`` can hold.
    """
    return (
        _midnight(first - A_DAY) if first - date.min > A_DAY else None,
        _midnight(last + 2 * A_DAY) if date.max - last > 2 * A_DAY else None,
    )


@dataclass(frozen=True)
class Window:
    """The day folders that a run takes batches from, both ends included.

    :param first_day: the oldest day folder.
    :param last_day: the newest day folder.
    """

    first_day: date
    last_day: date

    @classmethod
    def of_interval(cls, start: datetime, end: datetime, look_back_days: int = 0) -> Window:
        """Return the days that begin in a run's data interval, and some before them for late arrivals.

        :param start: start of the data interval, inside it.
        :param end: end of the data interval, outside it.
        :param look_back_days: how many day folders before the interval's own to take as well.
        :raises ValueError: for an interval without length, which would select nothing.
        """
        start, end = start.astimezone(UTC), end.astimezone(UTC)
        if end <= start:
            raise ValueError(
                "This run's data interval has no length, so it selects no day folder. "
                "Give the DAG a timetable with intervals, such as CronDataIntervalTimetable."
            )
        # 03:00 to 03:00 is one day's worth, the folder of the day in which it started; so are shorter ones.
        first = start.date()
        last = first + timedelta(days=math.ceil((end - start).total_seconds() / SECONDS_A_DAY) - 1)
        return cls(first - timedelta(days=look_back_days), last)

    @classmethod
    def of_days(cls, first_day: date | None, last_day: date | None) -> Window:
        """Return exactly the days that a run names; one of them alone means that day only.

        :raises ValueError: if neither is given or they are in the wrong order.
        """
        first, last = first_day or last_day, last_day or first_day
        if first is None or last is None:
            raise ValueError("Give the first day, the last day, or both.")
        if last < first:
            raise ValueError("The last day lies before the first day: exchange them.")
        return cls(first, last)

    @classmethod
    def recent(cls, today: date, look_back_days: int) -> Window:
        """Return today and the days before it.

        Tomorrow is among them: a team east of Greenwich stages it before the UTC day begins.
        """
        return cls(today - timedelta(days=look_back_days), today + timedelta(days=1))

    def __contains__(self, day: date) -> bool:
        return self.first_day <= day <= self.last_day

    def __str__(self) -> str:
        if self.first_day == self.last_day:
            return f"{self.first_day}"
        return f"{self.first_day} to {self.last_day}"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
