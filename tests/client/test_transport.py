from __future__ import annotations

import gzip
import itertools
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import requests
from urllib3.exceptions import MaxRetryError, NewConnectionError, SSLError

from tests.timing import PATIENCE_SECONDS
from tidepool_ingest import __version__
from tidepool_ingest.client.errors import (
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.exchange import new_session
from tidepool_ingest.client.responses import Purpose, Request
from tidepool_ingest.client.transport import HttpTimeouts, Transport

from .wire import CANARY, NEVER, USER, Reply, Seen, Wire

PATIENT = HttpTimeouts(connect=5.0, read=5.0, total=5.0)
HASTY = HttpTimeouts(connect=5.0, read=0.3, total=5.0)
BRIEF = HttpTimeouts(connect=60.0, read=60.0, total=0.3)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MALFORMED = (
    f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Session {CANARY}\r\nX-More: {CANARY}\r\n\r\n{{}}".encode()
)
"""Headers that the network library cannot parse, and writes into its log."""


def transport(timeouts: HttpTimeouts = PATIENT, **more: str) -> Transport:
    return Transport(new_session(), timeouts, **more)


def call(wire: Wire, purpose: Purpose = Purpose.READ, **more: object) -> Request:
    return Request("try it", purpose, "POST", f"{wire.url}/data/{USER}", params={"deviceId": CANARY}, **more)  # type: ignore[arg-type]


def failure(wire: Wire, purpose: Purpose, timeouts: HttpTimeouts = PATIENT) -> TidepoolError:
    with pytest.raises(TidepoolError) as caught:
        transport(timeouts).request(
            call(wire, purpose, body=b"[]"), headers={"X-Tidepool-Session-Token": CANARY}
        )
    assert CANARY not in str(caught.value)
    assert USER not in str(caught.value)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    return caught.value


@pytest.mark.parametrize(
    ("reply", "timeouts", "reason"),
    [
        (Reply(reset=True), PATIENT, "broke off"),
        (Reply(wait=NEVER), HASTY, "no response in time"),
        (Reply(200, b"x" * 100, cut_at=50), PATIENT, "broke off"),
        (Reply(200, b"x" * 100, cut_at=0), PATIENT, "broke off"),
        (Reply(400, b"x" * 100, cut_at=50), PATIENT, "broke off"),
        (Reply(200, b"x" * 100, drip=0.1), BRIEF, "too slowly"),
        (
            Reply(200, gzip.compress(b"x" * 1000, mtime=0)[:-9], {"Content-Encoding": "gzip"}),
            PATIENT,
            "broke off",
        ),
        (Reply(200, b"x" * 1000, {"Content-Encoding": "gzip"}), PATIENT, "damaged"),
    ],
    ids=["reset", "hang", "cut", "cut at once", "cut refusal", "drip", "cut gzip", "bad gzip"],
)
def test_an_answer_that_fails_leaves_a_write_in_doubt(
    wire: Wire, reply: Reply, timeouts: HttpTimeouts, reason: str
) -> None:
    wire.always(reply)
    for purpose, doubt in ((Purpose.WRITE, True), (Purpose.READ, False), (Purpose.SIGN_IN, False)):
        error = failure(wire, purpose, timeouts)
        assert isinstance(error, TidepoolUnreachableError)
        assert error.in_doubt is doubt
        assert reason in str(error)
        assert wire.url.removeprefix("http://") in str(error)
        assert error.trace_id


def test_a_drip_is_bounded_although_each_byte_comes_in_time(wire: Wire) -> None:
    wire.always(Reply(200, b"x" * 1000, drip=0.05))  # 50 s in all
    started = time.monotonic()
    failure(wire, Purpose.READ, BRIEF)
    assert time.monotonic() - started < 25


def single(content: bytes) -> Iterator[bytes]:
    """Yield the bytes one by one, and then begin again."""
    return (bytes([byte]) for byte in itertools.cycle(content))


@pytest.mark.parametrize(
    ("raw", "drip"),
    [
        (lambda: single(b"HTTP/1.1 200 OK "), 0.02),
        (lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], single(b"X-Drip: drip ")), 0.02),
        (lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.02),
        (lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100), None),
        (lambda: itertools.chain([CHUNKED], single(b"1;extension=")), 0.02),
        (lambda: itertools.chain([CHUNKED, b"2\r\n{}\r\n0\r\n"], itertools.repeat(b"A: b\r\n")), 0.02),
    ],
    ids=["status", "headers", "100 slowly", "100 fast", "chunk size", "trailers"],
)
def test_no_part_of_an_answer_goes_on_for_ever(
    wire: Wire, raw: Callable[[], Iterable[bytes]], drip: float | None
) -> None:
    wire.answer = lambda seen: Reply(raw=raw(), drip=drip)
    started = time.monotonic()
    error = failure(wire, Purpose.WRITE, BRIEF)
    assert isinstance(error, TidepoolUnreachableError)
    assert error.in_doubt
    assert time.monotonic() - started < 25


@pytest.mark.parametrize("location", [f"/{CANARY}", "http://[", f"http://{CANARY}\u2100/"])
def test_a_redirect_is_neither_followed_nor_read_without_bounds(wire: Wire, location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\n".encode()
    given = []

    def body() -> Iterator[bytes]:
        yield head
        while len(given) < 1000:  # 64 MB
            given.append(1)
            yield b"x" * 65536

    wire.answer = lambda seen: Reply(raw=body())
    assert isinstance(failure(wire, Purpose.WRITE), TidepoolConfigurationError)
    assert len(wire.seen) == 1
    assert len(given) < 900


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_what_comes_before_an_answer_is_not_the_answer(wire: Wire, interim: str) -> None:
    before = f"HTTP/1.1 {interim}\r\nLink: </{CANARY}>\r\n\r\n".encode()
    answer = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"n": "1"}'
    wire.answer = lambda seen: Reply(raw=[before, before, answer], drip=0.01)
    answered = transport().request(call(wire, Purpose.WRITE, body=b"[]"))
    assert (answered.status, answered.json()) == (200, {"n": "1"})


def test_a_server_that_takes_nothing_does_not_hold_a_request_for_ever() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # what it accepts, nobody reads
        asked = Request(
            "try it",
            Purpose.WRITE,
            "POST",
            f"http://127.0.0.1:{listening.getsockname()[1]}/",
            body=b" " * 2**25,
        )
        started = time.monotonic()
        with pytest.raises(TidepoolUnreachableError, match="no response in time") as caught:
            transport(BRIEF).request(asked)
    assert caught.value.in_doubt
    assert time.monotonic() - started < 25


def test_no_connection_leaves_no_doubt(wire: Wire) -> None:
    wire.close()
    error = failure(wire, Purpose.WRITE)
    assert isinstance(error, TidepoolUnreachableError)
    assert not error.in_doubt
    assert "no connection" in str(error)


class Failing(requests.Session):
    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem

    def request(self, *args: object, **kwargs: object) -> requests.Response:
        raise self.problem


def test_a_certificate_that_is_not_trusted_is_a_matter_of_settings() -> None:
    cause = MaxRetryError(None, f"/data/{CANARY}", SSLError(ssl.SSLCertVerificationError("verify failed")))  # type: ignore[arg-type]
    asked = Request("try it", Purpose.WRITE, "GET", "https://api.tidepool.org/x")
    with pytest.raises(TidepoolConfigurationError, match="REQUESTS_CA_BUNDLE") as caught:
        Transport(Failing(requests.exceptions.SSLError(cause))).request(asked)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    "problem",
    [
        requests.ConnectTimeout(CANARY),
        requests.exceptions.ProxyError(CANARY),
        requests.ConnectionError(MaxRetryError(None, CANARY, NewConnectionError(None, CANARY))),  # type: ignore[arg-type]
        requests.exceptions.SSLError(CANARY),
        requests.ReadTimeout(CANARY),
        requests.exceptions.ChunkedEncodingError(CANARY),
        OSError(CANARY),
    ],
)
def test_no_network_error_proves_that_nothing_was_sent(problem: Exception) -> None:
    asked = Request("try it", Purpose.WRITE, "GET", "https://api.tidepool.org/x")
    with pytest.raises(TidepoolUnreachableError) as caught:
        Transport(Failing(problem)).request(asked)
    assert caught.value.in_doubt
    assert CANARY not in str(caught.value)


def test_what_is_sent(wire: Wire) -> None:
    wire.always(Reply(200, b"{}"))
    transport(trace_session="run-1").request(
        call(wire, body=b' [ {"a": 1.50} ]'), headers={"X-Tidepool-Session-Token": "t"}
    )
    (seen,) = wire.seen
    assert seen.body == b' [ {"a": 1.50} ]'
    assert seen.token == "t"
    assert seen.query == {"deviceId": [CANARY]}
    assert seen.headers["User-Agent"] == f"tidepool-airflow/{__version__}"
    assert seen.headers["Accept-Encoding"] == "gzip"
    assert seen.headers["X-Tidepool-Trace-Session"] == "run-1"
    assert len(seen.headers["X-Tidepool-Trace-Request"]) == 32
    assert "Authorization" not in seen.headers


@pytest.mark.parametrize("odd", ["", "a b", "x" * 65, "é", "a\r\nb"])
def test_an_odd_trace_session_is_refused(odd: str) -> None:
    with pytest.raises(TidepoolConfigurationError) as caught:
        transport(trace_session=odd)
    assert caught.value.fields == ("trace_session",)


def test_connections_are_used_again(wire: Wire) -> None:
    wire.in_turn(
        Reply(200, b"{}"),
        Reply(200, gzip.compress(b"{}", mtime=0), {"Content-Encoding": "gzip"}),
        Reply(404, b"<html>"),
        Reply(200, b""),
    )
    sender = transport()
    for status in (200, 200, 404, 200, 200):
        if status == 404:
            with pytest.raises(TidepoolUnreachableError):
                sender.request(call(wire))
        else:
            assert sender.request(call(wire)).status == status
    assert len(wire.seen) == 5
    assert wire.connections == 1


def test_a_closed_session_leaves_no_connection_open(wire: Wire) -> None:
    wire.answer = lambda seen: Reply(200, b"{}")
    session = new_session()
    sender = Transport(session, PATIENT)
    sender.request(call(wire))
    (pool,) = session.get_adapter(wire.url)._pools.values()  # type: ignore[attr-defined]
    connection = pool.pool.queue[-1]
    assert connection.sock is not None
    del pool
    session.close()
    assert connection.sock is None
    assert sender.request(call(wire)).status == 200
    assert wire.connections == 2


def test_gzip_is_read(wire: Wire) -> None:
    content = json.dumps(["é" * 1000] * 1000).encode()
    wire.always(Reply(200, gzip.compress(content), {"Content-Encoding": "gzip"}))
    assert transport().request(call(wire)).body == content
    wire.always(Reply(200, b"", {"Content-Encoding": "gzip"}))
    assert transport().request(call(wire)).body == b""


def test_another_compression_is_not_guessed(wire: Wire) -> None:
    wire.always(Reply(200, b"x", {"Content-Encoding": "br"}))
    assert isinstance(failure(wire, Purpose.READ), TidepoolUnexpectedAnswerError)
    error = failure(wire, Purpose.WRITE)
    assert isinstance(error, TidepoolUnreachableError)
    assert error.in_doubt


def test_an_answer_too_large_is_not_read_to_its_end(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidepool_ingest.client.transport.RESPONSE_LIMIT_BYTES", 100_000)
    bomb = gzip.compress(b"x" * 50_000_000)
    wire.always(Reply(200, bomb, {"Content-Encoding": "gzip"}))
    assert "larger" in str(failure(wire, Purpose.READ))
    wire.always(Reply(500, bomb, {"Content-Encoding": "gzip"}))
    assert failure(wire, Purpose.READ).status == 500


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_token_does_not_follow_a_redirect(wire: Wire, status: int) -> None:
    other = Wire()
    wire.always(Reply(status, b"", {"Location": f"{other.url}/{CANARY}"}))
    assert isinstance(failure(wire, Purpose.READ), TidepoolConfigurationError)
    assert other.seen == []
    other.close()


def test_nothing_from_the_users_netrc_or_from_cookies(
    wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login a password {CANARY}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    wire.always(Reply(200, b"{}", {"Set-Cookie": f"session={CANARY}; Path=/"}))
    sender = transport()
    for _ in range(2):
        sender.request(call(wire))
    for seen in wire.seen:
        assert "Authorization" not in seen.headers
        assert "Cookie" not in seen.headers


def test_this_machine_is_not_reached_through_a_proxy(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Wire()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    wire.always(Reply(200, b"{}"))
    transport().request(call(wire))
    assert len(wire.seen) == 1
    assert proxy.seen == []
    proxy.close()


def test_log_lines_tell_what_but_not_whom(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wire.in_turn(Reply(200, f'"{CANARY}"'.encode()), Reply(500, CANARY.encode()), Reply(reset=True))
    asked = call(wire, body=CANARY.encode(), about="user 5f5f")
    for _ in range(3):
        try:
            transport().request(asked, headers={"X-Tidepool-Session-Token": CANARY})
        except TidepoolUnreachableError:
            continue
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("tidepool_ingest")]
    assert len(ours) == 3
    assert ours[0].startswith("try it (user 5f5f): HTTP 200 in ")
    assert ours[1].startswith("try it (user 5f5f): HTTP 500 in ")
    assert ours[2].startswith("try it (user 5f5f): tidepool-unreachable after ")
    assert CANARY not in caplog.text
    assert USER not in caplog.text


def test_what_a_server_has_sent_is_not_logged_by_the_network_library(
    wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wire.always(Reply(raw=[MALFORMED]))
    transport().request(call(wire))
    (warning,) = [record for record in caplog.records if record.name.startswith("urllib3")]
    assert warning.levelno == logging.WARNING
    assert "its words are left out" in warning.getMessage()
    assert CANARY not in caplog.text
    assert USER not in caplog.text


def test_other_programs_urllib3_lines_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connectionpool").debug('%s "%s"', "elsewhere.org", "/their/path")
    assert "/their/path" in caplog.text


def test_threads_share_a_transport(wire: Wire) -> None:
    under_way = threading.Barrier(8, timeout=PATIENCE_SECONDS)

    def answered_together(_seen: Seen) -> Reply:
        under_way.wait()
        return Reply(200, b'{"a": 1}')

    wire.answer = answered_together
    sender = transport(HttpTimeouts(connect=5.0, read=PATIENCE_SECONDS, total=PATIENCE_SECONDS))
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(sender.request(call(wire)).json())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"a": 1}] * 8


def test_a_call_shows_nothing_private() -> None:
    private = Request(
        "try it",
        Purpose.READ,
        "GET",
        CANARY,
        params={"a": CANARY},
        headers={"b": CANARY},
        body=CANARY.encode(),
    )
    assert CANARY not in repr(private)


def test_each_host_is_reached_as_the_environment_has_it_whenever_it_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The environment is read once for each host; one that needs no proxy does not take another's."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org:3128")
    monkeypatch.setenv("NO_PROXY", "near.example.org")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ca.pem")
    session = new_session()

    def settings(url: str, proxies: dict[str, str] | None = None) -> tuple[str | None, object]:
        found = session.merge_environment_settings(url, proxies or {}, True, None, None)
        return found["proxies"].get("https"), found["verify"]

    for _ in range(2):
        assert settings("https://far.example.org/a") == ("http://proxy.example.org:3128", "/etc/ca.pem")
        assert settings("https://far.example.org/b", {"https": ""}) == ("", "/etc/ca.pem")
        assert settings("https://near.example.org/a") == (None, "/etc/ca.pem")
        assert settings("https://near.example.org:8443/a") == (None, "/etc/ca.pem")
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
