"""An upload whose connection to Tidepool is a tunnel through a proxy, which is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.factories import readings
from tests.integration.canaries import GOOD, REFUSED, nothing_private, stage
from tests.proxy import API_NAME, ConnectProxy, make_certificate
from tests.world import Listener, World, a_world
from tidepool_ingest.client import TidepoolUnreachableError
from tidepool_ingest.ledger import BatchState
from tidepool_ingest.ledger.database import LeaseHeldError
from tidepool_simulator import Fault
from tidepool_simulator.exchange import Request, Response
from tidepool_simulator.platform import Located, Platform

LATE = 0.3
LONG = 60.0


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose Tidepool is reached by a name that only the proxy knows."""
    authority, certificate = make_certificate(tmp_path)
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    api = f"https://{API_NAME}"
    with a_world(tmp_path, empty_ledger, World, api=api, certificate=certificate) as made:
        port = urlsplit(made.simulator.base_url).port
        assert port
        with ConnectProxy({API_NAME: ("127.0.0.1", port)}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            yield made
            assert proxy.tunnels
            made.client.close()


def test_a_newer_batch_waits_for_an_older_ones_close_that_may_still_be_carried_out(world: World) -> None:
    older = world.ready(readings(6), batch="first")
    newer = world.ready(readings(6), batch="second", data_set={"deviceModel": "Model 6"})
    world.timed(attempts=1, doubt=LONG, close_turn=0.0)
    world.simulator.faults.add(Fault.late_commit("close", LATE))
    with pytest.raises(TidepoolUnreachableError) as caught:
        world.upload(older)
    assert caught.value.in_doubt

    with pytest.raises(LeaseHeldError):
        world.upload(newer)
    world.wait_out_claims()

    world.timed(attempts=3, doubt=0.1)
    world.upload(older, try_number=2)
    world.upload(newer, try_number=2)
    assert world.row(newer).state is BatchState.VERIFIED
    assert len(world.visible()) == 6
    assert world.all_right()


def test_an_upload_through_a_proxy_survives_lost_answers_of_every_kind(world: World) -> None:
    number = world.ready(readings(6), chunk_records=2)
    world.timed(doubt=0.1)
    for operation in ("post", "delete-data", "close", "read-back"):
        world.simulator.faults.add(Fault.lost_answer(operation, skip=int(operation == "post")))

    world.upload(number)

    assert world.row(number).state is BatchState.VERIFIED
    assert world.all_right()


def test_a_run_logs_nothing_private_of_what_a_server_puts_into_malformed_headers(
    world: World, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = Platform.respond

    def malformed(platform: Platform, request: Request, located: Located) -> Response:
        response = respond(platform, request, located)
        # What follows a malformed header is not read.
        response.may_gzip = False
        response.headers.append(("content-length", str(len(response.body))))
        response.headers.append((f"x session canary {world.user}", "canary"))
        return response

    monkeypatch.setattr(Platform, "respond", malformed)
    monkeypatch.setattr("uvicorn.protocols.http.httptools_impl.HEADER_RE", re.compile(rb"(?!)"))
    stage(world, [*GOOD, *REFUSED])

    outcome = world.run(max_quarantined_percent=50)

    assert len(outcome.uploaded) == 1
    assert any("its words are left out" in line for line in listener.lines)
    assert nothing_private(world, outcome, listener)
