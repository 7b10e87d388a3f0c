"""One request and its response, and the table of routes: plain values, no server in them."""

from __future__ import annotations

import re
import secrets
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tidepool_simulator.deep_json import dumps

SESSION_TOKEN_HEADER = "x-tidepool-session-token"
SERVICE_SECRET_HEADER = "x-tidepool-service-secret"
TRACE_REQUEST_HEADER = "x-tidepool-trace-request"
TRACE_SESSION_HEADER = "x-tidepool-trace-session"
TRACE_LENGTH_MAXIMUM = 64
"""Bytes of a trace header that are echoed (service/middleware/trace.go)."""
JSON_UTF8 = "application/json; charset=utf-8"


@dataclass(frozen=True)
class Request:
    """A request, read to its end.

    :param path: percent-decoded, without the query.
    :param headers: names in lower case, in the order sent; a name may occur several times.
    """

    method: str
    path: str
    query_text: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    scheme: str = "http"

    def header_values(self, name: str) -> list[str]:
        """Return every value of a header, its name in lower case."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str:
        """Return the first value of a header, empty without one."""
        return next(iter(self.header_values(name)), "")

    @property
    def base_url(self) -> str:
        """The address the client reached the simulator by, without a slash at the end."""
        return f"{self.scheme}://{self.header('host')}"

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query parameters, each with all its values."""
        return urllib.parse.parse_qs(self.query_text, keep_blank_values=True)

    @cached_property
    def form(self) -> dict[str, str]:
        """The fields of an ``application/x-www-form-urlencoded`` body, the first value of each."""
        fields = urllib.parse.parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True)
        return {name: values[0] for name, values in fields.items()}

    @cached_property
    def trace(self) -> dict[str, str]:
        """The trace of this request as responses carry it: what was sent, cut to length, or a fresh one."""
        trace = {"request": self.header(TRACE_REQUEST_HEADER)[:TRACE_LENGTH_MAXIMUM] or secrets.token_hex(16)}
        if session := self.header(TRACE_SESSION_HEADER):
            trace["session"] = session[:TRACE_LENGTH_MAXIMUM]
        return trace


@dataclass
class Response:
    """A response before it is sent."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    may_gzip: bool = True

    @classmethod
    def of_json(cls, status: int, value: Any, *, content_type: str = JSON_UTF8) -> Response:
        """Answer with a JSON value."""
        body = dumps(value).encode("utf-8", "replace") + b"\n"
        return cls(status, body, [("content-type", content_type)])


Handler = Callable[..., Response]
"""Takes the request and then the values of the path's parameters."""


@dataclass(frozen=True)
class Route:
    """One route.

    :param pattern: a path with parameters in braces; each stands for one part that is not empty.
    :param operation: its name for faults and in the list of requests.
    """

    method: str
    pattern: str
    operation: str
    handler: Handler

    @cached_property
    def expression(self) -> re.Pattern[str]:
        """The pattern as a regular expression."""
        return re.compile(re.sub(r"\{\w+\}", "([^/]+)", self.pattern))


@dataclass(frozen=True)
class Match:
    """What a path leads to: a route with the values of its parameters, or none.

    :param known_path: whether the path has a route for another method.
    """

    route: Route | None = None
    values: tuple[str, ...] = ()
    known_path: bool = False


class Router:
    """Find the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = list(routes)

    def match(self, method: str, path: str) -> Match:
        """Return the route for a method and path."""
        known = False
        for route in self._routes:
            if found := route.expression.fullmatch(path):
                if route.method == method:
                    return Match(route, found.groups(), known_path=True)
                known = True
        return Match(known_path=known)
