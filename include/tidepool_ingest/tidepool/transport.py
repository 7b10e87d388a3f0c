"""One HTTP exchange with Tidepool: bounded in time and size, told in the log without its contents."""

from __future__ import annotations

import logging
import ssl
import time
import uuid
from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import NewConnectionError

from tidepool_ingest import __version__
from tidepool_ingest.tidepool.answers import TRACE_ID_PATTERN, Answer, Call, Purpose, trace_id_of
from tidepool_ingest.tidepool.begin_by import is_too_late
from tidepool_ingest.tidepool.environments import is_loopback
from tidepool_ingest.tidepool.errors import (
    TidepoolConfigurationError,
    TidepoolError,
    TidepoolUnreachableError,
)
from tidepool_ingest.tidepool.exchange import NETWORK_ERRORS, Exchange, Timeouts, place_of
from tidepool_ingest.tidepool.log_filter import hide_paths

log = logging.getLogger(__name__)

USER_AGENT = f"tidepool-airflow/{__version__}"
"""Our own name: Tidepool treats the names of its own apps differently."""

SLOWEST_SEND_BYTES_PER_SECOND = 32 * 1024
"""A sender slower than this is given up: the network library bounds sending by the connect timeout."""

CONNECTIONS = 32
"""Connections kept to one host: more than chunks of one data set ever go out in parallel."""


def new_session() -> requests.Session:
    """Return a session that adds nothing of its own: no cookies, no ``~/.netrc``, no retries."""
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=CONNECTIONS, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.auth = _unchanged
    return session


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    # An authentication of its own keeps requests from looking into ~/.netrc.
    return request


class Transport:
    """Send requests and return their answers, or the typed error that an answer or its absence means.

    Never sends anything twice, never follows a redirect. Safe to use from several threads.

    :param session: a session made by :func:`new_session`, or one with the same manners.
    :param timeouts: bounds on each exchange.
    :param trace_session: sent along to tie the requests of one run together in Tidepool's logs, up to 64
        letters, digits, ``-`` and ``_``; must not tell anything about a person.
    :raises TidepoolConfigurationError: ``trace_session`` is something else.
    """

    def __init__(
        self, session: requests.Session, timeouts: Timeouts | None = None, *, trace_session: str | None = None
    ) -> None:
        if trace_session is not None and not TRACE_ID_PATTERN.fullmatch(trace_session):
            raise TidepoolConfigurationError(
                "tie requests together",
                reason="it is too long or holds other signs",
                fields=("trace_session",),
            )
        self._session = session
        self._timeouts = timeouts or Timeouts()
        self._trace_session = trace_session

    def exchange(self, call: Call, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Return the successful answer to a request.

        :param call: the request.
        :param headers: the token, which stays out of ``call``.
        :raises TidepoolError: any other outcome.
        """
        with self.open(call, headers=headers) as exchange:
            return exchange.answer()

    def open(
        self, call: Call, *, headers: Mapping[str, str] | None = None, timeouts: Timeouts | None = None
    ) -> Exchange:
        """Return the answer to a request, whatever it says, before its body is read; it has to be closed.

        :param call: the request.
        :param headers: the token.
        :param timeouts: other bounds than usual.
        :raises TidepoolError: there is no answer.
        """
        bounds = timeouts or self._timeouts
        trace_id = uuid.uuid4().hex
        started = time.monotonic()
        response = self._sent(call, {**self._headers(call, trace_id), **(headers or {})}, bounds, trace_id)
        if isinstance(response, TidepoolError):
            log.info("%s%s: %s after %d ms", call.operation, _about(call), response.code, _ms_since(started))
            raise response
        status = response.status_code
        log.info("%s%s: HTTP %d in %d ms", call.operation, _about(call), status, _ms_since(started))
        return Exchange(
            call, response, trace_id_of(response.headers, trace_id), bounds, time.monotonic() - started
        )

    def _headers(self, call: Call, trace_id: str) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": USER_AGENT,
            "X-Tidepool-Trace-Request": trace_id,
            **call.headers,
        }
        if self._trace_session:
            headers["X-Tidepool-Trace-Session"] = self._trace_session
        return headers

    def _sent(
        self, call: Call, headers: dict[str, str], timeouts: Timeouts, trace_id: str
    ) -> requests.Response | TidepoolError:
        # The network library's errors quote the whole URL, user id included. So they must not even be the
        # context of ours, and ours is raised by the caller, outside of any handler.
        host = urlsplit(call.url).hostname or ""
        hide_paths(host)
        sending = len(call.body or b"") / SLOWEST_SEND_BYTES_PER_SECOND
        if call.purpose is Purpose.WRITE and is_too_late():
            return TidepoolUnreachableError(
                call.operation,
                reason="it could not be begun in time, and was not sent",
                place=place_of(call),
                trace_id=trace_id,
            )
        try:
            response = self._session.request(
                call.method,
                call.url,
                params=dict(call.params),
                data=call.body,
                headers=headers,
                timeout=(timeouts.connect + sending, timeouts.read),
                allow_redirects=False,
                stream=True,
                # This machine is not reached through a proxy, which would see the token in plain text.
                proxies={"http": "", "https": "", "all": ""} if is_loopback(host) else None,
            )
        except NETWORK_ERRORS as problem:
            return _no_answer(call, problem, trace_id)
        return response


def _no_answer(call: Call, problem: Exception, trace_id: str) -> TidepoolError:
    parts: dict[str, Any] = {"place": place_of(call), "trace_id": trace_id}
    causes = list(_causes(problem))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return TidepoolConfigurationError(
            call.operation,
            reason="the host's certificate is not trusted here",
            remedy="Check the host, or name your organisation's certificate file in REQUESTS_CA_BUNDLE.",
            **parts,
        )
    unsent = any(
        isinstance(cause, (NewConnectionError, requests.ConnectTimeout, requests.exceptions.ProxyError))
        for cause in causes
    )
    timed_out = any(isinstance(cause, (requests.Timeout, TimeoutError)) for cause in causes)
    reason = "no connection" if unsent else "no answer in time" if timed_out else "the connection broke off"
    return TidepoolUnreachableError(
        call.operation, reason=reason, ambiguous=call.purpose is Purpose.WRITE and not unsent, **parts
    )


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """Yield an error and those it wraps: the network library hands them on as arguments."""
    waiting, seen = [problem], set[int]()
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        linked = (*error.args, getattr(error, "reason", None), error.__cause__, error.__context__)
        waiting += [each for each in linked if isinstance(each, BaseException)]


def _about(call: Call) -> str:
    return f" ({call.about})" if call.about else ""


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
