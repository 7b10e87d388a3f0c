"""The connections below :mod:`~tidepool_ingest.client.transport`, which belong to the network library.

Here is what it does not do itself. It says whether a byte of a request has left. It lets a server be slow at
any point of an exchange: each byte in time, and no end. And it logs paths, and what a server has sent.
"""

from __future__ import annotations

import functools
import io
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, parse_headers
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import requests
from requests.adapters import HTTPAdapter

CONNECTIONS = 32
"""Connections kept to one host: more than chunks of one data set ever go out in parallel."""

SEND_BYTES = 16 * 1024
"""How much is given to a connection at once: one record of TLS, so that the time that it takes is bounded."""

INTERIM = range(101, 200)
"""Status of what comes before a response; after 101, for which nobody asks, none comes in time."""


@dataclass
class Exchange:
    """One request and its response, as the connection sees them.

    :param seconds: how much longer it may take. Only the time counts in which it is :meth:`under_way`.
    :param must_start_in_time: whether it must not be started after :func:`is_too_late`.
    :param watched: whether its connection would have said that a byte of it left.
    :param begun: whether one was given to the network.
    """

    seconds: float = math.inf
    must_start_in_time: bool = False
    watched: bool = False
    begun: bool = False

    @property
    def is_unsent(self) -> bool:
        """Whether it is proven that no byte of the request left this machine."""
        return self.watched and not self.begun

    @property
    def is_over(self) -> bool:
        """Whether it has taken as long as it may."""
        return self.seconds <= 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Let what this thread's connections do be part of this exchange, and its time count."""
        started, allowed = time.monotonic(), self.seconds
        self._until = started + allowed
        token = _EXCHANGE.set(self)
        try:
            yield
        finally:
            _EXCHANGE.reset(token)
            self.seconds = allowed - (time.monotonic() - started)

    def limit(self, connection: Any, longest: float | None) -> None:
        """Let the next step of a socket take no longer than the exchange may.

        :param connection: the socket.
        :param longest: seconds that a step may take at most; ``None`` for any time.
        :raises TimeoutError: it has to be over by now.
        """
        remaining = self._until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the exchange as a whole takes too long")
        if remaining < math.inf:
            connection.settimeout(remaining if longest is None else min(longest, remaining))


_EXCHANGE: Final[ContextVar[Exchange | None]] = ContextVar("tidepool_exchange", default=None)


class TooLateError(OSError):
    """The request must not be started any more, or not be completed."""


# ---------------------------------------------------------------- deadlines


_DEADLINES: Final[ContextVar[tuple[float, float]]] = ContextVar(
    "tidepool_deadlines", default=(math.inf, math.inf)
)
"""Until when a request that changes something may still be started, and until when bytes of it may leave.

Its sender may hold a lease that expires. Between checking the lease and the first byte on the wire
comes the token, for which a task may have to wait. If that takes too long, the request is not sent at all.
"""


@contextmanager
def start_deadline(seconds: float, over: float = math.inf) -> Iterator[None]:
    """Start this thread's requests that change something within so many seconds, or not at all.

    :param seconds: how long from now; less than 0 if it is too late already.
    :param over: how long from now until a request that was started in time may no longer be finished.
    """
    now = time.monotonic()
    token = _DEADLINES.set((now + seconds, now + over))
    try:
        yield
    finally:
        _DEADLINES.reset(token)


def is_too_late() -> bool:
    """Return whether it is too late to start a request that changes something."""
    return time.monotonic() > _DEADLINES.get()[0]


def is_too_late_to_finish() -> bool:
    """Return whether it is too late to complete a request that changes something."""
    return time.monotonic() > _DEADLINES.get()[1]


# ---------------------------------------------------------------- connections


class _BoundedStream(io.RawIOBase):
    """What arrives on a socket, for as long as the exchange of the moment may take.

    :param stream: the socket's own stream.
    :param connection: the socket.
    """

    def __init__(self, stream: io.RawIOBase, connection: Any) -> None:
        self._stream = stream
        self._socket = connection
        self._longest: float | None = connection.gettimeout()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        exchange = _EXCHANGE.get()
        if exchange is not None:
            exchange.limit(self._socket, self._longest)
        return self._stream.readinto(buffer)

    def fileno(self) -> int:
        return self._stream.fileno()

    def close(self) -> None:
        self._stream.close()
        super().close()


class _BoundedResponse(HTTPResponse):
    """The response of a server or a proxy, its status line and headers included."""

    def __init__(self, sock: Any, *args: Any, **more: Any) -> None:
        super().__init__(sock, *args, **more)
        stream: Any = self.fp.detach()  # nothing of it has been read
        self.fp = io.BufferedReader(_BoundedStream(stream, sock))

    def _read_status(self) -> tuple[str, int, str]:
        # Python skips 100 alone. It would take another one (102, 103) for the response, and leave the real
        # one on the connection, where it would answer the next request.
        while True:
            read: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if read[1] not in INTERIM:
                return read
            parse_headers(self.fp)


class _Watched:
    """Mixed into a connection class: notes the first byte of a request, which no exception shows reliably.

    Setting up a connection (a proxy's tunnel, the TLS handshake) is no part of a request. What the library
    raises does not say which of the two failed: behind a proxy, it calls both a fault of the proxy.
    """

    sock: Any
    timeout: Any
    response_class = _BoundedResponse
    _is_connecting = False

    def connect(self) -> None:
        self._is_connecting = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._is_connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        exchange = _EXCHANGE.get()
        if exchange is None:
            super().send(data)  # type: ignore[misc]
            return
        if not self._is_connecting:
            # Head and body are sent one after the other, and the process may have stood still in between.
            if exchange.must_start_in_time and (is_too_late_to_finish() if exchange.begun else is_too_late()):
                raise TooLateError
            exchange.begun = True
        for start in range(0, len(data), SEND_BYTES):
            exchange.limit(self.sock, self.timeout)
            super().send(data[start : start + SEND_BYTES])  # type: ignore[misc]


@functools.cache
def _watched(connection: type[HTTPConnection]) -> type[HTTPConnection]:
    return type(f"Watched{connection.__name__}", (_Watched, connection), {})


class WatchedAdapter(HTTPAdapter):
    """Sends requests over connections that are watched and bounded, through any kind of proxy."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # The library closes the connections of a pool that it lets go of; it alone holds on to them.
        self._pools: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()

    def get_connection_with_tls_context(
        self, request: requests.PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        """Return the pool of connections to a host, each of which is watched."""
        parts = urlsplit(str(request.url))
        key = (parts.scheme, parts.netloc, verify, cert, *(proxies or {}).items())
        pool: Any = self._pools.get(key)
        if pool is None or pool.pool is None:  # older versions of the library close it at once
            pool = super().get_connection_with_tls_context(request, verify, proxies=proxies, cert=cert)
            if not issubclass(pool.ConnectionCls, _Watched):
                pool.ConnectionCls = _watched(pool.ConnectionCls)
            self._pools[key] = pool
        exchange = _EXCHANGE.get()
        if exchange is not None:
            exchange.watched = True
        return pool


class _PlainSession(requests.Session):
    """A session that sends what it is given: no cookies, no ``~/.netrc``, and no redirect is looked at.

    The library would see to all three for each request, which takes about as long as to send it. Even where a
    redirect is not followed, it would prepare the next request: it would read the response whole, however
    large, and quote its ``Location`` if that is malformed. And it would look through the environment for
    proxies and certificates at each request; here it does so once for each host.
    """

    def __init__(self) -> None:
        super().__init__()
        self._settings: dict[tuple[object, ...], Any] = {}

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Return a request as it goes out, with the session's headers and nothing else of the session."""
        prepared = requests.PreparedRequest()
        prepared.prepare_method(request.method)
        prepared.prepare_url(request.url, request.params)
        prepared.prepare_headers({**self.headers, **request.headers})
        prepared.prepare_body(request.data, None)
        return prepared

    def send(self, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        """Return the response to a request, whatever it is."""
        settings.pop("allow_redirects", None)
        return self.get_adapter(str(request.url)).send(request, **settings)

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return by which proxies, and with which certificates, a host is reached."""
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc, tuple((proxies or {}).items()), stream, verify, cert)
        if key not in self._settings:
            self._settings[key] = super().merge_environment_settings(url, proxies, stream, verify, cert)
        return dict(self._settings[key])


def new_session() -> requests.Session:
    """Return a session that adds nothing of its own: cookies, ``~/.netrc``, retries, redirects."""
    silence_library()
    session = _PlainSession()
    adapter = WatchedAdapter(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


# ---------------------------------------------------------------- what the library logs

LIBRARIES = ("urllib3", "requests", "charset_normalizer")
"""Loggers, and those below them, that write about exchanges."""


class _LeaveOutWords(logging.Filter):
    """Drop what the network library logs during an exchange of ours, and keep that it warned.

    Its lines hold paths with user and device ids, and whole headers that a server has sent, tokens included.
    What other programs of the process exchange is left alone.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if _EXCHANGE.get() is None:
            return True
        if record.levelno < logging.WARNING:
            return False
        record.msg = (
            "A network library warns about an exchange with Tidepool (%s, line %d); its words are left out, "
            "because they may quote what was sent."
        )
        record.args = (record.name, record.lineno)
        record.exc_info = record.exc_text = record.stack_info = None
        return True


_leave_out_words = _LeaveOutWords()


def silence_library() -> None:
    """Leave out what network libraries say about our exchanges; loggers below inherit no filter."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] in LIBRARIES:
            logger = logging.getLogger(name)
            if _leave_out_words not in logger.filters:
                logger.addFilter(_leave_out_words)
