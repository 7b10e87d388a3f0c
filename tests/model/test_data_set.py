"""The body of a create request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.model.codes import DUPLICATE, EMPTY, LENGTH, NOT_ALLOWED, NOT_VALID, RANGE
from tests.model.examples import TIME
from tidepool_ingest.model import validate_data_set

NAME = "org.tidepool.deduplicator.device.deactivate.hash"
BODY: dict[str, Any] = {
    "type": "upload",
    "client": {"name": "org.example.uploader", "version": "1.0.0", "private": {"delta": None}},
    "dataSetType": "normal",
    "deduplicator": {"name": NAME, "version": 7, "hash": []},
    "deviceId": "pump-1",
    "deviceManufacturers": ["Maker"],
    "deviceModel": "1",
    "deviceSerialNumber": "2",
    "deviceTags": ["bgm", "cgm", "insulin-pump", "activity-monitor"],
    "time": TIME,
    "computerTime": "2024-03-04T05:06:07",
    "deviceTime": "2024-03-04T05:06:07",
    "timeProcessing": "utc-bootstrapping",
    "timezone": "US/Pacific",
    "timezoneOffset": -480,
    "conversionOffset": 0,
    "clockDriftOffset": 0,
    "version": "1.0.0",
    "payload": {"a": 1},
    "annotations": [{"code": "a"}],
}

CASES: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
    ({}, set()),
    *(
        ({field: ""}, {(EMPTY, f"/{field}")})
        for field in ("deviceId", "deviceModel", "deviceSerialNumber", "id")
    ),
    ({"deviceModel": 723}, {("type-not-string", "/deviceModel")}),
    ({"client": {}}, set()),
    ({"client": "me"}, {("type-not-object", "/client")}),
    (
        {"client": {"name": "", "version": "", "private": {}}},
        {(EMPTY, "/client/name"), (EMPTY, "/client/version"), (EMPTY, "/client/private")},
    ),
    ({"client": {"private": []}}, {("type-not-object", "/client/private")}),
    ({"client": {"private": {"a": "x" * 4089}}}, {("size-out-of-range", "/client/private")}),
    ({"client": {"platform": "ignored"}}, set()),
    ({"dataSetType": "continuous"}, set()),
    ({"dataSetType": "Normal"}, {(NOT_ALLOWED, "/dataSetType")}),
    ({"deduplicator": {}}, set()),
    *(
        ({"deduplicator": {"name": name}}, set())
        for name in ("a.b", "org.example.unknown", "a-b.c9." + "x" * 63)
    ),
    *(
        ({"deduplicator": {"name": name}}, {(NOT_VALID, "/deduplicator/name")})
        for name in ("a", "a.", ".a", "a..b", "-a.b", "a-.b", "a.b\n", "a_b.c", "a." + "x" * 64)
    ),
    ({"deduplicator": {"name": ""}}, {(EMPTY, "/deduplicator/name")}),
    ({"deduplicator": {"name": "a." * 126 + "b"}}, set()),
    ({"deduplicator": {"name": "a." * 127 + "b"}}, {(LENGTH, "/deduplicator/name")}),
    ({"deviceManufacturers": []}, {(EMPTY, "/deviceManufacturers")}),
    (
        {"deviceManufacturers": ["", "a", "a"]},
        {(EMPTY, "/deviceManufacturers/0"), (DUPLICATE, "/deviceManufacturers/2")},
    ),
    ({"deviceTags": []}, {(EMPTY, "/deviceTags")}),
    ({"deviceTags": ["fgm", "bgm", "bgm"]}, {(NOT_ALLOWED, "/deviceTags/0"), (DUPLICATE, "/deviceTags/2")}),
    ({"time": "0001-01-01T00:00:00Z"}, set()),
    ({"time": "2024-03-04T05:06:07"}, {("value-not-parsable", "/time")}),
    (
        {"createdTime": 5, "modifiedTime": "x", "deletedTime": TIME},
        {("type-not-time", "/createdTime"), ("value-not-parsable", "/modifiedTime")},
    ),
    ({"byUser": "me", "createdUserId": "", "modifiedUserId": "x", "deletedUserId": "y"}, set()),
    ({"computerTime": TIME, "deviceTime": "x"}, {(NOT_VALID, "/computerTime"), (NOT_VALID, "/deviceTime")}),
    ({"timeProcessing": "guess"}, {(NOT_ALLOWED, "/timeProcessing")}),
    ({"timezone": "PST"}, {(NOT_VALID, "/timezone")}),
    (
        {"timezoneOffset": 10081, "clockDriftOffset": -86400001},
        {(RANGE, "/timezoneOffset"), (RANGE, "/clockDriftOffset")},
    ),
    ({"version": "1.0"}, {(LENGTH, "/version")}),
    ({"version": ""}, {(LENGTH, "/version")}),
    ({"id": "A" * 32}, {(NOT_VALID, "/id")}),
    ({"uploadId": "anything"}, set()),
    ({"type": 7}, {("type-not-string", "/type")}),
    ({"payload": {}, "annotations": []}, {(EMPTY, "/payload"), (EMPTY, "/annotations")}),
    *(
        ({field: None}, {("not-parsed", f"/{field}")})
        for field in (
            "state",
            "dataState",
            "userId",
            "guid",
            "localTime",
            "origin",
            "tags",
            "notes",
            "source",
            "location",
        )
    ),
    ({"a/b": 1, "~": 2}, {("not-parsed", "/a~1b"), ("not-parsed", "/~0")}),
    ({"deviceTgs": ["bgm"], "version": "1"}, {("not-parsed", "/deviceTgs")}),
]


@pytest.mark.parametrize(("changes", "expected"), CASES)
def test_data_set(changes: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    assert set(validate_data_set({**BODY, **changes})) == expected


@pytest.mark.parametrize("body", [None, {}])
def test_nothing_is_required(body: object) -> None:
    assert validate_data_set(body) == ()


@pytest.mark.parametrize("body", [[], "x", 5, True])
def test_what_is_no_object(body: object) -> None:
    assert validate_data_set(body) == (("json-malformed", ""),)
