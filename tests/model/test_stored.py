"""What the Platform stores of an accepted datum."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from tests.model.examples import BOLUS, EXAMPLES, GONE, STATUS, TIME, example
from tidepool_ingest.model import NotAcceptedError, content_of, embedded_data, stored_form

STORED_TIME = "2024-03-04T05:06:07Z"


def stored(name: str, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    (record,) = stored_form(example(name, changes))
    return record


STORED_OTHERWISE = {
    "cgmSettings",
    "wizard",
    "deviceEvent alarm",
    "deviceEvent reservoirChange",
    "deviceEvent timeChange",
}
"""Kinds that the Platform stores in a form that it does not accept."""


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - STORED_OTHERWISE))
def test_what_is_stored_is_stored_the_same_again(name: str) -> None:
    record = stored(name)
    assert stored_form(record) == [record]


def test_glucose_is_stored_in_mmol_per_l() -> None:
    record = stored("cbg", {"trendRate": 18, "trendRateUnits": "mg/dL/minute"})
    assert record == {
        "type": "cbg",
        "time": STORED_TIME,
        "deviceId": "pump-1",
        "units": "mmol/L",
        "value": 6.60539,
        "trendRate": 0.99913,
        "trendRateUnits": "mmol/L/minute",
    }
    assert stored("cbg", {"units": "mg/dl"})["value"] == 6.60539
    assert stored("cbg", {"trendRate": 18})["trendRate"] == 18
    assert stored("smbg", {"units": "mmol/l", "value": 6.123456789})["value"] == 6.123456789
    assert stored("smbg", {"units": "mmol/l"})["units"] == "mmol/L"
    assert stored("bloodKetone", {"units": "mmol/l"})["units"] == "mmol/L"
    assert stored("deviceEvent calibration")["value"] == 5.55075


def test_glucose_inside_other_records() -> None:
    settings = stored("pumpSettings")
    assert settings["units"] == {"bg": "mmol/L", "carb": "grams", "insulin": "Units"}
    assert settings["bgSafetyLimit"] == 3.88552
    assert settings["bgTargets"] == {"Weekday": [{"target": 6.10582, "range": 0.55507, "start": 0}]}
    assert settings["insulinSensitivities"] == {"Weekday": [{"amount": 2.2203, "start": 0}]}
    assert settings["overridePresets"]["Run"]["bgTarget"] == {"target": 7.77105}
    assert settings["display"] == {"bloodGlucose": {"units": "mg/dL"}}
    assert settings["carbRatio"] == [{"amount": 10, "start": 0}]
    decision = stored("dosingDecision")
    assert decision["smbg"] == {"time": STORED_TIME, "value": 7.77105}
    assert decision["bgForecast"] == [{"time": STORED_TIME, "value": -1.11015}]
    assert stored("deviceEvent pumpSettingsOverride")["bgTarget"] == {"low": 7.77105, "high": 8.8812}


def test_settings_of_a_monitor() -> None:
    record = stored("cgmSettings", {"manufacturers": ["b", "a"]})
    assert record["manufacturers"] == ["a", "b"]
    assert record["units"] == "mmol/L"
    assert record["defaultAlerts"]["low"]["level"] == 80
    assert record["highAlerts"]["level"] == 13.87687
    assert "rateOfChangeAlerts" not in record
    assert record["rateOfChangeAlert"]["fallRate"] == {"enabled": True, "rate": -0.11101}


def test_what_is_dropped_sorted_and_respelled() -> None:
    record = stored(
        "smbg",
        {
            "guid": "x",
            "uploadId": "y",
            "notes": [],
            "tags": ["b", "a"],
            "payload": {"a": None, "b": {"c": None}, "d": 2**60 + 1},
            "timezoneOffset": 60.0,
            "time": "2024-03-04T5:06:07,120+01:00",
            "origin": {"time": "2024-03-04T05:06:07.000Z", "x": 1},
        },
    )
    assert record == {
        "type": "smbg",
        "deviceId": "pump-1",
        "subType": "linked",
        "units": "mmol/L",
        "value": 6.5,
        "tags": ["a", "b"],
        "payload": {"b": {"c": None}, "d": float(2**60)},
        "timezoneOffset": 60,
        "time": "2024-03-04T05:06:07.12+01:00",
        "origin": {"time": "2024-03-04T05:06:07.000Z"},
    }
    assert isinstance(record["timezoneOffset"], int)


def test_a_time_without_zone_is_stored_as_utc() -> None:
    assert stored("deviceEvent timeChange")["to"] == {
        "time": "2024-03-10T03:00:00Z",
        "timeZoneName": "US/Pacific",
    }


def test_an_embedded_bolus_becomes_a_record_of_its_own() -> None:
    ids = iter(("bolus-id", "wizard-id"))
    wizard, bolus = stored_form(example("wizard"), new_id=lambda: next(ids))
    assert bolus == {**BOLUS, "time": STORED_TIME, "id": "bolus-id"}
    assert wizard["bolus"] == "bolus-id"
    assert wizard["id"] == "wizard-id"
    assert wizard["bgInput"] == 8.32612


def test_links_without_new_ids() -> None:
    wizard, bolus = stored_form(example("wizard"))
    assert "bolus" not in wizard
    assert "id" not in bolus
    wizard, bolus = stored_form(example("wizard", {"bolus.id": "b" * 32}))
    assert wizard["bolus"] == bolus["id"] == "b" * 32


def test_an_automated_bolus_is_split_off_without_a_link() -> None:
    wizard, bolus = stored_form(
        example("wizard", {"bolus.subType": "automated", "bolus.id": "b" * 32, "id": "a" * 32})
    )
    assert "bolus" not in wizard
    assert (wizard["id"], bolus["id"]) == ("a" * 32, "b" * 32)


@pytest.mark.parametrize("name", ["deviceEvent alarm", "deviceEvent reservoirChange"])
def test_an_embedded_status_becomes_a_record_of_its_own(name: str) -> None:
    event, status = stored_form(example(name, {"status.id": "c" * 32}))
    assert event["status"] == "c" * 32
    assert status == {**STATUS, "time": STORED_TIME, "id": "c" * 32}


def test_a_refused_datum_is_not_stored() -> None:
    with pytest.raises(NotAcceptedError) as caught:
        stored_form(example("cbg", {"value": 4321}))
    assert [problem.code for problem in caught.value.problems] == ["value-out-of-range"]
    assert "4321" not in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("wizard", {}, ("bolus",)),
        ("wizard", {"bolus": GONE}, ()),
        ("wizard", {"bolus": None}, ()),
        ("wizard", {"bolus": "id"}, ()),
        ("deviceEvent alarm", {}, ("status",)),
        ("deviceEvent reservoirChange", {}, ("status",)),
        ("deviceEvent status", {}, ()),
        ("deviceEvent status", {"subType": 5}, ()),
        ("deviceEvent status", {"subType": GONE}, ()),
        ("cbg", {"bolus": BOLUS, "type": ["wizard"]}, ()),
        ("pumpSettings", {}, ()),
    ],
)
def test_embedded_data(name: str, changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert embedded_data(example(name, changes)) == expected


def test_an_instant_keeps_its_zone() -> None:
    assert TIME != STORED_TIME
    assert (
        stored("alert", {"issuedTime": "2024-03-04T05:06:07-08:00"})["issuedTime"]
        == "2024-03-04T05:06:07-08:00"
    )


SERVER_OWNED = {
    "id": "9" * 32,
    "uploadId": "8" * 32,
    "createdTime": "2024-03-05T00:00:00.000Z",
    "_deduplicator": {"hash": "x"},
}


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_row_has_the_content_that_was_sent_when_it_is_shown(name: str) -> None:
    for row in stored_form(example(name)):
        assert content_of(row | SERVER_OWNED) == content_of(row)
        assert content_of(row | {"deviceId": "another one"}) != content_of(row)


def test_the_spelling_of_times_and_numbers_and_ids_of_others_are_no_content() -> None:
    bolus, status = stored("bolus normal"), stored("deviceEvent status")
    wizard, _ = stored_form(example("wizard"))

    assert content_of(bolus | {"time": "2024-03-04T05:06:07.000Z"}) == content_of(bolus)
    assert content_of(wizard | {"bolus": "7" * 32}) == content_of(wizard | {"bolus": "6" * 32})
    assert content_of(bolus | {"normal": bolus["normal"] + 1}) != content_of(bolus)
    assert content_of(bolus | {"normal": 2.0}) == content_of(bolus | {"normal": 2})
    assert content_of(status | {"status": "resumed"}) != content_of(status | {"status": "suspended"})
