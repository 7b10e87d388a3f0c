"""Pumps keep their own time: somebody sets a slow clock right, and twice a year it moves by an hour."""

from __future__ import annotations

from datetime import datetime, timedelta

from tidepool_ingest.sample.life import Trace
from tidepool_ingest.sample.notebook import Notebook

_HOUR = 3600


def note_clock_changes(notebook: Notebook, trace: Trace, slow_seconds: int) -> None:
    """Note one correction of a slow clock, and each change to or from summer time.

    :param slow_seconds: by how much the clock had fallen behind when it was corrected.
    """
    middle = trace.start + (trace.end - trace.start) // 2
    _note_change(notebook, middle, _wall(notebook, middle) - timedelta(seconds=slow_seconds), "manual")
    for at in range(trace.start + _HOUR, trace.end, _HOUR):
        unchanged = _wall(notebook, at - _HOUR) + timedelta(hours=1)
        if unchanged != _wall(notebook, at):
            _note_change(notebook, at, unchanged, "automatic")


def _note_change(notebook: Notebook, at: int, shown_before: datetime, method: str) -> None:
    zone = notebook.device.timezone
    notebook.note(
        at,
        "deviceEvent",
        {
            "subType": "timeChange",
            "from": {"time": shown_before.isoformat(), "timeZoneName": zone},
            "to": {"time": _wall(notebook, at).isoformat(), "timeZoneName": zone},
            "method": method,
        },
    )


def _wall(notebook: Notebook, at: int) -> datetime:
    return datetime.fromisoformat(notebook.local_time(at))
