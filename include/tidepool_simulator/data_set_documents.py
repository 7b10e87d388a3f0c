"""From the body of a create request to a data set (data/data_set.go of the Platform)."""

from __future__ import annotations

import re
import secrets
from typing import Any

from tidepool_ingest.model import Problem, validate_data_set
from tidepool_simulator.instants import milliseconds_of, now_milliseconds, utc_of, utc_text
from tidepool_simulator.records import CLOSED, NORMAL, OPEN, DataSet

ZERO_TIME_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z: Go's zero time, which the database does not keep."""

_COPIED = (
    "annotations", "clockDriftOffset", "computerTime", "conversionOffset", "deletedUserId", "deviceId",
    "deviceModel", "deviceSerialNumber", "deviceTime", "modifiedUserId", "payload", "timeProcessing",
    "timezone", "timezoneOffset", "version",
)  # fmt: skip
_SORTED = ("deviceManufacturers", "deviceTags")
_CLIENT = ("name", "private", "version")
_DATA_SET_ID = re.compile(r"upid_[0-9a-f]{12}|upid_[0-9a-f]{32}|[0-9a-f]{32}")


def new_id() -> str:
    """Return a fresh id as the Platform makes them."""
    return secrets.token_hex(16)


def is_data_set_id(upload_id: str) -> bool:
    """Whether an upload id can be updated later. A create does not check, and fails halfway if it cannot."""
    return _DATA_SET_ID.fullmatch(upload_id) is not None


def data_set_of(body: dict[str, Any], *, user_id: str, creator_id: str | None) -> DataSet:
    """Make the data set of a create body that the model accepts.

    :param user_id: whose data it will hold.
    :param creator_id: who creates it; None for a service.
    """
    now = now_milliseconds()
    document: dict[str, Any] = {name: body[name] for name in _COPIED if body.get(name) is not None}
    for name in ("clockDriftOffset", "conversionOffset", "timezoneOffset"):
        if name in document:
            document[name] = int(document[name])
    document |= {name: sorted(body[name]) for name in _SORTED if body.get(name) is not None}
    if body.get("client") is not None:
        document["client"] = {
            name: body["client"][name] for name in _CLIENT if body["client"].get(name) is not None
        }
    if body.get("deduplicator") is not None:
        name = body["deduplicator"].get("name")
        document["deduplicator"] = {} if name is None else {"name": name}
    if creator_id is not None:
        document |= {"createdUserId": creator_id, "byUser": creator_id}
    time_ms = milliseconds_of(body["time"]) if body.get("time") is not None else now
    if time_ms == ZERO_TIME_MS:
        time_ms = None
    if time_ms is not None:
        document["time"] = utc_text(time_ms)
    if body.get("deletedTime") is not None:
        document["deletedTime"] = utc_of(body["deletedTime"])
    document["id"] = new_id() if body.get("id") is None else body["id"]
    document["uploadId"] = document["id"] if body.get("uploadId") is None else body["uploadId"]
    document |= {
        "type": "upload",
        "dataSetType": body.get("dataSetType") or NORMAL,
        "createdTime": utc_text(now),
        "modifiedTime": utc_text(now),
    }
    return DataSet(
        upload_id=document["uploadId"],
        user_id=user_id,
        document=document,
        created_time=now,
        deleted_time=milliseconds_of(document["deletedTime"]) if "deletedTime" in document else None,
        time_ms=time_ms,
    )


_SHARED_WITH_CREATE = ("deviceId", "deviceModel", "deviceSerialNumber", "time", "timezone", "timezoneOffset")
"""Fields that a create body has too; the model knows what they may hold."""
_LONGER_THAN_ONE = ("deviceModel", "deviceSerialNumber")
_OFFSET_RANGE = range(-12 * 60, 14 * 60 + 1)
"""Minutes; narrower than at create."""


def judge_update(body: dict[str, Any]) -> tuple[Problem, ...]:
    """Return what is wrong with an update body."""
    problems = list(validate_data_set({name: body[name] for name in _SHARED_WITH_CREATE if name in body}))
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
