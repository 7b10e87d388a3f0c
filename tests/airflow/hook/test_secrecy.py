"""Nothing secret and nothing about a person is shown."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests
from airflow.sdk.log import redact
from requests.adapters import HTTPAdapter

from tests.airflow.hook.connections import BODY, LIFETIME, MODES, Connect, connection, uploaded
from tests.timing import clock_of_tokens
from tidepool_simulator import Fault, Simulator


def secrets_of(request: requests.PreparedRequest) -> list[str]:
    """Return what a request carries that must never be read in a log."""
    found = [request.headers.get("X-Tidepool-Session-Token", "")]
    found.append(request.headers.get("Authorization", "").removeprefix("Basic "))
    body = request.body.decode() if isinstance(request.body, bytes) else str(request.body or "")
    if request.headers.get("Content-Type") == "application/x-www-form-urlencoded":
        form = parse_qs(body)
        for name in ("client_secret", "refresh_token", "password"):
            found += form.get(name, [])
    return [secret for secret in found if secret]


@pytest.mark.parametrize("mode", MODES)
def test_every_secret_is_masked_before_it_is_sent(
    connect: Connect, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    unmasked: list[str] = []
    seen: set[str] = set()
    send = HTTPAdapter.send

    def watched(self: HTTPAdapter, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        for secret in secrets_of(request):
            seen.add(secret)
            if secret in str(redact(f"a line with {secret} in it")):
                unmasked.append(f"{request.method} {request.path_url}")
        return send(self, request, *args, **kwargs)

    clock = clock_of_tokens(monkeypatch)
    with Simulator(token_lifetime=LIFETIME, rotate_refresh_tokens=True) as simulator:
        given = connection(simulator, mode)
        _secrets_masker().reset_masker()
        monkeypatch.setattr(HTTPAdapter, "send", watched)
        hook = connect(given)
        hook.client.uploads_for()
        if mode != "token":
            clock.sleep(LIFETIME)
            hook.client.uploads_for()

    assert unmasked == []
    assert len(seen) >= (1 if mode == "token" else 3)


def test_nothing_about_a_person_is_logged(
    simulator: Simulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("uvicorn", "asyncio"):
        caplog.set_level(logging.CRITICAL, logger=name)  # the simulator's own side
    caplog.set_level(logging.DEBUG)
    owner = simulator.accounts["owner"].id
    hook = connect(connection(simulator, "login"))
    token = hook.client._tokens.token()  # type: ignore[attr-defined]
    simulator.faults.add(Fault.refused("associated-users", 503))
    uploaded(hook, owner)
    hook.test_connection()

    assert "trying again in" in caplog.text
    assert "urllib3" not in caplog.text
    for secret in (owner, token, BODY["deviceId"], simulator.accounts["uploader"].password):
        assert str(secret) not in caplog.text
