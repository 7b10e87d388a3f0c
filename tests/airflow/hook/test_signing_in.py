"""Every auth mode over real HTTP, by connections in both spellings, past the end of its tokens."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.airflow.hook.connections import (
    BODY,
    LIFETIME,
    MODES,
    RENEWING,
    Connect,
    connection,
    readings,
    uploaded,
    visible,
)
from tests.timing import PATIENCE_SECONDS, clock_of_simulated_tokens, clock_of_tokens
from tidepool_airflow.hook import TidepoolHook
from tidepool_ingest.client import TidepoolAuthenticationError
from tidepool_simulator import CLIENT_ID, CLIENT_SECRET, Simulator


@pytest.mark.parametrize("as_uri", [False, True], ids=["json", "uri"])
@pytest.mark.parametrize("mode", MODES)
def test_every_auth_mode_uploads(simulator: Simulator, connect: Connect, mode: str, as_uri: bool) -> None:
    hook = connect(connection(simulator, mode), as_uri=as_uri)

    assert uploaded(hook, simulator.accounts["owner"].id) == 3


def test_a_uri_written_by_hand(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    place = simulator.base_url.removeprefix("http://")
    uri = f"tidepool://{CLIENT_ID}:{CLIENT_SECRET}@{place}/http?connect_timeout=2&read_timeout=7.5"
    monkeypatch.setenv("AIRFLOW_CONN_TIDEPOOL_DEFAULT", uri)
    hook = TidepoolHook()

    assert uploaded(hook, simulator.accounts["owner"].id) == 3
    assert (hook.settings.connect_timeout, hook.settings.read_timeout) == (2.0, 7.5)


def test_the_client_secret_may_stand_in_its_own_field(simulator: Simulator, connect: Connect) -> None:
    given = connection(simulator, "client_credentials", client_id=CLIENT_ID, client_secret=CLIENT_SECRET)

    assert uploaded(connect({**given, "login": "", "password": ""}), simulator.accounts["owner"].id) == 3


SHARES = (0.5, 0.4, 1.1, 0.9, 1.1, 1.1)
"""How much of a token's life passes before each chunk: it is due, or it has ended."""


@pytest.mark.slow
def test_tokens_that_end_in_the_middle_of_an_upload(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of_tokens(monkeypatch)
    meeting = threading.Barrier(len(RENEWING), timeout=PATIENCE_SECONDS)

    def upload_for_a_while(hook: TidepoolHook, first: int) -> int:
        data_set_id = hook.open_data_set(owner, BODY).data_set_id
        for number, share in enumerate(SHARES):
            meeting.wait()
            if hook is hooks[0]:
                clock.sleep(share * LIFETIME)  # while the requests of the others are in flight
            hook.upload_data(data_set_id, readings(1, first=first + number))
        hook.close_data_set(data_set_id)
        return visible(hook, owner, data_set_id)

    with Simulator(token_lifetime=LIFETIME, rotate_refresh_tokens=True) as simulator:
        owner = simulator.accounts["owner"].id
        hooks = [connect(connection(simulator, mode), conn_id=f"by_{mode}") for mode in RENEWING]
        with ThreadPoolExecutor(len(hooks)) as pool:
            # Times of their own: the deduplicator would archive what another one uploads again.
            uploads = list(pool.map(upload_for_a_while, hooks, range(0, 1_200, 300)))

    # The simulator refuses a token that has ended: what was sent to the end was sent with several.
    assert dict(zip(RENEWING, uploads, strict=True)) == dict.fromkeys(RENEWING, len(SHARES))


def test_a_fixed_token_that_has_ended_says_so(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clock_of_simulated_tokens(monkeypatch)
    with Simulator(token_lifetime=LIFETIME) as simulator:
        hook = connect(connection(simulator, "token"))
        clock.sleep(LIFETIME)
        with pytest.raises(TidepoolAuthenticationError, match="fresh token into the Tidepool connection"):
            hook.open_data_set(simulator.accounts["owner"].id, BODY)
