"""The body with which a service updates a continuous data set (data/data_set.go)."""

from __future__ import annotations

from typing import Any

from tidepool_ingest.model import Problem, judge_data_set
from tidepool_ingest.simulator.instants import utc_of
from tidepool_ingest.simulator.records import CLOSED, OPEN

_SHARED_WITH_CREATE = ("deviceId", "deviceModel", "deviceSerialNumber", "time", "timezone", "timezoneOffset")
"""Fields that a create body has too; the model knows what they may hold."""
_LONGER_THAN_ONE = ("deviceModel", "deviceSerialNumber")
_OFFSET_RANGE = range(-12 * 60, 14 * 60 + 1)
"""Minutes; narrower than at create."""


def judge_update(body: dict[str, Any]) -> tuple[Problem, ...]:
    """Return what is wrong with an update body."""
    problems = list(judge_data_set({name: body[name] for name in _SHARED_WITH_CREATE if name in body}))
    state = body.get("state")
    if state is not None and not isinstance(state, str):
        problems.append(Problem("type-not-string", "/state"))
    unknown = body.keys() - set(_SHARED_WITH_CREATE) - {"state"}
    problems += [Problem("not-parsed", f"/{name}") for name in sorted(unknown)]
    return tuple(problems) or _wrong_values(body)


def update_of(body: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the state an update asks for, None when it does not, and the fields it sets."""
    fields = {name: body[name] for name in _SHARED_WITH_CREATE if body.get(name) is not None}
    if "time" in fields:
        fields["time"] = utc_of(fields["time"])
    return body.get("state"), fields


def _wrong_values(body: dict[str, Any]) -> tuple[Problem, ...]:
    problems = [
        Problem("length-out-of-range", f"/{name}")
        for name in _LONGER_THAN_ONE
        if body.get(name) is not None and len(body[name]) <= 1
    ]
    if body.get("state") not in (None, OPEN, CLOSED):
        problems.append(Problem("value-not-allowed", "/state"))
    if body.get("timezoneOffset") is not None and int(body["timezoneOffset"]) not in _OFFSET_RANGE:
        problems.append(Problem("value-out-of-range", "/timezoneOffset"))
    return tuple(problems)
