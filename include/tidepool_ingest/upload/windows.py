"""A large data set is read back in windows of time: the gateway gives one answer no more than 60 s.

The windows leave nothing out, whatever its time: the first has no beginning and the last has no end. Tidepool
takes both ends of a window as inside it, and keeps times in milliseconds; so each ends one millisecond before
the next one begins, and no row is in two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from tidepool_ingest.tidepool import TidepoolClient
from tidepool_ingest.window import SECONDS_A_DAY

Window = tuple[datetime | None, datetime | None]
"""First and last moment; ``None`` where it is open."""

A_MILLISECOND = timedelta(milliseconds=1)


def rows_of_set(
    client: TidepoolClient,
    user_id: str,
    upload_id: str,
    days: Mapping[date, Mapping[str, int]],
    limit: int,
) -> Iterator[dict[str, Any]]:
    """Yield what Tidepool shows of a data set, the data set's own record (type ``upload``) included.

    :param client: speaks to Tidepool.
    :param user_id: whose it is.
    :param upload_id: the data set.
    :param days: how many records it should have on each UTC day, by type.
    :param limit: records that one answer should have at most.
    """
    windows = list(windows_of(days, limit))
    if len(windows) > 1:
        # Its own record has a time of its own, or none: no window need show it.
        yield from client.read_data(user_id, upload_id=upload_id, types=["upload"])
    for start, end in windows:
        yield from client.read_data(user_id, upload_id=upload_id, start=start, end=end)


def windows_of(days: Mapping[date, Mapping[str, int]], limit: int) -> Iterator[Window]:
    """Yield windows that together hold all times, each with about as many records as an answer may have.

    :param days: numbers of records by UTC day and type.
    :param limit: records in a window, at most, as far as a day's lie evenly on it.
    """
    begin: datetime | None = None
    for border in _borders(days, limit):
        yield begin, border - A_MILLISECOND
        begin = border
    yield begin, None


def _borders(days: Mapping[date, Mapping[str, int]], limit: int) -> Iterator[datetime]:
    size = 0
    for day, kinds in sorted(days.items()):
        records = sum(kinds.values())
        midnight = datetime.combine(day, time(), UTC)
        if size and size + records > limit:
            yield midnight
            size = 0
        slices = -(-records // limit)
        for number in range(1, slices):
            yield midnight + timedelta(seconds=SECONDS_A_DAY * number // slices)
        size = records if slices > 1 else size + records
