"""The shapes in which the services of the Platform refuse something, and the envelope of the data service.

Four services answer, each in a way of its own; the data service alone has two: an envelope with a string
status for what its handlers refuse, and a bare object for what its middleware and its newer handlers refuse.
"""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any

from tidepool_simulator.exchange import Request, Response

_HANDLER_ERRORS = {
    "data-set-id-not-found": (404, "data set with specified id not found", "Data set with id {} not found"),
    "data-set-closed": (
        409,
        "data set with specified id is closed for new data",
        "Data set with id {} is closed for new data",
    ),
    "unauthorized": (
        403,
        "auth token is not authorized for requested action",
        "Auth token is not authorized for requested action",
    ),
    "json-malformed": (400, "json is malformed", "JSON is malformed"),
    "internal-server-failure": (500, "internal server failure", "Internal server failure"),
}
_BARE_ERRORS = {
    "unauthenticated": (401, "authentication token is invalid", "authentication token is invalid"),
    "unauthorized": (
        403,
        "authentication token is not authorized for requested action",
        "authentication token is not authorized for requested action",
    ),
    "resource-not-found": (404, "resource not found", 'resource with id "{}" not found'),
    "json-malformed": (400, "json is malformed", "json is malformed"),
    "json-not-found": (400, "json not found", "json not found"),
    "too-many-requests": (429, "too many requests", "too many requests"),
    "internal-server-error": (500, "internal server error", "internal server error"),
}


def enveloped(request: Request, status: int, data: Any) -> Response:
    """Answer with data in the envelope of the data service."""
    return Response.of_json(status, {"data": data, "meta": {"trace": request.trace}})


def handler_error(request: Request, code: str, subject: str = "") -> Response:
    """Refuse as the data service's handlers do: an envelope, and the status as a text.

    :param subject: what the error is about, for the ``detail``.
    """
    status, title, detail = _HANDLER_ERRORS[code]
    error = {"code": code, "title": title, "detail": detail.format(subject), "status": str(status)}
    return Response.of_json(status, {"errors": [error], "meta": {"trace": request.trace}})


def bare_error(code: str, subject: str = "", *, status: int | None = None) -> Response:
    """Refuse with one bare error object, as the data service's middleware and newer handlers do."""
    usual_status, title, detail = _BARE_ERRORS[code]
    return Response.of_json(
        status or usual_status, {"code": code, "title": title, "detail": detail.format(subject)}
    )


def router_error(status: int) -> Response:
    """Refuse an unknown path (404) or method (405) as the data service's router does."""
    message = "Resource not found" if status == HTTPStatus.NOT_FOUND else "Method not allowed"
    return Response.of_json(status, {"Error": message})


def reading_error(status: int, code: str, message: str) -> Response:
    """Refuse as the service behind ``GET /data/{user}`` does."""
    error = {"status": status, "id": str(uuid.uuid4()), "code": code, "message": message}
    return Response.of_json(status, error, content_type="application/json")


def view_forbidden() -> Response:
    """Refuse to show data: no token, a bad one, or one of a user who may not view them."""
    return reading_error(403, "data_cant_view", "user is not authorized to view data")


def login_error(status: int, reason: str) -> Response:
    """Refuse as the service behind ``/auth`` does."""
    return Response.of_json(status, {"code": status, "reason": reason}, content_type="application/json")


def token_error(status: int, error: str, description: str) -> Response:
    """Refuse as the OIDC server does (RFC 6749, section 5.2)."""
    return Response.of_json(
        status, {"error": error, "error_description": description}, content_type="application/json"
    )


def gateway_page(status: int) -> Response:
    """The HTML page of a gateway that got no response, or none in time, from the service behind it."""
    title = f"{status} {HTTPStatus(status).phrase}"
    page = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"  # noqa: E501
    return Response(status, page.encode(), [("content-type", "text/html")], may_gzip=False)
