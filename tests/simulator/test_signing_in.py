"""Every way to a token, and what becomes of it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest
import requests

from tests.simulator.api_user import ApiUser
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, PUBLIC_CLIENT_ID, Simulator
from tidepool_simulator.accounts import SERVER_NAME, SERVER_SECRET

TOKEN = "X-Tidepool-Session-Token"


def token_request(simulator: Simulator, **form: str) -> requests.Response:
    found = requests.get(f"{simulator.base_url}/info", timeout=10).json()["auth"]
    discovery = f"{found['url']}/realms/{found['realm']}/.well-known/openid-configuration"
    endpoint = requests.get(discovery, timeout=10).json()["token_endpoint"]
    return requests.post(endpoint, data=form, timeout=10)


def password_grant(simulator: Simulator, **form: str) -> requests.Response:
    owner = simulator.accounts["owner"]
    return token_request(simulator, **{
        "grant_type": "password", "client_id": PUBLIC_CLIENT_ID, "username": owner.username,
        "password": owner.password, **form,
    })  # fmt: skip


def refresh_grant(simulator: Simulator, token: str) -> requests.Response:
    return token_request(
        simulator, grant_type="refresh_token", client_id=PUBLIC_CLIENT_ID, refresh_token=token
    )


def works(simulator: Simulator, token: str) -> bool:
    user = simulator.accounts["owner"].id
    response = requests.get(
        f"{simulator.base_url}/v1/users/{user}/data_sets", headers={TOKEN: token}, timeout=10
    )
    return response.status_code == 200


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return decoded


def legacy_login(simulator: Simulator, password: str | None = None) -> requests.Response:
    owner = simulator.accounts["owner"]
    return requests.post(
        f"{simulator.base_url}/auth/login",
        auth=(owner.username, owner.password if password is None else password),
        timeout=10,
    )


def test_legacy_login_gives_three_parts_and_the_user(simulator: Simulator) -> None:
    response = legacy_login(simulator)
    assert response.json()["userid"] == simulator.accounts["owner"].id
    token = response.headers[TOKEN]
    assert token.startswith("kc:")
    assert len(token.split(":")) == 3
    assert works(simulator, token)


def test_legacy_login_refuses(simulator: Simulator) -> None:
    wrong = legacy_login(simulator, "wrong")
    assert (wrong.status_code, wrong.json()["code"]) == (401, 401)
    missing = requests.post(f"{simulator.base_url}/auth/login", timeout=10)
    assert (missing.status_code, missing.json()["code"]) == (400, 400)


def test_legacy_login_asks_for_a_verified_address(simulator: Simulator) -> None:
    account = simulator.accounts.add_user("unverified", email_verified=False)
    response = requests.post(
        f"{simulator.base_url}/auth/login", auth=(account.username, account.password), timeout=10
    )
    assert response.status_code == 403


def test_legacy_refresh_check_and_logout(simulator: Simulator) -> None:
    url = f"{simulator.base_url}/auth"
    token = legacy_login(simulator).headers[TOKEN]
    refreshed = requests.get(f"{url}/login", headers={TOKEN: token}, timeout=10)
    assert refreshed.json()["userid"] == simulator.accounts["owner"].id
    newer = refreshed.headers[TOKEN]
    assert newer != token
    assert requests.get(f"{url}/token", headers={TOKEN: newer}, timeout=10).json()["isserver"] is False
    assert requests.post(f"{url}/logout", headers={TOKEN: newer}, timeout=10).status_code == 200
    for dead in (token, newer):
        assert not works(simulator, dead)
        assert requests.get(f"{url}/login", headers={TOKEN: dead}, timeout=10).status_code == 401
        assert requests.get(f"{url}/token", headers={TOKEN: dead}, timeout=10).status_code == 401


def test_client_credentials_act_as_the_service_account_and_give_no_refresh_token(
    simulator: Simulator,
) -> None:
    response = token_request(
        simulator, grant_type="client_credentials", client_id=CLIENT_ID, client_secret=CLIENT_SECRET
    ).json()
    assert "refresh_token" not in response
    assert claims(response["access_token"])["sub"] == simulator.accounts["service"].id
    assert claims(response["access_token"])["exp"] == pytest.approx(
        time.time() + response["expires_in"], abs=5
    )
    assert works(simulator, response["access_token"])


def test_client_credentials_by_header(simulator: Simulator) -> None:
    response = requests.post(
        f"{simulator.base_url}/realms/simulator/protocol/openid-connect/token",
        data={"grant_type": "client_credentials"},
        auth=(CLIENT_ID, CLIENT_SECRET),
        timeout=10,
    )
    assert works(simulator, response.json()["access_token"])


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        (
            {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": "x"},
            401,
            "invalid_client",
        ),
        ({"grant_type": "client_credentials", "client_id": "nobody"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials", "client_id": PUBLIC_CLIENT_ID}, 401, "unauthorized_client"),
        ({"grant_type": "magic", "client_id": PUBLIC_CLIENT_ID}, 400, "unsupported_grant_type"),
        ({"client_id": PUBLIC_CLIENT_ID}, 400, "invalid_request"),
        (
            {"grant_type": "refresh_token", "client_id": PUBLIC_CLIENT_ID, "refresh_token": "x.y.z"},
            400,
            "invalid_grant",
        ),
    ],
)
def test_token_endpoint_refuses(simulator: Simulator, form: dict[str, str], status: int, error: str) -> None:
    response = token_request(simulator, **form)
    assert (response.status_code, response.json()["error"]) == (status, error)


def test_a_wrong_password_is_refused(simulator: Simulator) -> None:
    response = password_grant(simulator, password="wrong")
    assert (response.status_code, response.json()["error"]) == (401, "invalid_grant")


def test_refresh_tokens_stay_good_without_rotation(simulator: Simulator) -> None:
    first = password_grant(simulator).json()
    second = refresh_grant(simulator, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert works(simulator, second["access_token"])
    assert refresh_grant(simulator, first["refresh_token"]).status_code == 200


def test_refresh_tokens_are_good_once_with_rotation() -> None:
    with Simulator(rotate_refresh_tokens=True) as simulator:
        first = password_grant(simulator).json()
        second = refresh_grant(simulator, first["refresh_token"]).json()
        assert refresh_grant(simulator, first["refresh_token"]).json()["error"] == "invalid_grant"
        assert refresh_grant(simulator, second["refresh_token"]).status_code == 200


def test_a_refresh_token_is_no_access_token(simulator: Simulator) -> None:
    assert not works(simulator, password_grant(simulator).json()["refresh_token"])


def test_userinfo_and_logout(simulator: Simulator) -> None:
    tokens = password_grant(simulator).json()
    url = f"{simulator.base_url}/realms/simulator/protocol/openid-connect"
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (
        requests.get(f"{url}/userinfo", headers=bearer, timeout=10).json()["sub"]
        == claims(tokens["access_token"])["sub"]
    )
    form = {"client_id": PUBLIC_CLIENT_ID, "refresh_token": tokens["refresh_token"]}
    assert requests.post(f"{url}/logout", data=form, timeout=10).status_code == 204
    assert refresh_grant(simulator, tokens["refresh_token"]).status_code == 400
    assert requests.get(f"{url}/userinfo", headers=bearer, timeout=10).status_code == 401


def test_a_forged_token_is_none(simulator: Simulator) -> None:
    head, _, signature = simulator.accounts["owner"].token.split(".")
    body = base64.urlsafe_b64encode(json.dumps(
        {"sub": simulator.accounts["owner"].id, "exp": time.time() + 60, "typ": "Bearer", "sid": ""}
    ).encode()).decode().rstrip("=")  # fmt: skip
    assert not works(simulator, f"{head}.{body}.{signature}")


def test_a_server_bypasses_permissions(simulator: Simulator, owner: ApiUser) -> None:
    response = requests.post(
        f"{simulator.base_url}/auth/serverlogin",
        headers={"X-Tidepool-Server-Name": SERVER_NAME, "X-Tidepool-Server-Secret": SERVER_SECRET},
        timeout=10,
    )
    data_set = owner.open()
    path = f"{simulator.base_url}/v1/data_sets/{data_set}"
    assert requests.get(path, headers={TOKEN: response.headers[TOKEN]}, timeout=10).status_code == 200


def test_custodial_accounts_belong_to_their_maker(simulator: Simulator, uploader: ApiUser) -> None:
    maker = simulator.accounts["uploader"].id
    response = uploader.request("POST", f"/auth/user/{maker}/user", json={})
    assert response.status_code == 201
    uploader.user = response.json()["userid"]
    data_set = uploader.uploaded([uploader.cbg(5.5)])
    assert uploader.values() == [5.5]
    assert uploader.delete(data_set).status_code == 200
    found = uploader.request("GET", f"/metadata/users/{maker}/users").json()
    held = {user["userid"]: set(user["trustorPermissions"]) for user in found}
    assert held[uploader.user] == {"custodian", "view", "upload"}
    assert held[simulator.accounts["owner"].id] == {"view", "upload"}
    assert uploader.request("GET", f"/auth/user/{uploader.user}").status_code == 200


def test_sessions_outlive_a_restart(tmp_path: Any) -> None:
    store = tmp_path / "store.sqlite"
    with Simulator(store) as simulator:
        tokens = password_grant(simulator).json()
    with Simulator(store) as simulator:
        assert works(simulator, tokens["access_token"])
        assert refresh_grant(simulator, tokens["refresh_token"]).status_code == 200
