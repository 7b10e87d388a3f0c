"""Routes, headers and lists: what is the same for all operations."""

from __future__ import annotations

import http.client
import urllib.parse

import pytest
import requests

from tests.factories import NONE
from tests.simulator.api_user import ApiUser
from tidepool_simulator import Simulator


@pytest.mark.parametrize("prefix", ["", "/dataservices"])
@pytest.mark.parametrize("spelling", ["data_sets", "datasets"])
def test_both_spellings_work_with_and_without_the_prefix(owner: ApiUser, prefix: str, spelling: str) -> None:
    body = {"deviceId": owner.device, "deduplicator": {"name": NONE}}
    response = owner.request("POST", f"{prefix}/v1/users/{owner.user}/{spelling}", json=body)
    data_set = response.json()["data"]["uploadId"]
    path = f"{prefix}/v1/{spelling}/{data_set}"
    assert owner.request("POST", f"{path}/data", json=[owner.cbg(5.5)]).status_code == 200
    assert owner.request("PUT", path).status_code == 200
    assert owner.values() == [5.5]
    assert owner.request("DELETE", path).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nonsense", 404),
        ("GET", "/v1/data_sets/x/", 404),
        ("POST", "/v1/data_sets/x/data/", 404),
        ("GET", "/v1/datasets/x", 405),
        ("PATCH", "/v1/data_sets/x", 405),
        ("POST", "/v1/time", 405),
        ("GET", "/nowhere", 404),
        ("PUT", "/auth/login", 405),
    ],
)
def test_unknown_routes(owner: ApiUser, method: str, path: str, status: int) -> None:
    response = owner.request(method, path)
    assert response.status_code == status
    if path.startswith("/v1"):
        assert set(response.json()) == {"Error"}


def test_traces_are_echoed_and_cut(owner: ApiUser) -> None:
    headers = {"X-Tidepool-Trace-Request": "r" * 70, "X-Tidepool-Trace-Session": "s"}
    response = owner.request("GET", "/v1/time", headers=headers)
    assert response.json()["meta"]["trace"] == {"request": "r" * 64, "session": "s"}
    assert response.headers["X-Tidepool-Trace-Request"] == "r" * 64
    assert len(owner.request("GET", "/v1/time").json()["meta"]["trace"]["request"]) == 32


def test_responses_are_gzipped_for_those_who_ask(owner: ApiUser) -> None:
    path = f"/data/{owner.user}"
    owner.uploaded([owner.cbg(5.5, minute) for minute in range(60)])
    compressed = owner.request("GET", path, headers={"Accept-Encoding": "gzip"})
    plain = owner.request("GET", path, headers={"Accept-Encoding": "identity"})
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert compressed.json() == plain.json()


def test_one_connection_serves_many_requests(simulator: Simulator) -> None:
    address = urllib.parse.urlsplit(simulator.base_url)
    connection = http.client.HTTPConnection(address.netloc, timeout=10)
    connection.connect()
    kept = connection.sock
    for _ in range(3):
        connection.request("GET", "/v1/time")
        assert connection.getresponse().read()
    assert connection.sock is kept
    connection.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"size": "0"}, [("value-out-of-range", "size")]),
        ({"size": "1001"}, [("value-out-of-range", "size")]),
        ({"page": "-1"}, [("value-out-of-range", "page")]),
        ({"page": "x"}, [("type-not-int", "page")]),
        ({"deleted": "perhaps"}, [("type-not-bool", "deleted")]),
        ({"deviceId": "", "client.name": ""}, [("value-empty", "client.name"), ("value-empty", "deviceId")]),
        ({"size": ["1", "2"]}, [("not-parsed", "size")]),
        ({"size": "0", "limit": "1"}, [("not-parsed", "limit")]),
    ],
)
def test_bad_queries(owner: ApiUser, query: dict[str, str], expected: list[tuple[str, str]]) -> None:
    response = owner.request("GET", f"/v1/users/{owner.user}/data_sets", params=query)
    body = response.json()
    found = [(error["code"], error["source"]["parameter"]) for error in body.get("errors", [body])]
    assert (response.status_code, found) == (400, expected)


def test_pages_of_the_list(owner: ApiUser) -> None:
    made = [owner.open(NONE, dataSetType="continuous", client={"name": owner.device, "version": "1.0.0"})
            for _ in range(5)]  # fmt: skip
    owner.delete(made[0])
    path, query = f"/v1/users/{owner.user}/data_sets", {"client.name": owner.device, "size": "2"}
    pages = [
        [found["uploadId"] for found in owner.request("GET", path, params=query | {"page": page}).json()]
        for page in ("0", "1", "2")
    ]
    assert pages == [made[:-3:-1], made[2:0:-1], []]
    deleted = owner.request("GET", path, params=query | {"deleted": "true", "size": "9"}).json()
    assert [found["uploadId"] for found in deleted] == made[::-1]


def test_time_needs_no_token(simulator: Simulator) -> None:
    response = requests.get(f"{simulator.base_url}/dataservices/v1/time", timeout=10).json()
    assert response["data"]["time"].endswith("Z")
