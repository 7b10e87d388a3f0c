"""The filters of the read-back, and what it shows of a data set."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NONE, ORIGIN
from tests.simulator.api_user import ApiUser


def minutes(owner: ApiUser, **query: str) -> list[int]:
    return sorted(int(datum["time"][14:16]) for datum in owner.visible(**query))


@pytest.fixture
def filled(owner: ApiUser) -> ApiUser:
    shared = {"deviceId": owner.device}
    owner.uploaded(
        [
            owner.cbg(5.5, 1),
            owner.cbg(5.6, 2, sampleInterval=60_000),
            {"type": "smbg", "time": "2024-05-01T10:03:00Z", "units": "mmol/L", "value": 6} | shared,
            {"type": "bolus", "subType": "normal", "time": "2024-05-01T10:04:00Z", "normal": 1} | shared,
            {
                "type": "bolus",
                "subType": "square",
                "time": "2024-05-01T10:05:00Z",
                "extended": 2,
                "duration": 9,
            }
            | shared,
        ],
        NONE,
    )
    return owner


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"type": "cbg"}, [1, 2]),
        ({"type": "cbg,smbg"}, [1, 2, 3]),
        ({"type": "CBG"}, []),
        ({"subType": "square"}, [5]),
        ({"subtype": "square"}, [1, 2, 3, 4, 5]),
        ({"type": "bolus", "subType": "normal,square"}, [4, 5]),
        ({"startDate": "2024-05-01T10:03:00Z"}, [3, 4, 5]),
        ({"endDate": "2024-05-01T12:03:00+02:00"}, [1, 2, 3]),
        ({"startDate": "2024-05-01T10:02:00Z", "endDate": "2024-05-01T10:04:00Z"}, [2, 3, 4]),
        ({"latest": "true"}, [2, 3, 5]),
        ({"latest": "true", "type": "bolus"}, [5]),
        ({"sampleIntervalMinimum": "300000"}, [1, 3, 4, 5]),
        ({"uploadId": "nobody"}, []),
    ],
)
def test_filters(filled: ApiUser, query: dict[str, str], expected: list[int]) -> None:
    assert minutes(filled, **query) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"startDate": "2024-05-01"},
        {"endDate": "x"},
        {"latest": "maybe"},
        {"carelink": ""},
        {"dexcom": "x"},
        {"cbgFilter": "x"},
        {"medtronic": "x"},
        {"sampleIntervalMinimum": "1.5"},
    ],
)
def test_parameters_that_cannot_be_read_are_a_failure(owner: ApiUser, query: dict[str, str]) -> None:
    response = owner.request("GET", f"/data/{owner.user}", params=query)
    assert (response.status_code, response.json()["code"]) == (500, "invalid_parameters")


def test_the_upload_record_shows_the_state(owner: ApiUser) -> None:
    data_set = owner.open(ORIGIN)
    query = {"uploadId": data_set, "type": "upload"}
    path = f"/data/{owner.user}"
    assert owner.request("GET", path, params=query).json() == []
    owner.close(data_set)
    (document,) = owner.request("GET", path, params=query).json()
    assert (document["_state"], document["_dataState"], document["revision"]) == ("closed", "open", 3)
    assert document["_deduplicator"] == {"name": ORIGIN, "version": "1.0.0"}
    assert not document.keys() & {"createdTime", "modifiedTime", "deduplicator"}
    owner.delete(data_set)
    (document,) = owner.request("GET", path, params=query).json()
    assert "deletedTime" in document


def test_times_come_back_in_utc_and_milliseconds(owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5, time="2024-05-01T12:00:00.1239+02:00")])
    assert [datum["time"] for datum in owner.visible()] == ["2024-05-01T10:00:00.123Z"]


def test_an_embedded_bolus_is_a_datum_of_its_own(owner: ApiUser) -> None:
    bolus = {"type": "bolus", "subType": "normal", "normal": 2, "time": "2024-05-01T10:01:00Z"}
    wizard: dict[str, Any] = {"type": "wizard", "units": "mg/dL", "bgInput": 180, "time": bolus["time"]}
    device = {"deviceId": owner.device}
    owner.uploaded([wizard | device | {"bolus": bolus | device}])
    found = {datum["type"]: datum for datum in owner.visible()}
    assert found["wizard"]["bolus"] == found["bolus"]["id"]
    assert found["wizard"]["bgInput"] == 9.99135


def test_carelink_is_hidden_beside_a_direct_medtronic_upload(owner: ApiUser) -> None:
    # A user of its own: the direct upload hides records of all devices.
    patient = owner.simulator.accounts.add_user("carelink patient")
    owner.simulator.accounts.grant("owner", of=patient.name)
    owner.user = patient.id
    owner.uploaded([owner.cbg(5.5, source="carelink"), owner.cbg(5.6, 1)], NONE)
    assert owner.values() == [5.5, 5.6]
    owner.close(owner.open(NONE, deviceManufacturers=["Medtronic"]))
    assert owner.values() == [5.6]
    assert owner.values(carelink="true") == [5.5, 5.6]


def test_a_loopable_pump_is_hidden_beside_loop_unless_the_upload_is_named(owner: ApiUser) -> None:
    patient = owner.simulator.accounts.add_user("loop patient")
    owner.simulator.accounts.grant("owner", of=patient.name)
    owner.user = patient.id
    direct = owner.open(NONE, deviceModel="723")
    owner.post(direct, [owner.cbg(5.5)])
    owner.close(direct)
    assert owner.values() == [5.5]
    owner.uploaded([owner.cbg(5.6, 1, origin={"payload": {"device": {"manufacturer": "Medtronic"}}})], NONE)
    assert owner.values() == [5.6]
    assert owner.values(medtronic="true") == [5.5, 5.6]
    assert owner.values(uploadId=direct) == [5.5]
