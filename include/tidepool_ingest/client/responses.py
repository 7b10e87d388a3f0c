"""What an HTTP response means: the Platform's several error shapes become one typed error.

The shapes, by the service that answers:

- data service, handlers: ``{"errors": [{"code", …, "status": "409"}], "meta": {…}}``;
- data service, validators: ``{"errors": [{"code", …, "source": {"pointer": "/17/value"}}]}``, or with
  exactly one error that object bare; its token check also answers with a bare object;
- data service, router: ``{"Error": "Resource not found"}``;
- tide-whisperer (read-back): ``{"status": 403, "code": "data_cant_view", …}``, for an invalid token too, and
  500 for an unusable query;
- shoreline (login): ``{"code": 401, "reason": …}``; Keycloak (tokens): ``{"error": …, …}``;
- gateway: HTML, plain text or nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

from tidepool_ingest.client.errors import (
    Problem,
    TidepoolAuthenticationError,
    TidepoolBusyError,
    TidepoolConfigurationError,
    TidepoolDataSetClosedError,
    TidepoolError,
    TidepoolNotFoundError,
    TidepoolPermissionError,
    TidepoolRejectedError,
    TidepoolUnexpectedAnswerError,
    TidepoolUnreachableError,
)
from tidepool_ingest.deep_json import loads

DATA_SET_CLOSED = "data-set-closed"
"""Code of a 409 from the data service."""

CANNOT_VIEW = "data_cant_view"
"""Code of a 403 from the read-back: no permission, or an invalid token."""

INVALID_QUERY = "invalid_parameters"
"""Code of a 500 from the read-back: the query is at fault, not the server."""

NOT_FOUND_CODES = frozenset({"data-set-id-not-found", "resource-not-found", "user-id-not-found"})
"""With these the data service itself says that something does not exist; any other 404 is about the route."""

CODE_PATTERN = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
"""A fixed word; anything else there might be text about somebody's data, and is dropped."""

UNKNOWN_CODE = "unknown-code"
"""Stands for a code that is not a fixed word, so that the error's position is not lost with it."""

_POSITION = re.compile(r"[0-9]{1,9}")
"""Of a record in a request; Python would turn no text of thousands of digits into a number."""

TRACE_ID_PATTERN = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""The Platform stores 64 characters of a trace id."""


class Purpose(StrEnum):
    """What a request does to Tidepool, which decides what a missing response means."""

    READ = "read"
    """Changes nothing: safe to send again."""
    WRITE = "write"
    """Changes something: never sent again unless a response says that nothing was done."""
    SIGN_IN = "sign in"
    """Asks for a token: may be sent again; a rejection is about the credentials."""


@dataclass(frozen=True)
class Request:
    """One request, and what a log may contain about it.

    :param operation: what it is to do, as it reads after "could not".
    :param purpose: what it does to Tidepool.
    :param method: HTTP method.
    :param url: where to.
    :param about: the data set's id or the user's short hash, for display.
    :param params: query.
    :param headers: beyond those that every request carries.
    :param body: sent as it is.
    :param numbered: the body is an array, and error pointers begin with a position in it.
    :param bounded: it must not be started after its sender's deadline, like a request that changes something.
    """

    operation: str
    purpose: Purpose
    method: str
    url: str = field(repr=False)
    about: str = ""
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    numbered: bool = False
    bounded: bool = False

    @property
    def must_start_in_time(self) -> bool:
        """Whether it must not be started after a deadline, because another task may be at work by then."""
        return self.bounded or self.purpose is Purpose.WRITE


@dataclass(frozen=True)
class Response:
    """One response, read to its end.

    :param status: HTTP status.
    :param headers: by any case of their names.
    :param body: decompressed; empty if it was larger than allowed.
    :param trace_id: Tidepool's id of the request, or ours.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    trace_id: str = ""

    @property
    def successful(self) -> bool:
        """Whether the server reports success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the decoded body, ``None`` if it is not JSON."""
        try:
            return loads(self.body)
        except ValueError:
            return None


def error_from(request: Request, response: Response, place: str, longest_pause: float) -> TidepoolError:
    """Return the error that an unsuccessful response means.

    :param request: the request.
    :param response: a status outside 200 … 299.
    :param place: where it was sent, for display.
    :param longest_pause: see :func:`retry_after`.
    """
    payload = response.json()
    errors = _errors(payload)
    problems = tuple(_problem(error, numbered=request.numbered) for error in errors)
    parts: dict[str, Any] = {
        "operation": request.operation,
        "place": place,
        "status": response.status,
        "codes": [problem.code for problem in problems],
        "trace_id": response.trace_id,
    }
    pause = retry_after(response.headers, longest_pause)
    if response.status == 429:
        return TidepoolBusyError(retry_after=pause, **parts)
    if response.status >= 500 and INVALID_QUERY not in parts["codes"]:
        in_doubt = request.purpose is Purpose.WRITE
        return TidepoolUnreachableError(in_doubt=in_doubt, retry_after=pause, **parts)
    if request.purpose is Purpose.SIGN_IN and response.status in (400, 401, 403):
        return TidepoolAuthenticationError(**parts)
    return _rejection(response.status, problems, payload, request, parts)


def _rejection(
    status: int, problems: tuple[Problem, ...], payload: Any, request: Request, parts: dict[str, Any]
) -> TidepoolError:
    if status == 401:
        return TidepoolAuthenticationError(**parts)
    if status == 403:
        return TidepoolPermissionError(**parts)
    if status == 404:
        return _missing(payload, parts)
    if status == 409 and DATA_SET_CLOSED in parts["codes"]:
        return TidepoolDataSetClosedError(**parts)
    if status == 413:
        return TidepoolRejectedError(
            reason="it is too large for one request", remedy="Make the chunks smaller.", **parts
        )
    if status == 400 and problems:
        parts.pop("codes")
        return TidepoolRejectedError(problems=problems, **parts)
    if status == 408:
        return TidepoolUnreachableError(in_doubt=request.purpose is Purpose.WRITE, **parts)
    if 300 <= status < 400:
        return TidepoolConfigurationError(
            reason="the host sends us to another address, and a token must not leave its host",
            remedy="Set the Tidepool connection's host to the final address.",
            **parts,
        )
    return TidepoolUnexpectedAnswerError(**parts)


def _missing(payload: Any, parts: dict[str, Any]) -> TidepoolError:
    # Only the data service's own statement counts: a gateway's 404 must never count as a missing data set.
    if NOT_FOUND_CODES.intersection(parts["codes"]):
        return TidepoolNotFoundError(**parts)
    if isinstance(payload, dict) and "Error" in payload:
        return TidepoolUnexpectedAnswerError(reason="this host does not know that route", **parts)
    return TidepoolUnreachableError(
        reason="something before Tidepool answered that there is nothing at this address",
        remedy="It is tried again later. If this persists, check the API host of the Tidepool connection.",
        **parts,
    )


def _errors(payload: Any) -> list[dict[str, Any]]:
    if not isinstance(payload, dict):
        return []
    errors = payload.get("errors")
    if isinstance(errors, list):
        return [error for error in errors if isinstance(error, dict)]
    return [payload] if "source" in payload or _code(payload) != UNKNOWN_CODE else []


def _code(error: dict[str, Any]) -> str:
    # Keycloak calls it "error"; shoreline's "code" is the HTTP status once more and says nothing new.
    for key in ("code", "error"):
        word = error.get(key)
        if isinstance(word, str) and CODE_PATTERN.fullmatch(word):
            return word
    return UNKNOWN_CODE


def _problem(error: dict[str, Any], *, numbered: bool) -> Problem:
    source = error.get("source")
    pointer = source.get("pointer") if isinstance(source, dict) else None
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        return Problem(None, _code(error), "")
    first, slash, rest = pointer[1:].partition("/")
    if numbered and _POSITION.fullmatch(first):
        return Problem(int(first), _code(error), slash + rest)
    return Problem(None, _code(error), pointer)


def retry_after(headers: Mapping[str, str], longest: float) -> float | None:
    """Return the seconds that a response asks to wait, ``None`` if it does not say or cannot be parsed.

    A date counts from the response's own ``Date``, so that no clock of this machine matters.

    :param headers: ``Retry-After`` may hold seconds or an HTTP date (RFC 9110, 10.2.3).
    :param longest: most seconds to return: a faulty server or proxy may ask for years.
    """
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+", value):
        return min(float(value), longest)
    moment = _http_date(value)
    if moment is None:
        return None
    now = _http_date(headers.get("Date", "")) or datetime.now(UTC)
    return min(max(0.0, (moment - now).total_seconds()), longest)


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError):  # a server may send anything
        return None


def trace_id_of(headers: Mapping[str, str], ours: str) -> str:
    """Return Tidepool's id of a request if its response names a usable one, else our own."""
    theirs = headers.get("X-Tidepool-Trace-Request", "")
    return theirs if TRACE_ID_PATTERN.fullmatch(theirs) else ours
