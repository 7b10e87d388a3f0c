"""Which requests have been sent, as a client behind an HTTPS proxy can know it.

The network library calls a lost answer a fault of the proxy: it has closed the connection by then, and takes
it for one that was never made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.proxy import API_NAME, ConnectProxy, End, make_certificate
from tests.timing import Clock
from tidepool_ingest.client import FixedToken, TidepoolClient, exchange
from tidepool_ingest.client.errors import TidepoolConfigurationError, TidepoolUnreachableError
from tidepool_ingest.client.exchange import start_deadline

from .wire import CANARY, NEVER, UPLOAD, USER, Reply, Seen, Wire, envelope

API = f"https://{API_NAME}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def wire(certificate: tuple[Path, Path]) -> Iterator[Wire]:
    server = Wire(certificate[1])
    server.always(envelope({}))
    yield server
    server.close()


@pytest.fixture
def proxy(
    wire: Wire, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ConnectProxy]:
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with ConnectProxy({API_NAME: ("127.0.0.1", wire.port)}) as there:
        monkeypatch.setenv("HTTPS_PROXY", there.url)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
        yield there


@pytest.fixture
def client(proxy: ConnectProxy) -> Iterator[TidepoolClient]:
    with TidepoolClient(API, FixedToken("fixed"), connect_timeout=5.0, read_timeout=5.0) as client:
        yield client


def close_fails(client: TidepoolClient) -> TidepoolUnreachableError:
    with pytest.raises(TidepoolUnreachableError) as caught:
        client.close_data_set(UPLOAD)
    error = caught.value
    assert API_NAME in str(error)
    assert CANARY not in str(error)
    assert error.__context__ is None
    return error


def cutting(proxy: ConnectProxy, end: End) -> Callable[[Seen], Reply]:
    """Carry a request out, and have its answer cut."""

    def answer(_seen: Seen) -> Reply:
        proxy.cut = end
        return envelope({})

    return answer


def test_a_request_goes_through_the_proxy(client: TidepoolClient, proxy: ConnectProxy, wire: Wire) -> None:
    client.close_data_set(UPLOAD)
    client.close_data_set(UPLOAD)
    assert len(wire.seen) == 2
    assert proxy.tunnels == 1
    assert wire.connections == 1


@pytest.mark.parametrize("end", End)
@pytest.mark.parametrize("earlier", [0, 1, 3], ids=["new connection", "reused", "reused often"])
def test_a_cut_answer_leaves_a_delivered_request_in_doubt(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, end: End, earlier: int
) -> None:
    for _ in range(earlier):
        client.close_data_set(UPLOAD)
    wire.answer = cutting(proxy, end)
    error = close_fails(client)
    assert error.in_doubt
    assert "broke off" in str(error)
    assert len(wire.seen) == earlier + 1
    assert wire.connections == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [(Reply(reset=True), "broke off"), (Reply(wait=NEVER), "no response in time")],
    ids=["reset", "hang"],
)
def test_an_answer_that_the_server_never_sends_leaves_it_in_doubt(
    proxy: ConnectProxy, wire: Wire, reply: Reply, reason: str
) -> None:
    wire.always(reply)
    with TidepoolClient(API, FixedToken("fixed"), connect_timeout=5.0, read_timeout=0.2) as client:
        error = close_fails(client)
    assert error.in_doubt
    assert reason in str(error)
    assert len(wire.seen) == 1


def test_a_tunnel_whose_answer_never_ends_proves_that_nothing_was_sent(
    proxy: ConnectProxy, wire: Wire
) -> None:
    proxy.drip = 0.02
    with TidepoolClient(
        API, FixedToken("fixed"), connect_timeout=60.0, read_timeout=60.0, total_timeout=0.3
    ) as client:
        assert not close_fails(client).in_doubt
    assert wire.seen == []


def test_nothing_private_is_logged_behind_a_proxy(
    proxy: ConnectProxy, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    malformed = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Session {CANARY}\r\n\r\n[]"
    wire.always(Reply(raw=[malformed.encode()]))
    with TidepoolClient(API, FixedToken(CANARY)) as client:
        assert list(client.read_data(USER, device_id=CANARY)) == []
    assert "its words are left out" in caplog.text
    assert CANARY not in caplog.text
    assert USER not in caplog.text


def test_a_request_that_broke_off_on_its_way_is_in_doubt(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.close_data_set(UPLOAD)
    # What has left this machine may have arrived, whether or not it did here.
    monkeypatch.setattr(proxy, "at_request", lambda turn: End.RST)
    assert close_fails(client).in_doubt
    assert len(wire.seen) == 1


@pytest.mark.parametrize("status", [407, 403, 502, 503])
def test_a_refused_tunnel_has_sent_nothing(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, status: int
) -> None:
    proxy.refuse = status
    error = close_fails(client)
    assert not error.in_doubt
    assert f"the proxy refused the connection with HTTP {status}" in str(error)
    assert "No tunnel" not in str(error)
    assert "HTTPS_PROXY" in error.remedy
    assert wire.seen == []


def test_a_tunnel_that_is_cut_or_never_opened_has_sent_nothing(proxy: ConnectProxy, wire: Wire) -> None:
    proxy.refuse = 0
    with TidepoolClient(API, FixedToken("fixed"), connect_timeout=0.3) as client:
        assert not close_fails(client).in_doubt
        proxy.silent = True
        error = close_fails(client)
    assert not error.in_doubt
    assert "no connection" in str(error)
    assert wire.seen == []


@pytest.mark.parametrize("end", End)
def test_a_handshake_that_is_cut_has_sent_nothing(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, end: End
) -> None:
    proxy.cut = end
    assert not close_fails(client).in_doubt
    assert proxy.tunnels == 1
    assert wire.seen == []


def test_a_proxy_that_is_away_has_sent_nothing(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert not close_fails(client).in_doubt
    assert wire.seen == []


def test_a_connection_that_ended_while_idle_is_replaced(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire
) -> None:
    wire.always(Reply(200, {"data": {}}, {"Connection": "close"}))
    client.close_data_set(UPLOAD)
    client.close_data_set(UPLOAD)
    assert len(wire.seen) == 2
    assert proxy.tunnels == 2


def test_a_certificate_that_the_proxy_put_in_between_is_a_matter_of_settings(
    client: TidepoolClient, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(TidepoolConfigurationError, match="REQUESTS_CA_BUNDLE"):
        client.close_data_set(UPLOAD)
    assert wire.seen == []


def test_reads_are_never_in_doubt(client: TidepoolClient, proxy: ConnectProxy, wire: Wire) -> None:
    def answer(seen: Seen) -> Reply:
        if len(wire.seen) == 1:
            proxy.cut = End.FIN
        return Reply(200, [])

    wire.answer = answer
    assert list(client.data_sets(USER)) == []
    assert len(wire.seen) == 2


def test_a_request_is_not_started_after_its_deadline_however_slow_the_tunnel_was(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(exchange, "time", clock)
    monkeypatch.setattr(proxy, "at_tunnel", lambda: clock.pass_by(61.0))
    wire.always(Reply(200, []))
    with start_deadline(60.0):
        error = close_fails(client)
        assert "could not be started in time, and was not sent" in str(error)
        assert not error.in_doubt
        assert list(client.data_sets(USER)) == []  # whatever changes nothing may still be sent
    assert [seen.method for seen in wire.seen] == ["GET"]


def test_a_request_whose_sender_stood_still_in_the_middle_of_it_is_not_completed(
    client: TidepoolClient, proxy: ConnectProxy, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(exchange, "time", clock)
    client.close_data_set(UPLOAD)
    send = exchange.HTTPConnection.send

    def standing_still(connection: HTTPConnection, piece: bytes) -> None:
        send(connection, piece)
        clock.pass_by(151.0)

    monkeypatch.setattr(exchange.HTTPConnection, "send", standing_still)
    with start_deadline(60.0, 150.0):
        error = close_fails(client)
    assert "could not be completed in time" in str(error)
    assert error.in_doubt
    whole, *others = [seen.body for seen in wire.seen]
    assert whole not in others
