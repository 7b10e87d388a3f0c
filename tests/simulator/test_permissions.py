"""Who may do what, and how a refusal looks on each route."""

from __future__ import annotations

import pytest
import requests

from tests.factories import NONE
from tests.simulator.api_user import ApiUser
from tidepool_simulator import Simulator


def test_an_uploader_may_create_post_close_and_delete_its_own(owner: ApiUser, uploader: ApiUser) -> None:
    own = uploader.uploaded([uploader.cbg(5.5)])
    others = owner.open()
    assert uploader.values() == [5.5]
    assert uploader.delete(own).status_code == 200
    assert uploader.delete(others).status_code == 403


def test_a_stranger_may_nothing(owner: ApiUser, stranger: ApiUser) -> None:
    data_set = owner.open()
    refused = [
        stranger.request("POST", f"/v1/users/{owner.user}/data_sets", json={"deduplicator": {"name": NONE}}),
        stranger.post(data_set, []),
        stranger.remove(data_set, []),
        stranger.close(data_set),
        stranger.delete(data_set),
        stranger.request("GET", f"/v1/users/{owner.user}/datasets"),
    ]
    for response in refused:
        assert response.status_code == 403
        assert response.json()["errors"][0] | {"title": "", "detail": ""} == {
            "code": "unauthorized", "title": "", "detail": "", "status": "403",
        }  # fmt: skip
    for path in (f"/v1/users/{owner.user}/data_sets", f"/v1/data_sets/{data_set}"):
        bare = stranger.request("GET", path)
        assert (bare.status_code, bare.json()["code"]) == (403, "unauthorized")
    read = stranger.request("GET", f"/data/{owner.user}")
    assert (read.status_code, read.json()["code"], read.json()["status"]) == (403, "data_cant_view", 403)


@pytest.mark.parametrize("permissions", [["view"], ["custodian"]])
def test_view_and_custodian_may_list_but_not_create(
    simulator: Simulator, stranger: ApiUser, permissions: list[str]
) -> None:
    patient = simulator.accounts.add_user(f"patient of {permissions}")
    simulator.accounts.grant("stranger", of=patient.name, permissions=permissions)
    stranger.user = patient.id
    path = f"/v1/users/{patient.id}/data_sets"
    assert stranger.request("GET", path).status_code == 200
    assert stranger.request("POST", path, json={"deduplicator": {"name": NONE}}).status_code == 403
    seen = stranger.request("GET", f"/data/{patient.id}").status_code
    assert seen == (200 if permissions == ["view"] else 403)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-Tidepool-Session-Token": "junk"}, 401),
        ({"Authorization": "Bearer junk"}, 401),
        ({"Authorization": "Basic junk"}, 401),
        ({"Authorization": "junk"}, 403),
        ({"X-Tidepool-Service-Secret": "junk"}, 403),
    ],
)
def test_tokens_that_are_none(simulator: Simulator, headers: dict[str, str], status: int) -> None:
    response = requests.get(
        f"{simulator.base_url}/v1/users/0123456789/data_sets", headers=headers, timeout=10
    )
    assert response.status_code == status
    assert set(response.json()) == {"code", "title", "detail"}


def test_a_bearer_token_works_but_not_for_the_read_back(simulator: Simulator) -> None:
    account = simulator.accounts["owner"]
    bearer = {"Authorization": f"Bearer {account.token}"}
    url = simulator.base_url
    assert (
        requests.get(f"{url}/v1/users/{account.id}/data_sets", headers=bearer, timeout=10).status_code == 200
    )
    assert requests.get(f"{url}/data/{account.id}", headers=bearer, timeout=10).status_code == 403
