"""What every datum may carry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.examples import verdict

RANGE, LENGTH, EMPTY = "value-out-of-range", "length-out-of-range", "value-empty"
NOT_VALID, NOT_ALLOWED = "value-not-valid", "value-not-allowed"
EXISTS, NOT_EXISTS = "value-exists", "value-not-exists"
BIG = {"a": "x" * 4088}  # 4,096 bytes: as much as there may be

CASES: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
    # Offsets and whole numbers
    ({"timezoneOffset": 10080, "clockDriftOffset": 86400000, "conversionOffset": 10**15}, set()),
    ({"timezoneOffset": -10080, "clockDriftOffset": -86400000, "conversionOffset": -(10**15)}, set()),
    ({"timezoneOffset": 10081}, {(RANGE, "/timezoneOffset")}),
    ({"timezoneOffset": -10081}, {(RANGE, "/timezoneOffset")}),
    ({"clockDriftOffset": 86400001}, {(RANGE, "/clockDriftOffset")}),
    ({"timezoneOffset": 60.0}, set()),
    ({"timezoneOffset": 60.5}, {("type-not-int", "/timezoneOffset")}),
    ({"timezoneOffset": True}, {("type-not-int", "/timezoneOffset")}),
    ({"timezoneOffset": "60"}, {("type-not-int", "/timezoneOffset")}),
    ({"timezoneOffset": 1e300}, {(RANGE, "/timezoneOffset")}),
    # Texts
    ({"deviceId": ""}, {(EMPTY, "/deviceId")}),
    ({"deviceTime": "2024-03-04T05:06:07"}, set()),
    ({"deviceTime": "2024-03-04T5:06:07,25"}, set()),
    ({"deviceTime": "2024-03-04T05:06:07Z"}, {(NOT_VALID, "/deviceTime")}),
    ({"deviceTime": 5}, {("type-not-string", "/deviceTime")}),
    ({"id": "0123456789abcdefghijklmnopqrstuv"}, set()),
    ({"id": "0123456789ABCDEFghijklmnopqrstuv"}, {(NOT_VALID, "/id")}),
    ({"id": "0123456789abcdefghijklmnopqrstuv\n"}, {(NOT_VALID, "/id")}),
    ({"id": ""}, {(EMPTY, "/id")}),
    ({"source": "carelink"}, set()),
    ({"source": "Carelink"}, {(RANGE, "/source")}),
    *(({"timezone": name}, set()) for name in ("US/Pacific", "EST", "Zulu", "Etc/GMT+8", "Europe/Kyiv")),
    *(({"timezone": name}, {(NOT_VALID, "/timezone")}) for name in ("PST", "Local", "us/pacific", "../UTC")),
    ({"timezone": ""}, {(EMPTY, "/timezone")}),
    # Notes and tags
    ({"notes": []}, set()),
    ({"notes": ["x" * 1000] * 100}, set()),
    ({"notes": ["x" * 1001]}, {(LENGTH, "/notes/0")}),
    ({"notes": ["\U0001f355" * 1000]}, set()),
    ({"notes": ["x"] * 101}, {(LENGTH, "/notes")}),
    ({"notes": ["", None]}, {(EMPTY, "/notes/0"), (EMPTY, "/notes/1")}),
    ({"notes": [1, "x"]}, {("type-not-string", "/notes/0")}),
    ({"notes": "x"}, {("type-not-array", "/notes")}),
    ({"tags": []}, {(EMPTY, "/tags")}),
    ({"tags": ["a", "b", "a", "a"]}, {("value-duplicate", "/tags/2"), ("value-duplicate", "/tags/3")}),
    ({"tags": ["x" * 101]}, {(LENGTH, "/tags/0")}),
    # Free objects
    ({"payload": BIG, "annotations": [BIG] * 100}, set()),
    ({"payload": {"a": "x" * 4089}}, {("size-out-of-range", "/payload")}),
    ({"payload": {"a": "<" * 700}}, {("size-out-of-range", "/payload")}),
    ({"payload": {}}, {(EMPTY, "/payload")}),
    ({"payload": {"a": None}}, {(EMPTY, "/payload")}),
    ({"payload": {"a": {"b": None}}}, set()),
    ({"payload": "x"}, {("type-not-object", "/payload")}),
    ({"annotations": []}, {(EMPTY, "/annotations")}),
    ({"annotations": [{"a": 1}] * 101}, {(LENGTH, "/annotations")}),
    ({"annotations": [{}, None]}, {(EMPTY, "/annotations/0"), (NOT_EXISTS, "/annotations/1")}),
    ({"annotations": [{}, 5]}, {("type-not-object", "/annotations/1")}),
    ({"annotations": {}}, {("type-not-array", "/annotations")}),
    # Origin
    ({"origin": {}}, set()),
    (
        {"origin": {"id": "x" * 100, "name": "n", "version": "1", "type": "manual", "payload": {"a": 1}}},
        set(),
    ),
    ({"origin": {"id": "x" * 101, "name": ""}}, {(LENGTH, "/origin/id"), (EMPTY, "/origin/name")}),
    ({"origin": {"type": "person"}}, {(NOT_ALLOWED, "/origin/type")}),
    ({"origin": {"time": "2024-03-04T05:06:07+01:00"}}, set()),
    ({"origin": {"time": "2024-03-04T05:06:07"}}, {(NOT_VALID, "/origin/time")}),
    ({"origin": {"time": "0001-01-01T01:00:00+01:00"}}, {(EMPTY, "/origin/time")}),
    ({"origin": []}, {("type-not-object", "/origin")}),
    # Location
    ({"location": {"name": "Home"}}, set()),
    ({"location": {}}, {("values-not-exist-for-any", "/location")}),
    (
        {"location": {"gps": {}}},
        {(NOT_EXISTS, "/location/gps/latitude"), (NOT_EXISTS, "/location/gps/longitude")},
    ),
    (
        {
            "location": {
                "gps": {
                    "latitude": {"units": "degrees", "value": 90},
                    "longitude": {"units": "degrees", "value": -180},
                    "elevation": {"units": "feet", "value": -65616.79},
                    "floor": -1000,
                    "horizontalAccuracy": {"units": "meters", "value": 1000},
                    "verticalAccuracy": {"units": "feet", "value": 3280.8},
                    "origin": {"name": "gps"},
                }
            }
        },
        set(),
    ),
    (
        {
            "location": {
                "gps": {
                    "latitude": {"units": "degrees", "value": 90.1},
                    "longitude": {"units": "radians", "value": 181},
                    "elevation": {"units": "meters", "value": -20000.1},
                    "floor": 1001,
                    "horizontalAccuracy": {"value": -1},
                }
            }
        },
        {
            (RANGE, "/location/gps/latitude/value"),
            (NOT_ALLOWED, "/location/gps/longitude/units"),
            (RANGE, "/location/gps/elevation/value"),
            (RANGE, "/location/gps/floor"),
            (NOT_EXISTS, "/location/gps/horizontalAccuracy/units"),
        },
    ),
    # Associations
    ({"associations": []}, {(EMPTY, "/associations")}),
    ({"associations": [None, {}]}, {(NOT_EXISTS, "/associations/0"), (NOT_EXISTS, "/associations/1/type")}),
    ({"associations": [{"type": "datum", "id": "a" * 32, "reason": "r"}]}, set()),
    ({"associations": [{"type": "blob"}]}, {(NOT_EXISTS, "/associations/0/id")}),
    ({"associations": [{"type": "image", "id": "x"}]}, {(NOT_VALID, "/associations/0/id")}),
    ({"associations": [{"type": "image", "id": "a" * 32, "url": "x"}]}, {(EXISTS, "/associations/0/url")}),
    ({"associations": [{"type": "url", "url": "https://tidepool.org/x?y#z"}]}, set()),
    (
        {"associations": [{"type": "url", "id": "x"}]},
        {(EXISTS, "/associations/0/id"), (NOT_EXISTS, "/associations/0/url")},
    ),
    ({"associations": [{"type": "url", "url": ""}]}, {(EMPTY, "/associations/0/url")}),
    ({"associations": [{"type": "url", "url": "tidepool.org"}]}, {(NOT_VALID, "/associations/0/url")}),
    ({"associations": [{"type": "url", "url": "http://a/" + "x" * 2038}]}, set()),
    ({"associations": [{"type": "url", "url": "http://a/" + "x" * 2039}]}, {(LENGTH, "/associations/0/url")}),
    ({"associations": [{"type": "other", "id": "", "url": ""}]}, {(NOT_ALLOWED, "/associations/0/type")}),
    (
        {"associations": [{"type": "url", "url": "http://a", "reason": "x" * 1001}]},
        {(LENGTH, "/associations/0/reason")},
    ),
]


@pytest.mark.parametrize(("changes", "expected"), CASES)
def test_base_fields(changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert verdict("smbg", changes) == expected


@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2024-03-04T05:06:07Z", None),
        ("2024-03-04T05:06:07", "value-not-parsable"),
        ("", "value-not-parsable"),
        (1709528767, "type-not-time"),
        ("0001-01-01T00:00:00Z", "value-empty"),
        ("0001-01-01T00:00:01Z", None),
    ],
)
def test_time(time: object, code: str | None) -> None:
    assert verdict("smbg", {"time": time}) == ({(code, "/time")} if code else set())
