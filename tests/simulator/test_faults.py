"""Every kind of fault, seen from a client, and which requests it strikes."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.parse
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import requests
from pydantic import ValidationError

from tests.factories import HASH, NONE, ORIGIN, TRUNCATE
from tests.simulator.api_user import ApiUser
from tests.timing import PATIENCE_SECONDS, LateWork, until
from tidepool_simulator import Fault, Faults, ResponseFault, Simulator, Work

Try = Callable[[], requests.Response]


def lost(attempt: Try) -> bool:
    """Whether a request ends without an answer."""
    try:
        attempt()
    except requests.ConnectionError:
        return True
    return False


def under_way(simulator: Simulator) -> int:
    found: dict[str, int] = requests.get(f"{simulator.base_url}/simulator/faults", timeout=10).json()
    return found["working"]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> LateWork:
    return LateWork(monkeypatch)


def created(owner: ApiUser, name: str) -> requests.Response:
    body = {
        "deviceId": owner.device,
        "deduplicator": {"name": NONE},
        "client": {"name": name, "version": "1.0.0"},
    }
    path = f"/v1/users/{owner.user}/data_sets"
    return owner.request("POST", path, json=body | {"dataSetType": "continuous"})


def listed(owner: ApiUser, name: str) -> int:
    path = f"/v1/users/{owner.user}/data_sets"
    return len(owner.request("GET", path, params={"client.name": name}).json())


def test_a_lost_request_does_nothing_and_a_lost_response_everything(
    simulator: Simulator, owner: ApiUser
) -> None:
    data_set = owner.open()
    simulator.faults.add(Fault.lost_request("post"), Fault.lost_answer("post"))
    assert lost(lambda: owner.post(data_set, [owner.cbg(5.5)]))
    assert lost(lambda: owner.post(data_set, [owner.cbg(6.5, 1)]))
    assert owner.post(data_set, [owner.cbg(7.5, 2)]).status_code == 200
    owner.close(data_set)
    assert owner.values() == [6.5, 7.5]


def test_resets_are_real(simulator: Simulator, owner: ApiUser) -> None:
    simulator.faults.add(Fault.lost_request("time"))
    address = urllib.parse.urlsplit(simulator.base_url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.request("GET", "/v1/time")
    with pytest.raises(ConnectionResetError):
        connection.getresponse()


@pytest.mark.parametrize("status", [None, 504])
def test_work_that_is_done_only_after_the_response_was_cut(
    simulator: Simulator, owner: ApiUser, late: LateWork, status: int | None
) -> None:
    data_set = owner.open(NONE, dataSetType="continuous")
    simulator.faults.add(Fault.late_commit("post", 0.3, status=status))
    if status is None:
        assert lost(lambda: owner.post(data_set, [owner.cbg(5.5)]))
    else:
        response = owner.post(data_set, [owner.cbg(5.5)])
        assert (response.status_code, response.headers["Content-Type"]) == (504, "text/html")
    assert late.is_held()
    assert owner.values() == []
    late.let_go()
    assert simulator.settle(PATIENCE_SECONDS)
    assert owner.values() == [5.5]


def test_late_work_is_late_by_what_the_fault_says(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.open(NONE, dataSetType="continuous")
    simulator.faults.add(Fault.late_commit("post", 0.3))
    began = time.monotonic()
    assert lost(lambda: owner.post(data_set, [owner.cbg(5.5)]))
    assert simulator.settle(PATIENCE_SECONDS)
    assert time.monotonic() - began >= 0.3
    assert owner.values() == [5.5]


def test_late_create(simulator: Simulator, owner: ApiUser, late: LateWork) -> None:
    simulator.faults.add(Fault.late_commit("create", 0.2))
    assert lost(lambda: created(owner, owner.device))
    assert late.is_held()
    assert listed(owner, owner.device) == 0
    late.let_go()
    assert simulator.settle(PATIENCE_SECONDS)
    assert listed(owner, owner.device) == 1


def test_late_removal_takes_what_was_sent_again(simulator: Simulator, owner: ApiUser, late: LateWork) -> None:
    data_set, datum = owner.open(HASH), owner.cbg(5.5, id="0" * 31 + "l")
    owner.post(data_set, [datum])
    simulator.faults.add(Fault.late_commit("delete-data", 0.3))
    assert lost(lambda: owner.remove(data_set, [{"id": datum["id"]}]))
    owner.remove(data_set, [{"id": datum["id"]}])
    owner.post(data_set, [datum])
    late.let_go()
    assert simulator.settle(PATIENCE_SECONDS)
    owner.close(data_set)
    assert owner.values() == []


def test_late_close_may_leave_the_set_closed_and_invisible_for_a_while(
    simulator: Simulator, owner: ApiUser, late: LateWork
) -> None:
    data_set = owner.open()
    owner.post(data_set, [owner.cbg(5.5)])
    simulator.faults.add(Fault.late_commit("close", 0.4, steps=1, status=504))
    assert owner.close(data_set).status_code == 504
    assert late.is_held()
    assert owner.close(data_set).status_code == 409
    assert owner.visible() == []
    late.let_go()
    assert simulator.settle(PATIENCE_SECONDS)
    assert owner.values() == [5.5]


@pytest.mark.parametrize(
    ("fault", "second", "seen"),
    [
        (Fault.refused("close", 504), 200, [5.5]),
        (Fault.partial("close", steps=1, share=0, status=504), 409, []),
        (Fault.partial("close", steps=3, share=0.5, status=504), 409, [5.5]),
        (Fault.failed_after("close", 504), 409, [5.5, 6.5]),
    ],
    ids=["before", "after the state", "in the middle of the data", "after"],
)
def test_504_at_close(
    simulator: Simulator, owner: ApiUser, fault: Fault, second: int, seen: list[float]
) -> None:
    data_set = owner.open()
    owner.post(data_set, [owner.cbg(5.5)] if second == 200 else [owner.cbg(5.5), owner.cbg(6.5, 1)])
    simulator.faults.add(fault)
    assert owner.close(data_set).status_code == 504
    assert owner.close(data_set).status_code == second
    assert owner.values() == seen


def test_a_close_cut_between_hiding_and_showing_leaves_nothing_visible(
    simulator: Simulator, owner: ApiUser
) -> None:
    owner.uploaded([owner.cbg(5.5)])
    newer = owner.open()
    owner.post(newer, [owner.cbg(5.5)])
    simulator.faults.add(Fault.partial("close", steps=2, share=0))
    assert owner.close(newer).status_code == 500
    assert owner.visible() == []
    owner.delete(newer)


def test_partial_stores(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.open()
    simulator.faults.add(Fault.partial("post", share=0.5))
    response = owner.post(data_set, [owner.cbg(value, value) for value in range(1, 11)])
    assert (response.status_code, response.json()["errors"][0]["code"]) == (500, "internal-server-failure")
    owner.close(data_set)
    assert owner.values() == [1, 2, 3, 4, 5]


def test_partial_removal(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.open()
    data = [owner.cbg(value, value, id=f"{value:032d}") for value in range(1, 5)]
    owner.post(data_set, data)
    simulator.faults.add(Fault.partial("delete-data", share=0.5))
    assert owner.remove(data_set, [{"id": datum["id"]} for datum in data]).status_code == 500
    owner.close(data_set)
    assert owner.values() == [3, 4]


def test_a_replacement_cut_in_the_middle_has_taken_the_old_data_away(
    simulator: Simulator, owner: ApiUser
) -> None:
    data_set = owner.open(ORIGIN, dataSetType="continuous")
    data = [owner.cbg(5.5, origin={"id": "o1"}), owner.cbg(5.6, 1, origin={"id": "o2"})]
    owner.post(data_set, data)
    simulator.faults.add(Fault.partial("post", steps=1, share=0.5))
    assert owner.post(data_set, data).status_code == 500
    assert owner.values() == [5.5]
    owner.post(data_set, data)
    assert owner.values() == [5.5, 5.6]


def test_a_truncate_cut_in_the_middle_has_removed_the_older_data(
    simulator: Simulator, owner: ApiUser
) -> None:
    owner.uploaded([owner.cbg(5.5)])
    newer = owner.open(TRUNCATE)
    simulator.faults.add(Fault.partial("close", steps=2, share=0))
    assert owner.close(newer).status_code == 500
    assert owner.visible() == []


def test_a_create_cut_in_the_middle_leaves_a_row(simulator: Simulator, owner: ApiUser) -> None:
    simulator.faults.add(Fault.partial("create", steps=1, share=0))
    assert created(owner, owner.device).status_code == 500
    with simulator.database.reading() as connection:
        rows = connection.execute(
            "SELECT state, active, deduplicator FROM data_sets WHERE device_id = ?", (owner.device,)
        ).fetchall()
    assert rows == [("open", 0, None)]


def test_a_request_that_is_rejected_anyway_is_rejected_as_ever(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.uploaded([owner.cbg(5.5)])
    simulator.faults.add(Fault.partial("post"))
    assert owner.post(data_set, []).status_code == 409


@pytest.mark.parametrize("status", [401, 429, 500, 502, 503, 504])
def test_statuses(simulator: Simulator, owner: ApiUser, status: int) -> None:
    data_set = owner.open()
    simulator.faults.add(Fault.refused("post", status, retry_after="7" if status == 429 else None))
    response = owner.post(data_set, [owner.cbg(5.5)])
    assert response.status_code == status
    assert response.headers.get("Retry-After") == ("7" if status == 429 else None)
    if status in (502, 503, 504):
        assert response.headers["Content-Type"] == "text/html"
        assert response.text.startswith("<html>")
    else:
        assert "code" in response.text
    owner.close(data_set)
    assert owner.visible() == []


@pytest.mark.parametrize(
    ("operation", "method", "path", "status", "key", "value"),
    [
        ("check-token", "GET", "/auth/token", 401, "code", 401),
        ("token", "POST", "/realms/simulator/protocol/openid-connect/token", 500, "error", "unknown_error"),
        ("read-back", "GET", "/data/a1b2c3d4e5", 401, "code", "data_cant_view"),
        ("read-back", "GET", "/data/a1b2c3d4e5", 500, "code", "data_store_error"),
    ],
)
def test_statuses_of_other_services(
    simulator: Simulator,
    owner: ApiUser,
    operation: str,
    method: str,
    path: str,
    status: int,
    key: str,
    value: Any,
) -> None:
    simulator.faults.add(Fault.refused(operation, status))
    assert owner.request(method, path).json()[key] == value


def test_no_response_at_all(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.open(NONE, dataSetType="continuous")
    simulator.faults.add(Fault.hang("post"), Fault.hang("post", work=Work.ALL))
    url = f"{simulator.base_url}/v1/data_sets/{data_set}/data"
    for value in (5.5, 6.5):
        with pytest.raises(requests.ReadTimeout):
            owner.session.post(url, json=[owner.cbg(value)], timeout=0.3)
    until(owner.values)  # it may have been given up before it was looked at
    assert owner.values() == [6.5]


def test_slow_bodies_come_whole(simulator: Simulator, owner: ApiUser) -> None:
    owner.uploaded([owner.cbg(5.5, minute) for minute in range(60)])
    simulator.faults.add(Fault(operation="read-back", answer=ResponseFault.SLOW_BODY, delay=0.4))
    began = time.monotonic()
    assert len(owner.visible()) == 60
    assert time.monotonic() - began > 0.35


@pytest.mark.parametrize("answer", [ResponseFault.TRUNCATED_BODY, ResponseFault.RESET_BODY])
def test_bodies_that_break_off(simulator: Simulator, owner: ApiUser, answer: ResponseFault) -> None:
    owner.uploaded([owner.cbg(5.5, minute) for minute in range(60)])
    simulator.faults.add(Fault(operation="read-back", answer=answer))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        owner.visible()
    assert len(owner.visible()) == 60


def test_latency_holds_up_no_other_request() -> None:
    with Simulator(latency=0.2) as simulator:
        began = time.monotonic()
        assert ApiUser(simulator).request("GET", "/v1/time").status_code == 200
        assert time.monotonic() - began >= 0.2
    with Simulator(latency=600.0) as simulator:
        sessions = [ApiUser(simulator) for _ in range(8)]
        requests_to_send = [partial(hands.session.get, f"{simulator.base_url}/v1/time") for hands in sessions]
        threads = [threading.Thread(target=lost, args=(one,)) for one in requests_to_send]
        for thread in threads:
            thread.start()
        until(lambda: under_way(simulator) == 8)
    for thread in threads:
        thread.join()


def test_latency_of_one_operation_adds_up_with_other_faults(simulator: Simulator, owner: ApiUser) -> None:
    simulator.faults.add(Fault.slow(0.2, "time"), Fault.refused("time", 503))
    began = time.monotonic()
    assert owner.request("GET", "/v1/time").status_code == 503
    assert owner.request("GET", "/v1/time").status_code == 200
    assert time.monotonic() - began >= 0.4


def test_faults_strike_the_nth_match_and_then_some(simulator: Simulator, owner: ApiUser) -> None:
    simulator.faults.add(Fault.refused("time", 503, skip=1, times=2))
    statuses = [owner.request("GET", "/v1/time").status_code for _ in range(5)]
    assert statuses == [200, 503, 503, 200, 200]


def test_faults_strike_one_data_set_or_one_user(simulator: Simulator, owner: ApiUser) -> None:
    struck, spared = owner.open(), owner.open()
    simulator.faults.add(Fault.refused("post", 503, data_set=struck, user=owner.user))
    assert owner.post(spared, []).status_code == 200
    assert owner.post(struck, []).status_code == 503
    simulator.faults.add(Fault.refused("post", 503, user="0123456789"))
    assert owner.post(spared, []).status_code == 200


def test_chances_are_drawn_from_the_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        faults = Faults(seed)
        faults.add(Fault.refused("post", 503, times=None, chance=0.5))
        return [faults.strike("post", None, lambda: None).fault is not None for _ in range(40)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert {True, False} == set(drawn(1))


@pytest.mark.parametrize(
    "fields",
    [
        {"operation": "dance"},
        {"work": "none"},
        {"work": "late", "answer": "slow-body"},
        {"answer": "status"},
        {"status": 503},
        {"answer": "reset", "colour": "red"},
        {"answer": "status", "status": 200},
    ],
)
def test_faults_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate(fields)


def test_faults_over_http(simulator: Simulator, owner: ApiUser) -> None:
    url = f"{simulator.base_url}/simulator"
    added = requests.post(
        f"{url}/faults",
        json=[
            {"operation": "time", "work": "none", "answer": "status", "status": 503, "name": "away"},
            {"operation": "time", "work": "none", "answer": "reset"},
        ],
        timeout=10,
    )
    assert added.status_code == 201
    assert owner.request("GET", "/v1/time").status_code == 503
    found = requests.get(f"{url}/faults", timeout=10).json()
    assert [fault["struck"] for fault in found["faults"]] == [1, 0]
    assert found["counts"]["away"] == 1
    assert found["working"] == 0
    assert requests.delete(f"{url}/faults/{added.json()['ids'][1]}", timeout=10).status_code == 204
    assert owner.request("GET", "/v1/time").status_code == 200
    assert requests.delete(f"{url}/faults", timeout=10).status_code == 204
    assert requests.get(f"{url}/faults", timeout=10).json()["faults"] == []
    last = requests.get(f"{url}/requests", timeout=10).json()[-2:]
    assert last == [
        {"method": "GET", "route": "/v1/time", "operation": "time", "status": 503, "fault": "away"},
        {"method": "GET", "route": "/v1/time", "operation": "time", "status": 200, "fault": None},
    ]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/simulator/faults", "{", 400),
        ("POST", "/simulator/faults", '{"operation": "dance"}', 400),
        ("POST", "/simulator/rules", "{", 400),
        ("POST", "/simulator/rules", '{"pointer": "/value"}', 400),
        ("POST", "/simulator/rules", '{"pointer": "value", "above": 1}', 400),
        ("GET", "/simulator/nothing", None, 404),
        ("PUT", "/simulator/faults", None, 405),
        ("DELETE", "/simulator/faults/x", None, 404),
    ],
)
def test_control_refuses(owner: ApiUser, method: str, path: str, body: str | None, status: int) -> None:
    response = owner.request(method, path, data=body)
    assert (response.status_code, set(response.json())) == (status, {"message"})


def test_the_list_of_requests_names_no_id(simulator: Simulator, owner: ApiUser) -> None:
    data_set = owner.open()
    owner.post(data_set, [])
    last = simulator.requests[-1]
    assert (last.operation, last.route, last.status) == ("post", "/v1/data_sets/{data_set}/data", 200)


def test_stopping_ends_hanging_and_late_requests() -> None:
    simulator = Simulator()
    simulator.start()
    hands = ApiUser(simulator)
    data_set = hands.open()
    simulator.faults.add(Fault.late_commit("post", 60), Fault.hang("close"))
    assert lost(lambda: hands.post(data_set, [hands.cbg(5.5)]))
    with pytest.raises(requests.ReadTimeout):
        hands.session.put(f"{simulator.base_url}/v1/data_sets/{data_set}", timeout=0.2)
    began = time.monotonic()
    simulator.stop()
    assert time.monotonic() - began < 5
