"""One HTTP exchange with Tidepool: bounded in time and size, logged without its contents.

:class:`Transport` sends a request, :class:`StreamingResponse` reads its response. The rest is what they need:
what a missing or unusable response means.
"""

from __future__ import annotations

import logging
import re
import ssl
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import HTTPError

from tidepool_ingest import __version__
from tidepool_ingest.client.environments import host_of, is_loopback
from tidepool_ingest.client.errors import (
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.client.exchange import Exchange, TooLateError, is_too_late
from tidepool_ingest.client.responses import (
    TRACE_ID_PATTERN,
    Purpose,
    Request,
    Response,
    error_from,
    trace_id_of,
)

log = logging.getLogger(__name__)

RESPONSE_LIMIT_BYTES = 8 * 1024 * 1024
"""Largest response read as a whole: 1,000 records with 40 errors of 170 bytes each still fit."""

PIECE_BYTES = 64 * 1024
"""How much is taken from the network at once."""

NETWORK_ERRORS = (requests.RequestException, HTTPError, HTTPException, OSError)

USER_AGENT = f"tidepool-airflow/{__version__}"
"""Our own name: Tidepool treats the names of its own apps differently."""

LONGEST_PAUSE_SECONDS = 3600.0
"""No pause that a response asks for counts as longer, unless the settings say so."""

SLOWEST_SEND_BYTES_PER_SECOND = 32 * 1024
"""Sending slower than this is aborted: the network library bounds it by the connect timeout."""


@dataclass(frozen=True)
class HttpTimeouts:
    """Bounds on one exchange, in seconds.

    :param connect: until the connection is established.
    :param read: between two pieces of a response, and until its first. The default is above the 60 s after
        which Tidepool's gateway answers on its own, so that its response says what happened.
    :param total: on the exchange as a whole, from the connection to the end of the response, however often
        a byte of it arrives in time; the caller's own time between two pieces does not count.
    """

    connect: float = 10.0
    read: float = 75.0
    total: float = 150.0


class Transport:
    """Send requests and return their responses, or the typed error that a response or its absence means.

    Never sends anything twice, never follows a redirect. Safe to use from several threads.

    :param session: a session made by :func:`new_session`, or one configured the same way.
    :param timeouts: bounds on each exchange.
    :param trace_session: sent along to tie the requests of one run together in Tidepool's logs, up to 64
        letters, digits, ``-`` and ``_``; must not say anything about a person.
    :param longest_pause: most seconds that an error asks to wait, whatever its response says.
    :raises TidepoolConfigurationError: ``trace_session`` is something else.
    """

    def __init__(
        self,
        session: requests.Session,
        timeouts: HttpTimeouts | None = None,
        *,
        trace_session: str | None = None,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        if trace_session is not None and not TRACE_ID_PATTERN.fullmatch(trace_session):
            raise TidepoolConfigurationError(
                "tie requests together",
                reason="it is too long or contains other characters",
                fields=("trace_session",),
            )
        self._session = session
        self._timeouts = timeouts or HttpTimeouts()
        self._trace_session = trace_session
        self._longest_pause = longest_pause

    def request(self, request: Request, *, headers: Mapping[str, str] | None = None) -> Response:
        """Return the successful response to a request.

        :param request: the request.
        :param headers: the token, which stays out of ``request``.
        :raises TidepoolError: any other outcome.
        """
        with self.open(request, headers=headers) as response:
            return response.read()

    def open(
        self,
        request: Request,
        *,
        headers: Mapping[str, str] | None = None,
        timeouts: HttpTimeouts | None = None,
    ) -> StreamingResponse:
        """Return the response to a request, whatever its status, before its body is read; it must be closed.

        :param request: the request.
        :param headers: the token.
        :param timeouts: bounds that differ from the usual ones.
        :raises TidepoolError: there is no response.
        """
        bounds = timeouts or self._timeouts
        exchange = Exchange(bounds.total, must_start_in_time=request.must_start_in_time)
        trace_id = uuid.uuid4().hex
        started = time.monotonic()
        response = self._send(
            request, {**self._headers(request, trace_id), **(headers or {})}, bounds, exchange, trace_id
        )
        if isinstance(response, TidepoolError):
            log.info(
                "%s%s: %s after %d ms", request.operation, _about(request), response.code, _ms_since(started)
            )
            raise response
        status = response.status_code
        log.info("%s%s: HTTP %d in %d ms", request.operation, _about(request), status, _ms_since(started))
        return StreamingResponse(
            request, response, trace_id_of(response.headers, trace_id), exchange, self._longest_pause
        )

    def _headers(self, request: Request, trace_id: str) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": USER_AGENT,
            "X-Tidepool-Trace-Request": trace_id,
            **request.headers,
        }
        if self._trace_session:
            headers["X-Tidepool-Trace-Session"] = self._trace_session
        return headers

    def _send(
        self,
        request: Request,
        headers: dict[str, str],
        timeouts: HttpTimeouts,
        exchange: Exchange,
        trace_id: str,
    ) -> requests.Response | TidepoolError:
        # The network library's errors quote the whole URL, user id included. So they must not even be the
        # context of ours, and ours is raised by the caller, outside of any handler.
        sending = len(request.body or b"") / SLOWEST_SEND_BYTES_PER_SECOND
        if request.must_start_in_time and is_too_late():
            return _no_response(request, TooLateError(), trace_id, is_unsent=True)
        try:
            with exchange.under_way():
                response = self._session.request(
                    request.method,
                    request.url,
                    # As a mapping, the library would ask at length what kind of one it is.
                    params=urlencode(request.params),
                    data=request.body,
                    headers=headers,
                    timeout=(timeouts.connect + sending, timeouts.read),
                    allow_redirects=False,
                    stream=True,
                    # This machine is not reached through a proxy, which would see the token in plain text.
                    proxies={"http": "", "https": "", "all": ""}
                    if is_loopback(urlsplit(request.url).hostname or "")
                    else None,
                )
        except NETWORK_ERRORS as problem:
            return _no_response(request, problem, trace_id, is_unsent=exchange.is_unsent)
        return response


class StreamingResponse:
    """A response whose body is still arriving.

    :param request: the request.
    :param response: the response, of which only status and headers have been read.
    :param trace_id: Tidepool's id of the request, or ours.
    :param exchange: what is left of the time that it may take.
    :param longest_pause: see :class:`Transport`.
    """

    def __init__(
        self,
        request: Request,
        response: requests.Response,
        trace_id: str,
        exchange: Exchange,
        longest_pause: float,
    ) -> None:
        self._request = request
        self._response = response
        self._trace_id = trace_id
        self._exchange = exchange
        self._longest_pause = longest_pause
        self.successful = 200 <= response.status_code < 300

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._response.close()

    def read(self) -> Response:
        """Read the whole body; return the response if successful, else raise the error that it means."""
        body = bytearray()
        for piece in self.pieces():
            body += piece
            if len(body) > RESPONSE_LIMIT_BYTES:
                if self.successful:
                    raise self._unusable("the response is larger than expected")
                body.clear()
                break
        response = Response(self._response.status_code, self._response.headers, bytes(body), self._trace_id)
        if not response.successful:
            raise error_from(self._request, response, place_of(self._request), self._longest_pause)
        return response

    def pieces(self) -> Iterator[bytes]:
        """Yield the body piece by piece, as it arrives."""
        encoding = self._response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", "", "gzip"):
            raise self._unusable("the response is compressed in a way that was not requested")
        unpack = _Gunzip() if encoding == "gzip" else None
        while True:
            piece = self._next_piece()
            if unpack is None:
                if not piece:
                    return
                yield piece
                continue
            yield from self._unpacked(unpack, piece)
            if not piece:
                if not unpack.complete:
                    raise self._broken_off("the response broke off")
                return

    def _unpacked(self, unpack: _Gunzip, piece: bytes) -> Iterator[bytes]:
        while True:
            try:
                plain = unpack.feed(piece)
            except zlib.error:
                plain = None
            if plain is None:
                raise self._broken_off("the response's compression is damaged")
            if plain:
                yield plain
            if not unpack.pending:
                return
            piece = b""

    def _next_piece(self) -> bytes:
        # read1 returns what one read of the socket gave: waiting for a full piece would let a server
        # that sends a byte now and then hold us forever.
        try:
            with self._exchange.under_way():
                piece: bytes = self._response.raw.read1(PIECE_BYTES, decode_content=False) or b""
        except NETWORK_ERRORS:
            reason = "the response broke off"
        else:
            if not piece or not self._exchange.is_over:
                return piece
        raise self._broken_off("the response arrived too slowly" if self._exchange.is_over else reason)

    def _broken_off(self, reason: str) -> TidepoolError:
        return TidepoolUnreachableError(
            self._request.operation,
            reason=reason,
            in_doubt=self._request.purpose is Purpose.WRITE,
            place=place_of(self._request),
            status=self._response.status_code,
            trace_id=self._trace_id,
        )

    def _unusable(self, reason: str) -> TidepoolError:
        return unusable_response(
            self._request, reason, status=self._response.status_code, trace_id=self._trace_id
        )


class _Gunzip:
    """Decompress a gzip body without ever holding much more than a piece of it."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        self._fed = False

    def feed(self, piece: bytes) -> bytes:
        self._fed = self._fed or bool(piece)
        return self._decompressor.decompress(self._decompressor.unconsumed_tail + piece, PIECE_BYTES * 4)

    @property
    def pending(self) -> bool:
        return bool(self._decompressor.unconsumed_tail)

    @property
    def complete(self) -> bool:
        # A response without a body may still be announced as compressed.
        return self._decompressor.eof or not self._fed


def place_of(request: Request) -> str:
    """Return where a request goes and what it is about, for display."""
    return f"{request.about} at {host_of(request.url)}" if request.about else host_of(request.url)


def unusable_response(request: Request, reason: str, *, status: int | None, trace_id: str) -> TidepoolError:
    """Return the error for a server that reports success with an unusable response.

    A request that changes something was probably carried out: it is in doubt, like one without a response.

    :param request: the request.
    :param reason: what is wrong with the response.
    :param status: its HTTP status.
    :param trace_id: the request's id.
    """
    parts: dict[str, Any] = {"place": place_of(request), "status": status, "trace_id": trace_id}
    if request.purpose is Purpose.WRITE:
        return TidepoolUnreachableError(request.operation, reason=reason, in_doubt=True, **parts)
    return TidepoolUnexpectedAnswerError(request.operation, reason=reason, **parts)


def _no_response(request: Request, problem: Exception, trace_id: str, *, is_unsent: bool) -> TidepoolError:
    """Return the error for a request without a response, which is in doubt unless it is proven unsent."""
    parts: dict[str, Any] = {"place": place_of(request), "trace_id": trace_id}
    causes = list(_causes(problem))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return TidepoolConfigurationError(
            request.operation,
            reason="the host's certificate is not trusted here",
            remedy="Check the host, or name your organisation's certificate file in REQUESTS_CA_BUNDLE.",
            **parts,
        )
    timed_out = any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes)
    reason = "no response in time" if timed_out else "the connection broke off"
    if any(isinstance(cause, TooLateError) for cause in causes):
        reason = (
            f"it could not be {'started in time, and was not sent' if is_unsent else 'completed in time'}"
        )
    elif is_unsent and (status := _tunnel_status(causes)):
        reason = f"the proxy refused the connection with HTTP {status}"
        parts["remedy"] = "It is tried again later. If this persists, check the proxy (HTTPS_PROXY)."
    elif is_unsent:
        reason = "no connection"
    return TidepoolUnreachableError(
        request.operation, reason=reason, in_doubt=request.purpose is Purpose.WRITE and not is_unsent, **parts
    )


def _tunnel_status(causes: list[BaseException]) -> str:
    """Return the status with which a proxy refused a tunnel, empty if none did; the rest is its own words."""
    found = (re.match(r"Tunnel connection failed: (\d{3})\b", str(cause)) for cause in causes)
    return next((match[1] for match in found if match), "")


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it wraps: the network library passes them on as arguments."""
    pending, seen = [problem], set[int]()
    while pending:
        error = pending.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        linked = (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__)
        pending += [error for error in linked if isinstance(error, BaseException)]


def _about(request: Request) -> str:
    return f" ({request.about})" if request.about else ""


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
