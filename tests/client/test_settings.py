from __future__ import annotations

import base64
import traceback
from typing import Any

import pytest
from pydantic import ValidationError

from tidepool_ingest.client import (
    BackOff,
    ClientSettings,
    MemoryRefreshTokenStore,
    TidepoolConfigurationError,
    connect,
)

from .sign_in_wire import REALM, SignInWire
from .wire import CANARY, USER, Reply, Wire, envelope

BASE = {"environment": "production", "auth_mode": "token", "token": "abc"}

MODES: dict[str, dict[str, str]] = {
    "client_credentials": {"client_id": "ours", "client_secret": "secret"},
    "refresh_token": {"client_id": "ours", "refresh_token": "refresh-0"},
    "password": {"client_id": "ours", "username": "me", "password": "right"},
    "login": {"username": "me", "password": "right"},
    "token": {"token": "abc"},
}


def settings(**more: Any) -> ClientSettings:
    return ClientSettings.of({**BASE, **more})


def refused(values: dict[str, Any]) -> TidepoolConfigurationError:
    with pytest.raises(TidepoolConfigurationError) as caught:
        ClientSettings.of(values)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    return caught.value


def test_the_least() -> None:
    assert settings().read_timeout == 75.0
    assert connect(settings()).api == "https://api.tidepool.org"
    assert connect(settings(environment="127.0.0.1:9")).api == "http://127.0.0.1:9"


def test_secrets_do_not_show() -> None:
    secret = {name: CANARY for name in ("client_secret", "password", "refresh_token", "token")}
    made = settings(**secret)
    assert CANARY not in repr(made) + str(made) + made.model_dump_json()


@pytest.mark.parametrize(
    ("mode", "missing"), [(mode, name) for mode, values in MODES.items() for name in values]
)
def test_what_a_mode_needs_is_named(mode: str, missing: str) -> None:
    values = {name: value for name, value in MODES[mode].items() if name != missing}
    error = refused({"environment": "production", "auth_mode": mode, **values})
    assert error.fields == (missing,)
    assert f"`{missing}`" in str(error)
    assert f"`{mode}`" in str(error)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"auth_mode": CANARY}, "auth_mode"),
        ({"environment": 7}, "environment"),
        ({"connect_timeout": 0}, "connect_timeout"),
        ({"read_timeout": "75"}, "read_timeout"),
        ({"read_timeout": float("nan")}, "read_timeout"),
        ({"client_name": "Ingest"}, "client_name"),
        ({"client_name": f"org.{CANARY}..x"}, "client_name"),
        ({"client_version": "1.0"}, "client_version"),
        ({"client_version": "01.0.0"}, "client_version"),
        ({"auth_url": "https://auth.example.org"}, "realm"),
        ({"realm": "r"}, "auth_url"),
        ({"token": f"{CANARY}\n"}, "token"),
        ({"token": 7}, "token"),
        ({"refresh_token": f"{CANARY} {CANARY}"}, "refresh_token"),
        ({"trace_session": f"{CANARY} é"}, "trace_session"),
    ],
)
def test_the_field_to_correct_is_named(values: dict[str, Any], field: str) -> None:
    error = refused({**BASE, **values})
    assert error.fields == (field,)
    assert f"`{field}`" in str(error)


def test_a_setting_that_is_unknown_is_not_quoted() -> None:
    error = refused({**BASE, CANARY: CANARY})
    assert "known are environment, auth_mode" in str(error)


def test_all_errors_at_once() -> None:
    assert set(refused({"auth_mode": "x", "client_name": "y"}).fields) == {
        "environment",
        "auth_mode",
        "client_name",
    }


def test_pydantics_own_error_hides_what_was_given() -> None:
    with pytest.raises(ValidationError) as caught:
        ClientSettings(environment="production", auth_mode="token", token=[CANARY])  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", ["org.tidepool.ingest", "com.example-clinic.a1"])
@pytest.mark.parametrize("version", ["1.0.0", "0.12.3-rc.1+build.5"])
def test_client_names_and_versions(name: str, version: str) -> None:
    made = settings(client_name=name, client_version=version)
    assert (made.client_name, made.client_version) == (name, version)


@pytest.mark.parametrize("mode", list(MODES))
def test_every_mode_connects(mode: str, backoff: BackOff) -> None:
    wire = SignInWire()
    ready = wire.answer

    def answer(seen: Any) -> Reply:
        if seen.path.startswith("/v1"):
            return envelope([]) if seen.token else Reply(401)
        if seen.route == "POST /auth/login":
            assert seen.headers["Authorization"] == "Basic " + base64.b64encode(b"me:right").decode()
            return Reply(200, {"userid": USER}, {"x-tidepool-session-token": "kc:a:b"})
        return ready(seen)

    wire.answer = answer
    told: list[str] = []
    store = MemoryRefreshTokenStore()
    made = ClientSettings.of(
        {"environment": wire.url, "auth_mode": mode, "trace_session": "run-1", **MODES[mode]}
    )
    with connect(made, refresh_tokens=store, on_token=told.append, backoff=backoff) as client:
        assert wire.seen == []
        assert client.is_open("a")
    assert wire.seen[-1].token in told
    assert all(seen.headers["X-Tidepool-Trace-Session"] == "run-1" for seen in wire.seen)
    assert bool(store.load()) is (mode == "refresh_token")
    wire.close()


def test_a_given_sign_in_server(wire: Wire, backoff: BackOff) -> None:
    sign_in = SignInWire()
    wire.always(envelope([]))
    values = {"environment": wire.url, "auth_mode": "client_credentials", **MODES["client_credentials"]}
    made = ClientSettings.of({**values, "auth_url": sign_in.url, "realm": REALM})
    assert connect(made, backoff=backoff).is_open("a")
    assert "GET /info" not in wire.routes_seen()
    sign_in.close()


def test_a_sign_in_server_by_plain_http_is_refused() -> None:
    values = {**BASE, **MODES["client_credentials"], "auth_mode": "client_credentials"}
    made = ClientSettings.of({**values, "auth_url": "http://auth.example.org", "realm": "r"})
    with pytest.raises(TidepoolConfigurationError) as caught:
        connect(made)
    assert caught.value.fields == ("auth_url",)
