"""The traps of the Platform's contract, one by one: a client must meet them here first."""

from __future__ import annotations

import gzip
import time

import pytest
import requests

from tests.factories import HASH, NONE, ORIGIN, TRUNCATE
from tests.simulator.api_user import ApiUser
from tests.timing import clock_of_simulated_tokens
from tidepool_simulator import Simulator
from tidepool_simulator.datum_store import ANSWER_BYTES_MAX, fits_into_answer


def codes(response: requests.Response) -> list[str]:
    body = response.json()
    return [error["code"] for error in body.get("errors", [body])]


def test_a_blind_repetition_doubles_the_data(owner: ApiUser) -> None:
    data_set = owner.open(HASH)
    for _ in range(2):
        assert owner.post(data_set, [owner.cbg(5.5)]).status_code == 200
    owner.close(data_set)
    assert owner.values() == [5.5, 5.5]


def test_removing_by_id_before_repeating_does_not(owner: ApiUser) -> None:
    data_set, datum = owner.open(HASH), owner.cbg(5.5, id="0" * 31 + "z")
    owner.post(data_set, [datum])
    for _ in range(2):
        assert owner.remove(data_set, [{"id": datum["id"]}]).status_code == 200
    owner.post(data_set, [datum])
    owner.close(data_set)
    assert [found["id"] for found in owner.visible()] == [datum["id"]]


def test_a_closed_set_conflicts(owner: ApiUser) -> None:
    data_set = owner.uploaded([owner.cbg(5.5)])
    for response in (
        owner.close(data_set),
        owner.post(data_set, []),
        owner.remove(data_set, [{"id": "0" * 32}]),
    ):
        assert (response.status_code, codes(response)) == (409, ["data-set-closed"])
        assert response.json()["errors"][0]["status"] == "409"


def test_an_empty_post_distinguishes_open_from_closed(owner: ApiUser) -> None:
    data_set = owner.open()
    assert owner.post(data_set, []).status_code == 200
    owner.close(data_set)
    assert owner.post(data_set, []).status_code == 409


def test_a_close_that_fails_leaves_the_set_closed_and_its_data_invisible(owner: ApiUser) -> None:
    response = owner.request(
        "POST", f"/v1/users/{owner.user}/data_sets", json={"deduplicator": {"name": HASH}}
    )
    data_set = response.json()["data"]["uploadId"]
    owner.post(data_set, [owner.cbg(5.5)])
    assert owner.close(data_set).status_code == 500
    assert owner.close(data_set).status_code == 409
    assert owner.visible(uploadId=data_set) == []
    assert owner.delete(data_set).status_code == 500


def test_an_open_normal_set_is_not_listed_and_shows_nothing(owner: ApiUser) -> None:
    data_set = owner.open()
    owner.post(data_set, [owner.cbg(5.5)])
    path = f"/v1/users/{owner.user}/data_sets"
    assert owner.request("GET", path, params={"deviceId": owner.device}).json() == []
    assert owner.visible() == []
    owner.close(data_set)
    (listed,) = owner.request("GET", path, params={"deviceId": owner.device}).json()
    assert listed["uploadId"] == data_set
    assert "state" not in listed


def test_what_a_program_keeps_with_a_set_is_listed_once_that_is_closed(owner: ApiUser) -> None:
    client = {"name": "org.example.witness", "private": {"own": {"nested": [1, None]}}}
    data_set = owner.open(client=client)
    path = f"/v1/users/{owner.user}/data_sets"
    wanted = {"deviceId": owner.device, "client.name": client["name"]}
    assert owner.request("GET", f"/v1/data_sets/{data_set}").json()["client"] == client
    assert owner.request("GET", path, params=wanted).json() == []

    owner.close(data_set)
    (listed,) = owner.request("GET", path, params=wanted).json()
    assert listed["client"] == client

    owner.delete(data_set)
    assert owner.request("GET", path, params=wanted).json() == []
    (deleted,) = owner.request("GET", path, params=wanted | {"deleted": "true"}).json()
    assert deleted["client"] == client
    assert "deletedTime" in deleted


def test_what_a_program_keeps_with_a_set_may_be_4096_bytes_long(owner: ApiUser) -> None:
    path = f"/v1/users/{owner.user}/data_sets"
    for surplus, status in ((0, 201), (1, 400)):
        client = {"private": {"a": "x" * (4096 - len('{"a":""}') + surplus)}}
        body = {"deviceId": owner.device, "deduplicator": {"name": HASH}, "client": client}
        assert owner.request("POST", path, json=body).status_code == status


def test_a_continuous_set_shows_its_data_at_once_and_is_never_closed(owner: ApiUser) -> None:
    data_set = owner.open(ORIGIN, dataSetType="continuous")
    owner.post(data_set, [owner.cbg(5.5)])
    assert owner.values() == [5.5]
    assert owner.close(data_set).status_code == 403


def test_a_datum_without_device_fails_the_whole_request_under_the_hash(owner: ApiUser) -> None:
    data_set, datum = owner.open(HASH), owner.cbg(5.6, 1)
    del datum["deviceId"]
    assert owner.post(data_set, [owner.cbg(5.5), datum]).status_code == 500
    owner.close(data_set)
    assert owner.visible(uploadId=data_set) == []


@pytest.mark.parametrize("deduplicator", [None, "org.example.unknown"])
def test_a_create_without_a_known_deduplicator_fails_and_leaves_a_row(
    owner: ApiUser, deduplicator: str | None
) -> None:
    chosen = f"{time.time_ns():032x}"
    body = {"id": chosen} | ({"deduplicator": {"name": deduplicator}} if deduplicator else {})
    assert owner.request("POST", f"/v1/users/{owner.user}/data_sets", json=body).status_code == 500
    assert owner.request("GET", f"/v1/data_sets/{chosen}").json()["uploadId"] == chosen
    assert owner.post(chosen, [owner.cbg(5.5)]).status_code == 500


def test_a_chosen_upload_id_is_taken_once(owner: ApiUser) -> None:
    chosen = f"upid_{time.time_ns() % 16**12:012x}"
    assert owner.open(uploadId=chosen) == chosen
    body = {"uploadId": chosen, "deduplicator": {"name": NONE}}
    assert owner.request("POST", f"/v1/users/{owner.user}/data_sets", json=body).status_code == 500


def test_one_bad_record_rejects_all_and_a_single_error_stands_bare(owner: ApiUser) -> None:
    data_set = owner.open()
    response = owner.post(data_set, [owner.cbg(5.5), owner.cbg(99)])
    assert response.status_code == 400
    error = response.json()
    assert (error["code"], error["source"], error["meta"]) == (
        "value-out-of-range",
        {"pointer": "/1/value"},
        {"type": "cbg"},
    )
    assert "99" in error["detail"]  # the value itself: not for any log
    response = owner.post(data_set, [owner.cbg(-1), owner.cbg(5.5), owner.cbg(99)])
    assert [error["source"]["pointer"] for error in response.json()["errors"]] == ["/0/value", "/2/value"]
    owner.close(data_set)
    assert owner.visible() == []


def test_problems_of_parsing_hide_those_of_values(owner: ApiUser) -> None:
    data_set = owner.open()
    response = owner.post(data_set, [owner.cbg(99), owner.cbg(5.5) | {"value": "5"}, {"type": "bolus"}])
    errors = response.json()["errors"]
    assert [(error["code"], error["source"]["pointer"]) for error in errors] == [
        ("type-not-float64", "/1/value"),
        ("value-not-exists", "/2/subType"),
    ]
    assert "meta" not in errors[1]


def test_gzipped_requests_are_malformed(owner: ApiUser) -> None:
    data_set = owner.open()
    response = owner.request(
        "POST",
        f"/v1/data_sets/{data_set}/data",
        data=gzip.compress(b"[]"),
        headers={"Content-Encoding": "gzip"},
    )
    assert (response.status_code, codes(response)) == (400, ["json-malformed"])


def test_the_hash_takes_the_time_as_it_is_spelled(owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5, time="2024-05-01T10:00:00Z")])
    owner.uploaded([owner.cbg(5.5, time="2024-05-01T12:00:00+02:00")])
    assert owner.values() == [5.5, 5.5]
    assert {datum["time"] for datum in owner.visible()} == {"2024-05-01T10:00:00Z"}


def test_deleting_keeps_the_row_and_an_open_deleted_set_still_takes_data(owner: ApiUser) -> None:
    data_set = owner.open()
    for _ in range(2):
        assert owner.delete(data_set).status_code == 200
    assert owner.post(data_set, [owner.cbg(5.5)]).status_code == 200


def test_truncate_removes_the_data_of_other_sets(owner: ApiUser) -> None:
    older = owner.uploaded([owner.cbg(5.5)])
    owner.uploaded([owner.cbg(6.5, 1)], TRUNCATE)
    assert owner.values() == [6.5]
    assert "deletedTime" in owner.request("GET", f"/v1/data_sets/{older}").json()


def test_selectors_under_delete_origin_do_nothing_on_an_open_normal_set(owner: ApiUser) -> None:
    data_set, datum = owner.open(ORIGIN), owner.cbg(5.5, origin={"id": "o1"})
    owner.post(data_set, [datum])
    assert owner.remove(data_set, [{"origin": {"id": "o1"}}]).status_code == 200
    owner.post(data_set, [datum])
    owner.close(data_set)
    assert owner.values() == [5.5]


@pytest.mark.parametrize(
    "selectors", [[], {}, [{}], [{"id": "abc"}], [{"id": "0" * 32}, {"origin": {"id": "o"}}]]
)
def test_bad_selectors_are_a_failure_of_the_server(owner: ApiUser, selectors: object) -> None:
    assert owner.remove(owner.open(), selectors).status_code == 500


def test_the_owner_alone_gets_a_data_set(owner: ApiUser, uploader: ApiUser) -> None:
    data_set = owner.open()
    assert owner.request("GET", f"/v1/data_sets/{data_set}").status_code == 200
    assert uploader.request("GET", f"/v1/data_sets/{data_set}").status_code == 403


def test_tokens_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clock_of_simulated_tokens(monkeypatch)
    with Simulator(token_lifetime=60.0) as simulator:
        hands = ApiUser(simulator)
        data_set = hands.open()
        clock.sleep(61.0)
        response = hands.post(data_set, [hands.cbg(5.5)])
        assert (response.status_code, codes(response)) == (401, ["unauthenticated"])
        assert hands.request("GET", f"/data/{hands.user}").json()["code"] == "data_cant_view"


NUL_NAME = {"a\0b": 1}


@pytest.mark.parametrize(
    "bad", [{"payload": NUL_NAME}, {"annotations": [NUL_NAME]}, {"origin": {"payload": {"x": [NUL_NAME]}}}]
)
def test_a_nul_in_a_name_breaks_the_storage_of_the_whole_request(
    owner: ApiUser, bad: dict[str, object]
) -> None:
    data_set = owner.open(NONE)
    for _ in range(2):
        response = owner.post(data_set, [owner.cbg(5.5), owner.cbg(6.5, 1, **bad)])
        assert (response.status_code, codes(response)) == (500, ["internal-server-failure"])
    assert owner.post(data_set, [owner.cbg(6.5, 1, payload={"x": "a\0b"}, **NUL_NAME)]).status_code == 200
    owner.close(data_set)
    assert owner.values() == [6.5]


@pytest.mark.parametrize(
    "bad", [{"payload": NUL_NAME}, {"annotations": [NUL_NAME]}, {"client": {"private": NUL_NAME}}]
)
def test_a_data_set_with_one_is_not_made(owner: ApiUser, bad: dict[str, object]) -> None:
    path = f"/v1/users/{owner.user}/data_sets"
    before = owner.request("GET", path).json()
    body = {"deduplicator": {"name": ORIGIN}, "dataSetType": "continuous"} | bad

    response = owner.request("POST", path, json=body)

    assert (response.status_code, codes(response)) == (500, ["internal-server-failure"])
    assert owner.request("GET", path).json() == before


def test_under_origin_what_it_would_have_replaced_is_gone_all_the_same(owner: ApiUser) -> None:
    data_set = owner.open(ORIGIN, dataSetType="continuous")
    owner.post(data_set, [owner.cbg(5.5, origin={"id": "one"})])
    assert owner.values(uploadId=data_set) == [5.5]

    response = owner.post(data_set, [owner.cbg(6.5, origin={"id": "one"}, payload=NUL_NAME)])

    assert response.status_code == 500
    assert owner.values(uploadId=data_set) == []


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59-01:00", "0000-01-01T00:00:00+01:00"])
def test_a_time_beyond_four_digits_is_stored_and_never_shown(owner: ApiUser, time: str) -> None:
    shown = [owner.cbg(5.5, time="9999-12-31T23:59:59Z"), owner.cbg(5.6, time="0000-01-01T00:00:00Z")]
    owner.uploaded([*shown, owner.cbg(6.5, time=time)])

    assert owner.values() == [5.5, 5.6]


def test_a_nested_zero_time_is_left_out(owner: ApiUser) -> None:
    battery = {"state": "charging", "time": "0001-01-01T00:00:00Z"}
    owner.uploaded([owner.cbg(5.5, type="controllerStatus", battery=battery)])

    assert [found["battery"] for found in owner.visible()] == [{"state": "charging"}]


def test_a_set_of_too_many_hashes_can_neither_be_closed_nor_deleted() -> None:
    """Their list is one document of the database, of at most 16 MB; for this test of 563 bytes."""
    with Simulator() as simulator:
        hands = ApiUser(simulator)
        simulator.store.answer_bytes_max = 10 * 52 + 43
        assert hands.close(hands.open()).status_code == 200
        fits = hands.open()
        hands.post(fits, [hands.cbg(5.5, minute) for minute in (0, *range(10))])
        assert hands.close(fits).status_code == 200
        assert hands.delete(fits).status_code == 200

        data_set = hands.open()
        hands.post(data_set, [hands.cbg(5.5, minute) for minute in range(11)])

        assert [hands.close(data_set).status_code for _ in range(2)] == [500, 409]
        assert hands.visible() == []
        assert hands.delete(data_set).status_code == 500


def test_the_limit_is_that_of_the_platforms_database() -> None:
    def size(hashes: int) -> int:
        return sum(len(str(number)) + 51 for number in range(hashes))

    assert size(296_000) < ANSWER_BYTES_MAX < size(297_000)
    assert fits_into_answer(296_000, ANSWER_BYTES_MAX)
    assert not fits_into_answer(297_000, ANSWER_BYTES_MAX)
    for count in (0, 1, 9, 10, 11, 100, 101, 1_234):
        assert fits_into_answer(count, size(count))
        assert not count or not fits_into_answer(count, size(count) - 1)
