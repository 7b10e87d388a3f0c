from __future__ import annotations

import gzip
import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import SHARED
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
from tidepool_ingest.client.responses import (
    Purpose,
    Request,
    Response,
    error_from,
    retry_after,
    trace_id_of,
)

from .wire import CANARY

EXCHANGES = SHARED / "conformance" / "http-exchanges.ndjson.gz"

READ = Request("read data back", Purpose.READ, "GET", "https://api.tidepool.org/x")
WRITE = Request("upload data", Purpose.WRITE, "POST", "https://api.tidepool.org/x", numbered=True)
SIGN_IN = Request("log in", Purpose.SIGN_IN, "POST", "https://api.tidepool.org/x")


def error(call: Request, status: int, body: Any = b"", **headers: str) -> TidepoolError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_from(call, Response(status, headers, content, "trace-1"), "api.tidepool.org", 3600.0)


def handler(status: int, code: str) -> dict[str, Any]:
    return {
        "errors": [{"code": code, "title": CANARY, "detail": CANARY, "status": str(status)}],
        "meta": {"trace": {}},
    }


def bare(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "title": CANARY, "detail": CANARY, **more}


HTML = f"<html><body>502 Bad Gateway {CANARY}</body></html>".encode()

SHAPES: list[tuple[str, Request, int, Any, type[TidepoolError], tuple[str, ...]]] = [
    ("handler 403", WRITE, 403, handler(403, "unauthorized"), TidepoolPermissionError, ("unauthorized",)),
    ("handler 404", WRITE, 404,
     handler(404, "data-set-id-not-found"),
     TidepoolNotFoundError, ("data-set-id-not-found",)),
    ("bare 404", READ, 404, bare("resource-not-found"), TidepoolNotFoundError, ("resource-not-found",)),
    ("handler 409", WRITE, 409,
     handler(409, "data-set-closed"),
     TidepoolDataSetClosedError, ("data-set-closed",)),
    ("other 409", WRITE, 409, HTML, TidepoolUnexpectedAnswerError, ()),
    ("handler 400", WRITE, 400, handler(400, "json-malformed"), TidepoolRejectedError, ("json-malformed",)),
    ("handler 500", WRITE, 500,
     handler(500, "internal-server-failure"),
     TidepoolUnreachableError, ("internal-server-failure",)),
    ("bare 401", WRITE, 401, bare("unauthenticated"), TidepoolAuthenticationError, ("unauthenticated",)),
    ("router 404", WRITE, 404,
     {"Error": f"Resource not found {CANARY}"},
     TidepoolUnexpectedAnswerError, ()),
    ("router 405", WRITE, 405,
     {"Error": f"Method not allowed {CANARY}"},
     TidepoolUnexpectedAnswerError, ()),
    ("read-back 403", READ, 403,
     {"status": 403, "id": CANARY, "code": "data_cant_view", "message": CANARY},
     TidepoolPermissionError, ("data_cant_view",)),
    ("read-back query", READ, 500,
     {"status": 500, "id": CANARY, "code": "invalid_parameters", "message": CANARY},
     TidepoolUnexpectedAnswerError, ("invalid_parameters",)),
    ("read-back store", READ, 500,
     {"status": 500, "id": CANARY, "code": "data_store_error", "message": CANARY},
     TidepoolUnreachableError, ("data_store_error",)),
    ("shoreline 401", SIGN_IN, 401, {"code": 401, "reason": CANARY}, TidepoolAuthenticationError, ()),
    ("shoreline 400", SIGN_IN, 400, {"code": 400, "reason": CANARY}, TidepoolAuthenticationError, ()),
    ("shoreline 403", SIGN_IN, 403, {"code": 403, "reason": CANARY}, TidepoolAuthenticationError, ()),
    ("keycloak 400", SIGN_IN, 400,
     {"error": "invalid_grant", "error_description": CANARY},
     TidepoolAuthenticationError, ("invalid_grant",)),
    ("keycloak 401", SIGN_IN, 401,
     {"error": "unauthorized_client", "error_description": CANARY},
     TidepoolAuthenticationError, ("unauthorized_client",)),
    ("gateway 502", WRITE, 502, HTML, TidepoolUnreachableError, ()),
    ("gateway 503", READ, 503, b"no healthy upstream", TidepoolUnreachableError, ()),
    ("gateway 504", WRITE, 504, b"upstream request timeout", TidepoolUnreachableError, ()),
    ("gateway 404", READ, 404, HTML, TidepoolUnreachableError, ()),
    ("gateway 404 empty", WRITE, 404, b"", TidepoolUnreachableError, ()),
    ("gateway 400", WRITE, 400, HTML, TidepoolUnexpectedAnswerError, ()),
    ("gateway 403", WRITE, 403, HTML, TidepoolPermissionError, ()),
    ("too large", WRITE, 413, HTML, TidepoolRejectedError, ()),
    ("request timeout", WRITE, 408, b"", TidepoolUnreachableError, ()),
    ("too many", WRITE, 429, bare("too-many-requests"), TidepoolBusyError, ("too-many-requests",)),
    ("redirect", WRITE, 302, HTML, TidepoolConfigurationError, ()),
    ("odd JSON", WRITE, 400, [CANARY], TidepoolUnexpectedAnswerError, ()),
    ("odd errors", WRITE, 400, {"errors": CANARY}, TidepoolUnexpectedAnswerError, ()),
    ("deep JSON", WRITE, 400, b"[" * 100_000, TidepoolUnexpectedAnswerError, ()),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "status", "body", "kind", "codes"), [row[1:] for row in SHAPES], ids=[row[0] for row in SHAPES]
)
def test_shape(
    call: Request, status: int, body: Any, kind: type[TidepoolError], codes: tuple[str, ...]
) -> None:
    found = error(call, status, body)
    assert type(found) is kind
    assert found.codes == codes
    assert found.status == status
    assert found.trace_id == "trace-1"
    for text in (str(found), repr(found), repr(vars(found)), repr(pickle.dumps(found))):
        assert CANARY not in text


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 408])
def test_no_answer_to_rely_on_leaves_a_write_in_doubt_but_not_a_read(status: int) -> None:
    for call, doubt in ((WRITE, True), (READ, False), (SIGN_IN, False)):
        found = error(call, status)
        assert isinstance(found, TidepoolUnreachableError)
        assert found.in_doubt is doubt


def test_a_gateways_404_leaves_no_doubt() -> None:
    found = error(WRITE, 404, HTML)
    assert isinstance(found, TidepoolUnreachableError)
    assert not found.in_doubt


def test_one_problem_comes_bare() -> None:
    found = error(
        WRITE, 400, bare("value-out-of-range", source={"pointer": "/17/value"}, meta={"type": "cbg"})
    )
    assert isinstance(found, TidepoolRejectedError)
    assert found.problems == (Problem(17, "value-out-of-range", "/value"),)


def test_several_problems_come_listed_in_order() -> None:
    complaints = [
        bare("type-not-object", source={"pointer": "/1"}),
        bare("value-not-exists", source={"pointer": "/3/payload/a~1b/0"}),
        bare("value-not-exists"),
        bare(f"{CANARY} is 5.5", source={"pointer": "/4/value"}),
        CANARY,
    ]
    found = error(WRITE, 400, {"errors": complaints})
    assert isinstance(found, TidepoolRejectedError)
    assert found.problems == (
        Problem(1, "type-not-object", ""),
        Problem(3, "value-not-exists", "/payload/a~1b/0"),
        Problem(None, "value-not-exists", ""),
        Problem(4, "unknown-code", "/value"),
    )
    assert found.indexes == {1, 3, 4}


def test_a_create_has_no_positions() -> None:
    create = Request("open a data set", Purpose.WRITE, "POST", "https://x.org")
    found = error(
        create,
        400,
        {"errors": [bare("not-parsed", source={"pointer": "/7"}), bare("a", source={"parameter": "b"})]},
    )
    assert isinstance(found, TidepoolRejectedError)
    assert found.problems == (Problem(None, "not-parsed", "/7"), Problem(None, "a", ""))


@pytest.mark.parametrize("index", ["٣", "-1", "1.5", "", "x", "9" * 5000], ids=lambda index: index[:9])
def test_what_is_no_position_is_taken_for_a_field(index: str) -> None:
    found = error(WRITE, 400, bare("code", source={"pointer": f"/{index}"}))
    assert isinstance(found, TidepoolRejectedError)
    assert found.indexes == frozenset()


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1e9", None),
        ("9" * 30, 3600.0),
        ("nan", None),
    ],
)
def test_retry_after_seconds(asked: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": asked}, 3600.0) == seconds


def test_retry_after_date() -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    asked = format_datetime(moment, usegmt=True)
    assert retry_after({"Retry-After": asked}, 3600.0) == pytest.approx(90, abs=2)
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 3600.0) == 0.0
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00"}, 3600.0) == 0.0


@pytest.mark.parametrize(
    "asked",
    [
        "3601",
        "999999999",
        "9" * 30,
        "9" * 5000,
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 31 Dec 9999 23:59:59 -0100",
    ],
)
def test_no_pause_is_longer_than_allowed(asked: str) -> None:
    pause = retry_after({"Retry-After": asked}, 3600.0)
    assert pause in (3600.0, None)
    assert asked.endswith("-0100") or pause is not None
    assert vars(error(WRITE, 429, **{"Retry-After": asked}))["retry_after"] == pause


@pytest.mark.parametrize("years", [-1, 0, 1])
def test_a_date_counts_by_the_servers_clock(years: int) -> None:
    theirs = datetime.now(UTC) + timedelta(days=365 * years)
    headers = {
        "Date": format_datetime(theirs, usegmt=True),
        "Retry-After": format_datetime(theirs + timedelta(seconds=30), usegmt=True),
    }
    assert retry_after(headers, 3600.0) == 30.0


LATER = "Fri, 31 Dec 2100 23:59:59 GMT"


@given(st.text() | st.from_regex(r"\w{3}, \d{1,4} \w{3} \d{1,9} \d+:\d+:\d+ [+-]\d{1,12}", fullmatch=True))
def test_no_date_is_too_odd_to_be_read(odd: str) -> None:
    for headers in ({"Retry-After": odd}, {"Retry-After": LATER, "Date": odd}):
        pause = retry_after(headers, 3600.0)
        assert pause is None or 0.0 <= pause <= 3600.0


def test_busy_and_unreachable_carry_the_pause() -> None:
    busy = error(WRITE, 429, **{"Retry-After": "3"})
    away = error(WRITE, 503, **{"Retry-After": "4"})
    assert isinstance(busy, TidepoolBusyError)
    assert isinstance(away, TidepoolUnreachableError)
    assert (busy.retry_after, away.retry_after) == (3.0, 4.0)


def test_an_odd_trace_id_is_not_taken_over() -> None:
    assert trace_id_of({"X-Tidepool-Trace-Request": "abc-1"}, "ours") == "abc-1"
    assert trace_id_of({"X-Tidepool-Trace-Request": f"{CANARY} <b>"}, "ours") == "ours"
    assert trace_id_of({"X-Tidepool-Trace-Request": "a" * 65}, "ours") == "ours"
    assert trace_id_of({}, "ours") == "ours"


@pytest.mark.skipif(not EXCHANGES.exists(), reason="the recorded exchanges are not here")
def test_every_recorded_refusal_is_understood() -> None:
    kinds = {
        400: TidepoolRejectedError,
        401: TidepoolAuthenticationError,
        403: TidepoolPermissionError,
        409: TidepoolDataSetClosedError,
    }
    understood = 0
    for line in gzip.decompress(EXCHANGES.read_bytes()).splitlines():
        for step in json.loads(line)["steps"]:
            request, answer = step["request"], step["response"]
            body = answer.get("json")
            if answer["status"] < 400 or not isinstance(body, dict) or request["path"].startswith("/auth/"):
                continue
            posted = request["path"].endswith("/data") and request["method"] == "POST"
            call = Request("upload data", Purpose.WRITE, "POST", "https://x.org", numbered=posted)
            found = error(call, answer["status"], body)
            listed = body.get("errors", [body])
            codes = [each["code"] for each in listed if "code" in each]
            assert list(found.codes) == list(dict.fromkeys(codes))
            if answer["status"] in kinds:
                assert type(found) is kinds[answer["status"]]
            if isinstance(found, TidepoolRejectedError):
                assert len(found.problems) == len(listed)
                pointers = [each.get("source", {}).get("pointer", "") for each in listed]
                again = [p.pointer if p.index is None else f"/{p.index}{p.pointer}" for p in found.problems]
                assert again == pointers
            understood += 1
    assert understood > 100
