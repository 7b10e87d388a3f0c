"""What a pump remembers of a new reservoir: delivery suspended, tubing and cannula filled."""

from __future__ import annotations

from tidepool_simulator.sample.notebook import Notebook

_TUBING_AFTER, _CANNULA_AFTER = 0.4, 0.75
"""When they are filled, as shares of the time that the change takes."""


def record_reservoir_change(notebook: Notebook, at: int, seconds: int, tubing: float, cannula: float) -> None:
    """Record a change of reservoir and infusion set.

    :param at: when delivery was suspended, seconds since 1970, UTC.
    :param seconds: until it was resumed.
    :param tubing: insulin that filled the tubing, units.
    :param cannula: insulin that filled the cannula, units.
    """
    suspended = {
        "subType": "status",
        "status": "suspended",
        "duration": seconds * 1000,
        "reason": {"suspended": "manual", "resumed": "manual"},
    }
    status = notebook.datum(at, "deviceEvent", suspended)
    notebook.add(at, "deviceEvent", {"subType": "reservoirChange", "status": status})
    for target, volume, after in (("tubing", tubing, _TUBING_AFTER), ("cannula", cannula, _CANNULA_AFTER)):
        fields = {"subType": "prime", "primeTarget": target, "volume": volume}
        notebook.add(at + round(seconds * after), "deviceEvent", fields)
