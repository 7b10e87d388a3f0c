"""A format whose records carry their device's clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, timedelta

from tidepool_ingest.formats.reader import Block, Reader
from tidepool_ingest.local_times import LocalTimes
from tidepool_ingest.staging.source_file import SourceFile

NEW_YORK, LONDON = "America/New_York", "Europe/London"


SERIAL = "MX-4711-0815"


class ClockReader(Reader):
    """Rows ``<local time>;<value>`` of a device of which files tell the serial number."""

    name = "test-clock"
    has_own_rows = True
    options = frozenset({"timezone", "serial"})

    def rows(self, file: SourceFile) -> Iterator[Block]:
        times = LocalTimes(self.context.periods_of(file))
        lines = b"".join(file.pieces()).splitlines()
        yield Block(0, [self._record(times, line.decode()) for line in lines], staged=lines)

    def _record(self, times: LocalTimes, row: str) -> bytes:
        local, value = row.split(";")
        read = times.read(local)
        record = {"type": "cbg", "time": read.time, "deviceTime": local, "timezoneOffset": read.offset}
        more = {"deviceId": self.context.device_id, "units": "mmol/L", "value": float(value)}
        origin = {"origin": {"id": f"cbg:{local}"}}
        return json.dumps(record | more | origin).encode()


def rows(first: str, days: int = 1, every: int = 6, value: float = 5.0) -> bytes:
    """Return a row each few hours, from midnight of a day."""
    midnight = date.fromisoformat(first)
    shown = [
        f"{midnight + timedelta(days=day)}T{hour:02}:00:00;{value}"
        for day in range(days)
        for hour in range(0, 24, every)
    ]
    return "\n".join(shown).encode()


RENAMED = {"deviceId": "device-2"}
