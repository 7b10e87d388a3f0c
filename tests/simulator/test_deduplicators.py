"""What each deduplicator does, beyond the traps."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import Any

import pytest

from tests.factories import DROP_HASH, HASH, NONE, ORIGIN, ORIGIN_OLDER, TRUNCATE
from tests.simulator.api_user import ApiUser
from tidepool_simulator import Simulator


def test_hash_hides_older_data_of_the_device_and_deleting_brings_them_back(owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5), owner.cbg(5.6, 1)])
    newer = owner.uploaded([owner.cbg(5.6, 1), owner.cbg(5.7, 2)])
    assert owner.values() == [5.5, 5.6, 5.7]
    assert owner.delete(newer).status_code == 200
    assert owner.values() == [5.5, 5.6]


def test_hash_is_made_of_user_device_time_type_and_value(owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5)])
    (datum,) = owner.visible()
    text = f"{owner.user}|{owner.device}|2024-05-01T10:00:00Z|cbg|mmol/L|5.5"
    assert datum["_deduplicator"] == {
        "hash": base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    }


def test_three_uploads_of_one_reading(owner: ApiUser) -> None:
    bolus: dict[str, Any] = {
        "type": "bolus",
        "subType": "normal",
        "time": "2024-05-01T10:00:00Z",
        "deviceId": owner.device,
    }

    def amounts() -> list[float]:
        return sorted(datum["normal"] for datum in owner.visible())

    owner.uploaded([bolus | {"normal": 1}])
    second = owner.uploaded([bolus | {"normal": 2}])
    third = owner.open()
    owner.post(third, [bolus | {"normal": 3}])
    owner.delete(second)
    assert amounts() == [1]
    owner.close(third)
    assert amounts() == [3]
    owner.delete(third)
    assert amounts() == [1]


def test_a_middle_upload_deleted_hands_on_what_it_hid(owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5)])
    second = owner.uploaded([owner.cbg(5.5), owner.cbg(5.6, 1)])
    third = owner.uploaded([owner.cbg(5.5)])
    owner.delete(second)
    assert owner.values() == [5.5]
    owner.delete(third)
    assert owner.values() == [5.5]


@pytest.mark.parametrize(("undo_loses", "seen"), [(False, [5.5, 5.6]), (True, [5.5])])
def test_deleting_a_set_superseded_in_part_may_lose_what_it_hid(undo_loses: bool, seen: list[float]) -> None:
    with Simulator(undo_loses=undo_loses) as simulator:
        owner = ApiUser(simulator)
        owner.uploaded([owner.cbg(5.5), owner.cbg(5.6, 1)])
        second = owner.uploaded([owner.cbg(5.5), owner.cbg(5.6, 1)])
        owner.uploaded([owner.cbg(5.5)])
        assert owner.delete(second).status_code == 200
        assert owner.values() == seen


@pytest.mark.parametrize("deduplicator", [HASH, TRUNCATE, ORIGIN, ORIGIN_OLDER, DROP_HASH, NONE])
@pytest.mark.parametrize("kind", ["normal", "continuous"])
def test_every_deduplicator_takes_every_kind_of_set(owner: ApiUser, deduplicator: str, kind: str) -> None:
    data_set = owner.open(deduplicator, dataSetType=kind)
    assert owner.post(data_set, [owner.cbg(5.5)]).status_code == 200
    if kind == "normal":
        assert owner.close(data_set).status_code == 200
    assert owner.values() == [5.5]


@pytest.mark.parametrize("kind", ["normal", "continuous"])
def test_origin_replaces_within_the_set(owner: ApiUser, kind: str) -> None:
    data_set = owner.open(ORIGIN, dataSetType=kind)
    for value in (5.5, 6.5):
        owner.post(data_set, [owner.cbg(value, origin={"id": "o1"}), owner.cbg(value, 1)])
    if kind == "normal":
        owner.close(data_set)
    assert owner.values() == [5.5, 6.5, 6.5]  # without an origin id nothing is replaced


def test_origin_selectors_hide_in_a_continuous_set(owner: ApiUser) -> None:
    data_set = owner.open(ORIGIN, dataSetType="continuous")
    owner.post(data_set, [owner.cbg(5.5, origin={"id": "o1"}), owner.cbg(5.6, 1, origin={"id": "o2"})])
    owner.remove(data_set, [{"origin": {"id": "o1"}}])
    assert owner.values() == [5.6]


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:01Z", "new"),
        ("2024-05-01T10:00:00Z", "2024-05-01T10:00:00Z", "old"),
        ("2024-05-01T10:00:00Z", "2024-05-01T11:30:00+02:00", "old"),
        ("2024-05-01T10:00:00Z", None, "old"),
        (None, "1990-01-01T00:00:00Z", "new"),
    ],
)
def test_origin_older_guards_bolus_and_food(
    owner: ApiUser, old: str | None, new: str | None, kept: str
) -> None:
    data_set = owner.open(ORIGIN_OLDER, dataSetType="continuous")
    for name, moment in (("old", old), ("new", new)):
        origin = {"id": "o1"} | ({"time": moment} if moment else {})
        food = {"type": "food", "name": name, "time": "2024-05-01T10:00:00Z", "deviceId": owner.device}
        assert owner.post(data_set, [food | {"origin": origin}]).status_code == 200
    assert [datum["name"] for datum in owner.visible()] == [kept]


def test_drop_hash_keeps_the_first_in_a_continuous_set_and_doubles_in_a_normal_one(owner: ApiUser) -> None:
    continuous = owner.open(DROP_HASH, dataSetType="continuous")
    for note in ("first", "second"):
        owner.post(continuous, [owner.cbg(5.5, notes=["lost"]), owner.cbg(5.5, notes=[note])])
    assert [datum["notes"] for datum in owner.visible()] == [["first"]]
    owner.device += "-normal"
    normal = owner.open(DROP_HASH)
    for _ in range(2):
        owner.post(normal, [owner.cbg(5.5)])
    owner.close(normal)
    assert owner.values() == [5.5, 5.5]


def test_drop_hash_goes_by_the_id_of_the_set(owner: ApiUser) -> None:
    chosen = f"{time.time_ns():032x}"
    data_set = owner.open(DROP_HASH, dataSetType="continuous", id=chosen, uploadId=f"upid_{chosen}")
    owner.post(data_set, [owner.cbg(5.5)])
    (datum,) = owner.visible()
    text = f"{owner.user}|{chosen}|2024-05-01T10:00:00Z|cbg|mmol/L|5.5"
    assert datum["_deduplicator"]["hash"] == base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"deviceManufacturers": ["Medtronic"], "deviceModel": "723"}, HASH),
        ({"deviceManufacturers": ["Animas"]}, TRUNCATE),
        ({"deduplicator": {"name": "org.tidepool.continuous"}}, NONE),
    ],
)
def test_known_devices_and_old_names_get_a_deduplicator(
    owner: ApiUser, body: dict[str, Any], name: str
) -> None:
    response = owner.request(
        "POST", f"/v1/users/{owner.user}/data_sets", json={"deviceId": owner.device} | body
    )
    assert response.json()["data"]["deduplicator"]["name"] == name


def test_a_service_closing_a_continuous_set_ends_it(owner: ApiUser) -> None:
    data_set = owner.open(NONE, dataSetType="continuous")
    response = owner.request(
        "PUT",
        f"/v1/data_sets/{data_set}",
        json={"state": "closed"},
        headers={"X-Tidepool-Service-Secret": "practice-server-secret"},
    )
    assert response.status_code == 200
    assert owner.post(data_set, []).status_code == 409
